"""The benchmark: real processes at a size where only its arithmetic matters."""

import math
import multiprocessing
import time
from importlib.util import find_spec
from threading import Thread

import pandas as pd
import pytest
import torch

from exp.bench import PEER, build_parser, main, summary
from utils.environment import environment
from utils.files import UserError

SMALL = ["--d_model", "16", "--settings", "48/48/24/3", "--threads", "1", "--contenders"]


def test_a_small_benchmark_measures_every_contender(tmp_path, capsys):
    words = ["c0", "full", PEER, "--rounds", "1", "--out", str(tmp_path)]
    assert main([*SMALL, *words]) == 0
    text = (tmp_path / "steps.csv").read_text()
    rows = pd.read_csv(tmp_path / "steps.csv", comment="#").to_dict("records")
    peer = find_spec(PEER) is not None
    assert (f"without {PEER}" in capsys.readouterr().out) != peer
    assert [row["contender"] for row in rows] == ["c0", "full", *([PEER] if peer else [])]
    processor = environment(torch.device("cpu"))["processor"]
    assert "# d_model: 16\n" in text and f"# processor: {processor}\n" in text
    for row in rows:
        assert row["setting"] == "informer 48/48/24/3"
        assert 0 < row["step_min"] == row["step_seconds"] == row["step_max"]
        assert 0 < row["floor_seconds"] < row["step_seconds"] and row["peak_memory_mb"] > 50
        assert math.isnan(row["times_faster"]) != peer


def test_ratios_are_medians_over_rounds():
    table = summary(pd.DataFrame({"fp32": [0.5, 1.0, 2.0], PEER: [1.0, 2.0, 6.0]}))
    assert list(table["times_faster"]) == [2.0, 1.0]  # of 2, 2 and 3
    assert table["percent_over_c0"].dropna().empty
    table = summary(pd.DataFrame({"fp32": [0.5, 3.0, 2.0], "c0": [1.0, 2.0, 4.0]}))
    assert table["percent_over_c0"].to_dict() == {"fp32": -50.0, "c0": 0.0}
    assert table["times_faster"].dropna().empty
    assert list(table.loc["fp32"].filter(like="step_")) == [2.0, 0.5, 3.0]  # median and range


MISTAKES = {
    "--d_model 15": "--d_model 15: must be even",
    "--settings 1/2/3": "--settings: 1/2/3: must be seq_len/label_len/pred_len/factor",
    "--threads 0": "--threads 0: must be from 1 to 1024",
    "--rounds no": "--rounds: invalid int value: 'no'",
    "--models nothing": "--models nothing: unknown; one of",
    "--device cuda:99": "cuda:99: this machine has",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_end_in_one_line(words, tmp_path):
    with pytest.raises(UserError) as caught:
        main([*SMALL, "fp32", "--out", str(tmp_path), *words.split()])
    assert MISTAKES[words] in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "steps.csv").exists()


def test_help_writes_the_settings_as_they_are_given():
    assert "48/48/24/3, 720/168/24/5" in " ".join(build_parser().format_help().split())


def test_a_killed_contender_ends_in_one_line(tmp_path):
    def kill() -> None:
        while not (contenders := multiprocessing.active_children()):
            time.sleep(0.01)
        contenders[0].kill()

    Thread(target=kill, daemon=True).start()
    with pytest.raises(UserError, match=r"^a contender's process was killed \(out of memory\?\)$"):
        main([*SMALL, "fp32", "--rounds", "100000", "--out", str(tmp_path)])
