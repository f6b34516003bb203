"""What a sequence task reads and writes: source, target, prefix.

Speech recognition, text translation and speech translation are one task over different fields of
the same example; training and decoding share this one definition of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from stk.data.batch import Item, Movable, Padded, Size, Source
from stk.data.example import Example
from stk.errors import StkError
from stk.objectives.masking import SpanConfig, draw_spans

if TYPE_CHECKING:
    from stk.config.run import AugmentConfig
    from stk.data.vocab import Vocab
    from stk.objectives.base import CollateContext

TextField = Literal["src_text", "tgt_text"]
Encode = Callable[[str], Sequence[int]]
"""From a sentence to ids, without tags and end symbol."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """What the encoder reads: ``audio``, or a text through the vocabulary ``source_view``.

    A text source is ``source_prefix, pieces..., eos, source_suffix``. Prefix and suffix are
    ``none``, ``src_lang`` or ``tgt_lang`` (the tag of the example's language) or the name of any
    tag; mBART (Liu et al., 2020) has the suffix ``src_lang``. With ``source_lines`` the text is a
    document: every line that is not empty is a sentence, and ends with eos.
    """

    source: Literal["audio", "src_text", "tgt_text"] = "audio"
    source_view: str = "src"
    source_prefix: str = "none"
    source_suffix: str = "none"
    source_lines: bool = False


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """What the decoder writes: a text through the vocabulary ``target_view``.

    The decoder reads ``bos, prefix, pieces...`` and is trained on ``pieces..., eos``; the prefix
    (as in :class:`SourceConfig`) is forced in decoding and never part of the loss.

    ``begin`` stands in place of bos: ``eos``, ``src_lang``, ``tgt_lang`` or the name of a tag.
    With ``end: begin`` that symbol also ends the output, behind eos: the decoder reads
    ``begin, pieces..., eos``, is trained on ``pieces..., eos, begin``, and decoding goes on until
    it writes ``begin``. mBART is fine-tuned with ``begin: tgt_lang, end: begin``. A text is then a
    document: every line that is not empty is a sentence, and ends with eos.
    """

    target: TextField = "tgt_text"
    target_view: str = "tgt"
    prefix: str = "none"
    begin: str = "bos"
    end: Literal["eos", "begin"] = "eos"

    def __post_init__(self) -> None:
        if self.end == "begin" and self.begin in ("bos", "eos"):
            raise ValueError("end: begin needs a tag as begin, such as tgt_lang")


@dataclass(frozen=True)
class TargetTokens(Movable):
    """Decoder input and labels.

    Attributes:
        inputs: ``(B, U)`` int64, ``bos, prefix, pieces...``.
        places: ``(N,)`` int64, where in the flattened ``B * U`` a label stands.
        labels: ``(N,)`` int64, ``pieces..., eos`` of every row in turn.
    """

    inputs: Padded
    places: Tensor
    labels: Tensor


def prefix_fields(prefix: str) -> frozenset[str]:
    """Manifest fields that a prefix reads."""
    return frozenset({prefix} if prefix in ("src_lang", "tgt_lang") else ())


def prefix_ids(example: Example, vocab: Vocab, prefix: str) -> list[int]:
    """Ids of a prefix for one example: one tag, or none."""
    if prefix == "none":
        return []
    name = getattr(example, prefix) if prefix_fields(prefix) else prefix
    return [vocab.tag(name)]


def begin_id(example: Example, vocab: Vocab, config: TargetConfig) -> int:
    """What the decoder reads first: bos, eos or a tag."""
    if config.begin in ("bos", "eos"):
        return vocab.bos if config.begin == "bos" else vocab.eos
    return prefix_ids(example, vocab, config.begin)[0]


def lines(text: str, vocab: Vocab, encode: Encode | None = None) -> list[int]:
    """Ids of a document, an end symbol after every line that is not empty."""
    ids: list[int] = []
    for line in text.splitlines():
        if line.strip():
            ids += [*(encode or vocab.encode)(line), vocab.eos]
    return ids


def vocab_of(context: CollateContext, view: str) -> Vocab:
    """The vocabulary of a view.

    Raises:
        StkError: the run has no such view.
    """
    if view not in context.vocabs:
        known = ", ".join(sorted(context.vocabs)) or "none"
        raise StkError(f"no vocabulary view {view!r}", mend=f"views of this run: {known}")
    return context.vocabs[view]


def source_ids(
    example: Example, config: SourceConfig, context: CollateContext, encode: Encode | None = None
) -> list[int]:
    """Ids of a text source, with prefix, eos and suffix.

    Args:
        example: has the text.
        config: of the source.
        context: has the view's vocabulary.
        encode: makes the ids of a sentence, such as noised ones; None: the vocabulary does.
    """
    vocab, text = vocab_of(context, config.source_view), getattr(example, config.source)
    encode = encode or vocab.encode
    prefix = prefix_ids(example, vocab, config.source_prefix)
    pieces = lines(text, vocab, encode) if config.source_lines else [*encode(text), vocab.eos]
    return [*prefix, *pieces, *prefix_ids(example, vocab, config.source_suffix)]


def source_size(example: Example, config: SourceConfig, context: CollateContext) -> Size:
    """Frames of a sound source, from its duration alone, or tokens of a text.

    Raises:
        StkError: the run has no features, or the duration was never measured.
    """
    if config.source != "audio":
        return Size(tokens=len(source_ids(example, config, context)))
    if context.frontend is None:
        raise StkError("the objective reads sound", mend="add the section features")
    if example.duration is None:
        raise StkError(
            f"example {example.id!r} has no duration", file=example.file, row=example.row
        )
    return Size(frames=context.frontend.frames(example.duration))


def collate_source(items: Sequence[Item], config: SourceConfig, context: CollateContext) -> Source:
    """What the encoder reads, padded: frames (or samples) of sound, or ids of text.

    Raises:
        StkError: the run has no features, or a clip is too short for the model's wave encoder.
    """
    if config.source != "audio":
        padded = Padded.stack([source_ids(item.example, config, context) for item in items])
        return Source(padded.data, padded.lengths)
    if context.frontend is None:
        raise StkError("the objective reads sound", mend="add the section features")
    waveforms = []
    for item in items:
        if item.waveform is None:
            raise ValueError(f"example {item.example.id!r} came without its waveform")
        if context.wave_lengths is not None and context.wave_lengths(len(item.waveform)) == 0:
            raise StkError(
                f"example {item.example.id!r} has {len(item.waveform)} samples, fewer than the "
                "receptive field of the model's wave encoder",
                file=item.example.file,
                row=item.example.row,
                mend="drop the row, or raise the stream's min_frames",
            )
        waveforms.append(item.waveform)
    augment = context.augment if context.training else None
    source = context.frontend(waveforms, [item.rng for item in items], augment)
    if augment is None or augment.wave_mask_share == 0.0:
        return source
    return dataclasses.replace(source, masked=_wave_masks(source, items, augment, context))


def _wave_masks(
    source: Source, items: Sequence[Item], augment: AugmentConfig, context: CollateContext
) -> Tensor:
    """``(B, T)`` boolean over the steps of the wave encoder, drawn by each row's generator.

    Raises:
        StkError: the model has no wave encoder.
    """
    if context.wave_lengths is None:
        raise StkError(
            "augment.wave_mask_share is for models with a wave encoder",
            mend="set it to 0, or specaugment for models of filterbanks",
        )
    config = SpanConfig(mask_share=augment.wave_mask_share, mask_length=augment.wave_mask_length)
    steps = context.wave_lengths(source.lengths).tolist()
    masked = torch.zeros(len(items), max(steps), dtype=torch.bool)
    for row, (item, count) in enumerate(zip(items, steps, strict=True)):
        if count >= config.shortest:
            masked[row, torch.from_numpy(draw_spans(count, config, item.rng))] = True
    return masked


def collate_target(
    items: Sequence[Item], config: TargetConfig, context: CollateContext
) -> TargetTokens:
    """Decoder input and the labels of everything but the prefix."""
    vocab = vocab_of(context, config.target_view)
    rows = [target_ids(item.example, config, vocab) for item in items]
    begins = [begin_id(item.example, vocab, config) for item in items]
    return stack_target(rows, vocab, begins, begins if config.end == "begin" else None)


def target_ids(example: Example, config: TargetConfig, vocab: Vocab) -> tuple[list[int], int]:
    """Ids between begin and end, and how many of the first are no labels."""
    prefix, text = prefix_ids(example, vocab, config.prefix), getattr(example, config.target)
    pieces = lines(text, vocab) if config.end == "begin" else vocab.encode(text)
    return [*prefix, *pieces], len(prefix)


def stack_target(
    rows: Sequence[tuple[Sequence[int], int]],
    vocab: Vocab,
    begins: Sequence[int] | None = None,
    ends: Sequence[int] | None = None,
) -> TargetTokens:
    """Decoder input and labels of rows of ids.

    Args:
        rows: for every row all ids between begin and end, and how many of the first are no labels.
        vocab: whose bos and eos go around them.
        begins: for every row what stands in place of bos.
        ends: for every row what stands in place of eos.
    """
    begins = begins or [vocab.bos] * len(rows)
    ends = ends or [vocab.eos] * len(rows)
    labels = [[*ids[silent:], end] for (ids, silent), end in zip(rows, ends, strict=True)]
    padded = Padded.stack(
        [[begin, *ids] for (ids, _), begin in zip(rows, begins, strict=True)], fill=vocab.pad
    )
    width = padded.data.shape[1]
    places = [
        torch.arange(row * width + silent, row * width + len(ids) + 1)
        for row, (ids, silent) in enumerate(rows)
    ]
    flat = torch.tensor([label for ids in labels for label in ids], dtype=torch.int64)
    return TargetTokens(padded, torch.cat(places), flat)


def require_text(example: Example, field: str) -> None:
    """Raise unless a text field holds more than white space.

    Raises:
        StkError: names the file, the row and the field.
    """
    if not getattr(example, field).strip():
        raise StkError(
            f"example {example.id!r} has an empty {field}",
            file=example.file,
            row=example.row,
            mend="drop the row, or leave bad rows out: training.skip_bad=true",
        )
