"""The paper's Tables 2 and 5 with our runs beside the printed numbers, as tidy frames."""

import math
from typing import Any

import numpy as np
import pandas as pd

from exp.cells import ATTRIBUTES, BASELINES, PAPER, Cell, attributes, each_arm, paper_settings
from utils.stats import prediction_interval

TABLES = {"S": ("Table 2", "table2_univariate.csv"), "M": ("Table 5", "table5_multivariate.csv")}
METRICS = ("mse", "mae")
DIGITS = 5  # as printed: errors equal to this many digits are a tie
PRINTED_LIP = ("zero", "minus")  # the paper's Transformers subtract the regularizer
COLUMNS = ["table", *ATTRIBUTES, "sign", "lam", "n", "note"]
COLUMNS += [
    m + part for m in METRICS for part in ("", "_sd", "_printed", "_low", "_high", "_inside")
]
COLUMNS += [f"{name}_{metric}" for name in BASELINES for metric in METRICS]


def printed(features: str) -> pd.DataFrame:
    """Read a table as printed.

    Args:
        features: S (Table 2) or M (Table 5).

    Returns:
        Columns data, pred_len, model, sign (zero, minus), mse, mae. The paper's Weather is called
        WTH throughout: that is what its Informer rows were run on.
    """
    frame = pd.read_csv(PAPER / TABLES[features][1])
    frame["data"] = frame["dataset"].replace("Weather", "WTH")
    frame["sign"] = frame["lip"].map(lambda lip: PRINTED_LIP[lip])
    return frame.loc[:, ["data", "pred_len", "model", "sign", "mse", "mae"]]


def informer_prints() -> dict[tuple[str, str, int, str], dict[str, float]]:
    """Return the printed Informer cells: (features, data, pred_len, sign) -> mse, mae."""
    return {
        (features, row["data"], row["pred_len"], row["sign"]): {m: row[m] for m in METRICS}
        for features in TABLES
        for row in printed(features).query("model == 'Informer'").to_dict("records")
    }


def missing(key: tuple[bool, str, str, str, str], ours: pd.DataFrame) -> pd.DataFrame:
    """Return a row without runs for each printed Informer cell that is not among ours.

    Args:
        key: the table, as Cell.table.
        ours: its rows of `summarise`.
    """
    have = set(zip(ours["data"], ours["pred_len"], ours["sign"], strict=True))
    rows = []
    for (features, data, pred_len, sign), values in informer_prints().items():
        if features == key[1] and (data, pred_len, sign) not in have:
            setting = paper_settings()[data, features, pred_len]
            row = {"table": key, "model": "informer", "data": data, "features": features}
            row |= {"pred_len": pred_len, "axis": key[3], "amp": key[4], "differs": ""}
            row |= {"lengths": f"{setting['seq_len']}/{setting['label_len']}", "sign": sign}
            row |= {f"{metric}_printed": value for metric, value in values.items()}
            rows.append(row | {"lam": "", "n": 0, "note": ""})
    return pd.DataFrame(rows, columns=COLUMNS)


def summarise(cells: list[Cell]) -> pd.DataFrame:
    """Sum up our runs, one row a cell and sign.

    Args:
        cells: as `find_cells` returns them.

    Returns:
        The cell's attributes, sign, lam (chosen, how often), n, for mse and mae the mean over
        seeds, its sd (NaN for n = 1), the printed value (NaN outside the paper), the interval in
        which a mean of the paper's repetitions would lie 95 % of the time and whether the print
        does (None where either is missing), the baselines, and a note on the choice of lambda.
    """
    prints = informer_prints()
    rows = []
    for cell in cells:
        base = {f"{b}_{m}": cell.baseline(b, m) for b in BASELINES for m in METRICS}
        for sign, arm in each_arm(cell):
            row: dict[str, Any] = {**attributes(cell), "sign": sign, "lam": arm.lam}
            row |= {"n": len(arm.runs), "note": arm.note}
            key = (cell.features, cell.data, cell.pred_len, sign)
            beside = prints.get(key, {}) if cell.itr and not cell.differs else {}
            for metric in METRICS:
                row |= _compare(
                    metric, arm.runs[metric].to_numpy(), beside.get(metric, math.nan), cell.itr
                )
            rows.append(row | base)
    return pd.DataFrame(rows, columns=COLUMNS)


def _compare(metric: str, values: np.ndarray, print_: float, itr: int | None) -> dict[str, Any]:
    low, high = prediction_interval(values, itr) if itr else (math.nan, math.nan)
    known = not math.isnan(print_) and not math.isnan(low)
    return {
        metric: values.mean(),
        f"{metric}_sd": values.std(ddof=1) if len(values) > 1 else math.nan,
        f"{metric}_printed": print_,
        f"{metric}_low": low,
        f"{metric}_high": high,
        f"{metric}_inside": bool(low <= print_ <= high) if known else None,
    }


def paper_shape(features: str, ours: pd.DataFrame) -> pd.DataFrame:
    """Lay out one table as the paper does, our means below the printed values.

    Args:
        features: S or M.
        ours: rows of `summarise` that belong to one axis and precision of this table.

    Returns:
        Rows (data, pred_len, source: printed, ours), columns (model, sign, metric); NaN where
        there is nothing. λ that could not be chosen counts as missing.
    """
    order = [key[::2] for key in paper_settings() if key[1] == features]
    frames = [printed(features).assign(source="printed")]
    if len(ours):
        chosen = ours[ours["sign"].isin(PRINTED_LIP) & ~ours["lam"].str.endswith("(not chosen)")]
        frames.append(chosen.assign(source="ours", model="Informer"))
    long = pd.concat(frames)[["data", "pred_len", "source", "model", "sign", *METRICS]]
    wide = long.melt(["data", "pred_len", "source", "model", "sign"], var_name="metric").pivot(
        index=["data", "pred_len", "source"], columns=["model", "sign", "metric"], values="value"
    )
    models = ("Transformer", "Informer", "Autoformer")
    columns = [(m, s, metric) for m in models for s in PRINTED_LIP for metric in METRICS]
    index = [(data, horizon, source) for data, horizon in order for source in ("printed", "ours")]
    return wide.reindex(
        index=pd.MultiIndex.from_tuples(index, names=wide.index.names),
        columns=pd.MultiIndex.from_tuples(columns, names=wide.columns.names),
    )


def best_of_pair(shape: pd.DataFrame) -> pd.DataFrame:
    """Mark the lower of each pair without and with the regularizer, both when equal as printed.

    Args:
        shape: as `paper_shape` returns it.

    Returns:
        Booleans of the same shape; False where one of the pair is missing.
    """
    rounded = shape.round(DIGITS)
    other = rounded.rename(columns={"zero": "minus", "minus": "zero"}, level="sign")
    return rounded <= other[shape.columns]


def counts(shape: pd.DataFrame) -> pd.DataFrame:
    """Count how often each side of a pair is best, over cells and both metrics.

    Returns:
        Rows printed and ours, columns (model, sign).
    """
    best: Any = best_of_pair(shape).T.groupby(level=["model", "sign"]).sum()
    return best.T.groupby(level="source").sum().loc[["printed", "ours"]]
