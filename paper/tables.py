"""python -m paper.tables: our cells beside the published ones, and whether a change was seen."""

import argparse
import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paper import runs as records
from paper.answer import across_cells, compare, estimate, pair, rule
from paper.runs import BASELINES, CELL, LIP, METRICS, PLACE, loss_text, published, regularizer
from utils.files import UserError, nearest
from utils.formats import FORMATS, Column, Table, interval, percent, write_out
from utils.output import run_command
from utils.progress import duration

STUDY_LINE = "The committed study: --results results/study."
SHOWN = 4  # digits
SHARED = (*CELL, *PLACE, "dataset", "label", "overrides", "amp", "published", "windows",
          *(f"{baseline}_{metric}" for baseline in BASELINES for metric in METRICS))  # fmt: skip
OURS = (
    "Ours: mean over the n seeds that both have. Lip: MSE − 2 Lip along features, unless said. "
    "Change: over all test windows, paired by seed; BCa: bootstrap interval, where d is skewed."
)
PAPER = (
    "Paper: without Lip the published table of Informer's own authors, no control run. Beside a "
    "published value ours are means over the windows that the paper scores (drop_last), elsewhere "
    "over all windows.",
    "Seen? is for the published change: *seen* or *not seen* where the interval of ours at level "
    "1 - 0.05/3 lies wholly on its side, or on that of 0, from half of it, at 3, 5 or 8 pairs (16 "
    "where a hypothesis was extended); else *open*.",
)
LOWEST = "†: of several c the one with the lowest mean validation MSE."


def cells(scored: pd.DataFrame) -> pd.DataFrame:
    """Sum up runs as `paper.runs.select_metrics` gives them, a row a cell and c (NaN: only c = 0).

    Means of both sides are over the seeds that both have, else over all of its own (mse_zero,
    mae_lip, ...). Beside what `compare` gives: setting (its name within its data set),
    mse_zero_published, ..., answer and next_seeds of the rule, d (log ratios, also of failures),
    runs, seconds of a run.
    """
    rows = []
    for _, cell in records.by_cell(scored).groupby(CELL, sort=False, dropna=False):
        rows += [_row(cell, c) for c in [c for c in cell["c"].unique() if c] or [math.nan]]
    rows = [row for row in rows if row["runs"]]
    return pd.DataFrame(rows, columns=None if rows else [*SHARED, "c", "n", "runs", "answer"])


def _row(cell: pd.DataFrame, c: float) -> dict[str, Any]:
    pairs, ok = pair(cell, c, 0.0), cell.loc[cell["outcome"] == "ok"]
    row: dict[str, Any] = {str(k): v for k, v in cell[[*SHARED]].iloc[0].items()}
    row |= {
        "c": c,
        **compare(pairs, c, 0.0),
        "published_change": records.published_change(row, c, 0.0),
    }
    row |= {"d": pairs["log_ratio"].tolist(), "runs": [], "answer": "", "next_seeds": []}
    for side, value in (("zero", 0.0), ("lip", c)):
        arm = ok.loc[ok["c"] == value]
        arm = arm.loc[arm["seed"].isin(pairs["d"].dropna().index) | (row["n"] == 0)]
        row["runs"] += [*arm["run"]]
        row |= {f"{m}_{side}": arm[m].mean() for m in METRICS}
    place = tuple(row[name] for name in PLACE)
    if row["published"] and not abs(c - LIP) > 0 and place in published().index:  # also c = NaN
        row |= published().loc[place].add_suffix("_published").to_dict()
        if c == LIP:
            row["answer"], row["next_seeds"] = rule(cell, row["published_change"])
            row["seconds"] = cell["wall_seconds"].astype(float).mean()
    names = [row["label"].removeprefix(row["dataset"]).strip()]
    if not math.isnan(c):
        names += [regularizer(row)] * (regularizer(row) != "feature axis")
        names += [loss_text(c)] * bool(c != LIP)
    row["setting"] = ", ".join(names) + " †" * bool(c == _lowest_val(ok))
    return row


def _lowest_val(ok: pd.DataFrame) -> float:
    """Return the c with the lowest mean validation MSE on seeds that all c have; NaN: it is one."""
    wide = ok.loc[ok["c"] != 0].pivot(index="seed", columns="c", values="val_mse")
    means = wide.astype(float).dropna().mean()
    return float(str(means.idxmin())) if means.count() > 1 else math.nan


def cell_table(rows: pd.DataFrame, title: str, metric: str = "mse") -> Table:
    """Lay out `cells`, one row each: the paper's, ours, the change and what the rule says of it."""
    rows, name, same = rows.reset_index(drop=True), metric.upper(), records.shared_overrides(rows)
    rows["setting"] = [records.without(one, same) for one in rows["setting"]]
    zero, lip = f"{metric}_zero", f"{metric}_lip"
    baselines = {f"{b}_{metric}": head for b, head in BASELINES.items()}
    baselines = {b: head for b, head in baselines.items() if any(rows[b].notna())}
    paper = bool(rows.filter([f"{zero}_published"]).notna().to_numpy().any())
    columns = [Column("setting", "setting")]
    if paper:
        columns += [Column(f"paper: {name}", f"{zero}_published", SHOWN)]
        columns += [Column("paper: with Lip", f"{lip}_published", SHOWN)]
    if paper and metric == "mse":
        columns += [Column("paper: change", "published_change", write=published_text)]
    columns += [Column("n", "n"), Column(f"ours: {name}", zero, SHOWN)]
    columns += [Column("ours: with Lip", lip, SHOWN)]
    if metric == "mse":
        columns += [Column("ours: change, 95 % interval", "change", write=estimate)]
        columns += [Column("seen?", "answer", write=lambda row: row["answer"] or "-")] * paper
    columns += [Column(head, b, SHOWN) for b, head in baselines.items()]
    compared = rows[[zero, lip, *baselines]].round(SHOWN)  # equal as written: all are the lowest
    least = compared.min(axis=1).where(compared.notna().sum(axis=1) > 1)
    at = np.argwhere(compared.eq(least, axis=0).to_numpy())
    best = {(int(i), str(compared.columns[j])) for i, j in at}
    notes = [f"In every row: {', '.join(same)}."] * bool(same)
    notes += [OURS, *(PAPER if paper else against_baselines(rows))]
    notes += [LOWEST] * any(rows["setting"].str.endswith("†"))
    failed = rows.loc[rows["failed"] != "", ["label", "failed"]].to_numpy()
    notes += [f"{label}: failed, {runs}." for label, runs in failed]
    return Table(title, rows, columns, best, notes)


def published_text(row: dict[Any, Any]) -> str:
    """Write a published change."""
    return percent(row["published_change"])


def against_baselines(rows: pd.DataFrame) -> list[str]:
    """Say which of our errors are lower than which baseline's, and which are not."""
    places = [
        setting.removesuffix(" †").removesuffix(f", {loss_text(c)}")
        for setting, c in rows[["setting", "c"]].itertuples(index=False)
    ]
    found: dict[tuple[str, str], list[str]] = {}
    for metric, (baseline, name) in itertools.product(METRICS, BASELINES.items()):
        lower: dict[str, bool] = {}
        for place, row in zip(places, rows.to_dict("records"), strict=True):
            where = f"{place} " * (len({*places}) > 1)
            for loss, side in ((0.0, "zero"), (row["c"], "lip")):
                ours, theirs = row[f"{metric}_{side}"], row[f"{baseline}_{metric}"]
                if not np.isnan([ours, theirs]).any():
                    lower[where + loss_text(loss)] = ours < theirs
        yes, no = (", ".join(k for k, v in lower.items() if v == one) for one in (True, False))
        which = f"trained on {yes}; not on {no}" if yes and no else "all" if yes else "none"
        found.setdefault((metric.upper(), which), []).extend([name] * bool(lower))
    return [
        f"Test {metric} lower than that of {', '.join(names)}: {which}."
        for (metric, which), names in found.items()
        if names
    ]


def all_cells(rows: pd.DataFrame) -> list[Table]:
    """Lay out what holds across the published cells, each counted once, if there are any.

    Of several axes and precisions of a cell, the feature axis in fp32 counts.
    """
    some = rows.loc[(rows["answer"] != "") & (rows["n"] > 0)]
    order = 2 * (some["axis"] != "feature") + (some["amp"] != "off")
    some = some.iloc[order.argsort(kind="stable")].drop_duplicates(PLACE)
    if some.empty:
        return []
    ratios = np.log1p(some["published_change"].astype(float) / 100)
    found = across_cells([*some["d"]], ratios)
    row: dict[str, Any] = {"setting": f"all cells ({len(some)})"}
    row |= {name: (some["answer"] == name).sum() for name in ("seen", "not seen", "open")}
    columns = [Column(name, name) for name in row]
    for name, change in zip(("published", "ours"), found[:2], strict=True):
        row |= {name: interval(*change), f"{name}_change": change.value}
        columns.append(Column(f"{name}: mean change", name))
    row["improvement"] = found[2].value
    columns.append(Column("share of pairs with the lower MSE with Lip", "improvement", 2))
    note = (
        "Mean of ln(MSE / MSE) over cells, each counted once; 95 % interval by a bootstrap over "
        "cells and seeds, none for fewer than three cells."
    )
    return [Table("All cells", pd.DataFrame([row]), columns, notes=[note])]


def result_tables(scored: pd.DataFrame, mae: bool = False) -> list[Table]:
    """Lay out one table a data set (with mae a second one, of that error), and all cells."""
    tables, rows = [], cells(scored)
    for dataset, group in rows.groupby("dataset", sort=False, dropna=False):
        for metric in METRICS if mae else METRICS[:1]:
            tables.append(cell_table(group, f"{dataset}: {metric.upper()}", metric))
    return tables + all_cells(rows)


def accounted(scored: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Say how many runs the rows of `cells` show and how many not; none may be lost."""
    shown, ok = [*{*itertools.chain(*rows["runs"])}], scored["outcome"] == "ok"
    unpaired = ok & ~scored["run"].isin(shown) & scored["setting_id"].isin(rows["setting_id"])
    parts = {"shown": len(shown), "without a pair": unpaired.sum(), "left out": (~ok).sum()}
    if sum(parts.values()) != len(scored):
        raise RuntimeError(f"runs are lost, or counted twice: {parts} of {len(scored)}")
    return [f"{len(scored)} runs: {', '.join(f'{n} {name}' for name, n in parts.items() if n)}."]


def left_out(scored: pd.DataFrame) -> list[str]:
    """Name the runs that no mean is taken from, the first five."""
    rows = scored.loc[scored["outcome"] != "ok", ["outcome", "run", "error"]].fillna("").to_numpy()
    lines = [
        f"Left out, {outcome}: {run}{error and f' ({error})'}." for outcome, run, error in rows
    ]
    return lines[:5] + [f"Left out as well: {len(lines) - 5} runs."] * (len(lines) > 5)


def more_lines(rows: pd.DataFrame) -> list[str]:
    """Say what brings each open cell of `cells` to its next look."""
    lines = []
    for row in rows.loc[rows["answer"] == "open"].to_dict("records"):
        if not (seeds := row["next_seeds"]):
            continue
        axis = "AXIS=time " * (row["axis"] == "time")
        model = f"MODEL={row['model']} " * (row["model"] != "informer")
        amp = f" --amp {row['amp']}" * (row["amp"] != "off")
        cell = f"FEATURES={row['features']} PRED_LENS={row['pred_len']:g} SIGNS=minus {axis}{model}"
        command = f'{cell}SEEDS="{" ".join(map(str, seeds))}" bash scripts/{row["data"]}.sh{amp}'
        time = duration(2 * len(seeds) * row["seconds"])
        lines.append(f"{row['label']}, more: {len(seeds)} pairs, about {time}: {command}")
    return lines


FLAGS: dict[str, dict[str, Any]] = {  # that several commands have
    "results": {"type": Path, "default": Path("results"), "help": "folder of runs (%(default)s)"},
    "data": {"help": "data set, or file name of own data (all)"},
    "features": {"choices": ("S", "M", "MS"), "help": "S: Table 2, M: Table 5 (all)"},
    "format": {"choices": FORMATS, "default": FORMATS[0], "help": "csv: unrounded (%(default)s)"},
    "out": {"type": Path, "help": "file to write (the terminal)"},
}


def add_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add flags to a command."""
    for name in names:
        parser.add_argument(f"--{name}", **FLAGS[name])


def select(
    frame: pd.DataFrame, data: str | None = None, features: str | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Keep the runs of a data set and of S, M or MS; a UserError: there is no such data."""
    if data:
        names = frame[["dataset", "data", "data_file"]].fillna("").to_numpy(dtype=str)
        chosen, have = np.char.lower(names) == data.lower(), sorted({*frame["dataset"]})
        if not chosen.any():
            there = ", ".join(have) or "none"
            raise UserError(f"--data {data}: no run{nearest(data, have)}; data with runs: {there}")
        frame = frame.loc[chosen.any(axis=1)]
    if features:
        frame = frame.loc[frame["features"] == features]
    return frame, ["There are no such runs."] * frame.empty


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.tables", description=__doc__)
    add_flags(parser, "results", "data", "features", "format", "out")
    parser.add_argument("--all", action="store_true", help="the MAE as well")
    args = parser.parse_args(argv)
    runs = records.load(args.results)
    scored, notes = select(records.select_metrics(runs.frame), args.data, args.features)
    rows = cells(scored)
    notes += accounted(scored, rows) if len(scored) else []
    notes += [] if runs.committed else [*more_lines(rows), STUDY_LINE]
    csv = args.format == "csv" and len(scored)  # every number once
    tables = [cell_table(rows, "")] if csv else result_tables(scored, args.all)
    write_out(tables, args, [*runs.notes, *notes, *left_out(scored)])
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
