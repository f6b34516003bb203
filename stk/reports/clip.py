"""What a model makes of one clip: log-mel frames, CTC posteriors, segments, cross-attention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from stk.config.run import FeatureConfig
from stk.data.example import Example
from stk.data.items import make_item
from stk.decoding.translator import Translator
from stk.errors import StkError
from stk.features.frontend import FrontEnd
from stk.reports.draw import Array, Runs, draw_segments, draw_spectrogram, draw_spikes, edges

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYERS_SHOWN = 3


@dataclass(frozen=True)
class ClipView:
    """One clip through one model.

    Attributes:
        text: the best output.
        pieces: its pieces as the decoder wrote them, end symbol included; ``U`` of them.
        seconds: length of the sound.
        frames: ``(T, M)`` log-mel frames.
        attention: ``(layers, U, S)`` cross-attention weights, averaged over heads; each piece's
            weights over the ``S`` encoder states sum to 1.
        ctc: ``(T', V)`` CTC posteriors, or None where the model has no CTC head.
        ctc_pieces: the ``V`` labels of ``ctc``.
        segments: ``(T',)`` which of the ``S`` states a frame of ``ctc`` went into, -1 for none; or
            None where nothing was shrunk.
        transcript: what was heard, where the model writes that too; else None.
    """

    text: str
    pieces: list[str]
    seconds: float
    frames: Array
    attention: Array
    ctc: Array | None
    ctc_pieces: list[str]
    segments: Runs | None = None
    transcript: str | None = None


def view_clip(
    translator: Translator,
    audio: str | Path,
    *,
    source_lang: str | None = None,
    target_lang: str | None = None,
) -> ClipView:
    """Translate a sound file and look at how; see :func:`view_example`.

    Args:
        translator: with a speech model; of an ensemble the first member is looked at.
        audio: the sound file.
        source_lang: where the task's tag is the source language.
        target_lang: where the task's tag is the target language.
    """
    example = Example(id="clip", audio=Path(audio), src_lang=source_lang, tgt_lang=target_lang)
    return view_example(translator, example)


@torch.inference_mode()
def view_example(translator: Translator, example: Example) -> ClipView:
    """Translate a manifest row and look at how.

    The attention is that of a teacher-forced pass over the best output, its weights computed
    beside the model for this one clip.

    Args:
        translator: with a speech model; of an ensemble the first member is looked at.
        example: a row with sound.

    Raises:
        StkError: the model reads text, or the clip cannot be read.
    """
    member = translator.members[0]
    if not member.reads_audio or member.context.frontend is None:
        raise StkError("pictures of a clip need a model of speech", file=member.name)
    (found,) = translator.translate_examples([example])
    item = make_item(example, member.context.frontend)
    vocab = member.vocab(translator.config)
    prefix = member.objective.prefix_ids(example, member.context)
    begin, _ = member.objective.frame_ids(example, member.context)
    written = [*found.nbest[0].tokens, vocab.eos]
    target = torch.tensor([[begin, *prefix, *written[:-1]]], device=member.device)
    source = member.objective.collate_source([item], member.context)
    encoded = member.model.encode(source.to(member.device))
    lengths = torch.tensor([target.shape[1]], device=member.device)
    weights = member.model.cross_attention(encoded, target, lengths)
    ctc, labels = None, []
    if encoded.ctc_logits is not None:
        ctc = encoded.ctc_logits[0].float().softmax(-1).cpu().numpy()
        ctc_vocab = member.context.vocabs[member.model.config.ctc_view]
        labels = [ctc_vocab.piece(index) for index in range(len(ctc_vocab))]
    shrunk = encoded.extra.get("segments")
    assert item.waveform is not None
    return ClipView(
        text=found.text,
        pieces=[vocab.piece(index) for index in written],
        seconds=len(item.waveform) / member.context.frontend.sample_rate,
        frames=_log_mel(item.waveform, member.context.frontend),
        attention=weights[:, 0, :, len(prefix) :].mean(dim=1).float().cpu().numpy(),
        ctc=ctc,
        ctc_pieces=labels,
        segments=None if shrunk is None else shrunk[0].cpu().numpy(),
        transcript=found.transcript,
    )


def _log_mel(waveform: torch.Tensor, frontend: FrontEnd) -> Array:
    """The model's own frames; plain log-mel ones for models that read samples."""
    if frontend.config.kind != "fbank":
        frontend = FrontEnd(FeatureConfig(sample_rate=frontend.sample_rate))
    frames: Array = frontend([waveform]).data[0].numpy()
    return frames


def ctc_picture(view: ClipView) -> Figure:
    """CTC posteriors over time, drawn over the log-mel spectrogram.

    Raises:
        StkError: the model has no CTC head.
    """
    from matplotlib.figure import Figure

    if view.ctc is None:
        raise StkError("the model has no CTC head to picture")
    figure = Figure(figsize=(10, 4), layout="constrained")
    below = figure.add_subplot()
    draw_spectrogram(below, view.frames, view.seconds, "Greys", alpha=0.5)
    draw_spikes(below.twinx(), view.ctc, view.ctc_pieces, view.seconds)
    below.set_title(view.text, parse_math=False)
    return figure


def attention_picture(view: ClipView) -> Figure:
    """Cross-attention of the last decoder layers below the clip's log-mel spectrogram."""
    from matplotlib.figure import Figure

    layers = list(enumerate(view.attention, start=1))[-LAYERS_SHOWN:]
    tall = max(1.5, 0.2 * len(view.pieces))
    figure = Figure(figsize=(10, 2 + tall * len(layers)), layout="constrained")
    rows = figure.subplots(
        len(layers) + 1, 1, sharex=True, height_ratios=[1.5, *[tall] * len(layers)]
    )
    draw_spectrogram(rows[0], view.frames, view.seconds, "magma")
    rows[0].set_title(view.text, parse_math=False)
    for axes, (number, weights) in zip(rows[1:], layers, strict=True):
        extent = (0, view.seconds, len(weights) - 0.5, -0.5)
        axes.imshow(
            weights, aspect="auto", extent=extent, cmap="viridis", interpolation="nearest", vmin=0
        )
        axes.set_yticks(range(len(view.pieces)), view.pieces, fontsize=8, parse_math=False)
        axes.set_ylabel(f"layer {number}")
    rows[0].set_xlabel("")
    rows[-1].set_xlabel("seconds")
    return figure


def clip_picture(view: ClipView) -> Figure:
    """One clip from sound to text, on one time axis.

    From above: log-mel spectrogram; CTC spikes, where there is a CTC head; the segments that
    shrinking made of them, where the model shrinks; the last decoder layer's cross-attention, mean
    over heads. The attention to a segment fills the time from its first frame to the next one's.
    """
    from matplotlib.figure import Figure

    heights = {
        "sound": 1.5,
        "ctc": 1.8,
        "segments": 0.6,
        "attention": 0.18 * len(view.pieces) + 0.5,
    }
    if view.ctc is None:
        del heights["ctc"]
    if view.ctc is None or view.segments is None:
        del heights["segments"]
    figure = Figure(figsize=(11, 1 + sum(heights.values())), layout="constrained")
    found = figure.subplots(len(heights), 1, sharex=True, height_ratios=list(heights.values()))
    rows = dict(zip(heights, found, strict=True))
    draw_spectrogram(rows["sound"], view.frames, view.seconds, "magma")
    if view.ctc is not None:
        draw_spikes(rows["ctc"], view.ctc, view.ctc_pieces, view.seconds)
    bounds = None
    if view.ctc is not None and view.segments is not None:
        labels = [view.ctc_pieces[index] for index in view.ctc.argmax(axis=1)]
        draw_segments(rows["segments"], view.segments, labels, view.seconds)
        bounds = edges(view.segments, view.seconds)
    axes, weights = rows["attention"], view.attention[-1]
    if bounds is None:
        bounds = edges(range(weights.shape[1]), view.seconds)
    axes.pcolormesh(bounds, [i - 0.5 for i in range(len(weights) + 1)], weights, vmin=0)
    axes.set_yticks(range(len(view.pieces)), view.pieces, fontsize=8, parse_math=False)
    axes.set(ylim=(len(weights) - 0.5, -0.5), ylabel=f"attention, layer {len(view.attention)}")
    for axes in found:
        axes.set_xlabel("")
    found[-1].set(xlabel="seconds", xlim=(0, view.seconds))
    said = view.text if view.transcript is None else f"{view.transcript} \u2192 {view.text}"
    figure.suptitle(said, parse_math=False, wrap=True)
    return figure
