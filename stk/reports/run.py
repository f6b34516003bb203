"""The report of a run: what was measured, example outputs, learning curve, one clip looked into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stk.decoding.translator import Translator
from stk.reports.clip import attention_picture, ctc_picture, view_clip
from stk.reports.curve import learning_curve
from stk.reports.page import Note, Part, Picture, Table
from stk.scoring.files import Outputs, References, align


def score_table(scores: Sequence[Mapping[str, Any]]) -> Table:
    """The figures that ``stk-score --json`` wrote (its key ``scores``)."""
    rows = [
        [
            Path(str(score["system"])).stem + (f" ({score['group']})" if score["group"] else ""),
            score["name"],
            f"{score['value']:.2f}",
            str(score["sentences"]),
            score["signature"],
        ]
        for score in scores
    ]
    return Table("Scores", ("outputs", "metric", "value", "sentences", "signature"), rows)


def figure_table(figures: Mapping[str, Any]) -> Table:
    """Names and values, such as ``stk-decode --summary`` writes; what is None is left out."""
    rows = [
        [name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value)]
        for name, value in figures.items()
        if value is not None
    ]
    return Table("Figures", ("figure", "value"), rows)


def example_table(outputs: Outputs, references: References, count: int = 5) -> Table:
    """Outputs beside references, spread evenly over the test set."""
    texts = align(outputs, references)
    total = len(texts)
    chosen = sorted({index * total // count for index in range(count)}) if total else []
    rows = []
    for index in chosen:
        heard = references.rows[index].src_text if references.rows is not None else None
        rows.append([heard or "", references.texts[index], texts[index]])
    return Table("Examples", ("source", "reference", "output"), rows)


def clip_parts(
    translator: Translator,
    audio: str | Path,
    *,
    source_lang: str | None = None,
    target_lang: str | None = None,
) -> list[Part]:
    """Pictures of one clip: CTC posteriors where there is a CTC head, and cross-attention."""
    view = view_clip(translator, audio, source_lang=source_lang, target_lang=target_lang)
    name = Path(audio).name
    parts: list[Part] = []
    if view.ctc is None:
        parts.append(Note("The model has no CTC head, so there are no posteriors to show."))
    else:
        caption = f"{name}: labels where they are likely, over the log-mel spectrogram."
        parts.append(Picture("ctc", "CTC posteriors", caption, ctc_picture(view)))
    caption = f"{name}: where the decoder looks as it writes each piece, mean over heads."
    parts.append(Picture("attention", "Cross-attention", caption, attention_picture(view)))
    return parts


def curve_part(run: str | Path) -> Picture:
    """The learning curve."""
    caption = "Loss per token, and scores of decoded validation where the run has them."
    return Picture("curve", "Learning curve", caption, learning_curve(run))
