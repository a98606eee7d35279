"""python -m exp.report: one self-contained HTML page with verdicts, tables, figures and runs."""

import argparse
import base64
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from exp.behind import environments, left_out_table, runs_table, shortfall_tables
from exp.cells import Cell, find_cells, usable_runs
from exp.figure import draw_all
from exp.layout import PRECISION, number, result_tables
from exp.paper_tables import TABLES
from exp.record import read_runs
from exp.sign_tables import contrast, interval, sign_tables
from exp.signs import HYPOTHESES, Hypothesis, hypothesis_frame, paired_frame, read_hypotheses
from utils.errors import UserError
from utils.files import make_folder, write_atomic

TEMPLATE = "report.html.j2"


def build(results: Path, score: str, hypotheses: list[Hypothesis]) -> str:
    """Return the page; equal runs give an equal page.

    Args:
        results: the folder of the runs.
        score: truncated or all: the test windows that are scored.
        hypotheses: what the verdicts are about.

    Raises:
        UserError: there is no such folder.
    """
    frame = read_runs(results)
    runs, notes = usable_runs(frame, score)
    cells = sorted(find_cells(runs), key=lambda cell: (cell.data, cell.features, cell.pred_len))
    used = runs["run"].tolist() if len(runs) else []
    figures = list(draw_all(cells, results, score))
    places, environment_table = environments(used, results)
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(
        loader=folder,
        autoescape=True,  # names of columns and folders come from outside
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["typeset"] = typeset
    return pages.get_template(TEMPLATE).render(
        results=results,
        score=score,
        counted=(len(frame), len(runs), len(cells)),
        versions=sorted({f"{v:g}" for cell in cells for v in cell.runs["results_version"]}),
        notes=notes,
        verdicts=verdicts(cells, hypotheses),
        results_tables=result_tables(cells, [*TABLES], score),
        sign_tables=sign_tables(cells, hypotheses, score),
        figures=[(figure, data_uri(figure.render("svg"))) for figure in figures],
        cell_tables=[runs_table(cell, places) for cell in cells],
        environment_table=environment_table,
        shortfall_tables=shortfall_tables(cells),
        left_out_table=left_out_table(frame, used),
        gaps=list(dict.fromkeys(gap for figure in figures for gap in figure.gaps)),
    )


def verdicts(cells: list[Cell], hypotheses: list[Hypothesis]) -> list[dict[str, Any]]:
    """Return each hypothesis with its verdict, its cell and the numbers behind it, as text."""
    found = []
    for row in hypothesis_frame(paired_frame(cells), hypotheses).to_dict("records"):
        cell = f"{row['data']} {row['features']} {row['pred_len']}, {row['axis']} axis"
        numbers = ""
        if row["n"]:
            numbers = f"{contrast(row['comparison'])}: {number(row['difference'])}, 95 % interval "
            numbers += f"{interval(row['low'], row['high'])}, n = {row['n']:g}, "
            numbers += (
                f"p = {number(row['p'], 4)}, with Holm's correction {number(row['p_holm'], 4)}"
            )
        words = {"claim": row["claim"], "verdict": row["verdict"], "numbers": numbers}
        found.append({**words, "cell": f"{cell}, {PRECISION[row['amp']]}, {row['model']}"})
    return found


def typeset(text: str) -> str:
    """Return a table's text with a minus before numbers, and a dash for what is missing."""
    return "–" if text == "-" else re.sub(r"(?<!\w)-(?=\d)", "−", text)


def data_uri(svg: bytes) -> str:
    """Return an image as an address that holds it whole."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def main(words: Sequence[str]) -> int:
    """Run one command line and return the exit code: 0, or 2 after a mistake."""
    parser = argparse.ArgumentParser(prog="python -m exp.report", description=__doc__)
    add = parser.add_argument
    add("--results", type=Path, default=Path("results"), help="folder of the runs (results)")
    add("--out", type=Path, help="file to write (RESULTS/report.html)")
    add("--score", choices=("truncated", "all"), default="truncated", help="test windows scored")
    add("--hypotheses", type=Path, default=HYPOTHESES, help="what is tested (%(default)s)")
    args = parser.parse_args(words)
    out = args.out or args.results / "report.html"
    try:
        page = build(args.results, args.score, read_hypotheses(args.hypotheses))
        make_folder(out.parent)
        write_atomic(out, page.encode())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
