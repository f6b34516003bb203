"""Imported models as checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from stk.config.run import BatchConfig, FeatureConfig, RunConfig, StreamConfig
from stk.config.training import TrainingConfig
from stk.data.vocab import Vocab
from stk.errors import StkError
from stk.training.checkpoint import Contents, save_checkpoint
from stk.training.tensors import gather_weights


def save_imported(
    model: nn.Module,
    directory: str | Path,
    *,
    model_keys: Mapping[str, Any],
    objective: Mapping[str, Any],
    vocabs: Mapping[str, Vocab],
    source: Path,
    features: FeatureConfig | None = None,
) -> None:
    """Write a model that was not trained here as a checkpoint.

    Args:
        model: with its weights.
        directory: must not exist.
        model_keys: section ``model`` of its configuration.
        objective: what it was trained to do, as the one stream of its configuration.
        vocabs: view -> vocabulary.
        source: file that it came from.
        features: what it reads; None: text.

    Raises:
        StkError: the directory exists, or cannot be written.
    """
    directory = Path(directory)
    if directory.exists():
        raise StkError("already exists", file=directory, mend="remove it or choose another")
    text = features is None
    stream = StreamConfig(
        name="imported",
        manifests=(),
        objective=dict(objective),
        batch=BatchConfig(max_tokens=4000) if text else BatchConfig(max_frames=20000),
    )
    config = RunConfig(
        output=str(directory),
        model=dict(model_keys),
        vocabularies={view: str(directory / "vocab" / view) for view in vocabs},
        streams=(stream,),
        training=TrainingConfig(max_updates=1),
        features=features,
    )
    metrics = {"update": 0, "imported_from": source.parent.name}
    save_checkpoint(
        directory,
        Contents(weights=gather_weights(model), config=config, vocabs=vocabs, metrics=metrics),
    )
