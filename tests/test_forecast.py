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
FLAGS = ["--train_epochs", "1", "--batch_size", "128", "--do_predict", "--target", "temp"]


def train(folder: Path, *flags: str) -> Path:
    """Train on ROWS, in folder/mine.csv; return the run's folder."""
    ROWS.to_csv(folder / "mine.csv", index=False)
    flags = ("--data", "custom", "--root_path", str(folder), "--data_path", "mine.csv", *flags)
    assert main_informer.main([*TINY, *FLAGS, *flags, "--results", str(folder / "results")]) == 0
    return only_run(folder / "results")


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, index_col="date", parse_dates=["date"])


def agree(ahead: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Compare forecasts, one of them read from a CSV file."""
    pd.testing.assert_frame_equal(ahead, expected, rtol=1e-5, check_freq=False)


def refused(*args: Any) -> str:
    with pytest.raises(UserError) as caught:
        forecast(*args)
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


def test_a_series_is_a_frame_of_one_column(run):
    whole, series = forecast(run, ROWS), ROWS.set_index("date")["temp"].tail(12)
    for one in (series, series.rename(None)):
        pd.testing.assert_frame_equal(forecast(run, one), whole)
    assert (whole.index.name, list(whole.columns), len(whole)) == ("date", ["temp"], 4)


def test_files_are_forecast_scored_and_never_overwritten(run, tmp_path, capsys):
    paths = [tmp_path / name / "new.csv" for name in ("a", "b", "c")]
    for path, rows, moved in zip(paths, (40, 50, 40), (0.0, 0.0, 0.5), strict=True):
        path.parent.mkdir()
        ROWS.tail(rows).assign(temp=ROWS["temp"] + moved).to_csv(path, index=False)
    (a, b, c), out = map(str, paths), run.with_name(f"forecast-{run.name}")
    main([str(run), a, b])  # the same rows at the end
    assert sorted(path.name for path in out.iterdir()) == ["new.csv", "new.png"]
    main([str(run), c])
    assert sorted(path.name for path in out.glob("*.csv")) == ["new-2.csv", "new.csv"]
    agree(read(out / "new.csv"), forecast(run, ROWS))
    at, known = "12/30/2013 12:00", ROWS.set_index("date").filter(["temp"]).iloc[-7:-3]
    main([str(run), a, "--at", at])
    ahead = forecast(run, ROWS, at)
    table = read(out / "new_from-2013-12-30T120000.csv")
    agree(table, ahead.assign(**{"temp (truth)": known["temp"]}))
    error = np.abs(ahead.to_numpy() - known.to_numpy())
    scaled = error / read_json(run / "config.json")["scaler"]["std"][0]
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{a}: 4 steps known: MSE {np.square(scaled).mean():.4f}, MAE {scaled.mean():.4f} (scaled)"
        f"; MAE {error.mean():.5g} in original units"
    )


def test_missing_readings_are_filled_as_the_run_was_trained(run, tmp_path, capsys):
    filling = train(tmp_path, "--missing", "interpolate", "--max_gap", "2")
    rows: Any = ROWS.set_index("date").filter(["temp"]).tail(20)
    rows.iloc[[12, 18, 19]], rows.iloc[[11, 13, 17]] = -9999, [[30.0], [34.0], [36.0]]
    filled = rows.copy()
    filled.iloc[[12, 18, 19]] = [[32.0], [36.0], [36.0]]
    pd.testing.assert_frame_equal(forecast(filling, rows), forecast(filling, filled))
    rows.iloc[7:9], filled.iloc[6:10] = -9999, [[20.0], [21.0], [22.0], [23.0]]
    rows.iloc[[6, 9]] = [[20.0], [23.0]]  # a gap that begins before what is read
    pd.testing.assert_frame_equal(forecast(filling, rows), forecast(filling, filled))
    longer = rows.copy()
    longer.iloc[6:9] = np.nan
    assert "gaps of over 2 steps: 1" in refused(filling, longer)
    first = str(rows.index[13])  # what is read ends in a gap, and must not see its other end
    pd.testing.assert_frame_equal(forecast(filling, rows, first), forecast(filling, rows[:13]))
    rows.iloc[15] = -9999  # of the four steps ahead, one is not known
    rows.to_csv(tmp_path / "gap.csv")
    main([str(filling), str(tmp_path / "gap.csv"), "--at", first])
    assert ": 3 steps known: MSE " in capsys.readouterr().out
    (table,) = filling.parent.glob("forecast-*/gap_from-*.csv")
    assert list(read(table)["temp (truth)"].isna()) == [False, False, True, False]
    rows.iloc[15] = filled.iloc[15]
    assert (forecast(run, rows) - forecast(run, filled)).abs().to_numpy().max() > 1


def test_marks_of_missing_values_are_noted_where_they_are_read(run, capsys):
    for row, noted in ((-13, False), (-12, True), (-1, True)):
        rows = ROWS.copy()
        rows.iloc[row, 3] = -9999
        forecast(run, rows)
        note = "note: frame: 1 cells of -9999 in temp are taken as they are"
        assert (note in capsys.readouterr().out) == noted


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
    flags = [*TINY, *FLAGS, "--data", "custom", "--root_path", str(tmp_path), "--data_path"]
    flags += ["new.csv", "--batch_size", "64", "--results", str(tmp_path), "--test_only"]
    assert main_informer.main([*flags, "--load", str(run / "weights.pt")]) == 0
    assert "its record's scale" in capsys.readouterr().out
    (folder,) = tmp_path.glob("loaded-*")
    agree(forecast(run, ROWS), read(folder / "prediction.csv"))


@pytest.mark.parametrize("at", ["noon", "2013-12-30 12:30", "2013-12-30T12:00Z", "2014-01-01"])
def test_dates_that_are_none_of_the_rows_are_refused(run, at):
    expected = "write them as" if at.endswith("Z") else "give one of its dates, or 2013-12-30 19:00"
    assert refused(run, ROWS, at).startswith(f"--at {at}: ") and expected in refused(run, ROWS, at)


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


def test_rows_that_are_read_need_dates(run):
    texts = ROWS.assign(date=ROWS["date"].astype(str))
    expected = forecast(run, ROWS)
    texts.iloc[3, 0] = "foo"  # long before
    pd.testing.assert_frame_equal(forecast(run, texts), expected)
    texts.iloc[-1, 0] = "foo"
    assert refused(run, texts) == "frame: a row that is read has no date; correct it"
    assert "did you mean Date?" in refused(run, ROWS.rename(columns={"date": "Date"}))
    hours = ROWS.set_index(pd.PeriodIndex(ROWS["date"], freq="h")).drop(columns="date")
    pd.testing.assert_frame_equal(forecast(run, hours), expected)


def test_a_large_frame_costs_no_more_than_its_dates(run):
    hours = pd.date_range(end=ROWS["date"].iloc[-1], periods=10**6, freq="h")
    large = pd.DataFrame({"temp": 0.0, "text": "x"}, index=hours)
    large.iloc[-400:, 0] = ROWS["temp"].to_numpy()
    begun = time.process_time()
    ahead = forecast(run, large)
    assert time.process_time() - begun < 10  # 44 s through a CSV file
    pd.testing.assert_frame_equal(ahead, forecast(run, ROWS))


def test_records_without_a_scale_take_it_from_their_data_file(tmp_path, capsys):
    run = train(tmp_path)
    body, data = read_json(run / "config.json"), tmp_path / "mine.csv"
    expected = forecast(run, ROWS)
    for scaler in (None, {"mean": [0.0], "std": [1.0]}):  # as the first versions left them
        (run / "config.json").write_text(json.dumps({**body, "scaler": scaler}), encoding="utf-8")
        pd.testing.assert_frame_equal(forecast(run, ROWS), expected)
        assert f"lacks scale and step; they are taken from {data}" in capsys.readouterr().out
    without = {k: v for k, v in body["scaler"].items() if k != "zone"}  # as those that followed
    (run / "config.json").write_text(json.dumps({**body, "scaler": without}), encoding="utf-8")
    zoned = ROWS.assign(date=ROWS["date"].dt.tz_localize("UTC"))
    assert np.array_equal(forecast(run, zoned), expected)
    (run / "config.json").write_text(json.dumps({**body, "scaler": None}), encoding="utf-8")
    data.write_text(data.read_text(encoding="utf-8").replace(",2", ",3"), encoding="utf-8")
    assert refused(run, ROWS).startswith(f"{data}: has changed since the run was trained; put ")
    data.unlink()
    assert refused(run, ROWS).startswith(f"{data}: cannot be read (No such file")


def test_runs_that_cannot_forecast_say_why(run, tmp_path):
    assert refused(tmp_path, ROWS).endswith(": no finished run; name a run's folder in results")
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    for change, expected in (
        ({"status": "failed", "error": "NaN"}, "the run failed (NaN); name a finished one"),
        ({"weights_sha256": "0" * 64}, "damaged (its checksum does not hold)"),
    ):
        metrics = {**read_json(run / "metrics.json"), **change}
        (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        assert expected in refused(tmp_path, ROWS)
    shutil.copy(run / "metrics.json", tmp_path)
    (tmp_path / "weights.pt").unlink()  # --weights drop
    (run / "weights.pt").rename(tmp_path / "kept.pt")
    assert "weights.pt: cannot be read (No such file" in refused(tmp_path, ROWS)
    metrics = {**read_json(run / "metrics.json"), "weights_sha256": None}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert "made with --weights drop; train with --force" in refused(tmp_path, ROWS)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert refused(tmp_path, ROWS).endswith(": its record is damaged; name another run")
    (tmp_path / "kept.pt").rename(run / "weights.pt")
    command = [sys.executable, "-m", "exp.forecast", run, "none.csv"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    message = "error: none.csv: cannot be read (No such file or directory); check its path\n"
    assert (ended.returncode, ended.stderr) == (2, message)
