"""The decoder: causal, and the same one token at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from stk.data.batch import Source
from stk.models.encoder_decoder import EncoderDecoder

Make = Callable[..., EncoderDecoder]


def test_the_future_never_alters_earlier_logits(
    kind: str, tiny: Make, sources: Callable[..., Source]
) -> None:
    model, source = tiny(kind), sources(kind, [5, 3])
    tokens = torch.randint(5, 31, (2, 8))
    lengths = torch.tensor([8, 8])
    with torch.no_grad():
        encoded = model.encode(source)
        before = model.decode(encoded, tokens, lengths).logits
        for position in (1, 4, 7):
            changed = tokens.clone()
            changed[:, position:] = torch.randint(5, 31, (2, 8 - position))
            changed[:, position] = (tokens[:, position] + 1) % 26 + 5
            after = model.decode(encoded, changed, lengths).logits
            torch.testing.assert_close(
                after[:, :position], before[:, :position], rtol=1e-12, atol=1e-12
            )
            assert not torch.allclose(after[:, position], before[:, position])


def test_incremental_equals_full_through_reordering_and_dropping(
    kind: str, tiny: Make, sources: Callable[..., Source]
) -> None:
    """40 steps with random reordering; at times a sentence is dropped or the beam changes."""
    model, source = tiny(kind), sources(kind, [5, 2, 7, 3])
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        encoded = model.encode(source)
        state = model.start(encoded)
        kept = torch.arange(4)
        read = torch.zeros(4, 1, 0, dtype=torch.int64)
        for step in range(40):
            sentences, beam = read.shape[:2]
            tokens = torch.randint(2, 31, (sentences, beam), generator=generator)
            read = torch.cat([read, tokens[..., None]], dim=2)
            logits, state = model.step(tokens, state)
            assert logits.shape == (sentences, beam, 31)
            if step in (0, 3, 17, 33, 39):
                expected = full(model, source, kept, read)
                torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
            size = 3 if step < 20 else 2
            chosen = torch.randint(0, beam, (sentences, size), generator=generator)
            stay = None
            if step in (5, 25):
                stay = torch.tensor([i for i in range(sentences) if i != 1])
            state = state.reorder(chosen, stay)
            read = read.gather(1, chosen[..., None].expand(-1, -1, read.shape[2]))
            if stay is not None:
                read, kept = read[stay], kept[stay]
    assert len(kept) == 2


def full(
    model: EncoderDecoder, source: Source, kept: torch.Tensor, read: torch.Tensor
) -> torch.Tensor:
    """Logits after everything read, from a whole pass with a copy of the source a hypothesis."""
    sentences, beam, length = read.shape
    rows = kept.repeat_interleave(beam)
    encoded = model.encode(Source(source.data[rows], source.lengths[rows]))
    lengths = torch.full((sentences * beam,), length)
    logits = model.decode(encoded, read.flatten(0, 1), lengths).logits
    return logits[:, -1].unflatten(0, (sentences, beam))


def test_a_state_can_be_continued_twice(tiny: Make, sources: Callable[..., Source]) -> None:
    model, source = tiny("text_pre"), sources("text_pre", [4])
    with torch.no_grad():
        _, state = model.step(torch.tensor([[2]]), model.start(model.encode(source)))
        once, left = model.step(torch.tensor([[7]]), state)
        model.step(torch.tensor([[9]]), state)
        again, _ = model.step(torch.tensor([[7]]), state)
        after, _ = model.step(torch.tensor([[8]]), left)
        expected = model.decode(
            model.encode(source), torch.tensor([[2, 7, 8]]), torch.tensor([3])
        ).logits
    assert torch.equal(once, again)
    torch.testing.assert_close(after[0, 0], expected[0, 2], rtol=1e-9, atol=1e-9)


def test_cross_attention_weights_reproduce_what_is_seen(
    tiny: Make, sources: Callable[..., Source]
) -> None:
    model, source = tiny("speech_conv1d"), sources("speech_conv1d", [6, 2])
    tokens, lengths = torch.randint(5, 31, (2, 4)), torch.tensor([4, 3])
    with torch.no_grad():
        weights = model.cross_attention(model.encode(source), tokens, lengths)
    assert weights.shape == (2, 2, 2, 4, 6)
    torch.testing.assert_close(weights[:, 0].sum(-1), torch.ones(2, 2, 4, dtype=weights.dtype))
    assert not weights[:, 1, :, :, 2:].any() and not weights[:, 1, :, 3].any()
