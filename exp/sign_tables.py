"""The analysis of the sign laid out as tables of text."""

import math

import numpy as np
import pandas as pd

from exp.cells import SIGN_TEXT, Cell
from exp.layout import (
    PRECISION,
    Key,
    baselines,
    choice_notes,
    number,
    ordered,
    table_keys,
    tabulate,
    title,
)
from exp.render import Table
from exp.signs import (
    ALPHA,
    COMPARISONS,
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
    over, placebo = over_cells(pairs), placebo_frame(cells)
    tables = [hypothesis_table(hypothesis_frame(pairs, hypotheses), score)] if hypotheses else []
    for key in table_keys(cells, []):
        tables.append(paired_table(key, pairs.loc[pairs["table"] == key], score))
    tables += [over_table(over)] if len(over) else []
    return [*tables, placebo_table(placebo)] if len(placebo) else tables


def contrast(comparison: str) -> str:
    """Write a comparison out, e.g. "c < 0 minus c = 0"."""
    first, second = COMPARISONS[comparison]
    return f"{SIGN_TEXT[first]} minus {SIGN_TEXT[second]}"


def interval(low: float, high: float) -> str:
    """Write an interval, "-" if there is none."""
    return "-" if math.isnan(low) else f"{number(low)} to {number(high)}"


def smallest(n: int) -> str:
    """Write the smallest p of n seeds, marked where no result could be significant."""
    mark = " (!)" if smallest_p(n) > ALPHA else ""
    return f"{smallest_p(n):.2g}{mark}" if n else "-"


def hypothesis_table(tested: pd.DataFrame, score: str) -> Table:
    """Lay out the tests of what was named beforehand."""
    lines = []
    for row in tested.to_dict("records"):
        cell = f"{row['data']} {row['features']} {row['pred_len']}, {row['axis']} axis"
        line = {"named beforehand": row["claim"], "cell": f"{cell}, {PRECISION[row['amp']]}"}
        line |= {"comparison": contrast(row["comparison"]), "n": str(row["n"])}
        line |= {"difference": number(row["difference"])}
        line |= {"95 % interval": interval(row["low"], row["high"])}
        line |= {"p": number(row["p"], 4) if row["n"] else "-", "smallest p": smallest(row["n"])}
        line |= {"p (Holm)": number(row["p_holm"], 4) if row["n"] else "-"}
        lines.append(line | {"verdict": row["verdict"]})
    notes = [
        "p: two-sided sign-flip permutation test on differences in test MSE by seed, exact up to "
        f"16 seeds; Holm's correction over all {len(tested)} named, those without runs included.",
        "(!): with so few seeds no result whatever could reach p ≤ 0.05.",
        "The choice of λ is taken as given. A verdict holds for its cell only.",
    ]
    return tabulate(f"Hypotheses named beforehand, {score} test windows", lines, notes)


def paired_table(key: Key, rows: pd.DataFrame, score: str) -> Table:
    """Lay out the comparisons in each cell, with intervals only."""
    lines = []
    for row in rows.to_dict("records"):
        sides = " / ".join(filter(None, [row["lam_first"], row["lam_second"]]))
        line = {"data": row["data"], "pred_len": str(row["pred_len"]), "model": row["model"]}
        line |= {"comparison": contrast(row["comparison"]), "λ": sides or "-", "n": str(row["n"])}
        line |= {name: number(row[name]) for name in ("first", "second", "difference")}
        line |= {"95 % interval": interval(row["low"], row["high"])}
        line |= {"r": number(row["correlation"], 2), "smallest p": smallest(row["n"])}
        lines.append(line | {"reading": reading(row)} | baselines(row))
    shown = int(np.isfinite(rows["low"].to_numpy()).sum())
    notes = [
        "first, second: mean test MSE over the n seeds both sides have; difference: first minus "
        "second by seed, paired-t interval; r: correlation of the pairs.",
        "Exploratory, apart from the hypotheses named beforehand, and not corrected: of "
        f"{shown} intervals about {0.05 * shown:.1f} would leave out 0 by chance alone.",
        "smallest p: what n seeds can give at best; (!) above 0.05.",
    ]
    caption = f"Signs: {title(key)}, {score} test windows"
    return tabulate(caption, lines, notes + choice_notes(rows))


def over_table(frame: pd.DataFrame) -> Table:
    """Lay out wins, ties, losses and the mean ratio over the cells of each table."""
    names = {"cells": "cells", "data_sets": "data sets"}
    names |= {name: name for name in ("wins", "ties", "losses")}
    lines = [
        {"runs": title(row["table"]), "comparison": contrast(row["comparison"])}
        | {name: str(row[column]) for column, name in names.items()}
        | {"MSE ratio": number(row["ratio"], 4)}
        for row in frame.to_dict("records")
    ]
    notes = [
        "win: the first side's mean MSE is lower; tie: equal at five digits. MSE ratio: geometric "
        "mean of first / second.",
        "Cells of one data set share its rows and are not independent: no test is made over cells.",
        "Placebo: a table of its own, wherever a sign has several λ to pick from.",
    ]
    return tabulate("Signs over cells (exploratory)", lines, notes)


def placebo_table(frame: pd.DataFrame) -> Table:
    """Lay out the gain of picking lambda beside that of picking among runs without regularizer."""
    lines = [
        {"runs": title(row["table"]), "data": row["data"], "pred_len": str(row["pred_len"])}
        | {"sign": SIGN_TEXT[row["sign"]], "k": str(row["k"]), "picks": str(row["picks"])}
        | {"gain of picking λ": number(row["gain"]), "c = 0 runs": str(row["zero_runs"])}
        | {"placebo gain": number(row["placebo"])}
        | {"95 % of resamples": interval(row["low"], row["high"])}
        | {"reading": placebo_reading(row)}
        for row in frame.to_dict("records")
    ]
    notes = [
        "gain: mean test MSE at c = 0 minus that of the runs picked, each the best of k by its own "
        "validation MSE. Placebo: the same among c = 0 runs, where no λ can help."
    ]
    return tabulate("Placebo: what picking alone gains", lines, notes)
