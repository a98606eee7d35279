import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.data_loader import ForecastData, Windows, load_data
from data.registry import DATASETS, HERE
from utils.errors import UserError
from utils.timefeatures import time_features


def load(name: str = "custom", **changes) -> ForecastData:
    asked: dict[str, Any] = {
        **{"root_path": ".", "data_path": "mine.csv", "features": "M", "target": "OT"},
        **{"cols": None, "freq": "h", "embed": "timeF"},
        **{"seq_len": 96, "label_len": 48, "pred_len": 24},
    }
    if name in DATASETS:
        asked["target"] = DATASETS[name].target
    return load_data(name, **{**asked, **changes})


def write_custom(folder: Path, table: dict[str, np.ndarray], freq: str = "h") -> None:
    rows = len(next(iter(table.values())))
    dates = pd.date_range("2020-01-01", periods=rows, freq=freq, name="date")
    pd.DataFrame(table, index=dates).to_csv(folder / "mine.csv")


def agrees(ours: torch.Tensor, golden: np.ndarray) -> bool:
    if ours.shape != golden.shape:
        return False
    difference = np.abs(ours.double().numpy() - golden).max()
    return bool(difference <= 1e-5 * np.abs(golden).max() + 1e-6)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_windows_equal_the_golden_arrays(golden, case):
    arrays = np.load(golden / "windows.npz")
    meta = json.loads(str(arrays["meta"]))[case]
    data = load(
        meta["dataset"],
        features=meta["features"],
        target=meta["target"],
        freq=meta["freq"],
        embed="timeF" if meta["timeenc"] else "fixed",
        **dict(zip(("seq_len", "label_len", "pred_len"), meta["size"], strict=True)),
    )
    np.testing.assert_allclose(data.scaler.mean, arrays[f"{case}/mean"], rtol=1e-12)
    np.testing.assert_allclose(data.scaler.std, arrays[f"{case}/std"], rtol=1e-12)
    for part in ("train", "val", "test"):
        windows: Windows = getattr(data, part)
        assert len(windows) == arrays[f"{case}/{part}/len"]
        for i in (0, len(windows) // 2, len(windows) - 1):
            batch = windows.batch(torch.tensor([i]))
            for field, ours in batch._asdict().items():
                assert agrees(ours[0], arrays[f"{case}/{part}/{i}/{field}"]), (part, i, field)


@pytest.mark.parametrize(
    ("name", "rows", "last", "after"),
    [
        ("ETTh1", 17420, "2018-06-26 19:00", "2018-06-26 20:00"),
        ("ETTh2", 17420, "2018-06-26 19:00", "2018-06-26 20:00"),
        ("ETTm1", 69680, "2018-06-26 19:45", "2018-06-26 20:00"),
        ("ETTm2", 69680, "2018-06-26 19:45", "2018-06-26 20:00"),
        ("WTH", 35064, "2013-12-31 23:00", "2014-01-01 00:00"),
        ("weather", 52696, "2021-01-01 00:00", "2021-01-01 00:10"),
    ],
)
def test_registered_files_are_what_their_rows_say(benchmark, name, rows, last, after):
    dataset = DATASETS[name]
    data = load(name)
    assert data.path.stat().st_size == dataset.size
    assert data.sha256 == dataset.sha256
    assert len(data.dates) == rows
    assert len(data.columns) == data.x_width == data.out_width == dataset.columns
    assert data.columns[-1] == data.target == dataset.target
    assert str(data.dates[-1]) == f"{last}:00"
    assert str(data.beyond[0]) == f"{after}:00"
    assert data.step == data.beyond[1] - data.beyond[0]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("ETTh1", (8521, 2857, 2857)),
        ("ETTm1", (34441, 11497, 11497)),
        ("WTH", (24425, 3485, 6989)),
    ],
)
def test_splits_hold_the_published_counts(benchmark, name, counts):
    data = load(name)
    assert (len(data.train), len(data.val), len(data.test)) == counts


def test_weather_is_read_as_it_is(benchmark):
    data = load("weather")
    assert data.columns[16] == "SWDR (W/m�)"
    assert (
        np.count_nonzero(np.diff(data.dates.to_numpy()) == np.timedelta64(0)) == 1
    )  # a repeated date
    assert data.scaler.std[-1] == pytest.approx(384, abs=0.5)  # its sentinels are taken too


def test_demo_needs_nothing_but_the_project(monkeypatch):
    monkeypatch.delenv("INFORMER_DATA", raising=False)
    data = load("demo")
    assert data.path == HERE / "demo" / "demo.csv"
    assert data.path.stat().st_size == DATASETS["demo"].size < 1_000_000
    assert data.columns[-1] == "temp"
    assert len(data.columns) == DATASETS["demo"].columns
    assert set(np.diff(data.dates.to_numpy())) == {np.timedelta64(1, "h")}
    assert torch.isfinite(data.train.values).all()


def test_a_changed_registered_file_is_refused(tmp_path):
    content = (HERE / "demo" / "demo.csv").read_bytes()
    (tmp_path / "demo.csv").write_bytes(content.replace(b"26.06", b"26.07", 1))
    with pytest.raises(UserError) as caught:
        load("demo", root_path=tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/demo.csv: sha256 is ")
    assert message.endswith(
        f", but demo has {DATASETS['demo'].sha256}; delete the file and run "
        "`python -m data.download demo`, or use it as --data custom"
    )


def test_root_path_comes_before_the_data_folder(tmp_path, benchmark, monkeypatch):
    assert load("ETTh1", root_path=tmp_path).path == benchmark / "ETT" / "ETTh1.csv"
    (tmp_path / "ETTh1.csv").write_bytes((benchmark / "ETT" / "ETTh1.csv").read_bytes())
    assert load("ETTh1", root_path=tmp_path).path == tmp_path / "ETTh1.csv"
    assert load("ETTh1", root_path=tmp_path, data_path="x.csv").path == tmp_path / "ETTh1.csv"


def test_an_absent_registered_file_names_the_places_and_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("INFORMER_DATA", str(tmp_path / "data"))
    with pytest.raises(UserError) as caught:
        load("ECL", root_path=tmp_path)
    assert str(caught.value) == (
        f"ECL.csv: not found, looked for {tmp_path}/ECL.csv, {tmp_path}/data/ECL/ECL.csv, "
        f"{HERE}/downloads/ECL/ECL.csv; run `python -m data.download ECL`, or name its folder "
        "with --root_path"
    )


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_each_window_is_the_naive_slice(tmp_path_factory, data):
    rows = data.draw(st.integers(5, 120), label="rows")
    seq_len = data.draw(st.integers(1, 40), label="seq_len")
    label_len = data.draw(st.integers(0, seq_len), label="label_len")
    pred_len = data.draw(st.integers(1, 20), label="pred_len")
    ends = (int(rows * 0.7), rows - int(rows * 0.2), rows)
    first = (0, ends[0] - seq_len, ends[1] - seq_len)
    counts = [end - start - seq_len - pred_len + 1 for start, end in zip(first, ends, strict=True)]
    folder = tmp_path_factory.mktemp("windows")
    numbers = np.random.default_rng(rows).normal(size=(rows, 2))
    write_custom(folder, {"OT": numbers[:, 0], "other": numbers[:, 1]})
    lengths: dict[str, Any] = {"seq_len": seq_len, "label_len": label_len, "pred_len": pred_len}
    if min(counts) < 1:
        with pytest.raises(UserError, match=f"{rows} rows are too few"):
            load(root_path=folder, **lengths)
        return
    loaded = load(root_path=folder, **lengths)
    moved = numbers[:, ::-1]  # the target comes last
    training = moved[: ends[0]]
    scaled = torch.tensor((moved - training.mean(0)) / training.std(0), dtype=torch.float32)
    marks = torch.tensor(time_features(loaded.dates, "h", "timeF"), dtype=torch.float32)
    parts = (loaded.train, loaded.val, loaded.test)
    for windows, start, count in zip(parts, first, counts, strict=True):
        assert len(windows) == count
        batch = windows.batch(torch.arange(count))
        for i in range(count):
            at = start + i + seq_len
            for ours, whole in ((batch.x, scaled), (batch.x_mark, marks)):
                assert torch.equal(ours[i], whole[at - seq_len : at])
            for ours, whole in ((batch.y, scaled), (batch.y_mark, marks)):
                assert torch.equal(ours[i], whole[at - label_len : at + pred_len])


@given(rows=st.integers(1, 60), seq_len=st.integers(1, 30), pred_len=st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_the_rows_asked_for_are_just_enough(tmp_path_factory, rows, seq_len, pred_len):
    folder = tmp_path_factory.mktemp("rows")
    lengths: dict[str, Any] = {"seq_len": seq_len, "label_len": 0, "pred_len": pred_len}
    lengths["root_path"] = folder
    write_custom(folder, {"OT": np.arange(float(rows))})
    try:
        load(**lengths)
    except UserError as error:
        needed = int(str(error).split(" or bring ")[1].removesuffix(" rows"))
    else:
        return
    write_custom(folder, {"OT": np.arange(float(needed))})
    load(**lengths)
    write_custom(folder, {"OT": np.arange(float(needed - 1))})
    with pytest.raises(UserError, match=f"or bring {needed} rows"):
        load(**lengths)


def columns(rows: int = 300) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(7).normal(5, 3, size=(rows, 3))
    return {"a": numbers[:, 0], "OT": numbers[:, 1], "b": numbers[:, 2]}


SHORT: dict[str, Any] = {"seq_len": 24, "label_len": 12, "pred_len": 6}


@pytest.mark.parametrize(
    ("features", "cols", "names", "out_width"),
    [
        ("M", None, ["a", "b", "OT"], 3),
        ("MS", None, ["a", "b", "OT"], 1),
        ("S", None, ["OT"], 1),
        ("M", ["b", "a"], ["b", "a", "OT"], 3),
        ("M", ["b", "OT"], ["b", "OT"], 2),
        ("M", ["b"], ["b", "OT"], 2),
        ("S", ["b"], ["OT"], 1),
    ],
)
def test_features_and_cols_choose_the_columns(tmp_path, features, cols, names, out_width):
    write_custom(tmp_path, columns())
    data = load(root_path=tmp_path, features=features, cols=cols, **SHORT)
    assert data.columns == names
    assert (data.x_width, data.out_width) == (len(names), out_width)
    batch = data.train.batch(torch.arange(4))
    assert batch.x.shape == (4, 24, len(names))
    assert batch.y.shape == (4, 18, len(names))
    original = data.scaler.inverse(batch.x.numpy().astype(np.float64))
    table = columns()
    for i, name in enumerate(names):
        np.testing.assert_allclose(original[2, :, i], table[name][2:26], atol=1e-5)


def test_cols_choose_columns_of_a_registered_file(benchmark):
    assert load("ETTh1", cols=["MULL", "HUFL"]).columns == ["MULL", "HUFL", "OT"]


def test_the_scaler_sees_training_rows_only(tmp_path):
    table = columns()
    write_custom(tmp_path, table)
    before = load(root_path=tmp_path, **SHORT)
    changed = {
        name: np.concatenate([values[:210], values[210:] + 1e3]) for name, values in table.items()
    }
    write_custom(tmp_path, changed)
    after = load(root_path=tmp_path, **SHORT)
    np.testing.assert_array_equal(before.scaler.mean, after.scaler.mean)
    np.testing.assert_array_equal(before.scaler.std, after.scaler.std)
    np.testing.assert_allclose(before.scaler.std[-1], table["OT"][:210].std(), rtol=1e-12)
    assert before.sha256 != after.sha256


def test_a_constant_column_keeps_its_unit(tmp_path):
    table = {**columns(), "b": np.full(300, 0.1)}
    table["b"][250] = 2.1
    write_custom(tmp_path, table)
    data = load(root_path=tmp_path, **SHORT)
    assert data.scaler.std[1] == 1.0
    assert data.train.values[0, 1].item() == pytest.approx(0, abs=1e-7)
    assert data.train.values[250, 1].item() == pytest.approx(2.0)


def test_the_inverse_takes_the_last_columns(tmp_path):
    write_custom(tmp_path, columns())
    data = load(root_path=tmp_path, features="MS", **SHORT)
    target = data.test.values[:, -1:].double().numpy()
    np.testing.assert_allclose(data.scaler.inverse(target)[:, 0], columns()["OT"], atol=1e-5)


@pytest.mark.parametrize("embed", ["timeF", "fixed"])
def test_the_future_continues_at_the_datas_own_step(tmp_path, embed):
    write_custom(tmp_path, columns(), freq="15min")
    data = load(root_path=tmp_path, freq="h", embed=embed, **SHORT)
    batch, dates = data.future()
    expected = pd.date_range(data.dates[-1] + pd.Timedelta("15min"), periods=6, freq="15min")
    assert data.step == pd.Timedelta("15min")
    assert dates.equals(expected)
    values, rows = data.test.values, len(data.dates)
    assert torch.equal(batch.x[0], values[rows - 24 :])
    assert torch.equal(batch.y[0, :12], values[rows - 12 :])
    assert not batch.y[0, 12:].any()
    whole = pd.DatetimeIndex(data.dates.append(expected))
    marks = torch.tensor(time_features(whole, "h", embed)).to(batch.x_mark.dtype)
    assert batch.x_mark.dtype == (torch.float32 if embed == "timeF" else torch.int64)
    assert torch.equal(batch.x_mark[0], marks[-30:-6])
    assert torch.equal(batch.y_mark[0], marks[-18:])


@pytest.mark.parametrize(
    ("freq", "after", "step"),
    [
        ("MS", ["2045-01-01", "2045-02-01"], "31D"),
        ("ME", ["2045-01-31", "2045-02-28"], "31D"),
        ("QS", ["2095-01-01", "2095-04-01"], "92D"),
        ("YS", ["2320-01-01", "2321-01-01"], "365D"),
        ("B", ["2021-02-24", "2021-02-25"], "1D"),
        ("W-WED", ["2025-10-01", "2025-10-08"], "7D"),
    ],
)
def test_calendar_steps_are_regular(tmp_path, freq, after, step):
    write_custom(tmp_path, columns(), freq=freq)
    data = load(root_path=tmp_path, freq="m", **SHORT)
    assert data.future()[1][:2].tolist() == [pd.Timestamp(date) for date in after]
    assert data.step == pd.Timedelta(step)


def test_parts_share_one_tensor_and_move_together(tmp_path):
    write_custom(tmp_path, columns())
    data = load(root_path=tmp_path, **SHORT)
    moved = data.to("meta")
    for one in (data, moved):
        assert one.train.values is one.val.values is one.test.values
        assert one.train.marks is one.val.marks is one.test.marks
    assert moved.test.values.device.type == moved.test.marks.device.type == "meta"
    assert data.train.values.device.type == "cpu"


def test_batches_are_contiguous_float32(tmp_path):
    write_custom(tmp_path, columns())
    batch = load(root_path=tmp_path, **SHORT).train.batch(torch.tensor([3, 0]))
    assert {tensor.dtype for tensor in batch} == {torch.float32}
    assert all(tensor.is_contiguous() for tensor in batch)
