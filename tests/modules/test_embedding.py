"""Token embeddings."""

import torch

from stk.modules.embedding import TokenEmbedding


def test_initial_scale_and_padding() -> None:
    torch.manual_seed(1)
    module = TokenEmbedding(2000, 64)
    assert abs(float(module.weight[1:].detach().std()) - 64**-0.5) < 0.002
    read = module(torch.arange(1, 2000))
    assert abs(float(read.detach().std()) - 1.0) < 0.02
    assert not module(torch.tensor([0])).any()


def test_padding_has_no_gradient() -> None:
    module = TokenEmbedding(5, 4)
    module(torch.tensor([[0, 2, 0]])).sum().backward()
    grad = module.weight.grad
    assert grad is not None and not grad[0].any() and grad[2].all()


def test_projection_is_the_same_matrix() -> None:
    module = TokenEmbedding(5, 4)
    states = torch.randn(3, 4)
    torch.testing.assert_close(module.project(states), states @ module.weight.T)
