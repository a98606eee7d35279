"""Autoformer's parts against references written from the definitions."""

import math

import pytest
import torch

from models.autoformer import AutoCorrelation
from tests.test_models import batch, build


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(q, k, v, factor, *, training):
    """One window, one delay at a time."""
    length, filled = q.shape[2], []
    for x in (k, v):
        known = min(length, x.shape[2])
        filled.append(torch.zeros_like(q))
        filled[-1][:, :, :known] = x[:, :, :known]
    k, v = filled
    scores = [(torch.roll(q, -d, 2) * k).sum(2).mean((1, 2)) for d in range(length)]
    scores = torch.stack(scores, dim=1)  # [B, L]
    count = max(1, min(int(factor * math.log(length)), length))
    context = torch.zeros_like(v)
    for b in range(len(q)):
        delays = (scores.mean(0) if training else scores[b]).topk(count).indices
        for weight, delay in zip(scores[b, delays].softmax(0), delays.tolist(), strict=True):
            context[b] += weight * torch.roll(v[b], -delay, 1)
    return context


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("length", "keys"), [(9, 9), (10, 6), (6, 11), (2, 2), (1, 3)])
def test_auto_correlation_equals_the_reference(length, keys, training):
    q, k, v = randn(3, 2, length, 4), randn(3, 2, keys, 4, seed=1), randn(3, 2, keys, 4, seed=2)
    expected = reference(q, k, v, 2, training=training)
    context, maps = AutoCorrelation(2, output_attention=True).train(training)(q, k, v)
    torch.testing.assert_close(context, expected, rtol=1e-4, atol=1e-5)
    assert maps.shape == (3, 1, length, length)


def test_the_decoder_reads_the_input_and_not_x_dec():
    """A level added to the input comes back in the forecast of the target, the last column."""
    model = build("autoformer").eval()
    x, marks, x_dec, marks_dec = batch()
    with torch.no_grad():  # what is left is the trend of the input
        for name, parameter in model.named_parameters():
            if name.startswith("decoder.") and "projection" in name:
                parameter.zero_()
    pred = model(x, marks, x_dec, marks_dec).pred
    level = model(x + torch.tensor([3.0, 7.0]), marks, x_dec + 1, marks_dec).pred - pred
    torch.testing.assert_close(level, torch.full((3, 5, 1), 7.0))
