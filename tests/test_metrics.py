"""Errors by hand and against NumPy."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.metrics import ErrorSums, score

NAMES = ("mae", "mse", "rmse", "mape", "mspe")


def test_by_hand_with_a_zero_truth():
    sums = ErrorSums()
    assert sums.result() is None
    pred = torch.tensor([[[1.0], [2.0]], [[3.0], [5.0]]])
    true = torch.tensor([[[0.0], [1.0]], [[1.0], [4.0]]])
    sums.add(pred, true)
    # errors 1, 1, 2, 1; ratios of the three non-zero truths 1, 2, 0.25
    expected = dict(zip(NAMES, (1.25, 1.75, 1.75**0.5, 3.25 / 3, 5.0625 / 3), strict=True))
    assert sums.result() == pytest.approx({**expected, "windows": 2, "zeros": 1})
    assert sums.by_step() == {"mse": [2.5, 1.0], "mae": [1.5, 1.0]}
    assert sums.by_column() == {"mse": [1.75], "mae": [1.25]}
    (wide := ErrorSums()).add(
        pred.transpose(1, 2), true.transpose(1, 2)
    )  # steps and columns change places
    assert wide.by_column() == sums.by_step()


@pytest.mark.parametrize(("pred", "true", "missing"), [(1, 0, NAMES[3:]), (torch.inf, 1, NAMES)])
def test_what_is_undefined_or_not_finite_is_missing(pred, true, missing):
    sums = ErrorSums()
    sums.add(torch.full((1, 2, 1), pred), torch.full((1, 2, 1), true))
    result = sums.result() or {}
    assert [name for name in NAMES if result[name] is None] == list(missing)
    json.dumps(result, allow_nan=False)


def test_original_units_are_computed_in_double():
    truth = np.array([[1e9, 0.0], [1e9 + 2, 5.0], [1e9 - 1, -5.0]])
    mean, std = np.array([1e9, 50.0]), truth.std(0)  # scaled in fp32 something of 0 is left
    true = torch.tensor((truth - mean) / std, dtype=torch.float32)[:, None]
    sums = ErrorSums(torch.tensor(mean), torch.tensor(std))
    sums.add(true + torch.tensor([0.5, 1.0]), true)
    error, result = np.array([0.5, 1.0]) * std, sums.result() or {}
    assert result["mse"] == pytest.approx(np.square(error).mean(), rel=1e-6)
    ratios = np.abs(np.broadcast_to(error, (3, 2))[truth != 0] / truth[truth != 0])
    assert (result["mape"], result["zeros"]) == (pytest.approx(ratios.mean(), rel=1e-5), 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 80), st.integers(1, 50), st.integers(1, 3), st.integers(0, 2**31 - 1))
def test_batches_add_up_to_numpy(windows, batch_size, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    pred, true = torch.randn(2, windows, 5, channels, generator=generator)
    batches = zip(pred.split(batch_size), true.split(batch_size), strict=True)
    scores = score(batches, windows).as_dict()
    p, t = pred.double().numpy(), true.double().numpy()
    assert scores["all"]["mse"] == pytest.approx(np.square(p - t).mean(), rel=1e-12)
    assert scores["all"]["mape"] == pytest.approx(np.abs((p - t) / t).mean(), rel=1e-9)
    kept = windows // 32 * 32
    assert (scores["truncated"] or {"windows": 0})["windows"] == kept
    if kept:
        expected = np.abs(p[:kept] - t[:kept]).mean()
        assert scores["truncated"]["mae"] == pytest.approx(expected, rel=1e-12)
