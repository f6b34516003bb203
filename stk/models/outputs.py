"""Typed outputs of models and the small protocols that decoding relies on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor

from stk.data.batch import Movable, Source


@dataclass(frozen=True)
class Encoded(Movable):
    """What an encoder hands to a decoder.

    Attributes:
        states: ``(B, T, D)``.
        lengths: ``(B,)`` int64, real states of each row.
        ctc_logits: ``(B, T', V)`` unnormalised CTC scores (blank is id 0), or None.
        ctc_lengths: ``(B,)`` int64, frames of ``ctc_logits``.
        extra: further tensors of one family of models, by name.
    """

    states: Tensor
    lengths: Tensor
    ctc_logits: Tensor | None = None
    ctc_lengths: Tensor | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decoded(Movable):
    """Teacher-forced decoder output: ``logits (B, U, V)`` and the states ``(B, U, D)`` below."""

    logits: Tensor
    states: Tensor


class DecoderState(Protocol):
    """Caches of a running search over ``B`` sentences times ``K`` hypotheses."""

    def reorder(self, hypotheses: Tensor, sentences: Tensor | None = None) -> Self:
        """The state for the chosen hypotheses of the kept sentences.

        Args:
            hypotheses: ``(B, K')`` int64 in [0, K): the hypothesis each new one continues.
            sentences: ``(B',)`` int64 in [0, B), the sentences still searched, in order
                (None: all); taken after ``hypotheses`` was applied.
        """
        ...


@runtime_checkable
class Autoregressive(Protocol):
    """What beam search asks of a model; memory is kept once a sentence, not once a hypothesis."""

    def encode(self, source: Source) -> Encoded:
        """Encode a padded batch."""
        ...

    def decode(self, encoded: Encoded, target: Tensor, target_lengths: Tensor) -> Decoded:
        """Teacher-forced pass over ``target (B, U)`` (begin symbol and prefix included)."""
        ...

    def decode_states(self, encoded: Encoded, target: Tensor, target_lengths: Tensor) -> Tensor:
        """The same pass up to the states ``(B, U, D)``; :meth:`project` gives their logits."""
        ...

    def project(self, states: Tensor) -> Tensor:
        """Logits ``(..., V)`` of states ``(..., D)``; losses project the real positions alone."""
        ...

    def start(self, encoded: Encoded) -> Any:
        """A :class:`DecoderState` with one hypothesis a sentence and nothing read."""
        ...

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read ``tokens (B, K)``; return logits ``(B, K, V)`` for what follows, and the state."""
        ...


@runtime_checkable
class NonAutoregressive(Protocol):
    """What mask-predict decoding asks of a model."""

    def encode(self, source: Source) -> Encoded:
        """Encode a padded batch."""
        ...

    def lengths(self, encoded: Encoded) -> Tensor:
        """Logits ``(B, L)`` over target lengths 0..L-1."""
        ...

    def refine(self, encoded: Encoded, target: Tensor, target_lengths: Tensor) -> Tensor:
        """Logits ``(B, U, V)`` for every position of a partly masked target."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """What simultaneous decoding asks of a model: an encoder that carries a state."""

    def encode_chunk(self, chunk: Source, state: Any | None) -> tuple[Encoded, Any]:
        """Encode the next chunk; return the new states alone and the state to carry on."""
        ...
