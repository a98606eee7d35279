"""The analysis of the sign laid out as tables of text."""

import math

import numpy as np
import pandas as pd

from exp.cells import BASELINES, SIGN_TEXT, Cell
from exp.layout import (
    BASELINE_TEXT,
    PRECISION,
    Key,
    choice_notes,
    heads,
    number,
    ordered,
    table_keys,
    title,
)
from exp.render import Table
from exp.signs import (
    ALPHA,
    COMPARISONS,
    IDENTIFIES,
    Hypothesis,
    hypothesis_frame,
    over_cells,
    paired_frame,
    placebo_frame,
    placebo_reading,
    reading,
)
from utils.stats import smallest_p


def sign_tables(cells: list[Cell], hypotheses: list[Hypothesis], score: str) -> list[Table]:
    """Lay out hypotheses, the comparisons in each cell and over cells, and the placebo."""
    pairs = ordered(paired_frame(cells))
    tested = hypothesis_frame(pairs, hypotheses)
    tables = [hypothesis_table(tested, score)] if hypotheses else []
    for key in table_keys(cells, []):
        tables.append(paired_table(key, pairs.loc[pairs["table"] == key], tested, score))
    if cells:
        tables += [over_table(over_cells(pairs)), placebo_table(placebo_frame(cells))]
    return tables


def contrast(comparison: str) -> str:
    """Write a comparison out, e.g. "c < 0 minus c = 0"."""
    first, second = COMPARISONS[comparison]
    return f"{SIGN_TEXT[first]} minus {SIGN_TEXT[second]}"


def interval(low: float, high: float) -> str:
    """Write an interval, "-" if there is none."""
    return "-" if math.isnan(low) else f"{number(low)} to {number(high)}"


def smallest(n: float) -> str:
    """Write the smallest p of n seeds, marked where no result could be significant."""
    return (
        "-"
        if n == 0
        else f"{smallest_p(int(n)):.2g}" + (" (!)" if smallest_p(int(n)) > ALPHA else "")
    )


def hypothesis_table(tested: pd.DataFrame, score: str) -> Table:
    """Lay out the tests of what was named beforehand."""
    names = ["named beforehand", "cell", "comparison", "n", "difference", "95 % interval"]
    names += ["p", "smallest p", "p (Holm)", "verdict"]
    body = []
    for row in tested.to_dict("records"):
        cell = f"{row['data']} {row['features']} {row['pred_len']}, {row['axis']} axis"
        cell += f", {PRECISION[row['amp']]}"
        line = [row["claim"], cell, contrast(row["comparison"]), f"{row['n']:g}"]
        line += [number(row["difference"]), interval(row["low"], row["high"])]
        ps = [number(row["p"], 4), smallest(row["n"]), number(row["p_holm"], 4)]
        body.append([*line, *(ps if row["n"] else ["-"] * 3), row["verdict"]])
    notes = [
        f"p: exact two-sided sign-flip permutation test on differences in test MSE by seed; Holm's "
        f"correction over all {len(tested)} named, those without runs included.",
        "(!): with so few seeds no result whatever could reach p ≤ 0.05.",
        "The choice of λ is taken as given. A verdict holds for its cell only.",
    ]
    return Table(
        f"Hypotheses named beforehand ({score} test windows)",
        heads(names),
        body,
        notes=notes,
    )


def paired_table(key: Key, rows: pd.DataFrame, tested: pd.DataFrame, score: str) -> Table:
    """Lay out the comparisons in each cell; p only for what was named beforehand."""
    names = ["data", "pred_len", "model", "comparison", "λ", "n", "first", "second", "difference"]
    names += ["95 % interval", "r", "p", "smallest p", "reading"]
    names += BASELINE_TEXT.values()
    p_named = {
        tuple(row[name] for name in IDENTIFIES): row["p"] for row in tested.to_dict("records")
    }
    body = []
    for row in rows.to_dict("records"):
        p = None if row["differs"] else p_named.get(tuple(row[name] for name in IDENTIFIES))
        sides = " / ".join(filter(None, [row["lam_first"], row["lam_second"]]))
        line = [row["data"], str(row["pred_len"]), row["model"], contrast(row["comparison"])]
        line += [sides or "-", str(row["n"]), number(row["first"]), number(row["second"])]
        line += [number(row["difference"]), interval(row["low"], row["high"])]
        line += [
            number(row["correlation"], 2),
            number(p, 4) if row["n"] else "-",
            smallest(row["n"]),
        ]
        line.append(reading(row) if p is None else "named beforehand")
        body.append(line + [number(row[name]) for name in BASELINES])
    shown = int(np.isfinite(rows["low"].to_numpy()).sum())
    notes = [
        "first, second: mean test MSE over the n seeds both sides have; difference: first minus "
        "second by seed, paired-t interval; r: correlation of the pairs.",
        f"Exploratory unless named beforehand, and not corrected: of {shown} intervals about "
        f"{0.05 * shown:.1f} would leave out 0 by chance alone.",
        "smallest p: what n seeds can give at best; (!) above 0.05.",
    ]
    return Table(
        f"Signs: {title(key)}, {score} test windows",
        heads(names),
        body,
        notes=notes + choice_notes(rows),
    )


def over_table(frame: pd.DataFrame) -> Table:
    """Lay out wins, ties, losses and the mean ratio over the cells of each table."""
    names = ["runs", "comparison", "cells", "data sets", "wins", "ties", "losses", "MSE ratio"]
    body = [
        [title(row["table"]), contrast(row["comparison"])]
        + [str(row[name]) for name in ("cells", "data_sets", "wins", "ties", "losses")]
        + [number(row["ratio"], 4)]
        for row in frame.to_dict("records")
    ]
    notes = [
        "win: the first side's mean MSE is lower; tie: equal at five digits. MSE ratio: geometric "
        "mean of first / second.",
        "Cells of one data set share its rows and are not independent: no test is made over cells.",
    ]
    return Table("Signs over cells (exploratory)", heads(names), body, notes=notes)


def placebo_table(frame: pd.DataFrame) -> Table:
    """Lay out the gain of picking lambda beside that of picking among runs without regularizer."""
    names = ["runs", "data", "pred_len", "sign", "k", "picks", "gain of picking λ", "c = 0 runs"]
    names += ["placebo gain", "95 % of resamples", "reading"]
    body = [
        [
            *(title(row["table"]), row["data"], str(row["pred_len"]), SIGN_TEXT[row["sign"]]),
            *(str(row["k"]), str(row["picks"]), number(row["gain"]), str(row["zero_runs"])),
            *(number(row["placebo"]), interval(row["low"], row["high"]), placebo_reading(row)),
        ]
        for row in frame.to_dict("records")
    ]
    notes = [
        "gain: mean test MSE at c = 0 minus that of the runs picked, each the best of k by its own "
        "validation MSE. Placebo: the same among c = 0 runs, where no λ can help."
    ]
    if frame.empty:
        notes.append("No sign has several λ with runs in one cell: nothing was picked.")
    return Table("Placebo: what picking alone gains", heads(names), body, notes=notes)
