"""A sentence's output does not depend on the batch around it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from stk.data.batch import Source
from stk.models.encoder_decoder import EncoderDecoder

LENGTHS = [9, 2, 1, 6]
TARGET_LENGTHS = [3, 7, 1, 5]
Make = Callable[..., EncoderDecoder]


def alone(source: Source, row: int) -> Source:
    length = source.lengths[row : row + 1]
    return Source(source.data[row : row + 1, : int(length)], length)


def target() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(2, 31, (4, 7), generator=generator), torch.tensor(TARGET_LENGTHS)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["fp32", "fp64"]
)
def test_batch_equals_single(
    kind: str, tiny: Make, sources: Callable[..., Source], dtype: torch.dtype, tolerance: float
) -> None:
    model, source = tiny(kind, dtype), sources(kind, LENGTHS, dtype)
    tokens, lengths = target()
    close = {"rtol": tolerance, "atol": tolerance}
    with torch.no_grad():
        encoded = model.encode(source)
        logits = model.decode(encoded, tokens, lengths).logits
        assert encoded.lengths.tolist() == LENGTHS
        for i, (count, length) in enumerate(zip(LENGTHS, TARGET_LENGTHS, strict=True)):
            single = model.encode(alone(source, i))
            torch.testing.assert_close(encoded.states[i, :count], single.states[0], **close)
            assert not encoded.states[i, count:].any()
            if encoded.ctc_logits is not None and single.ctc_logits is not None:
                torch.testing.assert_close(
                    encoded.ctc_logits[i, :count], single.ctc_logits[0], **close
                )
            expected = model.decode(single, tokens[i : i + 1, :length], lengths[i : i + 1]).logits
            torch.testing.assert_close(logits[i, :length], expected[0], **close)


def test_gradients_of_a_batch_are_the_sum_of_singles(
    kind: str, tiny: Make, sources: Callable[..., Source]
) -> None:
    model, source = tiny(kind), sources(kind, LENGTHS)
    tokens, lengths = target()

    def gradients(parts: list[tuple[Source, torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
        model.zero_grad()
        for part, ids, counts in parts:
            encoded = model.encode(part)
            states = model.decode_states(encoded, ids, counts)
            loss = model.project(states).logsumexp(-1)
            real = torch.arange(ids.shape[1]) < counts[:, None]
            total = loss[real].sum()
            if encoded.ctc_logits is not None:
                frames = torch.arange(encoded.ctc_logits.shape[1]) < encoded.lengths[:, None]
                total = total + encoded.ctc_logits.logsumexp(-1)[frames].sum()
            total.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    together = gradients([(source, tokens, lengths)])
    singles = gradients(
        [
            (alone(source, i), tokens[i : i + 1, :count], lengths[i : i + 1])
            for i, count in enumerate(TARGET_LENGTHS)
        ]
    )
    assert len(together) == len(singles) == len(list(model.parameters()))
    for batch, single in zip(together, singles, strict=True):
        torch.testing.assert_close(batch, single, rtol=1e-8, atol=1e-8)


def test_what_padding_holds_does_not_matter(
    kind: str, tiny: Make, sources: Callable[..., Source]
) -> None:
    model, source = tiny(kind), sources(kind, LENGTHS)
    padded = torch.arange(source.data.shape[1]) >= source.lengths[:, None]
    other = source.data.clone()
    other[padded] = 7 if source.is_text else float("nan")
    with torch.no_grad():
        expected = model.encode(source)
        found = model.encode(Source(other, source.lengths))
    assert torch.equal(found.states, expected.states)


def test_unpacked_equals_packed(
    kind: str, tiny: Make, sources: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form used on a GPU (padded throughout) gives what the packed form gives."""
    from stk.modules.rows import Rows

    model, source = tiny(kind), sources(kind, LENGTHS)
    tokens, lengths = target()
    with torch.no_grad():
        packed = model.decode(model.encode(source), tokens, lengths)
        make = Rows.__init__
        monkeypatch.setattr(
            Rows,
            "__init__",
            lambda self, lengths, longest: make(self, lengths, longest, pack=False),
        )
        padded = model.decode(model.encode(source), tokens, lengths)
    torch.testing.assert_close(padded.states, packed.states, rtol=1e-9, atol=1e-9)
