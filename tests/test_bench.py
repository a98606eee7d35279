"""The benchmark at a size where only its arithmetic matters."""

import importlib.util

import pandas as pd
import pytest

from exp.bench import PEER, main


def test_a_small_benchmark_measures_every_contender(tmp_path, capsys):
    words = "--d_model 16 --settings 48/48/24 --growth 96 --repetitions 2 --threads 1"
    assert main([*words.split(), "--out", str(tmp_path / "out")]) == 0
    assert "wrote" in capsys.readouterr().out
    steps = pd.read_csv(tmp_path / "out" / "steps.csv", comment="#")
    growth = pd.read_csv(tmp_path / "out" / "growth.csv", comment="#")
    assert (tmp_path / "out" / "bench.png").stat().st_size > 0
    peer = importlib.util.find_spec("neuralforecast") is not None
    assert (PEER in set(steps["contender"])) == peer
    own = steps[steps["contender"] != PEER]
    assert list(own["contender"]) == ["this project, fp32", "this project, bf16"]
    assert (own["step_min"] <= own["step_seconds"]).all()
    assert (own["step_seconds"] <= own["step_max"]).all()
    assert own["data_share"].between(0, 1).all()
    assert own["times_faster"].notna().all() == own["epoch_in_peer_steps"].notna().all() == peer
    assert list(growth["attn"]) == ["prob", "full"] and (growth["peak_memory_mb"] > 50).all()


def test_a_worker_that_cannot_start_says_why(tmp_path, capsys):
    words = "--d_model 15 --settings 48/48/24 --repetitions 1 --threads 1"
    assert main([*words.split(), "--out", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert "did not start" in errors and "--d_model 15: must be even" in errors
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        main(["--settings", "1/2/3"])
