"""The benchmark, at a size where only its arithmetic matters."""

import io
from importlib.util import find_spec
from unittest import mock

import pandas as pd
import pytest

from exp.bench import COMMON, CONTENDERS, PEER, main, own_step, summary
from models.layers import has_bf16_kernels
from utils.files import UserError

SMALL = ["--d_model", "16", "--d_ff", "64", "--seq_len", "48", "--threads", "1", "--rounds", "1"]


def test_a_small_benchmark_measures_every_contender(capsys):
    lacks = {"bf16": not has_bf16_kernels(), PEER: not find_spec(PEER)}
    names = [name for name in CONTENDERS if not lacks.get(name)]
    assert main([*SMALL, "--contenders", *names]) == 0
    output = capsys.readouterr().out
    assert "\n# processor: " in output and "\n# device: cpu\n# " in output
    rows = pd.read_csv(io.StringIO(output), comment="#").set_index("contender")
    assert list(rows.index) == names
    assert min(rows["least"]) > 0 and list(rows["least"]) == list(rows["most"])
    assert rows.at["c0", "times_c0"] == rows.at["nolip", "times_nolip"] == 1
    with pytest.raises(UserError, match="cuda:99: this machine has"):
        main([*SMALL, "--device", "cuda:99"])


def test_ratios_are_medians_over_rounds():
    table = summary(pd.DataFrame({"fp32": [0.5, 1.0, 6.0], "c0": [1.0, 2.0, 2.0]}))
    assert table["times_c0"].to_dict() == {"fp32": 0.5, "c0": 1.0}  # of 0.5, 0.5 and 3
    assert list(table.loc["fp32", ["seconds", "least", "most"]]) == [1.0, 0.5, 6.0]
    assert f"times_{PEER}" not in table


def test_lipreg_is_computed_in_every_step_but_one(monkeypatch):
    flags = [*COMMON.split(), *SMALL[:-2]]
    steps = own_step(flags), own_step(flags, lip=False)
    for name in ("models.embed.LipReg", "exp.exp_informer.lip_metrics"):
        with monkeypatch.context() as patch:
            patch.setattr(name, mock.Mock(side_effect=ArithmeticError))
            steps[1]()
            with pytest.raises(ArithmeticError):
                steps[0]()
