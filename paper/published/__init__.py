"""What the paper reports: its settings, its tables, and the change that it shows in a cell."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exp.config import REGULARIZER, Config
from models import MODELS

FOLDER = Path(__file__).parent
TABLES = {"S": ("Table 2", "table2_univariate.csv"), "M": ("Table 5", "table5_multivariate.csv")}
PLACE = ["model", "features", "data", "pred_len"]  # of a cell
METRICS = ("mse", "mae")
OPEN_SETTINGS = ("model", "data", "features", "target", "pred_len", "seed", "amp",
                 "seq_len", "label_len")  # fmt: skip
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Config)}
LIP = -2.0  # the coefficient behind the column with Lip


@functools.cache
def paper_settings(model: str = "informer") -> dict[Any, dict[Any, Any]]:
    """Return a model's rows in the paper: (data, features, pred_len) -> lengths, layers, itr."""
    key, path = ["dataset", "features", "pred_len"], FOLDER / f"{model}_settings.csv"
    frame = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=key)
    return frame.set_index(key).to_dict("index")


@functools.cache
def default_settings(model: str) -> dict[str, Any]:
    """Return a model's settings where nothing is asked for, but what a label names anyway."""
    row = MODELS[model].defaults | MODELS[model].assumed if model in MODELS else {}
    apart = (*OPEN_SETTINGS, *REGULARIZER)
    return {name: value for name, value in (DEFAULTS | row).items() if name not in apart}


@functools.cache
def published() -> pd.DataFrame:
    """Return the errors of Tables 2 and 5, one row a cell: mse_zero, mae_zero, mse_lip, mae_lip.

    Index PLACE. Informer's Weather is WTH, that of the other models Autoformer's, by their size.
    """
    parts = [pd.read_csv(FOLDER / file).assign(features=k) for k, (_, file) in TABLES.items()]
    frame = pd.concat(parts).rename(columns={"dataset": "data"})
    frame["model"] = frame["model"].str.lower()
    weather = np.where(frame["model"] == "informer", "WTH", "weather")
    frame["data"] = frame["data"].where(frame["data"] != "Weather", weather)
    frame = frame.pivot(index=PLACE, columns="lip", values=[*METRICS])
    frame.columns = [f"{metric}_{side}" for metric in METRICS for side in ("zero", "lip")]
    return frame.sort_index()


def published_change(row: Mapping[Any, Any], first: float, second: float) -> dict[str, Any]:
    """Return the published change between two c of a cell in percent (NaN: none), and its place.

    published_runs: the runs behind each of the two published means.
    """
    place, mse, where = tuple(row[name] for name in PLACE), {}, ""
    if {first, second} <= {0.0, LIP} and place in published().index:
        cell, where = published().loc[place], TABLES[row["features"]][0]
        mse = {0.0: cell["mse_zero"], LIP: cell["mse_lip"]}
    elif (row["model"], row["features"], row["data"]) == ("informer", "S", "ETTh2"):
        curve, where = pd.read_csv(FOLDER / "figure3.csv").set_index("lam"), "Figure 3"
        curve = curve.loc[curve["pred_len"] == row["pred_len"], "mse"]
        mse = {-float(str(lam)): value for lam, value in curve.items()}
    if row.get("overrides") or not {first, second} <= mse.keys():
        return {"published_change": math.nan, "published_at": "", "published_runs": 0}
    key = row["data"], row["features"], row["pred_len"]
    k = paper_settings(row["model"]).get(key, {}).get("itr", 1)
    change = 100 * (mse[first] / mse[second] - 1)
    return {"published_change": change, "published_at": where, "published_runs": k}
