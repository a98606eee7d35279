"""The benchmark: real processes at a size where only its arithmetic matters."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from exp.bench import PEER, _ratio, main
from tests.runs import ROOT
from utils.environment import describe
from utils.errors import UserError

SMALL = ["--d_model", "16", "--settings", "48/48/24/3", "--rounds", "1", "--threads", "1"]


def test_a_small_benchmark_measures_every_contender(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([*SMALL, "--contenders", "fp32", "c0", "full", PEER, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    text = (tmp_path / "steps.csv").read_text()
    steps = pd.read_csv(tmp_path / "steps.csv", comment="#").set_index("contender")
    peer = importlib.util.find_spec(PEER) is not None
    assert (f"without {PEER}" in printed) != peer
    assert list(steps.index) == ["fp32", "c0", "full", *([PEER] if peer else [])]
    processor = describe(torch.device("cpu"))["processor"]
    assert "# d_model: 16\n" in text and f"# processor: {processor}\n" in text
    assert set(steps["setting"]) == {"informer 48/48/24/3"}
    low, seconds, high = steps[["step_min", "step_seconds", "step_max"]].to_numpy().T
    assert all(low > 0) and all(low <= seconds) and all(seconds <= high)
    assert all(steps["floor_seconds"].to_numpy() > 0)
    memory = steps["peak_memory_mb"].to_numpy()
    assert all(memory > 50) and all(memory < 5000)
    assert np.isfinite(steps["times_faster"].to_numpy()).all() == peer
    seconds = steps["step_seconds"]  # of one round, so that no median is between
    assert steps.loc["c0", "percent_over_c0"] == 0
    expected = 100 * (seconds["fp32"] / seconds["c0"] - 1)
    assert steps.loc["fp32", "percent_over_c0"] == pytest.approx(expected, abs=0.3)


def test_ratios_are_medians_over_rounds():
    times = {"fp32": [0.5, 1.0, 2.0], PEER: [1.0, 2.0, 6.0]}
    assert _ratio(times, PEER, "fp32") == 2.0  # of 2, 2 and 3
    assert pd.isna(_ratio(times, PEER, "c0"))


MISTAKES = {
    "--d_model 15": "--d_model 15: must be even",
    "--settings 1/2/3": "--settings: 1/2/3: must be seq_len/label_len/pred_len/factor",
    "--rounds 0": "--rounds: 0: must be a whole number from 1 on",
    "--threads no": "--threads: no: must be a whole number from 1 on",
    "--models nothing": "--models: invalid choice: 'nothing'",
    "--device cuda:99": "--device cuda:99: this machine has",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_end_in_one_line(words: str, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        main([*SMALL, "--contenders", "fp32", "--out", str(tmp_path), *words.split()])
    assert MISTAKES[words] in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "steps.csv").exists()


def test_a_killed_contender_ends_in_one_line(tmp_path: Path):
    words = [*SMALL, "--contenders", "fp32", "--rounds", "100000", "--out", str(tmp_path)]
    bench = subprocess.Popen(
        [sys.executable, "-m", "exp.bench", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children")
        worker = None
        while worker is None:
            assert bench.poll() is None
            for pid in children.read_text().split():
                with contextlib.suppress(OSError):  # git's processes come and go
                    if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text():
                        worker = int(pid)
        os.kill(worker, signal.SIGKILL)
        _, errors = bench.communicate(timeout=120)
    finally:
        bench.kill()
        bench.wait()
    assert bench.returncode == 2
    assert errors.endswith("error: a contender's process was killed (out of memory?)\n")
