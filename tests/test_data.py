"""Data sets as windows: against golden arrays, published counts and naive slices."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.data_loader import (
    column_counts,
    data_sha256,
    load_data,
    natural_freq,
    window_counts,
)
from data.registry import DATASETS, HERE
from exp.baselines import baseline_scores, baselines
from exp.config import Config
from utils.files import UserError
from utils.metrics import ErrorSums
from utils.timefeatures import time_features

SHORT: dict[str, Any] = {"seq_len": 24, "label_len": 12, "pred_len": 6}


def load(name: str, root_path: Path | str = ".", **changes):
    target = DATASETS[name].target if name in DATASETS else "OT"
    config = Config(model="informer", data=name, **{"target": target, **changes})
    return load_data(config, root_path, "mine.csv")


def load_custom(folder: Path, table: dict[str, np.ndarray], freq: str = "h", **changes):
    rows = len(next(iter(table.values())))
    dates = pd.date_range("2020-01-01", periods=rows, freq=freq, name="date")
    pd.DataFrame(table, index=dates).to_csv(folder / "mine.csv")
    return load("custom", folder, **{**SHORT, **changes})


def columns(rows: int = 300) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(7).normal(5, 3, size=(rows, 3))
    return {"a": numbers[:, 0], "OT": numbers[:, 1], "b": numbers[:, 2]}


@pytest.mark.parametrize("case", [0, 1, 2])
def test_windows_equal_the_golden_arrays(golden, case):
    arrays = np.load(golden / "windows.npz")
    meta = json.loads(str(arrays["meta"]))[case]
    data = load(
        meta["dataset"],
        **{name: meta[name] for name in ("features", "target", "freq")},
        embed="timeF" if meta["timeenc"] else "fixed",
        **dict(zip(SHORT, meta["size"], strict=True)),
    )
    np.testing.assert_allclose(data.scaler.mean, arrays[f"{case}/mean"], rtol=1e-12)
    np.testing.assert_allclose(data.scaler.std, arrays[f"{case}/std"], rtol=1e-12)
    for part in ("train", "val", "test"):
        windows = getattr(data, part)
        assert len(windows) == arrays[f"{case}/{part}/len"]
        for i in (0, len(windows) // 2, len(windows) - 1):
            for field, ours in windows.batch(torch.tensor([i]))._asdict().items():
                expected = arrays[f"{case}/{part}/{i}/{field}"]
                assert ours[0].shape == expected.shape
                atol = 1e-5 * np.abs(expected).max() + 1e-6
                np.testing.assert_allclose(ours[0].numpy(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("name", "counts", "last"),
    [
        ("ETTh1", (8521, 2857, 2857), "2018-06-26 19:00"),
        ("ETTh2", (8521, 2857, 2857), "2018-06-26 19:00"),
        ("ETTm1", (34441, 11497, 11497), "2018-06-26 19:45"),
        ("ETTm2", (34441, 11497, 11497), "2018-06-26 19:45"),
        ("WTH", (24425, 3485, 6989), "2013-12-31 23:00"),
        ("weather", (36768, 5247, 10516), "2021-01-01 00:00"),
        ("demo", (5992, 850, 1723), "2013-12-30 18:00"),
    ],
)
def test_registered_files_are_what_their_rows_say(benchmark, name, counts, last, capsys):
    dataset, data = DATASETS[name], load(name)
    notes = capsys.readouterr().out
    assert data.sha256 == dataset.sha256 == data_sha256(name, "nowhere", "")
    assert len(data.dates) == dataset.rows
    assert len(data.columns) == data.x_width == data.out_width == dataset.columns
    assert data.columns[-1] == dataset.target
    assert str(data.dates[-1]) == f"{last}:00"
    stamps: Any = data.dates.append(data.beyond)[-3:]
    assert set(stamps[1:] - stamps[:-1]) == {dataset.step}
    assert (len(data.train), len(data.val), len(data.test)) == counts
    assert window_counts(name, "nowhere", "", 96, 24) == counts
    assert column_counts(name, "nowhere", "", "MS", None) == (dataset.columns, 1)
    assert natural_freq(name, "nowhere", "") == "h"  # as the released scripts leave it
    if name == "weather":  # read as it is, with a repeated date and sentinels
        assert data.columns[16] == "SWDR (W/m�)"
        assert np.count_nonzero(np.diff(data.dates.to_numpy()) == np.timedelta64(0)) == 1
        assert data.scaler.std[-1] == pytest.approx(384, abs=0.5)
        where = "wv (m/s), max. PAR (�mol/m�/s), OT"
        assert notes == f"note: weather: 81 cells of -9999 in {where} are taken as they are\n"


def test_registered_files_are_found_and_verified(tmp_path, benchmark, monkeypatch):
    found = load("ETTh1", root_path=tmp_path).path
    assert found.samefile(benchmark / "ETT" / "ETTh1.csv")
    (tmp_path / "ETTh1.csv").write_bytes((benchmark / "ETT" / "ETTh1.csv").read_bytes())
    assert load("ETTh1", root_path=tmp_path).path == tmp_path / "ETTh1.csv"
    monkeypatch.delenv("INFORMER_DATA")
    demo = load("demo").path  # comes with the project
    assert demo == HERE / "demo" / "demo.csv"
    (tmp_path / "demo.csv").write_bytes(demo.read_bytes().replace(b"26.06", b"26.07", 1))
    with pytest.raises(UserError, match=r"demo\.csv: its sha256 is not that of demo"):
        load("demo", root_path=tmp_path)
    assert DATASETS["ECL"].path == HERE / "downloads" / "ECL" / "ECL.csv"
    monkeypatch.setenv("INFORMER_DATA", str(tmp_path / "data"))
    places = f"ECL.csv: neither in {tmp_path} nor at {tmp_path}/data/ECL/ECL.csv; run"
    with pytest.raises(UserError, match=places):
        load("ECL", root_path=tmp_path)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_each_window_is_the_naive_slice(tmp_path_factory, data):
    rows = data.draw(st.integers(5, 120), label="rows")
    seq_len = data.draw(st.integers(2, 40), label="seq_len")
    label_len = data.draw(st.integers(0, seq_len), label="label_len")
    pred_len = data.draw(st.integers(1, 20), label="pred_len")
    ends = (int(rows * 0.7), rows - int(rows * 0.2), rows)
    first = (0, ends[0] - seq_len, ends[1] - seq_len)
    counts = [end - start - seq_len - pred_len + 1 for start, end in zip(first, ends, strict=True)]
    folder = tmp_path_factory.mktemp("windows")
    numbers = np.random.default_rng(rows).normal(size=(rows, 2))
    table = {"OT": numbers[:, 1], "other": numbers[:, 0]}
    lengths = dict(zip(SHORT, (seq_len, label_len, pred_len), strict=True))
    if min(counts) < 1:
        with pytest.raises(UserError, match=f"{rows} rows are too few"):
            load_custom(folder, table, **lengths)
        return
    loaded = load_custom(folder, table, **lengths)
    training = numbers[: ends[0]]
    scaled = torch.tensor((numbers - training.mean(0)) / training.std(0), dtype=torch.float32)
    marks = torch.tensor(time_features(loaded.dates, "h", "timeF"), dtype=torch.float32)
    parts = (loaded.train, loaded.val, loaded.test)
    for windows, start, count in zip(parts, first, counts, strict=True):
        assert len(windows) == count
        batch = windows.batch(torch.arange(count))
        assert all(tensor.is_contiguous() for tensor in batch)
        for i in range(count):
            at = start + i + seq_len
            for ours, whole in ((batch.x, scaled), (batch.x_mark, marks)):
                assert torch.equal(ours[i], whole[at - seq_len : at])
            for ours, whole in ((batch.y, scaled), (batch.y_mark, marks)):
                assert torch.equal(ours[i], whole[at - label_len : at + pred_len])


@pytest.mark.parametrize(
    ("features", "cols", "names", "out_width"),
    [
        ("M", None, ["a", "b", "OT"], 3),
        ("MS", None, ["a", "b", "OT"], 1),
        ("S", None, ["OT"], 1),
        ("M", ["b", "a"], ["b", "a", "OT"], 3),
        ("M", ["b", "OT"], ["b", "OT"], 2),
        ("S", ["b"], ["OT"], 1),
    ],
)
def test_features_and_cols_choose_the_columns(tmp_path, features, cols, names, out_width):
    data = load_custom(tmp_path, columns(), features=features, cols=cols)
    widths = (data.x_width, data.out_width)
    assert (data.columns, *widths) == (names, len(names), out_width)
    if cols is None or "OT" in cols:
        assert column_counts("custom", tmp_path, "mine.csv", features, cols) == widths
    batch = data.train.batch(torch.arange(4))
    assert (batch.x.shape, batch.y.shape) == ((4, 24, len(names)), (4, 18, len(names)))
    original = data.scaler.inverse(batch.x[..., -out_width:].numpy())
    for i, name in enumerate(names[-out_width:]):
        np.testing.assert_allclose(original[2, :, i], columns()[name][2:26], atol=1e-5)


@pytest.mark.parametrize("embed", ["timeF", "fixed"])
def test_the_future_continues_at_the_datas_own_step(tmp_path, embed):
    data = load_custom(tmp_path, columns(), freq="15min", embed=embed)
    batch, dates = data.future(), data.beyond
    expected = pd.date_range(data.dates[-1], periods=7, freq="15min")[1:]
    assert dates.equals(expected)
    values, rows = data.test.values, len(data.dates)
    assert torch.equal(batch.x[0], values[rows - 24 :])
    assert torch.equal(batch.y[0, :12], values[rows - 12 :])
    assert not batch.y[0, 12:].any()
    marks = torch.tensor(time_features(pd.DatetimeIndex(data.dates.append(expected)), "h", embed))
    marks = marks.to(torch.float32 if embed == "timeF" else torch.int64)
    assert torch.equal(batch.x_mark[0], marks[-30:-6]) and batch.x_mark.dtype == marks.dtype
    assert torch.equal(batch.y_mark[0], marks[-18:])
    moved = data.to("meta")
    for one, device in ((data, "cpu"), (moved, "meta")):  # the parts share their tensors
        assert one.train.values is one.val.values is one.test.values
        assert one.train.marks is one.val.marks is one.test.marks
        assert one.test.values.device.type == one.test.marks.device.type == device


@pytest.mark.parametrize(
    ("freq", "after", "found"),  # unit of time features; baselines day and week
    [
        ("MS", ["2045-01-01", "2045-02-01"], ("m", ())),
        ("ME", ["2045-01-31", "2045-02-28"], ("m", ())),
        ("BMS", ["2045-01-02", "2045-02-01"], ("m", ())),
        ("QS", ["2095-01-01", "2095-04-01"], ("m", ())),
        ("YS", ["2320-01-01", "2321-01-01"], ("m", ())),
        ("B", ["2021-02-24", "2021-02-25"], ("b", ())),
        ("W-WED", ["2025-10-01", "2025-10-08"], ("w", ())),
        ("D", ["2020-10-27", "2020-10-28"], ("d", ("week",))),
        ("36h", ["2021-03-26", "2021-03-27 12:00"], ("h", ())),
        ("h", ["2020-01-13 12:00", "2020-01-13 13:00"], ("h", ("day", "week"))),
        ("7min", ["2020-01-02 11:00", "2020-01-02 11:07"], ("t", ())),
        ("s", ["2020-01-01 00:05:00", "2020-01-01 00:05:01"], ("s", ())),
        ("100ms", ["2020-01-01 00:00:30", "2020-01-01 00:00:30.1"], ("s", ())),
    ],
)
def test_steps_and_what_follows_from_them(tmp_path, freq, after, found):
    unit, baselines = found
    data = load_custom(tmp_path, columns(), freq)
    assert data.beyond[:2].tolist() == [pd.Timestamp(date) for date in after]
    assert natural_freq("custom", tmp_path, "mine.csv") == unit
    assert natural_freq("custom", tmp_path, "mine.csv", "fixed") == ("t" if unit in "st" else "h")
    scores = baseline_scores(data, Config(model="informer", data="custom", **SHORT))
    assert tuple(name for name in ("day", "week") if scores[name]) == baselines
    for name in baselines:
        back = {"Dweek": 7, "hday": 24, "hweek": 168}[freq + name]
        windows = data.test.values[240:].unfold(0, 6, 1)  # the test part: [W, C, 6]
        rows = 240 + torch.arange(len(windows))[:, None] + torch.arange(6) % back - back
        error = windows.transpose(1, 2) - data.test.values[rows]
        assert scores[name]["all"]["mse"] == pytest.approx(float(error.square().mean()))


@pytest.mark.parametrize(("rows", "known"), [(299, True), (298, False)])
def test_a_day_ago_must_be_in_the_file(tmp_path, rows, known):
    data = load_custom(tmp_path, columns(rows), freq="6min")  # a day is 240 rows
    scores = baseline_scores(data, Config(model="informer", data="custom", **SHORT))
    assert bool(scores["day"]) is known


def test_ridge_is_least_squares_with_a_penalty(tmp_path):
    data = load_custom(tmp_path, columns())
    train, test = (part.batch(torch.arange(len(part))) for part in (data.train, data.test))
    x, y, new = (
        values.transpose(1, 2).flatten(0, 1).double().numpy()
        for values in (train.x, train.y[:, 12:], test.x)
    )
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    stacked = np.vstack([x - x_mean, np.eye(24)])  # ridge is least squares with these rows more
    weights = np.linalg.lstsq(stacked, np.vstack([y - y_mean, np.zeros((24, 6))]))[0]
    expected = ((new - x_mean) @ weights + y_mean).reshape(-1, 3, 6).transpose(0, 2, 1)
    ridge = baselines(data, Config(model="informer", data="custom", **SHORT))["ridge"]
    assert ridge is not None
    np.testing.assert_allclose(ridge(torch.arange(len(data.test))), expected, atol=1e-6)


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


@pytest.mark.parametrize(("center", "deviation"), [(1e9, 3.0), (116.4074, 0.0002), (0.0, 1e-7)])
def test_large_and_fine_values_keep_their_digits(tmp_path, center, deviation):
    values = center + deviation * np.random.default_rng(1).uniform(-1, 1, 300)
    values[280] = center + deviation / 3
    data = load_custom(tmp_path, {"OT": values})
    again = data.scaler.inverse(data.test.values.numpy())[:, 0]
    np.testing.assert_allclose(again, values, atol=1e-5 * deviation)
    sums = ErrorSums(*data.scaler.last(1, torch.device("cpu")))
    batch = data.test.batch(torch.arange(len(data.test)))
    sums.add(batch.x[:, -6:], batch.y[:, -6:])
    rows = data.test.start + np.arange(len(data.test))[:, None] + np.arange(6)
    error = values[rows + 18] - values[rows + 24]
    result = sums.result() or {}
    assert result["mse"] == pytest.approx(np.square(error).mean(), rel=1e-5)
    assert result["mape"] == pytest.approx(np.abs(error / values[rows + 24]).mean(), rel=1e-5)
