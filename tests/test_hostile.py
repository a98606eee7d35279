"""Inputs that people have and programs stumble over, ten and more of each kind."""

import dataclasses
import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.csv_reader import parse_table
from data.data_loader import load_data
from exp.config import Config, Options, parse
from exp.exp_informer import Exp_Informer
from exp.forecast import Prediction, forecast, main
from exp.record import Record, read_runs
from tests.records import ENVIRONMENT
from tests.runs import ROOT, TINY, only_run, tiny
from utils.files import UserError, read_json

HOURS = pd.date_range("2013-10-26 00:00", periods=60, freq="h")  # summer time ends among them
ROWS = pd.read_csv(ROOT / "tests" / "part.csv").tail(60).assign(date=HOURS)
LENGTHS = {"seq_len": 12, "label_len": 6, "pred_len": 4}
SMALL: Any = {**LENGTHS, "d_model": 8, "n_heads": 2, "d_ff": 16, "batch_size": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of three columns."""
    results = tmp_path_factory.mktemp("hostile")
    assert tiny(results, "--features", "M", "--train_epochs", "1") == 0
    return only_run(results)


@pytest.fixture
def utc_run(run, tmp_path) -> Path:
    """The same run, as if its file's dates had been written in UTC."""
    folder, body = shutil.copytree(run, tmp_path / "utc"), read_json(run / "config.json")
    body["scaler"]["zone"] = "UTC"
    (folder / "config.json").write_text(json.dumps(body), encoding="utf-8")
    return folder


def same(ahead: pd.DataFrame, expected: pd.DataFrame) -> None:
    index: Any = {"check_freq": False, "check_index_type": False}
    pd.testing.assert_frame_equal(ahead, expected, rtol=1e-9, **index)


NAMES = [
    *(
        "T (degC)",
        "Wärme/°C",
        "温度",
        "درجة",
        "a b  c",
        "x,y",
        'say "q"',
        "100%",
        "$E=mc^2$",
        "-9999",
    ),
    *("1", "nan", "true", "date ", "Date", "..", "~", "#", "=1+1", "load (truth)", "🌡", "n" * 90),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_columns_targets_files_and_folders(name, tmp_path):
    twin = f"{name} (truth)"  # a name that ours could collide with
    folder, file = tmp_path / f"{name.replace('/', '_')}_", f"{name.replace('/', '_')}.csv"
    folder.mkdir()
    ROWS.set_axis(["date", "x", twin, name], axis=1).to_csv(folder / file, index=False)
    config = Config(model="informer", data="custom", target=name, cols=(twin, name), **SMALL)
    data = load_data(config, folder, file)
    assert data.columns == [twin, name]
    assert data.scaler.mean == pytest.approx(ROWS[["humid", "temp"]][:42].mean().to_numpy())
    runs = [dataclasses.replace(config, target=one).run_name("0", file) for one in (name, twin)]
    assert len({*runs}) == 2
    (tmp_path / runs[0]).mkdir()  # a name for one folder
    truth = pd.DataFrame(1.0, data.beyond, data.columns)
    ahead = Prediction(Exp_Informer(config, Options(device="cpu"), data=data), truth)
    path, _ = ahead.write(folder, file.removesuffix(".csv") + "_")
    table = pd.read_csv(path, index_col=0)
    assert len({*table.columns}) == 4 and list(table)[:2] == [twin, name]
    np.testing.assert_allclose(table.to_numpy()[:, :2], ahead.values)
    assert table.iloc[:, 2:].eq(1).all(axis=None)


ZONES = [
    *("UTC", "Europe/Berlin", "Europe/London", "America/New_York", "Asia/Kolkata", "+05:30"),
    *("-03:30", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe"),
]


@pytest.mark.parametrize("zone", ZONES)
def test_dates_of_frames_in_any_zone_are_the_same_instants(zone, run, utc_run):
    dates = HOURS.tz_localize("UTC").tz_convert(zone)
    same(forecast(utc_run, ROWS.assign(date=dates)), forecast(run, ROWS))
    same(forecast(utc_run, ROWS.assign(date=dates), dates[-3]), forecast(run, ROWS, HOURS[-3]))
    for folder, frame in ((run, ROWS.assign(date=dates)), (utc_run, ROWS)):
        with pytest.raises(UserError, match="; write them as the run's data file does"):
            forecast(folder, frame)


WRITTEN = [  # HOURS in a file: strftime's format, a shift of the clock, the zone
    *(("%Y-%m-%d %H:%M:%S", 0, None), ("%Y-%m-%dT%H:%M", 0, None), ("%Y%m%dT%H%M%S", 0, None)),
    *(("%m/%d/%Y %H:%M", 0, None), ("%m/%d/%Y %H:%M:%S", 0, None), ("%Y-%m-%d %H", 0, None)),
    *(("%Y-%m-%d %H:%MZ", 0, "UTC"), ("%Y-%m-%dT%H:%M:%S.000Z", 0, "UTC")),
    *(("%Y-%m-%d %H:%M+02:00", 2, "UTC+02:00"), ("%Y-%m-%d %H:%M-03:30", -3.5, "UTC-03:30")),
]


@pytest.mark.parametrize(("form", "shift", "zone"), WRITTEN)
def test_dates_of_files(form, shift, zone, run, utc_run):
    dates = (HOURS + pd.Timedelta(hours=shift)).strftime(form)
    path = utc_run.with_name("new.csv")
    ROWS.assign(date=dates).to_csv(path, index=False)
    table = parse_table(path.read_bytes(), path)
    assert table.zone == zone and table.offset.freqstr == "h"
    if zone is None:
        assert table.dates.equals(HOURS)
    folder = run if zone is None else utc_run
    assert main([str(folder), str(path)]) == 0
    written = folder.with_name(f"forecast-{folder.name}") / "new.csv"
    table = pd.read_csv(written, index_col="date", parse_dates=True)
    same(table, forecast(run, ROWS))
    written.unlink()


AT = [
    *("2013-10-28", "2013-10-28 00:00", "20131028", "10/28/2013", "10/28/2013 00:00:00"),
    *(datetime.datetime(2013, 10, 28), datetime.date(2013, 10, 28), np.datetime64("2013-10-28")),
    *(HOURS[48], "2013-10-28T00:00Z", "2013-10-28T01:00+01:00", "2013-10-27T20:30-03:30"),
    *(HOURS[48].tz_localize("UTC").tz_convert(zone) for zone in ("Asia/Tokyo", "Europe/Berlin")),
]


@pytest.mark.parametrize("at", AT, ids=str)
def test_dates_of_flags(at, run, utc_run):
    frame = ROWS.assign(date=HOURS.tz_localize("UTC"))
    same(forecast(utc_run, frame, at), forecast(run, ROWS[:48]))


def put(row: int, name: str, value: Any) -> pd.DataFrame:
    """ROWS with one other cell."""
    frame = ROWS.astype(object)
    frame.iloc[row, frame.columns.get_loc(name)] = value
    return frame


def moved(rows: slice, by: str | None) -> pd.DataFrame:
    """ROWS with some dates moved by a length of time, or without a date."""
    dates = HOURS.to_series()
    dates.iloc[rows] = dates.iloc[rows] + pd.Timedelta(by) if by else pd.NaT
    return ROWS.assign(date=dates.to_numpy())


REST = ROWS.drop(columns="date")
DATED = ROWS.set_index("date")
GIVEN: dict[str, Any] = {  # the same rows: other columns, orders, types, rows that are not read
    "columns reversed": ROWS.iloc[:, ::-1],
    "columns sorted": ROWS[sorted(ROWS)],
    "date last": ROWS[[*REST, "date"]],
    "dates in the index": DATED,
    "periods in the index": DATED.to_period("h"),
    "index of other numbers": ROWS.set_index(np.arange(60) % 7),
    "texts": ROWS.astype(str),
    "nullable": ROWS.astype({name: "Float64" for name in REST}),
    "python's dates": ROWS.assign(date=HOURS.to_pydatetime().astype(object)),
    "coarse dates": ROWS.assign(date=HOURS.astype("datetime64[s]")),
    "further columns": ROWS.assign(**{"temp (truth)": 1.0, "x": "text", "": None}),
    "a column without a name": ROWS.assign(y=0).rename(columns={"y": 7}),
    "only what is read": ROWS.tail(12),
    "a value before": put(-13, "temp", 1e9),
    "an empty cell before": put(-13, "temp", np.nan),
    "a text before": put(3, "humid", "?"),
    "a row missing before": ROWS.drop(ROWS.index[30]),
    "rows repeated before": pd.concat([ROWS.head(20), ROWS]),
    "rows out of order before": pd.concat([ROWS.iloc[30:40], ROWS.iloc[:30], ROWS.iloc[40:]]),
    "dates missing before": moved(slice(0, 9), None),
    "dates far off before": moved(slice(0, 9), "-100000 days"),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_rows_given_in_other_ways_and_rows_that_are_not_read(kind, run):
    same(forecast(run, GIVEN[kind]), forecast(run, ROWS))


READ: dict[str, tuple[Any, str]] = {  # rows that are read, and a part of the error
    "an empty cell": (put(-12, "temp", None), "gaps: 1"),
    "a text": (put(-2, "humid", "?"), "'?' in column 'humid'"),
    "infinity": (ROWS.assign(temp=np.inf), "not a finite number: 12"),
    "too large": (ROWS.assign(temp=1e30), "standard deviations from the mean"),
    "a row missing": (ROWS.drop(ROWS.index[-2]), "gaps: 1"),
    "many rows missing": (ROWS.drop(ROWS.index[-20:-1]), "gaps: 1"),
    "a row repeated": (pd.concat([ROWS, ROWS.tail(1)]), "repeated date: 1"),
    "two rows swapped": (ROWS.iloc[[*range(57), 58, 57, 59]], "date out of order: 1"),
    "reversed": (ROWS[::-1], "date out of order: 11"),
    "off the step": (moved(slice(56, 57), "30min"), "date off the step: 1, gaps: 1"),
    "a jump": (moved(slice(51, 60), "9 days"), "gaps: 1"),
    "other step": (ROWS.assign(date=pd.date_range(HOURS[0], periods=60, freq="30min")), "off the"),
    "too few": (ROWS.tail(11), "11 rows before the first date to forecast"),
    "none": (ROWS.head(0), "no row has a date"),
    "no dates": (ROWS.assign(date="noon"), "no row has a date"),
    "dates of numbers": (REST.set_index(np.arange(60) % 7), "no row has a date"),
    "no date": (REST, "no column 'date'"),
    "no column": (ROWS.drop(columns="temp"), "no column 'temp'; the run reads dewp, humid, temp"),
    "a column twice": (ROWS.set_axis(["date", "dewp", "temp", "temp"], axis=1), "there twice"),
}


@pytest.mark.parametrize("kind", READ)
def test_rows_that_are_read_and_wrong(kind, run):
    frame, expected = READ[kind]
    with pytest.raises(UserError) as caught:
        forecast(run, frame)
    assert str(caught.value).startswith("frame: ") and expected in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 11


def test_a_date_after_a_long_gap_is_refused(run):
    with pytest.raises(UserError, match="gaps: 1"):
        forecast(run, moved(slice(51, 60), "9 days"), HOURS[51] + pd.Timedelta("9 days"))


OTHERWISE = [  # flags that say what TINY says, in other words
    *(
        "--freq 1h",
        "--freq H",
        "--lam 2.0",
        "--lip_sign minus",
        "--learning_rate 1e-3",
        "--amp off",
    ),
    *("--max_gap 5", "--missing keep", "--root_path tests/", "--data_path ./part.csv", "--seed 0"),
    *(
        "--embed timeF",
        "--moving_avg 9",
        "--s_layers 1",
        "--device cpu",
        "--des mine",
        "--factor 5",
    ),
]


@pytest.mark.parametrize("flags", OTHERWISE)
def test_flags_in_other_words_mean_the_same_run(flags, monkeypatch):
    monkeypatch.chdir(ROOT)
    config, _ = parse([*TINY, *flags.split()])
    assert config.identity("0") == parse(TINY)[0].identity("0")


KEPT = [  # of data and model: a record beside weights has them, and they may be given again
    *("--freq 15min", "--freq H", "--freq d", "--cols humid", "--cols humid temp", "--seq_len 12"),
    *("--cols humid dewp", "--embed fixed", "--missing interpolate --max_gap 5", "--attn full"),
    *("--d_model 16", "--padding 1", "--mix", "--distil", "--seed 3", "--eval_batch_size 7"),
]


@pytest.mark.parametrize("flags", KEPT)
def test_flags_of_a_record_given_again(flags, tmp_path):
    argv = [*TINY, "--features", "M", *flags.split()]
    config, options = parse(argv)
    data = load_data(config, options.root_path, options.data_path)
    record = Record(tmp_path, config.identity(data.sha256))
    record.start(ENVIRONMENT, data.scaling())
    weights = tmp_path / "weights.pt"
    weights.touch()
    again, _ = parse([*argv, "--test_only", "--load", str(weights)])
    assert again.identity("0") == dataclasses.replace(config, cols=again.cols).identity("0")
    assert again.cols == tuple(data.columns)


CHANGES = {  # what a letter below stands for
    **{"p": {"processor": "another"}, "t": {"threads": 2}, "d": {"device": "another"}},
    **{"o": {"torch": "1.0"}, "c": {"git_commit": "f" * 40}, "g": {"git_dirty": True}, "-": {}},
}
SITTINGS = ["", "-", "--", "p", "pp", "p-", "p-p", "t", "td", "dt", "g", "o", "co", "c-", "cpo"]


@pytest.mark.parametrize("changes", SITTINGS)
def test_sittings_are_all_kept(changes, tmp_path):
    config = Config(model="informer", data="demo", **SMALL)
    record = Record(tmp_path / config.run_name("0"), config.identity("0"))
    record.folder.mkdir()
    sittings = [ENVIRONMENT, *(ENVIRONMENT | CHANGES[change] for change in changes)]
    for environment in sittings:
        record.start(environment)
    body = read_json(record.folder / "config.json")
    assert [*body["earlier_environments"], body["environment"]] == sittings
    (row,) = read_runs(tmp_path).to_dict("records")
    assert row["environments"] == len({*changes} - {"-"} | {"first"})
