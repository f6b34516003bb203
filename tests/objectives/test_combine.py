"""Division, weights and addition happen once."""

from __future__ import annotations

import pytest
import torch

from stk.data.batch import Item
from stk.models.registry import build_model
from stk.objectives.base import CollateContext, Context, Sum
from stk.objectives.combine import ObjectiveModule, combine
from stk.objectives.registry import build_objective

TINY = {
    "name": "speech_transformer", "encoder_layers": 2, "decoder_layers": 1, "width": 16, "ffn": 24,
    "heads": 2, "conv_channels": 12, "dropout": 0.0, "ctc_layer": 1,
}  # fmt: skip


def model(context: CollateContext) -> torch.nn.Module:
    torch.manual_seed(1)
    return build_model(TINY, {view: len(v) for view, v in context.vocabs.items()}, 20)


def test_formula() -> None:
    sums = {
        "a": Sum(torch.tensor(6.0), "tokens", 0.5),
        "b": Sum(torch.tensor(8.0), "frames", 2.0),
        "metric": Sum(torch.tensor(100.0), "tokens", 0.0),
    }
    loss = combine(sums, {"tokens": 3.0, "frames": 4.0})
    assert float(loss) == 0.5 * 6 / 3 + 2.0 * 8 / 4


def test_nothing_counted_is_nothing_divided() -> None:
    assert float(combine({"a": Sum(torch.tensor(0.0), "tokens")}, {"tokens": 0.0})) == 0.0


def test_missing_count_and_missing_weight() -> None:
    with pytest.raises(ValueError, match="'tokens', which is not among"):
        combine({"a": Sum(torch.tensor(1.0), "tokens")}, {"frames": 1.0})
    with pytest.raises(ValueError, match="nothing to train"):
        combine({"a": Sum(torch.tensor(1.0), "tokens", 0.0)}, {"tokens": 1.0})


def test_a_weight_that_has_come_to_nothing_moves_nothing(
    items: list[Item], context: CollateContext
) -> None:
    """As the denoising of unsupervised translation does in the end."""
    objective = build_objective({"name": "cross_entropy", "weight": "fading"})
    module = ObjectiveModule(model(context), {"s": objective})
    batch = objective.collate(items, context)
    loss, _ = module("s", batch, Context(scalars={"fading": 0.0}), objective.counts(batch))
    loss.backward()
    found = [p.grad for p in module.parameters() if p.grad is not None]
    assert float(loss.detach()) == 0.0 and found and not any(grad.any() for grad in found)


def test_micro_batches_add_up_to_the_whole(items: list[Item], context: CollateContext) -> None:
    """Totals over the window make gradients independent of how it is cut."""
    objective = build_objective({"name": "joint", "prefix": "tgt_lang"})
    module = ObjectiveModule(model(context), {"st": objective}).double()

    def gradients(parts: list[list[Item]]) -> torch.Tensor:
        module.zero_grad()
        batches = [objective.collate(part, context) for part in parts]
        counts = [objective.counts(batch) for batch in batches]
        totals = {key: sum(count[key] for count in counts) for key in counts[0]}
        for batch in batches:
            doubled = batch._map(lambda x: x.double() if x.is_floating_point() else x)
            loss, _ = module("st", doubled, Context(), totals)
            loss.backward()
        return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])

    whole = gradients([items])
    torch.testing.assert_close(gradients([[item] for item in items]), whole, rtol=1e-8, atol=1e-10)


def test_joint_weights_may_follow_a_schedule(items: list[Item], context: CollateContext) -> None:
    objective = build_objective({"name": "joint", "ctc_weight": "alpha", "ce_weight": 0.25})
    module = ObjectiveModule(model(context), {"st": objective})
    batch = objective.collate(items, context)
    totals = objective.counts(batch)
    loss, sums = module("st", batch, Context(scalars={"alpha": 0.75}), totals)
    expected = 0.25 * sums["ce"].value / totals["tokens"]
    expected = expected + 0.75 * sums["ctc"].value / totals["ctc_tokens"]
    torch.testing.assert_close(loss.detach(), expected)
    assert all(not item.value.requires_grad for item in sums.values())
    with pytest.raises(ValueError, match="weight 'alpha' is not among"):
        module("st", batch, Context(), totals)


def test_joint_is_its_parts(items: list[Item], context: CollateContext) -> None:
    module = model(context)
    sums = {}
    for name in ("joint", "cross_entropy", "ctc"):
        objective = build_objective({"name": name})
        sums[name] = objective.forward(module, objective.collate(items, context), Context())
    torch.testing.assert_close(sums["joint"]["ce"].value, sums["cross_entropy"]["loss"].value)
    torch.testing.assert_close(sums["joint"]["ctc"].value, sums["ctc"]["ctc"].value)
    assert (sums["joint"]["ce"].weight, sums["joint"]["ctc"].weight) == (0.7, 0.3)
    for metric in ("nll", "accuracy"):
        assert sums["joint"][metric].weight == 0.0 and sums["joint"][metric].per == "tokens"


def test_ctc_alone_leaves_the_decoder_untouched(items: list[Item], context: CollateContext) -> None:
    module, objective = model(context), build_objective({"name": "ctc", "ctc_per": "examples"})
    sums = objective.forward(module, objective.collate(items, context), Context())
    assert sums["ctc"].per == "examples"
    sums["ctc"].value.backward()
    names = [name for name, p in module.named_parameters() if p.grad is not None]
    assert names and not [name for name in names if name.startswith("decoder.")]


def test_the_prefix_is_in_no_sum(items: list[Item], context: CollateContext) -> None:
    """Logits at the prefix position reach no loss."""
    objective = build_objective({"name": "cross_entropy", "prefix": "tgt_lang"})
    module = model(context)
    batch = objective.collate(items, context)
    seen = []
    project = module.project

    def record(states: torch.Tensor) -> torch.Tensor:
        seen.append(states)
        return project(states)

    module.project = record  # type: ignore[method-assign,assignment]
    objective.forward(module, batch, Context())
    assert [len(states) for states in seen] == [int(objective.counts(batch)["tokens"])]
