"""python -m paper.study: collect runs into the committed study, and fill RESULTS.md from it."""

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exp.record import read_history
from paper import runs as records
from paper import tables
from paper.answer import rule
from paper.figures import change_figure
from paper.runs import LABELS, LIP, PLACE, Runs, by_cell, select_metrics
from paper.signs import cell_runs, hypothesis_table, read_hypotheses, verdicts
from utils import plots
from utils.files import UserError, make_folder, write_atomic
from utils.formats import Table, render, write_text
from utils.output import run_command

STUDY, PAGE = Path("results/study"), Path("RESULTS.md")
POINTS = 300  # of L_f a run, at most


def collect(results: Path, out: Path) -> str:
    """Add the ended runs of a folder to the study's CSV files, and say so.

    What is there already stays. `paper.runs.load` reads both, the folder and the study.
    """
    runs = records.load(results)
    every = runs.frame.loc[runs.frame["status"].isin(["finished", "failed"])]
    if runs.committed or every.empty:
        raise UserError(f"{results}: holds no run that has ended; name the folder of the runs")
    cells = by_cell(select_metrics(every))
    primary = {run for one in read_hypotheses().family for run in cell_runs(one, cells)["run"]}
    path = out / "runs.csv"
    there = pd.read_csv(path, usecols=["run"]) if path.exists() else every.iloc[:0]
    ended = every.loc[~every["run"].isin(there["run"])]  # what is made again is not the first
    tested = [run for run in ended["run"] if run in primary]
    frames = {
        "histories": _read(ended["run"], lambda run: read_history(results / run).map(_short)),
        "l_f": _read(ended["run"], lambda run: _thinned(runs.trace(run))),
        "by_step": _read(ended["run"], lambda run: _packed(runs.errors(run, "by_step"))),
        "by_column": _read(ended["run"], lambda run: _packed(runs.errors(run, "by_column"))),
        "window_errors": _read(tested, lambda run: _packed(runs.errors(run, "window_errors"))),
        "runs": ended.drop(columns=LABELS),  # last: with its row a run is there
    }
    make_folder(out)
    for name, new in frames.items():
        path = out / f"{name}.csv"
        old = pd.read_csv(path, dtype=str) if path.exists() else new.iloc[:0]
        old = old.rename(columns=records.current)
        whole = pd.concat([old.loc[~old["run"].isin(ended["run"])], new])
        write_atomic(path, whole.sort_values("run", kind="stable").to_csv(index=False).encode())
    return f"{out}: {len(ended)} new runs of {len(every)} that have ended in {results}."


def _read(runs: Iterable[str], reader: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """Read something of every run that has it; a failed run may not."""
    parts = [pd.DataFrame({"run": []})]
    for run in runs:
        with contextlib.suppress(UserError):
            parts.append(reader(run).assign(run=run))
    return pd.concat(parts)


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _thinned(trace: pd.DataFrame) -> pd.DataFrame:
    part = trace.iloc[:: math.ceil(len(trace) / POINTS)]
    epochs = part["epoch"].to_numpy()
    return _packed(part["l_f"], epochs[0], np.ptp(epochs) / max(len(epochs) - 1, 1))


def _packed(values: Iterable[float], first: float = 0, step: float = 1) -> pd.DataFrame:
    """Write evenly spaced values as one row, apart by spaces."""
    text = " ".join(f"{value:.4g}" for value in values)
    return pd.DataFrame([{"first": round(first, 5), "step": round(step, 7), "values": text}])


def look(args: argparse.Namespace) -> list[int]:
    """Return the seeds that a cell still needs to its next look; none when that is decided."""
    change = records.published_change(vars(args), LIP, 0.0)
    if math.isnan(change):
        place = f"{args.model} {args.data} {args.features} {args.pred_len}"
        raise UserError(f"{place}: the paper's tables have no such cell")
    folders = [folder for folder in (args.study, args.results) if folder.is_dir()] or [args.study]
    frame = pd.concat([records.load(folder).frame.drop(columns=LABELS) for folder in folders])
    frame = records.add_labels(frame.drop_duplicates("run").reset_index(drop=True))
    cell = by_cell(select_metrics(frame)).query("published and norm == 'max'")
    for name in (*PLACE, "axis", "amp"):
        cell = cell.loc[cell[name] == getattr(args, name)]
    cell = cell.loc[cell["results_version"] == cell["results_version"].max()]
    return rule(cell, change, args.first)[1]


def blocks(runs: Runs) -> dict[str, str]:
    """Return what stands between the marks of RESULTS.md, by the block's name."""
    scored, named = select_metrics(runs.frame), read_hypotheses()
    rows = tables.cells(scored)
    rows["setting"] = rows["dataset"] + " " + rows["setting"]
    explored = tables.cell_table(rows.loc[rows["answer"] == ""], "")
    hours = scored["wall_seconds"].sum() / 3600
    made = [f"{one} ({n})" for one, n in scored["processor"].value_counts().items()]
    cost = [*tables.accounted(scored, rows), f"{hours:.1f} core-hours, on {', '.join(made)}."]
    found = {
        "runs": [Table("", pd.DataFrame(), [" ".join(cost)])],
        "cells": [tables.cell_table(rows.loc[rows["answer"] != ""], "")],
        "across": [table._replace(title="") for table in tables.all_cells(rows)],
        "hypotheses": [hypothesis_table(verdicts(runs, named), named)._replace(title="")],
        "explored": [explored._replace(notes=[x for x in explored.notes if x == tables.LOWEST])],
    }
    return {name: render(part, "markdown").strip() for name, part in found.items()}


def fill(page: str, found: dict[str, str]) -> str:
    """Put each block between its marks; a UserError if the page lacks one."""
    for name, text in found.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, mark, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (mark and closed):
            raise UserError(f"the page needs {begin.strip()} and, below it, {end}")
        page = f"{before}{mark}{text}\n{closed}{after}"
    return page


def flags() -> argparse.ArgumentParser:
    """Return the three commands' flags."""
    parser = argparse.ArgumentParser(prog="python -m paper.study", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("collect", help="add a folder's new runs to the study's CSV")
    add.add_argument("results", type=Path, help="folder of the runs")
    build = commands.add_parser("results", help="fill RESULTS.md and draw its figure")
    ahead = commands.add_parser("look", help="print the seeds that a cell lacks (PLAN.md)")
    for name, cls in {"data": str, "features": str, "pred_len": int}.items():
        ahead.add_argument(name, type=cls)
    for name, value in {"model": "informer", "axis": "feature", "amp": "off", "first": 0,
                        "results": Path("results/study-runs")}.items():  # fmt: skip
        ahead.add_argument(f"--{name}", type=type(value), default=value, help="(%(default)s)")
    for command in (add, build, ahead):
        command.add_argument("--study", type=Path, default=STUDY, help="its folder (%(default)s)")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    args = flags().parse_args(argv)
    if args.command == "collect":
        print(collect(args.results, args.study))
    elif args.command == "look":
        print(*look(args))
    else:
        runs = records.load(args.study)
        page = PAGE.read_text(encoding="utf-8")
        write_text(PAGE, fill(page, blocks(runs)))
        scored = select_metrics(runs.frame)
        if figure := change_figure(tables.cells(scored.loc[scored["published"].astype(bool)])):
            write_atomic(args.study / "changes.png", plots.render(figure, "png"))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
