"""Does the regularizer help, and with which sign: paired differences by seed, and words."""

import math
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exp.cells import ATTRIBUTES, BASELINES, SIGN_TEXT, Cell, attributes, choose, of_sign
from exp.paper_tables import DIGITS
from utils.errors import UserError
from utils.stats import (
    correlation,
    geometric_mean_ratio,
    holm,
    mean_interval,
    placebo_gains,
    sign_flip_p,
    smallest_p,
)

HYPOTHESES = Path(__file__).with_name("hypotheses.toml")
ALPHA = 0.05
COMPARISONS = {
    "minus-zero": ("minus", "zero"),
    "plus-zero": ("plus", "zero"),
    "minus-plus": ("minus", "plus"),
}
COLUMNS = ["table", *ATTRIBUTES, "comparison", "n", "lam_first", "lam_second", "first", "second"]
COLUMNS += ["difference", "low", "high", "correlation", "smallest_p", "differences", "note"]
COLUMNS += BASELINES
IDENTIFIES = ["comparison", "model", "data", "features", "pred_len", "axis", "amp"]


@dataclass(frozen=True)
class Hypothesis:
    """A comparison of two signs in one cell, named before the runs."""

    claim: str
    comparison: str
    model: str
    data: str
    features: str
    pred_len: int
    axis: str
    amp: str


def read_hypotheses(path: Path = HYPOTHESES) -> list[Hypothesis]:
    """Read the hypotheses.

    Raises:
        UserError: the file is missing, no TOML, or an entry is not as `Hypothesis` has it.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("hypothesis", [])
        hypotheses = [Hypothesis(**entry) for entry in entries]
    except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
        raise UserError(f"{path}: {error}; see exp/hypotheses.toml for the form") from error
    for hypothesis in hypotheses:
        if hypothesis.comparison not in COMPARISONS:
            known = ", ".join(COMPARISONS)
            raise UserError(f"{path}: comparison {hypothesis.comparison}: must be one of {known}")
    return hypotheses


def paired_frame(cells: list[Cell]) -> pd.DataFrame:
    """Compare the signs in every cell, on the seeds that both sides have.

    Args:
        cells: as `find_cells` returns them.

    Returns:
        One row a cell and comparison: the cell's attributes, comparison, n, lam of both sides,
        their means (first, second), mean difference with its 95 % paired-t interval (low, high),
        correlation, the smallest p that n seeds can give, differences (array), baselines' MSE.
    """
    rows = []
    for cell in cells:
        arms = {sign: choose(cell, sign) for sign in SIGN_TEXT}
        base = {name: cell.baseline(name, "mse") for name in BASELINES}
        for comparison, (first, second) in COMPARISONS.items():
            both = pd.concat(
                [arms[first].runs["mse"], arms[second].runs["mse"]], axis=1, join="inner"
            ).to_numpy(dtype=float)  # [seeds, 2]
            row = {**attributes(cell), "comparison": comparison, "n": len(both), **_paired(both)}
            row |= {"lam_first": arms[first].lam, "lam_second": arms[second].lam}
            row["note"] = "; ".join(filter(None, [arms[first].note, arms[second].note]))
            rows.append(row | base)
    return pd.DataFrame(rows, columns=COLUMNS)


def _paired(both: np.ndarray) -> dict[str, Any]:
    """Compare two columns of paired errors, [seeds, 2]."""
    differences = both[:, 0] - both[:, 1]
    row: dict[str, Any] = {"differences": differences}
    if len(both):
        row |= dict(zip(("first", "second"), both.mean(axis=0), strict=True))
        row |= dict(zip(("difference", "low", "high"), mean_interval(differences), strict=True))
        row["correlation"] = correlation(both[:, 0], both[:, 1])
        row["smallest_p"] = smallest_p(len(both))
    return row


def over_cells(pairs: pd.DataFrame) -> pd.DataFrame:
    """Sum up the comparisons of each table over its cells.

    Args:
        pairs: as `paired_frame` returns them.

    Returns:
        One row a table and comparison: cells, data_sets, wins (first lower), ties (equal as
        printed), losses, ratio (geometric mean of first / second).
    """
    rows = []
    key: Any
    for key, group in pairs.loc[pairs["n"] > 0].groupby(["table", "comparison"], sort=False):
        first, second = group["first"].to_numpy(), group["second"].to_numpy()
        lower = np.sign(first.round(DIGITS) - second.round(DIGITS))  # [cells]
        row = {"table": key[0], "comparison": key[1], "cells": len(group)}
        row["data_sets"] = len(set(group["data"]))
        for name, sign in (("wins", -1), ("ties", 0), ("losses", 1)):
            row[name] = int(np.count_nonzero(lower == sign))
        rows.append({**row, "ratio": geometric_mean_ratio(first, second)})
    return pd.DataFrame(rows)


def hypothesis_frame(pairs: pd.DataFrame, hypotheses: list[Hypothesis]) -> pd.DataFrame:
    """Test what was named beforehand, Holm-corrected over all that was named.

    A hypothesis without runs stays in the family with p = 1.

    Args:
        pairs: as `paired_frame` returns them; only cells with the paper's settings count.
        hypotheses: the family.

    Returns:
        One row a hypothesis: its fields, n, difference, low, high, p, p_holm, verdict.
    """
    kept = ["n", "difference", "low", "high", "p"]
    rows = []
    for hypothesis in hypotheses:
        named = {"differs": "", **{name: getattr(hypothesis, name) for name in IDENTIFIES}}
        found = [p for p in pairs.to_dict("records") if named.items() <= p.items() and p["n"]]
        p = {"p": float(sign_flip_p(found[0]["differences"]))} if found else {"n": 0, "p": 1.0}
        rows.append({**asdict(hypothesis), **(found[0] if found else {}), **p})
    frame = pd.DataFrame(rows, columns=[*Hypothesis.__annotations__, *kept])
    frame["p_holm"] = holm(frame["p"].to_list())
    frame["verdict"] = [verdict(row) for row in frame.to_dict("records")]
    return frame


def verdict(row: dict[str, Any]) -> str:
    """Say what a test shows, and never more.

    Args:
        row: comparison, n, difference, low, high, p, p_holm.
    """
    first, second = (SIGN_TEXT[sign] for sign in COMPARISONS[row["comparison"]])
    lower, higher = (first, second) if row["difference"] < 0 else (second, first)
    n, best = int(row["n"]), smallest_p(int(row["n"]))
    cases = [
        (n == 0, "no runs"),
        (n == 1, "one seed: nothing can be said"),
        (best > ALPHA, f"undecided: {n} seeds cannot give p below {best:.2g}"),
        (row["p"] > ALPHA, "no difference shown"),
        (row["p_holm"] > ALPHA, "no difference shown: p does not survive Holm's correction"),
        (row["low"] <= 0 <= row["high"], "undecided: p is small, but the interval covers 0"),
        (True, f"{lower} has the lower test MSE than {higher} in this cell"),
    ]
    return next(words for holds, words in cases if holds)


def reading(row: dict[str, Any]) -> str:
    """Say where an exploratory interval lies."""
    if math.isnan(row["low"]):
        return "-" if row["n"] == 0 else "one seed: no interval"
    if row["high"] < 0:
        return "interval below 0"
    return "interval above 0" if row["low"] > 0 else "interval covers 0"


def placebo_frame(cells: list[Cell]) -> pd.DataFrame:
    """Set the gain of picking lambda beside that of picking among runs without regularizer.

    Both pick the best of k by their own validation MSE, as the paper does, and gain against the
    mean of the c = 0 runs. The placebo has no regularizer: its gain is that of picking alone.

    Args:
        cells: as `find_cells` returns them.

    Returns:
        One row a cell and sign with several lambdas: the cell's attributes, sign, k, picks (seeds
        that have every lambda), zero_runs, gain, and the placebo's mean gain (placebo) with the
        range of 95 % of its resamples (low, high); NaN with fewer than 2 k runs at c = 0.
    """
    rows = []
    for cell in cells:
        zero = of_sign(cell, "zero")
        for sign in ("minus", "plus"):
            runs = of_sign(cell, sign)
            wide = runs.pivot(index="seed", columns="lam", values=["val_mse", "mse"]).dropna()
            k = len(set(runs["lam"]))
            if k < 2 or wide.empty:
                continue
            picked = wide["val_mse"].to_numpy().argmin(axis=1)  # [seeds]
            test = wide["mse"].to_numpy()[np.arange(len(wide)), picked]
            row = {**attributes(cell), "sign": sign, "k": k, "picks": len(wide)}
            row |= {"zero_runs": len(zero), "gain": zero["mse"].mean() - test.mean()}
            row |= dict.fromkeys(("placebo", "low", "high"), math.nan)
            if len(zero) >= 2 * k:
                gains = placebo_gains(zero["val_mse"], zero["mse"], k=k, picks=len(wide))
                low, high = np.quantile(gains, [0.025, 0.975])
                row |= {"placebo": gains.mean(), "low": low, "high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def placebo_reading(row: dict[str, Any]) -> str:
    """Say how the gain of picking lambda compares with the placebo's."""
    if math.isnan(row["gain"]):
        return "no run with c = 0"
    if math.isnan(row["placebo"]):
        return f"no placebo: {2 * row['k']} runs with c = 0 needed"
    if row["gain"] > row["high"]:
        return "more than picking alone gains"
    return "less than picking alone gains" if row["gain"] < row["low"] else "as picking alone gains"
