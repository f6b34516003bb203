"""A checkpoint: one directory with everything needed to use a model or to go on training it.

::

    <output>/checkpoints/update-00001000/
        model.safetensors   weights (tied tensors once)
        config.yaml         the resolved configuration of the run
        vocab/<view>/       the vocabularies
        cmvn.*              global feature statistics, where the run uses them
        state.pt            optimiser, generators, counters (``torch.load(weights_only=True)``)
        metrics.json        update, and validation figures where there are any
    <output>/last, <output>/best    relative links
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from stk.config.run import RunConfig
from stk.config.strict import build, load_mapping, to_yaml
from stk.data.vocab import Vocab, load_vocab
from stk.errors import StkError
from stk.features.frontend import FrontEnd
from stk.models.registry import build_model
from stk.training.tensors import (
    Weights,
    load_weights,
    read_vocab_digests,
    read_weights,
    write_weights,
)

WEIGHTS = "model.safetensors"
PART = ".part"
"""Ending of directories that are being written or removed; their names also begin with a dot."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What goes into a checkpoint.

    Attributes:
        weights: see :func:`stk.training.tensors.gather_weights`.
        config: the run's.
        vocabs: view name -> vocabulary.
        metrics: plain figures, ``update`` among them.
        state: what resuming needs, of types that ``weights_only=True`` loads; None for a model
            that is not trained on (an average).
    """

    weights: Weights
    config: RunConfig
    vocabs: Mapping[str, Vocab]
    metrics: Mapping[str, Any]
    state: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Loaded:
    """A model with what belongs to it.

    Attributes:
        model: in eval mode, its parameters without gradients.
        config: of the run that made it; paths of vocabularies and feature statistics point into
            the checkpoint.
        vocabs: view name -> vocabulary.
        frontend: turns waveforms into the model's features; None for models of text.
        path: the checkpoint directory.
    """

    model: nn.Module
    config: RunConfig
    vocabs: dict[str, Vocab]
    frontend: FrontEnd | None
    path: Path


def save_checkpoint(directory: Path, contents: Contents) -> None:
    """Write a checkpoint whole or not at all.

    It is written under a temporary name beside ``directory``, flushed to the disk and renamed.

    Args:
        directory: must not exist, or be a checkpoint, which is replaced.

    Raises:
        StkError: the disk is full or cannot be written; nothing else is touched.
    """
    part = directory.parent / f".{directory.name}{PART}"
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        _write(part, contents)
        _sync(part)
        if directory.exists():
            remove_checkpoint(directory)
        os.rename(part, directory)
        _sync_one(directory.parent)
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save raises RuntimeError
        shutil.rmtree(part, ignore_errors=True)
        raise StkError(
            f"the checkpoint could not be written: {error}",
            file=directory,
            mend="free some space and start the same command again; earlier checkpoints are whole",
        ) from error


def _write(part: Path, contents: Contents) -> None:
    config = contents.config
    digests = {view: vocab.digest for view, vocab in contents.vocabs.items()}
    write_weights(part / WEIGHTS, contents.weights, digests)
    (part / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    for view, vocab in contents.vocabs.items():
        vocab.save(part / "vocab" / view)
    if config.features is not None and config.features.cmvn_file is not None:
        source = Path(config.features.cmvn_file)
        shutil.copyfile(source, part / _cmvn_name(source))
    if contents.state is not None:
        with open(part / "state.pt", "wb") as file:
            torch.save(dict(contents.state), file)
    text = json.dumps(dict(contents.metrics), indent=1, sort_keys=True)
    (part / "metrics.json").write_text(text + "\n", encoding="utf-8")


def _cmvn_name(source: Path) -> str:
    return "cmvn" + "".join(source.suffixes[-1:])


def _sync(directory: Path) -> None:
    for path, _, files in os.walk(directory):
        for name in files:
            _sync_one(Path(path) / name)
        _sync_one(Path(path))


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_checkpoint(directory: Path) -> None:
    """Remove a checkpoint such that a kill leaves no half of it under its name."""
    part = directory.parent / f".{directory.name}.old{PART}"
    shutil.rmtree(part, ignore_errors=True)
    os.rename(directory, part)
    shutil.rmtree(part)


def resolve_checkpoint(path: str | Path) -> Path:
    """The checkpoint directory that ``path`` means.

    Args:
        path: a checkpoint, or a run's output directory (its best one, else its last).

    Raises:
        StkError: there is none.
    """
    path = Path(path)
    for candidate in (path, path / "best", path / "last"):
        if (candidate / WEIGHTS).is_file():
            return candidate.resolve()
    what = "holds no checkpoint" if path.exists() else "no such checkpoint"
    raise StkError(what, file=path, mend="give a run's output directory or a checkpoint in it")


def read_config(directory: Path) -> RunConfig:
    """A checkpoint's configuration, with the paths of what it carries pointing into it."""
    file = directory / "config.yaml"
    config = build(RunConfig, load_mapping(file), file=file)
    vocabularies = {view: str(directory / "vocab" / view) for view in config.vocabularies}
    features = config.features
    if features is not None and features.cmvn_file is not None:
        own = directory / _cmvn_name(Path(features.cmvn_file))
        features = dataclasses.replace(features, cmvn_file=str(own))
    return dataclasses.replace(config, vocabularies=vocabularies, features=features)


def load_vocabs(directory: Path, config: RunConfig) -> dict[str, Vocab]:
    """A checkpoint's vocabularies by view.

    Args:
        directory: the checkpoint.
        config: what :func:`read_config` returned for it.

    Raises:
        StkError: one is missing, damaged, or not the one that the weights were written with.
    """
    digests = read_vocab_digests(directory / WEIGHTS)
    vocabs = {view: load_vocab(place) for view, place in config.vocabularies.items()}
    for view, vocab in vocabs.items():
        if digests.get(view, vocab.digest) != vocab.digest:
            raise StkError(
                f"vocabulary {view!r} is not the one that {WEIGHTS} was written with",
                file=config.vocabularies[view],
                mend="copy checkpoints as a whole",
            )
    return vocabs


def load_state(directory: Path) -> dict[str, Any]:
    """What resuming needs.

    Raises:
        StkError: the checkpoint has no training state (an average), or it is damaged.
    """
    file = directory / "state.pt"
    if not file.is_file():
        raise StkError("this checkpoint carries no training state", file=file)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds over a damaged file
        raise StkError(f"damaged training state: {error}", file=file) from error
    assert isinstance(state, dict)
    return state


def load_model(path: str | Path, device: torch.device | str = "cpu") -> Loaded:
    """Build the model of a checkpoint and load its weights, for use rather than training.

    Args:
        path: a checkpoint or a run's output directory.
        device: where the model goes.

    Raises:
        StkError: no checkpoint there, or its files do not belong together.
    """
    directory = resolve_checkpoint(path)
    config = read_config(directory)
    vocabs = load_vocabs(directory, config)
    frontend = None if config.features is None else FrontEnd(config.features)
    model = build_model(
        config.model,
        {view: len(vocab) for view, vocab in vocabs.items()},
        None if frontend is None else frontend.dim,
    )
    file = directory / WEIGHTS
    load_weights(model, read_weights(file), file=file)
    model.requires_grad_(False)
    return Loaded(model.to(device).eval(), config, vocabs, frontend, directory)
