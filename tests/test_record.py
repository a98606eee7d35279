"""A folder of runs read into one frame."""

import pandas as pd
import pytest

from exp.config import Config
from exp.record import Record, find_record, read_runs
from tests.records import scores, write_run
from utils.files import UserError, read_json, write_json


@pytest.mark.timeout(60)  # about 1 s alone; the bound only catches something quadratic
def test_a_thousand_runs_make_one_tidy_frame_quickly(tmp_path):
    metrics = {"all": {**scores(0.1)["all"], "mspe": None}, "truncated": None}
    metrics["baselines"] = {"last": scores(0.4), "day": None}
    for seed in range(1000):
        status = {8: "failed", 9: "unfinished"}.get(seed % 10, "finished")
        more = metrics if status == "finished" else None
        write_run(tmp_path, 0.1, -2.0, seed, status=status, metrics=more)
    frame = read_runs(tmp_path)
    assert len(frame) == frame["run"].nunique() == frame["seed"].nunique() == 1000
    counts = {"finished": 800, "failed": 100, "unfinished": 100}
    assert dict(frame["status"].value_counts()) == counts
    row = frame[frame["seed"] == 0].iloc[0]
    assert (row["lip_coef"], row["data"], row["lip_axis"]) == (-2.0, "ETTh2", "feature")
    assert (row["mse"], row["last_mse_trunc"], row["val_mse"]) == (0.1, 0.4, 0.2)
    assert pd.isna(row["mse_trunc"]) and pd.isna(row["day_mse"]) and pd.isna(row["mspe"])
    failed = frame[frame["status"] == "failed"].iloc[0]
    assert "the loss stopped being finite" in failed["error"] and pd.isna(failed["mse"])


def test_a_missing_or_empty_folder(tmp_path):
    with pytest.raises(UserError, match="No such file or directory; name the folder of runs with"):
        read_runs(tmp_path / "none")
    assert read_runs(tmp_path).empty


def test_records_of_other_settings_and_of_earlier_versions(tmp_path):
    folder = write_run(tmp_path)
    with pytest.raises(UserError, match="holds a run of other settings"):
        Record(folder, {"seed": 5}).metrics()
    custom = Config(model="informer", data="custom")
    own = find_record(tmp_path, custom, "0" * 64, "mine.csv").folder
    (tmp_path / f"forecast-{own.name}").mkdir()  # what exp.forecast leaves
    assert find_record(tmp_path, custom, "0" * 64, "mine.csv").folder == own
    (tmp_path / own.name.replace("mine-OT", "custom")).mkdir()
    assert find_record(tmp_path, custom, "0" * 64, "mine.csv").folder.exists()
    path = folder / "config.json"
    body = read_json(path)
    setting_id, _ = body.pop("setting_id"), body["environment"].pop("started")
    write_json(path, body)
    (row,) = read_runs(tmp_path).to_dict("records")
    assert row["setting_id"] == setting_id and row["started"].endswith("+00:00")
    path.unlink()
    (row,) = read_runs(tmp_path).to_dict("records")
    assert row["status"] == "damaged" and row["error"].startswith(f"{path}: not there")
