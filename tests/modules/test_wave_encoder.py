"""The wave encoder of wav2vec 2.0: sizes, norms, padding, layer drop, bad input."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stk.errors import StkError
from stk.modules.gradient import scale_gradient
from stk.modules.norm import LayerNorm
from stk.modules.strided_convolution import patches
from stk.modules.wave_encoder import LARGE, PositionalConvolution, WaveEncoder, WaveShape
from stk.modules.wave_features import ChannelNorm, WaveExtractor

CONVOLUTIONS = ((8, 10, 5), *((8, 3, 2),) * 4, *((12, 2, 2),) * 2)
SMALL = {
    "layers": 2,
    "width": 16,
    "ffn": 24,
    "heads": 2,
    "convolutions": CONVOLUTIONS,
    "position_kernel": 6,
    "position_groups": 4,
}
LAYER = {"norm": "pre", "extractor_norm": "layer"}
SAMPLES = [4000, 1700, 400, 2501]


def encoder(dtype: torch.dtype = torch.float64, **keys: object) -> WaveEncoder:
    torch.manual_seed(3)
    made = WaveEncoder(WaveShape(**{**SMALL, **keys}))
    for parameter in made.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return made.to(dtype).eval()


def clips(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(4)
    return torch.randn(4, 4000, dtype=torch.float64).to(dtype), torch.tensor(SAMPLES)


def test_a_second_has_49_frames_of_25_ms() -> None:
    extractor = WaveExtractor()
    assert extractor.lengths(16000) == 49 and extractor.field == 400
    assert extractor.lengths(400) == 1 and extractor.lengths(399) == 0
    frames, lengths = extractor(torch.randn(1, 16000), torch.tensor([16000]))
    assert frames.shape == (1, 49, 512) and lengths.tolist() == [49]


def test_base_has_one_group_norm_and_large_seven_layer_norms() -> None:
    with torch.device("meta"):
        base, large = WaveEncoder(WaveShape()), WaveEncoder(LARGE)
    assert [type(norm) for norm in base.extractor.norms] == [ChannelNorm]
    assert [type(norm) for norm in large.extractor.norms] == [LayerNorm] * 7
    assert all(convolution.bias is None for convolution in base.extractor.convolutions)
    assert all(convolution.bias is not None for convolution in large.extractor.convolutions)
    assert base.input_norm is not None and base.stack.norm is None
    assert large.input_norm is None and large.stack.norm is not None
    # 94.4 M and 315.4 M as published, without quantiser and heads
    assert sum(p.numel() for p in base.parameters()) == 94_371_712
    assert sum(p.numel() for p in large.parameters()) == 315_438_720


def test_the_first_block_is_convolution_and_group_norm_over_real_frames() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv1d(1, 6, 10, 5, bias=False).double()
    samples, lengths = torch.randn(3, 60, dtype=torch.float64) + 0.3, torch.tensor([60, 30, 24])
    counts = (lengths - 10) // 5 + 1
    norms = ChannelNorm(6).double(), ChannelNorm(6, over_padding=True).double()
    nn.init.normal_(norms[0].weight)
    nn.init.normal_(norms[0].bias)
    norms[1].load_state_dict(norms[0].state_dict())
    outs, read = [], patches(samples, 10, 5)
    for norm in norms:
        matrix, shift = norm.fold(convolution.weight, read, counts)
        outs.append((read @ matrix + shift).transpose(1, 2))
    plain, parameters = convolution(samples[:, None]), (norms[0].weight, norms[0].bias)
    for row, length in enumerate(counts.tolist()):
        part = plain[row : row + 1, :, :length]
        expected = nn.functional.group_norm(part, 6, *parameters)
        torch.testing.assert_close(outs[0][row, :, :length], expected[0])
    torch.testing.assert_close(outs[1], nn.functional.group_norm(plain, 6, *parameters))


def test_gradients_of_the_folded_norm() -> None:
    torch.manual_seed(0)
    extractor = WaveExtractor(((4, 10, 5), (4, 3, 2))).double()
    samples, lengths = torch.randn(2, 60, dtype=torch.float64), torch.tensor([60, 60])
    frames, _ = extractor(samples, lengths)
    factor = torch.randn_like(frames)
    names = [name for name, _ in extractor.named_parameters()]
    grads = torch.autograd.grad((frames * factor).sum(), list(extractor.parameters()))
    first, second = extractor.convolutions
    norm = extractor.norms[0]
    x = nn.functional.group_norm(first(samples[:, None]), 4, norm.weight, norm.bias)
    x = nn.functional.gelu(second(nn.functional.gelu(x))).transpose(1, 2)
    torch.testing.assert_close(frames, x)
    expected = torch.autograd.grad((x * factor).sum(), list(extractor.parameters()))
    for name, mine, theirs in zip(names, grads, expected, strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)


@pytest.mark.parametrize("keys", [{}, LAYER], ids=["base", "large"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["fp32", "fp64"]
)
def test_batch_equals_single(keys: dict[str, object], dtype: torch.dtype, tolerance: float) -> None:
    model, (samples, lengths) = encoder(dtype, **keys), clips(dtype)
    padded = samples.clone()
    for row, length in enumerate(SAMPLES):
        padded[row, length:] = torch.nan
    states, counts = model(padded, lengths)
    for row, length in enumerate(SAMPLES):
        single, count = model(samples[row : row + 1, :length], lengths[row : row + 1])
        assert counts[row] == count[0]
        torch.testing.assert_close(
            states[row, : count[0]], single[0], rtol=tolerance, atol=tolerance
        )
        assert not states[row, count[0] :].any()


@pytest.mark.parametrize("keys", [{}, LAYER], ids=["base", "large"])
def test_padding_that_is_not_finite_reaches_no_gradient(keys: dict[str, object]) -> None:
    model, (samples, lengths) = encoder(**keys), clips()
    samples[1, 1700:] = torch.inf
    model(samples, lengths)[0].sum().backward()
    for name, parameter in model.named_parameters():
        assert name == "mask_vector" or bool(parameter.grad.isfinite().all()), name


def test_the_released_switch_sees_padding() -> None:
    model, (samples, lengths) = encoder(norm_over_padding=True), clips()
    states, counts = model(samples, lengths)
    single, _ = model(samples[1:2, :1700], lengths[1:2])
    assert not torch.allclose(states[1, : counts[1]], single[0], atol=1e-3)
    with pytest.raises(ValueError, match="norm_over_padding"):
        WaveShape(norm_over_padding=True, extractor_norm="layer")


def test_masked_frames_become_the_learned_vector() -> None:
    model, (samples, lengths) = encoder(), clips()
    masked = torch.zeros(4, 12, dtype=torch.bool)
    masked[0, 3:6] = True
    plain = model(samples, lengths)[0]
    hidden = model(samples, lengths, masked)[0]
    assert not torch.allclose(plain[0], hidden[0])
    torch.testing.assert_close(plain[1:], hidden[1:])
    model(samples, lengths, masked)[0].sum().backward()
    assert model.mask_vector.grad.abs().sum() > 0


def test_positions_are_a_weight_normed_convolution() -> None:
    made = PositionalConvolution(8, 6, 2)
    other = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, 6, padding=3, groups=2), dim=2)
    state = other.state_dict()
    made.weight_g.data = state["parametrizations.weight.original0"].clone()
    made.weight_v.data = state["parametrizations.weight.original1"].clone()
    made.bias.data = state["bias"].clone()
    x = torch.randn(2, 9, 8)
    expected = nn.functional.gelu(other(x.transpose(1, 2))[:, :, :9]).transpose(1, 2)
    torch.testing.assert_close(made(x), expected)


def test_layer_drop_leaves_layers_out_in_training_alone() -> None:
    model, (samples, lengths) = encoder(layer_drop=0.5, input_dropout=0.0), clips()
    for module in model.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.0
    states = model(samples, lengths)[0]
    torch.testing.assert_close(model(samples, lengths)[0], states)
    calls: list[int] = []
    for number, layer in enumerate(model.stack.layers):
        layer.register_forward_hook(lambda *_, number=number: calls.append(number))
    model.stack.train()
    torch.manual_seed(0)
    for _ in range(40):
        model(samples[:1], lengths[:1])
    assert 20 < len(calls) < 60  # 40 of 80 expected, standard deviation 4.5


def test_gradient_scale() -> None:
    x = torch.ones(3, requires_grad=True)
    scale_gradient(x, 0.1).sum().backward()
    torch.testing.assert_close(x.grad, torch.full((3,), 0.1))
    grads = []
    for scale in (1.0, 0.25):
        model, (samples, lengths) = encoder(gradient_scale=scale), clips()
        model(samples, lengths)[0].square().sum().backward()
        grads.append(
            [p.grad for p in model.extractor.parameters()] + [model.projection.weight.grad]
        )
    for one, quarter in zip(grads[0][:-1], grads[1][:-1], strict=True):
        torch.testing.assert_close(one * 0.25, quarter)
    torch.testing.assert_close(grads[0][-1], grads[1][-1])


def test_a_clip_shorter_than_the_receptive_field() -> None:
    model, (samples, _) = encoder(), clips()
    with pytest.raises(StkError, match="399 samples is shorter than the receptive field of 400"):
        model(samples, torch.tensor([4000, 1700, 399, 2501]))
    with pytest.raises(StkError, match="min_frames"):
        model(samples[:, :300], torch.tensor([300] * 4))
