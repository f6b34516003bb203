"""A model ready to decode: with its task, its vocabulary and its features."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stk.config.run import DecodeConfig, StreamConfig
from stk.data.audio import audio_duration
from stk.data.batch import Size
from stk.data.example import Example
from stk.data.items import at_row
from stk.data.vocab import Vocab
from stk.decoding.beam import Symbols
from stk.errors import StkError
from stk.modules.positions import learned_limit
from stk.objectives.base import CollateContext
from stk.objectives.registry import build_objective
from stk.objectives.sequence import SequenceObjective, Written
from stk.objectives.task import TargetConfig, prefix_fields, source_size, vocab_of
from stk.training.checkpoint import load_model


@dataclass(frozen=True)
class Member:
    """One model of an ensemble, or the only one.

    Attributes:
        model: in evaluation mode; see :class:`~stk.models.outputs.Autoregressive`.
        objective: the task, as a training stream defines it: what is read, and which tags begin
            the output.
        context: vocabularies and front end, without augmentation.
        name: where it came from, for messages.
    """

    model: Any
    objective: Any
    context: CollateContext
    name: str = "model"

    def vocab(self, config: DecodeConfig) -> Vocab:
        """The vocabulary that is written: the CTC head's, or the decoder's.

        Raises:
            StkError: the task has no such output.
        """
        if config.search == "ctc":
            if getattr(self.model, "ctc", None) is None:
                raise StkError("has no CTC head", file=self.name, mend="use search: beam")
            return vocab_of(self.context, self.model.config.ctc_view)
        if not isinstance(self.objective.config, TargetConfig):
            raise StkError(
                "this task writes nothing with the decoder", file=self.name, mend="use search: ctc"
            )
        return vocab_of(self.context, self.objective.config.target_view)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(iter(self.model.parameters())).device

    @property
    def reads_audio(self) -> bool:
        """Whether the source is sound; text otherwise."""
        return bool(self.objective.reads_audio)

    def symbols(self, config: DecodeConfig) -> Symbols:
        """Ids with a meaning for the search.

        Padding, begin and mask are never written, nor are tags but those the task asks for.
        """
        vocab = self.vocab(config)
        tags = [vocab.tag(name) for name in vocab.tags if name not in self._written_tags(config)]
        forbidden = (vocab.pad, vocab.bos, vocab.mask, *tags)
        return Symbols(bos=vocab.bos, eos=vocab.eos, forbidden=forbidden)

    def _written_tags(self, config: DecodeConfig) -> tuple[str, ...]:
        return () if config.search == "ctc" else self.objective.written_tags

    def read(self, ids: Sequence[int], config: DecodeConfig) -> Written:
        """Text of output ids, as the task writes it."""
        vocab = self.vocab(config)
        if config.search == "ctc":
            return Written(vocab.decode(ids))
        written: Written = self.objective.read(ids, vocab)
        return written

    def source_size(self, example: Example, decode: DecodeConfig) -> Size:
        """What an example's source costs in a batch; of sound the header alone is read.

        Raises:
            StkError: a field that source or tags are made of is missing, the vocabulary lacks
                the tag, a text has more tokens than the model has learned positions, or the sound
                file is not readable; with the manifest's row.
        """
        config = self.objective.config
        fields = {config.source}
        if decode.search != "ctc":
            fields |= prefix_fields(config.prefix) | prefix_fields(config.begin)
        if not self.reads_audio:
            fields |= prefix_fields(config.source_prefix) | prefix_fields(config.source_suffix)
        for field in sorted(fields):
            value = getattr(example, field)
            if value is None or (isinstance(value, str) and not value.strip()):
                raise StkError(
                    f"example {example.id!r} has no {field}",
                    file=example.file,
                    row=example.row,
                    mend=f"this task reads {', '.join(sorted(fields))}",
                )
        try:
            if decode.search != "ctc":
                self.objective.prefix_ids(example, self.context)  # does the vocabulary know them?
                self.objective.frame_ids(example, self.context)
            if self.reads_audio and example.audio is not None and example.duration is None:
                seconds = max(0.0, audio_duration(example.audio) - example.start)
                example = dataclasses.replace(example, duration=seconds)
            size = source_size(example, config, self.context)
            most = self.context.max_positions
            if most is not None and size.tokens > most:
                raise StkError(
                    f"example {example.id!r} has {size.tokens} tokens, more than the model's "
                    f"{most} learned positions",
                    mend="split the text, or leave such rows out: --skip-bad LIST",
                )
            return size
        except StkError as error:
            raise at_row(error, example) from None


def load_member(
    checkpoint: str | Path, *, task: str | None = None, device: torch.device | str = "cpu"
) -> Member:
    """Load a checkpoint for decoding.

    Args:
        checkpoint: a checkpoint directory, or a run's output directory.
        task: name of the training stream whose task is decoded; None: the first.
        device: where the model goes.

    Raises:
        StkError: no checkpoint there, its files do not belong together, no such stream, or a
            stream that writes no text.
    """
    loaded = load_model(checkpoint, device=device)
    stream = _stream(loaded.config.streams, task, loaded.path)
    objective = build_objective(stream.objective)
    if not isinstance(objective, SequenceObjective):
        raise StkError(
            f"stream {stream.name!r} ({stream.objective.get('name')}) writes no text",
            file=loaded.path,
            mend="name another stream with --task",
        )
    context = CollateContext(
        vocabs=loaded.vocabs,
        frontend=loaded.frontend,
        training=False,
        wave_lengths=getattr(loaded.model, "wave_lengths", None),
        max_positions=learned_limit(loaded.model),
    )
    return Member(loaded.model, objective, context, str(checkpoint))


def _stream(streams: Sequence[StreamConfig], task: str | None, path: Path) -> StreamConfig:
    if task is None:
        return streams[0]
    for stream in streams:
        if stream.name == task:
            return stream
    known = ", ".join(stream.name for stream in streams)
    raise StkError(f"no stream {task!r} in this checkpoint", file=path, mend=f"streams: {known}")


def check_together(members: Sequence[Member], config: DecodeConfig) -> None:
    """Raise unless the members may vote on one output.

    Raises:
        StkError: no member, vocabularies that differ, or sound beside text.
    """
    if not members:
        raise StkError("no checkpoint to decode with")
    first = members[0]
    if len(members) > 1 and config.search == "ctc":
        raise StkError("CTC decoding takes one checkpoint", mend="use search: beam")
    first.vocab(config)
    for member in members[1:]:
        if member.vocab(config).digest != first.vocab(config).digest:
            raise StkError(
                f"its target vocabulary is not that of {first.name}",
                file=member.name,
                mend="models of an ensemble must share one vocabulary, id for id",
            )
        if member.reads_audio != first.reads_audio:
            what = f"one of it and {first.name} reads sound, the other text"
            raise StkError(what, file=member.name)
