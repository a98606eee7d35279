"""A finished run forecasts new rows: the right numbers, dates and places, or one line."""

import datetime
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import main_informer
from exp.baselines import baselines
from exp.forecast import Prediction, forecast, main, write_samples
from models import MODELS
from tests.runs import ROOT, TINY, build, only_run
from utils.files import UserError, read_json
from utils.plots import draw_windows

COLUMNS = ["dewp", "humid", "temp"]
DEMO = pd.read_csv(ROOT / "data/demo/demo.csv", usecols=["date", *COLUMNS], parse_dates=["date"])
ROWS: Any = DEMO.tail(400).reset_index(drop=True)  # hours, up to 2013-12-30 18:00


def train(folder: Path, *flags: str) -> Path:
    """Train on ROWS, in folder/mine.csv; return the run's folder."""
    ROWS.to_csv(folder / "mine.csv", index=False)
    words = ["--data", "custom", "--root_path", str(folder), "--data_path", "mine.csv", *flags]
    words += ["--train_epochs", "1", "--do_predict", "--results", str(folder / "results")]
    assert main_informer.main([*TINY, *words]) == 0
    return only_run(folder / "results")


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, index_col="date", parse_dates=["date"])


def agree(ahead: pd.DataFrame, expected: Any) -> None:
    """Compare forecasts, one of them read from a CSV file."""
    kinds: Any = {"check_freq": False, "check_index_type": False}
    pd.testing.assert_frame_equal(ahead, expected, rtol=1e-5, **kinds)


def refused(*args: Any) -> str:
    with pytest.raises(UserError) as caught:
        forecast(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("run"), "--features", "M")


PAIRS = list(zip(MODELS, itertools.cycle(("S", "MS"))))


@pytest.mark.parametrize(("model", "features"), PAIRS)
def test_every_model_forecasts_as_it_predicts(tmp_path, model, features):
    run = train(tmp_path, "--model", model, "--features", features, "--lam", "0")
    agree(forecast(run, ROWS.iloc[-12:, ::-1]), read(run / "prediction.csv"))  # found by name


def test_a_prediction_goes_on_from_the_last_rows():
    rows = read(ROOT / "tests" / "part.csv")[["temp"]].tail(12)
    ahead = Prediction(build())
    agree(ahead.history, rows)
    assert list(ahead.ahead.index - rows.index[-1]) == [pd.Timedelta(h, "h") for h in range(1, 5)]


def test_files_are_forecast_and_scored(run, tmp_path, capsys):
    path, out = tmp_path / "new.csv", run.with_name(f"forecast-{run.name}")
    ROWS.tail(40).to_csv(path, index=False)
    assert main([str(run), str(path)]) == 0
    agree(read(out / "new_from-2013-12-30T190000.csv"), forecast(run, ROWS))
    assert " steps known: " not in capsys.readouterr().out
    at, known = "12/30/2013 17:00", ROWS.set_index("date").tail(2)  # of four steps
    assert main([str(run), str(path), "--at", at]) == 0
    ahead = forecast(run, ROWS, at)
    agree(ahead, forecast(run, ROWS.iloc[:-2]))
    table = read(out / "new_from-2013-12-30T170000.csv")
    agree(table, ahead.join(known.add_suffix(" (truth)")))
    assert (out / "new_from-2013-12-30T170000.png").exists()
    error = np.abs(ahead.to_numpy()[:2] - known.to_numpy())
    scaled = error / np.array(read_json(run / "config.json")["scaler"]["std"])
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{path}: 2 steps known: MSE {np.square(scaled).mean():.4f}, MAE {scaled.mean():.4f} "
        f"(scaled); MAE {error.mean():.5g} in original units"
    )


def test_the_readme_example_runs(run, tmp_path, monkeypatch):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n([^`]*import forecast\n[^`]*)```", readme)
    (folder,) = re.findall(r'forecast\("([^"]*)"', code)
    monkeypatch.chdir(tmp_path)
    Path(folder).parent.mkdir()
    Path(folder).symlink_to(run)
    names: dict[str, Any] = {"frame": ROWS}
    exec(code, names)
    agree(names["ahead"], forecast(run, ROWS))


def test_the_windows_of_a_run_that_are_drawn(tmp_path, monkeypatch):
    exp, drawn = build("--features", "MS"), []
    monkeypatch.setattr("exp.forecast.draw_windows", lambda w: drawn.extend(w) or draw_windows(w))
    _, tested = exp.test()
    ridge = baselines(exp.data, exp.config)["ridge"]
    write_samples(tmp_path, exp.data, exp.config, tested, ridge)
    assert (tmp_path / "forecasts.png").exists() and len(drawn) == 3
    target, std = read(ROOT / "tests" / "part.csv")["temp"], exp.data.scaler.std[-1]
    errors = (tested.pred[..., 0] - tested.true).square().mean(1).sort().values
    for window, mse in zip(drawn, errors[[0, len(errors) // 2, -1]], strict=True):
        assert window.history == pytest.approx(target[window.dates[:12]], rel=1e-5)
        assert window.lines["truth"] == pytest.approx(target[window.dates[12:]], rel=1e-5)
        scaled = (window.lines["forecast"] - window.lines["truth"]) / std
        assert np.square(scaled).mean() == pytest.approx(float(mse), rel=1e-4)
        assert f"from {window.dates[12].astype('datetime64[s]')}".replace("T", " ") in window.title


AT = [
    *("2013-12-30", "2013-12-30 00:00", "20131230", "12/30/2013", "12/30/2013 00:00:00"),
    *(datetime.datetime(2013, 12, 30), datetime.date(2013, 12, 30), np.datetime64("2013-12-30")),
]


@pytest.mark.parametrize("at", AT, ids=str)
def test_ways_to_write_the_first_date(at, run):
    agree(forecast(run, ROWS, at), forecast(run, ROWS[ROWS["date"] < "2013-12-30"]))


NONE = {  # dates that do not follow a row by one step
    "noon": "no date: 1 (row 2: 'noon'); write dates like",
    "2013-12-30 12:30": "what follows the rows before it begins at 2013-12-30 13:00:00",
    "2014-01-01": "what follows the rows before it begins at 2013-12-30 19:00:00",
    "2013-12-30T12:00Z": "the dates have a time zone; write UTC without zone",
}


@pytest.mark.parametrize("at", NONE)
def test_dates_that_follow_no_row_are_refused(at, run):
    assert refused(run, ROWS, at).startswith(f"--at {at}: {NONE[at]}")


def put(row: int, name: str, value: Any) -> pd.DataFrame:
    """ROWS with one other cell."""
    frame = ROWS.astype(object)
    frame.iloc[row, frame.columns.get_loc(name)] = value
    return frame


DATED = ROWS.set_index("date")
GIVEN: dict[str, pd.DataFrame] = {  # the same rows: other columns, types, rows that are not read
    "dates in the index": DATED,
    "periods in the index": DATED.to_period("h"),
    "texts": ROWS.astype(str),
    "nullable": ROWS.astype(dict.fromkeys(COLUMNS, "Float64")),
    "further columns": ROWS.assign(x="text", y=None),
    "only what is read": ROWS.tail(12),
    "an empty cell before": put(-13, "temp", np.nan),
    "a text before": put(3, "humid", "?"),
    "a row missing before": ROWS.drop(30),
    "rows repeated before": pd.concat([ROWS.head(20), ROWS]),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_rows_given_in_other_ways_and_rows_that_are_not_read(kind, run):
    agree(forecast(run, GIVEN[kind]), forecast(run, ROWS))


STEP, CELL = "date that does not follow by one step (h): ", "empty cell or no number: "
READ: dict[str, tuple[pd.DataFrame, str]] = {  # rows that are read, and the error
    "an empty cell": (put(-12, "temp", None), f"{CELL}1 (2013-12-30 07:00:00, temp: "),
    "a text": (put(-2, "humid", "?"), f"{CELL}1 (2013-12-30 17:00:00, humid: '?')"),
    "a row missing": (ROWS.drop(397), f"{STEP}1 (2013-12-30 17:00:00 after 2013-12-30 15:00:00)"),
    "a row repeated": (pd.concat([ROWS, ROWS.tail(1)]), f"{STEP}1 (2013-12-30 18:00:00 after "),
    "reversed": (ROWS[::-1], f"{STEP}11"),
    "other step": (ROWS.assign(date=pd.date_range("2013", periods=400, freq="30min")), f"{STEP}11"),
    "too few": (ROWS.tail(11), "11 rows before 2013-12-30 19:00:00, the run reads 12; give more"),
    "none": (ROWS.head(0), "0 rows before "),
    "no dates": (ROWS.drop(columns="date"), "no date: 400 (row 2: '0'; "),
    "a zone": (DATED.tz_localize("UTC"), "the dates have a time zone; write UTC without zone"),
    "no column": (ROWS.drop(columns="temp"), "no column 'temp'"),
}


@pytest.mark.parametrize("kind", READ)
def test_rows_that_are_read_and_wrong(kind, run):
    frame, expected = READ[kind]
    assert refused(run, frame).startswith(f"frame: {expected}")


def test_a_forecast_leaves_the_generator_as_it_was(run):
    """M's attention draws; a library call must leave the caller's generator alone."""
    torch.manual_seed(5)
    before, alone = torch.get_rng_state(), forecast(run, ROWS)
    assert torch.equal(torch.get_rng_state(), before)
    pd.testing.assert_frame_equal(forecast(run, ROWS), alone)


OLD = "its record is of an old version"


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        ("metrics", {"status": "failed", "error": "NaN"}, "failed, or made with --weights drop"),
        ("metrics", {"weights_sha256": None}, "failed, or made with --weights drop; name another"),
        ("metrics", {"weights_sha256": "0" * 64}, "its checksum does not hold"),
        ("identity", {"missing": "interpolate", "max_gap": 24}, OLD),
        ("identity", {"model": "dlinear"}, OLD),
        ("scaler", {"zone": "UTC"}, OLD),
        ("scaler", {"step": None}, OLD),
    ],
)
def test_runs_that_cannot_forecast_say_why(run, tmp_path, file, change, expected):
    assert refused(tmp_path, ROWS).endswith(": no finished run; name a run's folder in results")
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    bodies = {name: read_json(run / f"{name}.json") for name in ("config", "metrics")}
    part = bodies[file] if file in bodies else bodies["config"][file]
    part |= change
    bodies["config"]["scaler"] = {k: v for k, v in bodies["config"]["scaler"].items() if v}
    for name, body in bodies.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(body), encoding="utf-8")
    assert expected in refused(tmp_path, ROWS)
