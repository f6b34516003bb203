"""Beam search beside Hugging Face's, over one and the same model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from stk.config.run import DecodeConfig
from stk.decoding.beam import Symbols, beam_search

PAD, BOS, EOS, VOCAB = 0, 2, 3, 14
LIMIT = 40


@dataclass
class Whole:
    """A scorer that runs a whole encoder-decoder model again at every step."""

    model: Any
    source: Tensor
    written: Tensor | None = None

    def step(self, tokens: Tensor) -> Tensor:
        new = tokens[:, :, None]
        self.written = new if self.written is None else torch.cat([self.written, new], dim=2)
        batch, beam, length = self.written.shape
        source = self.source.repeat_interleave(beam, dim=0)
        output = self.model(input_ids=source, decoder_input_ids=self.written.flatten(0, 1))
        return output.logits[:, -1].log_softmax(-1).view(batch, beam, -1)

    def reorder(self, hypotheses: Tensor, sentences: Tensor | None = None) -> None:
        assert self.written is not None
        index = hypotheses[:, :, None].expand(-1, -1, self.written.size(2))
        self.written = self.written.gather(1, index)
        if sentences is not None:
            self.written, self.source = self.written[sentences], self.source[sentences]


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(4)
    config = BartConfig(
        vocab_size=VOCAB,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        decoder_start_token_id=BOS,
        forced_eos_token_id=None,
        init_std=0.7,
    )
    built = BartForConditionalGeneration(config).eval()
    built.final_logits_bias[0, EOS] = 4.0  # sentences end well before the limit
    built.final_logits_bias[0, [PAD, BOS]] = -1e9
    return built


@pytest.mark.parametrize("beam", [2, 3, 5])
@pytest.mark.parametrize("penalty", [0.0, 0.8, 1.5])
def test_the_same_hypotheses_and_scores(model: Any, beam: int, penalty: float) -> None:
    rows = torch.randint(4, VOCAB, (6, 7), generator=torch.Generator().manual_seed(1))
    found = beam_search(
        Whole(model, rows),
        prefixes=[[]] * 6,
        limits=torch.full((6,), LIMIT),
        config=DecodeConfig(beam=beam, nbest=beam, length_penalty=penalty),
        symbols=Symbols(bos=BOS, eos=EOS, forbidden=(PAD, BOS)),
    )
    expected = model.generate(
        rows,
        num_beams=beam,
        num_return_sequences=beam,
        do_sample=False,
        length_penalty=penalty,
        early_stopping=True,
        max_new_tokens=LIMIT + 1,
        output_scores=True,
        return_dict_in_generate=True,
    )
    outputs = [h for hypotheses in found for h in hypotheses]
    lengths = {len(h.tokens) for h in outputs}
    assert max(lengths) < LIMIT and len(lengths) > 1
    for hypothesis, sequence in zip(outputs, expected.sequences.tolist(), strict=True):
        words = sequence[1:]
        assert list(hypothesis.tokens) == words[: words.index(EOS)]
    scores = expected.sequences_scores.tolist()
    assert [h.score for h in outputs] == pytest.approx(scores, abs=1e-4)
