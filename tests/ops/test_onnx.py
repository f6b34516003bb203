"""The references in evaluation as ONNX graphs: onnxruntime agrees, on other sizes too."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stk.ops import _library, attention, ctc_shrink, fbank, gumbel_vq, gumbel_vq_linear

Inputs = dict[str, Tensor]
Axes = dict[str, dict[int, str]]


class Module(nn.Module):
    """An operator with its options fixed, as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        result = self.function(*tensors)
        return (result,) if isinstance(result, Tensor) else tuple(result)


def assert_same_in_onnx(
    function: Callable[..., Any], traced: Inputs, other: Inputs, axes: Axes
) -> None:
    """Export with the sizes in ``traced`` and compare on both inputs."""
    pytest.importorskip("onnx", reason="the onnx package is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    module, graph = Module(function).eval(), io.BytesIO()
    with _library.reference_only():
        torch.onnx.export(
            module, tuple(traced.values()), graph, dynamo=False, opset_version=18,
            input_names=list(traced), dynamic_axes=axes,
        )  # fmt: skip
        session = runtime.InferenceSession(graph.getvalue(), providers=["CPUExecutionProvider"])
        for inputs in (traced, other):
            fed = {put.name: inputs[put.name].numpy() for put in session.get_inputs()}
            expected = module(*inputs.values())
            for got, wanted in zip(session.run(None, fed), expected, strict=True):
                result = torch.from_numpy(got)
                assert result.shape == wanted.shape and result.dtype == wanted.dtype
                torch.testing.assert_close(result, wanted, atol=1e-5, rtol=1e-5)


def wave(batch: int, samples: int, lengths: list[int]) -> Inputs:
    clips = torch.randn(batch, samples, generator=torch.Generator().manual_seed(samples)) * 0.1
    return {"waveforms": clips, "lengths": torch.tensor(lengths)}


@pytest.mark.parametrize("options", [{}, {"cmvn": "utterance"}, {"snip_edges": False}], ids=str)
def test_fbank(options: dict[str, Any]) -> None:
    axes = {"waveforms": {0: "batch", 1: "samples"}, "lengths": {0: "batch"}}
    first, second = wave(2, 4000, [4000, 3000]), wave(3, 6000, [6000, 0, 399])
    assert_same_in_onnx(lambda *x: fbank(*x, **options), first, second, axes)


def clips(batch: int, frames: int, lengths: list[int]) -> Inputs:
    generator = torch.Generator().manual_seed(frames)
    return {
        "states": torch.randn(batch, frames, 3, generator=generator),
        "scores": 3 * torch.randn(batch, frames, 4, generator=generator),
        "lengths": torch.tensor(lengths),
    }


@pytest.mark.parametrize("reduce", ["first", "mean", "weighted"])
@pytest.mark.parametrize("blanks", ["drop", "merge"])
def test_ctc_shrink(reduce: str, blanks: str) -> None:
    first, second = clips(2, 9, [9, 4]), clips(3, 12, [12, 0, 5])
    second["scores"][2, :, 0] = 50.0  # all blank: the frame that is kept after all
    axes = {name: {0: "batch", 1: "frames"} for name in ("states", "scores")}
    axes["lengths"] = {0: "batch"}
    options = {"reduce": reduce, "blanks": blanks}
    assert_same_in_onnx(lambda *x: ctc_shrink(*x, **options), first, second, axes)


def test_ctc_shrink_of_labels() -> None:
    first, second = clips(2, 9, [9, 4]), clips(3, 12, [12, 0, 5])
    for inputs in (first, second):
        inputs["labels"] = inputs.pop("scores").argmax(-1)
    order = ("states", "labels", "lengths")
    axes = {"states": {0: "batch", 1: "frames"}, "labels": {0: "batch", 1: "frames"}}
    assert_same_in_onnx(
        ctc_shrink,
        {name: first[name] for name in order},
        {name: second[name] for name in order},
        axes | {"lengths": {0: "batch"}},
    )


def test_gumbel_vq() -> None:
    first = {"logits": torch.randn(4, 2, 5), "codebook": torch.randn(2, 5, 3)}
    second = {"logits": torch.randn(7, 2, 5), "codebook": torch.randn(2, 5, 3)}
    assert_same_in_onnx(
        lambda *x: gumbel_vq(*x, tau=1.0, training=False), first, second, {"logits": {0: "rows"}}
    )


def test_gumbel_vq_linear() -> None:
    shapes = {"hidden": (4, 6), "weight": (10, 6), "bias": (10,), "codebook": (2, 5, 3)}
    first = {name: torch.randn(shape) for name, shape in shapes.items()}
    second = {name: torch.randn(shape) for name, shape in (shapes | {"hidden": (7, 6)}).items()}
    assert_same_in_onnx(
        lambda *x: gumbel_vq_linear(*x, tau=1.0, training=False),
        first,
        second,
        {"hidden": {0: "rows"}},
    )


def heads(batch: int, queries: int, keys: int) -> Inputs:
    generator = torch.Generator().manual_seed(keys)
    sizes = {"query": (queries, 8), "key": (keys, 8), "value": (keys, 6)}
    tensors = {
        name: torch.randn(batch, 2, *size, generator=generator) for name, size in sizes.items()
    }
    tensors["visible"] = torch.randint(0, keys + 1, (batch, queries), generator=generator)
    tensors["query_lengths"] = torch.randint(0, queries + 1, (batch,), generator=generator)
    return tensors


@pytest.mark.parametrize("rule", ["all", "keys", "queries", "queries and lengths"])
def test_attention(rule: str) -> None:
    first, second = heads(2, 5, 7), heads(3, 6, 9)
    axes = {name: {0: "batch", 2: "keys"} for name in ("key", "value")}
    axes["query"] = {0: "batch", 2: "queries"}
    for inputs in (first, second):
        if rule != "queries and lengths":
            inputs.pop("query_lengths")
        if rule == "all":
            inputs.pop("visible")
        if rule == "keys":
            inputs["visible"] = inputs["visible"][:, 0]
    if "visible" in first:
        axes["visible"] = {0: "batch"} if rule == "keys" else {0: "batch", 1: "queries"}
    if "query_lengths" in first:
        axes["query_lengths"] = {0: "batch"}

    def run(query: Tensor, key: Tensor, value: Tensor, *rest: Tensor) -> Tensor:
        visible, lengths = (*rest, None, None)[:2]
        return attention(query, key, value, visible, query_lengths=lengths)

    assert_same_in_onnx(run, first, second, axes)
