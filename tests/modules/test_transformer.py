"""Layers against PyTorch's own, with the same weights."""

import pytest
import torch
from torch import nn

from stk.modules.attention import causal
from stk.modules.rows import Rows
from stk.modules.transformer import DecoderLayer, EncoderLayer, EncoderStack, LayerShape

WIDTH, HEADS, FFN = 24, 4, 40
LENGTHS = torch.tensor([7, 3, 1])
MEMORY_LENGTHS = torch.tensor([2, 9, 5])


def shape_of(norm: str, activation: str = "relu") -> LayerShape:
    return LayerShape(width=WIDTH, ffn=FFN, heads=HEADS, norm=norm, activation=activation)  # type: ignore[arg-type]


def options(norm: str, activation: str) -> dict[str, object]:
    return {
        "d_model": WIDTH,
        "nhead": HEADS,
        "dim_feedforward": FFN,
        "dropout": 0.0,
        "activation": activation,
        "batch_first": True,
        "norm_first": norm == "pre",
        "dtype": torch.float64,
    }


def shake(module: nn.Module) -> nn.Module:
    """Weights, biases and norms that differ from their initial values."""
    torch.manual_seed(3)
    for parameter in module.parameters():
        parameter.data.copy_(torch.randn_like(parameter) * 0.3)
    return module


def copy_self(ours: nn.Module, theirs: nn.MultiheadAttention) -> None:
    ours.qkv.load_state_dict({"weight": theirs.in_proj_weight, "bias": theirs.in_proj_bias})
    ours.output.load_state_dict(theirs.out_proj.state_dict())


def copy_cross(ours: nn.Module, theirs: nn.MultiheadAttention) -> None:
    weight, bias = theirs.in_proj_weight, theirs.in_proj_bias
    ours.query.load_state_dict({"weight": weight[:WIDTH], "bias": bias[:WIDTH]})
    ours.memory.load_state_dict({"weight": weight[WIDTH:], "bias": bias[WIDTH:]})
    ours.output.load_state_dict(theirs.out_proj.state_dict())


def padding(lengths: torch.Tensor) -> torch.Tensor:
    """PyTorch's padding mask, True = padding."""
    return torch.arange(int(lengths.max())) >= lengths[:, None]


def same_on_real(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    real = ~padding(LENGTHS)
    torch.testing.assert_close(ours[real], theirs[real], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_encoder_layer_equals_pytorch(norm: str, activation: str, pack: bool) -> None:
    theirs = shake(nn.TransformerEncoderLayer(**options(norm, activation)))  # type: ignore[arg-type]
    ours = EncoderLayer(shape_of(norm, activation)).double()
    copy_self(ours.self_attention, theirs.self_attn)  # type: ignore[arg-type]
    for mine, other in (
        (ours.self_attention_norm, theirs.norm1),
        (ours.feed_forward_norm, theirs.norm2),
        (ours.feed_forward.inner, theirs.linear1),
        (ours.feed_forward.outer, theirs.linear2),
    ):
        mine.load_state_dict(other.state_dict())  # type: ignore[union-attr]
    x = torch.randn(3, 7, WIDTH, dtype=torch.float64)
    rows = Rows(LENGTHS, 7, pack=pack)
    expected = theirs(x, src_key_padding_mask=padding(LENGTHS))
    same_on_real(rows.clean(ours(rows.pack(x), rows)), expected)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_decoder_layer_equals_pytorch(norm: str) -> None:
    theirs = shake(nn.TransformerDecoderLayer(**options(norm, "relu")))  # type: ignore[arg-type]
    ours = DecoderLayer(shape_of(norm)).double()
    copy_self(ours.self_attention, theirs.self_attn)  # type: ignore[arg-type]
    copy_cross(ours.cross_attention, theirs.multihead_attn)  # type: ignore[arg-type]
    for mine, other in (
        (ours.self_attention_norm, theirs.norm1),
        (ours.cross_attention_norm, theirs.norm2),
        (ours.feed_forward_norm, theirs.norm3),
        (ours.feed_forward.inner, theirs.linear1),
        (ours.feed_forward.outer, theirs.linear2),
    ):
        mine.load_state_dict(other.state_dict())  # type: ignore[union-attr]
    x = torch.randn(3, 7, WIDTH, dtype=torch.float64)
    memory = torch.randn(3, 9, WIDTH, dtype=torch.float64)
    rows, memory_rows = Rows(LENGTHS, 7), Rows(MEMORY_LENGTHS, 9)
    out = ours(rows.pack(x), rows, causal(7, x.device), memory_rows.pack(memory), memory_rows)
    expected = theirs(
        x,
        memory,
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(7).double(),
        tgt_key_padding_mask=padding(LENGTHS),
        memory_key_padding_mask=padding(MEMORY_LENGTHS),
    )
    same_on_real(rows.clean(out), expected)


def test_decoder_layer_without_memory_has_no_cross_attention() -> None:
    layer = DecoderLayer(shape_of("pre"), cross=False)
    assert not [name for name, _ in layer.named_parameters() if "cross" in name]
    rows = Rows(torch.tensor([3]), 3)
    x = torch.randn(1, 3, WIDTH)
    assert layer(x, rows, causal(3, x.device), x, rows).shape == x.shape


def test_memory_may_be_seen_in_part() -> None:
    """Under a wait-k schedule a position ignores states beyond what it may see."""
    layer = shake(DecoderLayer(shape_of("pre")).double())
    x = torch.randn(1, 3, WIDTH, dtype=torch.float64)
    memory = torch.randn(1, 5, WIDTH, dtype=torch.float64)
    rows, memory_rows = Rows(torch.tensor([3]), 3), Rows(torch.tensor([5]), 5)
    seen = torch.tensor([[2, 3, 5]])
    arguments = (x, rows, causal(3, x.device))
    before = layer(*arguments, memory, memory_rows, seen)
    memory = memory.clone()
    memory[:, 3:] += 1.0
    after = layer(*arguments, memory, memory_rows, seen)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_final_norm_belongs_to_pre_norm_stacks_alone() -> None:
    assert EncoderStack(shape_of("pre"), 1).norm is not None
    assert EncoderStack(shape_of("post"), 1).norm is None


def test_taps_are_layer_outputs() -> None:
    stack = EncoderStack(shape_of("pre"), 3)
    rows = Rows(torch.tensor([4]), 4)
    x = torch.randn(1, 4, WIDTH)
    out, tapped = stack(x, rows, None, (1, 3))
    assert set(tapped) == {1, 3}
    torch.testing.assert_close(tapped[1], stack.layers[0](x, rows))
    assert stack.norm is not None
    torch.testing.assert_close(out, stack.norm(tapped[3]))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="not a multiple of 5 heads"):
        EncoderLayer(LayerShape(width=24, ffn=8, heads=5))
