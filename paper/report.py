"""python -m paper.report: one self-contained HTML page with tables, answers, figures and runs."""

import argparse
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import jinja2

from paper import runs as records
from paper import signs, tables
from paper.figures import draw_all
from utils.formats import write_text
from utils.output import run_command
from utils.plots import render

TEMPLATE = Path(__file__).with_name("report.html.j2")


def build(runs: records.Runs, named: signs.Preregistration, data: str | None = None) -> str:
    """Return the page; equal runs give an equal page. data: the one data set to show; None: all."""
    scored, none = tables.select(records.select_metrics(runs.frame), data)
    rows, pairs, tested = tables.cells(scored), signs.contrasts(scored), signs.verdicts(runs, named)
    tested = tested if runs.committed else tested.loc[tested["state"] != "no runs"]
    results = tables.result_tables(scored)
    tests = [signs.hypothesis_table(tested, named)] if len(tested) else []
    compared = [signs.contrast_table(pairs)] if len(pairs) else []
    figures, gaps = draw_all(runs, scored)
    notes = [note for table in [*results, *tests, *compared] for note in table.notes]
    # names of columns and folders come from outside: autoescape
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return page.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        source=runs.source,
        about=[*runs.notes, *none, *(tables.accounted(scored, rows) if len(scored) else [])],
        study="" if runs.committed else tables.STUDY_LINE,
        results=results,
        more=[] if runs.committed else tables.more_lines(rows),
        tests=tests,
        figures=[(one, b64encode(render(one.drawing, "svg")).decode()) for one in figures],
        details=[
            ("Every loss against MSE, and both signs", compared, []),
            ("Left out, or not there", [], [*tables.left_out(scored), *gaps]),
            ("Notes to the tables", [], dict.fromkeys(notes)),
        ],
    )


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.report", description=__doc__)
    tables.add_flags(parser, "results", "data")
    parser.add_argument("--out", type=Path, help="file to write (RESULTS/report.html)")
    args = parser.parse_args(argv)
    page = build(records.load(args.results), signs.read_hypotheses(), args.data)
    write_text(args.out or args.results / "report.html", page)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
