"""Lexicons: reading them, inducing them, substituting with them."""

from __future__ import annotations

import gzip
import string
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from stk.data import substitution
from stk.data.alignment import induce, model1
from stk.data.lexicon import Lexicon, load_lexicon
from stk.data.substitution import Substitution, load_substitution, words_of
from stk.errors import StkError

ENTRIES = (
    ("00-database-info", "made for a test\nnothing, to, see\n"),
    ("house", "house /haus/ <n>\n1. Haus <neut>, Heim (rare)\n2. zu Hause\n"),
    ("house", "house /haustSa:dZ/\nGebühr\n"),
    ("tree", 'tree /tri:/\nBaum; Stamm\n   "an old tree"\nSynonym: {wood}\n'),
)


def base64(number: int) -> str:
    digits = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    out = digits[number % 64]
    while number := number // 64:
        out = digits[number % 64] + out
    return out


@pytest.fixture
def dictd(tmp_path: Path) -> Path:
    content, index = b"", []
    for head, text in ENTRIES:
        index.append(f"{head}\t{base64(len(content))}\t{base64(len(text.encode()))}\n")
        content += text.encode()
    (tmp_path / "eng-deu.dict.dz").write_bytes(gzip.compress(content))
    path = tmp_path / "eng-deu.index"
    path.write_text("".join(index), encoding="utf-8")
    return path


def test_dictd(dictd: Path) -> None:
    found = load_lexicon(dictd)
    assert dict(found) == {"house": ("Haus", "Heim"), "tree": ("Baum", "Stamm")}


def test_damaged_dictd(dictd: Path) -> None:
    good = dictd.read_text()
    dictd.write_text(good + "far\tzzzz\tB\n")
    with pytest.raises(StkError, match=r"eng-deu\.index:5: points beyond"):
        load_lexicon(dictd)
    dictd.write_text(good + "odd\t!\tB\n")
    with pytest.raises(StkError, match=":5: '!' is no number in base 64"):
        load_lexicon(dictd)
    dictd.write_text(good + "short\n")
    with pytest.raises(StkError, match=":5: no index entry"):
        load_lexicon(dictd)
    packed = dictd.with_suffix("").with_suffix(".dict.dz")
    packed.write_bytes(packed.read_bytes()[:40])
    with pytest.raises(StkError, match="not a dictionary"):
        load_lexicon(dictd)
    packed.unlink()
    with pytest.raises(StkError, match=r"no \.dict\.dz beside it"):
        load_lexicon(dictd)


def test_tsv_round_trip(tmp_path: Path) -> None:
    lexicon = Lexicon.of_pairs([("a", "x"), ("b", "y"), ("a", "z"), ("a", "x")])
    lexicon.save(tmp_path / "l.tsv")
    assert dict(load_lexicon(tmp_path / "l.tsv")) == {"a": ("x", "z"), "b": ("y",)}
    assert dict(lexicon.inverted()) == {"x": ("a",), "z": ("a",), "y": ("b",)}
    assert list(lexicon.top({"b": 5, "a": 9, "c": 99}, 1)) == ["a"]
    assert list(lexicon.without(["a"])) == ["b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "l.tsv: the lexicon is empty"), ("a\n", "l.tsv:1: no pair"), ("a\t\n", ":1: no pair")],
)
def test_bad_tsv(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "l.tsv").write_text(text)
    with pytest.raises(StkError, match=message):
        load_lexicon(tmp_path / "l.tsv")
    with pytest.raises(StkError, match="no such lexicon"):
        load_lexicon(tmp_path / "none.tsv")
    with pytest.raises(StkError, match="does not name two languages"):
        load_substitution({"en": str(tmp_path / "l.tsv")}, rate=0.3)


def test_model1_equals_the_textbook() -> None:
    """Two iterations over "das haus / the house", "das buch / the book" by hand, no empty word
    apart from the one that model1 adds: worked with dictionaries here."""
    pairs = [([1, 2], [1, 2]), ([1, 3], [1, 3])]
    table = {(s, t): 1.0 for source, target in pairs for s in (0, *source) for t in target}
    for _ in range(4):
        counts = dict.fromkeys(table, 0.0)
        for source, target in pairs:
            for t in target:
                total = sum(table[s, t] for s in (0, *source))
                for s in (0, *source):
                    counts[s, t] += table[s, t] / total
        for key in table:
            table[key] = counts[key] / sum(c for (s, _), c in counts.items() if s == key[0])
    found = model1(pairs, 4)
    assert found.keys() == table.keys()
    assert all(found[key] == pytest.approx(table[key]) for key in table)
    assert found[2, 2] > 0.6
    assert model1([([], [])], 2) == {}


def test_induced_lexicon() -> None:
    names = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    names_de = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht"]
    generator = np.random.default_rng(0)
    texts = []
    for _ in range(200):
        order = generator.permutation(8)[:4]
        other = generator.permutation(order)
        texts.append(
            (" ".join(names[i] for i in order), " ".join(names_de[i] for i in other) + ".")
        )
    found = induce(texts)
    assert {word: found[word][0] for word in found} == dict(zip(names, names_de, strict=True))
    with pytest.raises(StkError, match="no pair of words"):
        induce(texts[:2])


RATE = 0.3
LEXICONS = {
    "en": {
        "de": Lexicon.of_pairs([("house", "haus"), ("house", "heim"), ("small", "klein")]),
        "fr": Lexicon.of_pairs([("house", "maison")]),
    }
}


def test_substitution_rate_and_candidates() -> None:
    """0.30 of covered words, uncovered ones never, candidates uniform; no copy is dropped."""
    replace = Substitution(LEXICONS, rate=RATE)
    generator, found = np.random.default_rng(0), Counter[str]()
    covered = 0
    for _ in range(8000):
        words = replace("the small house, is a House!", "en", generator)
        parts = words_of(words)
        assert words == f"the {parts[1]} {parts[2]}, is a {parts[5]}!"
        found.update(parts[i] for i in (1, 2, 5))
        covered += 3
    kept = found["small"] + found["house"] + found["House"]
    assert abs(1 - kept / covered - RATE) < 0.01
    replaced = 16000 - found["house"] - found["House"]
    for word, share in (("maison", 0.5), ("haus", 0.25), ("heim", 0.25)):
        assert abs((found[word] + found[word.capitalize()]) / replaced - share) < 0.02
    assert replace.covers("House", "en") and not replace.covers("the", "en")


@pytest.mark.parametrize("remembered", [0, 2, 1 << 16])
def test_what_substitution_remembers_changes_nothing(
    remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(substitution, "_REMEMBERED", remembered)
    used = Substitution(LEXICONS, rate=0.9)
    texts = ("A small house, a House!", "house-small 'house' HOUSE...", "small  small")
    for seed in range(20):
        for text in texts:
            fresh = Substitution(LEXICONS, rate=0.9)(text, "en", np.random.default_rng(seed))
            assert used(text, "en", np.random.default_rng(seed)) == fresh


def test_substitution_follows_from_the_generator() -> None:
    replace = Substitution(LEXICONS, rate=0.9)
    text = "house house small house"
    outputs = {replace(text, "en", np.random.default_rng(seed)) for seed in range(20)}
    assert len(outputs) > 5
    for seed in range(5):
        first, second = (replace(text, "en", np.random.default_rng(seed)) for _ in range(2))
        assert first == second
    assert replace(text, "de", np.random.default_rng(0)) == text
    assert Substitution(LEXICONS, rate=0.0)(text, "en", np.random.default_rng(0)) == text
    with pytest.raises(ValueError, match="rate must lie"):
        Substitution(LEXICONS, rate=1.1)
