"""A finished run forecasts new rows: the right numbers, dates and places, or one line."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import main_informer
from exp.forecast import Prediction, forecast, main
from models import MODELS
from tests.runs import ROOT, TINY, build, only_run
from utils.files import UserError, read_json

COLUMNS = ["date", "dewp", "humid", "temp"]
ROWS = pd.read_csv(ROOT / "data/demo/demo.csv", usecols=COLUMNS, parse_dates=["date"]).tail(400)
WORDS = ["--train_epochs", "1", "--batch_size", "128"]
WORDS += ["--do_predict", "--target", "temp"]


def train(folder: Path, *words: str) -> Path:
    """Train on ROWS, in folder/mine.csv; return the run's folder."""
    ROWS.to_csv(folder / "mine.csv", index=False)
    words = ("--data", "custom", "--root_path", str(folder), "--data_path", "mine.csv", *words)
    assert main_informer.main([*TINY, *WORDS, *words, "--results", str(folder / "results")]) == 0
    return only_run(folder / "results")


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, index_col="date", parse_dates=["date"])


def agree(ahead: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Compare forecasts, one of them read from a CSV file."""
    pd.testing.assert_frame_equal(ahead, expected, rtol=1e-5, check_freq=False)


def refused(*asked: Any) -> str:
    with pytest.raises(UserError) as caught:
        forecast(*asked)
    return str(caught.value)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("run"))


PAIRS = list(zip(MODELS, itertools.cycle(("M", "MS"))))


@pytest.mark.parametrize(("model", "features"), PAIRS)
def test_every_model_forecasts_as_it_predicts(tmp_path, model, features):
    lam = "2" if MODELS[model].embeds else "0"
    run = train(tmp_path, "--model", model, "--features", features, "--lam", lam)
    expected = read(run / "prediction.csv")
    agree(forecast(run, ROWS.iloc[-50:, ::-1]), expected)  # columns are found by name
    assert list(expected.columns) == (COLUMNS[1:] if features == "M" else ["temp"])


def test_a_prediction_goes_on_from_the_last_rows():
    rows = read(ROOT / "tests" / "part.csv")["temp"].tail(12)
    ahead = Prediction(build())
    assert list(ahead.past) == list(rows.index)
    assert ahead.history[:, 0] == pytest.approx(rows.to_numpy(), rel=1e-5)
    assert list(ahead.dates - rows.index[-1]) == [pd.Timedelta(h, "h") for h in range(1, 5)]


def test_seq_len_rows_are_enough_and_the_index_may_hold_the_dates(run):
    whole, rows = forecast(run, ROWS), ROWS.set_index("date").filter(["temp"]).tail(12)
    pd.testing.assert_frame_equal(forecast(run, rows), whole)
    assert (whole.index.name, list(whole.columns), len(whole)) == ("date", ["temp"], 4)
    assert refused(run, rows.tail(11)) == (
        "frame: 11 rows before the first date to forecast; the run reads 12 (seq_len)"
    )


def test_files_are_forecast_scored_and_never_overwritten(run, tmp_path, capsys):
    paths = [tmp_path / name / "new.csv" for name in ("a", "b", "c")]
    for path, rows, moved in zip(paths, (40, 50, 40), (0.0, 0.0, 0.5), strict=True):
        path.parent.mkdir()
        ROWS.tail(rows).assign(temp=ROWS["temp"] + moved).to_csv(path, index=False)
    (a, b, c), results = map(str, paths), ["--results", str(tmp_path)]
    out = tmp_path / f"forecast-{run.name}"
    main([str(run), a, b, *results])  # the same rows at the end
    assert sorted(path.name for path in out.iterdir()) == ["new.csv", "new.png"]
    main([str(run), c, *results])
    assert sorted(path.name for path in out.glob("*.csv")) == ["new-2.csv", "new.csv"]
    agree(read(out / "new.csv"), forecast(run, ROWS))
    at, known = "12/30/2013 12:00", ROWS.set_index("date").filter(["temp"]).iloc[-7:-3]
    main([str(run), a, "--at", at, *results])
    ahead = forecast(run, ROWS, at)
    table = read(out / "new_from-2013-12-30T120000.csv")
    agree(table, ahead.assign(**{"temp (truth)": known["temp"]}))
    error = np.abs(ahead.to_numpy() - known.to_numpy())
    scaled = error / read_json(run / "config.json")["scaler"]["std"][0]
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{a}: 4 steps known: MSE {np.square(scaled).mean():.4f}, MAE {scaled.mean():.4f}; in "
        f"original units: MSE {np.square(error).mean():.5g}, MAE {error.mean():.5g}"
    )


def test_missing_readings_are_filled_as_the_run_was_trained(run, tmp_path, capsys):
    filling = train(tmp_path, "--missing", "interpolate")
    rows: Any = ROWS.set_index("date").filter(["temp"]).tail(20)
    rows.iloc[[12, 18, 19]], rows.iloc[[11, 13, 17]] = -9999, [[30.0], [34.0], [36.0]]
    filled = rows.copy()
    filled.iloc[[12, 18, 19]] = [[32.0], [36.0], [36.0]]
    pd.testing.assert_frame_equal(forecast(filling, rows), forecast(filling, filled))
    first = str(rows.index[13])  # what is read ends in a gap, and must not see its other end
    pd.testing.assert_frame_equal(forecast(filling, rows, first), forecast(filling, rows[:13]))
    rows.iloc[15] = -9999  # of the four steps ahead, one is not known
    rows.to_csv(tmp_path / "gap.csv")
    main([str(filling), str(tmp_path / "gap.csv"), "--at", first])
    assert ": 3 steps known: MSE " in capsys.readouterr().out
    (table,) = filling.parent.glob("forecast-*/gap_from-*.csv")
    assert list(read(table)["temp (truth)"].isna()) == [False, False, True, False]
    rows.iloc[15] = filled.iloc[15]
    assert (forecast(run, rows) - forecast(run, filled)).abs().to_numpy().min() > 1


def test_the_readme_example_runs(run, tmp_path, monkeypatch):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n([^`]*import forecast\n[^`]*)```", readme)
    (folder,) = re.findall(r'forecast\("([^"]*)"', code)
    monkeypatch.chdir(tmp_path)
    Path(folder).parent.mkdir()
    Path(folder).symlink_to(run)
    names: dict[str, Any] = {"frame": ROWS}
    exec(code, names)
    pd.testing.assert_frame_equal(names["ahead"], forecast(run, ROWS))


def test_loaded_weights_are_on_the_scale_of_their_record(run, tmp_path, capsys):
    ROWS.tail(200).to_csv(tmp_path / "new.csv", index=False)
    words = [*TINY, *WORDS, "--data", "custom", "--root_path", str(tmp_path), "--data_path"]
    words += ["new.csv", "--batch_size", "64", "--results", str(tmp_path), "--test_only"]
    assert main_informer.main([*words, "--load", str(run / "weights.pt")]) == 0
    assert "its record's scale" in capsys.readouterr().out
    (folder,) = tmp_path.glob("loaded-*")
    agree(forecast(run, ROWS), read(folder / "prediction.csv"))


HALF_HOURS = pd.date_range("2020-01-01", periods=400, freq="30min")
SPAN = "frame has no row of that date; give one from 2013-12-14 15:00:00 to 2013-12-30 19:00:00"
EARLY = "rows before the first date to forecast; the run reads 12 (seq_len)"
MISTAKES: list[tuple[pd.DataFrame, str | None, str]] = [
    (
        *(ROWS.rename(columns={"temp": "tmp"}), None),
        "frame: has no column 'temp' (did you mean tmp?), on which the run was trained; it reads "
        "temp",
    ),
    (
        *(ROWS.assign(temp=ROWS["temp"].where(ROWS.index != ROWS.index[-6])), None),
        "frame: empty cells: 1 (the step is h); add what is missing, or let --missing interpolate "
        "fill gaps of at most --max_gap steps\n"
        "  row 396: column 'temp': 'nan' is not a finite number",
    ),
    (
        *(ROWS.assign(date=HALF_HOURS).tail(23), None),
        "frame: dates off the step: 11 (the step is h); resample to one step (months: date each "
        "row by its first day)"
        + "".join(
            f"\n  row {row}: {HALF_HOURS[row + 375]} is not a whole number of steps after the "
            "first date"
            for row in range(3, 23, 2)
        ),
    ),
    (
        *(ROWS.drop(ROWS.index[-3]), None),
        "frame: missing rows: 1 (the step is h); add what is missing, or let --missing interpolate "
        "fill gaps of at most --max_gap steps\n"
        "  row 399: before it 1 step is missing, 2013-12-30 16:00:00",
    ),
    (
        *(ROWS.rename(columns={"date": "ds"}), None),
        "frame: no column 'date' (did you mean 'ds'?); name the column of dates date, or make it "
        "the index",
    ),
    (
        *(ROWS.rename(columns={"date": "Date"}), None),
        "frame: no column 'date' (did you mean Date?); name the column of dates date, or make it "
        "the index",
    ),
    (
        *(ROWS.rename(columns={"dewp": "temp"}), None),
        "frame: column 'temp' is there twice; rename one",
    ),
    (
        *(ROWS.assign(date=ROWS["date"].dt.tz_localize("UTC")), None),
        "frame: its dates have time zone UTC, those of the run None; write them as the run's data "
        "file does",
    ),
    (
        *(ROWS.assign(date=pd.date_range("9998-12-01", periods=400, freq="h")), None),
        "frame: 0 rows before the first date to forecast; the run reads 12 (seq_len)",
    ),
    (ROWS, "noon", f"--at noon: {SPAN}"),
    (ROWS, "2013-12-30 12:30", f"--at 2013-12-30 12:30: {SPAN}"),
    (ROWS, "2013-12-30T12:00Z", f"--at 2013-12-30T12:00Z: {SPAN}"),
    (ROWS, "2013-12-14 08:00", f"frame: 5 {EARLY}"),
    (ROWS.head(0), "2013-12-14 08:00", f"frame: 0 {EARLY}"),
]


ROW = dict(ROWS.iloc[-1])
MONTH_FIRST = ROWS["date"].dt.strftime("%m/%d/%Y %H:%M")
FORMS: list[Any] = [  # other ways to give the same rows: a frame or a series
    ROWS.set_index("date")["temp"],
    ROWS.set_index("date")["temp"].rename(None),
    ROWS.assign(date=ROWS["date"].astype(str)),
    ROWS.assign(date=ROWS["date"].dt.to_pydatetime()),
    ROWS.assign(date=MONTH_FIRST),
    ROWS.set_index(pd.PeriodIndex(ROWS["date"], freq="h")).drop(columns="date"),
    ROWS.assign(temp=ROWS["temp"].astype(str)),
    ROWS.assign(temp=ROWS["temp"].astype("Float64"), dewp="a text that is not read"),
    pd.concat([ROWS.head(9).assign(temp=np.nan), ROWS.head(5), ROWS.tail(30)]),  # not read: wrong
    ROWS.assign(**{"temp (truth)": 1.0, "history": 2.0, "1": 3.0}).rename(columns={"1": 1}),
]


@pytest.mark.parametrize("frame", FORMS, ids=range(len(FORMS)))
def test_ways_to_give_the_same_rows(run, frame):
    pd.testing.assert_frame_equal(forecast(run, frame), forecast(run, ROWS))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "+05:30", "America/St_Johns"])
def test_dates_of_another_time_zone_are_converted(run, tmp_path, zone):
    moved, body = shutil.copytree(run, tmp_path / "run"), read_json(run / "config.json")
    body["scaler"]["zone"] = "UTC+01:00"
    (moved / "config.json").write_text(json.dumps(body), encoding="utf-8")
    dates = ROWS["date"].dt.tz_localize("UTC+01:00").dt.tz_convert(zone)
    expected = forecast(run, ROWS, ROWS["date"].iloc[-3])
    ahead = forecast(moved, ROWS.assign(date=dates), dates.iloc[-3])
    pd.testing.assert_frame_equal(ahead, expected)
    assert refused(moved, ROWS).startswith(
        "frame: its dates have time zone None, those of the run UTC+01:00; "
    )


def test_a_forecast_leaves_the_process_as_it_was_and_threads_get_the_same_numbers(run):
    """M's attention draws; a library call must leave the caller's generator alone."""
    torch.manual_seed(5)
    before, alone = torch.get_rng_state(), forecast(run, ROWS)
    assert torch.equal(torch.get_rng_state(), before)
    torch.backends.cudnn.allow_tf32 = True
    forecast(run, ROWS)
    assert torch.backends.cudnn.allow_tf32
    with ThreadPoolExecutor(4) as pool:
        for ahead in pool.map(lambda _: forecast(run, ROWS), range(8)):
            pd.testing.assert_frame_equal(ahead, alone)


def test_marks_of_missing_values_are_noted_where_they_are_read(run, capsys):
    for row, noted in ((-13, False), (-12, True), (-1, True)):
        rows = ROWS.copy()
        rows.iloc[row, 3] = -9999
        forecast(run, rows)
        note = "note: frame: 1 cells of -9999 in temp, a missing value's mark"
        assert (note in capsys.readouterr().out) == noted


def test_a_large_frame_costs_no_more_than_its_dates(run):
    hours = pd.date_range(end=ROWS["date"].iloc[-1], periods=10**6, freq="h")
    large = pd.DataFrame({"temp": 0.0, "text": "x"}, index=hours)
    large.iloc[-400:, 0] = ROWS["temp"].to_numpy()
    begun = time.process_time()
    ahead = forecast(run, large)
    assert time.process_time() - begun < 10  # 44 s through a CSV file
    pd.testing.assert_frame_equal(ahead, forecast(run, ROWS))


def test_no_column_s_name_collides_with_ours(run, tmp_path):
    names = ["load", "load (truth)", "load (truth2)"]
    frame = ROWS.set_axis(["date", *names], axis=1)
    frame.to_csv(tmp_path / "mine.csv", index=False)
    words = [*TINY, *WORDS, "--features", "M", "--target", "load", "--data", "custom"]
    words += ["--root_path", str(tmp_path), "--data_path", "mine.csv"]
    assert main_informer.main([*words, "--results", str(tmp_path / "runs")]) == 0
    folder, at = only_run(tmp_path / "runs"), str(frame["date"].iloc[-3])
    assert main([str(folder), str(tmp_path / "mine.csv"), "--at", at]) == 0
    (path,) = folder.parent.glob("forecast-*/mine_from-*.csv")
    table: Any = read(path)
    assert len({*table.columns}) == 6
    agree(table[[*names[1:], "load"]], forecast(folder, frame, at))
    known = frame.set_index("date")["load"].tail(3)
    assert table["load (truth3)"].dropna().tolist() == pytest.approx(known.to_list())


@pytest.mark.parametrize(("frame", "at", "expected"), MISTAKES, ids=lambda value: "")
def test_mistakes_in_new_rows_are_named(run, frame, at, expected):
    assert refused(run, frame, at) == expected


def test_runs_that_cannot_forecast_say_why(run, tmp_path):
    assert refused(tmp_path, ROWS).endswith(": no finished run; name a run's folder in results")
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    body = read_json(run / "config.json")
    (tmp_path / "config.json").write_text(json.dumps({**body, "scaler": None}), encoding="utf-8")
    assert "an old record without scale and step; train with --force" in refused(tmp_path, ROWS)
    shutil.copy(run / "config.json", tmp_path)
    for change, expected in (
        ({"status": "failed", "error": "NaN"}, "the run failed (NaN); name a finished one"),
        ({"weights_sha256": None}, "weights were not kept (--weights drop); train with --force"),
        ({"weights_sha256": "0" * 64}, "damaged (its checksum does not hold)"),
    ):
        metrics = {**read_json(run / "metrics.json"), **change}
        (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        assert expected in refused(tmp_path, ROWS)
    command = [sys.executable, "-m", "exp.forecast", run, "none.csv"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    message = "error: none.csv: cannot be read (No such file or directory); check its path\n"
    assert (ended.returncode, ended.stderr) == (2, message)
