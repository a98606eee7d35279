"""Runs as one frame: from the folders that they leave behind, or from the committed study's CSV."""

import argparse
import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exp.record import read_arrays, read_history, read_runs
from utils.files import UserError, nearest, read_json
from utils.formats import FORMATS

PRINTED = Path(__file__).with_name("published")
BASELINES = {"last": "last value", "day": "a day ago", "week": "a week ago", "ridge": "ridge"}
METRICS = ("mse", "mae")
CELL = ["results_version", "setting_id", "axis", "norm"]  # what the runs of a cell share
DESCRIBED = ["c", "axis", "norm", "dataset", "cell", "lengths", "printed", "differs", "label",
             "place"]  # fmt: skip
ORDER = ["place", "label", "axis", "norm", "c", "seed"]
LENGTHS = ("seq_len", "label_len", "e_layers", "d_layers", "factor")
TEXTS = ("id", "setting_id", "data_sha256", "git_commit", "error", "cols", "s_layers", "started")
PROTOCOL = {  # of the paper's Informer rows: what a cell's `differs` is measured against
    "freq": "h", "cols": None, "d_model": 512, "n_heads": 8, "e_layers": 2, "d_layers": 1,
    "s_layers": "3,2,1", "d_ff": 2048, "factor": 5, "padding": 0, "distil": True, "mix": True,
    "dropout": 0.05, "attn": "prob", "embed": "timeF", "activation": "gelu",
    "output_attention": False, "moving_avg": 25, "batch_size": 32, "patience": 3,
    "learning_rate": 1e-4, "lradj": "type1", "loss": "mse", "eval_batch_size": 32,
    "missing": "keep",
}  # fmt: skip
PRINTED_MODELS = ("informer", "transformer", "autoformer")
EPOCHS = {"transformer": 10, "autoformer": 10}  # assumed: their settings are not published
NEEDED = [  # columns that are there even where no run has them
    "run", "status", "error", "id", "setting_id", "results_version", "model", "data", "features",
    "target", "amp", "seed", "lip_coef", "lip_axis", "lip_norm", "data_sha256", "data_file",
    "pred_len", "mse", "mae", "mse_trunc", "mae_trunc", "val_mse", "started", "processor",
    "device", "torch", "git_commit", "wall_seconds", "step_seconds", *LENGTHS, *PROTOCOL,
]  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """All runs of a results folder, or of the committed study.

    Beside the frame, what a run recorded is read when asked for: a UserError if it is not there.
    """

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
        if self.committed:
            return self._packed("by_step", run)[2]
        path = self.source / run / "metrics.json"
        try:
            return np.array(read_json(path)["by_step"]["mse"])
        except (FileNotFoundError, KeyError) as error:
            raise UserError(f"{path}: has no errors by step") from error

    def window_errors(self, run: str) -> np.ndarray:
        """Return a run's MSE by test window [windows]."""
        if self.committed:
            return self._packed("window_errors", run)[2]
        return read_arrays(self.source / run, "window_errors")["mse"].astype(float)

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
    """Read the runs of a folder, or the committed study.

    The folder holds runs' folders; or the study's CSV; or, without any run, study/runs.csv, as a
    fresh clone's results do.

    Raises:
        UserError: there is no such folder, or the study's CSV is damaged.
    """
    frame = read_runs(results)
    for folder in (results, results / "study") if frame.empty else ():
        if (path := folder / "runs.csv").exists():
            note = f"{results} holds no runs of its own: these are the committed study's."
            try:
                frame = add_labels(pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str)))
            except (ValueError, KeyError) as error:
                raise UserError(f"{path}: not the study's CSV ({error}); restore it") from error
            return Runs(frame, folder, True, [note] * (folder != results))
    frame = frame.map(lambda value: ",".join(map(str, value)) if isinstance(value, list) else value)
    return Runs(add_labels(frame), results)


@functools.cache
def paper_settings(model: str = "informer") -> dict[Any, dict[Any, Any]]:
    """Return a model's rows in the paper: (data, features, pred_len) -> lengths, layers, itr."""
    key, path = ["dataset", "features", "pred_len"], PRINTED / f"{model}_settings.csv"
    frame = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=key)
    return frame.set_index(key).to_dict("index")


def add_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Say of each run which cell it belongs to, and sort the runs as the paper does.

    Args:
        frame: of `exp.record.read_runs`, lists written as text with commas.

    Returns:
        The frame with c (signed coefficient), axis and norm of the regularizer ("" at c = 0),
        dataset ("ETTh2"; for a custom file "FILE TARGET"), cell ("ETTh2 S 24"), lengths
        ("seq_len/label_len"), printed (has a place in the paper's tables), differs (settings
        unlike the paper's, "" if none), label (cell and all that sets it apart, for sentences,
        titles and file names), place (in the paper's order).
    """
    frame = frame.rename(columns=lambda name: str(name).replace("_drop_last", "_trunc"))
    frame = frame.reindex(columns=[*dict.fromkeys([*frame.columns, *NEEDED])])
    added = [_described(row) for row in frame.to_dict("records")]
    frame = frame.join(pd.DataFrame(added, index=frame.index, columns=DESCRIBED))
    for column, words in (("results_version", ", results version {:g}"), ("setting_id", " #{:.6}")):
        several = frame.groupby("label")[column].transform("nunique").to_numpy() > 1
        mark = frame.loc[several, column].map(words.format)  # else equal labels merge in a table
        for name in ("label", "lengths"):
            frame.loc[several, name] += mark
    return frame.sort_values(ORDER, kind="stable").reset_index(drop=True)


def _described(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Work out what a run's row says of its cell."""
    words = {name: text(value) for name, value in row.items()}
    model, features, horizon = words["model"], words["features"], int(words["pred_len"] or 0)
    dataset = words["data"] or "?"
    if dataset == "custom":
        file = words["data_file"] or f"custom {words['data_sha256'][:8]}"
        dataset = f"{file} {words['target']}"
    paper = paper_settings(model).get((words["data"], features, horizon), {})
    expected = {**PROTOCOL, "train_epochs": EPOCHS.get(model, 6)}
    expected |= {name: paper[name] for name in LENGTHS if paper}
    differs = [f"{n} {words[n]}" for n, v in expected.items() if words[n] not in ("", text(v))]
    cell, lengths = f"{dataset} {features} {horizon}", f"{words['seq_len']}/{words['label_len']}"
    label = [cell if paper else f"{cell} ({lengths})", *differs]
    label += [word for word in (model, words["amp"]) if word not in ("informer", "off", "")]
    order = [*dict.fromkeys(data for data, _, _ in paper_settings()), dataset]
    return {
        "c": float(row["lip_coef"]),
        "axis": words["lip_axis"] if row["lip_coef"] else "",
        "norm": words["lip_norm"] if row["lip_coef"] else "",
        "dataset": dataset,
        "cell": cell,
        "lengths": lengths,
        "printed": bool(paper) and not differs,
        "differs": ", ".join(differs),
        "label": ", ".join(label),
        "place": ("SM".find(features) % 3, order.index(dataset), horizon),
    }


def text(value: Any) -> str:
    """Write a setting so that equal ones read equal, whatever pandas made of their type."""
    words = f"{value:g}" if isinstance(value, float) else str(value)
    return "" if pd.isna(value) else words


def select_metrics(frame: pd.DataFrame, score: str | None = None) -> pd.DataFrame:
    """Settle over which test windows the scores are taken, and what came of each run.

    The windows are all, or truncated, as the released code and so the paper score; by default
    truncated where a print is beside the cell, all elsewhere.

    Returns:
        The frame with windows (all, truncated), mse, mae and the baselines' (last_mse, ...) over
        these, and outcome: ok, failed (also a score that is not finite), few windows (no
        truncated score, since that takes 32), unfinished, damaged.
    """
    frame = frame.copy()
    truncated = frame["printed"].astype(bool) if score is None else score == "truncated"
    finite = np.isfinite(frame["mse"].astype(float))
    for name in (f"{method}{m}" for method in ("", *(f"{b}_" for b in BASELINES)) for m in METRICS):
        whole, part = frame.get(name, math.nan), frame.get(f"{name}_trunc", math.nan)
        frame[name] = np.array(np.where(truncated, part, whole), dtype=float)
    frame["windows"] = np.where(truncated, "truncated", "all")
    frame["outcome"] = frame["status"].replace("finished", "ok")
    done = frame["outcome"] == "ok"
    frame.loc[done & ~np.isfinite(frame["mse"]), "outcome"] = "few windows"
    frame.loc[done & ~finite, "outcome"] = "failed"
    return frame


def left_out(scored: pd.DataFrame) -> list[str]:
    """Return a sentence for each kind of run that no mean is taken from."""
    notes = []
    for outcome, group in scored.loc[scored["outcome"] != "ok"].groupby("outcome"):
        why = " (fewer than 32 test windows: --score all shows them)" * (outcome == "few windows")
        more = f" and {len(group) - 3} more" * (len(group) > 3)
        notes.append(f"Left out, {outcome}{why}: {', '.join(group['run'][:3])}{more}.")
        notes += [f"  {error}" for error in group["error"].dropna() if outcome == "damaged"]
    return notes


def by_cell(scored: pd.DataFrame) -> pd.DataFrame:
    """Repeat the runs with c = 0 for each regularizer of their setting, so that CELL groups cells.

    An arm is a cell's runs of one c: `by_cell(frame).groupby([*CELL, "c"])`. Rows without settings
    are dropped; axis and norm stay "" in a setting without any run with c != 0.
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
    "amp": {"choices": ("off", "bf16"), "help": "precision (all)"},
    "score": {"choices": ("truncated", "all"), "help": "windows (truncated beside a print)"},
    "format": {"choices": FORMATS, "default": FORMATS[0], "help": "csv: unrounded (%(default)s)"},
    "standalone": {"action": "store_true", "help": "LaTeX as a document, not tabulars"},
    "out": {"type": Path, "help": "file to write (the terminal)"},
}


def add_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add some of FLAGS to a command."""
    for name in names:
        parser.add_argument(f"--{name}", **FLAGS[name])


def select(frame: pd.DataFrame, args: argparse.Namespace) -> tuple[pd.DataFrame, list[str]]:
    """Keep the runs that the flags given ask for, c = 0 for every axis, or say that there are none.

    Raises:
        UserError: no such data set, here or in the paper.
    """
    asked = {name: getattr(args, name, None) for name in ("data", "features", "axis", "amp")}
    if data := asked["data"]:
        paper = itertools.chain.from_iterable(map(paper_settings, PRINTED_MODELS))
        known = {*frame["dataset"], *(data for data, _, _ in paper)}
        names = [n for n in known if data.lower() in (n.lower(), n.lower().rsplit(" ", 1)[0])]
        if not names:
            have, hint = ", ".join(sorted({*frame["dataset"]})) or "none", nearest(data, known)
            raise UserError(f"--data {data}: unknown{hint}; data sets with runs: {have}")
        frame = frame.loc[frame["dataset"].isin(names)]
    for column in ("features", "amp", "axis"):
        if value := asked[column]:
            frame = frame.loc[(frame[column] == value) | ((frame["c"] == 0) & (column == "axis"))]
    words = ", ".join(filter(None, asked.values()))
    return frame, [f"No run of {words}." if words else "There are no runs."] * frame.empty
