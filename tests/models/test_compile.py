"""The models trace whole, with lengths that change from batch to batch."""

from __future__ import annotations

from collections.abc import Callable

import torch

from stk.data.batch import Source
from stk.models.encoder_decoder import EncoderDecoder


def test_full_graph(tiny: Callable[..., EncoderDecoder], sources: Callable[..., Source]) -> None:
    kind = "speech_conv1d"
    model = tiny(kind, torch.float32, encoder_layers=1, decoder_layers=1, ctc_layer=1)

    def states(source: Source, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return model.decode_states(model.encode(source), tokens, lengths)

    torch.compiler.reset()
    traced = torch.compile(states, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for counts in ([9, 2, 4], [7, 7], [12, 3, 5, 2]):
            source = sources(kind, counts, torch.float32)
            tokens = torch.randint(5, 31, (len(counts), 6))
            lengths = torch.arange(2, 2 + len(counts))
            expected = states(source, tokens, lengths)
            torch.testing.assert_close(
                traced(source, tokens, lengths), expected, rtol=1e-5, atol=1e-5
            )
