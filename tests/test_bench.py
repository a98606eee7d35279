"""The benchmark: real processes at a size where only its arithmetic matters."""

from importlib.util import find_spec

import pandas as pd
import pytest
import torch

from exp.bench import CONTENDERS, PEER, main, summary
from models.layers import has_bf16_kernels
from utils.environment import environment
from utils.files import UserError

SMALL = ["--d_model", "16", "--settings", "48/48/24/3", "--threads", "1", "--rounds", "1"]


def test_a_small_benchmark_measures_every_contender(tmp_path):
    names = [name for name in CONTENDERS if name != "bf16" or has_bf16_kernels()]
    path = tmp_path / "bench" / "steps.csv"
    assert main([*SMALL, "--out", str(path), "--contenders", *names]) == 0
    rows = pd.read_csv(path, comment="#").set_index("contender")
    names = [name for name in names if name != PEER or find_spec(PEER)]
    assert list(rows.index) == names and {*rows["setting"]} == {"informer 48/48/24/3"}
    processor = environment(torch.device("cpu"))["processor"]
    assert f"# processor: {processor}\n# device: cpu\n" in path.read_text()
    assert min(rows["least"]) > 0 and list(rows["least"]) == list(rows["most"])
    assert min(rows["peak_memory_mb"]) > 50
    assert rows.at["c0", "times_c0"] == rows.at["nolip", "times_nolip"] == 1


def test_ratios_are_medians_over_rounds():
    table = summary(pd.DataFrame({"fp32": [0.5, 1.0, 6.0], "c0": [1.0, 2.0, 2.0]}))
    assert table["times_c0"].to_dict() == {"fp32": 0.5, "c0": 1.0}  # of 0.5, 0.5 and 3
    assert list(table.loc["fp32", ["seconds", "least", "most"]]) == [1.0, 0.5, 6.0]
    assert "times_peer" not in table


@pytest.mark.parametrize("words", ["--threads 0", "--rounds no", "--device cuda:99"])
def test_mistakes_end_in_one_line(words, tmp_path):
    with pytest.raises(UserError) as caught:
        main([*SMALL, "--out", str(tmp_path / "steps.csv"), *words.split()])
    assert "\n" not in str(caught.value) and not any(tmp_path.iterdir())
