"""A setting small enough to be trained in about a second, and how tests run and read it.

part.csv holds the first 900 hours and three columns of the demo data.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from exp.config import parse
from exp.exp_informer import Exp_Informer
from main_informer import main
from utils.files import read_json

ROOT = Path(__file__).resolve().parent.parent
TINY = [
    *("--model", "informer", "--data", "custom", "--root_path", str(ROOT / "tests")),
    *("--data_path", "part.csv", "--target", "temp", "--features", "S", "--itr", "1"),
    *("--seq_len", "12", "--label_len", "6", "--pred_len", "4"),
    *("--d_model", "8", "--n_heads", "2", "--d_ff", "16", "--batch_size", "64"),
    *("--train_epochs", "3", "--learning_rate", "0.001", "--lam", "2", "--lip_axis", "feature"),
]
STEPS = 615 // 64  # of an epoch
CLOCKS = {"wall_seconds", "step_seconds", "test_seconds", "peak_memory_mb", "seconds"}


def build(*words: str) -> Exp_Informer:
    """Return the experiment of the tiny setting."""
    return Exp_Informer(*parse([*TINY, *words]))


def tiny(results: Path, *words: str) -> int:
    """Run the tiny setting in this process; return the exit code."""
    return main([*TINY, "--results", str(results), *words])


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


def numbers(folder: Path) -> list[Any]:
    """Return everything of a finished run that must not depend on how it got there.

    The checksum of the weights is among it.
    """
    metrics, history = (read_json(folder / f"{name}.json") for name in ("metrics", "history"))
    return [
        {k: v for k, v in row.items() if k not in CLOCKS} for row in [metrics, *history["epochs"]]
    ]
