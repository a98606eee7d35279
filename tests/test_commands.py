"""Commands in environments that people have: closed outputs, locales, names of files."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from exp import forecast
from tests.runs import ROOT, TINY, only_run, tiny

PYTHON = sys.executable
TRAIN = ["main_informer.py", *TINY, "--train_epochs", "1", "--results", "OUT"]
PLACES: dict[str, str] = {  # how the command is started
    "all streams closed": '"$@" <&- >&- 2>&-',
    "a reader that goes away, a notebook's backend": (
        'MPLBACKEND=module://matplotlib_inline.backend_inline "$@" | head -n 1'
    ),
    "few letters, an exported seed": 'PYTHONIOENCODING=ascii LC_ALL=C SEED=7 CDPATH=/ "$@"',
    "Latin-1": 'PYTHONUTF8=0 LC_ALL=en_US.ISO-8859-1 "$@" >&-',
}


def bash(line: str, *words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    command = ["bash", "-o", "pipefail", "-c", line, "bash", PYTHON, *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False)


@pytest.mark.parametrize("place", PLACES)
def test_a_run_ends_well_wherever_it_is_started(tmp_path, place):
    words = [str(tmp_path) if word == "OUT" else word for word in TRAIN]
    ended = bash(PLACES[place], *words)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(list(tmp_path.glob("*/metrics.json"))) == 1


TARGETS = ["温度", "𠮷" * 70, "$x_1^2$", "{0}%s", "a/b\\c", "..", "=SUM(A1)", "history", "NaN"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_column_may_have_any_name(tmp_path, target):
    frame = pd.read_csv(ROOT / "tests" / "part.csv").rename(columns={"temp": target})
    frame.to_csv(tmp_path / "mine.csv", index=False)
    words = ["--root_path", str(tmp_path), "--data_path", "mine.csv", f"--target={target}"]
    assert tiny(tmp_path / "runs", *words, "--train_epochs", "1", "--do_predict") == 0
    run = str(only_run(tmp_path / "runs"))
    assert forecast.main([run, str(tmp_path / "mine.csv"), "--at", frame["date"].iloc[-3]]) == 0


def test_a_data_file_may_have_any_name(tmp_path):
    """Bytes that are no UTF-8, as in names that come from other systems."""
    name = os.fsdecode(b"donn\xe9es \xff.csv")
    shutil.copy(ROOT / "tests" / "part.csv", tmp_path / name)
    results, out = str(tmp_path / "runs"), str(tmp_path / "out.md")
    words = [results if word == "OUT" else word for word in TRAIN]
    own = ["--root_path", str(tmp_path), "--data_path", name, "--do_predict"]
    backend = "module://matplotlib_inline.backend_inline"  # of a notebook: it is not there
    more = [
        ["-m", "paper.tables", "--results", results, "--format", "markdown", "--out", out],
        ["-m", "paper.figures", "--results", results, "--out", str(tmp_path / "figures")],
        ["-m", "paper.report", "--results", results, "--out", str(tmp_path / "page.html")],
    ]
    for command in ([*words, *own], *more):
        ended = bash('"$@"', *command, MPLBACKEND=backend)
        assert ended.returncode == 0 and b"Traceback" not in ended.stderr, command
    (run,) = (tmp_path / "runs").glob("informer_*")
    ended = bash('"$@"', "-m", "exp.forecast", str(run), str(tmp_path / name))
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(list((tmp_path / "runs").glob("forecast-*/*.csv"))) == 1
