"""Averages of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from stk.errors import StkError
from stk.training.checkpoint import (
    WEIGHTS,
    Contents,
    load_vocabs,
    read_config,
    save_checkpoint,
)
from stk.training.tensors import Weights, read_weights


def average_weights(paths: Sequence[Path]) -> Weights:
    """The arithmetic mean of checkpoints' weights, one file in memory at a time.

    Floating tensors are summed in fp32 (fp64 stays fp64) and keep their dtype; integer buffers
    are summed and floor-divided.

    Args:
        paths: checkpoint directories, at least one.

    Raises:
        StkError: names, shapes or dtypes differ between them.
    """
    if not paths:
        raise StkError("nothing to average", mend="give at least one checkpoint")
    first = read_weights(paths[0] / WEIGHTS)
    unique = {id(tensor): tensor for tensor in first.values()}
    total = {key: _wide(tensor).clone() for key, tensor in unique.items()}
    place = {name: id(tensor) for name, tensor in first.items()}
    for path in paths[1:]:
        other = read_weights(path / WEIGHTS)
        _check_alike(first, other, paths[0], path)
        for key in total:
            name = next(n for n, k in place.items() if k == key)
            total[key] += _wide(other[name])
    mean = {
        key: (value / len(paths)).to(unique[key].dtype)
        if value.is_floating_point()
        else (value // len(paths)).to(unique[key].dtype)
        for key, value in total.items()
    }
    return {name: mean[key] for name, key in place.items()}


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor.float()
    return tensor if tensor.is_floating_point() else tensor.long()


def _check_alike(first: Weights, other: Weights, first_path: Path, path: Path) -> None:
    differing = sorted(set(first) ^ set(other))
    if differing:
        raise StkError(f"other tensors than {first_path}: {', '.join(differing)}", file=path)
    shapes = [
        name
        for name in sorted(first)
        if first[name].shape != other[name].shape or first[name].dtype != other[name].dtype
    ]
    if shapes:
        raise StkError(f"other shapes than {first_path}: {', '.join(shapes)}", file=path)


def average_checkpoints(paths: Sequence[Path], output: Path) -> None:
    """Write a checkpoint whose weights are the mean of others'.

    Configuration and feature statistics are the last one's; vocabularies must be the same in all.

    Args:
        paths: checkpoint directories.
        output: directory to write; it must not exist.

    Raises:
        StkError: they do not belong together, or ``output`` exists.
    """
    if output.exists():
        raise StkError("already exists", file=output, mend="remove it or choose another name")
    weights = average_weights(paths)
    config = read_config(paths[-1])
    vocabs = load_vocabs(paths[-1], config)
    digests = {view: vocab.digest for view, vocab in vocabs.items()}
    for path in paths[:-1]:
        other = load_vocabs(path, read_config(path))
        if {view: vocab.digest for view, vocab in other.items()} != digests:
            raise StkError(f"vocabularies differ from those of {paths[-1]}", file=path)
    metrics = {"average_of": [path.name for path in paths]}
    save_checkpoint(
        output, Contents(weights=weights, config=config, vocabs=vocabs, metrics=metrics)
    )
