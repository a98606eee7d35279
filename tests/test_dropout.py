"""Dropout's rate, scale, gradient and use of the generator."""

import pytest
import torch

from models.dropout import Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_rate_and_scale(p, dtype):
    torch.manual_seed(0)
    y = Dropout(p)(torch.ones(1001, 999, dtype=dtype))  # an odd number of elements
    assert y.dtype == dtype
    deviation = (p * (1 - p) / y.numel()) ** 0.5
    assert abs((y == 0).double().mean().item() - p) < 5 * deviation
    (kept,) = y[y != 0].unique().tolist()
    assert kept == pytest.approx(1 / (1 - p), rel=1e-4 if dtype == torch.float32 else 2**-8)


def test_each_quarter_of_a_draw_is_fair():
    torch.manual_seed(0)
    y = Dropout(0.3)(torch.ones(400_000)).view(-1, 4)
    dropped = (y == 0).double()
    assert dropped.mean(0).tolist() == pytest.approx([0.3] * 4, abs=0.01)
    pairs = torch.corrcoef(dropped.T)
    assert (pairs - torch.eye(4, dtype=torch.float64)).abs().max() < 0.01


def test_gradient_is_the_mask():
    x = torch.randn(33, 7, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


@pytest.mark.parametrize("module", [Dropout(0.0), Dropout(0.5).eval()])
def test_identity_draws_nothing(module):
    before = torch.get_rng_state()
    x = torch.ones(5)
    assert module(x) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_seed_decides():
    x, dropout = torch.ones(101), Dropout(0.5)
    torch.manual_seed(3)
    first = dropout(x)
    other = dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(other, first)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_errors(p):
    with pytest.raises(ValueError, match="dropout must lie in"):
        Dropout(p)


def test_almost_one_keeps_something_finite():
    assert torch.isfinite(Dropout(0.9999999)(torch.ones(1000))).all()
