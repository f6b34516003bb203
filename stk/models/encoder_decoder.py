"""What the encoder-decoder Transformers share: decoding, the CTC head, training switches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from stk.data.batch import Source
from stk.errors import StkError
from stk.models.outputs import Decoded, Encoded
from stk.modules.attention import CrossAttention
from stk.modules.ctc_head import CtcHead
from stk.modules.decoder import Decoder, TransformerState
from stk.modules.lengths import LengthFormula
from stk.modules.rows import Rows
from stk.modules.transformer import Activation, EncoderStack, LayerShape, Norm


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes of an encoder-decoder Transformer.

    ``attention_dropout`` and ``activation_dropout`` are ``dropout`` where they are None.
    ``ctc_layer`` puts a CTC head on that encoder layer, counted from 1, over the vocabulary
    ``ctc_view``. ``positions: sinusoidal_exact`` has the wavelengths of the paper's formula and of
    Marian, which differ a little from the usual ones. ``max_positions`` bounds learned ones alone.
    """

    encoder_layers: int
    decoder_layers: int
    width: int
    ffn: int
    heads: int
    norm: Norm = "pre"
    activation: Activation = "relu"
    dropout: float = 0.1
    attention_dropout: float | None = None
    activation_dropout: float | None = None
    positions: Literal["sinusoidal", "sinusoidal_exact", "learned"] = "sinusoidal"
    max_positions: int = 1024
    target_view: str = "tgt"
    ctc_layer: int | None = None
    ctc_view: str = "ctc"

    def __post_init__(self) -> None:
        for name in ("encoder_layers", "decoder_layers", "width", "ffn", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if not 0.0 <= (getattr(self, name) or 0.0) < 1.0:
                raise ValueError(f"{name} must lie in [0, 1)")
        if self.ctc_layer is not None and not 1 <= self.ctc_layer <= self.encoder_layers:
            raise ValueError(f"ctc_layer must lie between 1 and {self.encoder_layers}")

    @property
    def shape(self) -> LayerShape:
        """The shape of this model's layers."""
        attention, inner = self.attention_dropout, self.activation_dropout
        return LayerShape(
            width=self.width,
            ffn=self.ffn,
            heads=self.heads,
            dropout=self.dropout,
            attention_dropout=self.dropout if attention is None else attention,
            activation_dropout=self.dropout if inner is None else inner,
            norm=self.norm,
            activation=self.activation,
        )


def vocab_size(vocab_sizes: Mapping[str, int], view: str) -> int:
    """Size of the vocabulary of a view.

    Raises:
        StkError: the run has no such view.
    """
    if view not in vocab_sizes:
        known = ", ".join(sorted(vocab_sizes)) or "none"
        raise StkError(
            f"the model needs the vocabulary view {view!r}",
            mend=f"views of this run: {known}; add it under vocabularies",
        )
    return vocab_sizes[view]


def run_stack(
    stack: EncoderStack,
    x: Tensor,
    rows: Rows,
    tap: int | None,
    visible: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Run an encoder stack over ``x``, packed by ``rows``; ``visible`` as the stack reads it.

    Returns:
        The output ``(B, T, D)``, zero in the padding, and likewise that of layer ``tap`` (None
        without one). The tapped last layer is the output itself, final norm included.
    """
    x, tapped = stack(x, rows, visible, () if tap is None else (tap,))
    states = rows.clean(x)
    if tap is None:
        return states, None
    return states, states if tap == len(stack.layers) else rows.clean(tapped[tap])


class EncoderDecoder(nn.Module, ABC):
    """An encoder (of a subclass), a Transformer decoder, and at will a CTC head.

    It follows the protocol :class:`stk.models.outputs.Autoregressive`. Components, by prefix of
    their parameters' names: ``encoder.``, ``decoder.``, ``ctc.``.

    Attributes:
        config: what it was built from.
        ctc_lengths: CTC length as a function of what the source counts (10 ms frames, samples where
            the model reads these, or tokens), or None without a CTC head. It holds no tensors.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    """Preset name -> configuration keys it stands for."""

    encoder: nn.Module
    decoder: Decoder
    ctc: CtcHead | None
    ctc_lengths: LengthFormula | None

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.ctc, self.ctc_lengths = None, None

    def add_ctc(self, size: int, lengths: LengthFormula, width: int | None = None) -> None:
        """Put the CTC head on; ``lengths`` gives its frames from those of the source.

        Args:
            size: of the vocabulary, blank included.
            lengths: frames as a function of what the source counts.
            width: of the states it reads; None: the model's.
        """
        inner = self.config.ctc_layer != self.config.encoder_layers
        normalize = inner and self.config.norm == "pre"
        self.ctc = CtcHead(width or self.config.width, size, normalize=normalize)
        self.ctc_lengths = lengths

    def with_ctc(self, states: Tensor, lengths: Tensor, tapped: Tensor | None) -> Encoded:
        """The encoder's output, with CTC scores of the tapped layer where there is a head."""
        if self.ctc is None or tapped is None:
            return Encoded(states, lengths)
        return Encoded(states, lengths, self.ctc(tapped), lengths)

    @abstractmethod
    def encode(self, source: Source) -> Encoded:
        """Encode a padded batch; states are zero in the padding."""

    def decode_states(
        self,
        encoded: Encoded,
        target: Tensor,
        target_lengths: Tensor,
        memory_visible: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Teacher-forced decoder states ``(B, U, D)``, which :meth:`project` turns into logits.

        Args:
            encoded: what :meth:`encode` returned.
            target: ``(B, U)`` int64, begin symbol and prefix included.
            target_lengths: ``(B,)`` int64.
            memory_visible: ``(1, U)`` or ``(B, U)`` int64, encoder states each position sees;
                None: all.
            places: ``(B, U)`` int64 positions of the target's tokens; None: one after another.
        """
        return self.decoder(
            target,
            target_lengths,
            encoded.states,
            encoded.lengths,
            memory_visible,
            places=places,
            languages=encoded.extra.get("target_languages"),
        )

    def project(self, states: Tensor) -> Tensor:
        """Logits ``(..., V)`` of decoder states ``(..., D)``, of any leading shape."""
        return self.decoder.project(states)

    def decode(self, encoded: Encoded, target: Tensor, target_lengths: Tensor) -> Decoded:
        """Teacher-forced pass over ``target (B, U)`` int64, begin symbol and prefix included."""
        states = self.decode_states(encoded, target, target_lengths)
        return Decoded(self.project(states), states)

    def start(self, encoded: Encoded) -> TransformerState:
        """A search state with one hypothesis a sentence and nothing read."""
        languages = encoded.extra.get("target_languages")
        return self.decoder.start(encoded.states, encoded.lengths, languages)

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """Read ``tokens (B, K)`` int64; return logits ``(B, K, V)`` of what follows, and the state.

        Call it in evaluation mode; the first step after :meth:`start` has ``K = 1``.
        """
        return self.decoder.step(tokens, state)

    def cross_attention(self, encoded: Encoded, target: Tensor, target_lengths: Tensor) -> Tensor:
        """Cross-attention weights ``(layers, B, H, U, S)`` of a teacher-forced pass, for pictures.

        Arguments are those of :meth:`decode`. Memory grows with ``U * S``.
        """
        weights: list[Tensor] = []

        def record(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            assert isinstance(module, CrossAttention)
            weights.append(module.weights(*arguments))

        handles = [
            module.register_forward_pre_hook(record)
            for module in self.decoder.modules()
            if isinstance(module, CrossAttention)
        ]
        try:
            self.decode_states(encoded, target, target_lengths)
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(weights)

    @property
    def activation_checkpointing(self) -> bool:
        """Whether training recomputes layers in the backward pass, to save memory; settable."""
        return self.decoder.activation_checkpointing

    @activation_checkpointing.setter
    def activation_checkpointing(self, on: bool) -> None:
        for module in self.modules():
            if isinstance(module, (EncoderStack, Decoder)):
                module.activation_checkpointing = on
