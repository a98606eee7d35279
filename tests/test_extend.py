"""The README's recipes, each carried out in a copy of the project: a model, data, a regularizer."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.runs import ROOT, only_run, tiny

MODEL = """
import torch
from models.lipreg import LipReg
from models.model import Forecast
class Mean(torch.nn.Module):
    def __init__(self, *, out_len, c_out, **_):
        super().__init__()
        self.out_len, self.c_out = out_len, c_out
        self.shift = torch.nn.Parameter(torch.zeros(()))
    def forward(self, x_enc, *_):
        h = torch.cat([x_enc, x_enc + self.shift], dim=-1)  # what is embedded
        mean = h[..., -self.c_out :].mean(1, keepdim=True)
        return Forecast(mean.expand(-1, self.out_len, -1), LipReg(h, False), None, h)
"""
KIND = """    lip_kind: str = flag(
        *("squares", "regularizer", "of differences", ("squares", "absolute")),
        **{"regularizer": True, "needs": "lip_coef", "absent": "squares"},
    )
"""
TERM = "(forecast.embedded.diff(dim=1).abs().mean()"
TERM += " if self.config.lip_kind == 'absolute' else forecast.lip)"
DRIVER = """
import sys
from pathlib import Path
from exp.record import read_runs
from main_informer import main
from paper import tables
from tests.runs import TINY
for words in (
    "--results other --model mean",
    "--results other --data mine",
    "--lam 0 --lip_kind absolute",
    "--lam 2",
    "--lam 2 --lip_kind absolute",
):
    assert main([*TINY, "--train_epochs", "1", *words.split()]) == 0
assert set(read_runs(Path("other"))["data"]) == {"custom", "mine"}
runs = read_runs(Path("results"))
assert (runs["status"] == "finished").all(), runs["error"]
assert runs["setting_id"].nunique() == 1 and len(runs) == 3  # c = 0 is one run, and of the cell
assert runs["mse"].nunique() == 3
tables.main([])
"""


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


def add_model(copy: Path) -> None:
    (copy / "models/mean.py").write_text(MODEL)
    rows = copy / "models/__init__.py"
    edit(rows, "MODELS = {", 'MODELS = {\n    "mean": Model(Mean),')
    edit(rows, "from models.model import", "from models.mean import Mean\nfrom models.model import")


def add_data_set(copy: Path) -> None:
    content = (ROOT / "tests/part.csv").read_bytes()
    row = f"mine,part.csv,,900,3,temp,1h,,{hashlib.sha256(content).hexdigest()},,,"
    with (copy / "data/registry.csv").open("a") as registry:
        registry.write(row + "\n")


def add_regularizer(copy: Path) -> None:
    edit(copy / "exp/config.py", "    seed: int = flag(", f"{KIND}    seed: int = flag(")
    edit(copy / "exp/exp_informer.py", "c * forecast.lip if c", f"c * {TERM} if c")


def test_the_recipes_work_in_a_copy(tmp_path, capsys):
    for name in ("data", "exp", "models", "paper", "utils", "tests", "main_informer.py"):
        if name.endswith(".py"):
            shutil.copy(ROOT / name, tmp_path)
        else:
            ignored = shutil.ignore_patterns("__pycache__", "downloads")
            shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    add_model(tmp_path)
    add_data_set(tmp_path)
    add_regularizer(tmp_path)
    assert tiny(tmp_path / "results", "--train_epochs", "1", "--lam", "0") == 0
    known = only_run(tmp_path / "results").name  # before the regularizer was added
    command = [sys.executable, "-c", DRIVER]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{known}: done before, skipped" in done.stdout
    assert "3 runs: 3 shown." in done.stdout
