"""python -m paper.tables: our runs beside the paper's printed numbers, and every c beside c = 0."""

import argparse
import functools
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from paper import runs as records
from paper.runs import BASELINES, CELL, METRICS, PRINTED_MODELS, by_cell, paper_settings
from utils.formats import DIGITS, Column, Table, percent, write_out
from utils.output import run_command
from utils.stats import prediction_interval

TABLES = {"S": ("Table 2", "table2_univariate.csv"), "M": ("Table 5", "table5_multivariate.csv")}
SIDES = {"zero": 0.0, "lip": -2.0}  # the print's columns without and with Lip, as our c
COUNTED = {("informer", "M"): "12/38", ("autoformer", "M"): "13/38"}  # as printed, if not so
PLACE = ["model", "features", "data", "pred_len"]
GROUP = ["results_version", "printed", "features", "model", "differs", "amp", "axis", "norm",
         "windows"]  # fmt: skip
PLACED = [Column("data", "dataset"), Column("pred_len", "pred_len")]
PAIRED = "n: seeds that both c have, over which both means are taken."
PUBLISHED = (
    "The printed column without Lip is the one that Informer's own authors published: no control "
    "run. WTH is the paper's Weather."
)
ASSUMED = "Ours at assumed settings: those behind the print are not published."


@functools.cache
def printed() -> pd.DataFrame:
    """Return the printed errors of Tables 2 and 5, one row a cell: mse_zero, mae_zero, mse_lip, ...

    Index PLACE. Informer's Weather is WTH, that of the other models Autoformer's, by their size.
    """
    parts = [pd.read_csv(records.PRINTED / f).assign(features=k) for k, (_, f) in TABLES.items()]
    frame = pd.concat(parts).rename(columns={"dataset": "data"})
    frame["model"] = frame["model"].str.lower()
    weather = np.where(frame["model"] == "informer", "WTH", "weather")
    frame["data"] = frame["data"].where(frame["data"] != "Weather", weather)
    frame = frame.pivot(index=PLACE, columns="lip", values=[*METRICS])
    frame.columns = [f"{metric}_{side}" for metric in METRICS for side in SIDES]
    return frame.sort_index()


def summarise(scored: pd.DataFrame) -> pd.DataFrame:
    """Sum up runs as `paper.runs.select_metrics` gives them, a row an arm: a cell's runs of one c.

    Returns:
        The cell's columns and the baselines (ridge_mse, ...); c, n, seeds (tuple); mean (mse, mae)
        and standard deviation (mse_sd, mae_sd); geometric mean change from c = 0 in percent
        (change) over the seeds that both have (pairs); the printed MSE (print) and the interval in
        which it would lie 95 % of the time if it came from runs like ours (low, high).
    """
    runs = by_cell(scored.loc[scored["outcome"] == "ok"])
    zero = runs.loc[runs["c"] == 0, [*CELL, "seed", "mse"]]
    runs = runs.merge(zero, how="left", on=[*CELL, "seed"], suffixes=("", "_zero"))
    ratios = (runs["mse"] / runs["mse_zero"]).mask(runs["c"] == 0)
    arms = runs.assign(ratio=np.log(ratios.where(ratios.between(0, math.inf, inclusive="neither"))))
    arms = arms.groupby([*CELL, "c"], sort=False)
    numbers = arms.agg(
        n=("seed", "size"), seeds=("seed", tuple), mse=("mse", "mean"), mse_sd=("mse", "std"),
        mae=("mae", "mean"), mae_sd=("mae", "std"), change=("ratio", "mean"),
        pairs=("ratio", "count"),
    )  # fmt: skip
    constant = arms.first().drop(columns=["seed", "mse_zero", "ratio", *METRICS])
    frame = constant.join(numbers).reset_index()
    frame["change"] = 100 * np.expm1(frame["change"])
    beside = frame[PLACE].merge(printed(), how="left", left_on=PLACE, right_index=True)
    at = [frame["printed"].astype(bool) & (frame["c"] == c) for c in SIDES.values()]
    frame["print"] = np.select(at, [beside[f"mse_{side}"] for side in SIDES], np.nan)
    itr = [
        paper_settings(model).get((data, features, pred_len), {}).get("itr", 1)
        for model, features, data, pred_len in frame[PLACE].to_numpy()
    ]  # runs behind the printed mean
    bounds = prediction_interval(frame["mse"], frame["mse_sd"], frame["n"], itr)
    frame["low"], frame["high"] = (np.where(frame["print"].notna(), x, np.nan) for x in bounds)
    return frame


def arm_table(arms: pd.DataFrame, title: str) -> Table:
    """Lay out every c of each cell with its baselines below, the lowest MSE of a cell stressed."""
    cell = arms.drop_duplicates(CELL)
    constant = cell[[*CELL, "dataset", "pred_len", "cell", "lengths"]].assign(pairs=0)
    parts = [arms.assign(method=arms["c"].map("c = {:g}".format))]
    for b, words in BASELINES.items():
        parts.append(constant.assign(method=words, mse=cell[f"{b}_mse"], mae=cell[f"{b}_mae"]))
    frame = pd.concat(parts).dropna(subset="mse")
    order = frame.groupby(CELL, sort=False).ngroup()
    frame = frame.iloc[order.argsort(kind="stable")].reset_index(drop=True)
    comparable = frame.groupby(CELL)["seeds"].transform("nunique") == 1  # else not the same runs
    rounded = frame.assign(mse=frame["mse"].round(DIGITS))
    least = rounded["mse"] == rounded.groupby(CELL)["mse"].transform("min")
    best = {(int(i), "mse") for i in np.flatnonzero(comparable & least)}
    columns = [
        Column("method", "method"),
        Column("n", "n", 0),
        Column("MSE", "mse", DIGITS, sd="mse_sd"),
        Column("MAE", "mae", DIGITS),
        Column("from c = 0", "change", write=_changed),
    ]
    notes = ["MSE: mean ± sd over n seeds. From c = 0: mean change over (pairs of a seed)."]
    if frame["print"].notna().any():
        columns = [*PLACED, *columns]
        columns += [
            Column("paper", "print", DIGITS),
            Column("paper within range?", "low", write=_inside),
        ]
        notes.append(
            "paper within range?: is the printed MSE where the mean of k further runs like ours "
            "would lie 95 % of the time, mean ± t sd sqrt(1/n + 1/k)? k: the paper's repetitions. "
            "Not corrected: one in 20 lies outside by chance."
        )
    elif len(cell) == 1:
        title = f"{title}: {cell['cell'].iloc[0]} ({cell['lengths'].iloc[0]})"
    else:
        columns = [Column("cell", "cell"), Column("seq/label", "lengths"), *columns]
    if not comparable.all():
        notes.append("No star where the c of a cell were run with different seeds.")
    return Table(title, frame, columns, best, notes)


def _changed(row: dict[Any, Any]) -> str:
    return f"{percent(row['change'])} ({row['pairs']})" if row["pairs"] else "-"


def _inside(row: dict[Any, Any]) -> str:
    low, high = row["low"], row["high"]
    words = "yes" if low <= row["print"] <= high else "no"
    return "-" if pd.isna(low) else f"{low:.{DIGITS}f} to {high:.{DIGITS}f}: {words}"


def published_layout(scored: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's shape, one row a printed cell: c = 0 beside c = -2, ours and the print's.

    Both sides are means over the seeds that both have; where one has no run, n is the other's. Has
    the columns of `summarise`, and by side mse_zero, mse_sd_zero, mse_zero_print, mse_lip, ...
    """
    runs = by_cell(scored.loc[(scored["outcome"] == "ok") & scored["printed"].astype(bool)])
    runs = runs.loc[runs["c"].isin([*SIDES.values()])]
    runs["sides"] = runs.groupby([*CELL, "seed"])["c"].transform("nunique")
    most = runs.groupby(CELL)["sides"].transform("max")
    arms = summarise(runs.loc[runs["sides"] == most])
    frame = arms.drop_duplicates(CELL).set_index(CELL)
    for side, c in SIDES.items():
        ours = arms.loc[arms["c"] == c].set_index(CELL)[["mse", "mse_sd", "mae", "mae_sd"]]
        frame = frame.join(ours.add_suffix(f"_{side}"))
    return frame.join(printed().add_suffix("_print"), on=PLACE).reset_index()


def shape_table(frame: pd.DataFrame, title: str, metric: str, notes: Sequence[str] = ()) -> Table:
    """Lay out one metric in the paper's shape, the lowest of ours and the baselines stressed."""
    zero, lip = f"{metric}_zero", f"{metric}_lip"
    baselines = {f"{name}_{metric}": words for name, words in BASELINES.items()}
    missing = frame.columns[frame.isna().all()]
    baselines = {name: words for name, words in baselines.items() if name not in missing}
    columns = [
        *PLACED,
        Column("printed", f"{zero}_print", DIGITS),
        Column("+ Lip", f"{lip}_print", DIGITS),
        Column("n", "n", 0),
        Column("c = 0, ours", zero, DIGITS, sd=f"{metric}_sd_zero"),
        Column("c = -2, ours", lip, DIGITS, sd=f"{metric}_sd_lip"),
        *(Column(words, name, DIGITS) for name, words in baselines.items()),
    ]
    compared = frame[[zero, lip, *baselines]].round(DIGITS)  # equal as printed: all are the lowest
    least = compared.min(axis=1).where(compared.notna().sum(axis=1) > 1)
    at = np.argwhere(compared.eq(least, axis=0).to_numpy())
    best = {(int(i), str(compared.columns[j])) for i, j in at}
    return Table(f"{title}: {metric.upper()}", frame, columns, best, notes)


def count_note(frame: pd.DataFrame, model: str, features: str) -> str:
    """Write the paper's count row: which side of a pair is the lower, over cells, MSE and MAE."""

    def count(cells: pd.DataFrame) -> str:
        pairs = [cells[[f"{m}_zero", f"{m}_lip"]].round(DIGITS).to_numpy() for m in METRICS]
        zero, lip = np.concatenate(pairs).T
        return f"{np.sum(zero <= lip)}/{np.sum(lip <= zero)}"

    ours = frame.dropna(subset=["mse_zero", "mse_lip"])
    known = COUNTED.get((model, features))
    recomputed = f" (recomputed; the paper states {known})" if known else ""
    return (
        "Count of the lower of each pair, MSE and MAE, ties for both: printed "
        f"{count(printed().loc[(model, features)])}{recomputed}, ours {count(ours)} in "
        f"{len(ours)} cell{'s' * (len(ours) != 1)}."
    )


def regularizer(row: dict[Any, Any]) -> str:
    """Name a cell's regularizer, e.g. "feature axis"."""
    norm = "" if row["norm"] in ("max", "") else f", lip_norm {row['norm']}"
    return f"{row['axis']} axis{norm}" if row["axis"] else "no run with the regularizer"


def result_tables(scored: pd.DataFrame) -> list[Table]:
    """Lay out the paper's tables first, then all other runs."""
    arms, shapes = summarise(scored), published_layout(scored)
    several = arms["results_version"].nunique() > 1
    tables = []
    for key, group in arms.groupby(GROUP, sort=False):
        row = group.iloc[0].to_dict()
        kind = TABLES[row["features"]][0] if row["printed"] else "Other runs"
        precision = "fp32" if row["amp"] == "off" else row["amp"]
        parts = [f"{kind} ({row['features']})", regularizer(row), precision]
        parts += [word for word in (row["model"], row["differs"]) if word not in ("informer", "")]
        parts += [f"results version {row['results_version']:g}"] * several
        title = ", ".join([*parts, f"{row['windows']} test windows"])
        same = shapes.loc[(shapes[GROUP] == pd.Series(key, GROUP)).all(axis=1)]
        if len(same):
            notes = [count_note(same, row["model"], row["features"]), PAIRED]
            notes.append(PUBLISHED if row["model"] == "informer" else ASSUMED)
            tables += [shape_table(same, title, "mse"), shape_table(same, title, "mae", notes)]
        tables.append(arm_table(group, f"{title}: every c"))
    return sorted(tables, key=lambda table: not table.title.startswith("Table"))


def absent(scored: pd.DataFrame, asked: str | None = None) -> list[str]:
    """Name each model's data sets that have no run with the paper's settings, one line per table.

    Args:
        scored: all runs, as `paper.runs.select_metrics` returns them.
        asked: S or M; None: both.
    """
    done = scored.loc[(scored["outcome"] == "ok") & scored["printed"].astype(bool)]
    notes = []
    for features, (table, _) in TABLES.items():
        lacks = []
        for model in PRINTED_MODELS:
            have = {*done.loc[(done["features"] == features) & (done["model"] == model), "data"]}
            lack = dict.fromkeys(d for d, f, _ in paper_settings(model) if f == features)
            names = [data for data in lack if data not in have]
            words = "all" if len(names) == len(lack) else ", ".join(names)
            lacks += [f"{model} {words}"] * bool(names)
        if lacks and asked in (features, None):
            notes.append(f"{table} ({features}), no run yet: {'; '.join(lacks)}.")
    return notes


def main(words: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.tables", description=__doc__)
    names = "results data features axis amp score format standalone out"
    records.add_flags(parser, *names.split())
    args = parser.parse_args(words)
    runs = records.load(args.results)
    whole = records.select_metrics(runs.frame, args.score)
    scored, notes = records.select(whole, args)
    notes += [] if args.data else absent(whole, args.features)
    arms = summarise(scored)
    csv = args.format == "csv" and len(arms)  # every number once
    tables = [arm_table(arms, "")] if csv else result_tables(scored)
    write_out(tables, args, [*runs.notes, *notes, *records.left_out(scored)])
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
