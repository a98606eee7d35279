"""A folder of runs read into one frame."""

import pandas as pd
import pytest

from exp.config import Config
from exp.record import Record, find_record, read_arrays, read_runs
from utils.errors import UserError
from utils.files import read_json, write_json

SCORES = {"mae": 0.2, "mse": 0.1, "rmse": 0.316, "mape": 1.0, "mspe": None}
METRICS = {
    "all": SCORES,
    "truncated": None,
    "baselines": {"last": {"all": SCORES, "truncated": SCORES}, "day": None, "ridge": None},
    "val_mse": 0.3,
}


def record_of(results, seed, c=-2.0):
    config = Config(model="informer", data="ETTh2", features="S", lip_coef=c, seed=seed)
    return Record(results / config.run_name("0" * 64), config.identity("0" * 64))


@pytest.mark.timeout(60)  # about 1 s alone; the bound only catches something quadratic
def test_a_thousand_runs_make_one_tidy_frame_quickly(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    for seed in range(1000):
        record = record_of(tmp_path, seed)
        record.folder.mkdir()
        record.start({"threads": 2})
        if seed % 10 < 8:
            record.finish("finished", METRICS)
        elif seed % 10 == 8:
            record.finish("failed", {"error": "the loss stopped being finite"})
    frame = read_runs(tmp_path)
    assert len(frame) == frame["run"].nunique() == frame["seed"].nunique() == 1000
    counts = {"finished": 800, "failed": 100, "unfinished": 100}
    assert dict(frame["status"].value_counts()) == counts
    row = frame[frame["seed"] == 0].iloc[0]
    assert (row["lip_coef"], row["data"], row["lip_axis"]) == (-2.0, "ETTh2", "time")
    assert (row["mse"], row["last_mse_trunc"], row["val_mse"]) == (0.1, 0.1, 0.3)
    assert pd.isna(row["mse_trunc"]) and pd.isna(row["day_mse"]) and pd.isna(row["mspe"])
    failed = frame[frame["status"] == "failed"].iloc[0]
    assert failed["error"] == "the loss stopped being finite" and pd.isna(failed["mse"])


def test_a_missing_or_empty_folder(tmp_path):
    with pytest.raises(UserError, match="No such file or directory; name the folder of runs with"):
        read_runs(tmp_path / "none")
    with pytest.raises(UserError, match="not there"):
        read_arrays(tmp_path, "samples")
    assert read_runs(tmp_path).empty


def test_records_of_other_settings_and_of_earlier_versions(tmp_path):
    record = record_of(tmp_path, 0)
    record.folder.mkdir()
    record.start({"threads": 2})
    record.finish("finished", METRICS)
    with pytest.raises(UserError, match="holds a run of other settings"):
        Record(record.folder, record_of(tmp_path, 5).identity).metrics()
    custom = Config(model="informer", data="custom")
    own = find_record(tmp_path, custom, "0" * 64, "mine.csv").folder
    (tmp_path / f"forecast-{own.name}").mkdir()  # what exp.forecast leaves
    assert find_record(tmp_path, custom, "0" * 64, "mine.csv").folder == own
    (tmp_path / own.name.replace("mine-OT", "custom")).mkdir()
    assert find_record(tmp_path, custom, "0" * 64, "mine.csv").folder.exists()
    path = record.folder / "config.json"
    body = read_json(path)
    write_json(path, {k: v for k, v in body.items() if k != "setting_id"})
    (row,) = read_runs(tmp_path).to_dict("records")
    assert row["setting_id"] == body["setting_id"] and row["started"].endswith("+00:00")
    path.unlink()
    (row,) = read_runs(tmp_path).to_dict("records")
    assert row["status"] == "damaged" and row["error"].startswith(f"{path}: not there")
