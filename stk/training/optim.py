"""The optimiser: parameter groups, their rates, and its state by parameter name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn

from stk.config.run import GroupConfig, OptimConfig, ScheduleConfig
from stk.errors import StkError
from stk.training.distributed import full, like
from stk.training.freeze import select
from stk.training.schedule import factor, interpolate

State = dict[str, dict[str, Tensor]]
"""Parameter name -> the optimiser's tensors for it, whole and on the CPU."""


def build_optimizer(
    model: nn.Module, config: OptimConfig, skip: Set[str] = frozenset()
) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba, 2015) or AdamW (Loshchilov and Hutter, 2019) over a model.

    Args:
        model: its parameters, on their final device (and cut into shares already).
        config: ``groups`` claim parameters by name pattern, the first match wins; the rest form
            a group of their own.
        skip: names of parameters that never train.

    Raises:
        StkError: a group's pattern matches no parameter, or nothing is left to train.
    """
    named = dict(model.named_parameters())
    for group in config.groups:
        select(list(named), group.pattern, "optim.groups")
    rest = GroupConfig(pattern="")
    members: dict[GroupConfig, list[nn.Parameter]] = {g: [] for g in (*config.groups, rest)}
    for name, parameter in named.items():
        if name not in skip:
            members[_group_of(name, config, rest)].append(parameter)
    groups = [
        {
            "params": parameters,
            "lr": 0.0,
            "weight_decay": config.weight_decay if g.weight_decay is None else g.weight_decay,
            "lr_scale": g.lr_scale,
            "rate": g.rate,
        }
        for g, parameters in members.items()
        if parameters
    ]
    if not groups:
        raise StkError("every parameter is frozen, nothing is left to train", mend="see freeze")
    cls = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
    return cls(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def _group_of(name: str, config: OptimConfig, rest: GroupConfig) -> GroupConfig:
    return next((g for g in config.groups if re.search(g.pattern, name)), rest)


def set_rates(
    optimizer: torch.optim.Optimizer, peak: float, schedule: ScheduleConfig, update: int
) -> float:
    """Give every group its learning rate of update number ``update`` (from 1).

    Args:
        optimizer: of :func:`build_optimizer`.
        peak: ``optim.lr``.
        schedule: scales the peak.
        update: the update in hand.

    Returns:
        The rate of a group without a factor of its own.
    """
    rate = peak * factor(schedule, update)
    for group in optimizer.param_groups:
        own = interpolate(group["rate"], update) if group["rate"] else 1.0
        group["lr"] = rate * group["lr_scale"] * own
    return rate


def gather_state(optimizer: torch.optim.Optimizer, model: nn.Module, keep: bool = True) -> State:
    """The optimiser's state by parameter name, whole, on the CPU; every process must call it.

    Args:
        optimizer: of :func:`build_optimizer`.
        model: names the parameters.
        keep: whether this process wants the result; others get nothing and need no memory.
    """
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    gathered: State = {}
    for parameter, state in optimizer.state.items():
        whole = {key: full(value) for key, value in state.items()}
        if keep:
            gathered[names[parameter]] = {key: value.cpu() for key, value in whole.items()}
    return gathered


def restore_state(optimizer: torch.optim.Optimizer, model: nn.Module, state: State) -> None:
    """Put back what :func:`gather_state` took, on whatever devices and shares there are now.

    Raises:
        StkError: state of a parameter that the model lacks or the optimiser leaves out.
    """
    named = dict(model.named_parameters())
    places = _places(optimizer)
    unknown = sorted(name for name in state if named.get(name) not in places)
    if unknown:
        raise StkError(f"optimiser state of parameters that do not train: {', '.join(unknown)}")
    packed = {
        places[named[name]]: {key: _fit(value, named[name]) for key, value in entry.items()}
        for name, entry in state.items()
    }
    optimizer.load_state_dict(
        {"state": packed, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def _places(optimizer: torch.optim.Optimizer) -> Mapping[Any, int]:
    """Each parameter's number in torch's own state format."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {parameter: number for number, parameter in enumerate(parameters)}


def _fit(value: Tensor, parameter: Tensor) -> Tensor:
    """Moments have their parameter's shape and share its cut; the step count is one number."""
    value = value.clone()  # torch would go on with the caller's own tensors
    return like(value, parameter) if value.shape == parameter.shape and value.dim() else value
