"""Runs as one frame: from the folders that they leave behind, or from the committed study's CSV."""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.registry import DATASETS
from exp.config import REGULARIZER
from exp.record import read_arrays, read_history, read_runs
from paper.published import DEFAULTS, METRICS, default_settings, paper_settings, published
from utils.files import UserError, nearest, read_json
from utils.formats import FORMATS

HYPOTHESES = Path(__file__).with_name("hypotheses.toml")
STUDY_LINE = "The committed study: --results results/study."
BASELINES = {"last": "last value", "day": "seasonal naive (24 h)", "week": "seasonal naive (7 d)",
             "ridge": "ridge"}  # fmt: skip
CELL = ["results_version", "setting_id", "axis", "norm"]  # what the runs of a cell share
LABELS = ["c", "axis", "norm", "dataset", "cell", "lengths", "published", "overrides", "label",
          "sort_key"]  # fmt: skip
ORDER = ["sort_key", "label", "axis", "norm", "c", "seed"]
LENGTHS = ("seq_len", "label_len", "e_layers", "d_layers", "factor")
TEXTS = ("id", "setting_id", "data_sha256", "git_commit", "error", "cols", "s_layers", "started")
DAMAGED = ["run", "status", "error", "id", "setting_id", "results_version", "data_sha256",
           "data_file", *METRICS, "mse_drop_last", "mae_drop_last", "val_mse", "started",
           "processor", "threads", "device", "torch", "git_commit", "git_dirty", "wall_seconds",
           "step_seconds"]  # columns that are there even where no run has them  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """All runs of a results folder, or of the committed study; the rest is read when asked for."""

    frame: pd.DataFrame  # one row a run, ended or not, as `add_labels` returns it
    source: Path  # the folder of the runs, or of the study
    committed: bool = False  # the frame is the study's CSV: no folder of a run is there
    notes: list[str] = field(default_factory=list)  # sentences about what was read
    _side: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)

    def history(self, run: str) -> pd.DataFrame:
        """Return a run's epochs: train and validation MSE, LipReg on both axes, L_f, seconds."""
        if self.committed:
            return self._rows("histories", run).dropna(axis=1, how="all")
        return read_history(self.source / run)

    def trace(self, run: str) -> pd.DataFrame:
        """Return epoch and L_f of a run's training steps (about 300 points from the study)."""
        if self.committed:
            first, step, l_f = self._packed("l_f", run)
            return pd.DataFrame({"epoch": first + step * np.arange(len(l_f)), "l_f": l_f})
        arrays = read_arrays(self.source / run, "trace")
        return pd.DataFrame({name: arrays[name] for name in ("epoch", "l_f")})

    def by_step(self, run: str) -> np.ndarray:
        """Return a run's test MSE by forecast step [pred_len]."""
        return self._metric("by_step", run)

    def by_column(self, run: str) -> np.ndarray:
        """Return a run's test MSE by column of the data [C]."""
        return self._metric("by_column", run)

    def window_errors(self, run: str) -> np.ndarray:
        """Return a run's MSE by test window [windows]."""
        if self.committed:
            return self._packed("window_errors", run)[2]
        return read_arrays(self.source / run, "window_errors")["mse"].astype(float)

    def windows_a_week(self, row: Mapping[Any, Any]) -> int:
        """Return how many test windows begin within a week; 0 where the step is not known."""
        if row["data"] in DATASETS:
            step = DATASETS[row["data"]].step
        else:
            body = {} if self.committed else read_json(self.source / row["run"] / "config.json")
            freq = (body.get("scaler") or {}).get("step")
            if not freq:
                return 0
            first, second = pd.date_range("2000", periods=2, freq=freq)
            step = second - first
        week = pd.Timedelta("7D") / step
        return int(week) if week == int(week) else 0

    def _metric(self, name: str, run: str) -> np.ndarray:
        if self.committed:
            return self._packed(name, run)[2]
        path = self.source / run / "metrics.json"
        try:
            return np.array(read_json(path)[name]["mse"])
        except (FileNotFoundError, KeyError) as error:
            raise UserError(f"{path}: has no errors {name.replace('_', ' ')}") from error

    def _packed(self, name: str, run: str) -> tuple[float, float, np.ndarray]:
        row = self._rows(name, run).iloc[0]
        return row["first"], row["step"], np.array(str(row["values"]).split(), dtype=float)

    def _rows(self, name: str, run: str) -> pd.DataFrame:
        """Return one run's rows of one of the study's other CSV files."""
        path = self.source / f"{name}.csv"
        if name not in self._side:
            self._side[name] = pd.read_csv(path) if path.exists() else pd.DataFrame({"run": []})
        rows = self._side[name].query("run == @run")
        if rows.empty:
            raise UserError(f"{path}: has nothing on {run}")
        return rows.drop(columns="run").reset_index(drop=True)


def load(results: Path) -> Runs:
    """Read the runs of a folder, or the committed study: its CSV, there or, without runs, below.

    Raises:
        UserError: there is no such folder, or the study's CSV is damaged.
    """
    frame = read_runs(results)
    for folder in (results, results / "study") if frame.empty else ():
        if (path := folder / "runs.csv").exists():
            note = f"{results} holds no runs of its own: these are the committed study's."
            try:
                frame = add_labels(read_study(path))
            except (ValueError, KeyError) as error:
                raise UserError(f"{path}: not the study's CSV ({error}); restore it") from error
            return Runs(frame, folder, True, [note] * (folder != results))
    frame = frame.map(lambda value: ",".join(map(str, value)) if isinstance(value, list) else value)
    return Runs(add_labels(frame.rename(columns=current_name)), results)


def read_study(path: Path) -> pd.DataFrame:
    """Read the study's runs.csv, whose columns may have the names of earlier versions."""
    return pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str)).rename(columns=current_name)


def current_name(column: str) -> str:
    """Return what a column is called now."""
    return column.replace("_trunc", "_drop_last") if column.endswith("_trunc") else column


def add_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Say of each run which cell it belongs to, and sort the runs as the paper does.

    Args:
        frame: of `exp.record.read_runs`, lists written as text with commas.

    Returns:
        The frame with c (signed coefficient), axis and norm of the regularizer ("" at c = 0),
        dataset ("ETTh2"; for a custom file "FILE TARGET"), cell ("ETTh2 S 24"), lengths
        ("seq_len/label_len"), published (has a place in the paper's tables), overrides (settings
        unlike the paper's, "" if none), label (cell and all that sets it apart, for titles and
        file names), sort_key (the paper's order).
    """
    frame = frame.reindex(columns=[*dict.fromkeys([*frame.columns, *DEFAULTS, *DAMAGED])])
    added = [_label(row) for row in frame.to_dict("records")]
    frame = frame.join(pd.DataFrame(added, index=frame.index, columns=LABELS))
    for column, words in (("results_version", ", results version {:g}"), ("setting_id", " #{:.6}")):
        several = frame.groupby("label")[column].transform("nunique").to_numpy() > 1
        mark = frame.loc[several, column].map(words.format)  # else equal labels merge in a table
        for name in ("label", "lengths"):
            frame.loc[several, name] += mark
    return frame.sort_values(ORDER, kind="stable").reset_index(drop=True)


def _label(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Work out what a run's row says of its cell."""
    words = {name: text(value) for name, value in row.items()}
    model, features, horizon = words["model"], words["features"], int(words["pred_len"] or 0)
    dataset = words["data"] or "?"
    if dataset == "custom":
        file = words["data_file"] or f"custom {words['data_sha256'][:8]}"
        dataset = f"{file} {words['target']}"
    paper = paper_settings(model).get((words["data"], features, horizon), {})
    expected = default_settings(model) | {name: paper[name] for name in LENGTHS if paper}
    overrides = [f"{n} {words[n]}" for n, v in expected.items() if words[n] not in ("", text(v))]
    more = [name for name in REGULARIZER if name not in ("lip_coef", "lip_axis", "lip_norm")]
    kinds = [f"{n} {words[n]}" for n in more if words[n] not in ("", text(DEFAULTS[n]))]
    cell, lengths = f"{dataset} {features} {horizon}", f"{words['seq_len']}/{words['label_len']}"
    label = [cell if paper else f"{cell} ({lengths})", *overrides]
    label += [word for word in (model, words["amp"]) if word not in ("informer", "off", "")]
    order = [*dict.fromkeys(data for data, _, _ in paper_settings()), dataset]
    return {
        "c": float(row["lip_coef"]),
        "axis": words["lip_axis"] if row["lip_coef"] else "",
        "norm": ", ".join([words["lip_norm"], *kinds]) if row["lip_coef"] else "",
        "dataset": dataset,
        "cell": cell,
        "lengths": lengths,
        "published": bool(paper) and not overrides,
        "overrides": ", ".join(overrides),
        "label": ", ".join(label),
        "sort_key": ("SM".find(features) % 3, order.index(dataset), horizon),
    }


def text(value: Any) -> str:
    """Write a setting so that equal ones read equal, whatever pandas made of their type."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    words = f"{value:g}" if isinstance(value, float) else str(value)
    return "" if pd.isna(value) else words.encode(errors="replace").decode()  # names of files


def loss_text(c: float) -> str:
    """Write the loss of a signed coefficient: MSE, MSE − 2 Lip, MSE + 2 Lip."""
    size = f"{abs(c):g}".replace("e-0", "e-").replace("e-", "e−")
    return f"MSE {'−' if c < 0 else '+'} {size} Lip" if c else "MSE"


def regularizer(row: Mapping[Any, Any]) -> str:
    """Name a cell's regularizer, e.g. "feature axis"."""
    norm = "" if row["norm"] in ("max", "") else f", lip_norm {row['norm']}"
    return f"{row['axis']} axis{norm}" if row["axis"] else "no run with Lip"


def select_metrics(frame: pd.DataFrame, score: str | None = None) -> pd.DataFrame:
    """Settle over which test windows the scores are taken, and what came of each run.

    All, or those of whole batches (drop_last) as the paper scores; by default the latter where a
    published value is beside the cell. Adds windows, mse, mae and the baselines' (last_mse, ...)
    over these, mse_all over all, and outcome: ok, failed (also a score that is not finite), few
    windows (fewer than a batch of 32), unfinished, damaged.
    """
    drop_last = frame["published"].astype(bool) if score is None else score == "drop_last"
    finite = np.isfinite(frame["mse"].astype(float))
    frame = frame.assign(mse_all=frame["mse"].astype(float))
    for name in (f"{method}{m}" for method in ("", *(f"{b}_" for b in BASELINES)) for m in METRICS):
        whole, part = frame.get(name, math.nan), frame.get(f"{name}_drop_last", math.nan)
        frame[name] = np.array(np.where(drop_last, part, whole), dtype=float)
    frame["windows"] = np.where(drop_last, "drop_last", "all")
    frame["outcome"] = frame["status"].replace("finished", "ok")
    done = frame["outcome"] == "ok"
    frame.loc[done & ~np.isfinite(frame["mse"]), "outcome"] = "few windows"
    frame.loc[done & ~finite, "outcome"] = "failed"
    return frame


def left_out(scored: pd.DataFrame) -> list[str]:
    """Return a sentence for each kind of run that no mean is taken from."""
    notes = []
    for outcome, group in scored.loc[scored["outcome"] != "ok"].groupby("outcome", dropna=False):
        why = " (fewer than 32 test windows: --score all shows them)" * (outcome == "few windows")
        more = f" and {len(group) - 3} more" * (len(group) > 3)
        notes.append(f"Left out, {outcome}{why}: {', '.join(group['run'][:3])}{more}.")
        notes += [f"  {error}" for error in group["error"].dropna() if outcome == "damaged"]
    return notes


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


FLAGS: dict[str, dict[str, Any]] = {  # that several commands have
    "results": {"type": Path, "default": Path("results"), "help": "folder of runs (%(default)s)"},
    "data": {"help": "data set, or file name of own data (all)"},
    "features": {"choices": ("S", "M", "MS"), "help": "S: Table 2, M: Table 5 (all)"},
    "axis": {"choices": ("feature", "time"), "help": "axis of the regularizer (all)"},
    "amp": {"choices": ("off", "bf16", "tf32"), "help": "precision (all)"},
    "score": {"choices": ("drop_last", "all"), "help": "windows (drop_last beside the published)"},
    "format": {"choices": FORMATS, "default": FORMATS[0], "help": "csv: unrounded (%(default)s)"},
    "out": {"type": Path, "help": "file to write (the terminal)"},
}


def add_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add flags to a command."""
    for name in names:
        parser.add_argument(f"--{name}", **FLAGS[name])


def select(frame: pd.DataFrame, args: argparse.Namespace) -> tuple[pd.DataFrame, list[str]]:
    """Keep the runs that the flags ask for, c = 0 for every axis; a UserError: no such data."""
    asked = {name: getattr(args, name, None) for name in ("data", "features", "axis", "amp")}
    if data := asked["data"]:
        names = frame[["dataset", "data", "data_file"]].fillna("").apply(lambda x: x.str.lower())
        same = (names == data.lower()).any(axis=1)
        known = {*frame["dataset"], *published().index.unique("data")}
        if not same.any() and data.lower() not in {name.lower() for name in known}:
            have, hint = ", ".join(sorted({*frame["dataset"]})) or "none", nearest(data, known)
            raise UserError(f"--data {data}: unknown{hint}; data sets with runs: {have}")
        frame = frame.loc[same]
    for column in ("features", "amp", "axis"):
        if value := asked[column]:
            frame = frame.loc[(frame[column] == value) | ((frame["c"] == 0) & (column == "axis"))]
    words = ", ".join(filter(None, asked.values()))
    return frame, [f"No run of {words}." if words else "There are no runs."] * frame.empty
