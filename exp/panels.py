"""The panels of the figures: what the runs of one cell show, with the printed curve behind."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from exp.cells import PAPER, SIGN_TEXT, SIGNS, Cell, choose, of_sign
from exp.record import read_arrays, read_history
from utils.errors import UserError
from utils.files import read_json
from utils.stats import mean_interval

# Okabe and Ito's colours; line style and marker tell the signs apart without any colour.
COLOR = {"zero": "#000000", "minus": "#D55E00", "plus": "#0072B2"}
LINE = {"zero": "-", "minus": "--", "plus": "-."}
MARKER = {"zero": "o", "minus": "v", "plus": "^"}
PRINTED = "#8c8c8c"
LAM_NOTE = (
    "Of several λ, the one chosen most often on validation is shown; where none could be chosen, "
    "the one with most seeds."
)
FIGURE2 = (("original", "printed, c = 0", "-"), ("lip", "printed, c < 0", ":"))


def shown_runs(cell: Cell) -> dict[str, pd.DataFrame]:
    """Return all runs of one λ a sign: the one chosen most often on validation.

    Where none could be chosen, the one with most seeds.
    """
    shown = {}
    for sign in SIGNS:
        runs, chosen = of_sign(cell, sign), choose(cell, sign).runs
        if len(runs):
            lam = (chosen if len(chosen) else runs)["lam"].mode().iloc[0]
            shown[sign] = runs[runs["lam"] == lam]
    return shown


def head(cell: Cell) -> str:
    """Write a panel's title: horizon, lengths, and the runs shown."""
    parts = [f"{coefficient(runs)} (n = {len(runs)})" for runs in shown_runs(cell).values()]
    return f"{horizon(cell)}\n{'c = ' + ', '.join(parts) if parts else 'no runs'}"


def coefficient(runs: pd.DataFrame) -> str:
    """Write the signed c that some runs share."""
    c = runs["c"].iloc[0]
    return f"{c:+g}".replace("-", "−") if c else "0"


def horizon(cell: Cell) -> str:
    """Write a cell's horizon and its input's lengths."""
    return f"pred_len {cell.pred_len} (seq/label {cell.lengths})"


def read_each(
    runs: pd.DataFrame, read: Callable[[Path], Any], results: Path
) -> tuple[list[Any], list[str]]:
    """Read a file of every run.

    Returns:
        What was read, and a sentence for each file that is missing or damaged.
    """
    found, gaps = [], []
    for run in runs["run"]:
        try:
            found.append(read(results / run))
        except FileNotFoundError as error:
            gaps.append(f"{error.filename}: not there.")
        except UserError as error:
            gaps.append(f"{error}.")
    return found, gaps


def norm(cell: Cell) -> str:
    """Return the normalisation of the cell's regularizer; the published one where it has none."""
    return next(iter(cell.runs.loc[cell.runs["c"] != 0, "lip_norm"]), "max")


def continuity_panel(axis: Axes, cell: Cell, results: Path, printed: pd.DataFrame) -> list[str]:
    """Draw L_f over epochs, in training mode by step and in evaluation mode by epoch (Figure 2).

    Args:
        axis: where.
        cell: the runs.
        results: their folder.
        printed: the paper's curves, none outside its cells.

    Returns:
        A sentence for each file that is missing.
    """
    for series, label, line in FIGURE2 if len(printed) else ():
        curve = printed[printed["series"] == series].set_index("epoch")["lipschitz_constant"]
        axis.plot(curve, line, color=PRINTED, linewidth=0.8, label=label)
    gaps = []
    for sign, runs in shown_runs(cell).items():
        same = runs.loc[runs["lip_norm"] == norm(cell)]  # L_f is that of the scaled embedding
        traces, lost = read_each(same, lambda folder: read_arrays(folder, "trace"), results)
        epochs, lost_too = read_each(same, read_history, results)
        gaps += lost + lost_too
        look: dict[str, Any] = {"color": COLOR[sign], "mfc": "none"}
        if traces:
            curves = [pd.Series(trace["l_f"], trace["epoch"]) for trace in traces]
            mean = pd.concat(curves, axis=1).mean(axis=1)
            width = max(1, int(np.sum(mean.index <= 1)) // 10)
            smooth = mean.rolling(width, center=True, min_periods=1).mean()
            axis.plot(smooth, LINE[sign], label=f"{SIGN_TEXT[sign]}, training", **look)
        if epochs:
            points = [history.set_index("epoch")["eval_l_f"] for history in epochs]
            mean = pd.concat(points, axis=1).mean(axis=1)
            axis.plot(mean, MARKER[sign], label=f"{SIGN_TEXT[sign]}, evaluation", **look)
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title(head(cell))
    return gaps


def lambda_panel(axis: Axes, cell: Cell, results: Path, printed: pd.DataFrame) -> list[str]:
    """Draw test MSE against signed λ, where loss = MSE - λ LipReg (Figure 3)."""
    del results  # the scores are in the cell
    if len(printed):
        curve = printed.set_index("lam")["mse"]
        axis.plot(curve, "s:", color=PRINTED, ms=3, linewidth=1, label="printed")
    counts = cell.runs.groupby(-cell.runs["c"]).size()
    if len(counts):
        groups = [cell.runs.loc[-cell.runs["c"] == lam, "mse"] for lam in counts.index]
        mean, low, high = np.array([mean_interval(values) for values in groups]).T
        axis.fill_between(counts.index, low, high, color="#56B4E9", alpha=0.3, linewidth=0)
        axis.errorbar(
            counts.index,
            mean,
            [mean - low, high - mean],
            color="#333333",
            elinewidth=0.8,
            capsize=2,
            label="mean, 95 % interval",
        )
    for sign in shown_runs(cell):
        runs, color = of_sign(cell, sign), COLOR[sign]
        label = f"a seed, {SIGN_TEXT[sign]}"
        axis.plot(-runs["c"], runs["mse"], MARKER[sign], color=color, mfc="none", label=label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    found = sorted(set(counts.tolist()))
    n = " to ".join(map(str, found[:1] + found[1:][-1:]))
    axis.set_title(f"{horizon(cell)}\n{f'n = {n} seeds a point' if n else 'no runs'}")
    return []


def step_panel(axis: Axes, cell: Cell, results: Path, printed: pd.DataFrame) -> list[str]:
    """Draw the test MSE of each forecast step."""
    del printed  # the paper has none
    gaps = []
    for sign, runs in shown_runs(cell).items():
        found, lost = read_each(runs, lambda folder: read_json(folder / "metrics.json"), results)
        gaps += lost
        if found:
            errors = np.array([body["by_step"]["mse"] for body in found], dtype=float)  # [n, T]
            mean, low, high = mean_interval(errors.T)
            steps = np.arange(1, len(mean) + 1)
            axis.fill_between(steps, low, high, color=COLOR[sign], alpha=0.15, linewidth=0)
            axis.plot(steps, mean, LINE[sign], color=COLOR[sign], label=SIGN_TEXT[sign])
    axis.set_title(head(cell))
    return gaps


def window_panel(axis: Axes, sign: str, samples: dict[str, np.ndarray], rank: str) -> None:
    """Draw the forecast of one test window against the truth, in original units.

    Args:
        axis: where; the window's error and date are added to its title.
        sign: zero, minus or plus.
        samples: the run's samples.npz.
        rank: best, median or worst.
    """
    i = samples["rank"].tolist().index(rank)
    truth, pred = samples["truth"][i], samples["pred"][i]
    past = samples["history"][i][-2 * len(truth) :]
    hours = float(samples["step_seconds"]) / 3600
    ahead = np.arange(len(truth)) * hours
    axis.axvline(0, color="#cccccc", linewidth=0.8)
    axis.plot(np.arange(-len(past), 0) * hours, past, color="#777777", linewidth=0.9)
    axis.plot(ahead, truth, color="#777777", linewidth=1.6, label="truth")
    label = f"forecast, {SIGN_TEXT[sign]}"
    axis.plot(ahead, pred, LINE[sign], color=COLOR[sign], linewidth=1.3, label=label)
    first = pd.Timestamp(str(samples["first"][i])).strftime("%Y-%m-%d %H:%M")
    axis.set_title(f"{axis.get_title()}: MSE {samples['mse'][i]:.3g}\n{first}")


@dataclass(frozen=True)
class Kind:
    """A kind of figure with one panel a horizon.

    Attributes:
        name: start of the file name; the printed curves, if any, are in paper/<name>.csv.
        title: what it shows.
        x: label of the x axis, with its unit.
        y: label of the y axis, with its unit.
        panel: draws one panel and returns what was missing.
        caption: what lines and points are; {score} stands for the test windows scored.
    """

    name: str
    title: str
    x: str
    y: str
    panel: Callable[[Axes, Cell, Path, pd.DataFrame], list[str]]
    caption: str

    def printed(self, cell: Cell) -> pd.DataFrame:
        """Return the printed curves for the cell's settings: ETTh2, S; none for all others."""
        path = PAPER / f"{self.name}.csv"
        if cell.table[:3] != (True, "S", "") or cell.data != "ETTh2" or not path.exists():
            return pd.DataFrame(columns=["series"])
        frame = pd.read_csv(path)
        horizons = frame["pred_len"] if "pred_len" in frame else pd.Series(24, frame.index)
        return frame.loc[horizons == cell.pred_len]


KINDS = (
    Kind(
        "figure2",
        "L_f of the embedded input over training",
        "epoch",
        "$L_f$ of the embedding (no unit)",
        continuity_panel,
        "L_f (Eq. 2): the largest step along time, mean over batch and channels, after the "
        "normalisation named above. Lines: training mode (with dropout), mean over the seeds still "
        "in training, smoothed by a centred running mean over a tenth of an epoch. Points: "
        "evaluation mode, mean over seeds, one fixed validation batch after each epoch. "
        f"{LAM_NOTE} Grey: the paper's Figure 2 as printed, where it has one (ETTh2 S 24).",
    ),
    Kind(
        "figure3",
        "Test MSE against signed λ",
        "signed λ = −c (loss = MSE − λ LipReg)",
        "test MSE (scaled data)",
        lambda_panel,
        "λ > 0 subtracts the regularizer. Points: seeds. Line, bars and band: mean over seeds and "
        "its 95 % t interval, where there are two or more. Grey: the paper's Figure 3 as printed, "
        "where it has one (ETTh2 S). Seeds are paired: whether signs differ is read off the "
        "differences by seed, not off the bands. {score} test windows.",
    ),
    Kind(
        "steps",
        "Test MSE by forecast step",
        "forecast step",
        "test MSE (scaled data)",
        step_panel,
        "Line and band: mean over seeds and its 95 % t interval, where there are two or more. "
        f"{LAM_NOTE} All test windows.",
    ),
)
