"""Parameter groups, rates, freezing, and the optimiser's state by name."""

import pytest
import torch
from torch import nn

from stk.config.run import FreezeConfig, GroupConfig, OptimConfig, ScheduleConfig
from stk.errors import StkError
from stk.training.freeze import Freezer
from stk.training.optim import build_optimizer, gather_state, restore_state, set_rates

FLAT = ScheduleConfig(name="constant", warmup=0)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "encoder": nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 4)),
            "decoder": nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5)),
        }
    )


def step(model, optimizer):
    optimizer.zero_grad()
    x = torch.ones(2, 3)
    model["decoder"](model["encoder"](x)).square().sum().backward()
    optimizer.step()


def test_groups_rates_and_decay():
    model = small()
    config = OptimConfig(
        lr=0.1,
        weight_decay=0.01,
        groups=(
            GroupConfig(pattern=r"^encoder\.0\.", lr_scale=0.5, weight_decay=0.0),
            GroupConfig(pattern="^encoder", rate=((0, 0.0), (10, 1.0), (20, 0.0))),
        ),
    )
    optimizer = build_optimizer(model, config)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2, 2]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.01, 0.01]
    assert set_rates(optimizer, 0.1, FLAT, 5) == pytest.approx(0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.05, 0.1])
    set_rates(optimizer, 0.1, FLAT, 20)
    before = model["encoder"][2].weight.clone()
    step(model, optimizer)
    step(model, optimizer)
    assert torch.equal(model["encoder"][2].weight, before)


def test_unmatched_patterns_and_nothing_to_train():
    model = small()
    with pytest.raises(StkError, match="matches no parameter"):
        build_optimizer(model, OptimConfig(groups=(GroupConfig(pattern="bert"),)))
    with pytest.raises(StkError, match="nothing is left"):
        build_optimizer(model, OptimConfig(), skip=dict(model.named_parameters()).keys())
    with pytest.raises(StkError, match="freeze.*names begin with: decoder, encoder"):
        Freezer(model, [FreezeConfig(pattern="encodr")])


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_against_torch_and_state_round_trip(name):
    ours, theirs, again = small().eval(), small().eval(), small().eval()
    config = OptimConfig(name=name, lr=0.01, weight_decay=0.1)
    optimizer = build_optimizer(ours, config)
    cls = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    oracle = cls(theirs.parameters(), lr=0.01, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1)
    set_rates(optimizer, 0.01, FLAT, 1)
    for _ in range(3):
        step(ours, optimizer)
        step(theirs, oracle)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    state = gather_state(optimizer, ours)
    assert set(state) == {name for name, _ in ours.named_parameters()}
    again.load_state_dict(ours.state_dict())
    resumed = build_optimizer(again, config)
    restore_state(resumed, again, state)
    for one, model in ((optimizer, ours), (resumed, again)):
        set_rates(one, 0.01, FLAT, 4)
        step(model, one)
    for mine, other in zip(ours.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_state_of_unknown_parameters():
    model = small()
    optimizer = build_optimizer(model, OptimConfig())
    with pytest.raises(StkError, match="do not train: gone"):
        restore_state(optimizer, model, {"gone": {"step": torch.tensor(1.0)}})


def test_freeze_until_and_eval_mode():
    model = small()
    rules = [
        FreezeConfig(pattern="^encoder", spare="2.bias", until=2),
        FreezeConfig(pattern="^decoder.0.bias"),
    ]
    freezer = Freezer(model, rules)
    assert freezer.never == {"decoder.0.bias"}
    optimizer = build_optimizer(model, OptimConfig(lr=0.1), skip=freezer.never)
    set_rates(optimizer, 0.1, FLAT, 1)
    start = {name: p.clone() for name, p in model.named_parameters()}
    changed = []
    for update in (1, 2, 3):
        changed.append(freezer.apply(update))
        model.train()
        freezer.quieten(update)
        assert model["encoder"][0].training == (update == 3)
        assert model["encoder"].training and model["decoder"][1].training
        step(model.eval(), optimizer)
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, start[name])}
        free = {"encoder.2.bias", "decoder.0.weight"}
        assert moved == (free if update < 3 else set(start) - {"decoder.0.bias"})
    assert changed == [True, False, True]


def test_wholly_frozen_module_loses_its_dropout():
    model = small()
    freezer = Freezer(
        model, [FreezeConfig(pattern="^encoder"), FreezeConfig(pattern="^decoder", eval_mode=False)]
    )
    freezer.apply(1)
    model.train()
    freezer.quieten(1)
    assert not model["encoder"][1].training
    assert model["decoder"][1].training
