"""COSTT: what shrinking keeps, what it passes on, and the decoder's first stage."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from stk.data.batch import Source
from stk.errors import StkError
from stk.models.costt import Costt
from stk.models.registry import build_model

SIZES = {"encoder_layers": 2, "semantic_layers": 2, "decoder_layers": 1, "width": 16, "ffn": 24}
VIEWS = {"tgt": 31, "ctc": 9}


def costt(**keys: Any) -> Costt:
    torch.manual_seed(3)
    named = {"name": "costt", **SIZES, "heads": 2, "subsampler": "stack", **keys}
    model = build_model(named, VIEWS, 8)
    assert isinstance(model, Costt) and model.ctc is not None
    with torch.no_grad():
        model.ctc.output.weight.mul_(4.0)
        model.ctc.output.bias[0] += 0.7  # so that blanks, runs and repeats all occur
    return model.double().eval()


def clips(*frames: int) -> Source:
    generator = torch.Generator().manual_seed(5)
    data = torch.randn(len(frames), max(frames), 8, generator=generator, dtype=torch.float64)
    return Source(data.cumsum(1) / 3, torch.tensor(frames))


def runs(scores: Tensor) -> list[int]:
    """First frame of every run of one label that is not the blank, counted the plain way."""
    labels, before, found = scores.argmax(-1).tolist(), 0, []
    for frame, label in enumerate(labels):
        if label not in (0, before):
            found.append(frame)
        before = label
    return found


@pytest.mark.parametrize("reduce", ["first", "mean", "weighted"])
def test_states_are_the_runs_that_are_not_blank(reduce: str) -> None:
    model, source = costt(reduce=reduce), clips(120, 75, 31)
    encoded = model.encode(source)
    assert encoded.ctc_logits is not None and encoded.ctc_lengths is not None
    for i, frames in enumerate(encoded.ctc_lengths.tolist()):
        assert int(encoded.lengths[i]) == len(runs(encoded.ctc_logits[i, :frames])) > 1
    assert encoded.states.shape[1] == int(encoded.lengths.max()) < encoded.ctc_logits.shape[1]
    assert encoded.extra["segments"].max(1).values.tolist() == (encoded.lengths - 1).tolist()


def test_token_blank_token_counts_two_and_silence_keeps_one() -> None:
    model, source = costt(), clips(9)
    assert model.ctc is not None and model.shrink is not None
    states, lengths, _ = model.encoder(source.data, source.lengths)
    one_hot = torch.nn.functional.one_hot(torch.tensor([[4, 0, 4]]), 9).double()
    assert model.shrink(states, one_hot, lengths).lengths.tolist() == [2]
    with torch.no_grad():
        model.ctc.output.bias[0] += 1e4  # a clip that is blank throughout
    encoded = model.encode(source)
    assert encoded.lengths.tolist() == [1] and bool(encoded.states.isfinite().all())
    logits = model.decode(encoded, torch.tensor([[2, 7]]), torch.tensor([2])).logits
    assert bool(logits.isfinite().all())


def test_batching_and_padding_change_nothing() -> None:
    model, source = costt(), clips(120, 75, 31)
    dirty = source.data.clone()
    dirty[torch.arange(120) >= source.lengths[:, None]] = float("nan")
    together = model.encode(Source(dirty, source.lengths))
    target, lengths = torch.tensor([[2, 8, 9]] * 3), torch.tensor([3, 2, 3])
    logits = model.decode(together, target, lengths).logits
    for i, frames in enumerate(source.lengths.tolist()):
        alone = model.encode(Source(source.data[i : i + 1, :frames], source.lengths[i : i + 1]))
        count = int(alone.lengths)
        assert count == int(together.lengths[i])
        close = {"rtol": 1e-9, "atol": 1e-9}
        torch.testing.assert_close(together.states[i, :count], alone.states[0], **close)
        assert not together.states[i, count:].any()
        words = int(lengths[i])
        single = model.decode(alone, target[i : i + 1, :words], lengths[i : i + 1]).logits
        torch.testing.assert_close(logits[i, :words], single[0], **close)


def test_gradients_reach_exactly_the_kept_frames() -> None:
    model, source = costt(reduce="first"), clips(120, 75)
    kept: list[Tensor] = []
    assert model.shrink is not None

    def watch(module: Any, arguments: tuple[Tensor, ...]) -> None:
        arguments[0].retain_grad()
        kept.append(arguments[0])

    handle = model.shrink.register_forward_pre_hook(watch)
    encoded = model.encode(source)
    handle.remove()
    encoded.states.square().sum().backward()
    assert encoded.ctc_logits is not None and encoded.ctc_lengths is not None
    reached = kept[0].grad.abs().sum(-1) > 0
    for i, frames in enumerate(encoded.ctc_lengths.tolist()):
        found = reached[i].nonzero()[:, 0].tolist()
        assert found == runs(encoded.ctc_logits[i, :frames])
    assert model.ctc is not None and model.ctc.output.weight.grad is None  # selection has none
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.parameters())


def test_weighted_shrinking_teaches_the_ctc_head() -> None:
    model = costt(reduce="weighted")
    model.encode(clips(120)).states.square().sum().backward()
    assert model.ctc is not None and model.ctc.output.weight.grad is not None


def test_the_first_stage_hears_nothing() -> None:
    model = costt()
    target, lengths = torch.tensor([[2, 8, 9], [2, 5, 0]]), torch.tensor([3, 2])
    found = []
    for texts in ([[5, 6, 7], [8, 9, 3]], [[9, 9, 9], [4, 4, 4]]):
        encoded = model.encode(Source(torch.tensor(texts), torch.tensor([3, 2])))
        assert encoded.states.shape == (2, 1, 16) and bool((encoded.states == 1).all())
        found.append(model.decode(encoded, target, lengths).logits)
    assert torch.equal(*found)
    found[0].sum().backward()
    trained = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert trained == {"decoder"}


def test_shrunk_steps_equal_whole_passes() -> None:
    model, source = costt(), clips(90, 31)
    encoded = model.encode(source)
    target = torch.tensor([[2, 7, 8, 9], [2, 9, 6, 5]])
    whole = model.decode(encoded, target, torch.tensor([4, 4])).logits
    state = model.start(encoded)
    for i in range(4):
        logits, state = model.step(target[:, i, None], state)
        torch.testing.assert_close(logits[:, 0], whole[:, i])


def test_what_cannot_be_built() -> None:
    for keys, message in (
        ({"ctc_layer": 1}, "last acoustic layer"),
        ({"semantic_layers": 0}, "at least 1"),
        ({"stack_hop": 9}, "stack_hop must lie"),
        ({"reduce": "last"}, "reduce"),
    ):
        with pytest.raises(StkError, match=message):
            costt(**keys)
    with pytest.raises(StkError, match="'ctc'"):
        build_model({"name": "costt", **SIZES, "heads": 2}, {"tgt": 31}, 8)
    with pytest.raises(StkError, match="add the section features"):
        build_model({"name": "costt", **SIZES, "heads": 2}, VIEWS, None)
    assert build_model({"name": "costt", "preset": "base", "width": 16}, VIEWS, 8)
