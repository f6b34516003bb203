"""Figures of a run: one JSON object a line, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stk.data.atomic import write_text


class MetricsFile:
    """``metrics.jsonl`` (and ``tensorboard/``) of a run; only the main process uses it.

    Every line has ``kind`` (``train``, ``valid``) and ``update``. Values that are not finite are
    written as null.

    Args:
        output: the run's directory.
        update: the update from which the run goes on. Lines of later ones, written before a
            kill, are taken out, since the run is about to write them again.
    """

    def __init__(self, output: Path, update: int) -> None:
        self.path = output / "metrics.jsonl"
        output.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_metrics(self.path) if line["update"] <= update]
        write_text(self.path, "".join(_line(line) for line in kept))
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = _tensorboard(output / "tensorboard", update)

    def write(self, kind: str, update: int, values: Mapping[str, Any]) -> None:
        """Append one line, at once."""
        self._file.write(_line({"kind": kind, "update": update, **values}))
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(f"{kind}/{name}", value, update)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a metrics file; a last line that a kill cut off is left out.

    Args:
        path: ``metrics.jsonl``; no file gives no lines.
    """
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def _line(values: Mapping[str, Any]) -> str:
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
    return json.dumps(finite, ensure_ascii=False) + "\n"


def _tensorboard(folder: Path, update: int) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # an extra: stk[tensorboard]
        return None
    return SummaryWriter(str(folder), purge_step=update + 1)
