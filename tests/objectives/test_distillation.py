"""Word-level distillation: its limits are cross-entropy, and nothing moves the teacher."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stk.data.batch import Item
from stk.data.example import Example
from stk.data.sidecar import Sidecar, SidecarWriter, made_by
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.models.registry import build_model
from stk.objectives.base import CollateContext, Context, Helper
from stk.objectives.combine import ObjectiveModule
from stk.objectives.distillation import TEACHER_KIND, Distillation
from stk.objectives.registry import build_objective
from stk.objectives.soft_labels import soft_cross_entropy, sparse_cross_entropy

SIZES: dict[str, Any] = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "width": 16,
    "ffn": 32,
    "heads": 2,
    "dropout": 0.0,
}


def text_model(vocab: CharVocab, seed: int, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    named = {**SIZES, "name": "text_transformer", "dropout": dropout}
    return build_model(named, {"src": len(vocab), "tgt": len(vocab)})


def speech_model(vocab: CharVocab) -> nn.Module:
    torch.manual_seed(4)
    named = {**SIZES, "name": "speech_transformer", "conv_channels": 8}
    return build_model(named, {"tgt": len(vocab)}, 20)


def objective(**keys: Any) -> Distillation:
    built = build_objective({"name": "distillation", **keys})
    assert isinstance(built, Distillation)
    return built


def gradients(
    model: nn.Module, task: Any, items: list[Item], context: CollateContext, teacher: nn.Module
) -> dict[str, Any]:
    """Loss, sums and gradients of one batch."""
    model.zero_grad()
    batch = task.collate(items, context)
    module = ObjectiveModule(model, {"s": task})
    found = Context(helpers={"teacher": teacher})
    loss, sums = module("s", batch, found, task.counts(batch))
    loss.backward()
    return {
        "loss": loss.detach(),
        "sums": sums,
        "grads": {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None},
    }


def test_weight_zero_is_cross_entropy(
    items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    model = speech_model(vocab)
    plain = gradients(model, build_objective({"name": "cross_entropy"}), items, context, model)
    teacher = text_model(vocab, 2).eval()
    found = gradients(model, objective(kd_weight=0.0), items, context, teacher)
    assert torch.equal(found["loss"], plain["loss"]) and "kd" not in found["sums"]
    assert found["grads"].keys() == plain["grads"].keys()
    assert all(torch.equal(found["grads"][n], g) for n, g in plain["grads"].items())


def test_the_loss_is_a_mixture(
    items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    """Against PyTorch's own divergence: KD is KL plus the teacher's entropy."""
    model, teacher = speech_model(vocab), text_model(vocab, 2).eval()
    found = gradients(model, objective(kd_weight=0.3), items, context, teacher)
    sums, count = found["sums"], len(found["sums"])
    assert count == 4 and [sums[n].weight for n in ("ce", "kd")] == pytest.approx([0.7, 0.3])
    tokens = sum(len(item.example.tgt_text or "") + 1 for item in items)
    total = (0.7 * sums["ce"].value + 0.3 * sums["kd"].value) / tokens
    torch.testing.assert_close(found["loss"], total)
    student, taught = torch.randn(5, 9), torch.randn(5, 9)
    divergence = torch.nn.functional.kl_div(
        student.log_softmax(-1), taught.softmax(-1), reduction="sum"
    )
    entropy = torch.distributions.Categorical(logits=taught).entropy().sum()
    torch.testing.assert_close(soft_cross_entropy(student, taught), divergence + entropy)
    shares, choices = taught.softmax(-1).topk(9)
    torch.testing.assert_close(sparse_cross_entropy(student, choices, shares), divergence + entropy)


def test_a_one_hot_teacher_is_cross_entropy() -> None:
    logits, labels = torch.randn(7, 11, requires_grad=True), torch.arange(7)
    wanted = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    certain = 1e4 * torch.nn.functional.one_hot(labels, 11).float()
    torch.testing.assert_close(soft_cross_entropy(logits, certain), wanted)
    ones = torch.ones(7, 1)
    torch.testing.assert_close(sparse_cross_entropy(logits, labels[:, None], ones), wanted)


def test_a_student_that_equals_its_teacher_has_nothing_to_learn(
    items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    teacher = text_model(vocab, 2).eval()
    student = copy.deepcopy(teacher)
    task = objective(source="src_text", kd_weight=1.0)
    same = gradients(student, task, items, context, teacher)["grads"]
    assert max(float(g.abs().max()) for g in same.values()) < 1e-6
    other = gradients(text_model(vocab, 3), task, items, context, teacher)["grads"]
    assert max(float(g.abs().max()) for g in other.values()) > 1e-3


def test_padding_adds_nothing(items: list[Item], context: CollateContext, vocab: CharVocab) -> None:
    model, teacher = speech_model(vocab).eval(), text_model(vocab, 2).eval()
    task = objective(kd_weight=1.0)
    together = gradients(model, task, items, context, teacher)["sums"]["kd"].value
    alone = [gradients(model, task, [item], context, teacher)["sums"]["kd"].value for item in items]
    torch.testing.assert_close(together, torch.stack(alone).sum())


def test_the_teacher_needs_its_text(example: Callable[..., Example]) -> None:
    with pytest.raises(StkError, match=r"m\.jsonl.*lacks src_text"):
        objective().require(example(src_text=None))
    with pytest.raises(StkError, match="empty src_text"):
        objective().require(example(src_text=" "))
    objective(sidecar="cache").require(example(src_text=None))
    with pytest.raises(StkError, match="kd_weight"):
        objective(kd_weight=1.5)


def write(path: Path, vocab: CharVocab, rows: dict[str, list[int]], **changes: object) -> Sidecar:
    """A sidecar that is certain of every label."""
    parts = {"kind": TEACHER_KIND, "target_vocabulary": vocab.digest, "target": "tgt_text"}
    parts |= {"weights": "w"} | changes
    with SidecarWriter(path, made_by(**parts), parts) as writer:
        for name, ids in rows.items():
            labels = torch.tensor(ids, dtype=torch.int32)
            writer.add(
                name,
                {
                    "labels": labels,
                    "choices": labels[:, None],
                    "probs": torch.full((len(ids), 1), 0.5).half(),
                },
            )
    return Sidecar(path)


def test_the_sidecar_is_read_for_every_label(
    items: list[Item], context: CollateContext, vocab: CharVocab, tmp_path: Path
) -> None:
    """Renormalised, so that one certain token a position gives the plain loss."""
    rows = {i.example.id: [*vocab.encode(i.example.tgt_text or ""), vocab.eos] for i in items}
    cached = dataclasses.replace(context, sidecars={"cache": write(tmp_path / "a", vocab, rows)})
    task, model = objective(sidecar="cache", kd_weight=0.5), speech_model(vocab)
    sums = gradients(model, task, items, cached, model)["sums"]
    torch.testing.assert_close(sums["kd"].value, sums["nll"].value)
    changed = dataclasses.replace(items[0].example, tgt_text="two")
    with pytest.raises(StkError, match=r"m\.jsonl:3: .*another tgt_text"):
        task.collate([dataclasses.replace(items[0], example=changed)], cached)
    size = task.size(items[0].example, cached)
    unknown = dataclasses.replace(items[0].example, id="other")
    assert task.refuse(items[0].example, size, cached) is None
    assert "not in the sidecar cache" in str(task.refuse(unknown, size, cached))


def test_vocabularies_and_sidecars_that_do_not_fit(
    context: CollateContext, vocab: CharVocab, tmp_path: Path
) -> None:
    other = CharVocab("xyz")
    model = text_model(vocab, 2)

    def helper(**vocabs: CharVocab) -> dict[str, Helper]:
        found = {"src": vocab, "tgt": vocab, **vocabs}
        return {"teacher": Helper(model=model, vocabs=found, digest="w", file=tmp_path)}

    task = objective()
    task.check_helpers(helper(), context)
    with pytest.raises(StkError, match="needs the helper 'teacher'"):
        task.check_helpers({}, context)
    for view in ("src", "tgt"):
        with pytest.raises(StkError, match=f"vocabulary '{view}' is not this run's '{view}'"):
            task.check_helpers(helper(**{view: other}), context)
    deaf = Helper(model=speech_model(vocab), vocabs={"tgt": vocab}, digest="w", file=tmp_path)
    with pytest.raises(StkError, match="does not translate text"):
        task.check_helpers({"teacher": deaf}, context)
    task = objective(sidecar="cache")
    with pytest.raises(StkError, match="no sidecar 'cache'"):
        task.check_helpers({}, context)
    cases: dict[str, object] = {"target_vocabulary": other.digest, "target": "src_text"}
    cases |= {"kind": "features", "weights": "others"}
    for part, value in cases.items():
        bad = write(tmp_path / part, vocab, {"x": [5]}, **{part: value})
        with pytest.raises(StkError, match=f"was made with {part}"):
            task.check_helpers(helper(), dataclasses.replace(context, sidecars={"cache": bad}))
    fine = dataclasses.replace(
        context, sidecars={"cache": write(tmp_path / "b", vocab, {"x": [5]})}
    )
    task.check_helpers({}, fine)
    task.check_helpers(helper(), fine)
