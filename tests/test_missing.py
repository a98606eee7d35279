"""Missing readings, marked -9999: kept and counted, or filled in time."""

import numpy as np
import pytest

from data.csv_reader import read_table
from data.data_loader import treat_missing
from data.registry import DATASETS
from tests.test_data import columns, load, load_custom
from utils.files import UserError


def test_weathers_missing_readings_stay_or_are_filled_in_time(benchmark, capsys):
    kept, filled = load("weather"), load("weather", missing="interpolate")
    cells = "note: weather: 81 cells of wv (m/s), max. PAR (�mol/m�/s), OT"
    assert capsys.readouterr().out.splitlines() == [
        f"{cells} are -9999, a missing value's mark: --missing interpolate fills them",
        f"{cells} were -9999: filled, linearly in time",
    ]
    load("weather", target="T (degC)", features="S", missing="interpolate")
    assert capsys.readouterr().out == ""  # that column has all its readings
    raw = read_table(kept.path, DATASETS["weather"]).values
    rows, marked = treat_missing(raw, kept.path, "interpolate"), raw.eq(-9999).to_numpy()
    assert marked.sum() == 81 and not rows.eq(-9999).any(axis=None)
    np.testing.assert_array_equal(rows.to_numpy()[~marked], raw.to_numpy()[~marked])
    assert rows["OT"].iloc[[7243, 7278]].tolist() == [436.2, 422.9]  # 35 steps apart
    assert rows["OT"].iloc[7244] == pytest.approx(436.2 - 13.3 / 35)
    np.testing.assert_allclose(filled.scaler.std, rows.head(36887).std(ddof=0), rtol=1e-9)


def test_gaps_are_filled_in_time_and_ends_by_the_nearest(tmp_path, capsys):
    table = {"OT": np.arange(300.0), "b": np.arange(300.0)}
    table["OT"][[0, 1, 25, 299]] = -9999  # row 25: February 2022, between 31 days and 28
    table["b"][3] = -9999.5
    data = load_custom(tmp_path, table, "MS", missing="interpolate")
    again = data.scaler.inverse(data.train.values.numpy())
    assert again[[0, 1, 25, 299], 1] == pytest.approx([2, 2, 24 + 2 * 31 / 59, 298], abs=1e-3)
    assert again[3, 0] == pytest.approx(-9999.5)
    assert ": 4 cells of OT were -9999: filled" in capsys.readouterr().out
    with pytest.raises(UserError, match="column 'b': all is -9999"):
        load_custom(tmp_path, {**columns(), "b": np.full(300, -9999)}, missing="interpolate")
