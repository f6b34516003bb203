"""What a model makes of one clip: log-mel frames, CTC posteriors, cross-attention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from stk.config.run import FeatureConfig
from stk.data.example import Example
from stk.data.items import make_item
from stk.decoding.translator import Translator
from stk.errors import StkError
from stk.features.frontend import FrontEnd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float32]
LAYERS_SHOWN = 3
LABELS_SHOWN = 0.2
"""Labels whose CTC posterior reaches this somewhere get a curve."""


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
    """

    text: str
    pieces: list[str]
    seconds: float
    frames: Array
    attention: Array
    ctc: Array | None
    ctc_pieces: list[str]


@torch.inference_mode()
def view_clip(
    translator: Translator,
    audio: str | Path,
    *,
    source_lang: str | None = None,
    target_lang: str | None = None,
) -> ClipView:
    """Translate a clip and look at how.

    The attention is that of a teacher-forced pass over the best output, its weights computed
    beside the model for this one clip.

    Args:
        translator: with a speech model; of an ensemble the first member is looked at.
        audio: the sound file.
        source_lang: where the task's tag is the source language.
        target_lang: where the task's tag is the target language.

    Raises:
        StkError: the model reads text, or the clip cannot be read.
    """
    member = translator.members[0]
    if not member.reads_audio or member.context.frontend is None:
        raise StkError("pictures of a clip need a model of speech", file=member.name)
    found = translator.translate(audio, source_lang=source_lang, target_lang=target_lang)
    example = Example(id="clip", audio=Path(audio), src_lang=source_lang, tgt_lang=target_lang)
    item = make_item(example, member.context.frontend)
    vocab = member.vocab(translator.config)
    prefix = member.objective.prefix_ids(example, member.context)
    written = [*found.nbest[0].tokens, vocab.eos]
    target = torch.tensor([[vocab.bos, *prefix, *written[:-1]]], device=member.device)
    source = member.objective.collate_source([item], member.context)
    encoded = member.model.encode(source.to(member.device))
    lengths = torch.tensor([target.shape[1]], device=member.device)
    weights = member.model.cross_attention(encoded, target, lengths)
    ctc, labels = None, []
    if encoded.ctc_logits is not None:
        ctc = encoded.ctc_logits[0].float().softmax(-1).cpu().numpy()
        ctc_vocab = member.context.vocabs[member.model.config.ctc_view]
        labels = [ctc_vocab.piece(index) for index in range(len(ctc_vocab))]
    assert item.waveform is not None
    return ClipView(
        text=found.text,
        pieces=[vocab.piece(index) for index in written],
        seconds=len(item.waveform) / member.context.frontend.sample_rate,
        frames=_log_mel(item.waveform, member.context.frontend),
        attention=weights[:, 0, :, len(prefix) :].mean(dim=1).float().cpu().numpy(),
        ctc=ctc,
        ctc_pieces=labels,
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
    _spectrogram(below, view, "Greys", alpha=0.5)
    axes = below.twinx()
    axes.set(ylabel="CTC posterior", ylim=(0, 1.12))
    times = (np.arange(len(view.ctc)) + 0.5) * view.seconds / len(view.ctc)
    axes.plot(times, view.ctc[:, 0], color="tab:gray", linestyle=":", label="blank")
    reached = view.ctc.max(axis=0)
    for index in np.flatnonzero(reached >= LABELS_SHOWN):
        if index == 0:
            continue
        (line,) = axes.plot(times, view.ctc[:, index], linewidth=1.6)
        for peak in _peaks(view.ctc[:, index]):
            axes.annotate(
                view.ctc_pieces[index],
                (times[peak], view.ctc[peak, index]),
                ha="center",
                va="bottom",
                color=line.get_color(),
                bbox={"color": "white", "alpha": 0.7, "pad": 0.5},
                parse_math=False,
            )
    axes.legend(loc="upper right")
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
    _spectrogram(rows[0], view, "magma")
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


def _spectrogram(axes: Axes, view: ClipView, cmap: str, alpha: float = 1.0) -> None:
    extent = (0, view.seconds, 0, view.frames.shape[1])
    axes.imshow(view.frames.T, origin="lower", aspect="auto", extent=extent, cmap=cmap, alpha=alpha)
    axes.set(xlabel="seconds", ylabel="mel band")


def _peaks(curve: NDArray[Any]) -> list[int]:
    """Where a curve is highest within each run of frames above the threshold."""
    above = np.flatnonzero(curve >= LABELS_SHOWN)
    runs = np.split(above, np.flatnonzero(np.diff(above) > 1) + 1)
    return [int(run[curve[run].argmax()]) for run in runs if len(run)]
