"""Smoothed cross-entropy against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from stk.objectives import smoothed
from stk.objectives.smoothed import smoothed_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("shape", [(1, 2), (7, 11), (50, 3)])
@pytest.mark.parametrize("chunk", [1, 30, 1 << 18])
@pytest.mark.parametrize("consume", [False, True])
def test_value_and_gradient(
    monkeypatch: pytest.MonkeyPatch,
    consume: bool,
    chunk: int,
    shape: tuple[int, int],
    smoothing: float,
) -> None:
    monkeypatch.setattr(smoothed, "_CHUNK", chunk)
    torch.manual_seed(1)
    logits = (torch.randn(shape, dtype=torch.float64) * 5).requires_grad_()
    labels = torch.randint(0, shape[1], (shape[0],))
    own = logits * 1.0
    loss, nll, correct = smoothed_cross_entropy(own, labels, smoothing, consume=consume)
    assert torch.equal(own, logits) != consume
    (3.0 * loss).backward()
    found, logits.grad = logits.grad, None
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
    (3.0 * expected).backward()
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(loss, expected, **close)
    torch.testing.assert_close(found, logits.grad, **close)
    torch.testing.assert_close(nll, F.cross_entropy(logits, labels, reduction="sum"), **close)
    assert int(correct) == int((logits.argmax(1) == labels).sum())


def test_the_smoothing_of_fairseq_is_a_little_more_of_ours() -> None:
    """``(1 - e - e / (V - 1)) nll + e / (V - 1) sum_v -log p(v)``."""
    torch.manual_seed(1)
    logits, labels, e = torch.randn(6, 9, dtype=torch.float64), torch.arange(6), 0.1
    log_probs = logits.log_softmax(1)
    nll = F.nll_loss(log_probs, labels, reduction="sum")
    theirs = (1 - e - e / 8) * nll - e / 8 * log_probs.sum()
    torch.testing.assert_close(smoothed_cross_entropy(logits, labels, e * 9 / 8)[0], theirs)
    assert not torch.isclose(smoothed_cross_entropy(logits, labels, e)[0], theirs)


def test_gradcheck() -> None:
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 4, 2, 2])
    assert torch.autograd.gradcheck(lambda x: smoothed_cross_entropy(x, labels, 0.1)[0], (logits,))


def test_metrics_carry_no_gradient() -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    loss, nll, correct = smoothed_cross_entropy(logits, torch.tensor([0, 4, 2, 2]), 0.1)
    assert loss.requires_grad and not nll.requires_grad and not correct.requires_grad


def test_half_precision_is_summed_in_fp32() -> None:
    torch.manual_seed(1)
    logits = torch.randn(300, 50).bfloat16().requires_grad_()
    labels = torch.randint(0, 50, (300,))
    loss, _, _ = smoothed_cross_entropy(logits, labels, 0.1)
    loss.backward()
    expected = F.cross_entropy(
        logits.detach().float(), labels, label_smoothing=0.1, reduction="sum"
    )
    assert loss.dtype == torch.float32 and logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-6, atol=0.0)


def test_consumed_logits_are_read_once() -> None:
    given = torch.randn(4, 5, requires_grad=True)
    labels = torch.tensor([0, 4, 2, 2])
    logits = given * 1.0
    loss, _, _ = smoothed_cross_entropy(logits, labels, 0.1, consume=True)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    logits = given * 1.0
    squares = (logits**2).sum()  # another reader
    loss, _, _ = smoothed_cross_entropy(logits, labels, 0.1, consume=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (loss + squares).backward()


def test_what_is_not_consumed() -> None:
    labels = torch.tensor([0, 4, 2, 2])
    for logits in (torch.randn(4, 5), torch.randn(4, 5).bfloat16().requires_grad_() * 1.0):
        before = logits.detach().clone()
        smoothed_cross_entropy(logits, labels, 0.1, consume=True)
        assert torch.equal(logits, before)


def test_large_logits_do_not_overflow() -> None:
    loss, nll, _ = smoothed_cross_entropy(torch.tensor([[1e4, -1e4]]), torch.tensor([1]), 0.0)
    assert float(loss) == float(nll) == 2e4


def test_no_rows() -> None:
    logits = torch.randn(0, 5, requires_grad=True)
    loss, _, _ = smoothed_cross_entropy(logits, torch.zeros(0, dtype=torch.int64), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0.0
