"""Which checkpoints of a run stay, and what ``last`` and ``best`` point to."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import re
import shutil
from pathlib import Path
from typing import TextIO

from stk.config.run import CheckpointConfig
from stk.errors import StkError
from stk.training.checkpoint import PART, WEIGHTS, Contents, remove_checkpoint, save_checkpoint

_NAME = re.compile(r"update-(\d{8,})")


class Keeper:
    """The checkpoints of one output directory; only the main process uses it.

    Args:
        output: the run's directory.
        config: how many stay.
        higher_is_better: the sense of scores.
        scores: update -> score of the best so far, as :attr:`scores` was when saved.
    """

    def __init__(
        self,
        output: Path,
        config: CheckpointConfig,
        *,
        higher_is_better: bool = False,
        scores: dict[int, float] | None = None,
    ) -> None:
        self.output, self.config = output, config
        self.folder = output / "checkpoints"
        self.sign = -1.0 if higher_is_better else 1.0
        self.scores = dict(scores or {})
        self._held: TextIO | None = None

    def hold(self) -> None:
        """Keep other trainings out of the directory for as long as this process lives.

        The lock is a POSIX one: the system frees it however the process ends, and the loader's
        workers, which may live a little longer, do not inherit it.

        Raises:
            StkError: another training is at work there.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        self._held = (self.output / ".lock").open("a")
        try:
            fcntl.lockf(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise StkError(
                    "another training writes here",
                    file=self.output,
                    mend="wait for it or stop it, or set another output",
                ) from None
            # Some network file systems have no locks at all; nobody can be kept out there.
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise

    def path(self, update: int) -> Path:
        """Where the checkpoint of an update is."""
        return self.folder / f"update-{update:08d}"

    def updates(self) -> list[int]:
        """Updates that have a whole checkpoint, rising."""
        if not self.folder.is_dir():
            return []
        matches = [(_NAME.fullmatch(p.name), p) for p in self.folder.iterdir()]
        return sorted(int(m[1]) for m, p in matches if m and (p / WEIGHTS).is_file())

    def best(self) -> list[int]:
        """Updates with the best scores, best first (the earlier of equals), as many as stay."""
        order = sorted(self.scores, key=lambda update: (self.sign * self.scores[update], update))
        return order[: self.config.keep_best]

    def clean(self) -> None:
        """Remove what a killed process left half written; point ``last`` and ``best`` right."""
        if self.folder.is_dir():
            for path in self.folder.glob(f".*{PART}"):
                shutil.rmtree(path)
        updates = self.updates()
        if updates:
            self._link("last", updates[-1])
        best = [update for update in self.best() if update in updates]
        if best:
            self._link("best", best[0])

    def rank(self, update: int, score: float) -> bool:
        """Note an update's score, before it is saved; one that is not finite does not count.

        Returns:
            Whether it is among the best that stay.
        """
        if not math.isfinite(score):
            return False
        self.scores[update] = score
        kept = self.best()
        self.scores = {u: s for u, s in self.scores.items() if u in kept}
        return update in kept

    def save(self, update: int, contents: Contents) -> Path:
        """Write an update's checkpoint, point the links, remove what need not stay."""
        path = self.path(update)
        save_checkpoint(path, contents)
        self.clean()
        updates = self.updates()
        stay = {*updates[-self.config.keep_last :], *self.best()}
        for old in updates:
            if old not in stay:
                remove_checkpoint(self.path(old))
        return path

    def _link(self, name: str, update: int) -> None:
        target = self.path(update).relative_to(self.output)
        part = self.output / f".{name}{PART}"
        part.unlink(missing_ok=True)
        part.symlink_to(target)
        os.replace(part, self.output / name)
