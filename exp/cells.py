"""Runs grouped into cells: one setting each, never mixed, with lambda chosen on validation."""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exp.config import Config

PAPER = Path(__file__).resolve().parents[1] / "paper" / "printed"
LENGTHS = ("seq_len", "label_len", "e_layers", "d_layers", "factor")
BASELINES = ("last", "day", "ridge")
SIGNS = ("zero", "minus", "plus")
SIGN_TEXT = {"zero": "c = 0", "minus": "c < 0", "plus": "c > 0"}
ATTRIBUTES = ("model", "data", "features", "pred_len", "lengths", "axis", "amp", "differs")
LIPREG = {"lip_coef", "lip_axis", "lip_norm"}
FIELDS = {field.name: field.default for field in dataclasses.fields(Config)}
SETTING = [*(name for name in FIELDS if name not in {"seed", *LIPREG}), "data_sha256"]


@dataclass(frozen=True)
class Cell:
    """All runs of one setting and one axis, c = 0 included.

    Attributes:
        model: informer, informerstack, ...
        data: name of the data set; a custom file carries its checksum's start.
        features: S, M or MS.
        pred_len: horizon in steps.
        lengths: "seq_len/label_len".
        axis: time or feature; None where no run has the regularizer.
        amp: off or bf16.
        differs: settings unlike the paper's, e.g. "d_model 64, factor 3"; "" when all agree.
        itr: repetitions behind the printed value; None outside the paper's tables.
        runs: one row a run: seed, c (signed), lam (|c|), mse, mae, val_mse, {baseline}_{mse,mae}.
    """

    model: str
    data: str
    features: str
    pred_len: int
    lengths: str
    axis: str | None
    amp: str
    differs: str
    itr: int | None
    runs: pd.DataFrame = dataclasses.field(repr=False)

    @property
    def table(self) -> tuple[bool, str, str, str, str]:
        """What the cells of one table share: in the paper, features, differs, axis, precision."""
        return (self.itr is not None, self.features, self.differs, self.axis or "", self.amp)

    def baseline(self, name: str, metric: str) -> float:
        """Return a baseline's error, equal for all runs of the cell; NaN if none has it."""
        values = self.runs[f"{name}_{metric}"].dropna()
        return float(values.iloc[0]) if len(values) else math.nan


@dataclass(frozen=True)
class Arm:
    """One run a seed of one sign, lambda chosen.

    Attributes:
        runs: index seed, columns as in Cell.runs.
        lam: the lambda chosen and how often, e.g. "2 (3/5), 4 (2/5)"; "" at c = 0.
        note: what kept lambda from being chosen, or some seeds out; "" otherwise.
    """

    runs: pd.DataFrame
    lam: str = ""
    note: str = ""


def usable_runs(frame: pd.DataFrame, score: str) -> tuple[pd.DataFrame, list[str]]:
    """Keep the finished, finite runs of the newest results version.

    Args:
        frame: as `exp.record.read_runs` returns it.
        score: truncated or all: the test windows that mse, mae and the baselines are taken over.

    Returns:
        The runs with columns as in Cell.runs beside their settings, and a sentence for each
        kind of run left out.
    """
    if frame.empty:
        return frame, ["There are no runs."]
    notes = [
        f"Left out, {status}: {_named(group)}."
        for status, group in frame.loc[frame["status"] != "finished"].groupby("status")
    ]
    runs = frame.loc[frame["status"] == "finished"].copy()
    if runs.empty:
        return runs, ["There are no finished runs.", *notes]
    suffix = "_trunc" if score == "truncated" else ""
    for name in ("", *(f"{baseline}_" for baseline in BASELINES)):
        for metric in ("mse", "mae"):
            runs[f"{name}{metric}"] = runs.get(f"{name}{metric}{suffix}", math.nan)
    finite = np.isfinite(runs[["mse", "mae", "val_mse"]].to_numpy(dtype=float)).all(axis=1)
    if not finite.all():
        notes.append(f"Left out, no finite score ({score} windows): {_named(runs.loc[~finite])}.")
    runs = runs.loc[finite]
    newest = runs["results_version"].max()
    for version, group in runs.loc[runs["results_version"] != newest].groupby("results_version"):
        notes.append(
            f"Left out, results version {version:g} (the newest is {newest:g}): {_named(group)}."
        )
    runs = runs.loc[runs["results_version"] == newest]
    return runs.assign(c=runs["lip_coef"].astype(float), lam=runs["lip_coef"].abs()), notes


def _named(runs: pd.DataFrame) -> str:
    shown = ", ".join(runs["run"].head(3))
    more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''} ({shown}{more})"


@functools.cache
def paper_settings() -> dict[tuple[str, str, int], dict[str, Any]]:
    """Read the settings of the paper's Informer rows.

    Returns:
        (data set, features, pred_len) -> lengths, layers, factor and itr, in the paper's order.
    """
    rows = pd.read_csv(PAPER / "informer_settings.csv").to_dict("records")
    return {
        (row["dataset"], row["features"], row["pred_len"]): {str(k): v for k, v in row.items()}
        for row in rows
    }


def find_cells(runs: pd.DataFrame) -> list[Cell]:
    """Group usable runs into cells.

    Two runs share a cell only if they agree in every setting but seed and c. Runs with c = 0 belong
    to both axes and to every normalisation.

    Args:
        runs: as `usable_runs` returns them.

    Returns:
        The cells in order of first appearance, those of one table for each of its axes.
    """
    if runs.empty:
        return []
    texts = runs.reindex(columns=SETTING).map(_text)
    groups = [
        ({name: texts.at[group.index[0], name] for name in SETTING}, group)
        for _, group in runs.groupby(texts.agg("|".join, axis=1), sort=False)
    ]
    axes: dict[tuple[Any, ...], set[str]] = {}
    for setting, group in groups:
        found = axes.setdefault(_shared(setting), set())
        found |= {axis for axis, norm in _arms(group) if norm == "max"}
    cells = [
        _cell(setting, group, axis, norm)
        for setting, group in groups
        for axis, norm in [
            *((axis, "max") for axis in sorted(axes[_shared(setting)]) or [None]),
            *((axis, norm) for axis, norm in sorted(_arms(group)) if norm != "max"),
        ]
    ]
    return [cell for cell in cells if len(cell.runs)]


def _arms(group: pd.DataFrame) -> set[tuple[str, str]]:
    regularized = group.loc[group["c"] != 0]
    return set(zip(regularized["lip_axis"], regularized["lip_norm"], strict=True))


def _shared(setting: dict[str, str]) -> tuple[Any, ...]:
    differs, itr = _difference(setting)
    return (itr is not None, setting["features"], differs, setting["amp"])


def _difference(setting: dict[str, str]) -> tuple[str, int | None]:
    """Compare a setting with the paper's row, or where it has none with the protocol's defaults."""
    expected = {name: _text(value) for name, value in FIELDS.items()}
    row = paper_settings().get((setting["data"], setting["features"], int(setting["pred_len"])))
    printed = row if setting["model"] == "informer" else None
    named = {"model", "data", "features", "pred_len", "target", "amp", "data_sha256"}
    if printed:
        expected |= {name: _text(printed[name]) for name in LENGTHS}
    else:
        named |= {"seq_len", "label_len"}  # shown in each row instead
    values = {name: setting[name] for name in SETTING if name not in named}
    differs = [f"{k} {v}" for k, v in values.items() if v not in ("none", expected[k])]
    return ", ".join(differs), printed["itr"] if printed else None


def _cell(setting: dict[str, str], group: pd.DataFrame, axis: str | None, norm: str) -> Cell:
    differs, itr = _difference(setting)
    if norm != "max":
        differs = ", ".join(filter(None, [differs, f"lip_norm {norm}"]))
    arm = (group["lip_axis"] == axis) & (group["lip_norm"] == norm)
    runs = group.loc[(group["c"] == 0) | arm].drop_duplicates(["c", "seed"])
    mark = f" {setting['data_sha256'][:8]}" if setting["data"] == "custom" else ""
    return Cell(
        model=setting["model"],
        data=setting["data"] + mark,
        features=setting["features"],
        pred_len=int(setting["pred_len"]),
        lengths=f"{setting['seq_len']}/{setting['label_len']}",
        axis=axis,
        amp=setting["amp"],
        differs=differs,
        itr=itr,
        runs=runs.sort_values(["c", "seed"]),
    )


def _text(value: Any) -> str:
    """Write a setting so that equal ones read equal, whatever pandas made of their type."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "none"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def of_sign(cell: Cell, sign: str) -> pd.DataFrame:
    """Return the cell's runs with c = 0 (zero), c < 0 (minus) or c > 0 (plus)."""
    return cell.runs.loc[np.sign(cell.runs["c"]) == {"zero": 0, "minus": -1, "plus": 1}[sign]]


def choose(cell: Cell, sign: str) -> Arm:
    """Choose lambda within a sign, for each seed by the validation MSE of the other seeds.

    A seed's own score plays no part in the choice made for it, so the mean over seeds is not
    lowered by having chosen.

    Args:
        cell: the runs.
        sign: zero, minus or plus.

    Returns:
        One run a seed; none, and a note, where several lambdas share fewer than two seeds.
    """
    runs = of_sign(cell, sign)
    lams = sorted(runs["lam"].unique())
    if len(lams) < 2:
        lam = f"{lams[0]:g}" if lams and sign != "zero" else ""
        return Arm(runs.set_index("seed"), lam)
    validation = runs.pivot(index="seed", columns="lam", values="val_mse")  # [seeds, lambdas]
    complete = validation.dropna()
    tried = ", ".join(f"{lam:g}" for lam in lams)
    if len(complete) < 2:
        return Arm(
            runs.set_index("seed").iloc[:0],
            note=f"{SIGN_TEXT[sign]}, λ of {tried}: not chosen, which takes two seeds with all of "
            f"them, here {len(complete)}",
        )
    sums = (complete.sum() - complete).to_numpy()  # [seeds, lambdas]: over the other seeds
    best = [lams[place] for place in sums.argmin(axis=1)]
    pairs = list(zip(complete.index, best, strict=True))
    chosen = runs.set_index(["seed", "lam"]).loc[pairs].reset_index("lam")
    counts = sorted(Counter(best).items())
    lam = ", ".join(f"{lam:g} ({count}/{len(best)})" for lam, count in counts)
    lost = [f"{seed:g}" for seed in validation.index.difference(complete.index)]
    note = f"{SIGN_TEXT[sign]}: left out, for lack of some λ of {tried}: seeds {', '.join(lost)}"
    return Arm(chosen, lam, note if lost else "")


def attributes(cell: Cell) -> dict[str, Any]:
    """Return what a frame's row says of its cell."""
    return {"table": cell.table, **{name: getattr(cell, name) for name in ATTRIBUTES}}


def each_arm(cell: Cell) -> Iterator[tuple[str, Arm]]:
    """Yield every sign that has runs with its arm; one per lambda where none could be chosen."""
    for sign in SIGNS:
        runs = of_sign(cell, sign)
        arm = choose(cell, sign)
        if len(arm.runs):
            yield sign, arm
            continue
        for lam, group in runs.groupby("lam"):
            yield sign, Arm(group.set_index("seed"), f"{lam:g} (not chosen)", arm.note)
