"""The README's recipes, each carried out in a copy of the project: a model, data, a regularizer."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import ROOT, TINY

PACKAGES = ("data", "exp", "models", "paper", "utils")
MODEL = """
import torch
from models.model import Forecast
class Mean(torch.nn.Module):
    def __init__(self, *, out_len, c_out, **_):
        super().__init__()
        self.out_len, self.c_out = out_len, c_out
        self.shift = torch.nn.Parameter(torch.zeros(()))
    def forward(self, x_enc, *_):
        mean = x_enc[..., -self.c_out :].mean(1, keepdim=True) + self.shift
        return Forecast(mean.expand(-1, self.out_len, -1), None, None, None)
"""
KIND = """    lip_kind: str = flag(
        *("squares", "regularizer", "of differences", ("squares", "absolute")),
        **{"regularizer": True, "needs": "lip_coef", "absent": "squares"},
    )
"""
TERM = "(h.diff(dim=1).abs().mean() if self.config.lip_kind == 'absolute' else forecast.lip)"
TERM = TERM.replace("h.diff", "forecast.embedded.diff")
PAIRED = """
from exp.record import read_runs
runs = read_runs(__import__("pathlib").Path("results"))
assert (runs["status"] == "finished").all(), runs["error"]
assert runs["setting_id"].nunique() == 1 and len(runs) == 3  # c = 0 is one run, and of the cell
assert runs["mse"].nunique() == 3
"""


@pytest.fixture
def copy(tmp_path) -> Path:
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "downloads")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "main_informer.py", tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


def python(folder: Path, *words: str) -> str:
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout


def train(folder: Path, *words: str) -> str:
    return python(folder, "main_informer.py", *TINY, "--train_epochs", "1", *words)


def test_a_model_is_a_file_and_a_row(copy):
    (copy / "models/mean.py").write_text(MODEL)
    rows = copy / "models/__init__.py"
    edit(rows, "MODELS = {", 'MODELS = {\n    "mean": Model(Mean, embeds=False),')
    edit(rows, "from models.model import", "from models.mean import Mean\nfrom models.model import")
    assert "test on scaled data" in train(copy, "--model", "mean", "--lam", "0")


def test_a_data_set_is_a_row(copy):
    content = (ROOT / "tests/part.csv").read_bytes()
    row = f"mine,part.csv,,900,3,temp,1h,,{len(content)},{hashlib.sha256(content).hexdigest()},,,"
    with (copy / "data/registry.csv").open("a") as registry:
        registry.write(row + "\n")
    assert "mine_S_12-6-4" in train(copy, "--data", "mine")


def test_a_regularizer_is_a_field_and_a_term(copy):
    edit(copy / "exp/config.py", "    seed: int = flag(", f"{KIND}    seed: int = flag(")
    edit(copy / "exp/exp_informer.py", "c * forecast.lip if c", f"c * {TERM} if c")
    known = train(ROOT, "--results", str(copy / "results"), "--lam", "0")  # before it was added
    again = train(copy, "--lam", "0", "--lip_kind", "absolute")
    assert "done before, skipped" in again and known.split()[0] == again.split()[0]
    train(copy, "--lam", "2")
    train(copy, "--lam", "2", "--lip_kind", "absolute")
    python(copy, "-c", PAIRED)
    assert "3 runs: 3 shown." in python(copy, "-m", "paper.tables")
