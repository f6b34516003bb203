"""CTC against enumeration, and what it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from stk.config.run import AugmentConfig, FeatureConfig
from stk.data.batch import Padded
from stk.data.example import Example
from stk.errors import StkError
from stk.features.frontend import FrontEnd
from stk.models.outputs import Encoded
from stk.modules.lengths import LengthFormula
from stk.objectives.base import CollateContext
from stk.objectives.ctc import ctc_frames, ctc_loss, ctc_sums
from stk.objectives.registry import build_objective


def collapse(path: tuple[int, ...]) -> list[int]:
    """Drop repeats, then blanks."""
    return [a for a, b in zip(path, (0, *path), strict=False) if a != b and a != 0]


def enumerated(logits: torch.Tensor, labels: list[int]) -> torch.Tensor:
    """``-log`` of the summed probability of every path that collapses to the labels."""
    scores = logits.log_softmax(-1)
    paths = itertools.product(range(logits.shape[1]), repeat=logits.shape[0])
    fitting = [
        torch.stack([scores[t, label] for t, label in enumerate(path)]).sum()
        for path in paths
        if collapse(path) == labels
    ]
    return -torch.stack(fitting).logsumexp(0)


def test_loss_equals_enumeration_and_ignores_padding() -> None:
    torch.manual_seed(1)
    logits = torch.randn(3, 5, 4, dtype=torch.float64)
    targets, lengths = [[1, 1], [3], [2, 1, 2]], torch.tensor([5, 2, 4])
    expected = sum(enumerated(logits[i, : lengths[i]], labels) for i, labels in enumerate(targets))
    logits[1, 2:] = float("nan")
    logits.requires_grad_()
    loss = ctc_loss(logits, lengths, Padded.stack(targets))
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    loss.backward()
    assert logits.grad is not None
    assert bool(logits.grad[0].isfinite().all()) and bool(logits.grad[1, :2].isfinite().all())


def test_labels_that_fit_no_path_add_nothing() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 3, 4, requires_grad=True)
    lengths = torch.tensor([3, 3])
    loss = ctc_loss(logits, lengths, Padded.stack([[1, 1, 1], [2]]))
    torch.testing.assert_close(loss, ctc_loss(logits[1:], lengths[1:], Padded.stack([[2]])))
    loss.backward()
    assert logits.grad is not None and not logits.grad[0].any() and logits.grad[1].any()


def test_half_precision_logits_give_an_fp32_loss() -> None:
    logits = torch.randn(1, 6, 4).bfloat16()
    labels, lengths = Padded.stack([[1, 2]]), torch.tensor([6])
    loss = ctc_loss(logits, lengths, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, ctc_loss(logits.float(), lengths, labels))


@pytest.mark.parametrize("labels", [[], [1], [1, 1], [1, 2, 2, 2, 1], [3, 3, 1, 1]])
def test_frames_needed_are_the_shortest_path(labels: list[int]) -> None:
    needed = ctc_frames(labels)
    lengths = [
        n
        for n in range(8)
        if any(collapse(path) == labels for path in itertools.product(range(2 + 2), repeat=n))
    ]
    assert needed == lengths[0]


def test_a_transcript_longer_than_the_ctc_length_is_refused(
    example: Callable[..., Example], context: CollateContext
) -> None:
    """10 states at 4 frames each: 10 labels fit, a repeat among them does not."""
    made = build_objective({"name": "ctc"})
    assert context.frontend is not None
    duration = next(d / 1000 for d in range(10, 2000) if context.frontend.frames(d / 1000) == 40)

    def refuse(text: str, context: CollateContext = context) -> str | None:
        row = example(src_text=text, duration=duration)
        return made.refuse(row, made.size(row, context), context)

    assert refuse("ein hauszw") is None
    message = refuse("ein hauszww")
    assert message is not None and "needs 12, has 10" in message
    assert refuse("ein haussz") is not None
    fast = replace(context, augment=AugmentConfig(speed=(0.9, 1.0, 1.1)))
    assert refuse("ein hauszw", fast) is not None and refuse("ein haus", fast) is None


def test_models_of_samples_are_judged_by_samples(
    example: Callable[..., Example], context: CollateContext
) -> None:
    """4,000 samples are 12 states of a window of 400 and a step of 320."""
    made = build_objective({"name": "ctc"})
    waves = replace(
        context,
        frontend=FrontEnd(FeatureConfig(kind="waveform", cmvn="none")),
        ctc_lengths=LengthFormula(((400, 320, 0),)),
        wave_lengths=LengthFormula(((400, 320, 0),)),
    )

    def refuse(text: str, context: CollateContext = waves) -> str | None:
        row = example(src_text=text, duration=0.25)
        return made.refuse(row, made.size(row, context), context)

    assert refuse("ein haus zwe") is None
    message = refuse("ein haus zwei")
    assert message is not None and "needs 13, has 12" in message
    fast = replace(waves, augment=AugmentConfig(speed=(0.9, 1.0, 1.1)))
    message = refuse("ein haus zwe", fast)
    assert message is not None and "needs 12, has 10" in message


def test_text_sources_are_judged_by_their_own_length(
    example: Callable[..., Example], context: CollateContext
) -> None:
    made = build_objective({"name": "ctc", "source": "src_text", "ctc_text": "tgt_text"})
    row = example(src_text="e", tgt_text="a house a house")
    message = made.refuse(row, made.size(row, context), context)
    assert message is not None and message.endswith("needs 15, has 1")


def test_a_model_without_head_is_refused(
    example: Callable[..., Example], context: CollateContext
) -> None:
    made, row = build_objective({"name": "joint"}), example()
    bare = replace(context, ctc_lengths=None)
    with pytest.raises(StkError, match=r"set model\.ctc_layer"):
        made.refuse(row, made.size(row, bare), bare)
    encoded = Encoded(torch.zeros(1, 1, 1), torch.ones(1, dtype=torch.int64))
    with pytest.raises(StkError, match=r"set model\.ctc_layer"):
        ctc_sums(encoded, Padded.stack([[1]]), "tokens", 1.0)
