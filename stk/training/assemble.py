"""Everything a run works with, built from its configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stk.config.run import RunConfig, StreamConfig
from stk.data.manifest import SkipList
from stk.data.sidecar import Sidecar
from stk.data.stream import Stream
from stk.data.vocab import Vocab, load_vocab
from stk.errors import StkError
from stk.features.frontend import FrontEnd
from stk.models.registry import build_model
from stk.modules.positions import learned_limit
from stk.objectives.base import CollateContext, Helper, Objective
from stk.objectives.registry import build_objective
from stk.training import rng
from stk.training.checkpoint import WEIGHTS, load_model
from stk.training.distributed import Workers, blocks
from stk.training.tensors import weights_digest

TrackRows = Callable[[Iterable[int], str], Iterable[int]]
"""``(rows, name of their stream)``: wraps a loop over rows to show how far it is."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The data side of a run.

    Attributes:
        vocabs: view name -> vocabulary.
        context: what collate may use, in training.
        streams: of training, with their objectives.
        validation: of validation, without augmentation.
        skipped: rows left out under ``skip_bad``; None without.
    """

    vocabs: dict[str, Vocab]
    context: CollateContext
    streams: list[Stream]
    validation: list[Stream]
    skipped: SkipList | None

    @property
    def objectives(self) -> dict[str, Objective]:
        """Training stream name -> objective."""
        return {stream.name: stream.objective for stream in self.streams}

    @property
    def inputs(self) -> dict[str, str]:
        """What else the batches of training follow from, for people -> digest of its content."""
        found = {f"stream {stream.name}": stream.digest for stream in self.streams}
        for name, sidecar in self.context.sidecars.items():
            found[f"sidecar {name}"] = sidecar.made_by
        if self.context.frontend is not None and self.context.frontend.cmvn is not None:
            found["features.cmvn_file"] = self.context.frontend.cmvn.digest
        return found


def load_data(config: RunConfig, workers: Workers, track: TrackRows | None = None) -> Data:
    """Read vocabularies, statistics and sidecars, and look at every row of every stream.

    Args:
        config: the run.
        workers: its processes; the main one alone shows progress.
        track: shows progress over the rows of a stream's manifests; None shows none.

    Raises:
        StkError: whatever of it is missing, broken or does not belong together.
    """
    vocabs = {view: load_vocab(path) for view, path in config.vocabularies.items()}
    frontend = None if config.features is None else FrontEnd(config.features)
    with torch.device("meta"):  # a model without memory tells how long its outputs are
        shape = _build(config, vocabs, frontend)
    _check_waveform(config, shape)
    context = CollateContext(
        vocabs=vocabs,
        frontend=frontend,
        sidecars={name: Sidecar(path) for name, path in config.sidecars.items()},
        ctc_lengths=getattr(shape, "ctc_lengths", None),
        wave_lengths=getattr(shape, "wave_lengths", None),
        max_positions=learned_limit(shape),
    )
    quiet = dataclasses.replace(context, training=False)
    skipped = None
    if config.training.skip_bad:
        own = "" if workers.is_main else f".rank{workers.rank}"
        skipped = SkipList(Path(config.output) / f"skipped_rows{own}.txt")

    def stream(part: StreamConfig, where: CollateContext) -> Stream:
        def shown(rows: Iterable[int]) -> Iterable[int]:
            return rows if track is None or not workers.is_main else track(rows, part.name)

        objective = build_objective(part.objective)
        return Stream(part, objective, where, skip_bad=skipped, track=shown)

    return Data(
        vocabs=vocabs,
        context=context,
        streams=[stream(part, context) for part in config.streams],
        validation=[stream(part, quiet) for part in config.validation.streams],
        skipped=skipped,
    )


def new_model(config: RunConfig, data: Data) -> nn.Module:
    """The run's model with random weights, the same in every process, on the CPU."""
    rng.seed_all(config.seed)
    return _build(config, data.vocabs, data.context.frontend)


def _build(config: RunConfig, vocabs: Mapping[str, Vocab], frontend: FrontEnd | None) -> nn.Module:
    sizes = {view: len(vocab) for view, vocab in vocabs.items()}
    return build_model(config.model, sizes, None if frontend is None else frontend.dim)


def _check_waveform(config: RunConfig, model: nn.Module) -> None:
    """Samples must be scaled as the model's wave encoder is, or was pre-trained, with them."""
    wanted: bool | None = getattr(model, "waveform_normalized", None)
    if wanted is None or config.features is None:
        return
    if config.features.normalize_waveform != wanted:
        raise StkError(
            f"features.normalize_waveform is {config.features.normalize_waveform}, but the wave "
            f"encoder wants {wanted}: clips have zero mean and unit variance where its extractor "
            "has layer norm, and only there",
            mend=f"set features.normalize_waveform={str(wanted).lower()}",
        )


def seed_process(config: RunConfig, workers: Workers) -> None:
    """Seed this process's generators (dropout and the like) by the run's seed and its rank."""
    mixed = np.random.SeedSequence((config.seed, workers.rank)).generate_state(1, np.uint64)
    rng.seed_all(int(mixed[0]) % 2**63)


def load_helpers(config: RunConfig, data: Data, device: torch.device) -> dict[str, Helper]:
    """The frozen models that objectives may use, in eval mode, by name.

    Sidecars are compared here too, with what the objectives that read them expect.

    Raises:
        StkError: a helper's checkpoint is missing or damaged, an objective cannot use it, or a
            sidecar was made by something else, or is read by no objective.
    """
    helpers = {}
    for name, path in config.helpers.items():
        loaded = load_model(path, device)
        helpers[name] = Helper(
            model=loaded.model,
            vocabs=loaded.vocabs,
            digest=weights_digest(loaded.path / WEIGHTS),
            file=loaded.path,
        )
    read: set[str] = set()
    for stream in (*data.streams, *data.validation):
        stream.objective.check_helpers(helpers, data.context)
        read |= stream.objective.sidecar_parts(helpers, data.context).keys()
    for name, sidecar in data.context.sidecars.items():
        if name not in read:
            raise StkError(
                f"sidecar {name!r} is read by no objective, so nobody compares what made it",
                file=sidecar.path,
                mend="take it out of sidecars, or name it in an objective",
            )
    return helpers


def prepare(model: nn.Module, config: RunConfig) -> None:
    """Switch on what training alone needs: recomputation of activations, compiled layers.

    Raises:
        StkError: the model has no such switch.
    """
    if config.training.activation_checkpointing:
        if not hasattr(type(model), "activation_checkpointing"):
            raise StkError(f"model {config.model['name']!r} has no activation checkpointing")
        model.activation_checkpointing = True  # type: ignore[assignment]
    if config.training.compile:
        for block in blocks(model):
            block.compile(dynamic=True)


Generate = Callable[..., list[list[int]]]
"""``(model, source, ...) -> token ids``: greedy output of a model in eval mode."""


def bind_generate(generate: Generate | None, model: nn.Module) -> Generate | None:
    """``context.generate``: the current model's own output, as objectives call it.

    The model is in eval mode, without gradients, while it generates; afterwards every module is
    back in its own mode.
    """
    if generate is None:
        return None

    def bound(*args: object, **kwargs: object) -> list[list[int]]:
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            with torch.no_grad():
                return generate(model, *args, **kwargs)
        finally:
            torch.clear_autocast_cache()  # it may hold weights that were cast without gradients
            for module, mode in modes.items():
                module.training = mode

    return bound
