"""What acts on the model after every step of the optimiser, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stk.config.named import find_named
from stk.config.run import Named
from stk.config.strict import build
from stk.errors import StkError
from stk.training.distributed import like
from stk.training.tensors import read_weights


class Hook:
    """Acts after a step. A subclass names its configuration dataclass in ``Config``.

    Hooks are built once, before the first update of a call (resumed or not), when the model has
    its weights; what a hook must remember beyond that goes through ``state``.

    Args:
        config: an instance of ``Config``.
        model: the model (parameters may be cut into shares by FSDP).
    """

    Config: ClassVar[type[Any]]

    def __init__(self, config: Any, model: nn.Module) -> None:
        self.config = config

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Called after update number ``step`` (from 1), unless that update was skipped."""
        raise TypeError(f"{type(self).__name__} defines no after_step")

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; types that ``torch.load(weights_only=True)`` reads."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`state` gave."""
        if state:
            raise StkError(f"{type(self).__name__} keeps no state, but the checkpoint has some")


@dataclass(frozen=True, kw_only=True)
class HoldEntriesConfig:
    """``masks``: a safetensors file, parameter name -> mask of its shape; non-zero entries train.

    ``source``: a safetensors file with the values of the other entries (None: those the model
    starts the call with, which in a resumed run are the same ones).
    """

    masks: str
    source: str | None = None


class HoldEntries(Hook):
    """Keep single entries of weight matrices as they are, bit for bit.

    Adam's moments and weight decay move entries even where the gradient is zero, so that masking
    gradients is not enough: LaSS (Lin et al., 2021) trains one pair's sub-network and must leave
    every other entry untouched.

    Raises:
        StkError: a mask of a parameter that the model lacks, or of another shape.
    """

    Config = HoldEntriesConfig

    def __init__(self, config: HoldEntriesConfig, model: nn.Module) -> None:
        super().__init__(config, model)
        named = dict(model.named_parameters())
        masks = read_weights(Path(config.masks))
        source = None if config.source is None else read_weights(Path(config.source))
        self.held: dict[str, tuple[Tensor, Tensor]] = {}
        for name, mask in masks.items():
            if name not in named or named[name].shape != mask.shape:
                raise StkError(f"mask {name!r} fits no parameter of the model", file=config.masks)
            parameter = named[name]
            if source is not None and name not in source:
                raise StkError(f"no values for {name!r}", file=config.source)
            value = parameter.detach().clone() if source is None else like(source[name], parameter)
            self.held[name] = (like(mask != 0, parameter), value)
        self._impose(named)

    @torch.no_grad()
    def _impose(self, named: Mapping[str, Tensor]) -> None:
        for name, (mask, value) in self.held.items():
            named[name].copy_(torch.where(mask, named[name], value.to(named[name].dtype)))

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Put the held entries back."""
        self._impose(dict(model.named_parameters()))


@dataclass(frozen=True, kw_only=True)
class DropoutStagesConfig:
    """``stages``: ``(update, factor)`` in rising order; from that update on every rate is the
    model's own times the factor, in [0, 1]. Before the first one they are the model's own."""

    stages: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        updates = [update for update, _ in self.stages]
        if not updates or updates[0] < 1 or updates != sorted(set(updates)):
            raise ValueError("stages: updates must rise, the first at least 1")
        if not all(0.0 <= factor <= 1.0 for _, factor in self.stages):
            raise ValueError("stages: factors are in [0, 1]")


class DropoutStages(Hook):
    """Lower dropout in steps over a run, as mBART's pre-training does (Liu et al., 2020).

    A rate is what a module keeps as a float under a name that ends in ``dropout``; layer drop is
    none.
    """

    Config = DropoutStagesConfig

    def __init__(self, config: DropoutStagesConfig, model: nn.Module) -> None:
        super().__init__(config, model)
        self.rates = [
            (module, name, value)
            for module in model.modules()
            for name, value in vars(module).items()
            if name.endswith("dropout") and isinstance(value, float)
        ]
        self._set_after(0)

    def _set_after(self, step: int) -> None:
        self.step = step
        passed = [factor for update, factor in self.config.stages if update <= step + 1]
        for module, name, value in self.rates:
            setattr(module, name, value * (passed[-1] if passed else 1.0))

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set the rates of the next update."""
        self._set_after(step)

    def state(self) -> dict[str, Any]:
        """The last update."""
        return {"step": self.step}

    def load(self, state: Mapping[str, Any]) -> None:
        """Set the rates of the update after it."""
        self._set_after(state["step"])


HOOKS: dict[str, type[Hook]] = {"hold_entries": HoldEntries, "dropout_stages": DropoutStages}
"""Name in the configuration -> class."""


def build_hooks(named: Sequence[Named], model: nn.Module) -> list[Hook]:
    """Build the hooks of a run, in order.

    Raises:
        StkError: an unknown name or key.
    """
    hooks: list[Hook] = []
    for i, entry in enumerate(named):
        hook = find_named("hook", entry.get("name"), HOOKS)
        keys = {key: value for key, value in entry.items() if key != "name"}
        hooks.append(hook(build(hook.Config, keys, where=f"hooks[{i}]"), model))
    return hooks
