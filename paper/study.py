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

from paper import tables
from paper.answer import pair
from paper.published import FOLDER, LIP, published, published_change
from paper.runs import CELL, LABELS, Runs, add_labels, by_cell, current_name, load, select_metrics
from paper.signs import Preregistration, cell_runs, hypothesis_tables, read_hypotheses, verdicts
from utils.files import UserError, make_folder, write_atomic
from utils.formats import Column, Table, interval, percent, render, write_text
from utils.output import run_command
from utils.stats import mean_interval

STUDY, PAGE, PICTURE = Path("results/study"), Path("RESULTS.md"), "changes.png"
POINTS = 300  # of L_f a run, at most
ARM = ["label", "axis", "c"]
MEASURES = {  # recorded after each epoch; what is read of it, and when
    "L_f, training mode, last epoch": "train_l_f",
    "L_f, evaluation mode, last epoch": "eval_l_f",
    "LipReg along features, last epoch": "eval_lip_feature",
}


def collect(results: Path, out: Path) -> str:
    """Add the ended runs of a folder to the study's CSV files, and say so.

    What is there already stays. `paper.runs.load` reads both, the folder and the study.
    """
    runs = load(results)
    every = runs.frame.loc[runs.frame["status"].isin(["finished", "failed"])]
    if runs.committed or every.empty:
        raise UserError(f"{results}: holds no run that has ended; name the folder of the runs")
    cells = by_cell(select_metrics(every, "all"))
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
        "by_step": _read(ended["run"], lambda run: _packed(runs.by_step(run))),
        "by_column": _read(ended["run"], lambda run: _packed(runs.by_column(run))),
        "window_errors": _read(tested, lambda run: _packed(runs.window_errors(run))),
        "runs": ended.drop(columns=LABELS),  # last: with its row a run is there
    }
    make_folder(out)
    for name, new in frames.items():
        path = out / f"{name}.csv"
        old = pd.read_csv(path, dtype=str) if path.exists() else new.iloc[:0]
        old = old.rename(columns=current_name)
        whole = pd.concat([old.loc[~old["run"].isin(ended["run"])], new])
        write_atomic(path, whole.sort_values("run", kind="stable").to_csv(index=False).encode())
    total, stay = len(pd.read_csv(out / "runs.csv")), len(every) - len(ended)
    notes = f", {stay} were there and stay" * (stay > 0)
    notes += f", {len(runs.frame) - len(every)} have not ended" * (len(runs.frame) > len(every))
    return f"{out}: {len(ended)} runs of {results} collected{notes}, {total} in all."


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
    parts = [load(folder) for folder in (args.study, args.results) if folder.is_dir()]
    frame = pd.concat([part.frame.drop(columns=LABELS) for part in parts])
    frame = by_cell(select_metrics(add_labels(frame.drop_duplicates("run")), "all"))
    cell = frame.loc[frame["published"].astype(bool) & (frame["norm"] == "max")]
    for name in ("model", "data", "features", "pred_len", "axis", "amp"):
        cell = cell.loc[cell[name] == getattr(args, name)]
    cell = cell.loc[cell["results_version"] == cell["results_version"].max()]
    change = published_change(vars(args), LIP, 0.0)["published_change"]
    if math.isnan(change):
        place = f"{args.model} {args.data} {args.features} {args.pred_len}"
        raise UserError(f"{place}: the paper's tables have no such cell")
    if not (cell["c"] == args.c).any():
        return [args.first, args.first + 1, args.first + 2]
    found = tables.rule(cell, args.c, math.log1p(change / 100))
    return tables.next_seeds(cell, args.c, found.next_look, args.first)


def blocks(runs: Runs, named: Preregistration) -> dict[str, str]:
    """Return what stands between the marks of RESULTS.md, by the block's name."""
    frame = runs.frame
    ok, beside = frame.loc[frame["status"] == "finished"], select_metrics(frame)
    rows = tables.cells(beside, every=True)
    rows["setting"] = rows["dataset"] + " " + rows["setting"]
    main = rows["answer"] != ""
    hours, counted = ok["wall_seconds"].sum() / 3600, tables.accounted(beside, rows)
    used = [f"{name} ({n})" for x in ("processor", "torch") for name, n in _counts(ok[x])]
    used += [f"commit {name[:10]} ({n})" for name, n in _counts(ok["git_commit"])]
    line = f"{' '.join(counted)} {hours:.1f} core-hours; {'; '.join(used)}."
    explored = [tables.cell_table(rows.loc[~main], "Other cells", every=True)]
    explored += [*_epochs(runs, ok), _released_runs()]
    found = {
        "cells": [tables.cell_table(rows.loc[main], "")],
        "across": tables.all_cells(rows),
        "hypotheses": hypothesis_tables(verdicts(runs, named), named),
        "claims": [claims(runs, beside)],
        "figure3": [table2_figure3()],
        "released": [released_epochs()],
        "explored": [table for table in explored if len(table.frame)],
    }
    texts = {name: render(part, "markdown").strip() for name, part in found.items()}
    return {"runs": line, **texts}


def _counts(values: pd.Series) -> list[tuple[str, int]]:
    return [(str(name), n) for name, n in values.value_counts().sort_index().items()]


def fill(page: str, found: dict[str, str]) -> str:
    """Put each block between its marks; a UserError if the page lacks one."""
    for name, text in found.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, mark, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (mark and closed):
            raise UserError(f"the page needs {begin.strip()} and, below it, {end}")
        page = f"{before}{mark}\n{text}\n\n{closed}{after}"
    return page


def claims(runs: Runs, scored: pd.DataFrame) -> Table:
    """Measure what the paper says of L_f, LipReg and cost, in the cells of its tables."""
    rows, steps, epochs = [], [], []
    curve = pd.read_csv(FOLDER / "figure2.csv")
    curve["epoch"] = np.ceil(curve["epoch"])
    curve = curve.pivot_table("lipschitz_constant", "epoch", "series")
    figure2 = {
        "L_f, training mode, last epoch": curve["lip"].iloc[-1] / curve["original"].iloc[-1],
        "L_f with Lip, last epoch against the middle": _growth(curve["lip"]),
    }
    part = by_cell(scored.loc[scored["outcome"] == "ok"])
    part = part.query("published and model == 'informer' and axis == 'feature' and amp == 'off'")
    for _, cell in part.loc[part["norm"] == "max"].groupby(CELL, sort=False, dropna=False):
        label, pairs = cell["label"].iloc[0], pair(cell, LIP, 0.0).dropna(subset="d")
        sides = [[runs.history(run) for run in pairs[f"run_{s}"]] for s in ("first", "second")]
        found = {
            what: [h[name].iloc[-1] / z[name].iloc[-1] for h, z in zip(*sides, strict=True)]
            for what, name in MEASURES.items()
        }
        found["L_f with Lip, last epoch against the middle"] = [
            _growth(history["train_l_f"]) for history in sides[0]
        ]
        rows += [_measured(label, what, values, figure2) for what, values in found.items()]
        recorded = cell.set_index("run")[["step_seconds", "best_epoch"]].astype(float)
        one, other = (recorded.loc[pairs[f"run_{s}"]].to_numpy() for s in ("first", "second"))
        steps += [*(one / other)[pairs["mismatch"] == "", 0]]
        epochs += [*(one == other)[:, 1]]
    rows.append(_measured("all", "seconds a step: gradient of LipReg", steps, {}))
    same = {"cell": "all", "what": "pairs whose runs chose the same epoch", "n": len(epochs)}
    rows.append({**same, "text": f"{sum(epochs)} of {len(epochs)}"})
    columns = [
        Column("cell", "cell"),
        Column("measure", "what"),
        Column("published", "published", write=lambda row: percent(row["published"])),
        Column("MSE − 2 Lip against MSE, 95 % interval", "text"),
        Column("n", "n"),
    ]
    return Table("", pd.DataFrame(rows).reindex(columns=[c.name for c in columns]), columns)


def _growth(epochs: Any) -> float:
    """Return the last epoch's value as a multiple of the first after the middle."""
    return float(epochs.iloc[-1] / epochs.iloc[len(epochs) // 2])


def _measured(cell: str, what: str, ratios: list[float], shown: dict[str, float]) -> dict[str, Any]:
    bounds = (100 * math.expm1(float(x)) for x in mean_interval(np.log(ratios)))
    text = interval(dict(zip(("change", "low", "high"), bounds, strict=True)))
    at = 100 * (shown.get(what, math.nan) - 1) if cell == "ETTh2 S 24" else math.nan
    return {"cell": cell, "what": what, "published": at, "text": text, "n": len(ratios)}


def table2_figure3() -> Table:
    """Set the paper's two places for the same runs side by side: ETTh2 S, λ = 0 and 2."""
    frame = published().loc[("informer", "S", "ETTh2"), ["mse_zero", "mse_lip"]].copy()
    curve = pd.read_csv(FOLDER / "figure3.csv").pivot(index="pred_len", columns="lam", values="mse")
    for side, lam in (("zero", 0), ("lip", 2)):
        frame[f"figure_{side}"] = curve[lam]
        frame[f"apart_{side}"] = 100 * (curve[lam] / frame[f"mse_{side}"] - 1)
    frame["change"] = 100 * (frame["mse_lip"] / frame["mse_zero"] - 1)
    frame["figure_change"] = 100 * (frame["figure_lip"] / frame["figure_zero"] - 1)

    def in_percent(name: str) -> Callable[[dict[Any, Any]], str]:
        return lambda row: percent(row[name])

    heads = {
        **{"mse_zero": "Table 2: MSE", "figure_zero": "Figure 3", "apart_zero": "apart"},
        **{"mse_lip": "Table 2: with Lip", "figure_lip": "Figure 3", "apart_lip": "apart"},
        **{"change": "Table 2: change", "figure_change": "Figure 3: change"},
    }
    columns = [Column("horizon", "pred_len")]
    for name, head in heads.items():
        text = in_percent(name) if name.startswith(("apart", "ch", "figure_ch")) else None
        columns.append(Column(head, name, 4, write=text))
    return Table("", frame.reset_index(), columns)


def released_epochs() -> Table:
    """Lay out the test MSE of every epoch of the released code's own two runs."""
    frame = pd.read_csv(FOLDER / "released_code_epochs.csv")
    best = frame.loc[frame.groupby("lam")["val_mse"].idxmin()].set_index("lam")["test_mse"]
    wide = frame.pivot(index="lam", columns="epoch", values="test_mse").add_prefix("epoch ")
    wide.insert(0, "tested", best)
    columns = [Column("released code, ETTh2 M 24", "lam", write=lambda row: f"λ = {row['lam']:g}")]
    columns += [Column("chosen by validation", "tested", 4)]
    columns += [Column(name, name, 4) for name in wide.columns[1:]]
    return Table("", wide.reset_index(), columns)


def _released_runs() -> Table:
    """Lay out what the released code gave whenever it was run."""
    frame = pd.read_csv(FOLDER / "released_code_runs.csv", dtype={"seed": str})
    names = ["dataset", "features", "pred_len", "lip_axis", "lam", "train_epochs", "seed"]
    columns = [Column(name, name) for name in names]
    columns += [Column("MSE", "mse", 5), Column("MAE", "mae", 5), Column("", "note")]
    return Table("The released code, run as it is: one run a row", frame, columns)


def _epochs(runs: Runs, ok: pd.DataFrame) -> list[Table]:
    """Show what only some runs recorded: test MSE by epoch, and what moves a normalised LipReg."""
    recorded = ["run", "epoch", "test_mse", "eval_max", "eval_lip_time", "eval_lip_feature"]
    epochs = _read(ok["run"], runs.history).reindex(columns=recorded)
    epochs = epochs.merge(ok[["run", "lip_norm", *ARM]], on="run")
    tested = epochs.dropna(subset="test_mse").astype({"epoch": int})
    tested = tested.pivot_table("test_mse", ARM, "epoch").add_prefix("epoch ")
    own = epochs["eval_lip_time"].where(epochs["axis"] == "time", epochs["eval_lip_feature"])
    moved = epochs.assign(lip=own, plain=own * epochs["eval_max"] ** 2).dropna(subset="eval_max")
    names = {"lip": "LipReg", "plain": "not normalised", "eval_max": "largest value"}
    ends = {f"{w}, {end} epoch": (n, end) for n, w in names.items() for end in ("first", "last")}
    moved = moved.loc[moved["lip_norm"] == "max"].groupby([*ARM, "run"]).agg(**ends)
    found = []
    for title, wide in (
        ("Test MSE of every epoch, whatever validation chose (mean over seeds)", tested),
        ("What moves LipReg (one validation batch, mean over seeds)", moved.groupby(ARM).mean()),
    ):
        columns = [Column(str(n), str(n), None if n in ARM else 4) for n in (*ARM, *wide.columns)]
        found.append(Table(title, wide.reset_index(), columns))
    return found


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.study", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    about = "add a folder's runs to the study's CSV; what is there already stays"
    add = commands.add_parser("collect", help=about)
    add.add_argument("results", type=Path, help="folder of the runs")
    build = commands.add_parser("results", help="fill RESULTS.md and draw its figure")
    build.add_argument("--page", type=Path, default=PAGE, help="file (%(default)s)")
    about = "print the seeds that a cell lacks for its next look (PLAN.md)"
    ahead = commands.add_parser("look", help=about)
    for name, cls in (("data", str), ("features", str), ("pred_len", int)):
        ahead.add_argument(name, type=cls)
    for name, value in {"model": "informer", "axis": "feature", "amp": "off", "c": LIP, "first": 0,
                        "results": Path("results/study-runs")}.items():  # fmt: skip
        ahead.add_argument(f"--{name}", type=type(value), default=value, help="(%(default)s)")
    for command in (add, build, ahead):
        command.add_argument("--study", type=Path, default=STUDY, help="its folder (%(default)s)")
    args = parser.parse_args(argv)
    if args.command == "collect":
        print(collect(args.results, args.study))
    elif args.command == "look":
        print(*look(args))
    else:
        runs = load(args.study)
        page = args.page.read_text(encoding="utf-8")
        write_text(args.page, fill(page, blocks(runs, read_hypotheses())))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
