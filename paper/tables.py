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
from paper.answer import compare, effect, estimate, pair, rule
from paper.runs import BASELINES, CELL, LIP, METRICS, PLACE, loss_text, published, regularizer
from utils.files import UserError, nearest
from utils.formats import FORMATS, Table, change, number, write_out
from utils.output import run_command

SHARED = (*CELL, *PLACE, "dataset", "label", "overrides", "amp", "published", "windows",
          *(f"{baseline}_{metric}" for baseline in BASELINES for metric in METRICS))  # fmt: skip
OURS = (
    "Ours: mean over the n seeds that both have; **marked**: the lowest. Lip: MSE − 2 Lip along "
    "features, unless said. Change: over all test windows, paired by seed."
)
PAPER = (
    "Paper: without Lip the published table of Informer's own authors, no control run. Beside a "
    "published value ours are means over the windows that the paper scores (drop_last), elsewhere "
    "over all windows.",
    "Seen? is for the published change: seen or not seen where the interval of ours at level "
    "1 - 0.05/3 lies wholly on its side, or on that of 0, from half of it, at 3, 5 or 8 pairs (16 "
    "where a hypothesis was extended); else open.",
)
LOWEST = "†: of several c the one with the lowest mean validation MSE."


def cells(scored: pd.DataFrame) -> pd.DataFrame:
    """Sum up runs as `paper.runs.select_metrics` gives them, a row a cell and c (NaN: only c = 0).

    Means of both sides are over the seeds that both have, else over all of its own (mse_zero,
    mae_lip, ...). Beside what `compare` gives: setting (its name within its data set),
    mse_zero_published, ..., answer and next_seeds of the rule, d (log ratios, also of failures),
    runs.
    """
    rows = []
    for _, cell in records.by_cell(scored).groupby(CELL, sort=False, dropna=False):
        rows += [_row(cell, c) for c in [c for c in cell["c"].unique() if c] or [math.nan]]
    rows = [row for row in rows if row["runs"]]
    return pd.DataFrame(rows, columns=None if rows else [*SHARED, "c", "n", "runs", "answer"])


def _row(cell: pd.DataFrame, c: float) -> dict[str, Any]:
    pairs, ok = pair(cell, c, 0.0), cell.loc[cell["outcome"] == "ok"]
    row: dict[str, Any] = {str(k): v for k, v in cell[[*SHARED]].iloc[0].items()}
    row |= {"c": c, **compare(pairs, c, 0.0), "d": pairs["log_ratio"].tolist()}
    row |= {"published_change": records.published_change(row, c, 0.0)}
    row |= {"runs": [], "answer": "", "next_seeds": []}
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
    settings, notes = records.shorten(rows, "setting")
    name, zero, lip = metric.upper(), f"{metric}_zero", f"{metric}_lip"
    baselines = {head: f"{b}_{metric}" for b, head in BASELINES.items()}
    ours = _stressed(rows, [zero, lip, *baselines.values()])
    paper = bool(rows.filter([f"{zero}_published"]).notna().to_numpy().any())
    text: dict[str, Any] = {"setting": settings}
    if paper:
        text[f"paper: {name}"] = rows[f"{zero}_published"].map(number)
        text["paper: with Lip"] = rows[f"{lip}_published"].map(number)
    if paper and metric == "mse":
        text["paper: change"] = rows["published_change"].map(change)
    text |= {"n": rows["n"], f"ours: {name}": ours[zero], "ours: with Lip": ours[lip]}
    if metric == "mse":
        text["ours: change, 95 % interval"] = [estimate(row) for row in rows.to_dict("records")]
    if paper and metric == "mse":
        text["seen?"] = rows["answer"].replace("", "-")
    text |= {head: ours[b] for head, b in baselines.items() if any(rows[b].notna())}
    notes += [OURS, *PAPER * paper, *[LOWEST] * any(settings.str.endswith("†"))]
    failed = rows.loc[rows["failed"] != "", ["label", "failed"]].to_numpy()
    notes += [f"{label}: failed, {runs}." for label, runs in failed]
    return Table(title, pd.DataFrame(text), notes)


def _stressed(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Write errors, the lowest of each row, and all that read as equal to it, in bold."""
    values = rows.filter(columns).round(4)
    least = values.min(axis=1).where(values.notna().sum(axis=1) > 1)
    text = values.map(number)
    return text.where(values.ne(least, axis=0), "**" + text + "**")


def all_cells(rows: pd.DataFrame) -> list[Table]:
    """Lay out what holds across the published cells, each counted once, if there are any.

    Of several axes and precisions of a cell, the feature axis in fp32 counts.
    """
    some = rows.loc[(rows["answer"] != "") & (rows["n"] > 0)]
    order = 2 * (some["axis"] != "feature") + (some["amp"] != "off")
    some = some.iloc[order.argsort(kind="stable")].drop_duplicates(PLACE)
    if some.empty:
        return []
    every = [np.array(d, dtype=float) for d in some["d"]]
    ours = effect(np.array([d[np.isfinite(d)].mean() for d in every]))
    theirs = effect(np.log1p(some["published_change"].to_numpy(dtype=float) / 100))
    # ties, and pairs in which both runs failed, count 1/2
    share = np.mean([np.mean((d < 0) + 0.5 * ((d == 0) | np.isnan(d))) for d in every])
    row: dict[str, Any] = {"setting": f"all cells ({len(some)})"}
    row |= {name: (some["answer"] == name).sum() for name in ("seen", "not seen", "open")}
    row |= {"published: mean change": change(*theirs), "ours: mean change": change(*ours)}
    row["share of pairs with the lower MSE with Lip"] = number(share, 2)
    note = (
        "Mean of ln(MSE / MSE) over cells, each counted once, with its 95 % t interval over cells "
        "from three cells on."
    )
    return [Table("All cells", pd.DataFrame([row]), [note])]


def result_tables(rows: pd.DataFrame, mae: bool = False) -> list[Table]:
    """Lay out `cells`, one table a data set (with mae a second one, of that error), and all."""
    tables = []
    for dataset, group in rows.groupby("dataset", sort=False, dropna=False):
        for metric in METRICS if mae else METRICS[:1]:
            tables.append(cell_table(group, f"{dataset}: {metric.upper()}", metric))
    return tables + all_cells(rows)


def accounted(scored: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Say how many runs the rows of `cells` show and how many not."""
    if scored.empty:
        return ["There are no such runs."]
    lost, shown = scored["outcome"] != "ok", scored["run"].isin([*itertools.chain(*rows["runs"])])
    counts = {"shown": shown, "without a pair": ~shown & ~lost, "left out": lost}
    parts = [f"{part.sum()} {name}" for name, part in counts.items() if any(part)]
    return [f"{len(scored)} runs: {', '.join(parts)}."]


def left_out(scored: pd.DataFrame) -> list[str]:
    """Name the runs that no mean is taken from, the first five."""
    lost = scored.loc[scored["outcome"] != "ok", ["outcome", "run", "error"]].fillna("")
    lines = [f"Left out, {how}: {run} ({error})." for how, run, error in lost.to_numpy()]
    lines = [line.replace(" ().", ".") for line in lines]
    return lines[:5] + [f"Left out as well: {len(lines) - 5} runs."] * (len(lines) > 5)


def more_lines(rows: pd.DataFrame) -> list[str]:
    """Say which seeds bring each open cell of `cells` to its next look."""
    lines = []
    for row in rows.loc[rows["answer"] == "open"].to_dict("records"):
        seeds = f'SEEDS="{" ".join(map(str, row["next_seeds"]))}"'
        if row["next_seeds"]:
            lines.append(f"{row['label']}, {row['axis']} axis, to its next look: {seeds}")
    return lines


FLAGS: dict[str, dict[str, Any]] = {  # that several commands have
    "results": {"type": Path, "default": Path("results"), "help": "folder of runs (%(default)s)"},
    "data": {"help": "data set, or file name of own data (all)"},
    "features": {"choices": ("S", "M", "MS"), "help": "S: Table 2, M: Table 5 (all)"},
    "format": {"choices": FORMATS, "default": FORMATS[0], "help": "csv: unrounded (%(default)s)"},
    "out": {"type": Path, "help": "file or folder to write"},
}


def flags(command: str, about: str | None, *names: str) -> argparse.ArgumentParser:
    """Return a command's parser with some of FLAGS."""
    parser = argparse.ArgumentParser(prog=f"python -m paper.{command}", description=about)
    for name in names:
        parser.add_argument(f"--{name}", **FLAGS[name])
    return parser


def select(
    runs: records.Runs, data: str | None = None, features: str | None = None
) -> pd.DataFrame:
    """Score the runs of a data set and of S, M or MS; a UserError: there is no such data."""
    frame = records.select_metrics(runs.frame)
    if data:
        names = frame[["dataset", "data", "data_file"]].fillna("").to_numpy(dtype=str)
        chosen = (np.char.lower(names) == data.lower()).any(axis=1)
        have = sorted({*frame["dataset"]})
        if not chosen.any():
            there = ", ".join(have) or "none"
            raise UserError(f"--data {data}: no run{nearest(data, have)}; data with runs: {there}")
        frame = frame.loc[chosen]
    return frame.loc[frame["features"] == features] if features else frame


def study_line(runs: records.Runs) -> list[str]:
    """Say where the committed study is, if it is not what is shown."""
    return [] if runs.committed else ["The committed study: --results results/study."]


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = flags("tables", __doc__, "results", "data", "features", "format", "out")
    parser.add_argument("--all", action="store_true", help="the MAE as well")
    args = parser.parse_args(argv)
    runs = records.load(args.results)
    scored = select(runs, args.data, args.features)
    rows = cells(scored)
    notes = [*runs.notes, *accounted(scored, rows), *more_lines(rows), *study_line(runs)]
    write_out(result_tables(rows, args.all), rows, args, [*notes, *left_out(scored)])
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
