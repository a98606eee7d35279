"""Tables as text: terminal, Markdown, LaTeX, CSV, and what a terminal cannot show."""

import io
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from paper import tables
from tests.records import write_arm, write_run
from tests.runs import ROOT
from utils.files import UserError
from utils.formats import Table, change, render

TABLE = Table(
    "Small: λ ± 50 % & more",
    pd.DataFrame({"data_1": ["x", "b|c"], "c < 0": ["**0.12346**", "-"]}),
    ["a note with p ≤ 0.05 and {braces}, ~, ^, \\"],
)


def test_terminal_markdown_and_html():
    text = render([TABLE, TABLE], "terminal", ["last"])
    assert "x       0.12346*\nb|c     -" in text and text.count("a note") == 1
    assert "| x      | **0.12346** |\n| b\\|c   | -           |" in render([TABLE], "markdown")
    page = render([TABLE], "html")
    assert "<td><b>0.12346</b></td>" in page and "c &lt; 0" in page
    assert change(np.nan) == "-" and change(-1, -2, 3) == "−1.0 %, −2.0 to +3.0 %"


def test_latex_is_a_tabular_that_compiles(tmp_path):
    text = render([TABLE], "latex")
    assert "documentclass" not in text and text.count(r"\begin{tabular}") == 1 and text.isascii()
    assert re.search(r"x +& \\textbf{0.12346} +\\\\", text)
    assert r"data\_1" in text and r"c \ensuremath{<} 0" in text
    assert r"% Small: $\lambda$ $\pm$ 50 \% \& more" in text
    latex = shutil.which("pdflatex")
    if latex is None:
        pytest.skip("no pdflatex is installed (Debian: apt-get install texlive-latex-base)")
    document = rf"\documentclass{{article}}\begin{{document}}{text}\end{{document}}"
    (tmp_path / "a.tex").write_text(document)
    command = [latex, "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_csv_is_unrounded_and_notes_go_to_stderr(tmp_path, capsys):
    write_arm(tmp_path, 0.0, [0.1, 0.1000001])
    write_run(tmp_path, seed=9, status="failed")
    assert tables.main(["--results", str(tmp_path), "--format", "csv"]) == 0
    done = capsys.readouterr()
    frame = pd.read_csv(io.StringIO(done.out))
    assert frame["mse_zero"].to_list() == [np.mean([0.1, 0.1000001])]
    assert "Left out, failed" in done.err


def shell(command: str, **env: str) -> subprocess.CompletedProcess[str]:
    words, env = ["bash", "-o", "pipefail", "-c", command], {**os.environ, **env}
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=env, check=False)


def test_other_encodings_and_mistakes(tmp_path):
    write_arm(tmp_path, 0.0, [0.1, 0.2])
    python = f"{sys.executable} -W error -m paper"
    done = shell(f"{python}.tables --results {tmp_path}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "MSE - 2 Lip" in done.stdout, done.stderr
    done = shell(f"{python}.tables --results {tmp_path} --data ETTh3")
    assert done.returncode == 2 and done.stderr.startswith("error: --data ETTh3: no run (did you")
    (tmp_path / "file").touch()
    for words in (["--out", f"{tmp_path}/file/x.md"], ["--results", f"{tmp_path}/none"]):
        with pytest.raises(UserError) as error:
            tables.main(["--results", str(tmp_path), *words])
        assert "\n" not in str(error.value)
