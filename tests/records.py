"""Folders of runs as a run leaves them, with made-up numbers: what all tests of paper/ read."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from exp.config import Config
from exp.record import Record
from paper.runs import LENGTHS, paper_settings
from utils.files import read_json, write_json, write_npz

SHA256 = "a" * 64
EPOCHS, STEPS = 6, 60  # and so 360 points of L_f a run
ENVIRONMENT = {
    "started": "2099-01-01T00:00:00+00:00", "host": "node-1", "processor": "Test & <Co> CPU",
    "cores": 2, "threads": 1, "device": "cpu", "system": "Linux", "python": "3.11.2",
    "torch": "2.13.0", "numpy": "2.4.6", "pandas": "3.1.1", "git_commit": "0123456789" * 4,
    "git_dirty": False,
}  # fmt: skip
BASELINES = {"last": 0.4, "day": 0.3, "ridge": 0.2}  # their MSE; their MAE is twice that


def write_run(
    results: Path,
    mse: float | None = 0.1,  # over all and over the truncated windows; the MAE is twice that
    c: float = 0.0,
    seed: int = 0,
    *,
    status: str = "finished",  # or failed, unfinished
    metrics: dict[str, Any] | None = None,  # entries of metrics.json to add or overwrite
    environment: dict[str, Any] | None = None,  # to add or overwrite
    arrays: bool = False,  # with history and trace; L_f rises with -c
    windows: Sequence[float] | None = None,  # MSE by test window
    sha256: str = SHA256,
    scaler: dict[str, Any] | None = None,
    **settings: Any,  # fields of Config; lengths and layers are the paper's, where it has the cell
) -> Path:
    """Write the folder of one run."""
    settings = {"model": "informer", "data": "ETTh2", "features": "S", "pred_len": 24, **settings}
    key = (settings["data"], settings["features"], settings["pred_len"])
    row = paper_settings(settings["model"]).get(key, {})
    settings = {"lip_axis": "feature", **{name: row[name] for name in LENGTHS if row}, **settings}
    config = Config(**settings, lip_coef=c, seed=seed)
    record = Record(results / config.run_name(sha256), config.identity(sha256))
    record.folder.mkdir(parents=True)
    with mock.patch("os.fsync"):  # real files, without waiting for the disk
        record.start({**ENVIRONMENT, **(environment or {})}, scaler)
        if arrays:
            _write_history(record, config)
        if windows is not None:
            errors = np.asarray(windows, dtype=np.float32)
            write_npz(record.folder / "window_errors.npz", {"mse": errors})
        if status == "failed":
            error = "the loss stopped being finite (nan), epoch 1, step 2"
            record.finish("failed", {"error": error, **(metrics or {})})
        elif status == "finished":
            record.finish("finished", {**_body(config, mse), **(metrics or {})})
    return record.folder


def scores(mse: float | None) -> dict[str, Any]:
    """Scores over all windows and over the truncated set, alike."""
    mae, rmse = (None, None) if mse is None else (mse * 2, mse**0.5)
    one = {"mse": mse, "mae": mae, "rmse": rmse, "mape": 1.0, "mspe": 2.0}
    return {"all": one, "truncated": one}


def _body(config: Config, mse: float | None) -> dict[str, Any]:
    by_step = [(mse or 0) * (0.5 + (i + 1) / config.pred_len) for i in range(config.pred_len)]
    return {
        **scores(mse),
        "by_step": {"mse": by_step, "mae": by_step},
        "baselines": {name: scores(value) for name, value in BASELINES.items()},
        **{"best_epoch": 4, "epochs": EPOCHS, "val_mse": (mse or 0) + 0.1},
        **{"wall_seconds": 3661.0, "step_seconds": 0.25, "peak_memory_mb": 321.0},
    }


def write_arm(results: Path, c: float, values: Iterable[float | None], **more: Any) -> None:
    """Write the runs of one c with seeds 0, 1, ... and these MSE; None is a seed without a run."""
    for seed, mse in enumerate(values):
        if mse is not None:
            write_run(results, mse, c, seed, **more)


def write_study(results: Path) -> None:
    """Write ETTh2 S: c from -2 to 2 at horizon 24, -2 and 0 at 336, three seeds each."""
    for pred_len, coefficients in ((24, (-2.0, 0.0, 2.0)), (336, (-2.0, 0.0))):
        for c in coefficients:
            for seed in range(3):
                mse = 0.08 + pred_len / 3000 + 0.002 * c + 0.003 * ((seed * 7 + int(c)) % 5 - 2)
                write_run(results, mse, c, seed, pred_len=pred_len, arrays=True)


def _write_history(record: Record, config: Config) -> None:
    draw = np.random.default_rng(config.seed)
    epoch = np.arange(1, EPOCHS * STEPS + 1) / STEPS
    l_f = 0.15 - 0.02 * config.lip_coef * (1 - np.exp(-epoch)) / 2
    l_f = l_f + 0.004 * draw.standard_normal(len(epoch))
    history = [
        {"epoch": i + 1, "train_mse": 0.3 - i / 100, "val_mse": 0.2 - i / 100, "eval_l_f": 0.05,
         "train_l_f": float(l_f[i * STEPS : (i + 1) * STEPS].mean())}
        for i in range(EPOCHS)
    ]  # fmt: skip
    record.write_history(history, {"epoch": epoch, "l_f": l_f.astype(np.float32)})


def damage(folder: Path, kind: str) -> None:
    """Spoil a finished run's folder in one of the ways below."""
    metrics, config = folder / "metrics.json", folder / "config.json"
    with mock.patch("os.fsync"):
        if kind == "damaged":
            metrics.write_text("{")
        elif kind == "newer version":
            body = read_json(config)
            write_json(config, {**body, "results_version": body["results_version"] + 1})
        else:
            (folder / kind.removeprefix("no ")).unlink()
