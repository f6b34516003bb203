"""Whether a run begins or goes on, and with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stk.config.run import RunConfig
from stk.config.strict import build, load_mapping, to_plain, to_yaml
from stk.data.atomic import write_text
from stk.data.vocab import Vocab
from stk.errors import StkError
from stk.training.distributed import Workers
from stk.training.keep import Keeper

FREE = frozenset(
    {
        "output",
        "training.max_updates",
        "training.max_epochs",
        "training.max_minutes",
        "training.log_every",
        "training.workers",
        "validation.patience",
        "checkpoint.keep_last",
        "checkpoint.keep_best",
    }
)
"""Keys that may change between two calls of one run: no loss depends on them."""


def find_start(config: RunConfig, keeper: Keeper, resume: bool) -> tuple[Path | None, list[str]]:
    """Look at the output directory and decide where to begin.

    Without a checkpoint there, the run begins anew. With one, it goes on from the newest, if the
    configuration is the same (apart from :data:`FREE` keys) or ``resume`` is set.

    Args:
        config: what was asked for now.
        keeper: of the output directory; leftovers of a killed process are removed.
        resume: go on although settings differ; the new ones hold from here on.

    Returns:
        The checkpoint to go on from, or None; and the keys that differ.

    Raises:
        StkError: names the keys that differ.
    """
    keeper.clean()
    updates = keeper.updates()
    differing: list[str] = []
    if updates:
        # the checkpoint's own, since a call that failed at once may have left another beside it
        file = keeper.path(updates[-1]) / "config.yaml"
        saved = build(RunConfig, load_mapping(file), file=file)
        differing = [key for key in differing_keys(saved, config) if key not in FREE]
        if differing and not resume:
            raise StkError(
                f"this run was started with other settings: {', '.join(differing)}",
                file=keeper.output,
                mend="choose another output, or give --resume to go on with the new settings",
            )
    write_text(keeper.output / "config.yaml", to_yaml(config))
    return (keeper.path(updates[-1]) if updates else None), differing


def check_resumable(
    state: Mapping[str, Any],
    vocabs: Mapping[str, Vocab],
    inputs: Mapping[str, str],
    workers: Workers,
    lenient: bool,
) -> list[str]:
    """Refuse to go on where the losses could not be the same, or would mean something else.

    Args:
        state: of the checkpoint.
        vocabs: of this run, by view.
        inputs: what its batches follow from and its frozen helpers -> digest, see
            :class:`stk.training.assemble.Data`.
        workers: the processes of this call.
        lenient: other data and another number of processes are fine.

    Returns:
        Which of ``inputs`` changed.

    Raises:
        StkError: a vocabulary's content changed, or an input's, or the number of processes did.
    """
    changed = [view for view, vocab in vocabs.items() if state["vocabs"].get(view) != vocab.digest]
    if changed:
        raise StkError(
            f"the vocabularies {', '.join(changed)} have changed since the checkpoint was written",
            mend="put the old files back, or choose another output",
        )
    known = state.get("inputs", {})
    other = [name for name, digest in inputs.items() if known.get(name, digest) != digest]
    if other and not lenient:
        raise StkError(
            f"inputs changed since the checkpoint was written: {', '.join(other)}",
            mend="put the old files back, or give --resume to go on with the new ones",
        )
    before = len(state["rng"])
    if before != workers.world and not lenient:
        raise StkError(
            f"this run was started with {before} processes, and now there are {workers.world}",
            mend="start as many, or give --resume to go on with other batches",
        )
    return other


def differing_keys(one: RunConfig, other: RunConfig) -> list[str]:
    """Dotted keys in which two configurations differ, sorted."""
    left, right = flatten(to_plain(one)), flatten(to_plain(other))
    absent = object()
    return sorted(key for key in {*left, *right} if left.get(key, absent) != right.get(key, absent))


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping from dotted keys (``streams[0].name``)."""
    if isinstance(value, Mapping) and value:
        parts = [(f"{prefix}.{key}" if prefix else str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and value:
        parts = [(f"{prefix}[{i}]", item) for i, item in enumerate(value)]
    else:
        return {prefix: value}
    return {key: leaf for name, item in parts for key, leaf in flatten(item, name).items()}
