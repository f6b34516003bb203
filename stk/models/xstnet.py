"""XSTNet (Ye, Wang and Li, 2021): one encoder and one decoder for sound and text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from stk.models.bimodal import SIZES, BimodalConfig, BimodalModel


@dataclass(frozen=True, kw_only=True)
class XSTNetConfig(BimodalConfig):
    """Configuration of :class:`XSTNet`."""


class XSTNet(BimodalModel):
    """Sound or text to text; a learned vector in front of sound, a language tag in front of text.

    Tasks are streams of ``cross_entropy``: for text sources ``source_prefix: src_lang`` gives the
    tag; ``prefix: src_lang`` makes the target a transcript, ``prefix: tgt_lang`` a translation.
    """

    NAME: ClassVar[str] = "xstnet"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = SIZES

    def __init__(
        self, config: XSTNetConfig, vocab_sizes: Mapping[str, int], feature_dim: int | None
    ) -> None:
        super().__init__(config, vocab_sizes, feature_dim, audio_tag=True, audio_positions=True)
