"""Tables as text: aligned in a terminal, whole in Markdown, and LaTeX that compiles."""

import re
import shutil
import subprocess

import pandas as pd
import pytest

from exp.cells import find_cells, usable_runs
from exp.layout import result_tables
from exp.render import Table, render
from exp.sign_tables import sign_tables
from exp.signs import read_hypotheses
from tests.study import cell_run, full_study

SMALL = Table(
    "Small: λ ± 50 % & more",
    [("", "data"), ("group", "a_1"), ("group", "b|c")],
    [["x", "0.1", "-"], ["long name", "c < 0", "10"]],
    bold={(0, 1)},
    notes=["a note with p ≤ 0.05 and {braces}, ~, ^, \\"],
)


@pytest.fixture(scope="module")
def tables() -> list[Table]:
    other = [
        cell_run(0.1, seed=s, lip_coef=-c, d_model=64) for s in (0, 1) for c in (0.0, 2.0, 4.0)
    ]
    frame = pd.concat([full_study(), pd.DataFrame(other)], ignore_index=True)
    cells = find_cells(usable_runs(frame, "truncated")[0])
    shown = result_tables(cells, ["S", "M"], "truncated")
    return [SMALL, *shown, *sign_tables(cells, read_hypotheses(), "truncated")]


def test_terminal_by_hand():
    assert render([SMALL], "terminal", ["The end."]) == (
        "Small: λ ± 50 % & more\n"
        "---------------------\n"
        "           group\n"
        "data       a_1    b|c\n"
        "---------------------\n"
        "x          0.1*   -\n"
        "long name  c < 0  10\n"
        "---------------------\n"
        "* the better of its pair, or both when equal\n"
        "a note with p ≤ 0.05 and {braces}, ~, ^, \\\n"
        "\n"
        "The end.\n"
    )


def test_terminal_columns_are_aligned(tables):
    for table in tables:
        lines = render([table], "terminal", []).splitlines()
        rule = lines[1]
        first, second, third = [i for i, line in enumerate(lines) if line == rule]
        header, body = lines[second - 1], lines[second + 1 : third]
        starts = [match.start() for match in re.finditer(r"(?<=  )\S", header)]
        assert first < second and len(body) == len(table.rows)
        for line in body:
            assert all(line.ljust(len(rule))[start - 2 : start] == "  " for start in starts)


def test_markdown_by_hand():
    assert render([SMALL], "markdown", []).splitlines()[:7] == [
        "### Small: λ ± 50 % & more",
        "",
        "| data | group a_1 | group b\\|c |",
        "| --- | --- | --- |",
        "| x | **0.1** | - |",
        "| long name | c < 0 | 10 |",
        "",
    ]


def test_markdown_rows_have_as_many_cells_as_the_head(tables):
    for table in tables:
        lines = [x for x in render([table], "markdown", []).splitlines() if x.startswith("|")]
        assert len(lines) == len(table.rows) + 2
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.columns) + 1}


def test_latex_is_well_formed(tables):
    text = render(tables, "latex", ["The end."])
    assert text.isascii()
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert begun[0] == ended[-1] == "document"
    assert begun[1:] == ended[:-1] == ["longtable"] * len(tables)
    bare = re.sub(r"\\[{}$&%#_]", "", text)  # escaped characters are text
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert not re.search(r"[~^#%]", re.sub(r"\\text\w+{}", "", bare))
    for table, part in zip(tables, text.split(r"\begin{longtable}")[1:], strict=True):
        assert part.startswith("{" + "l" * len(table.columns) + "}")
        body = part[part.index(r"\midrule") : part.index(r"\bottomrule")]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(rows) == len(table.rows)
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(table.columns) - 1
        assert part.count(r"\textbf") == len(table.bold)


def test_latex_compiles(tables, tmp_path):
    compiler = shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("pdflatex is not installed: the document's structure alone is checked")
    (tmp_path / "tables.tex").write_text(render(tables, "latex", ["The end."]))
    done = subprocess.run(
        [compiler, "-interaction=nonstopmode", "-halt-on-error", "tables.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 10_000
