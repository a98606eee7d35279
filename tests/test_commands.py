"""Commands whose output goes elsewhere: a reader that leaves, an encoding with few letters."""

import os
import subprocess
import sys

import pytest

from tests.runs import ROOT, TINY

TRAIN = ["main_informer.py", *TINY, "--train_epochs", "1", "--results", "OUT"]
LINES = {'"$@" | head -n 1': (141, 0), 'PYTHONIOENCODING=ascii LC_ALL=C "$@"': (0, 1)}


@pytest.mark.parametrize("line", LINES)
def test_a_run_ends_without_a_traceback(tmp_path, line):
    words = [str(tmp_path) if word == "OUT" else word for word in TRAIN]
    command = ["bash", "-o", "pipefail", "-c", line, "bash", sys.executable, *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False)
    assert ended.stderr == b""
    assert (ended.returncode, len(list(tmp_path.glob("*/metrics.json")))) == LINES[line]
