"""Chimera (Han et al., 2021): sound and text meet in a semantic memory of fixed size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from stk.data.batch import Source
from stk.models.bimodal import SIZES, BimodalConfig, BimodalModel
from stk.models.outputs import Encoded
from stk.modules.memory import SemanticMemory


@dataclass(frozen=True, kw_only=True)
class ChimeraConfig(BimodalConfig):
    """Configuration of :class:`Chimera`: ``slots`` of memory, read by ``memory_layers``."""

    slots: int = 64
    memory_layers: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slots < 1 or self.memory_layers < 1:
            raise ValueError("slots and memory_layers must be at least 1")


class Chimera(BimodalModel):
    """Sound or text to a memory ``(B, M, D)``, from which the decoder writes.

    The objective ``bimodal`` trains it on transcribed and translated speech, ``cross_entropy`` on
    parallel text. Components: those of :class:`BimodalModel`, and ``memory.``.
    """

    NAME: ClassVar[str] = "chimera"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "base": SIZES["base"],
        "tiny": {**SIZES["tiny"], "slots": 16, "memory_layers": 2},
    }

    config: ChimeraConfig

    def __init__(
        self, config: ChimeraConfig, vocab_sizes: Mapping[str, int], feature_dim: int | None
    ) -> None:
        super().__init__(config, vocab_sizes, feature_dim, audio_tag=False, audio_positions=False)
        self.memory = SemanticMemory(config.shape, config.memory_layers, config.slots)

    def encode(self, source: Source) -> Encoded:
        """The memory of samples ``(B, N)`` or token ids ``(B, S)``: ``(B, M, D)``.

        Raises:
            StkError: a clip is shorter than the receptive field.
            ValueError: the source holds frames.
        """
        encoded = super().encode(source)
        return Encoded(*self.memory(encoded.states, encoded.lengths))
