"""python -m paper.report: one self-contained HTML page with tables, answers, figures and runs."""

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import jinja2

from paper import runs as records
from paper import signs, tables
from paper.figures import draw_all
from utils import plots
from utils.formats import render, write_text
from utils.output import run_command

TEMPLATE = Path(__file__).with_name("report.html.j2")


def build(runs: records.Runs, data: str | None = None) -> str:
    """Return the page; equal runs give an equal page. data: the one data set to show; None: all."""
    scored = tables.select(runs, data)
    rows, (answers, _) = tables.cells(scored), signs.answers(runs, scored)
    notes = [*runs.notes, *tables.accounted(scored, rows), *tables.more_lines(rows)]
    # names of columns and folders come from outside: autoescape
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return page.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        source=runs.source,
        results=render(tables.result_tables(rows), "html"),
        answers=render(answers, "html"),
        figures=[(name, svg(one)) for name, one in draw_all(runs, scored).items()],
        notes=[*notes, *tables.study_line(runs), *tables.left_out(scored)],
    )


def svg(figure: plots.Figure) -> str:
    """Write a figure as the content of a data URL."""
    return b64encode(plots.render(figure, "svg")).decode()


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    args = tables.flags("report", __doc__, "results", "data", "out").parse_args(argv)
    page = build(records.load(args.results), args.data)
    write_text(args.out or args.results / "report.html", page)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
