"""A setting small enough to be trained in about a second, and how tests run and read it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from utils.files import read_json

ROOT = Path(__file__).resolve().parent.parent
TINY = [
    *("--model", "informer", "--data", "demo", "--features", "S", "--itr", "1"),
    *("--seq_len", "12", "--label_len", "6", "--pred_len", "4"),
    *("--d_model", "8", "--n_heads", "2", "--d_ff", "16", "--batch_size", "256"),
    *("--eval_batch_size", "256"),
    *("--train_epochs", "3", "--learning_rate", "0.001", "--lam", "2", "--lip_axis", "feature"),
]
CLOCKS = {"wall_seconds", "step_seconds", "test_seconds", "peak_memory_mb"}


def start(
    *words: str, results: Path, script: str = "main_informer.py", **more: str
) -> subprocess.Popen[str]:
    """Start a real process on the tiny setting, on one thread."""
    return subprocess.Popen(
        [sys.executable, script, *TINY, "--results", str(results), *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*words: str, results: Path, **more: str) -> tuple[int, str, str]:
    """Run a real process to its end: exit code, output, errors."""
    process = start(*words, results=results, **more)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def only_run(results: Path) -> Path:
    """Return the folder of the only run."""
    (folder,) = [path for path in results.iterdir() if not path.name.startswith(".")]
    return folder


def numbers(folder: Path) -> dict[str, Any]:
    """Return everything of a finished run that must not depend on how it got there."""
    metrics = read_json(folder / "metrics.json")
    history = read_json(folder / "history.json")["epochs"]
    return {
        "metrics": {k: v for k, v in metrics.items() if k not in CLOCKS},
        "history": [{k: v for k, v in row.items() if k != "seconds"} for row in history],
    }


def same_weights(one: Path, other: Path) -> bool:
    """Tell whether two finished runs ended with the same bits."""
    first, second = (
        torch.load(folder / "weights.pt", weights_only=True) for folder in (one, other)
    )
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
