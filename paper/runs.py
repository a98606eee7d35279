"""Runs as one frame, from their folders or the committed study's CSV; the paper's own numbers."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exp.config import REGULARIZER, Config
from exp.record import read_arrays, read_runs
from models import MODELS
from utils.files import UserError, read_json

PUBLISHED = Path(__file__).with_name("published")
HYPOTHESES = Path(__file__).with_name("hypotheses.toml")
TABLES = {"S": "table2_univariate.csv", "M": "table5_multivariate.csv"}
PLACE = ["model", "features", "data", "pred_len"]  # of a cell
LIP = -2.0  # the coefficient behind the column with Lip
METRICS = ("mse", "mae")
BASELINES = {"last": "last value", "day": "seasonal naive (24 h)", "week": "seasonal naive (7 d)",
             "ridge": "ridge"}  # fmt: skip
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Config)}
NAMED = ("model", "data", "features", "target", "pred_len", "seed", "amp", "seq_len", "label_len",
         *REGULARIZER)  # settings that a label names, or that are no overrides  # fmt: skip
LENGTHS = ("seq_len", "label_len", "e_layers", "d_layers", "factor")
CELL = ["results_version", "setting_id", "axis", "norm"]  # what the runs of a cell share
LABELS = ["c", "axis", "norm", "dataset", "published", "overrides", "label", "sort_key"]
ORDER = ["sort_key", "label", "axis", "norm", "c", "seed"]
TEXTS = ("id", "setting_id", "data_sha256", "git_commit", "error", "cols", "s_layers", "started")
EXPECTED = ["run", "status", "error", "id", "setting_id", "results_version", "data_sha256",
            "data_file", *METRICS, "mse_drop_last", "mae_drop_last", "val_mse", "started",
            "processor", "threads", "device", "torch", "git_commit", "git_dirty", "wall_seconds",
            "step_seconds"]  # columns that are there even where no run has them  # fmt: skip


@functools.cache
def paper_settings(model: str = "informer") -> dict[Any, dict[Any, Any]]:
    """Return a model's rows in the paper: (data, features, pred_len) -> lengths, layers, itr."""
    key, path = ["dataset", "features", "pred_len"], PUBLISHED / f"{model}_settings.csv"
    return pd.read_csv(path).set_index(key).to_dict("index") if path.exists() else {}


@functools.cache
def published() -> pd.DataFrame:
    """Return the errors of Tables 2 and 5, one row a cell: mse_zero, mae_zero, mse_lip, mae_lip.

    Index PLACE. Informer's Weather is WTH, that of the other models Autoformer's, by their size.
    """
    parts = [pd.read_csv(PUBLISHED / file).assign(features=k) for k, file in TABLES.items()]
    frame = pd.concat(parts).rename(columns={"dataset": "data"})
    frame["model"] = frame["model"].str.lower()
    weather = np.where(frame["model"] == "informer", "WTH", "weather")
    frame["data"] = frame["data"].where(frame["data"] != "Weather", weather)
    frame = frame.pivot(index=PLACE, columns="lip", values=[*METRICS])
    frame.columns = [f"{metric}_{side}" for metric in METRICS for side in ("zero", "lip")]
    return frame.sort_index()


def published_change(row: Mapping[Any, Any], first: float, second: float) -> float:
    """Return the published change between two c of a cell in percent; NaN where there is none.

    It is that of the tables, elsewhere that of Figure 3.
    """
    place, mse = tuple(row[name] for name in PLACE), {}
    if {first, second} <= {0.0, LIP} and place in published().index:
        mse = dict(zip((0.0, LIP), published().loc[place, ["mse_zero", "mse_lip"]], strict=True))
    elif place[:3] == ("informer", "S", "ETTh2"):
        curve = pd.read_csv(PUBLISHED / "figure3.csv").query("pred_len == @place[3]")
        mse = dict(zip(-curve["lam"], curve["mse"], strict=True))
    if row.get("overrides") or not {first, second} <= mse.keys():
        return math.nan
    return 100 * (mse[first] / mse[second] - 1)


@dataclass(frozen=True)
class Runs:
    """All runs of a results folder, or of the committed study; the rest is read when asked for."""

    frame: pd.DataFrame  # one row a run, ended or not, as `add_labels` returns it
    source: Path  # the folder of the runs, or of the study
    committed: bool = False  # the frame is the study's CSV: no folder of a run is there
    notes: list[str] = field(default_factory=list)  # sentences about what was read
    _files: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)

    def trace(self, run: str) -> pd.DataFrame:
        """Return epoch and L_f of a run's training steps (about 300 points from the study)."""
        if self.committed:
            first, step, l_f = self._packed("l_f", run)
            return pd.DataFrame({"epoch": first + step * np.arange(len(l_f)), "l_f": l_f})
        arrays = read_arrays(self.source / run, "trace")
        return pd.DataFrame({name: arrays[name] for name in ("epoch", "l_f")})

    def errors(self, run: str, name: str) -> np.ndarray:
        """Return a run's test MSE by_step, by_column, or of each window (window_errors)."""
        if self.committed:
            return self._packed(name, run)[2]
        if name == "window_errors":
            return read_arrays(self.source / run, name)["mse"].astype(float)
        body = read_json(self.source / run / "metrics.json")
        if name not in body:
            raise UserError(f"{self.source / run}: has no errors {name.replace('_', ' ')}")
        return np.array(body[name]["mse"])

    def _packed(self, name: str, run: str) -> tuple[float, float, np.ndarray]:
        """Return first, step and the values of a run's row in another of the study's CSV files."""
        path = self.source / f"{name}.csv"
        if name not in self._files:
            self._files[name] = pd.read_csv(path, index_col="run")
        if run not in self._files[name].index:
            raise UserError(f"{path}: has nothing on {run}")
        first, step, values = self._files[name].loc[run, ["first", "step", "values"]]
        return first, step, np.array(str(values).split(), dtype=float)


def load(results: Path) -> Runs:
    """Read the runs of a folder, or the committed study: its CSV, there or, without runs, below.

    Raises:
        UserError: there is no such folder.
    """
    frame = read_runs(results)
    for folder in (results, results / "study") if frame.empty else ():
        if (path := folder / "runs.csv").exists():
            note = f"{results} holds no runs of its own: these are the committed study's."
            frame = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str))
            return Runs(add_labels(frame), folder, True, [note] * (folder != results))
    frame = frame.map(lambda value: ",".join(map(str, value)) if isinstance(value, list) else value)
    return Runs(add_labels(frame), results)


def current(column: str) -> str:
    """Return what a column of an earlier version is called now."""
    return column.replace("_trunc", "_drop_last")


def add_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Say of each run which cell it belongs to, and sort the runs as the paper does.

    Adds c (signed coefficient), axis and norm of the regularizer ("" at c = 0), dataset ("ETTh2";
    for a custom file "FILE TARGET"), published (has a place in the paper's tables), overrides
    (settings unlike the paper's), label (cell and all that sets it apart), sort_key (the paper's
    order).
    """
    frame = frame.rename(columns=current)
    frame = frame.reindex(columns=[*dict.fromkeys([*frame.columns, *DEFAULTS, *EXPECTED])])
    added = [_label(row) for row in frame.to_dict("records")]
    frame = frame.join(pd.DataFrame(added, index=frame.index, columns=LABELS))
    for column, mark in (("results_version", ", results version {:g}"), ("setting_id", " #{:.6}")):
        several = frame.groupby("label")[column].transform("nunique").to_numpy() > 1
        frame.loc[several, "label"] += frame.loc[several, column].map(mark.format)
    return frame.sort_values(ORDER, kind="stable").reset_index(drop=True)


def _label(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Work out what a run's row says of its cell."""
    texts = {name: text(value) for name, value in row.items()}
    model, features, horizon = texts["model"], texts["features"], int(texts["pred_len"] or 0)
    dataset = texts["data"] or "?"
    if dataset == "custom":
        file = texts["data_file"] or f"custom {texts['data_sha256'][:8]}"
        dataset = f"{file} {texts['target']}"
    paper = paper_settings(model).get((texts["data"], features, horizon), {})
    own = MODELS[model].defaults | MODELS[model].assumed if model in MODELS else {}
    expected = {name: value for name, value in (DEFAULTS | own).items() if name not in NAMED}
    expected |= {name: paper[name] for name in LENGTHS if paper}
    overrides = [f"{n} {texts[n]}" for n, v in expected.items() if texts[n] not in ("", text(v))]
    other = [name for name in REGULARIZER if name not in ("lip_coef", "lip_axis", "lip_norm")]
    kinds = [f"{n} {texts[n]}" for n in other if texts[n] not in ("", text(DEFAULTS[n]))]
    lengths = "" if paper else f" ({texts['seq_len']}/{texts['label_len']})"
    label = [f"{dataset} {features} {horizon}{lengths}", *overrides]
    label += [name for name in (model, texts["amp"]) if name not in ("informer", "off", "")]
    order = [*dict.fromkeys(data for data, _, _ in paper_settings()), dataset]
    return {
        "c": float(row["lip_coef"]),
        "axis": texts["lip_axis"] if row["lip_coef"] else "",
        "norm": ", ".join([texts["lip_norm"], *kinds]) if row["lip_coef"] else "",
        "dataset": dataset,
        "published": bool(paper) and not overrides,
        "overrides": ", ".join(overrides),
        "label": ", ".join(label),
        "sort_key": ("SM".find(features) % 3, order.index(dataset), horizon),
    }


def text(value: Any) -> str:
    """Write a setting so that equal ones read equal, whatever pandas made of their type."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    written = f"{value:g}" if isinstance(value, float) else str(value)
    return "" if pd.isna(value) else written.encode(errors="replace").decode()  # names of files


def shorten(rows: pd.DataFrame, column: str) -> tuple[pd.Series, list[str]]:
    """Leave the overrides that all rows have out of a column of names, and say them in a note."""
    every, labels = [row.split(", ") for row in rows["overrides"]], pd.Series(rows[column])
    same = [one for one in every[0] if one and all(one in other for other in every)]
    for one in same:
        labels = labels.str.replace(f", {one}", "", n=1, regex=False)
    return labels, [f"In every row: {', '.join(same)}."] * bool(same)


def loss_text(c: float) -> str:
    """Write the loss of a signed coefficient: MSE, MSE − 2 Lip, MSE + 2 Lip."""
    return f"MSE {'−' if c < 0 else '+'} {abs(c):g} Lip" if c else "MSE"


def regularizer(row: Mapping[Any, Any]) -> str:
    """Name a cell's regularizer, e.g. "feature axis"."""
    norm = "" if row["norm"] in ("max", "") else f", lip_norm {row['norm']}"
    return f"{row['axis']} axis{norm}" if row["axis"] else "no run with Lip"


def select_metrics(frame: pd.DataFrame) -> pd.DataFrame:
    """Settle over which test windows the scores are taken, and the outcome of each run.

    Beside a published value those of whole batches (drop_last) as the paper scores, elsewhere all.
    Adds windows, mse, mae and the baselines' (last_mse, ...) over these, mse_all over all, and
    outcome: ok, failed (also a score that is not finite), unfinished, damaged.
    """
    drop_last = frame["published"].astype(bool)
    frame = frame.assign(mse_all=frame["mse"].astype(float))
    for name in (f"{method}{m}" for method in ("", *(f"{b}_" for b in BASELINES)) for m in METRICS):
        whole, part = frame.get(name, math.nan), frame.get(f"{name}_drop_last", math.nan)
        frame[name] = np.array(np.where(drop_last, part, whole), dtype=float)
    frame["windows"] = np.where(drop_last, "drop_last", "all")
    frame["outcome"] = frame["status"].replace("finished", "ok")
    lost = (frame["outcome"] == "ok") & ~np.isfinite(frame["mse_all"])
    frame.loc[lost, "outcome"] = "failed"
    return frame


def by_cell(scored: pd.DataFrame) -> pd.DataFrame:
    """Repeat the runs with c = 0 for each regularizer of their setting, so that CELL groups cells.

    Rows without settings are dropped; axis and norm stay "" in a setting without regularizer.
    """
    regularized = scored.loc[scored["c"].notna() & (scored["c"] != 0)]
    zero = scored.loc[scored["c"] == 0].drop(columns=["axis", "norm"])
    zero = zero.merge(regularized[CELL].drop_duplicates(), how="left")
    zero = zero.fillna({"axis": "", "norm": ""})
    zero = zero.iloc[(zero["lip_norm"] != zero["norm"]).argsort(kind="stable")]  # its own first
    whole = pd.concat([part for part in (zero, regularized) if len(part)] or [regularized])
    whole = whole.drop_duplicates([*CELL, "c", "seed"])
    return whole.sort_values(ORDER, kind="stable").reset_index(drop=True)
