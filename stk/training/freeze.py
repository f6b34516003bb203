"""Which parameters train, and from which update on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from torch import nn

from stk.config.run import FreezeConfig
from stk.errors import StkError


class Freezer:
    """Applies ``freeze`` rules to a model: gradients off, and dropout off where asked.

    Args:
        model: its parameter names are what the patterns are searched in. Its attribute
            ``FREEZES``, where it has one, gives names to sets of patterns: name -> pairs of
            ``pattern`` and ``spare``.
        rules: a parameter is frozen in an update as long as one rule freezes it. A ``pattern``
            that is such a name stands for its set.

    Raises:
        StkError: a pattern that matches no parameter.
    """

    def __init__(self, model: nn.Module, rules: Sequence[FreezeConfig]) -> None:
        self.model = model
        plain = [single for rule in rules for single in _unfold(model, rule)]
        self.rules = [(rule, _matches(model, rule)) for rule in plain]

    @property
    def never(self) -> frozenset[str]:
        """Names of the parameters that train in no update."""
        return self._frozen(None)

    def apply(self, update: int) -> bool:
        """Switch gradients for update number ``update`` (from 1).

        Returns:
            Whether any parameter's state changed.
        """
        frozen = self._frozen(update)
        changed = False
        for name, parameter in self.model.named_parameters():
            wanted = name not in frozen
            if parameter.requires_grad != wanted:
                parameter.requires_grad_(wanted)
                parameter.grad = None
                changed = True
        return changed

    def quieten(self, update: int) -> None:
        """Put modules of nothing but frozen parameters in eval mode (after ``model.train()``)."""
        quiet = self._frozen(update, quiet=True)
        if not quiet:
            return
        for prefix, module in self.model.named_modules():
            names = [name for name, _ in module.named_parameters(prefix=prefix)]
            if names and all(name in quiet for name in names):
                module.eval()

    def _frozen(self, update: int | None, quiet: bool = False) -> frozenset[str]:
        names: set[str] = set()
        for rule, matched in self.rules:
            acts = rule.until is None or (update is not None and update <= rule.until)
            if acts and (rule.eval_mode or not quiet):
                names |= matched
        return frozenset(names)


def _unfold(model: nn.Module, rule: FreezeConfig) -> list[FreezeConfig]:
    """The rules that a named set stands for, or the rule itself."""
    named = getattr(model, "FREEZES", {})
    if rule.pattern not in named:
        return [rule]
    if rule.spare is not None:
        raise StkError(f"freeze: {rule.pattern!r} is a named set, which has no spare")
    return [
        dataclasses.replace(rule, pattern=pattern, spare=spare)
        for pattern, spare in named[rule.pattern]
    ]


def _matches(model: nn.Module, rule: FreezeConfig) -> frozenset[str]:
    names = [name for name, _ in model.named_parameters()]
    found = select(names, rule.pattern, "freeze")
    if rule.spare is not None:
        spared = set(select(names, rule.spare, "freeze: spare"))
        found = [name for name in found if name not in spared]
    return frozenset(found)


def select(names: Sequence[str], pattern: str, key: str) -> list[str]:
    """Names in which the regular expression ``pattern`` is found.

    Raises:
        StkError: none is; ``key`` says which part of the configuration asked.
    """
    found = [name for name in names if re.search(pattern, name)]
    if not found:
        tops = ", ".join(sorted({name.split(".")[0] for name in names}))
        raise StkError(f"{key}: {pattern!r} matches no parameter", mend=f"names begin with: {tops}")
    return found
