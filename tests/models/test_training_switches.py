"""Switches of a training loop: checkpointing, autocast, dropout."""

from __future__ import annotations

from collections.abc import Callable

import torch

from stk.data.batch import Source
from stk.models.encoder_decoder import EncoderDecoder
from stk.modules.decoder import Decoder
from stk.modules.transformer import EncoderStack

Make = Callable[..., EncoderDecoder]


def gradients(model: EncoderDecoder, source: Source) -> dict[str, torch.Tensor]:
    torch.manual_seed(9)
    model.zero_grad()
    tokens, lengths = torch.full((2, 4), 7), torch.tensor([4, 2])
    model.decode(model.encode(source), tokens, lengths).logits.square().sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_activation_checkpointing_changes_memory_alone(
    kind: str, tiny: Make, sources: Callable[..., Source]
) -> None:
    """Same gradients, dropout included: recomputation draws the same masks."""
    model, source = tiny(kind, dropout=0.3, attention_dropout=0.3).train(), sources(kind, [5, 3])
    plain = gradients(model, source)
    model.activation_checkpointing = True
    assert model.activation_checkpointing
    stacks = [m for m in model.modules() if isinstance(m, (Decoder, EncoderStack))]
    assert len(stacks) == (3 if kind in ("costt_unshrunk", "text_bart_mt") else 2)
    assert all(stack.activation_checkpointing for stack in stacks)
    recomputed = gradients(model, source)
    assert plain.keys() == recomputed.keys()
    for name in plain:
        torch.testing.assert_close(plain[name], recomputed[name], rtol=1e-12, atol=1e-12)


def test_dropout_acts_in_training_alone(
    kind: str, tiny: Make, sources: Callable[..., Source]
) -> None:
    model, source = tiny(kind, dropout=0.5), sources(kind, [5, 3])
    with torch.no_grad():
        assert torch.equal(model.encode(source).states, model.encode(source).states)
        model.train()
        assert not torch.allclose(model.encode(source).states, model.encode(source).states)


def test_attention_dropout_goes_through_the_operator(
    tiny: Make, sources: Callable[..., Source]
) -> None:
    keys = {"dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.5}
    model, source = tiny("text_pre", **keys).train(), sources("text_pre", [5, 3])
    with torch.no_grad():
        first, second = model.encode(source).states, model.encode(source).states
    assert not torch.allclose(first, second)


def test_autocast_gives_finite_gradients_close_to_fp32(
    tiny: Make, sources: Callable[..., Source]
) -> None:
    model = tiny("speech_conv1d", torch.float32)
    source = sources("speech_conv1d", [5, 3], torch.float32)
    exact = gradients(model, source)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = gradients(model, source)
    for grad in cast.values():
        assert grad.dtype == torch.float32 and bool(grad.isfinite().all())
    whole = torch.cat([g.flatten() for g in exact.values()])
    other = torch.cat([cast[name].flatten() for name in exact])
    assert float((whole - other).norm() / whole.norm()) < 0.1
