"""python -m paper.report: one self-contained HTML page with answers, tables, figures and runs."""

import argparse
import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from paper.figures import draw_all
from paper.pairs import choice_table, choices, contrast_table, contrasts, sentences
from paper.runs import Runs, left_out, load, paper_settings, score_windows, select
from paper.signs import HYPOTHESES, Named, read_hypotheses, verdicts
from paper.tables import result_tables
from utils.files import make_folder, write_atomic
from utils.output import run_command
from utils.plots import render
from utils.progress import duration
from utils.text import DIGITS, Column, Table

# Columns that say which row it is: they become the row's heading.
MOST = 30  # rows of every c and baseline: with more, the paper's shape is shown instead
LABELS = ("name", "label", "dataset", "pred_len", "lengths", "method", "axis", "c", "seed")


def build(runs: Runs, score: str | None, named: Named, data: str | None = None) -> str:
    """Return the page; equal runs give an equal page.

    Args:
        runs: all runs.
        score: test windows of tables and figures, as `paper.runs.score_windows` takes it.
        named: the hypotheses.
        data: data set to show; None: all.
    """
    flags = argparse.Namespace(data=data, features=None, axis=None, amp=None)
    scored, none = select(score_windows(runs.frame, score), flags)
    whole, _ = select(score_windows(runs.frame, "all"), flags)
    used = scored.loc[scored["outcome"] == "ok"]
    tested = verdicts(runs, named).to_dict("records")
    results = result_tables(scored)
    shapes = [table for table in results if "method" not in table.heads]
    every = [table for table in results if "method" in table.heads]  # says the same, and more
    many = len(shapes) and sum(len(table.frame) for table in every) > MOST
    shown, folded = (shapes, every) if many else (every, shapes)
    signs = [contrast_table(contrasts(whole)), choice_table(choices(whole))]
    signs = [table for table in signs if len(table.frame)]
    figures, gaps = draw_all(runs, scored)
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names of columns and folders come from outside
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["typeset"] = typeset
    return pages.get_template("report.html.j2").render(
        source=runs.source,
        counts=(len(used), len(scored), used["label"].nunique()),
        answers=sentences(whole, numbers=False),
        tested=[row for row in tested if row["state"] != "no runs"],
        untested=[f"{row['name']} ({row['label']})" for row in tested if row["state"] == "no runs"],
        named=named,
        results=[page_table(table) for table in shown],
        folded=[page_table(table) for table in folded],
        figures=[(figure, data_uri(render(figure.drawing, "svg"))) for figure in figures],
        signs=[page_table(table) for table in signs],
        runs=page_table(runs_table(scored)) if len(scored) else None,
        missing=missing(used),
        notes=list(dict.fromkeys(note for table in [*results, *signs] for note in table.notes)),
        gaps=[*runs.notes, *none, *left_out(scored), *gaps],
    )


def page_table(table: Table) -> dict[str, Any]:
    """Lay a table out for the page.

    What is the same in all rows goes to the caption, unless it is a result; columns that say which
    row it is become its heading.

    Returns:
        title, heads of (text, whether of numbers), rows of (text, whether a number, whether best).
    """
    texts, columns = table.rows, table.columns
    movable = [j for j, column in enumerate(columns) if not column.digits and len(texts) > 1]
    same = [j for j in movable if len({row[j] for row in texts}) == 1]
    shared = [f"{table.heads[j]} {texts[0][j]}" for j in same if texts[0][j] != "-"]
    kept = [j for j in range(len(columns)) if j not in same] or [0]
    label = [j for j in kept if columns[j].name in LABELS] or kept[:1]
    rest = [j for j in kept if j not in label]
    number = {j for j in rest if all(row[j][:1] in "-+−0123456789" for row in texts)}
    return {
        "title": ", ".join([table.title, *shared]),
        "heads": [(", ".join(table.heads[j] for j in label), False)]
        + [(table.heads[j], j in number) for j in rest],
        "rows": [
            [(" ".join(row[j] for j in label if row[j] != "-"), False, False)]
            + [(row[j], j in number, (i, columns[j].name) in table.best) for j in rest]
            for i, row in enumerate(texts)
        ],
    }


def runs_table(scored: pd.DataFrame) -> Table:
    """Lay out every run: scores, cost, where it ran, what came of it, and its folder."""
    digits = {"mse": DIGITS, "mae": DIGITS, "val_mse": DIGITS, "best_epoch": 0, "epochs": 0}
    digits |= {"wall_seconds": 0, "step_seconds": 3, "peak_memory_mb": 0}
    names = ["label", "axis", "c", "seed", *digits, "processor", "threads", "device", "torch"]
    names += ["git_commit", "git_dirty", "outcome", "error", "run"]
    shown = [name for name in names if name in scored]
    columns = [Column(name.replace("_", " "), name, digits.get(name)) for name in shown]
    whole = duration(pd.Series(scored.get("wall_seconds"), dtype=float).sum())
    return Table(f"{len(scored)} runs, {whole} together", scored, columns)


def missing(used: pd.DataFrame) -> list[str]:
    """Name the paper's Informer cells with fewer seeds than the paper, one line a data set."""
    printed = used.loc[used["printed"].astype(bool)]
    lacks: dict[str, list[str]] = {}
    for (data, features, pred_len), row in paper_settings().items():
        cell = printed.loc[printed["cell"] == f"{data} {features} {pred_len}"]
        zero, lip = (cell.loc[cell["c"] == c, "seed"].nunique() for c in (0.0, -2.0))
        seeds = f"c = 0 {zero}, c = -2 {lip} of {row['itr']} seeds" if zero + lip else "no run"
        lacks.setdefault(data, [])
        lacks[data] += [f"{features} {pred_len} {seeds}"] if min(zero, lip) < row["itr"] else []
    return [f"{data}: {'; '.join(cells)}." for data, cells in lacks.items() if cells]


def typeset(text: str) -> str:
    """Return a table's text with a minus before numbers, and a dash for what is missing."""
    text = text.replace(" = ", "\u00a0=\u00a0").replace(" %", "\u00a0%")  # no line ends there
    return "–" if text == "-" else re.sub(r"(?<!\w)-(?=\d)", "−", text)


def data_uri(svg: bytes) -> str:
    """Return an image as an address that holds it whole."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def main(words: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.report", description=__doc__)
    add = parser.add_argument
    add("--results", type=Path, default=Path("results"), help="folder of the runs (results)")
    add("--data", help="data set, or file name of own data (all)")
    add("--score", choices=("truncated", "all"), help="test windows (truncated beside a print)")
    add("--hypotheses", type=Path, default=HYPOTHESES, help="what is tested (%(default)s)")
    add("--out", type=Path, help="file to write (RESULTS/report.html)")
    args = parser.parse_args(words)
    out = args.out or args.results / "report.html"
    named = read_hypotheses(args.hypotheses)
    page = build(load(args.results), args.score, named, args.data)
    make_folder(out.parent)
    write_atomic(out, page.encode())
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
