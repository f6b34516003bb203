"""Model weights as one safetensors file, tied tensors stored once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stk.errors import StkError
from stk.training.distributed import full

Weights = dict[str, Tensor]
"""Name in the model's ``state_dict`` -> tensor on the CPU; tied names share one tensor."""


def gather_weights(model: nn.Module, keep: bool = True) -> Weights:
    """A model's parameters and persistent buffers, whole, on the CPU; every process must call it.

    The tensors of a model that lives on the CPU are the model's own, not copies.

    Args:
        model: possibly cut into shares by FSDP.
        keep: whether this process wants the result; others get nothing and need no memory.
    """
    seen: dict[int, Tensor] = {}
    weights: Weights = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            whole = full(tensor)
            seen[id(tensor)] = whole.cpu() if keep else whole.new_empty(0)
        if keep:
            weights[name] = seen[id(tensor)]
    return weights


def write_weights(
    path: Path, weights: Mapping[str, Tensor], vocabs: Mapping[str, str] | None = None
) -> None:
    """Write weights; names that share a tensor are stored once, the rest noted in the header.

    Args:
        path: the file.
        weights: see :func:`gather_weights`.
        vocabs: view -> digest of the vocabulary whose ids index the weights, for the header.
    """
    first: dict[int, str] = {}
    stored: Weights = {}
    tied: dict[str, str] = {}
    for name, tensor in weights.items():
        if id(tensor) in first:
            tied[name] = first[id(tensor)]
        else:
            first[id(tensor)] = name
            stored[name] = tensor.contiguous()
    notes = {"format": "pt", "tied": json.dumps(tied, sort_keys=True)}
    notes["vocabs"] = json.dumps(dict(vocabs or {}), sort_keys=True)
    save_file(stored, path, metadata=notes)


def read_weights(path: Path) -> Weights:
    """Read what :func:`write_weights` wrote; tied names share one tensor again.

    Raises:
        StkError: no such file, or not a whole safetensors file.
    """
    with _opened(path) as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        tied = json.loads((file.metadata() or {}).get("tied", "{}"))
    return weights | {name: weights[kept] for name, kept in tied.items()}


def read_vocab_digests(path: Path) -> dict[str, str]:
    """The vocabularies that weights were written with: view -> digest; empty if not noted.

    Raises:
        StkError: no such file, or not a whole safetensors file.
    """
    with _opened(path) as file:
        return dict(json.loads((file.metadata() or {}).get("vocabs", "{}")))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise StkError("no such weights file", file=path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise StkError(f"not a whole safetensors file: {error}", file=path) from error


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, file: Path) -> None:
    """Copy weights into a model, every name and shape of which must fit.

    Raises:
        StkError: lists missing, unknown and differently shaped names.
    """
    own = model.state_dict()
    missing = sorted(set(own) - set(weights))
    unknown = sorted(set(weights) - set(own))
    shapes = sorted(n for n in set(own) & set(weights) if own[n].shape != weights[n].shape)
    parts = [("missing", missing), ("unknown", unknown), ("of another shape", shapes)]
    if any(names for _, names in parts):
        listed = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
        raise StkError(f"the weights do not fit the model: {listed}", file=file)
    model.load_state_dict(dict(weights), strict=True)


def weights_digest(path: Path) -> str:
    """Hexadecimal SHA-256 of a file of weights, for sidecars that say which model made them."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
