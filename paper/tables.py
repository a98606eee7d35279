"""python -m paper.tables: our cells beside the published ones, and what came of each change."""

import argparse
import itertools
import math
import sys
import tomllib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from paper import answer
from paper import runs as records
from paper.answer import compare, estimate, pair
from paper.published import LIP, METRICS, PLACE, published, published_change
from paper.runs import BASELINES, CELL, by_cell, loss_text, regularizer
from utils.formats import Column, Table, interval, percent, span, write_out
from utils.output import run_command
from utils.progress import duration

CONTROL = 1e-5  # |c| up to here: a negative control, which measures what rounding alone does
SHOWN = 4  # digits
SHARED = (*CELL, *PLACE, "dataset", "cell", "lengths", "label", "overrides", "amp", "published",
          "windows", *(f"{baseline}_{metric}" for baseline in BASELINES
                       for metric in METRICS))  # fmt: skip
NOTES = (
    "Paper: without Lip the published table of Informer's own authors, no control run. Lip: MSE − "
    "2 Lip along features, unless said. Ours: mean over the n seeds that both have, of the windows "
    "that the paper scores (drop_last) beside a published value, of all windows elsewhere. Change: "
    "over all test windows, paired by seed.",
    "Seen? is for the published change: *seen* or *not seen* where the interval of ours at level "
    "1 - 0.05/3 lies wholly on its side, or on that of 0, from half of it, at 3, 5 or 8 pairs (16 "
    "where a hypothesis was extended); else *open*.",
    "†: of several c the one with the lowest mean validation MSE.",
)


def rule(cell: pd.DataFrame, c: float, published_log_ratio: float) -> answer.Verdict:
    """Say whether a published change was seen, by the cell's pairs in the order of the seeds.

    A seed that is begun with Lip and not a pair yet holds up those after it.
    """
    d, _ = _in_order(cell, c)
    looks = (*answer.LOOKS, 16) if _extended(cell.iloc[0], c, d) else answer.LOOKS
    return answer.judge(d, published_log_ratio, looks)


def next_seeds(cell: pd.DataFrame, c: float, look: int | None, first: int = 0) -> list[int]:
    """Return the seeds that a cell lacks for its next look; first: where there is none."""
    begun = cell.loc[cell["c"] == c, "seed"]
    _, waiting = _in_order(cell, c)
    missing = max((look or 0) - len(begun) + len(waiting), bool(look and waiting))
    after = itertools.count(int(begun.max()) + 1 if len(begun) else first)
    return [*itertools.islice(itertools.chain(waiting, after), missing)]


def _in_order(cell: pd.DataFrame, c: float) -> tuple[pd.Series, list[int]]:
    """Return d of the seeds begun with c up to the first that is no pair yet, and those waiting."""
    d, begun = pair(cell, c, 0.0)["log_ratio"], sorted(map(int, cell.loc[cell["c"] == c, "seed"]))
    whole = [*itertools.takewhile(lambda seed: seed in d.index, begun)]
    return d.loc[whole], [seed for seed in begun if seed not in d.index]


def _extended(cell: pd.Series, c: float, d: pd.Series) -> bool:
    """Tell whether a hypothesis on this cell was extended for the scatter of its first pairs."""
    body = tomllib.loads(records.HYPOTHESES.read_text(encoding="utf-8"))
    key = {name: cell[name] for name in PLACE} | {"amp": cell["amp"], "lip_axis": cell["axis"]}
    sides = {"first": c, "second": 0.0}
    named = any((key | sides).items() <= one.items() for one in body["hypothesis"])
    first = d.to_numpy()[: max(answer.LOOKS)]
    whole = named and len(first) == max(answer.LOOKS) and np.isfinite(first).all()
    return bool(whole and first.std(ddof=1) > body["extend_above"])


def cells(scored: pd.DataFrame, every: bool = False) -> pd.DataFrame:
    """Sum up runs as `paper.runs.select_metrics` gives them, a row a cell and sign (or every c).

    Returns:
        The cell's columns; c (NaN: no run with Lip); setting (its name within its data set); mean
        and standard deviation of both sides over the seeds that both have, else over all of its
        own (mse_zero, mse_sd_zero, mae_lip, ...); what `compare` and `published_change` give;
        mse_zero_published, ...; of the rule for the published change: answer and next_seeds (to
        its next look); d (log ratios, also of failures), runs (names), seconds (mean of a run).
    """
    rows = []
    for _, cell in by_cell(scored).groupby(CELL, sort=False, dropna=False):
        known = [c for c in cell["c"].unique() if c]
        rows += [_row(cell, c) for c in (known if every else _one_a_sign(cell)) or [math.nan]]
    rows = [row for row in rows if row["runs"]]
    return pd.DataFrame(rows, columns=None if rows else [*SHARED, "c", "n", "runs", "answer"])


def _one_a_sign(cell: pd.DataFrame) -> list[float]:
    """Choose of each sign the c with most seeds, of equals the nearest to ±2."""
    ok = cell["outcome"] == "ok"
    n = {c: np.count_nonzero(ok & (cell["c"] == c)) for c in cell["c"].unique() if c}
    best_last = sorted(n, key=lambda c: (abs(c) > CONTROL, n[c], -abs(abs(c) - 2)))
    return sorted({np.sign(c): c for c in best_last}.values())


def _row(cell: pd.DataFrame, c: float) -> dict[str, Any]:
    pairs, ok = pair(cell, c, 0.0), cell.loc[cell["outcome"] == "ok"]
    row: dict[str, Any] = {str(k): v for k, v in cell[[*SHARED]].iloc[0].items()} | {"c": c}
    row |= compare(pairs, c, 0.0) | published_change(row, c, 0.0)
    row |= {"d": pairs["log_ratio"].tolist(), "runs": [], "answer": "", "next_seeds": []}
    for side, value in (("zero", 0.0), ("lip", c)):
        arm = ok.loc[ok["c"] == value]
        arm = arm.loc[arm["seed"].isin(pairs["d"].dropna().index) | (row["n"] == 0)]
        row["runs"] += [*arm["run"]]
        for m in METRICS:
            row |= {f"{m}_{side}": arm[m].mean(), f"{m}_sd_{side}": arm[m].std()}
    place = tuple(row[name] for name in PLACE)
    if row["published"] and not abs(c - LIP) > 0 and place in published().index:  # also c = NaN
        row |= published().loc[place].add_suffix("_published").to_dict()
        if c == LIP:
            found = rule(cell, c, math.log1p(row["published_change"] / 100))
            row |= {"answer": found.answer, "next_seeds": next_seeds(cell, c, found.next_look)}
            row["seconds"] = cell["wall_seconds"].astype(float).mean()
    words = [row["label"].removeprefix(row["dataset"]).strip()]
    if not math.isnan(c):
        words += [regularizer(row)] * (regularizer(row) != "feature axis")
        words += [loss_text(c)] * bool(c != LIP)
    row["setting"] = ", ".join(words) + " †" * bool(c == _lowest_val(ok))
    return row


def _lowest_val(ok: pd.DataFrame) -> float:
    """Return the c with the lowest mean validation MSE on seeds that all c have; NaN: it is one."""
    wide = ok.loc[ok["c"].abs() > CONTROL].pivot(index="seed", columns="c", values="val_mse")
    wide = wide.astype(float).dropna()
    means = dict(zip(map(str, wide.columns), wide.mean(), strict=True))
    return float(min(means, key=lambda c: means[c])) if wide.size > len(wide) else math.nan


def cell_table(rows: pd.DataFrame, title: str, metric: str = "mse", every: bool = False) -> Table:
    """Lay out `cells`, one row each: the paper's, ours, the change and what the rule says of it."""
    rows, name = rows.reset_index(drop=True), metric.upper()
    zero, lip = f"{metric}_zero", f"{metric}_lip"
    baselines = {f"{b}_{metric}": words for b, words in BASELINES.items()}
    baselines = {b: words for b, words in baselines.items() if any(rows[b].notna())}
    paper = not rows.filter([f"{zero}_published"]).isna().to_numpy().all()
    columns = [Column("setting", "setting")]
    if paper:
        columns += [Column(f"paper: {name}", f"{zero}_published", SHOWN)]
        columns += [Column("paper: with Lip", f"{lip}_published", SHOWN)]
    if paper and metric == "mse":
        columns += [Column("paper: change", "published_change", write=published_text)]
    columns += [
        Column("n", "n"),
        Column(f"ours: {name}", zero, SHOWN, f"{metric}_sd_zero" * every),
        Column("ours: with Lip", lip, SHOWN, f"{metric}_sd_lip" * every),
    ]
    if metric == "mse":
        columns += [Column("ours: change, 95 % interval", "change", write=estimate)]
        columns += [Column("seen?", "answer", write=lambda row: row["answer"] or "-")] * paper
    columns += [Column(words, b, SHOWN) for b, words in baselines.items()]
    compared = rows[[zero, lip, *baselines]].round(SHOWN)  # equal as written: all are the lowest
    least = compared.min(axis=1).where(compared.notna().sum(axis=1) > 1)
    at = np.argwhere(compared.eq(least, axis=0).to_numpy())
    best = {(int(i), str(compared.columns[j])) for i, j in at}
    notes = [NOTES[0], *NOTES[1:2] * paper, *NOTES[2:] * any(rows["setting"].str.endswith("†"))]
    for row in rows.to_dict("records") if metric == "mse" else ():
        if not pd.isna(row["bca_low"]):
            bounds = span(row["bca_low"], row["bca_high"])
            notes.append(f"{row['label']}: d is skewed; BCa bootstrap interval {bounds}.")
        notes += [f"{row['label']}: failed, {row['failed']}."] * bool(row["failed"])
    return Table(title, rows, columns, best, notes)


def published_text(row: dict[Any, Any]) -> str:
    """Write a published change."""
    return percent(row["published_change"])


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
    found = answer.across_cells([*some["d"]], ratios, [*some["answer"]])
    row: dict[str, Any] = {"setting": f"all cells ({len(some)})", **found.counts}
    for name in ("published", "ours", "improvement"):
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), getattr(found, name), strict=True))

    def change(name: str) -> Column:
        ends = ["change", "low", "high"]
        values = [name, f"{name}_low", f"{name}_high"]
        return Column(f"{name}: mean change", name, write=lambda r: interval(
            dict(zip(ends, (r[value] for value in values), strict=True))))  # fmt: skip

    columns = [
        *(Column(name, name) for name in ("setting", "seen", "not seen", "open")),
        *(change("published"), change("ours")),
        Column("share of pairs with the lower MSE with Lip", "improvement", 2),
    ]
    note = (
        "Mean of ln(MSE / MSE) over cells, each counted once; 95 % interval by a bootstrap over "
        "cells and seeds, none for fewer than three cells."
    )
    return [Table("All cells", pd.DataFrame([row]), columns, notes=[note])]


def result_tables(scored: pd.DataFrame, every: bool = False) -> list[Table]:
    """Lay out one table a data set (with `every` c, the MAE as well), and all cells."""
    tables, rows = [], cells(scored, every)
    for dataset, group in rows.groupby("dataset", sort=False, dropna=False):
        for metric in METRICS if every else METRICS[:1]:
            tables.append(cell_table(group, f"{dataset}: {metric.upper()}", metric, every))
    return tables + all_cells(rows)


def accounted(scored: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Say how many runs the rows of `cells` show and where the others are; none may be lost."""
    ok = scored.loc[scored["outcome"] == "ok"]
    used, shown = by_cell(ok), {*itertools.chain(*rows["runs"])}
    used["there"] = used[CELL].apply(tuple, axis=1).isin([*rows[CELL].apply(tuple, axis=1)])
    other = ~used["c"].isin([0.0, *rows["c"]])
    parts = {
        "shown": shown,
        "without a pair": {*used.loc[used["there"] & ~other, "run"]} - shown,
        "with another coefficient (--all)": {*used.loc[used["there"] & other, "run"]} - shown,
        "MSE again, under another lip_norm": {*ok.loc[ok["c"] == 0, "run"]} - {*used["run"]},
        "left out": {*scored["run"]} - {*ok["run"]},
    }
    if sum(map(len, parts.values())) != len(scored):
        raise RuntimeError(f"runs are lost, or counted twice: {parts}")
    return [f"{len(scored)} runs: {', '.join(f'{len(x)} {n}' for n, x in parts.items() if x)}."]


def more_lines(rows: pd.DataFrame) -> list[str]:
    """Say what brings each open cell of `cells` to its next look."""
    lines = []
    for row in rows.loc[rows["answer"] == "open"].to_dict("records"):
        if not (seeds := row["next_seeds"]):
            continue
        axis = "AXIS=time " * (row["axis"] == "time")
        model = f"MODEL={row['model']} " * (row["model"] != "informer")
        amp = f" --amp {row['amp']}" * (row["amp"] != "off")
        command = (
            f"FEATURES={row['features']} PRED_LENS={row['pred_len']:g} SIGNS=minus {axis}{model}"
        )
        command += f'SEEDS="{" ".join(map(str, seeds))}" bash scripts/{row["data"]}.sh{amp}'
        time = duration(2 * len(seeds) * row["seconds"])
        lines.append(f"{row['label']}, more: {len(seeds)} pairs, about {time}: {command}")
    return lines


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.tables", description=__doc__)
    flags = ("results", "data", "features", "axis", "amp", "score", "format", "out")
    records.add_flags(parser, *flags)
    parser.add_argument("--all", action="store_true", help="every c, MAE, standard deviations")
    args = parser.parse_args(argv)
    runs = records.load(args.results)
    scored, notes = records.select(records.select_metrics(runs.frame, args.score), args)
    rows = cells(scored, args.all)
    notes += accounted(scored, rows) if len(scored) else []
    notes += [] if runs.committed else [*more_lines(rows), records.STUDY_LINE]
    csv = args.format == "csv" and len(scored)  # every number once
    tables = [cell_table(rows, "")] if csv else result_tables(scored, args.all)
    write_out(tables, args, [*runs.notes, *notes, *records.left_out(scored)])
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
