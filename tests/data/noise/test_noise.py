"""Noise: its probabilities, what it never touches, and that it changes nothing it is given."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stk.data.noise.blank import blank
from stk.data.noise.deletion import delete
from stk.data.noise.drop import drop
from stk.data.noise.fragment import fragment
from stk.data.noise.infilling import infill, infill_rows, span_lengths
from stk.data.noise.masking import choose, corrupt, frequency_weights, mask, mask_rows
from stk.data.noise.permutation import permute
from stk.data.noise.rotation import rotate
from stk.data.noise.shuffle import shuffle
from stk.data.noise.symbols import Symbols, symbols_of, units, word_begins
from stk.data.vocab import CharVocab

EOS, MASK, FIRST, SIZE = 3, 4, 8, 1008
# ids from FIRST on: every even one begins a word
SYMBOLS = Symbols(mask=MASK, first=FIRST, size=SIZE, starts=np.arange(SIZE) % 2 == 0)
SYMBOLS.starts[:FIRST] = False

NOISERS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "mask": lambda t, g: mask(t, g, SYMBOLS).tokens,
    "infill": lambda t, g: infill(t, g, SYMBOLS),
    "delete": lambda t, g: delete(t, g, SYMBOLS),
    "permute": lambda t, g: permute(t, g, EOS),
    "rotate": rotate,
    "shuffle": lambda t, g: shuffle(t, g, SYMBOLS),
    "shuffle_words": lambda t, g: shuffle(t, g, SYMBOLS, whole_words=True),
    "drop": lambda t, g: drop(t, g, SYMBOLS),
    "drop_words": lambda t, g: drop(t, g, SYMBOLS, rate=0.9, whole_words=True),
    "blank": lambda t, g: blank(t, g, SYMBOLS),
    "blank_words": lambda t, g: blank(t, g, SYMBOLS, whole_words=True),
}


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def text(length: int, seed: int = 1) -> np.ndarray:
    return draw(seed).integers(FIRST, SIZE, length)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([EOS, 5, 8, 9, 10, 11, 500, 501]), max_size=40), st.integers(0, 9))
def test_input_stays_and_the_generator_decides_all(ids: list[int], seed: int) -> None:
    tokens = np.array(ids, dtype=np.int64)
    tokens.setflags(write=False)
    for name, noise in NOISERS.items():
        once, again = noise(tokens, draw(seed)), noise(tokens, draw(seed))
        assert np.array_equal(once, again), name
        assert once.dtype == np.int64 and tokens.tolist() == ids, name
        assert not np.shares_memory(once, tokens), name
        if name not in ("permute", "rotate"):  # specials stay, in their order
            assert once[(once < FIRST) & (once != MASK)].tolist() == [i for i in ids if i < FIRST]


def test_masking_80_10_10_of_15_percent() -> None:
    tokens, generator = text(200), draw()
    chosen, kinds = 0, Counter[str]()
    for _ in range(400):
        noised, places = mask(tokens, generator, SYMBOLS)
        assert (np.diff(places) > 0).all()
        assert np.array_equal(np.delete(noised, places), np.delete(tokens, places))
        chosen += len(places)
        masked = noised[places] == MASK
        same = noised[places] == tokens[places]
        kinds["mask"] += int(masked.sum())
        kinds["same"] += int(same.sum())
        kinds["random"] += int((~masked & ~same).sum())
        assert ((noised[places] == MASK) | (noised[places] >= FIRST)).all()
    assert abs(chosen / (400 * 200) - 0.15) < 0.001
    assert abs(kinds["mask"] / chosen - 0.8) < 0.012
    assert abs(kinds["same"] / chosen - 0.1) < 0.01
    assert abs(kinds["random"] / chosen - 0.1) < 0.01


def test_the_masked_share_is_exact_in_the_mean_for_short_rows() -> None:
    generator = draw()
    chosen = sum(len(choose(text(7), generator, SYMBOLS)) for _ in range(4000))
    assert abs(chosen / 28000 - 0.15) < 0.008


@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_rare_tokens_are_chosen_more_by_frequency_weights(exponent: float) -> None:
    counts = np.ones(SIZE)
    counts[8], counts[9] = 10000, 100
    weights = frequency_weights(counts, exponent)
    tokens = np.array([8] * 100 + [9] * 100)
    generator, hits = draw(), Counter[int]()
    for _ in range(800):
        hits.update(tokens[choose(tokens, generator, SYMBOLS, rate=0.02, weights=weights)].tolist())
    ratio = hits[9] / hits[8]
    assert abs(sum(hits.values()) / 800 - 4) < 0.1
    assert ratio == pytest.approx(10.0 if exponent else 1.0, rel=0.2)


def test_weighted_choice_equals_draws_one_by_one() -> None:
    """Against numpy's own sequential draw without replacement."""
    weights = np.ones(SIZE)
    weights[8:12] = 1, 2, 4, 8
    tokens, generator, other = np.arange(8, 12), draw(), draw(1)
    ours, theirs = Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
    for _ in range(6000):
        ours[tuple(choose(tokens, generator, SYMBOLS, rate=0.5, weights=weights))] += 1
        pair = other.choice(4, 2, replace=False, p=weights[8:12] / 15)
        theirs[tuple(sorted(pair))] += 1
    for pair in theirs:
        assert abs(ours[pair] - theirs[pair]) / 6000 < 0.025


def test_specials_are_never_chosen() -> None:
    tokens = np.array([2, 3, 5, 7, 1, 0])
    assert not len(choose(tokens, draw(), SYMBOLS, rate=1.0))
    assert infill(tokens, draw(), SYMBOLS, rate=1.0).tolist() == tokens.tolist()


def test_wrong_shares() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        corrupt(text(3), np.arange(2), draw(), SYMBOLS, (0.8, 0.3))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        choose(text(3), draw(), SYMBOLS, rate=1.5)
    with pytest.raises(ValueError, match="above 0"):
        spans_of(draw(), 3, 0.0)


def spans_of(generator: np.random.Generator, budget: int, mean: float) -> list[int]:
    """Lengths of one row's spans."""
    lengths, counts = span_lengths([generator], np.array([budget]), mean)
    return list(lengths[0, : counts[0]])


def test_a_row_gets_the_same_noise_in_every_batch() -> None:
    rows = [text(n, seed=n) for n in (5, 0, 33, 1, 64)]
    rows[2][[4, 9]] = EOS
    weights = frequency_weights(np.arange(SIZE))
    together = mask_rows(rows, [draw(i) for i in range(5)], SYMBOLS, weights=weights)
    filled = infill_rows(rows, [draw(i) for i in range(5)], SYMBOLS, rate=0.5, random_share=0.3)
    for i, row in enumerate(rows):
        alone = mask(row, draw(i), SYMBOLS, weights=weights)
        assert np.array_equal(alone.tokens, together[i].tokens)
        assert np.array_equal(alone.places, together[i].places)
        single = infill(row, draw(i), SYMBOLS, rate=0.5, random_share=0.3)
        assert np.array_equal(single, filled[i])
    assert mask_rows([], [], SYMBOLS) == [] and infill_rows([], [], SYMBOLS) == []


def test_span_lengths_are_poisson() -> None:
    """Against the distribution's own probabilities."""
    drawn = Counter(spans_of(draw(), 60000, 3.5)[:-1])
    total = sum(drawn.values())
    for k in range(9):
        expected = math.exp(-3.5) * 3.5**k / math.factorial(k)
        assert abs(drawn[k] / total - expected) < 0.01


@pytest.mark.parametrize("mean", [3.0, 3.5])
def test_raw_spans_have_the_mean_length(mean: float) -> None:
    generator = draw()
    spans = [spans_of(generator, 10000, mean)[:-1] for _ in range(5)]
    assert all(min(lengths) == 0 for lengths in spans)
    assert abs(np.concatenate(spans).mean() - mean) < 0.05
    assert all(sum(spans_of(generator, n, mean)) == n for n in range(20))
    assert sum(spans_of(generator, 40, 0.05)) == 40  # many blocks are drawn


@pytest.mark.parametrize("rate", [0.3, 0.35])
def test_infilling_hides_the_share_of_words(rate: float) -> None:
    generator, hidden, words = draw(), 0, 0
    for seed in range(300):
        tokens = np.append(draw(seed).permutation(np.arange(FIRST, SIZE))[:60], EOS)
        noised = infill(tokens, generator, SYMBOLS, rate=rate)
        before = int(word_begins(tokens, SYMBOLS).sum())
        hidden += before - words_left(tokens, noised)
        words += before
        assert noised[-1] == EOS
    assert abs(hidden / words - rate) < 0.03


def words_left(tokens: np.ndarray, noised: np.ndarray) -> int:
    """Words of distinct ids left in ``noised``, which must hold them whole and in order."""
    begins = np.flatnonzero(word_begins(tokens, SYMBOLS))
    words = [w.tolist() for w in np.split(tokens[tokens >= FIRST], begins[1:])]
    rest, left = noised[noised >= FIRST].tolist(), 0
    for word in words:
        if rest[: len(word)] == word:
            rest, left = rest[len(word) :], left + 1
    assert not rest
    return left


def test_each_span_is_one_mask_and_length_zero_inserts_one() -> None:
    tokens = np.arange(8, 88, 2)  # forty words of one piece
    counted = draw(5)
    for seed in range(50):
        noised = infill(tokens, draw(seed), SYMBOLS, rate=0.3, mean=1.0)
        lengths = spans_of(draw(seed), 12, 1.0)
        assert (noised == MASK).sum() == len(lengths)
        assert len(noised) == 40 - 12 + len(lengths)
    whole = infill(tokens, counted, SYMBOLS, rate=1.0)
    assert set(whole.tolist()) == {MASK}


def test_infilling_by_random_tokens() -> None:
    noised = infill(np.full(2000, 8), draw(), SYMBOLS, rate=0.3, random_share=0.1)
    masks, others = (noised == MASK).sum(), (noised != 8).sum()
    assert abs(1 - masks / others - 0.1) < 0.06


def test_deletion_gives_a_subsequence() -> None:
    tokens = text(100)
    noised = delete(tokens, draw(), SYMBOLS, rate=0.3)
    assert len(noised) in (70, 71)
    rest = iter(tokens.tolist())
    assert all(token in rest for token in noised.tolist())


def test_permutation_keeps_sentences_whole() -> None:
    sentences = [[8, EOS], [9, 10, EOS], [11, 12, 13, EOS]]
    tokens = np.array([t for s in sentences for t in s])
    orders = set()
    for seed in range(60):
        noised = permute(tokens, draw(seed), EOS)
        assert Counter(noised.tolist()) == Counter(tokens.tolist())
        parts = np.split(noised, np.flatnonzero(noised == EOS) + 1)[:-1]
        assert sorted(p.tolist() for p in parts) == sentences
        orders.add(tuple(len(p) for p in parts))
    assert len(orders) == 6


def test_rotation_is_cyclic_and_uniform() -> None:
    tokens, seen = np.arange(8, 18), Counter[int]()
    for seed in range(1000):
        noised = rotate(tokens, draw(seed)).tolist()
        first = noised[0]
        seen[first] += 1
        assert noised == [*range(first, 18), *range(8, first)]
    assert len(seen) == 10 and max(seen.values()) < 140 and min(seen.values()) > 65


def test_shuffle_moves_by_less_than_its_distance() -> None:
    tokens, moved = np.arange(8, 508), np.zeros(500)
    for seed in range(20):
        noised = shuffle(tokens, draw(seed), SYMBOLS)
        moved = np.maximum(moved, abs(noised - tokens))
        assert sorted(noised) == tokens.tolist()
    assert moved.max() == 2
    assert shuffle(tokens, draw(), SYMBOLS, distance=1.0).tolist() == tokens.tolist()


def test_words_move_drop_and_blank_as_a_whole() -> None:
    tokens = np.array([8, 9, 9, 10, 12, 13, EOS, 14, 15])
    words = {(8, 9, 9), (10,), (12, 13), (14, 15)}
    for seed in range(30):
        moved = shuffle(tokens, draw(seed), SYMBOLS, whole_words=True)
        assert Counter(moved.tolist()) == Counter(tokens.tolist())
        starts = np.flatnonzero(SYMBOLS.starts[moved[moved >= FIRST]])
        parts = np.split(moved[moved >= FIRST], starts[1:])
        assert {tuple(p.tolist()) for p in parts} == words
        left = drop(tokens, draw(seed), SYMBOLS, rate=0.5, whole_words=True)
        parts = np.split(left[left >= FIRST], np.flatnonzero(SYMBOLS.starts[left[left >= FIRST]]))
        assert {tuple(p.tolist()) for p in parts[1:]} <= words
        hidden = blank(tokens, draw(seed), SYMBOLS, rate=0.5, whole_words=True) == MASK
        places, unit = units(tokens, SYMBOLS, True)
        assert all(len(set(hidden[places[unit == u]].tolist())) == 1 for u in range(4))


def test_drop_and_blank_rates() -> None:
    tokens, generator = text(1000), draw()
    left = np.mean([len(drop(tokens, generator, SYMBOLS)) for _ in range(50)])
    blanked = np.mean([(blank(tokens, generator, SYMBOLS) == MASK).sum() for _ in range(50)])
    assert abs(left - 900) < 8 and abs(blanked - 100) < 8
    assert len(drop(np.array([8, 9]), generator, SYMBOLS, rate=1.0)) == 1


def test_fragments_stand_where_the_authors_put_them() -> None:
    generator, places = draw(), Counter[int]()
    for _ in range(5000):
        begin, end = fragment(20, generator)
        assert end - begin == 10 and begin >= 0 and end <= 20
        places[begin] += 1
    assert abs(places[0] / 5000 - (0.2 + 0.6 / 11)) < 0.02
    assert abs(places[10] / 5000 - (0.2 + 0.6 / 11)) < 0.02
    assert abs(places[5] / 5000 - 0.6 / 11) < 0.015
    for length in range(1, 30):
        begin, end = fragment(length, generator)
        assert abs((end - begin) - length / 2) <= 0.5 and 0 <= begin < end <= length


def test_symbols_of_a_vocabulary() -> None:
    vocab = CharVocab.of_texts(["ab c"], ("de",))
    symbols = symbols_of(vocab)
    assert (symbols.mask, symbols.first, symbols.size) == (4, 6, 10)
    tokens = np.array(vocab.encode("ab c"))
    assert word_begins(tokens, symbols).tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match="no piece of text"):
        symbols_of(CharVocab([], ("de",)))
