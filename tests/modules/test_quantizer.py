"""Product quantiser: shapes, schedule, perplexities, diversity loss, equality of its two paths."""

import math

import pytest
import torch

from stk.modules.quantizer import (
    ProductQuantizer,
    TemperatureSchedule,
    code_perplexity,
    diversity_loss,
    prob_perplexity,
)


def test_temperature_follows_the_published_schedule() -> None:
    schedule = TemperatureSchedule()
    assert schedule(0) == 2.0
    assert schedule(100_000) == pytest.approx(2.0 * 0.999995**100_000)
    # The floor comes near 277,000 updates for BASE and 599,000 for LARGE.
    assert schedule(276_000) > 0.5 and schedule(278_000) == 0.5
    large = TemperatureSchedule(end=0.1)
    assert large(598_000) > 0.1 and large(600_000) == 0.1
    for wrong in ({"end": 0.0}, {"start": 0.1}, {"decay": 1.5}):
        with pytest.raises(ValueError, match="temperature"):
            TemperatureSchedule(**wrong)


@pytest.mark.parametrize("projection", ["linear", "mlp"])
def test_shapes_and_codes(projection) -> None:
    quantizer = ProductQuantizer(8, groups=2, codes=11, code_dim=3, projection=projection)
    out = quantizer(torch.randn(2, 5, 8), seed=1)
    assert out.vectors.shape == (2, 5, 6) and out.codes.shape == (2, 5, 2)
    assert out.mean_probs.shape == out.code_counts.shape == (2, 11)
    torch.testing.assert_close(out.mean_probs.sum(-1), torch.ones(2))
    assert out.code_counts.sum(-1).tolist() == [10, 10]
    for group in range(2):
        chosen = quantizer.codebook[group, out.codes[..., group]]
        assert torch.equal(out.vectors[..., 3 * group : 3 * group + 3], chosen)
    none = quantizer(torch.zeros(0, 8))
    assert none.vectors.shape == (0, 6) and bool((none.mean_probs == 0).all())


def test_fused_projection_is_the_same_function() -> None:
    torch.manual_seed(0)
    plain = ProductQuantizer(8, groups=2, codes=30, code_dim=4, fused=False)
    fused = ProductQuantizer(8, groups=2, codes=30, code_dim=4, fused=True)
    fused.load_state_dict(plain.state_dict())
    assert ProductQuantizer(2, groups=1, codes=5000, code_dim=1).fused
    hidden = torch.randn(7, 8)
    results = []
    for quantizer in (plain, fused):
        out = quantizer(hidden, step=1000, seed=3)
        (out.vectors.square().sum() + diversity_loss(out.mean_probs)).backward()
        results.append([*out, *(parameter.grad for parameter in quantizer.parameters())])
    torch.testing.assert_close(*results)


def test_evaluation_is_deterministic_and_sends_no_gradient_to_the_logits() -> None:
    quantizer = ProductQuantizer(8, groups=2, codes=11, code_dim=3).eval()
    hidden = torch.randn(6, 8, requires_grad=True)
    one, two = quantizer(hidden), quantizer(hidden)
    assert torch.equal(one.codes, two.codes)
    logits = quantizer.logits(hidden).reshape(6, 2, 11)
    assert torch.equal(one.codes, logits.argmax(-1))
    one.vectors.sum().backward()
    assert hidden.grad is None or bool((hidden.grad == 0).all())


def test_perplexities_lie_between_one_and_v() -> None:
    uniform, certain = torch.full((2, 8), 1 / 8), torch.eye(8)[:2]
    torch.testing.assert_close(prob_perplexity(uniform), torch.full((2,), 8.0))
    torch.testing.assert_close(prob_perplexity(certain), torch.ones(2))
    counts = torch.tensor([[5, 5, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(code_perplexity(counts), torch.tensor([2.0, 1.0]))
    # Counts of two processes are summed before, not the perplexities.
    halves = torch.tensor([[9, 0], [0, 9]])
    torch.testing.assert_close(code_perplexity(halves.sum(0, keepdim=True)), torch.tensor([2.0]))


def test_diversity_loss_is_smallest_for_uniform_use() -> None:
    uniform = torch.full((2, 8), 1 / 8)
    assert float(diversity_loss(uniform)) == pytest.approx(0.0, abs=1e-6)
    certain = torch.eye(8)[:2].requires_grad_()
    loss = diversity_loss(certain)
    assert float(loss) == pytest.approx(1 - 2 / 16)
    loss.backward()
    assert bool(certain.grad.isfinite().all())
    assert float(diversity_loss(uniform, form="entropy")) == pytest.approx(-math.log(8) / 8)
    with pytest.raises(ValueError, match="form"):
        diversity_loss(uniform, form="other")
