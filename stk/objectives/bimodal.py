"""Speech translation, text translation, and the likeness of their memories (Han et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stk.data.batch import Item, Size, Source
from stk.data.example import Example
from stk.errors import StkError
from stk.objectives import task
from stk.objectives.base import CollateContext, Context, Sum
from stk.objectives.cross_entropy import target_length, target_sums, with_tokens
from stk.objectives.sequence import SequenceBatch, SequenceObjective, Weight, weight_of


@dataclass(frozen=True, kw_only=True)
class BimodalObjectiveConfig(task.SourceConfig, task.TargetConfig):
    """Configuration of :class:`Bimodal`.

    ``source`` is sound, ``text`` the field with its transcript, read through ``source_view`` with
    ``source_prefix`` in front. ``st``, ``mt`` and ``contrast`` are weights, numbers or scheduled
    scalars; similarities of memories are divided by ``temperature``.
    """

    source: Literal["audio"] = "audio"
    text: task.TextField = "src_text"
    smoothing: float = 0.1
    st: Weight = 1.0
    mt: Weight = 1.0
    contrast: Weight = 1.0
    temperature: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError("smoothing must lie in [0, 1)")
        if self.temperature <= 0.0:
            raise ValueError("temperature must be above 0")


@dataclass(frozen=True, kw_only=True)
class BimodalBatch(SequenceBatch):
    """Sound, its transcript ``text``, and the target of both."""

    text: Source


class Bimodal(SequenceObjective[BimodalObjectiveConfig]):
    """Both sources are encoded and decoded; the memories of one sentence are drawn together.

    Sums ``st`` and ``mt`` (label-smoothed cross-entropy) and ``contrast`` per ``tokens``; metrics
    ``st_nll``, ``st_accuracy``, ``mt_nll``, ``mt_accuracy`` per ``tokens``. Decoding reads sound.

    Args:
        config: its configuration.
    """

    texts: ClassVar[tuple[str, ...]] = ("text", "target")

    def __init__(self, config: BimodalObjectiveConfig) -> None:
        super().__init__(config)
        self.needs = self.needs | task.prefix_fields(config.source_prefix)  # type: ignore[misc]
        self.text = task.SourceConfig(
            source=config.text,
            source_view=config.source_view,
            source_prefix=config.source_prefix,
        )

    def size(self, example: Example, context: CollateContext) -> Size:
        """Frames of the sound, tokens of the longer text."""
        size = task.source_size(example, self.config, context)
        size = with_tokens(size, task.source_size(example, self.text, context).tokens)
        return with_tokens(size, target_length(example, self.config, context))

    def collate(self, items: Sequence[Item], context: CollateContext) -> BimodalBatch:
        """Sound, transcript, decoder input and labels."""
        target = task.collate_target(items, self.config, context)
        return BimodalBatch(
            ids=tuple(item.example.id for item in items),
            source=self.collate_source(items, context),
            text=task.collate_source(items, self.text, context),
            target=target,
            sizes={"examples": len(items), "tokens": len(target.labels)},
        )

    def forward(self, model: Any, batch: SequenceBatch, context: Context) -> dict[str, Sum]:
        """``st``, ``mt``, ``contrast``, and metrics.

        Raises:
            StkError: the model has no memory of fixed size.
        """
        assert isinstance(batch, BimodalBatch) and batch.target is not None
        config = self.config
        sums: dict[str, Sum] = {}
        heard, read = model.encode(batch.source), model.encode(batch.text)
        if heard.states.shape != read.states.shape or not hasattr(model, "memory"):
            raise StkError(
                "the objective bimodal needs a model whose memory has one size for sound and text",
                mend="use model: {name: chimera}",
            )
        for name, encoded in (("st", heard), ("mt", read)):
            weight = weight_of(getattr(config, name), context.scalars)
            parts = target_sums(model, encoded, batch.target, config.smoothing, weight, name)
            sums |= {key if key == name else f"{name}_{key}": s for key, s in parts.items()}
        loss = memory_contrast(heard.states, read.states, config.temperature)
        sums["contrast"] = Sum(loss, "tokens", weight_of(config.contrast, context.scalars))
        return sums


def memory_contrast(heard: Tensor, read: Tensor, temperature: float) -> Tensor:
    """``-sum_i log softmax_j cos(heard_i, read_j) / temperature`` at j = i, over all sentences.

    Each slot of what was heard is to find its own slot among those of the text of the same
    sentence.

    Args:
        heard: ``(B, M, D)``.
        read: ``(B, M, D)``.
        temperature: above 0.

    Returns:
        0-dim fp32 (fp64 for fp64).
    """
    wide = torch.promote_types(heard.dtype, torch.float32)
    with torch.autocast(heard.device.type, enabled=False):
        mine, theirs = F.normalize(heard.to(wide), dim=-1), F.normalize(read.to(wide), dim=-1)
        scores = torch.bmm(mine, theirs.transpose(1, 2)) / temperature
        return -scores.log_softmax(-1).diagonal(dim1=1, dim2=2).sum()
