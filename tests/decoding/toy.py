"""A tiny recurrent model that keeps the decoding protocol, small enough to enumerate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from stk.data.batch import Padded, Source
from stk.decoding.beam import Symbols
from stk.models.outputs import Decoded, Encoded

PAD, UNK, BOS, EOS, A, B = range(6)
VOCAB = 6
SYMBOLS = Symbols(bos=BOS, eos=EOS, forbidden=(PAD, BOS))
WORDS = (UNK, A, B)


@dataclass
class ToyState:
    memory: Tensor  # (B, 1, D), once a sentence
    hidden: Tensor  # (B, K, D)

    def reorder(self, hypotheses: Tensor, sentences: Tensor | None = None) -> ToyState:
        index = hypotheses[:, :, None].expand(-1, -1, self.hidden.size(2))
        memory, hidden = self.memory, self.hidden.gather(1, index)
        if sentences is not None:
            memory, hidden = memory[sentences], hidden[sentences]
        return ToyState(memory, hidden)


class ToyModel:
    """``h' = tanh(W h + E[token] + mean of the source)``, ``logits = O h'``; seeded weights."""

    def __init__(self, seed: int = 0, width: int = 8, sharpness: float = 3.0) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.recurrent = torch.randn(width, width, generator=rng) * 0.7
        self.embedding = torch.randn(VOCAB, width, generator=rng)
        self.output = torch.randn(width, VOCAB, generator=rng) * sharpness / width**0.5
        self.ctc = torch.randn(width, VOCAB, generator=rng)

    def encode(self, source: Source) -> Encoded:
        real = torch.arange(source.data.size(1)) < source.lengths[:, None]
        states = source.data * real[:, :, None]
        return Encoded(states, source.lengths, states @ self.ctc, source.lengths)

    def start(self, encoded: Encoded) -> ToyState:
        mean = encoded.states.sum(1, keepdim=True) / encoded.lengths[:, None, None]
        return ToyState(mean, torch.zeros_like(mean))

    def step(self, tokens: Tensor, state: ToyState) -> tuple[Tensor, ToyState]:
        inner = state.hidden @ self.recurrent + self.embedding[tokens] + state.memory
        hidden = torch.tanh(inner)
        return hidden @ self.output, ToyState(state.memory, hidden)

    def decode(self, encoded: Encoded, target: Tensor, target_lengths: Tensor) -> Decoded:
        state, logits, states = self.start(encoded), [], []
        for u in range(target.size(1)):
            out, state = self.step(target[:, u : u + 1], state)
            logits.append(out)
            states.append(state.hidden)
        return Decoded(torch.cat(logits, dim=1), torch.cat(states, dim=1))


def sources(count: int, seed: int = 1, width: int = 8) -> list[Tensor]:
    """Clips ``(T_i, D)`` of differing lengths."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(3 + i % 4, width, generator=rng) for i in range(count)]


def batch(clips: Sequence[Tensor]) -> Source:
    padded = Padded.stack(list(clips))
    return Source(padded.data, padded.lengths)


def log_prob(model: ToyModel, clip: Tensor, read: Sequence[int], written: Sequence[int]) -> float:
    """Teacher-forced ``log p(written | bos, read)``, one sentence alone."""
    target = torch.tensor([[BOS, *read, *written]])
    encoded = model.encode(batch([clip]))
    logits = model.decode(encoded, target[:, :-1], torch.tensor([target.size(1) - 1])).logits[0]
    picked = logits.log_softmax(-1).gather(1, target[0, 1:, None])[:, 0]
    return float(picked[len(read) :].sum())


def enumerate_outputs(limit: int) -> list[tuple[int, ...]]:
    """Every output of at most ``limit`` words."""
    return [words for n in range(limit + 1) for words in product(WORDS, repeat=n)]
