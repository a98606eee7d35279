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


def read(folder, name):
    return pd.read_csv(folder / f"{name}.csv", comment="#").to_dict("records")


def test_a_small_benchmark_measures_every_contender(tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*SMALL, "--growth", "96", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    steps, growth = read(out, "steps"), read(out, "growth")
    assert {file.name for file in out.iterdir()} == {"steps.csv", "growth.csv", "bench.png"}
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
    assert [row["attn"] for row in growth] == ["prob", "full"]
    assert all(row["peak_memory_mb"] > 50 for row in growth)


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


def test_the_arithmetic(monkeypatch):
    monkeypatch.setattr(bench, "Worker", Scripted)
    monkeypatch.setattr(Scripted, "started", [])
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda _: True)
    words = ["--data", "ETTh2", "--repetitions", "3", "--growth", "96", "1440"]
    monkeypatch.setitem(bench.SETTINGS, "48/48/24", ((48, 48, 24), 3, 1))
    asked = bench.build_parser().parse_args(words)
    fp32, bf16, peer = bench.compare("48/48/24", asked)
    assert (fp32["step_min"], fp32["step_seconds"], fp32["step_max"]) == (0.5, 1.0, 2.0)
    assert fp32["times_faster"] == 2.0  # the median of 2, 2 and 3
    assert bf16["times_faster"] == 2.0 and peer["times_faster"] == 1.0
    assert fp32["data_share"] == 0.01
    assert fp32["epoch_in_peer_steps"] == (267 * 1.0 + 20) / 2.0
    assert math.isnan(peer["epoch_in_peer_steps"])
    assert math.isnan(bench.compare("720/168/24", asked)[0]["epoch_in_peer_steps"])
    assert [row["seq_len"] for row in bench.growth(asked)] == [96, 1440, 96, 1440]
    started = Scripted.started
    assert ["--amp bf16" in words for words in started[:3]] == [False, True, False]
    assert all("--lengths 720 168 24 --factor 5" in words for words in started[3:6])
    assert "--lengths 1440 48 24 --attn full" in started[-1]
    assert "--lengths 96 48 24 --attn prob" in started[6]


def test_mistakes_end_in_one_line(tmp_path, capsys):
    assert main([*SMALL, "--d_model", "15", "--out", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: own ") and errors.count("\n") == 1
    assert "--d_model 15: must be even" in errors
    assert not (tmp_path / "out").exists()
    for words in ("--settings 1/2/3", "--repetitions 0", "--threads no", "--growth 20"):
        with pytest.raises(SystemExit):
            main(words.split())


def test_a_killed_worker_is_told(capsys):
    worker = Worker(["own", "--lengths", "48", "48", "24", "--d_model", "16"], 1)
    worker.process.kill()
    with pytest.raises(UserError, match="ended with code -9"):
        worker.ask("step")
