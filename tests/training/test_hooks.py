"""What acts on a model after a step."""

import pytest
import torch

from stk.data.batch import Source
from stk.models.registry import build_model
from stk.training.hooks import DropoutStages, DropoutStagesConfig

SOUND = Source(
    torch.randn(2, 8000, generator=torch.Generator().manual_seed(1)), torch.tensor([8000, 6000])
)
FRAMES = Source(
    torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1)), torch.tensor([60, 50])
)
TEXT = Source(torch.arange(3, 17).view(2, 7), torch.tensor([7, 5]))


@pytest.mark.parametrize(
    ("name", "preset", "features", "source"),
    [
        ("text_transformer", "small", None, TEXT),
        ("speech_transformer", "xs", 80, FRAMES),
        ("wav2vec2_transformer", "tiny", 1, SOUND),
        ("xstnet", "tiny", 1, SOUND),
        ("chimera", "tiny", 1, SOUND),
        ("lna", "tiny", 1, SOUND),
    ],
)
def test_no_rate_is_forgotten(name, preset, features, source):
    """With every rate at 0, a model in training computes what it does in evaluation."""
    torch.manual_seed(3)
    model = build_model({"name": name, "preset": preset}, {"src": 30, "tgt": 30}, features)
    target, lengths = TEXT.data, TEXT.lengths

    def output():
        encoded = model.encode(source)
        return model.decoder(target, lengths, encoded.states, encoded.lengths)

    with torch.no_grad():
        model.eval()
        expected = output()
        model.train()
        assert not torch.equal(output(), expected), "the preset has no dropout"
        DropoutStages(DropoutStagesConfig(stages=((1, 0.0),)), model)
        assert torch.equal(output(), expected)
