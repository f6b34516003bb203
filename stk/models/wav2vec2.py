"""wav2vec 2.0 (Baevski et al., 2020): an encoder for samples that learns from sound alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from stk.data.batch import Source
from stk.models.outputs import Encoded
from stk.models.wave import WAVE_PRESETS, need_waveform, samples_of
from stk.modules.dropout import dropout
from stk.modules.linear import linear
from stk.modules.quantizer import ProductQuantizer, QuantizerOutput, TemperatureSchedule
from stk.modules.wave_encoder import WaveEncoder, WaveShape


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2Config(WaveShape):
    """Configuration of :class:`Wav2Vec2`: a wave encoder, and the quantiser of its targets.

    ``groups`` times ``codes`` codes give targets of width ``target_dim``; ``feature_dropout`` acts
    on what is quantised. The temperature falls from ``temperature_start`` by the factor
    ``temperature_decay`` an update to ``temperature_end``.
    """

    groups: int = 2
    codes: int = 320
    target_dim: int = 256
    feature_dropout: float = 0.1
    temperature_start: float = 2.0
    temperature_end: float = 0.5
    temperature_decay: float = 0.999995

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.groups, self.codes, self.target_dim) < 1:
            raise ValueError("groups, codes, target_dim must be at least 1")
        if self.target_dim % self.groups:
            raise ValueError("target_dim must be a multiple of groups")
        if not 0.0 <= self.feature_dropout < 1.0:
            raise ValueError("feature_dropout must lie in [0, 1)")

    @property
    def temperature(self) -> TemperatureSchedule:
        """Of the Gumbel noise, over updates."""
        return TemperatureSchedule(
            start=self.temperature_start, end=self.temperature_end, decay=self.temperature_decay
        )


class Contrast(NamedTuple):
    """What :meth:`Wav2Vec2.contrast` returns."""

    predicted: Tensor
    """``(B, M, E)``: what the context predicts at each masked step."""
    targets: Tensor
    """``(B, M, E)``: the quantised features there."""
    quantized: QuantizerOutput
    """Codes ``(B, M, G)``, probabilities and counts ``(G, V)`` of the masked steps."""
    energy: Tensor
    """0-dim fp32: over real frames, the sum of their mean squared features."""


class Wav2Vec2(nn.Module):
    """Samples to states, pre-trained by telling masked steps' quantised features from others'.

    Components, by prefix of their parameters' names: ``encoder.`` (fits into every model with a
    wave encoder), ``quantizer.``, ``target.``, ``context.``.

    Args:
        config: sizes.
        vocab_sizes: not used; there is no text.
        feature_dim: 1, as samples have it.

    Attributes:
        wave_lengths: states as a function of samples; it holds no tensors.
        waveform_normalized: whether clips must have zero mean and unit variance.

    Raises:
        StkError: the run's features are no samples.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "base": WAVE_PRESETS["base"],
        "large": {
            **WAVE_PRESETS["large"],
            "target_dim": 768,
            "feature_dropout": 0.0,
            "temperature_end": 0.1,
        },
        **{
            name: {**WAVE_PRESETS[name], "codes": 64, "target_dim": 64}
            for name in ("tiny", "tiny_wide")
        },
    }

    def __init__(
        self,
        config: Wav2Vec2Config,
        vocab_sizes: Mapping[str, int] | None = None,
        feature_dim: int | None = 1,
    ) -> None:
        super().__init__()
        need_waveform("wav2vec2", feature_dim)
        self.config, self.feature_dropout = config, config.feature_dropout
        self.encoder = WaveEncoder(config)
        self.wave_lengths = self.encoder.extractor.lengths
        self.waveform_normalized = config.normalized
        self.quantizer = ProductQuantizer(
            self.encoder.extractor.width,
            groups=config.groups,
            codes=config.codes,
            code_dim=config.target_dim // config.groups,
            temperature=config.temperature,
        )
        self.target = linear(config.target_dim, config.target_dim)
        self.context = linear(config.width, config.target_dim)

    def encode(self, source: Source) -> Encoded:
        """Encode ``source.data (B, N)`` samples.

        Raises:
            StkError: the source is text, or a clip is shorter than the receptive field.
        """
        return Encoded(*self.encoder(*samples_of("wav2vec2", source), source.masked))

    def contrast(
        self, source: Source, places: Tensor, *, step: int = 0, seed: int | None = None
    ) -> Contrast:
        """Predictions and targets at masked steps.

        Args:
            source: samples ``(B, N)``.
            places: ``(B, M)`` int64, distinct real frames of each row, which are masked.
            step: updates done, for the temperature.
            seed: of the Gumbel noise; None draws one.

        Raises:
            StkError: as for :meth:`encode`.
        """
        frames, lengths = self.encoder.features(*samples_of("wav2vec2", source))
        energy = frames.float().square().mean(-1).sum()
        normed = self.encoder.feature_norm(frames)
        masked = torch.zeros(normed.shape[:2], dtype=torch.bool, device=normed.device)
        masked = masked.scatter(1, places, True)
        states = self.encoder.contextualize(normed, lengths, masked)
        chosen = _at(normed, places)
        chosen = dropout(chosen, self.feature_dropout, self.training)
        quantized = self.quantizer(chosen, step=step, seed=seed)
        targets = self.target(quantized.vectors.to(chosen.dtype))
        return Contrast(self.context(_at(states, places)), targets, quantized, energy)

    @property
    def activation_checkpointing(self) -> bool:
        """Whether training recomputes layers in the backward pass, to save memory; settable."""
        return self.encoder.stack.activation_checkpointing

    @activation_checkpointing.setter
    def activation_checkpointing(self, on: bool) -> None:
        self.encoder.stack.activation_checkpointing = on


def _at(x: Tensor, places: Tensor) -> Tensor:
    """``x (B, T, D)`` at ``places (B, M)``: ``(B, M, D)``."""
    return x.gather(1, places[:, :, None].expand(-1, -1, x.shape[-1]))
