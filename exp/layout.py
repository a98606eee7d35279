"""Frames laid out as tables of text."""

import itertools
import math
from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd

from exp.cells import BASELINES, SIGN_TEXT, SIGNS, Cell, paper_settings
from exp.paper_tables import (
    DIGITS,
    METRICS,
    TABLES,
    best_of_pair,
    counts,
    missing,
    paper_shape,
    summarise,
)
from exp.render import Table

BASELINE_TEXT = {"last": "last value", "day": "24 h ago", "ridge": "ridge"}
PRECISION = {"off": "fp32", "bf16": "bf16"}
DATA_ORDER = list(dict.fromkeys(data for data, _, _ in paper_settings()))
Key = tuple[bool, str, str, str, str]  # Cell.table


def number(value: Any, digits: int = DIGITS) -> str:
    """Write a number, "-" if it is missing."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def spread(mean: float, sd: float) -> str:
    """Write mean ± sd, the mean alone where there is one run."""
    return number(mean) if math.isnan(sd) else f"{number(mean)} ± {number(sd)}"


def title(key: Key) -> str:
    """Name what all runs of a table share: features, axis, precision, other settings."""
    in_paper, features, differs, axis, amp = key
    name = f"{TABLES[features][0]} ({features})" if in_paper else f"Outside the paper ({features})"
    name = f"Apart from {name}" if in_paper and differs else name
    axis = f"{axis} axis" if axis else "no run with the regularizer"
    runs = [axis, PRECISION[amp], differs] if amp else ["no runs"]
    return ", ".join(filter(None, [name, *runs]))


def ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort rows as the paper does: data set, horizon, then sign."""
    rank = {data: place for place, data in enumerate(DATA_ORDER)}
    keys = frame.assign(place=frame["data"].map(lambda data: rank.get(data, len(rank))))
    if "sign" in frame:
        keys["sign"] = frame["sign"].map(SIGNS.index)
    by = ["place", "data", "pred_len", "lengths", "model", *(["sign"] if "sign" in frame else [])]
    return frame.loc[keys.sort_values(by, kind="stable").index]


def table_keys(cells: list[Cell], features: Sequence[str]) -> list[Key]:
    """List the tables: the paper's first, then its cells with other settings, then the rest.

    Without any run the paper's tables are still listed, to be shown as missing.
    """
    keys = {cell.table for cell in cells} or {
        (True, kind, "", "", "") for kind in features if kind in TABLES
    }
    return sorted(keys, key=lambda k: (not k[0], k[2] != "", k[1] != "S", *k[1:]))


def result_frame(cells: list[Cell], features: Sequence[str]) -> pd.DataFrame:
    """Return `summarise` with a row for each printed Informer cell that is missing."""
    ours = summarise(cells)
    parts = [ours]
    for key in table_keys(cells, features):
        if key[0] and not key[2]:
            parts.append(missing(key, ours.loc[ours["table"] == key]))
    return ordered(pd.concat([part for part in parts if len(part)], ignore_index=True))


def result_tables(cells: list[Cell], features: Sequence[str], score: str) -> list[Table]:
    """Lay out the paper's tables and those of all other runs.

    Args:
        cells: as `find_cells` returns them.
        features: tables to show as missing if there is no run at all: S, M.
        score: truncated or all.
    """
    frame = result_frame(cells, features)
    tables = []
    for key in table_keys(cells, features):
        rows = frame.loc[frame["table"] == key]
        if key[0] and not key[2]:
            tables.append(shape_table(key, rows, score))
        tables.append(beside_table(key, rows, score))
    return tables


def shape_table(key: Key, rows: pd.DataFrame, score: str) -> Table:
    """Lay out one table in the paper's shape, our means below the print."""
    ours = rows.loc[rows["n"] > 0]
    shape = paper_shape(key[1], ours)
    best = best_of_pair(shape)
    head = [("", "data"), ("", "pred_len"), ("", "")]
    names = {"zero": "", "minus": " + Lip"}
    head += [(f"{m}{names[s]}", metric.upper()) for m, s, metric in shape.columns]
    head += [("baselines, MSE", BASELINE_TEXT[name]) for name in BASELINES]
    known = ours.drop_duplicates(["data", "pred_len"]).set_index(["data", "pred_len"])
    body, bold = [], set()
    place: Any
    for i, (place, values) in enumerate(shape.iterrows()):
        data, pred_len, source = place
        row = [data, str(pred_len), source, *map(number, values)]
        has = source == "ours" and (data, pred_len) in known.index
        base = [known.loc[(data, pred_len), f"{b}_mse"] if has else math.nan for b in BASELINES]
        body.append(row + [number(value) if source == "ours" else "" for value in base])
        bold |= {(i, 3 + j) for j, is_best in enumerate(best.iloc[i]) if is_best}
    won: Any
    for source, won in counts(shape).iterrows():
        compared = {model: won[(model, "zero")] + won[(model, "minus")] for model, _, _ in shape}
        cells = [str(won[(m, s)]) if compared[m] else "-" for m, s, _ in shape.columns]
        cells[1::2] = [""] * (len(cells) // 2)  # one count for both metrics
        body.append(["count", "", str(source), *cells, *[""] * len(BASELINES)])
    notes = [
        "count: how often each side of a pair is the better, over cells, MSE and MAE; equal at "
        f"{DIGITS} digits counts for both.",
        "ours: c < 0 beside c = 0. WTH is the paper's Weather for Informer; its Transformer and "
        "Autoformer rows are, by their size, another Weather data set.",
        "The printed Informer column without Lip is the one Informer's own authors published, "
        "not a control run.",
    ]
    return Table(f"{title(key)}, {score} test windows", head, body, bold, notes)


def beside_table(key: Key, rows: pd.DataFrame, score: str) -> Table:
    """Lay out what was printed, what we measured, and whether they agree."""
    paper = key[0] and not key[2]
    lines = []
    for _, group in rows.groupby(["data", "pred_len", "lengths", "model"], sort=False):
        for metric, row in itertools.product(METRICS, group.to_dict("records")):
            line = {"data": row["data"], "pred_len": str(row["pred_len"])}
            line |= {"model": row["model"], "seq/label": row["lengths"], "score": metric.upper()}
            line |= {"regularizer": SIGN_TEXT[row["sign"]], "λ": row["lam"], "n": str(row["n"])}
            line["printed"] = number(row[f"{metric}_printed"])
            line["ours"] = spread(row[metric], row[f"{metric}_sd"])
            inside = {True: "yes", False: "no"}.get(row[f"{metric}_inside"], "-")
            lines.append(line | {"print inside": inside} | baselines(row, f"_{metric}"))
    notes = [
        "ours: mean ± sd over n seeds. λ: chosen for each seed by the validation MSE of the other "
        "seeds (how often); without a count, the only one that was run."
    ]
    if 1 in rows["n"].to_list():
        notes.append("n = 1: one run, so no sd and no interval.")
    if paper:
        notes.append(
            "print inside: whether the print lies where the mean of k runs would lie 95 % of the "
            "time, mean ± t sd sqrt(1/n + 1/k), with the paper's k = 5 (WTH: 3)."
        )
    drop = ("model", "seq/label") if paper else ("printed", "print inside")
    caption = f"{title(key)}, {score} test windows{': printed beside ours' if paper else ''}"
    return tabulate(caption, lines, notes + choice_notes(rows), drop)


def baselines(row: dict[Hashable, Any], suffix: str = "") -> dict[str, str]:
    """Write the baselines' errors, by the heading of their columns."""
    return {name: number(row[f"{key}{suffix}"]) for key, name in BASELINE_TEXT.items()}


def tabulate(
    caption: str, lines: list[dict[str, str]], notes: list[str], drop: Sequence[str] = ()
) -> Table:
    """Make a table of lines that name their columns, some of which are dropped."""
    names = [name for name in lines[0] if name not in drop]
    body = [[line[name] for name in names] for line in lines]
    return Table(caption, [("", name) for name in names], body, notes=notes)


def choice_notes(rows: pd.DataFrame) -> list[str]:
    """Collect what kept lambda from being chosen, each with its cell."""
    notes = [
        f"{row['data']} {row['pred_len']}: {note}."
        for row in rows.to_dict("records")
        for note in row["note"].split("; ")
        if note
    ]
    return list(dict.fromkeys(notes))
