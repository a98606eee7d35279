"""Fast layers against torch's own; dropout's rate, scale, gradient and use of the generator."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import layers
from models.encoder import FeedForward
from models.layers import Dropout, LayerNorm, Linear, TimeConv


def torchs(kernel):
    return nn.Conv1d(8, 6, kernel, padding=kernel // 2, padding_mode="circular")


LAYERS = {
    "linear": (Linear(8, 6), nn.Linear(8, 6)),
    "kernel 1": (TimeConv(8, 6, 1), torchs(1)),
    "kernel 3": (TimeConv(8, 6, 3), torchs(3)),
    "norm": (LayerNorm(8), nn.LayerNorm(8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_torchs(name):
    ours, theirs = LAYERS[name]
    theirs.load_state_dict({k: 1.003 * torch.randn_like(v) for k, v in theirs.state_dict().items()})
    ours.load_state_dict(theirs.state_dict())
    for length in (9, 1):
        x = torch.randn(3, length, 8, requires_grad=True)
        pairs = (ours, ours(x)), (theirs, theirs(x.mT).mT if "kernel" in name else theirs(x))
        results = [
            [y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])]
            for layer, y in pairs
        ]
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

    # in bf16 weights and results are rounded; the weights that are trained stay fp32
    x = torch.randn(3, 9, 8).bfloat16()
    y = ours(x)
    assert y.dtype == torch.bfloat16
    gradients = torch.autograd.grad(y.float().sum(), list(ours.parameters()))
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    rounded = {k: v.bfloat16().float() for k, v in ours.state_dict().items()}
    exact = torch.func.functional_call(ours, rounded, x.float())
    torch.testing.assert_close(y.float(), exact, rtol=1.01 * 2**-8, atol=1e-5)  # half a spacing


def test_pieces_draw_their_masks_in_turn(monkeypatch):
    """The order and size of draws is part of the results version."""
    assert (layers.PIECE_NUMBERS, layers.MAX_WHOLE_NUMBERS) == (2**22, 2**24)
    layer, x = FeedForward(4, 8, 0.3, "gelu"), torch.randn(5, 6, 4)
    one, most = 6 * 8, 5 * 6 * 8
    cases = (2 * one, most, (5,)), (2 * one, most - 1, (2, 2, 1)), (1, most - 1, (1, 1, 1, 1, 1))
    for piece, whole, sizes in cases:
        monkeypatch.setattr("models.layers.PIECE_NUMBERS", piece)
        torch.manual_seed(0)
        inner = [layer.conv2(layer.dropout(F.gelu(layer.conv1(part)))) for part in x.split(sizes)]
        expected = layer.dropout(torch.cat(inner))
        monkeypatch.setattr("models.layers.MAX_WHOLE_NUMBERS", whole)
        torch.manual_seed(0)
        torch.testing.assert_close(layer.feed_forward(x), expected)


def test_the_mask_is_the_results_versions():
    torch.manual_seed(0)
    kept = Dropout(0.5)(torch.ones(2, 5)).flatten() != 0
    assert kept.int().tolist() == [1, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    assert not torch.equal(Dropout(0.5)(torch.ones(10)) != 0, kept)


@pytest.mark.parametrize(("p", "dtype"), [(0.05, torch.float32), (0.9, torch.bfloat16)])
def test_rate_scale_and_gradient(p, dtype):
    torch.manual_seed(0)
    x = torch.ones(1001, 999, dtype=dtype, requires_grad=True)  # an odd number of elements
    y = Dropout(p)(x)
    assert y.dtype == dtype
    rate = (y == 0).double().mean().item()
    assert abs(rate - p) < 5 * (p * (1 - p) / y.numel()) ** 0.5
    (kept,) = y[y != 0].unique().tolist()
    expected = 2**16 / (2**16 - round(p * 2**16))
    assert kept == pytest.approx(expected, rel=2e-7 if dtype == torch.float32 else 2**-8)
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y)


def test_each_quarter_of_a_draw_is_fair():
    torch.manual_seed(0)
    dropped = (Dropout(0.3)(torch.ones(400_000)).view(-1, 4) == 0).double()
    assert dropped.mean(0).tolist() == pytest.approx([0.3] * 4, abs=0.01)
    assert (torch.corrcoef(dropped.T) - torch.eye(4)).abs().max() < 0.01


def test_limits():
    before, x = torch.get_rng_state(), torch.ones(5)
    assert Dropout(0.0)(x) is Dropout(0.5).eval()(x) is x
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn
    for p in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="dropout must lie in"):
            Dropout(p)
    assert torch.isfinite(Dropout(0.9999999)(torch.ones(1000))).all()
    # the last of the 2^16 values alone is kept
    assert Dropout(1 - 2**-16)(torch.ones(2**21)).unique().tolist() == [0, 2**16]
