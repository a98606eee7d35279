"""python -m paper.figures: the paper's Figures 2 and 3, errors by step and test windows."""

import argparse
import io
import itertools
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from exp.record import read_arrays
from paper.runs import BASELINES, CELL, PRINTED, Runs, by_cell, left_out, load, score_windows
from paper.tables import select
from utils.errors import UserError
from utils.files import make_folder, read_json, sha256_of, write_atomic
from utils.output import run_command
from utils.stats import mean_interval

STYLE: dict[Any, Any] = {
    **{"font.size": 8, "axes.titlesize": 8, "legend.frameon": False, "axes.linewidth": 0.7},
    **{"axes.spines.top": False, "axes.spines.right": False, "lines.markerfacecolor": "none"},
    **{"lines.linewidth": 1.2, "lines.markersize": 4.5},
    "svg.hashsalt": "informer-lipreg",  # equal runs, equal bytes
}
METADATA = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
# Okabe and Ito's colours; line styles and markers differ too, for print in grey.
COLOR = {0: "#000000", -1: "#D55E00", 1: "#0072B2"}  # by the sign of c
LINE: dict[int, Any] = {0: "-", -1: "--", 1: "-."}
MARKER = {0: "o", -1: "v", 1: "^"}
BASELINE_COLOR = {"last": "#E69F00", "day": "#009E73", "week": "#CC79A7", "ridge": "#56B4E9"}
GREY = "#808080"
FIXED = ("1/4", "1/2", "3/4")  # of the test part: windows that every run keeps
POINTS = 300  # of a curve over training steps, about as many as printed
GROUP = ["results_version", "dataset", "features", "model", "differs", "amp"]


class Figure(NamedTuple):
    """A drawing with its file name (without ending), title, caption, and what it lacks."""

    name: str
    title: str
    caption: str
    gaps: list[str]
    drawing: Drawing

    def render(self, form: str) -> bytes:
        """Return the file's content, form png, svg or pdf; equal runs give equal bytes."""
        buffer = io.BytesIO()
        with mpl.rc_context(STYLE):
            self.drawing.savefig(buffer, format=form, dpi=200, metadata=METADATA[form])
        return buffer.getvalue()


class Cell:
    """The runs of one setting, axis and normalisation.

    Attributes:
        heading: horizon, lengths, axis and normalisation.
        arms: by sign, the runs of one c: that with most seeds, of equals the one nearest to ±2.
        seed: the lowest that all arms have; the lowest of all where they share none.
        d: ln(MSE with c / MSE with 0), one row a seed, one column a c that has a pair.
        gaps: a sentence for each file that cannot be read.
    """

    def __init__(self, runs: Runs, frame: pd.DataFrame, gaps: list[str]) -> None:
        self.runs, self.gaps, self.first = runs, gaps, frame.iloc[0]
        axis, norm = str(self.first["axis"]), str(self.first["norm"])
        self.heading = f"{self.first['pred_len']:g} steps ({self.first['lengths']})"
        self.heading += f", {axis} axis" * bool(axis)
        self.heading += f", lip_norm {norm}" * (norm not in ("", "max"))
        self.arms: dict[int, pd.DataFrame] = {}
        for sign in COLOR:
            n = frame.loc[np.sign(frame["c"]) == sign, "c"].value_counts()
            if len(n):
                c = max(n.index, key=lambda c, n=n: (n[c], -abs(abs(c) - 2)))
                self.arms[sign] = frame[frame["c"] == c].set_index("seed").sort_index()
        seeds = [set(arm.index) for arm in self.arms.values()]
        self.seed = min(set.intersection(*seeds) or set.union(*seeds))
        wide = frame.pivot(index="seed", columns="c", values="mse")
        ratios = wide.div(wide.get(0.0, pd.Series(math.nan, wide.index)), axis=0)
        self.d = np.log(ratios).drop(columns=0.0, errors="ignore").dropna(how="all", axis=1)

    def read(self, reader: Callable[[str], Any], arm: pd.DataFrame) -> list[Any]:
        """Read something of every run; what cannot be read becomes a sentence in gaps."""
        found = []
        for run in arm["run"]:
            try:
                found.append(reader(run))
            except FileNotFoundError as error:
                self.gaps.append(f"{error.filename}: not there.")
            except UserError as error:
                self.gaps.append(f"{error}.")
        return found

    def printed(self, name: str) -> pd.DataFrame:
        """Return the rows of a printed figure for these settings; none but for ETTh2 S."""
        frame = pd.read_csv(PRINTED / f"{name}.csv")
        horizons = frame["pred_len"] if "pred_len" in frame else pd.Series(24, frame.index)
        inside = self.first["printed"] and self.first["cell"].startswith("ETTh2 S ")
        return frame[(horizons == self.first["pred_len"]) & inside]


def one_run(cell: Cell, axis: Axes) -> str:
    """Draw L_f in training mode of one run of each c, beside the printed curves (Figure 2)."""
    for series, sign, line in (("original", "= 0", "-"), ("lip", "< 0", ":")):
        curve = cell.printed("figure2").query("series == @series")
        if len(curve):
            x, y = curve["epoch"], curve["lipschitz_constant"]
            axis.plot(x, y, line, color=GREY, linewidth=0.9, label=f"printed, c {sign}")
    for arm in cell.arms.values():
        for trace in cell.read(cell.runs.trace, arm[arm.index == cell.seed]):
            points = trace.iloc[:: max(1, len(trace) // POINTS)]
            axis.plot(points["epoch"], points["l_f"], **look(arm) | {"linewidth": 0.7})
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return f": one run each, seed {cell.seed:g}"


def mean_run(cell: Cell, axis: Axes) -> str:
    """Draw the seeds' mean of L_f: training mode in blocks of steps, evaluation mode by epoch."""
    for sign, arm in cell.arms.items():
        traces = [trace.set_index("epoch")["l_f"] for trace in cell.read(cell.runs.trace, arm)]
        if traces:
            mean = pd.concat(traces, axis=1).mean(axis=1).rename("l_f").reset_index()
            block = np.arange(len(mean)) // max(1, 3 * len(mean) // POINTS)
            axis.plot(*mean.groupby(block).mean().to_numpy().T, **look(arm))
        epochs = [one.set_index("epoch")["eval_l_f"] for one in cell.read(cell.runs.history, arm)]
        if epochs:
            mean, label = pd.concat(epochs, axis=1).mean(axis=1), look(arm)["label"]
            style = {"color": COLOR[sign], "label": f"{label}, evaluation mode"}
            axis.plot(mean.index, mean, MARKER[sign], **style)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return f": mean, n = {between(len(arm) for arm in cell.arms.values())}"


def differences(cell: Cell, axis: Axes) -> str:
    """Draw the paired change of test MSE from c = 0, for each c (Figure 3)."""
    curve = cell.printed("figure3").set_index("lam")["mse"].rename(lambda lam: -float(lam))
    curve = 100 * (curve / curve.get(0.0, math.nan) - 1)
    ticks = sorted({0.0, *cell.d.columns, *curve.index})
    if len(curve):
        at = [ticks.index(c) for c in curve.index]
        axis.plot(at, curve, "x:", color=GREY, linewidth=0.8, label="printed")
    for c in cell.d.columns:
        values, at = percent(cell.d[c].dropna()), ticks.index(c)
        axis.plot([at - 0.12] * len(values), values, "o", color=COLOR[1], label="one seed")
        mean, low, high = map(percent, mean_interval(cell.d[c].dropna()))
        style: dict[str, Any] = {"fmt": "s", "color": COLOR[0], "mfc": COLOR[0], "capsize": 2}
        style |= {"yerr": [[mean - low], [high - mean]], "label": "mean, 95 % interval"}
        axis.errorbar([at + 0.12], [mean], **style)
    around_zero(axis, np.array([*curve, *percent(cell.d.stack())]))
    names = [look(pd.DataFrame({"c": [c]}))["label"].removeprefix("c = ") for c in ticks]
    turned = len(names) * max(map(len, names)) > 48  # else they would touch
    axis.set_xticks(range(len(ticks)), names, rotation=90 * turned)
    axis.set_xlim(-0.5, len(ticks) - 0.5)
    return f", n = {between(cell.d.count())}"


def step_errors(cell: Cell, axis: Axes) -> str:
    """Draw the test MSE of each forecast step, and the baselines' where they are recorded."""
    for arm in cell.arms.values():
        found = cell.read(cell.runs.by_step, arm)
        if found:
            axis.plot(range(1, len(found[0]) + 1), np.mean(found, axis=0), **look(arm))
    metrics = cell.runs.source / cell.first["run"] / "metrics.json"
    body = {} if cell.runs.committed else read_json(metrics)["baselines"]
    for name, color in BASELINE_COLOR.items():
        if steps := (body.get(name) or {}).get("by_step"):
            style = {"color": color, "linewidth": 1.8, "label": BASELINES[name]}
            axis.plot(range(1, len(steps["mse"]) + 1), steps["mse"], ":", **style)
    return ""


def step_differences(cell: Cell, axis: Axes) -> str:
    """Draw the paired change from c = 0 at each forecast step."""
    seen = [np.zeros(1)]
    for arm in [arm for arm in cell.arms.values() if arm["c"].iloc[0] in cell.d]:
        seeds = cell.d[arm["c"].iloc[0]].dropna().index
        pairs = [cell.read(cell.runs.by_step, a.loc[seeds]) for a in (arm, cell.arms[0])]
        if len(pairs[0]) == len(pairs[1]) == len(seeds):
            d = np.log(np.divide(*pairs))  # [n, pred_len]
            mean, low, high = map(percent, mean_interval(d.T))
            steps, style = np.arange(1, len(mean) + 1), look(arm)
            axis.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
            axis.plot(steps, mean, **style)
            seen.append(percent(d).ravel())
    around_zero(axis, np.concatenate(seen))
    return f", n = {between(cell.d.count())}"


def window_panels(cell: Cell) -> list[Any]:
    """Return a panel for each test window that one run of every c keeps."""
    kept: list[tuple[pd.DataFrame, dict[str, np.ndarray]]] = []
    for arm in () if cell.runs.committed else cell.arms.values():
        one = arm[arm.index == cell.seed]
        found = cell.read(lambda run: read_arrays(cell.runs.source / run, "samples"), one)
        kept += [(arm, samples) for samples in found if set(FIXED) <= set(samples["rank"])]
    if not kept or len(kept) < len(cell.arms):
        return []
    units = [f"{kept[0][1]['target']} (original units)", "", ""]
    return [(partial(window, kept=kept, rank=r), y) for r, y in zip(FIXED, units, strict=True)]


def window(cell: Cell, axis: Axes, kept: list[Any], rank: str) -> str:
    """Draw one test window: history and truth, and what one run of each c forecasts."""
    del cell
    for arm, samples in kept:
        i, ahead = samples["rank"].tolist().index(rank), samples["truth"].shape[1]
        known = np.concatenate([samples["history"][i][-2 * ahead :], samples["truth"][i]])
        dates = samples["date"][i][-len(known) :]
        if not axis.lines:
            axis.plot(dates, known, color=GREY, linewidth=2, label="history and truth")
        ours = [known[-ahead - 1], *samples["pred"][i]]
        axis.plot(dates[-ahead - 1 :], ours, **look(arm))
    locator = AutoDateLocator(minticks=2, maxticks=5)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return f"\nfrom {pd.Timestamp(dates[-ahead]):%Y-%m-%d %H:%M}"


def around_zero(axis: Axes, values: np.ndarray) -> None:
    """Draw the line of no change, and fit the axis to values, not to intervals."""
    low, high = min(0, np.nanmin(values)), max(0, np.nanmax(values))
    axis.axhline(0, color=GREY, linewidth=0.7)
    axis.set_ylim(low - 0.1 * (high - low or 1), high + 0.1 * (high - low or 1))


def percent(d: Any) -> np.ndarray:
    """Return the change in percent that a log ratio is."""
    return 100 * np.expm1(np.asarray(d, dtype=float))


def look(arm: pd.DataFrame) -> dict[str, Any]:
    """Return how an arm's line is drawn, and its name in the legend."""
    c = arm["c"].iloc[0]
    name = f"c = {c:+g}".replace("e-0", "e-").replace("-", "−") if c else "c = 0"
    return {"color": COLOR[int(np.sign(c))], "linestyle": LINE[int(np.sign(c))], "label": name}


def between(counts: Any) -> str:
    """Write the range of some counts."""
    found = sorted(set(counts))
    return f"{found[0]} to {found[-1]}" if len(found) > 1 else f"{found[0]}"


CHANGE = "change from c = 0 (%)"
L_F = "$L_f$ of the embedding (no unit)"
STEPS = [(step_errors, "test MSE (scaled data)"), (step_differences, CHANGE)]
ONE_C = "Of several c of one sign, the one with most seeds is shown, of equals that nearest to ±2."
# name -> title, x label, caption, and what gives a cell's panels and their y labels
KINDS: dict[str, tuple[str, str, str, Callable[[Cell], list[Any]]]] = {
    "figure3": (
        "test MSE with LipReg",
        "c (the paper's λ is −c)",
        "Change from the run with c = 0 and the same seed. Square and bar: mean and 95 % t interval, "
        "which may leave the panel. Grey: the paper's Figure 3 against its own c = 0.",
        lambda cell: [(differences, CHANGE)] if cell.d.size else [],
    ),
    "figure2": (
        "L_f of the embedded input",
        "epoch",
        "L_f (Eq. 2): largest step along time, mean over batch and channels, after LipReg's "
        "normalisation. Left: training mode (with dropout), not smoothed; grey: the paper's "
        "Figure 2. Right: mean over seeds, of training mode in about 100 blocks of steps, of "
        f"evaluation mode on one validation batch after each epoch. {ONE_C}",
        lambda cell: [(one_run, L_F), (mean_run, L_F)],
    ),
    "steps": (
        "test MSE by forecast step",
        "forecast step",
        "Left: mean over seeds, and the baselines if recorded. Right: change from the run with c = 0 "
        f"and the same seed, mean and 95 % t interval (band). All test windows. {ONE_C}",
        lambda cell: STEPS if cell.d.size else STEPS[:1],
    ),
    "windows": (
        "the same test windows",
        "",
        "The windows at 1/4, 1/2 and 3/4 of the test part, as one run of each c forecasts them, "
        f"after at most two forecast lengths of the input. {ONE_C}",
        window_panels,
    ),
}


def draw_all(runs: Runs, scored: pd.DataFrame) -> Iterator[Figure]:
    """Draw every figure that the runs allow.

    Args:
        runs: where histories and arrays are read from.
        scored: as `score_windows` returns it.
    """
    frame = by_cell(scored[scored["outcome"] == "ok"])
    for (_, group), kind in itertools.product(frame.groupby(GROUP, sort=False), KINDS):
        gaps: list[str] = []
        cells = [Cell(runs, one, gaps) for _, one in group.groupby(["pred_len", *CELL])]
        rows = [[(cell, *panel) for panel in KINDS[kind][-1](cell)] for cell in cells]
        if any(rows):
            yield _compose(kind, group.iloc[0], [row for row in rows if row], gaps)


def _compose(kind: str, first: pd.Series, rows: list[list[Any]], gaps: list[str]) -> Figure:
    """Draw rows of panels under one title, with one legend below all."""
    if max(map(len, rows)) == 1:  # two columns of single panels
        rows = [[row[0] for row in rows[i : i + 2]] for i in range(0, len(rows), 2)]
    what, x, caption, _ = KINDS[kind]
    words = [f"{first['dataset']} {first['features']}", first["model"], first["amp"]]
    words = [word for word in [*words, first["differs"]] if word not in ("informer", "off", "")]
    with mpl.rc_context(STYLE):
        drawing = Drawing(figsize=(7.2, 2.3 * len(rows) + 0.7), layout="constrained")
        grid = drawing.add_gridspec(len(rows), max(map(len, rows)))
        for i, row in enumerate(rows):
            for j, (cell, draw, y) in enumerate(row):
                axis = drawing.add_subplot(grid[i, j])
                axis.set(title=cell.heading + draw(cell, axis), xlabel=x)
                axis.set_ylabel(y, parse_math=y == L_F)  # a column may be called "$"
        whole = [f"{words[0]}: {what}", *textwrap.wrap(", ".join(words[1:]), 110)]
        drawing.suptitle("\n".join(whole), fontsize=9, x=0.01, ha="left", parse_math=False)
        pairs = [zip(*axis.get_legend_handles_labels(), strict=True) for axis in drawing.axes]
        handles = {name: handle for pair in pairs for handle, name in pair}
        drawing.legend(handles.values(), handles, loc="outside lower center", ncols=4)
    name = re.sub(r"[^\w.]+", "-", "-".join([kind, *words]))
    name = name if len(name) < 60 else f"{name[:50]}-{sha256_of(name.encode())[:6]}"
    return Figure(name, whole[0], caption, list(dict.fromkeys(gaps)), drawing)


def main(words: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.figures", description=__doc__)
    add = parser.add_argument
    add("--results", type=Path, default=Path("results"), help="folder of the runs (results)")
    add("--data", help="data set, or file name of own data (all)")
    add("--score", choices=("truncated", "all"), help="test windows (truncated beside a print)")
    add("--out", type=Path, help="folder to write (RESULTS/figures)")
    add("--format", choices=[*METADATA], default="png", help="of the files (%(default)s)")
    args = parser.parse_args(words, argparse.Namespace(features=None, axis=None, amp=None))
    runs, out = load(args.results), args.out or args.results / "figures"
    scored, notes = select(score_windows(runs.frame, args.score), args)
    figures = list(draw_all(runs, scored))
    make_folder(out)
    for figure in figures:
        path = out / f"{figure.name}.{args.format}"
        write_atomic(path, figure.render(args.format))
        print(" ".join([f"{path}: {figure.title}.", *figure.gaps]))
    print(*runs.notes, *notes, *left_out(scored), f"wrote {len(figures)} figures", sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
