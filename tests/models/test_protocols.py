"""The three decoding protocols, each used by a small model that follows it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stk.data.batch import Padded, Source
from stk.models.outputs import Autoregressive, Encoded, NonAutoregressive, Streaming
from stk.models.registry import MODELS, build_model

MASK = 4
WORDS = 12


class Doubling:
    """Writes every source token twice; is sure only of what stands beside a known token."""

    def encode(self, source: Source) -> Encoded:
        states = functional.one_hot(source.data, WORDS).float()
        return Encoded(states, source.lengths)

    def lengths(self, encoded: Encoded) -> Tensor:
        return functional.one_hot(2 * encoded.lengths, 2 * encoded.states.shape[1] + 1).float()

    def refine(self, encoded: Encoded, target: Tensor, target_lengths: Tensor) -> Tensor:
        wanted = encoded.states.repeat_interleave(2, dim=1)[:, : target.shape[1]]
        known = functional.pad((target != MASK).float(), (1, 1))
        beside = 1.0 + known[:, :-2] + known[:, 2:]
        return wanted * beside[..., None]


def mask_predict(model: NonAutoregressive, source: Source, turns: int) -> tuple[Tensor, Tensor]:
    """Fill in everything, hide the least certain half again, fill it in (Ghazvininejad et al.,
    2019): tokens ``(B, U)`` with 0 in the padding, and their lengths."""
    encoded = model.encode(source)
    lengths = model.lengths(encoded).argmax(-1)
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    tokens = torch.where(real, MASK, 0)
    for turn in range(turns):
        scores, found = model.refine(encoded, tokens, lengths).max(-1)
        tokens = torch.where(real & (tokens == MASK), found, tokens)
        if turn + 1 < turns:
            unsure = scores.masked_fill(~real, torch.inf).argsort(-1)[:, : tokens.shape[1] // 2]
            hidden = torch.zeros_like(real).scatter(1, unsure, True) & real
            tokens = torch.where(hidden, MASK, tokens)
    return tokens, lengths


@pytest.mark.parametrize("turns", [1, 3])
def test_non_autoregressive(turns: int) -> None:
    rows = Padded.stack([[5, 6, 7], [8, 9, 10, 11], [5]])
    tokens, lengths = mask_predict(Doubling(), Source(rows.data, rows.lengths), turns)
    assert lengths.tolist() == [6, 8, 2]
    assert torch.equal(tokens, rows.data.repeat_interleave(2, dim=1))


@dataclass(frozen=True)
class Heard:
    """What a chunk leaves behind: the last ``K - 1`` frames ``(B, K - 1, F)``."""

    tail: Tensor


class CausalAverage:
    """States are means of the last four frames."""

    def encode_chunk(self, chunk: Source, state: Heard | None) -> tuple[Encoded, Heard]:
        tail = chunk.data.new_zeros(len(chunk.data), 3, chunk.data.shape[2])
        frames = torch.cat([tail if state is None else state.tail, chunk.data], dim=1)
        means = frames.unfold(1, 4, 1).mean(-1)
        return Encoded(means, chunk.lengths), Heard(frames[:, -3:])


@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_streaming_is_independent_of_the_chunks(size: int) -> None:
    model: Streaming = CausalAverage()
    frames = torch.randn(2, 16, 3, generator=torch.Generator().manual_seed(0))
    whole, _ = model.encode_chunk(Source(frames, torch.tensor([16, 16])), None)
    state, parts = None, []
    for chunk in frames.split(size, dim=1):
        lengths = torch.full((2,), chunk.shape[1])
        encoded, state = model.encode_chunk(Source(chunk, lengths), state)
        assert torch.equal(encoded.lengths, lengths)
        parts.append(encoded.states)
    torch.testing.assert_close(torch.cat(parts, 1), whole.states)


WITHOUT_DECODER = {"language_model", "text_classifier", "wav2vec2"}
TRANSFORMERS = ("costt", "speech_transformer", "text_transformer")


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_models_say_which_protocol_they_follow(name: str) -> None:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "width": 8, "ffn": 8, "heads": 2}
    model = build_model({"name": name, **sizes}, dict.fromkeys(("src", "tgt", "ctc"), 9), 20)
    assert isinstance(model, Autoregressive)
    assert not isinstance(model, (NonAutoregressive, Streaming))
    assert isinstance(Doubling(), NonAutoregressive) and isinstance(CausalAverage(), Streaming)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_but_encoders_alone_can_be_searched(name: str) -> None:
    _, model_class = MODELS[name]
    assert issubclass(model_class, Autoregressive) == (name not in WITHOUT_DECODER)
    assert not issubclass(model_class, (NonAutoregressive, Streaming))
