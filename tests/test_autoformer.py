"""Autoformer's parts against references written from the definitions; the Transformer's kinship."""

import math
from typing import Any

import pytest
import torch

from models.autoformer import AutoCorrelation, Autoformer, SeasonalNorm, correlate, decompose
from models.model import Informer
from models.transformer import Transformer

SIZES: dict[str, Any] = {"enc_in": 2, "dec_in": 2, "c_out": 2, "d_model": 8, "n_heads": 2}
SIZES |= {"seq_len": 16, "label_len": 6, "out_len": 5, "e_layers": 2, "d_layers": 1, "d_ff": 12}


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("window", [1, 3, 25])  # also longer than the series
def test_the_trend_is_a_moving_average_with_repeated_ends(window):
    x = randn(2, 9, 3)
    seasonal, trend = decompose(x, window)
    torch.testing.assert_close(seasonal + trend, x)
    reach = window // 2
    for t in range(9):
        around = [min(max(s, 0), 8) for s in range(t - reach, t + reach + 1)]
        torch.testing.assert_close(trend[:, t], x[:, around].mean(1))


@pytest.mark.parametrize("length", [1, 2, 9, 10])
def test_correlation_by_its_definition(length):
    q, k = randn(2, 3, length, 4), randn(2, 3, length, 4, seed=1)
    ours = correlate(q, k)
    for delay in range(length):
        expected = (torch.roll(q, -delay, 2) * k).sum(2).mean((1, 2))
        torch.testing.assert_close(ours[:, delay].double(), expected, rtol=1e-4, atol=1e-5)


def reference(q, k, v, factor, *, training):
    """One window, one delay at a time."""
    batch, _, length, _ = q.shape
    padded = []
    for x in (k, v):
        filled = torch.zeros_like(q)
        known = min(length, x.shape[2])
        filled[:, :, :known] = x[:, :, :known]
        padded.append(filled)
    k, v = padded
    scores = torch.stack(
        [(torch.roll(q, -d, 2) * k).sum(2).mean((1, 2)) for d in range(length)], dim=1
    )  # [B, L]
    count = max(1, min(int(factor * math.log(length)), length))
    context = torch.zeros_like(v)
    for b in range(batch):
        ranking = scores.mean(0) if training else scores[b]
        delays = ranking.topk(count).indices
        for weight, delay in zip(scores[b, delays].softmax(0), delays.tolist(), strict=True):
            context[b] += weight * torch.roll(v[b], -delay, 1)
    return context


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("length", "keys"), [(9, 9), (10, 6), (6, 11), (1, 3)])
def test_auto_correlation_equals_the_reference(length, keys, training):
    q, k, v = randn(3, 2, length, 4), randn(3, 2, keys, 4, seed=1), randn(3, 2, keys, 4, seed=2)
    attention = AutoCorrelation(factor=2, output_attention=True).train(training)
    context, maps = attention(q, k, v)
    expected = reference(q, k, v, 2, training=training)
    torch.testing.assert_close(context, expected, rtol=1e-4, atol=1e-5)
    assert maps.shape == (3, 1, length, length)
    assert AutoCorrelation(factor=2).train(training)(q, k, v)[1] is None


def test_delays_of_training_are_the_batchs_and_of_evaluation_each_windows():
    q = randn(4, 1, 12, 2)
    for training, shared in ((True, True), (False, False)):
        maps = AutoCorrelation(factor=1, output_attention=True).train(training)(q, q, q)[1]
        used = maps != 0
        assert (used == used[:1]).all() == shared
        alone = AutoCorrelation(factor=1, output_attention=True).train(training)(
            q[:1], q[:1], q[:1]
        )[1]
        assert torch.equal(maps[:1], alone) == (not shared)


def test_gradients_pass_through_the_weights():
    q, k, v = (randn(2, 2, 9, 4, seed=i).requires_grad_() for i in range(3))
    AutoCorrelation(factor=1)(q, k, v)[0].square().sum().backward()
    assert all((x.grad != 0).any() for x in (q, k, v))


def test_the_final_norm_removes_the_mean_over_time():
    norm = SeasonalNorm(4)
    torch.nn.init.normal_(norm.layernorm.bias)
    y = norm(torch.randn(2, 7, 4))
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 4), rtol=0, atol=1e-6)
    assert y.std() > 0.5


def test_the_decoder_reads_the_input_and_not_x_dec():
    """A level added to the input comes back in the forecast of the target, the last column."""
    model = Autoformer(**{**SIZES, "c_out": 1}, embed="timeF", moving_avg=5).eval()
    x, marks = torch.randn(3, 16, 2), torch.rand(3, 16, 4)
    x_dec, marks_dec = torch.randn(3, 11, 2), torch.rand(3, 11, 4)
    pred = model(x, marks, x_dec, marks_dec).pred
    assert torch.equal(model(x, marks, x_dec + 1, marks_dec).pred, pred)
    assert not torch.equal(model(x, marks, x_dec, marks_dec + 1).pred, pred)
    with torch.no_grad():  # what is left is the trend of the input
        for name, parameter in model.named_parameters():
            if name.startswith("decoder.") and "projection" in name:
                parameter.zero_()
    pred = model(x, marks, x_dec, marks_dec).pred
    level = model(x + torch.tensor([3.0, 7.0]), marks, x_dec, marks_dec).pred - pred
    torch.testing.assert_close(level, torch.full((3, 5, 1), 7.0))


def test_the_transformer_is_informer_with_full_attention():
    settings = {"attn": "full", "distil": False, "mix": False, "embed_bias": False}
    informer = Informer(**SIZES, **settings, embed="timeF").eval()
    transformer = Transformer(**SIZES, embed="timeF").eval()
    state = transformer.state_dict().items()
    informer.load_state_dict({k.replace("decoder.proj", "proj"): v for k, v in state}, strict=True)
    x, x_dec = torch.randn(3, 16, 2), torch.randn(3, 11, 2)
    inputs = x, torch.rand(3, 16, 4), x_dec, torch.rand(3, 11, 4)
    torch.testing.assert_close(transformer(*inputs).pred, informer(*inputs).pred)
