"""A folder of runs read into one frame."""

import time

import pandas as pd
import pytest

from exp.config import Config
from exp.record import Record, read_runs
from utils.errors import UserError

SCORES = {
    "mae": 0.2,
    "mse": 0.1,
    "rmse": 0.316,
    "mape": 1.0,
    "mspe": None,
    "windows": 64,
    "zeros": 0,
}
METRICS = {
    "all": SCORES,
    "truncated": None,
    "by_step": {"mse": [0.1] * 24, "mae": [0.2] * 24},
    "baselines": {"last": {"all": SCORES, "truncated": SCORES}, "day": None, "ridge": None},
    "best_epoch": 2,
    "epochs": 3,
    "val_mse": 0.3,
    "wall_seconds": 9.5,
    "step_seconds": 0.01,
    "peak_memory_mb": 321.0,
}


def make_runs(results, count):
    for seed in range(count):
        config = Config(model="informer", data="ETTh2", features="S", lip_coef=-2.0, seed=seed)
        record = Record(results / config.run_name("0" * 64), config.identity("0" * 64))
        record.folder.mkdir(parents=True)
        record.start({"threads": 2})
        if seed % 10 < 8:
            record.finish("finished", METRICS)
        elif seed % 10 == 8:
            record.finish("failed", {"error": "the loss stopped being finite"})


def test_a_thousand_runs_make_one_tidy_frame_quickly(tmp_path):
    make_runs(tmp_path, 1000)
    begun = time.monotonic()
    frame = read_runs(tmp_path)
    seconds = time.monotonic() - begun
    assert len(frame) == frame["run"].nunique() == frame["seed"].nunique() == 1000
    assert dict(frame["status"].value_counts()) == {
        "finished": 800,
        "failed": 100,
        "unfinished": 100,
    }
    row = frame[frame["seed"] == 0].iloc[0]
    assert (row["lip_coef"], row["data"], row["lip_axis"]) == (-2.0, "ETTh2", "time")
    assert (row["mse"], row["last_mse_trunc"], row["val_mse"]) == (0.1, 0.1, 0.3)
    assert pd.isna(row["mse_trunc"]) and pd.isna(row["day_mse"]) and pd.isna(row["mspe"])
    failed = frame[frame["status"] == "failed"].iloc[0]
    assert failed["error"] == "the loss stopped being finite" and pd.isna(failed["mse"])
    assert seconds < 10  # about 1 s alone; the bound only catches something quadratic


def test_a_missing_or_empty_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder; name the folder of runs with --results"):
        read_runs(tmp_path / "none")
    assert read_runs(tmp_path).empty


def test_a_folder_of_other_settings_is_refused(tmp_path):
    make_runs(tmp_path, 1)
    (folder,) = tmp_path.iterdir()
    other = Config(model="informer", data="ETTh2", features="S", seed=5)
    with pytest.raises(UserError, match="holds a run of other settings"):
        Record(folder, other.identity("0" * 64)).metrics()
