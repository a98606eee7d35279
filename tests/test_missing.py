"""Missing readings, marked -9999: kept and counted, or filled in time."""

import numpy as np
import pandas as pd
import pytest

from data.csv_reader import read_table
from data.registry import DATASETS
from tests.test_data import SHORT, columns, load, load_custom
from utils.files import UserError


def test_weathers_missing_readings_stay_or_are_filled_in_time(benchmark, capsys):
    with pytest.raises(UserError, match="gaps of over 24 steps: 1 "):
        load("weather", missing="interpolate")
    kept, filled = load("weather"), load("weather", missing="interpolate", max_gap=34)
    cells, where = "81 cells of -9999", "in wv (m/s), max. PAR (�mol/m�/s), OT are"
    assert capsys.readouterr().out.splitlines() == [
        f"note: weather: {cells} {where} taken as they are; --missing interpolate fills them",
        f"note: weather: {cells} and 0 empty or missing cells {where} filled, linearly in time, at "
        "the ends of training, validation and test with the nearest value",
    ]
    load("weather", target="T (degC)", features="S", missing="interpolate")
    assert capsys.readouterr().out == ""  # that column has all its readings
    raw = read_table(kept.path, DATASETS["weather"]).values
    marked = raw.eq(-9999).to_numpy()
    rows = filled.scaler.inverse(filled.train.values.double().numpy())
    assert marked.sum() == 81 and rows.min() > -1000
    np.testing.assert_allclose(rows[~marked], raw.to_numpy()[~marked], rtol=1e-5, atol=1e-3)
    assert rows[[7243, 7278], -1] == pytest.approx([436.2, 422.9])  # 35 steps apart
    assert rows[7244, -1] == pytest.approx(436.2 - 13.3 / 35)
    np.testing.assert_allclose(filled.scaler.std, rows[:36887].std(axis=0), rtol=1e-5)


def test_gaps_are_filled_in_time_and_ends_by_the_nearest(tmp_path, capsys):
    table = {"OT": np.arange(300.0), "b": np.arange(300.0)}
    table["OT"][[0, 1, 25, 209, 210, 299]] = -9999
    table["b"][3] = -9999.5
    table["b"][50] = np.nan
    dates = pd.date_range("2020-01-01", periods=300, freq="h", name="date")
    frame = pd.DataFrame(table, index=dates).drop(dates[[100, 101, 240]])
    frame.to_csv(tmp_path / "mine.csv")
    data = load("custom", tmp_path, **SHORT, missing="interpolate", max_gap=2)
    again = data.scaler.inverse(data.train.values.numpy())
    # training ends before row 210, validation before 240: neither sees what comes later
    assert again[[0, 1, 25, 101, 209, 210, 240, 299], 1] == pytest.approx(
        [2, 2, 25, 101, 208, 211, 241, 298], abs=1e-3
    )
    assert again[[3, 50, 100], 0] == pytest.approx([-9999.5, 50, 100], abs=1e-3)
    assert "6 cells of -9999 and 7 empty or missing cells in" in capsys.readouterr().out
    assert data.dates.equals(dates)
    with pytest.raises(UserError) as caught:
        load("custom", tmp_path, **SHORT, missing="interpolate", max_gap=1)
    hours = [str(dates[hour]) for hour in (0, 1, 100, 101, 209, 210)]
    assert str(caught.value).splitlines()[1:] == [
        f"  {hours[0]} to {hours[1]}: 2 steps without a value in OT",
        f"  {hours[2]} to {hours[3]}: 2 steps without a value in b, OT",
        f"  {hours[4]} to {hours[5]}: 2 steps without a value in OT",  # over a border
    ]


def test_a_column_without_a_value_is_never_filled(tmp_path):
    table = {**columns(), "b": np.full(300, -9999)}
    with pytest.raises(UserError, match=": 300 steps without a value in b"):
        load_custom(tmp_path, table, missing="interpolate", max_gap=5000)
