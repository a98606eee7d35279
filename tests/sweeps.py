"""How tests start sweeps of the tiny setting, look into them, and kill what they have under way."""

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from exp.record import read_runs
from tests.runs import ROOT

SETTING = [
    *("--model", "informer", "--data", "demo", "--features", "S"),
    *("--seq_len", "24", "--label_len", "12", "--pred_len", "8"),
    *("--d_model", "8", "--n_heads", "2", "--d_ff", "16", "--batch_size", "256"),
    *("--train_epochs", "2", "--lip_axis", "feature", "--threads", "1"),
]


def finish(sweep: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a sweep's end: exit code, output, errors."""
    output, errors = sweep.communicate(timeout=240)
    return sweep.returncode, output, errors


def wait_for(condition: Callable[[], bool], sweep: subprocess.Popen[str]) -> None:
    """Wait until something is so, while the sweep is at work."""
    deadline = time.monotonic() + 240
    while not condition():
        assert sweep.poll() is None, finish(sweep)
        assert time.monotonic() < deadline, "not so after four minutes"
        time.sleep(0.02)


def ended(results: Path) -> dict[str, int]:
    """Return the runs that have ended, and when each did."""
    return {path.parent.name: path.stat().st_mtime_ns for path in results.glob("*/metrics.json")}


def under_way(results: Path) -> list[int]:
    """Return the processes of runs, once one has begun to train."""
    begun = {path.parent.name for path in results.glob("*/config.json")} - ended(results).keys()
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline") if begun else ():
        with suppress(OSError):
            words = file.read_text().split("\0")
            if f"{ROOT}/main_informer.py" in words and str(results) in words:
                found.append(int(file.parent.name))
    return found


def statuses(results: Path) -> list[str]:
    """Return the status of every run there is."""
    return sorted(read_runs(results)["status"])
