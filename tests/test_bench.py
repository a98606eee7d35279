"""The benchmark at a size where only its arithmetic matters."""

import importlib.util
import math

import pandas as pd
import pytest

from exp.bench import PEER, main


def test_a_small_benchmark_measures_every_contender(tmp_path, capsys):
    words = "--d_model 16 --settings 48/48/24 --growth 96 --repetitions 2 --threads 1"
    assert main([*words.split(), "--out", str(tmp_path / "out")]) == 0
    assert "wrote" in capsys.readouterr().out
    steps, growth = (
        pd.read_csv(tmp_path / "out" / f"{name}.csv", comment="#").to_dict("records")
        for name in ("steps", "growth")
    )
    assert (tmp_path / "out" / "bench.png").stat().st_size > 0
    peer = importlib.util.find_spec("neuralforecast") is not None
    names = ["this project, fp32", "this project, bf16", *([PEER] if peer else [])]
    assert [row["contender"] for row in steps] == names
    for row in steps:
        assert row["step_min"] <= row["step_seconds"] <= row["step_max"]
        assert math.isnan(row["times_faster"]) != peer
        if row["contender"] != PEER:
            assert 0 < row["data_share"] < 1
            assert math.isnan(row["epoch_in_peer_steps"]) != peer
    assert [row["attn"] for row in growth] == ["prob", "full"]
    assert all(row["peak_memory_mb"] > 50 for row in growth)


def test_a_worker_that_cannot_start_says_why(tmp_path, capsys):
    words = "--d_model 15 --settings 48/48/24 --repetitions 1 --threads 1"
    assert main([*words.split(), "--out", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert "did not start" in errors and "--d_model 15: must be even" in errors
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        main(["--settings", "1/2/3"])
