"""Folders of runs, written as a run writes them, with made-up numbers that say so: no training."""

from pathlib import Path
from typing import Any

import numpy as np

from exp.cells import LENGTHS, paper_settings
from exp.config import RESULTS_VERSION, Config
from exp.record import Record
from utils.files import read_json, write_json, write_npz

SHA256 = "a" * 64
EPOCHS, STEPS = 6, 40
ENVIRONMENT = {
    "host": "node-1",
    "processor": "Test & <Co> CPU",
    "cores": 2,
    "threads": 1,
    "device": "cpu",
    "python": "3.11.2",
    "torch": "2.13.0",
    "numpy": "2.4.6",
    "pandas": "3.1.1",
    "system": "Linux",
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "git_dirty": False,
}


def paper_config(data: str, features: str, pred_len: int, **settings: Any) -> Config:
    """A run's settings as the paper's cell has them."""
    row = paper_settings()[data, features, pred_len]
    lengths = {name: row[name] for name in LENGTHS}
    settings = {"lip_axis": "feature", **lengths, **settings}
    return Config(model="informer", data=data, features=features, pred_len=pred_len, **settings)


def write_run(
    results: Path, config: Config, mse: float = 0.1, target: str = "OT", **metrics: Any
) -> Path:
    """Write the folder of one finished run; its L_f rises with -c. Keywords overwrite metrics."""
    record = start_run(results, config)
    write_history(record, config)
    write_samples(record.folder, config, target)
    scores = {"mse": mse, "mae": mse * 2, "rmse": mse**0.5, "mape": 1.0, "mspe": 2.0}
    by_step = [mse * (0.5 + (step + 1) / config.pred_len) for step in range(config.pred_len)]
    baseline = {"all": scores, "truncated": scores}
    body = {
        "all": scores,
        "truncated": scores,
        "by_step": {"mse": by_step, "mae": by_step},
        "baselines": {"last": baseline, "day": baseline, "ridge": baseline},
        "best_epoch": 4,
        "epochs": EPOCHS,
        "val_mse": mse + 0.1,
        "wall_seconds": 3661.0,
        "step_seconds": 0.25,
        "peak_memory_mb": 321.0,
    }
    record.finish("finished", {**body, **metrics})
    return record.folder


def start_run(results: Path, config: Config, **environment: Any) -> Record:
    """Write the folder of a run that has only begun."""
    record = Record(results / config.run_name(SHA256), config.identity(SHA256))
    record.folder.mkdir(parents=True)
    record.start({**ENVIRONMENT, **environment})
    return record


def write_history(record: Record, config: Config) -> None:
    draw = np.random.default_rng(config.seed)
    epoch = np.arange(1, EPOCHS * STEPS + 1) / STEPS
    l_f = 0.15 - 0.02 * config.lip_coef * (1 - np.exp(-epoch)) / 2
    l_f = l_f + 0.004 * draw.standard_normal(len(epoch))
    history = [{"epoch": i + 1, "eval_l_f": l_f} for i, l_f in enumerate(eval_l_f(config.lip_coef))]
    record.write_history(history, {"epoch": epoch, "l_f": l_f.astype(np.float32)})


def eval_l_f(c: float) -> list[float]:
    return [0.055 - 0.005 * c * i / EPOCHS for i in range(EPOCHS)]


def write_samples(folder: Path, config: Config, target: str) -> None:
    hours = np.arange(-config.seq_len, config.pred_len) + np.array([[0], [40], [90]])
    values = 20 + 8 * np.sin(hours * 2 * np.pi / 24) + hours / 30  # [3, seq_len + pred_len]
    past, truth = values[:, : config.seq_len], values[:, config.seq_len :]
    off = np.array([[0.3], [2.0], [7.0]]) * np.cos(np.arange(config.pred_len) / 9 + config.seed)
    arrays = {
        "rank": np.array(["best", "median", "worst"]),
        "start": np.array([10, 50, 100]),
        "mse": np.array([0.004, 0.07, 0.6]),
        "history": past,
        "truth": truth,
        "pred": truth + off + config.lip_coef / 2,
        "first": np.array(["2017-11-01T00:00:00", "2017-12-24T18:00:00", "2018-02-01T05:00:00"]),
        "step_seconds": np.asarray(3600.0),
        "target": np.asarray(target),
    }
    write_npz(folder / "samples.npz", arrays)


def write_study(results: Path) -> None:
    """ETTh2 S: c from -4 to 4 at horizon 24, from -2 to 2 at 336, three seeds each."""
    for pred_len, coefficients in ((24, (-4.0, -2.0, 0.0, 2.0, 4.0)), (336, (-2.0, 0.0, 2.0))):
        for c in coefficients:
            for seed in range(3):
                config = paper_config("ETTh2", "S", pred_len, lip_coef=c, seed=seed)
                mse = 0.08 + pred_len / 3000 + 0.002 * c + 0.003 * ((seed * 7 + int(c)) % 5 - 2)
                write_run(results, config, mse)


def write_odd(results: Path, kind: str) -> None:
    """Write one of the folders named in ODD."""
    results.mkdir(exist_ok=True)
    config = paper_config("ETTh2", "S", 24, lip_coef=0.0)
    if kind == "empty":
        return
    if kind == "unfinished":
        start_run(results, config)
    elif kind == "failed":
        start_run(results, config).finish("failed", {"error": "the loss stopped being finite"})
    elif kind == "no score":
        write_run(results, config, truncated=None)
    elif kind == "no validation":
        write_run(results, config, val_mse=None)
    else:
        folder = write_run(results, config)
        if kind == "two versions":
            folder = write_run(results, paper_config("ETTh2", "S", 24, lip_coef=0.0, seed=1), 0.2)
            raised = {**read_json(folder / "config.json"), "results_version": RESULTS_VERSION + 1}
            write_json(folder / "config.json", raised)
        elif kind == "damaged":
            (folder / "metrics.json").write_text("{")
        elif kind.startswith("no "):
            (folder / kind.removeprefix("no ")).unlink()


ODD = {
    "empty": "There are no runs.",
    "one seed": "1 seed a c",
    "unfinished": "Left out, unfinished: 1 run",
    "failed": "Left out, failed: 1 run",
    "damaged": "Left out, damaged: 1 run",
    "no score": "Left out, no finite score (truncated windows): 1 run",
    "no validation": "Left out, no finite score (truncated windows): 1 run",
    "two versions": f"Left out, results version {RESULTS_VERSION} "
    f"(the newest is {RESULTS_VERSION + 1}): 1 run",
    "no trace.npz": "trace.npz: not there",
    "no samples.npz": "samples.npz: not there",
    "no history.json": "history.json: not there",
}
