"""A folder of runs read into one frame."""

import pandas as pd
import pytest

from exp.record import Record, read_runs
from tests.records import scores, write_run
from utils.files import UserError, read_json


def test_scores_that_are_missing_are_so_in_the_frame(tmp_path):
    metrics = {"all": {**scores(0.1)["all"], "mspe": None}, "truncated": None}
    metrics["baselines"] = {"last": scores(0.4), "day": None}
    write_run(tmp_path, 0.1, -2.0, metrics=metrics)
    write_run(tmp_path, status="failed")
    row, failed = read_runs(tmp_path).sort_values("lip_coef").to_dict("records")
    assert (row["mse"], row["last_mse_drop_last"], row["val_mse"]) == (0.1, 0.4, 0.2)
    assert all(pd.isna(row[name]) for name in ("mse_drop_last", "day_mse", "mspe"))
    assert "the loss stopped being finite" in failed["error"] and pd.isna(failed["mse"])


def test_folders_that_are_missing_empty_damaged_or_of_other_settings(tmp_path):
    with pytest.raises(UserError, match="No such file or directory; name the folder of runs with"):
        read_runs(tmp_path / "none")
    assert read_runs(tmp_path).empty
    folder = write_run(tmp_path)
    with pytest.raises(UserError, match="holds a run of other settings"):
        Record(folder, {"seed": 5}).metrics()
    (folder / "config.json").unlink()
    (row,) = read_runs(tmp_path).to_dict("records")
    assert row["status"] == "damaged"
    assert row["error"].startswith(f"{folder / 'config.json'}: not there")


def test_a_run_continued_elsewhere_shows_every_sitting(tmp_path):
    folder = write_run(tmp_path, environment={"started": "2099-01-01T00:00:00+00:00"})
    config = read_json(folder / "config.json")
    record = Record(folder, config["identity"])
    for threads, dirty in ((1, True), (2, True), (2, True)):
        now = {**config["environment"], "started": "2099-02-02T00:00:00+00:00"}
        record.start({**now, "threads": threads, "git_dirty": dirty})
    (row,) = read_runs(tmp_path).to_dict("records")
    assert (row["environments"], row["threads"], row["git_dirty"]) == (3, "1 / 2", "False / True")
    assert row["processor"] == config["environment"]["processor"]
    assert row["started"] == "2099-01-01T00:00:00+00:00"
