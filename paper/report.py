"""python -m paper.report: one self-contained HTML page with answers, tables, figures and runs."""

import argparse
import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from paper.figures import draw_all
from paper.pairs import pair_tables, sentences
from paper.runs import (
    PRINTED_MODELS,
    Runs,
    add_flags,
    left_out,
    load,
    paper_settings,
    select,
    select_metrics,
)
from paper.signs import HYPOTHESES, Preregistration, read_hypotheses, verdicts
from paper.tables import SIDES, result_tables
from utils.formats import DIGITS, Column, Table, write_text
from utils.output import run_command
from utils.plots import render
from utils.progress import duration

TEMPLATE = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
MOST = 30  # rows of every c and baseline: with more, the paper's shape is shown instead
# Columns that say which row it is: they become the row's heading.
LABELS = ("name", "label", "dataset", "pred_len", "lengths", "method", "axis", "c", "seed")


def build(runs: Runs, score: str | None, named: Preregistration, data: str | None = None) -> str:
    """Return the page; equal runs give an equal page.

    Score is as `paper.runs.select_metrics` takes it, data the one data set to show; None: all.
    """
    flags = argparse.Namespace(data=data)
    scored, none = select(select_metrics(runs.frame, score), flags)
    whole, _ = select(select_metrics(runs.frame, "all"), flags)
    used = scored.loc[scored["outcome"] == "ok"]
    tested = verdicts(runs, named).to_dict("records")
    results, signs = result_tables(scored), pair_tables(whole)
    shapes = [table for table in results if "method" not in table.heads]
    every = [table for table in results if "method" in table.heads]  # says all that shapes say
    many = len(shapes) and sum(len(table.frame) for table in every) > MOST
    shown, folded = (shapes, every) if many else (every, [])
    figures, gaps = draw_all(runs, scored)
    details = [
        ("Results: every c, and the baselines", folded, []),
        ("Signs: each c against c = 0", signs, []),
        ("Runs: scores, cost, where they ran", [runs_table(scored)] if len(scored) else [], []),
        ("Missing of the paper's tables", [], missing(used, data)),
        ("Left out, or not there", [], [*runs.notes, *none, *left_out(scored), *gaps]),
        ("Notes to the tables", [], dict.fromkeys(n for t in [*results, *signs] for n in t.notes)),
    ]
    # names of columns and folders come from outside: autoescape
    page = jinja2.Template(TEMPLATE, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return page.render(
        source=runs.source,
        counts=(len(used), len(scored), used["label"].nunique()),
        answers=sentences(whole, numbers=False),
        tested=tested,
        untested=[f"{row['name']} ({row['label']})" for row in tested if row["state"] == "no runs"],
        named=named,
        results=shown,
        figures=[(one, b64encode(render(one.drawing, "svg")).decode()) for one in figures],
        details=details,
        laid_out=page_table,
        typeset=typeset,
    )


def page_table(table: Table) -> dict[str, Any]:
    """Lay a table out: what is the same in all rows goes to the title, unless it is a result.

    Returns:
        title; label and names: heading and texts of the columns that say which row it is, in one;
        columns: the others, each with its texts and whether they are numbers; best.
    """
    columns = [*zip(table.columns, zip(*table.rows, strict=True), strict=True)]
    several = len(table.frame) > 1
    same = [(c, t) for c, t in columns if several and not c.digits and len({*t}) == 1]
    shared = [f"{c.head} {t[0]}" for c, t in same if t[0] != "-"]
    kept = [column for column in columns if column not in same] or columns[:1]
    label = [(c, t) for c, t in kept if c.name in LABELS] or kept[:1]
    rest = [(c, t) for c, t in kept if (c, t) not in label]
    rows = zip(*(texts for _, texts in label), strict=True)
    return {
        "title": ", ".join([table.title, *shared]),
        "label": ", ".join(column.head for column, _ in label),
        "names": [" ".join(text for text in row if text != "-") for row in rows],
        "columns": [(c, t, all(x[:1] in "-+−0123456789" for x in t)) for c, t in rest],
        "best": table.best,
    }


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


def missing(used: pd.DataFrame, asked: str | None = None) -> list[str]:
    """Name the paper's cells with fewer seeds than the paper, a line per model and data set."""
    lacks: dict[str, list[str]] = {}
    for model in PRINTED_MODELS:
        ours = used.loc[used["printed"].astype(bool) & (used["model"] == model)]
        have = ours.groupby(["cell", "c"])["seed"].nunique()
        for (data, features, pred_len), row in paper_settings(model).items():
            zero, lip = (have.get((f"{data} {features} {pred_len}", c), 0) for c in SIDES.values())
            seeds = f"c = 0 {zero}, c = -2 {lip} of {row['itr']} seeds" if zero + lip else "no run"
            if min(zero, lip) < row["itr"] and (asked or data).lower() == data.lower():
                lacks.setdefault(f"{model} {data}", []).append(f"{features} {pred_len} {seeds}")
    return [
        f"{name}: {'no run' if all(c.endswith('no run') for c in cells) else '; '.join(cells)}."
        for name, cells in lacks.items()
    ]


def typeset(text: str) -> str:
    """Return a table's text with a minus before numbers, and a dash for what is missing."""
    text = text.replace(" = ", "\u00a0=\u00a0").replace(" %", "\u00a0%")  # no line ends there
    return "–" if text == "-" else re.sub(r"(?<!\w)-(?=\d)", "−", text)


def main(words: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.report", description=__doc__)
    add_flags(parser, "results", "data", "score")
    add = parser.add_argument
    add("--hypotheses", type=Path, default=HYPOTHESES, help="what is tested (%(default)s)")
    add("--out", type=Path, help="file to write (RESULTS/report.html)")
    args = parser.parse_args(words)
    out = args.out or args.results / "report.html"
    named = read_hypotheses(args.hypotheses)
    write_text(out, build(load(args.results), args.score, named, args.data))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
