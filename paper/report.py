"""python -m paper.report: one self-contained HTML page with tables, answers, figures and runs."""

import argparse
import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd

from paper import runs as records
from paper import signs, tables
from paper.figures import draw_all
from paper.published import LIP, paper_settings, published
from utils.formats import DIGITS, Column, Table, write_text
from utils.output import run_command
from utils.plots import render
from utils.progress import duration

TEMPLATE = Path(__file__).with_name("report.html.j2")


def build(
    runs: records.Runs, score: str | None, named: signs.Preregistration, data: str | None = None
) -> str:
    """Return the page; equal runs give an equal page.

    Score is as `paper.runs.select_metrics` takes it, data the one data set to show; None: all.
    """
    metrics = records.select_metrics(runs.frame, score)
    scored, none = records.select(metrics, argparse.Namespace(data=data))
    rows, pairs, tested = tables.cells(scored), signs.contrasts(scored), signs.verdicts(runs, named)
    tested = tested if runs.committed else tested.loc[tested["state"] != "no runs"]
    results, every = tables.result_tables(scored), tables.result_tables(scored, every=True)
    tests = signs.hypothesis_tables(tested, named) if len(tested) else []
    compared = [signs.contrast_table(pairs)] if len(pairs) else []
    figures, gaps = draw_all(runs, scored)
    notes = [note for table in [*results, *every, *tests, *compared] for note in table.notes]
    # names of columns and folders come from outside: autoescape
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return page.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        source=runs.source,
        about=[*runs.notes, *none, *(tables.accounted(scored, rows) if len(scored) else [])],
        study="" if runs.committed else records.STUDY_LINE,
        results=results,
        more=[] if runs.committed else tables.more_lines(rows),
        tests=tests,
        figures=[(one, b64encode(render(one.drawing, "svg")).decode()) for one in figures],
        details=[
            ("Every coefficient, MSE and MAE", every, []),
            ("Every loss against MSE, and both signs", compared, []),
            ("Runs: scores, cost, where they ran", [runs_table(scored)] if len(scored) else [], []),
            ("Missing of the paper's tables", [], missing(scored, data)),
            ("Left out, or not there", [], [*records.left_out(scored), *gaps]),
            ("Notes to the tables", [], dict.fromkeys(notes)),
        ],
        typeset=typeset,
    )


def runs_table(scored: pd.DataFrame) -> Table:
    """Lay out every run: scores, cost, where it ran, what came of it, and its folder."""
    digits = {"mse": DIGITS, "mae": DIGITS, "val_mse": DIGITS, "best_epoch": 0, "epochs": 0}
    digits |= {"wall_seconds": 0, "step_seconds": 3, "peak_memory_mb": 0}
    names = ["label", "axis", "c", "seed", *digits, "processor", "threads", "device", "torch"]
    names += ["git_commit", "git_dirty", "outcome", "error", "run"]
    shown = [name for name in names if name in scored]
    columns = [Column(name.replace("_", " "), name, digits.get(name)) for name in shown]
    whole = duration(pd.Series(scored["wall_seconds"], dtype=float).sum())
    return Table(f"{len(scored)} runs, {whole} together", scored, columns)


def missing(scored: pd.DataFrame, data: str | None = None) -> list[str]:
    """Name the paper's cells with fewer seeds than the paper, a line per model and data set."""
    lines: dict[str, list[str]] = {}
    used = scored.loc[(scored["outcome"] == "ok") & scored["published"].astype(bool)]
    have = used.groupby(["model", "cell", "c"])["seed"].nunique()
    for model in published().index.unique("model"):
        for (name, features, steps), row in paper_settings(model).items():
            cell = f"{name} {features} {steps}"
            n = min(have.get((model, cell, c), 0) for c in (0.0, LIP))
            if n < row["itr"] and (data or name).lower() == name.lower():
                words = f"{n} of {row['itr']} pairs" if n else "none"
                lines.setdefault(f"{model} {name}", []).append(f"{features} {steps} {words}")
    return [f"{name}: {', '.join(words)}." for name, words in lines.items()]


def typeset(text: str) -> str:
    """Return a table's text with a minus before numbers, and a dash for what is missing."""
    text = text.replace(" = ", "\u00a0=\u00a0").replace(" %", "\u00a0%")  # no line ends there
    return "–" if text == "-" else re.sub(r"(?<!\w)-(?=\d)", "−", text)


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.report", description=__doc__)
    records.add_flags(parser, "results", "data", "score")
    add = parser.add_argument
    add("--hypotheses", type=Path, default=records.HYPOTHESES, help="what is tested (%(default)s)")
    add("--out", type=Path, help="file to write (RESULTS/report.html)")
    args = parser.parse_args(argv)
    runs, named = records.load(args.results), signs.read_hypotheses(args.hypotheses)
    page = build(runs, args.score, named, args.data)
    write_text(args.out or args.results / "report.html", page)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
