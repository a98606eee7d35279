"""Scaling: by training rows only, and back without losing a digit."""

import numpy as np
import pytest
import torch

from data.scaler import Scaler
from tests.test_data import columns, load_custom
from utils.metrics import ErrorSums


def test_the_scaler_sees_training_rows_only(tmp_path):
    table = {**columns(), "b": np.full(300, 0.1)}
    table["b"][250] = 2.1
    before = load_custom(tmp_path, table)
    np.testing.assert_allclose(before.scaler.std[-1], table["OT"][:210].std(), rtol=1e-12)
    assert before.scaler.std[1] == 1.0  # constant there: the column keeps its unit
    assert before.train.values[[0, 250], 1].tolist() == pytest.approx([0.0, 2.0], abs=1e-6)
    moved = {name: values + 1e3 * (np.arange(300) >= 210) for name, values in table.items()}
    after = load_custom(tmp_path, moved)
    np.testing.assert_array_equal(before.scaler.mean, after.scaler.mean)
    np.testing.assert_array_equal(before.scaler.std, after.scaler.std)
    assert before.sha256 != after.sha256


def test_values_far_from_the_training_rows_are_named(tmp_path, capsys):
    table = columns()
    table["OT"][290] = 1e9
    load_custom(tmp_path, table)
    said = f"note: {tmp_path}/mine.csv: 2020-01-13 02:00:00, column 'OT': 1e+09 is "
    assert capsys.readouterr().out.startswith(said)


def test_no_more_digits_are_written_than_float32_holds():
    scaler = Scaler(np.array([10.0, 0.0]), np.array([2.0, 1.0]))
    text = scaler.as_text(np.array([[12.3456789, 1.23456789]]))
    assert text.tolist() == [["12.34568", "1.23457"]]


@pytest.mark.parametrize(
    ("center", "deviation", "digits"), [(1e9, 3.0, 4), (116.4074, 0.0002, 8), (0.0, 1e-7, 11)]
)
def test_large_and_fine_values_keep_their_digits(tmp_path, center, deviation, digits):
    values = center + deviation * np.random.default_rng(1).uniform(-1, 1, 300)
    values[280] = center + deviation / 3
    data = load_custom(tmp_path, {"OT": values})
    again = data.scaler.inverse(data.test.values.numpy())
    np.testing.assert_allclose(again[:, 0], values, atol=1e-5 * deviation)
    written = data.scaler.as_text(again)[:, 0].astype(float)
    np.testing.assert_allclose(written, values, rtol=1e-15, atol=10.0**-digits)
    sums = ErrorSums(*data.scaler.last(1, torch.device("cpu")))
    batch = data.test.batch(torch.arange(len(data.test)))
    sums.add(batch.x[:, -6:], batch.y[:, -6:])
    rows = data.test.start + np.arange(len(data.test))[:, None] + np.arange(6)
    error = values[rows + 18] - values[rows + 24]
    result = sums.result() or {}
    assert result["mse"] == pytest.approx(np.square(error).mean(), rel=1e-5)
    assert result["mape"] == pytest.approx(np.abs(error / values[rows + 24]).mean(), rel=1e-5)
