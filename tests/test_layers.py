"""Products in bf16, on processors that have kernels for them and on those that have not."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.attn import FullAttention, ProbAttention
from models.layers import CircularConv, Linear, PointwiseConv, multiply

ULP = 2**-8  # half the spacing of bf16 numbers, relative


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).bfloat16()


@pytest.mark.parametrize("kernels", [True, False])
def test_products_and_their_gradients_are_rounded_once(monkeypatch, kernels):
    monkeypatch.setattr("models.layers.has_bf16_kernels", lambda: kernels)
    # No bf16 numbers, so that a weight that is not rounded shows.
    x, weight = numbers(5, 7).requires_grad_(), nn.Parameter(1.003 * numbers(4, 7).float())
    seen = []

    def product(*factors):
        seen.extend(factor.dtype for factor in factors if factor is not None)
        return F.linear(*factors)

    y = multiply(product, x, weight, None)
    assert set(seen) == {torch.bfloat16 if kernels else torch.float32}
    direction = torch.ones_like(y)
    gradients = torch.autograd.grad(y, [x, weight], direction)
    assert [part.dtype for part in (y, *gradients)] == [x.dtype, x.dtype, torch.float32]
    a, b = x.detach().double(), weight.detach().bfloat16().double()
    exact = [a @ b.T, direction.double() @ b, direction.double().T @ a]
    for got, wanted in zip((y, *gradients), exact, strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=1.01 * ULP, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        Linear(8, 6),
        PointwiseConv(8, 6),
        CircularConv(8, 6),
        ProbAttention(masked=True, factor=1),
        ProbAttention(masked=False, factor=1, output_attention=True),
        FullAttention(masked=True).eval(),
        FullAttention(masked=False, dropout=0.5),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_way_of_multiplying_moves_roundings_only(monkeypatch, layer):
    attends = isinstance(layer, (ProbAttention, FullAttention))
    inputs = [numbers(2, 3, 9, 8)] * 3 if attends else [numbers(2, 9, 8)]
    outcomes = []
    for kernels in (True, False):
        monkeypatch.setattr("models.layers.has_bf16_kernels", lambda kernels=kernels: kernels)
        torch.manual_seed(0)
        y = layer(*inputs)
        outcomes.append(y[0] if attends else y)
    assert outcomes[0].dtype == outcomes[1].dtype == torch.bfloat16
    torch.testing.assert_close(*outcomes, rtol=4 * ULP, atol=4 * ULP)
