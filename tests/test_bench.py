"""The benchmark: real workers at a size where only its arithmetic matters, and that arithmetic."""

import importlib.util
import math
from typing import ClassVar

import pandas as pd
import pytest

from exp import bench
from exp.bench import PEER, Worker, main
from utils.errors import UserError

SMALL = ["--d_model", "16", "--settings", "48/48/24", "--repetitions", "1", "--threads", "1"]
SMALL += ["--growth", "--out"]


def read(folder, name):
    return pd.read_csv(folder / f"{name}.csv", comment="#").to_dict("records")


def test_a_small_benchmark_measures_every_contender(tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*SMALL, str(out)]) == 0
    printed = capsys.readouterr().out
    steps = read(out, "steps")
    assert {file.name for file in out.iterdir()} == {"steps.csv", "bench.png"}
    assert "# d_model: 16\n" in (out / "steps.csv").read_text()
    peer = importlib.util.find_spec("neuralforecast") is not None
    assert ("without neuralforecast" in printed) != peer
    names = ["this project, fp32", "this project, bf16", *([PEER] if peer else [])]
    assert [row["contender"] for row in steps] == names
    for row in steps:
        assert 0 < row["step_min"] <= row["step_seconds"] <= row["step_max"]
        assert math.isnan(row["times_faster"]) != peer
        assert math.isnan(row["epoch_in_peer_steps"])  # the demo data has no such epoch
        assert row["contender"] == PEER or 0 < row["data_share"] < 1
        assert row["peak_memory_mb"] > 50


class Scripted:
    """A worker whose answers are known; it notes how workers were started."""

    started: ClassVar[list[str]] = []

    def __init__(self, words, threads):
        self.started.append(" ".join(words))
        bf16, peer = "bf16" in words, words[0] == "peer"
        self.steps = iter([9.0, *([1.0, 2.0, 6.0] if peer else [0.5, 1.0, 1.5 if bf16 else 2.0])])
        self.answers = {"batch": 0.01, "validate": 20.0, "memory": 100.0}

    def ask(self, what):
        return next(self.steps) if what == "step" else self.answers[what]

    def close(self):
        pass


def test_the_arithmetic(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "Worker", Scripted)
    monkeypatch.setattr(Scripted, "started", [])
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda _: True)
    monkeypatch.setattr(bench.importlib.metadata, "version", lambda _: "3.3.0")
    monkeypatch.setitem(bench.SETTINGS, "48/48/24", ((48, 48, 24), 3, 1))
    words = ["--data", "ETTh2", "--repetitions", "3", "--growth", "96", "1440"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"steps.csv", "growth.csv", "bench.png"}
    fp32, bf16, peer, *longer = read(tmp_path, "steps")
    assert (fp32["step_min"], fp32["step_seconds"], fp32["step_max"]) == (0.5, 1.0, 2.0)
    assert fp32["times_faster"] == 2.0  # the median of 2, 2 and 3
    assert bf16["times_faster"] == 2.0 and peer["times_faster"] == 1.0
    assert fp32["data_share"] == 0.01
    assert fp32["epoch_in_peer_steps"] == (267 * 1.0 + 20) / 2.0
    assert math.isnan(peer["epoch_in_peer_steps"])
    assert all(math.isnan(row["epoch_in_peer_steps"]) for row in longer)
    growth = read(tmp_path, "growth")
    assert [row["seq_len"] for row in growth] == [96, 1440, 96, 1440]
    assert [row["attn"] for row in growth] == ["prob", "prob", "full", "full"]
    assert {row["peak_memory_mb"] for row in growth} == {100}
    started = Scripted.started
    assert ["--amp bf16" in words for words in started[:3]] == [False, True, False]
    assert all("--lengths 720 168 24 --factor 5" in words for words in started[3:6])
    assert "--lengths 1440 48 24 --attn full" in started[-1]
    assert "--lengths 96 48 24 --attn prob" in started[6]


def test_mistakes_end_in_one_line(tmp_path, capsys):
    assert main([*SMALL, str(tmp_path / "out"), "--d_model", "15"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: own ") and errors.count("\n") == 1
    assert "--d_model 15: must be even" in errors
    assert not (tmp_path / "out").exists()
    for words in ("--settings 1/2/3", "--repetitions 0", "--threads no", "--growth 20"):
        with pytest.raises(SystemExit):
            main(words.split())


def test_a_killed_worker_is_told(capsys):
    words = ["own", "--lengths", "96", "48", "24", "--d_model", "16", "--attn", "full"]
    worker = Worker(words, 1)
    assert worker.ask("step") > 0
    worker.process.kill()
    with pytest.raises(UserError, match="ended with code -9"):
        worker.ask("step")
