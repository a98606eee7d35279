"""python -m paper.study: collect runs into the committed study, and fill RESULTS.md from it."""

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paper import runs as records
from paper import tables
from paper.answer import pair, rule
from paper.figures import change_figure
from paper.runs import CELL, LABELS, LIP, Runs, by_cell, select_metrics
from paper.signs import Preregistration, cell_runs, hypothesis_table, read_hypotheses, verdicts
from utils import plots
from utils.files import UserError, make_folder, write_atomic
from utils.formats import Column, Table, interval, percent, render, write_text
from utils.output import run_command
from utils.stats import mean_interval

STUDY, PAGE = Path("results/study"), Path("RESULTS.md")
BENCH = Path(__file__).parent.parent / "docs/bench/lipreg.csv"  # of python -m exp.bench
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
    there = pd.read_csv(path, usecols=["run", "device"]) if path.exists() else every.iloc[:0]
    devices = {*pd.concat([every["device"], there["device"]]).fillna("cpu").eq("cpu")}
    if len(devices) > 1:  # a run's name does not say where it was made
        raise UserError(f"{results}: runs on CPU and GPU are two studies; name one by --study")
    ended = every.loc[~every["run"].isin(there["run"])]  # what is made again is not the first
    tested = [run for run in ended["run"] if run in primary]
    frames = {
        "histories": _read(ended["run"], lambda run: runs.history(run).map(_short)),
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
        old = old.rename(columns=records.current_name)
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
    if not (args.study.is_dir() or args.results.is_dir()):
        raise UserError(f"{args.study}: no such folder; name the study's with --study")
    parts = [records.load(folder) for folder in (args.study, args.results) if folder.is_dir()]
    frame = pd.concat([part.frame.drop(columns=LABELS) for part in parts])
    frame = records.add_labels(frame.drop_duplicates("run").reset_index(drop=True)).copy()
    cell = by_cell(select_metrics(frame)).query("published and norm == 'max'")
    for name in ("model", "data", "features", "pred_len", "axis", "amp"):
        cell = cell.loc[cell[name] == getattr(args, name)]
    cell = cell.loc[cell["results_version"] == cell["results_version"].max()]
    return rule(cell, change, args.first)[1]


def blocks(runs: Runs, named: Preregistration) -> dict[str, str]:
    """Return what stands between the marks of RESULTS.md, by the block's name."""
    scored = select_metrics(runs.frame)
    rows = tables.cells(scored)
    rows["setting"] = rows["dataset"] + " " + rows["setting"]
    main = rows["answer"] != ""
    explored = tables.cell_table(rows.loc[~main], "")
    found = {
        "runs": [_cost(runs.frame, tables.accounted(scored, rows))],
        "cells": [tables.cell_table(rows.loc[main], "")],
        "across": [replace(table, title="") for table in tables.all_cells(rows)],
        "hypotheses": [replace(hypothesis_table(verdicts(runs, named), named), title="")],
        "claims": [claims(runs, scored)],
        "explored": [replace(explored, notes=[x for x in explored.notes if x == tables.LOWEST])],
    }
    return {name: render(part, "markdown").strip() for name, part in found.items()}


def _cost(frame: pd.DataFrame, notes: list[str]) -> Table:
    """Say in one line what the finished runs took, cell by cell, and what they ran on."""
    ok = frame.loc[frame["status"] == "finished"]
    hours = ok["wall_seconds"].astype(float) / 3600
    cells = [
        f"{label} {part.sum():.1f} ({len(part)} runs)"
        for label, part in hours.groupby(ok["label"], sort=False)
    ]
    used = ok[["processor", "torch"]].assign(commit=ok["git_commit"].str[:10]).fillna("?")
    made = [f"{one} ({n})" for one, n in used.agg(", ".join, axis=1).value_counts().items()]
    line = f"{' '.join(notes)} Core-hours: {', '.join(cells)}, together {hours.sum():.1f}. "
    return Table("", pd.DataFrame(), (), notes=[f"{line}{'; '.join(made)}."])


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


def claims(runs: Runs, scored: pd.DataFrame) -> Table:
    """Measure what the paper says of L_f, LipReg and cost, in the cells of H1 and H2."""
    curve = pd.read_csv(records.PUBLISHED / "figure2.csv")
    curve = curve.assign(epoch=np.ceil(curve["epoch"]))
    curve = curve.pivot_table("lipschitz_constant", "epoch", "series")
    ends, middle = curve.iloc[-1], "L_f with Lip, last epoch against the middle"
    rows: dict[str, dict[str, str]] = {name: {} for name in (*MEASURES, middle)}
    rows["L_f, training mode, last epoch"]["shown"] = percent(
        100 * (ends["lip"] / ends["original"] - 1)
    )
    rows[middle]["shown"] = percent(100 * (_growth(curve["lip"]) - 1))
    part = by_cell(scored.loc[scored["outcome"] == "ok"])
    part = part.query("published and model == 'informer' and axis == 'feature' and amp == 'off'")
    steps, epochs = [], []
    for _, cell in part.query("norm == 'max'").groupby(CELL, sort=False):
        pairs, column = pair(cell, LIP, 0.0).dropna(subset="d"), cell["label"].iloc[0]
        recorded = cell.set_index("run")[["step_seconds", "best_epoch"]].astype(float)
        one, other = (recorded.loc[pairs[f"run_{s}"]].to_numpy() for s in ("first", "second"))
        steps += [*(one / other)[pairs["mismatch"] == "", 0]]
        epochs += [*(one == other)[:, 1]]
        if column in ("ETTh2 S 24", "ETTh2 M 24"):
            lip, zero = ([*map(runs.history, pairs[f"run_{s}"])] for s in ("first", "second"))
            for what, at in MEASURES.items():
                rows[what][column] = _ratio([at(x) / at(y) for x, y in zip(lip, zero, strict=True)])
            rows[middle][column] = _ratio([_growth(x["train_l_f"]) for x in lip])
    rows["seconds a step: gradient of LipReg"] = {"all": _ratio(steps)}
    timed: Any = pd.read_csv(BENCH, comment="#", index_col="contender")["times_nolip"]
    rows["seconds a step: all of LipReg"] = {"all": percent(100 * (timed["fp32"] - 1))}
    rows["pairs that chose the same epoch"] = {"all": f"{sum(epochs)} of {len(epochs)}"}
    columns = [Column("MSE − 2 Lip against MSE, 95 % interval", "what")]
    columns += [Column("Figure 2 (S)", "shown")]
    columns += [Column(name, name) for name in ("ETTh2 S 24", "ETTh2 M 24", "all")]
    frame = pd.DataFrame([{"what": what, **texts} for what, texts in rows.items()])
    return Table("", frame.reindex(columns=[column.name for column in columns]), columns)


def _growth(epochs: Any) -> float:
    """Return the last epoch's value as a multiple of the first after the middle."""
    return float(epochs.iloc[-1] / epochs.iloc[len(epochs) // 2])


def _ratio(ratios: list[float]) -> str:
    """Write the mean of some ratios as a change, with its interval and n."""
    bounds = (100 * math.expm1(float(x)) for x in mean_interval(np.log(ratios)))
    return f"{interval(*bounds)} (n = {len(ratios)})"


MEASURES = {  # what is read of the recorded epochs
    "L_f, training mode, last epoch": lambda epochs: epochs["train_l_f"].iloc[-1],
    "L_f, evaluation mode, last epoch": lambda epochs: epochs["eval_l_f"].iloc[-1],
    "LipReg along features, last epoch": lambda epochs: epochs["eval_lip_feature"].iloc[-1],
    "LipReg along features, tested epoch":
        lambda epochs: epochs["eval_lip_feature"].iloc[epochs["val_mse"].argmin()],
}  # fmt: skip


def flags() -> argparse.ArgumentParser:
    """Return the three commands' flags."""
    parser = argparse.ArgumentParser(prog="python -m paper.study", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    about = "add a folder's runs to the study's CSV; what is there already stays"
    add = commands.add_parser("collect", help=about)
    add.add_argument("results", type=Path, help="folder of the runs")
    build = commands.add_parser("results", help="fill RESULTS.md and draw its figure")
    about = "print the seeds that a cell lacks for its next look (PLAN.md)"
    ahead = commands.add_parser("look", help=about)
    for name, cls in (("data", str), ("features", str), ("pred_len", int)):
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
        write_text(PAGE, fill(page, blocks(runs, read_hypotheses())))
        scored = select_metrics(runs.frame)
        if drawn := change_figure(scored.loc[scored["published"].astype(bool)]):
            write_atomic(args.study / "changes.png", plots.render(drawn.drawing, "png"))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
