"""Language embeddings reach both stacks, in whole passes and in single steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from stk.data.batch import Source
from stk.models.encoder_decoder import EncoderDecoder


def test_steps_equal_whole_passes(
    tiny: Callable[..., EncoderDecoder], sources: Callable[..., Source]
) -> None:
    model = tiny("text_learned", languages=3)
    plain = sources("text_learned", [5, 3])
    languages = torch.tensor([[0] * 5, [2] * 5])
    source = replace(plain, languages=languages, target_languages=torch.tensor([1, 2]))
    encoded = model.encode(source)
    target = torch.tensor([[2, 7, 9], [2, 8, 6]])
    whole = model.decode(encoded, target, torch.tensor([3, 3])).logits
    state = model.start(encoded)
    first, state = model.step(target[:, :1], state)
    # both sentences, turned around: their languages have to follow
    state = state.reorder(torch.zeros(2, 1, dtype=torch.int64), torch.tensor([1, 0]))
    second, _ = model.step(target[[1, 0], 1:2], state)
    torch.testing.assert_close(first[:, 0], whole[:, 0])
    torch.testing.assert_close(second[:, 0], whole[[1, 0], 1])
    other = replace(source, target_languages=torch.tensor([0, 2]))
    changed = model.decode(model.encode(other), target, torch.tensor([3, 3])).logits
    assert not torch.allclose(changed[0], whole[0])
    torch.testing.assert_close(changed[1], whole[1])
    with pytest.raises(ValueError, match="languages: true"):
        model.encode(plain)
