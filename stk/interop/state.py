"""Weights and configurations of other libraries, from local files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from stk.errors import StkError

FILES = ("model.safetensors", "pytorch_model.bin")


def read_state(path: Path) -> tuple[dict[str, Tensor], Path]:
    """Tensors by their names, and the file they came from.

    Args:
        path: a file (``.safetensors``, or one of ``torch.save``), or a directory with one of
            :data:`FILES`.

    Raises:
        StkError: no such file, or one that holds no state dictionary.
    """
    file = path
    if path.is_dir():
        found = [path / name for name in FILES if (path / name).exists()]
        if not found:
            raise StkError("no weights", file=path, mend=f"it must hold {' or '.join(FILES)}")
        file = found[0]
    elif not path.exists():
        raise StkError("no such file", file=path, mend="give a local file or directory")
    if file.suffix == ".safetensors":
        return load_file(file), file
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and tensor errors are of many unrelated types
        raise StkError(f"cannot be read as weights: {error}", file=file) from None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise StkError("holds no state dictionary", file=file, mend="save model.state_dict()")
    return dict(state), file


def read_json(file: Path) -> Any:
    """What a JSON file holds.

    Raises:
        StkError: it is missing, or no JSON.
    """
    if not file.is_file():
        raise StkError("no such file", file=file, mend="give a whole directory of save_pretrained")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StkError(f"is no JSON: {error}", file=file) from None
