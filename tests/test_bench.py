"""The benchmark: real processes at a size where only its arithmetic matters."""

import contextlib
import importlib.util
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

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
    rows = pd.read_csv(tmp_path / "steps.csv", comment="#").to_dict("records")
    peer = importlib.util.find_spec(PEER) is not None
    assert (f"without {PEER}" in printed) != peer
    assert [row["contender"] for row in rows] == ["fp32", "c0", "full", *([PEER] if peer else [])]
    processor = describe(torch.device("cpu"))["processor"]
    assert "# d_model: 16\n" in text and f"# processor: {processor}\n" in text
    for row in rows:
        assert row["setting"] == "informer 48/48/24/3"
        assert 0 < row["step_min"] <= row["step_seconds"] <= row["step_max"]
        assert row["floor_seconds"] > 0 and row["peak_memory_mb"] > 50
        assert math.isnan(row["times_faster"]) != peer
    fp32, c0, *_ = rows
    assert c0["percent_over_c0"] == 0
    expected = 100 * (fp32["step_seconds"] / c0["step_seconds"] - 1)  # of one round
    assert fp32["percent_over_c0"] == pytest.approx(expected, abs=0.3)


def test_ratios_are_medians_over_rounds():
    times = {"fp32": [0.5, 1.0, 2.0], PEER: [1.0, 2.0, 6.0]}
    assert _ratio(times, PEER, "fp32") == 2.0  # of 2, 2 and 3
    assert math.isnan(_ratio(times, PEER, "c0"))


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
