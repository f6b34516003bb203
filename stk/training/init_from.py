"""Copy components of trained models into a new one, completely or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stk.config.run import InitConfig
from stk.data.vocab import Vocab
from stk.errors import StkError
from stk.training.checkpoint import WEIGHTS, load_vocabs, read_config, resolve_checkpoint
from stk.training.tensors import Weights, read_weights


@dataclass(frozen=True)
class Copied:
    """What one ``init_from`` entry did: the source, and the model's names that were copied."""

    path: Path
    names: tuple[str, ...]


def init_from(model: nn.Module, config: InitConfig, vocabs: Mapping[str, Vocab]) -> Copied:
    """Copy components from a checkpoint into ``model``, bit for bit.

    Every tensor (persistent buffers too) of every requested component must be in the checkpoint
    with the same shape; nothing is copied before that is certain.

    Args:
        model: the new model, on the CPU.
        config: checkpoint, components, views.
        vocabs: the new run's vocabularies.

    Raises:
        StkError: no such checkpoint, a component that one side lacks, tensors missing or of
            another shape (copied, missing and mismatched names are listed), a vocabulary that
            is not the same id for id.
    """
    path = resolve_checkpoint(config.checkpoint)
    theirs = read_weights(path / WEIGHTS)
    pairs: dict[str, str] = {}
    for mine, source in config.components.items():
        pairs |= _pair(model, mine, source, theirs, path)
    if config.spare is not None:
        spared = {name for name in pairs if re.search(config.spare, name)}
        if not spared:
            raise StkError(f"init_from: spare {config.spare!r} matches no tensor", file=path)
        pairs = {name: source for name, source in pairs.items() if name not in spared}
    _check_wave(model, path, pairs)
    own = model.state_dict()
    missing = sorted(name for name, source in pairs.items() if source not in theirs)
    mismatched = sorted(
        f"{name} {tuple(own[name].shape)} from {tuple(theirs[source].shape)}"
        for name, source in pairs.items()
        if source in theirs and own[name].shape != theirs[source].shape
    )
    if missing or mismatched:
        fine = len(pairs) - len(missing) - len(mismatched)
        raise StkError(
            f"init_from covers {fine} of {len(pairs)} tensors; missing: "
            f"{', '.join(missing) or 'none'}; of another shape: {', '.join(mismatched) or 'none'}",
            file=path,
            mend="make the two models' components alike, or request smaller components",
        )
    _check_views(config, path, {name: own[name] for name in pairs}, vocabs)
    with torch.no_grad():
        for name, source in pairs.items():
            own[name].copy_(theirs[source])
    return Copied(path, tuple(sorted(pairs)))


def _pair(model: nn.Module, mine: str, source: str, theirs: Weights, path: Path) -> dict[str, str]:
    """Names of this model's component -> the names they are to come from."""
    names = [name for name in model.state_dict() if _below(name, mine)]
    if not names:
        tops = ", ".join(sorted({name.split(".")[0] for name in model.state_dict()}))
        raise StkError(f"init_from: this model has no component {mine!r}", mend=f"it has: {tops}")
    if not any(_below(name, source) for name in theirs):
        tops = ", ".join(sorted({name.split(".")[0] for name in theirs}))
        raise StkError(
            f"init_from: the checkpoint has no component {source!r}",
            file=path,
            mend=f"it has: {tops}",
        )
    return {name: source + name[len(mine) :] for name in names}


def _check_wave(model: nn.Module, path: Path, pairs: Mapping[str, str]) -> None:
    """Raise where a wave encoder would get the extractor of the other norm layout.

    Group norm goes with samples as they are, layer norm with normalised clips; some of the names
    are the same, and with them the weights would look right and be wrong.
    """
    wanted: bool | None = getattr(model, "waveform_normalized", None)
    if wanted is None or not any("extractor." in name for name in pairs):
        return
    theirs = read_config(path).features
    if theirs is None or theirs.kind != "waveform" or theirs.normalize_waveform == wanted:
        return
    norms = ("group", "layer")
    raise StkError(
        f"init_from: the checkpoint's wave encoder has extractor_norm: "
        f"{norms[theirs.normalize_waveform]}, this model's {norms[wanted]}",
        file=path,
        mend=f"give this model's wave encoder extractor_norm: {norms[theirs.normalize_waveform]} "
        f"and set features.normalize_waveform={str(theirs.normalize_waveform).lower()}",
    )


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _check_views(
    config: InitConfig, path: Path, copied: Mapping[str, Tensor], vocabs: Mapping[str, Vocab]
) -> None:
    """Vocabularies whose ids index a copied table must be the same ones, in the same order."""
    theirs = load_vocabs(path, read_config(path))
    views = config.views
    if views is None:
        rows = {len(tensor) for tensor in copied.values() if tensor.dim() == 2}
        views = tuple(v for v in vocabs if v in theirs and len(vocabs[v]) in rows)
    for view in views:
        if view not in vocabs or view not in theirs:
            raise StkError(f"init_from: view {view!r} is not in both runs", file=path)
        if theirs[view].digest != vocabs[view].digest:
            raise StkError(
                f"vocabulary {view!r} differs from the checkpoint's, so its ids mean other things",
                file=path,
                mend=f"use {path / 'vocab' / view}, or list under views those that must agree",
            )
