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
from paper.text import select
from utils.errors import UserError
from utils.files import make_folder, read_json, sha256_of, write_atomic
from utils.output import run_command
from utils.stats import mean_interval

STYLE: dict[Any, Any] = {
    **{"font.size": 8, "axes.titlesize": 8, "axes.linewidth": 0.7, "legend.frameon": False},
    **{"axes.spines.top": False, "axes.spines.right": False},
    **{"lines.linewidth": 1.2, "lines.markersize": 4.5, "lines.markerfacecolor": "none"},
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
        self.runs, self.gaps, self.first = runs, gaps, frame.iloc[0].to_dict()
        self.heading = f"{self.first['pred_len']:g} steps ({self.first['lengths']})"
        self.heading += f", {self.first['axis']} axis" if self.first["axis"] else ""
        norm = self.first["norm"]
        self.heading += f", lip_norm {norm}" if norm not in ("", "max") else ""
        self.arms: dict[int, pd.DataFrame] = {}
        for sign in COLOR:
            n = frame.loc[np.sign(frame["c"]) == sign, "c"].value_counts()
            if len(n):
                c = max(n.index, key=lambda c, n=n: (n[c], -abs(abs(c) - 2)))
                self.arms[sign] = frame.loc[frame["c"] == c].set_index("seed").sort_index()
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
        return frame.loc[(horizons == self.first["pred_len"]) & inside]


def continuity(cell: Cell, axis: Axes, mean: bool) -> str:
    """Draw L_f over epochs (Figure 2): of one run of each c, or the mean over seeds."""
    for series, curve in [] if mean else cell.printed("figure2").groupby("series"):
        line, label = {"lip": (":", "c < 0"), "original": ("-", "c = 0")}[str(series)]
        style = {"color": GREY, "linewidth": 0.9, "label": f"printed, {label}"}
        axis.plot(curve["epoch"], curve["lipschitz_constant"], line, **style)
    for sign, arm in cell.arms.items():
        style = look(arm) | {"linewidth": 1.2 if mean else 0.7}
        traces = cell.read(cell.runs.trace, arm if mean else arm[arm.index == cell.seed])
        if traces:
            points = pd.concat(traces).groupby("epoch", as_index=False)["l_f"].mean()
            block = np.arange(len(points)) // max(1, len(points) // POINTS * (3 if mean else 1))
            points = points.groupby(block).agg("mean" if mean else "first")
            axis.plot(points["epoch"], points["l_f"], **style)
        epochs = cell.read(cell.runs.history, arm) if mean else []
        if epochs:
            points = pd.concat(epochs).groupby("epoch")["eval_l_f"].mean()
            style |= {"label": f"{style['label']}, evaluation mode", "marker": MARKER[sign]}
            axis.plot(points.index, points, **style | {"linestyle": "none"})
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel="epoch", ylabel="$L_f$ of the embedding (no unit)")
    n = between(len(arm) for arm in cell.arms.values())
    return f": mean, n = {n}" if mean else f": one run each, seed {cell.seed:g}"


def changes(cell: Cell, axis: Axes) -> str:
    """Draw the change of test MSE from the run with c = 0 and the same seed (Figure 3)."""
    curve = cell.printed("figure3").set_index("lam")["mse"].rename(lambda lam: -float(lam))
    curve = 100 * (curve / curve.get(0.0, math.nan) - 1)
    ticks = sorted({0.0, *cell.d.columns, *curve.index})
    if len(curve):
        style = {"color": GREY, "linewidth": 0.8, "label": "printed"}
        axis.plot([ticks.index(c) for c in curve.index], curve, "x:", **style)
    for c in cell.d.columns:
        values, at = cell.d[c].dropna(), ticks.index(c)
        left = [at - 0.12] * len(values)
        axis.plot(left, percent(values), "o", color=COLOR[1], label="one seed")
        mean, low, high = map(percent, mean_interval(values))
        style: dict[str, Any] = {"fmt": "s", "color": COLOR[0], "mfc": COLOR[0]}
        style |= {"yerr": [[mean - low], [high - mean]], "label": "mean, 95 % interval"}
        axis.errorbar([at + 0.12], [mean], **style)
    names = [signed(c) for c in ticks]
    turned = len(names) * max(map(len, names)) > 48  # else they would touch
    axis.set_xticks(range(len(ticks)), names, rotation=90 * turned)
    axis.set(xlim=(-0.5, len(ticks) - 0.5), xlabel="c (the paper's λ is −c)")
    return from_zero(cell, axis)


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
    axis.set(xlabel="forecast step", ylabel="test MSE (scaled data)")
    return ""


def step_changes(cell: Cell, axis: Axes) -> str:
    """Draw the change from c = 0 at each forecast step."""
    for arm in [arm for arm in cell.arms.values() if arm["c"].iloc[0] in cell.d]:
        seeds = cell.d[arm["c"].iloc[0]].dropna().index
        pair = [cell.read(cell.runs.by_step, side.loc[seeds]) for side in (arm, cell.arms[0])]
        if len(pair[0]) == len(pair[1]) == len(seeds):
            d = np.log(np.divide(*pair))  # [n, pred_len]
            mean, low, high = map(percent, mean_interval(d.T))
            steps, style = np.arange(1, len(mean) + 1), look(arm)
            axis.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
            axis.plot(steps, mean, **style)
    axis.set_xlabel("forecast step")
    return from_zero(cell, axis)


def from_zero(cell: Cell, axis: Axes) -> str:
    """Draw the line of no change, and fit the axis to points and lines, not to intervals."""
    axis.axhline(0, color=GREY, linewidth=0.7)
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axis.lines])
    room = 0.1 * np.ptp(values) or 1
    axis.set(ylim=(values.min() - room, values.max() + room), ylabel="change from c = 0 (%)")
    return f", n = {between(cell.d.count())}"


def windows(cell: Cell) -> list[Callable[[Cell, Axes], str]]:
    """Return a panel for each test window that one run of every c keeps."""
    kept = []
    for arm in () if cell.runs.committed else cell.arms.values():
        one = arm[arm.index == cell.seed]
        found = cell.read(lambda run: read_arrays(cell.runs.source / run, "samples"), one)
        kept += [(look(arm), samples) for samples in found if set(FIXED) <= {*samples["rank"]}]
    whole = 0 < len(kept) == len(cell.arms)
    return [partial(window, kept=kept, rank=rank) for rank in FIXED if whole]


def window(cell: Cell, axis: Axes, kept: list[tuple[Any, Any]], rank: str) -> str:
    """Draw one test window: history and truth, and what one run of each c forecasts."""
    del cell
    samples = kept[0][1]
    i, ahead = samples["rank"].tolist().index(rank), samples["truth"].shape[1]
    known = np.concatenate([samples["history"][i][-2 * ahead :], samples["truth"][i]])
    dates = samples["date"][i][-len(known) :]
    axis.plot(dates, known, color=GREY, linewidth=2, label="history and truth")
    for style, samples in kept:
        pred = samples["pred"][samples["rank"].tolist().index(rank)]
        axis.plot(dates[-ahead - 1 :], [known[-ahead - 1], *pred], **style)
    locator = AutoDateLocator(minticks=2, maxticks=5)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    unit = f"{samples['target']} (original units)" if rank == FIXED[0] else ""
    axis.set_ylabel(unit, parse_math=False)  # a column may be called "$"
    return f"\nfrom {pd.Timestamp(dates[-ahead]):%Y-%m-%d %H:%M}"


def percent(d: Any) -> np.ndarray:
    """Return the change in percent that a log ratio is."""
    return 100 * np.expm1(np.asarray(d, dtype=float))


def signed(c: float) -> str:
    """Write c with its sign."""
    return f"{c:+g}".replace("e-0", "e-").replace("-", "−") if c else "0"


def look(arm: pd.DataFrame) -> dict[str, Any]:
    """Return how an arm's line is drawn, and its name in the legend."""
    c = arm["c"].iloc[0]
    sign = int(np.sign(c))
    return {"color": COLOR[sign], "linestyle": LINE[sign], "label": f"c = {signed(c)}"}


def between(counts: Any) -> str:
    """Write the range of some counts."""
    found = sorted(set(counts))
    return f"{found[0]} to {found[-1]}" if len(found) > 1 else f"{found[0]}"


ONE_C = "Of several c of one sign, the one with most seeds is shown, of equals that nearest to ±2."
# name -> title, caption, and what gives a cell's panels
KINDS: dict[str, tuple[str, str, Callable[[Cell], Sequence[Callable[[Cell, Axes], str]]]]] = {
    "figure3": (
        "test MSE with LipReg",
        "Change from the run with c = 0 and the same seed. Square and bar: mean, 95 % t interval, "
        "which may leave the panel. Grey: the paper's Figure 3 against its own c = 0.",
        lambda cell: [changes] if cell.d.size else [],
    ),
    "figure2": (
        "L_f of the embedded input",
        "L_f (Eq. 2): largest step along time, mean over batch and channels, after LipReg's "
        "normalisation. Left: training mode (with dropout), not smoothed; grey: the paper's "
        "Figure 2. Right: mean over seeds, of training mode in about 100 blocks of steps, of "
        f"evaluation mode on one validation batch after each epoch. {ONE_C}",
        lambda cell: [partial(continuity, mean=mean) for mean in (False, True)],
    ),
    "steps": (
        "test MSE by forecast step",
        "Left: mean over seeds, and baselines if recorded. Right: change from the run with c = 0 "
        f"and the same seed, mean and 95 % t interval (band). All test windows. {ONE_C}",
        lambda cell: [step_errors, step_changes] if cell.d.size else [step_errors],
    ),
    "windows": (
        "the same test windows",
        "The windows at 1/4, 1/2 and 3/4 of the test part, as one run of each c forecasts them, "
        f"after at most two forecast lengths of the input. {ONE_C}",
        windows,
    ),
}


def draw_all(runs: Runs, scored: pd.DataFrame) -> Iterator[Figure]:
    """Draw every figure that the runs allow; scored as `score_windows` returns it."""
    frame = by_cell(scored.loc[scored["outcome"] == "ok"])
    for (_, group), kind in itertools.product(frame.groupby(GROUP, sort=False), KINDS):
        gaps: list[str] = []
        cells = [Cell(runs, one, gaps) for _, one in group.groupby(["pred_len", *CELL])]
        rows = [[(cell, panel) for panel in KINDS[kind][-1](cell)] for cell in cells]
        if any(rows):
            yield _compose(kind, [row for row in rows if row], gaps)


def _compose(kind: str, rows: list[list[tuple[Cell, Any]]], gaps: list[str]) -> Figure:
    """Draw rows of panels under one title, with one legend below all."""
    first, (title, caption, _) = rows[0][0][0].first, KINDS[kind]
    words = [f"{first['dataset']} {first['features']}", first["model"], first["amp"]]
    words = [word for word in [*words, first["differs"]] if word not in ("informer", "off", "")]
    if max(map(len, rows)) == 1:  # two columns of single panels
        rows = [[row[0] for row in rows[i : i + 2]] for i in range(0, len(rows), 2)]
    with mpl.rc_context(STYLE):
        drawing = Drawing(figsize=(7.2, 2.3 * len(rows) + 0.7), layout="constrained")
        grid = drawing.add_gridspec(len(rows), max(map(len, rows)))
        for i, row in enumerate(rows):
            for j, (cell, draw) in enumerate(row):
                axis = drawing.add_subplot(grid[i, j])
                axis.set_title(cell.heading + draw(cell, axis))
        lines = [f"{words[0]}: {title}", *textwrap.wrap(", ".join(words[1:]), 110)]
        drawing.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left", parse_math=False)
        pairs = [zip(*axis.get_legend_handles_labels(), strict=True) for axis in drawing.axes]
        handles = {name: handle for handle, name in itertools.chain(*pairs)}
        drawing.legend(handles.values(), handles, loc="outside lower center", ncols=4)
    name = re.sub(r"[^\w.]+", "-", "-".join([kind, *words]))
    name = name if len(name) < 60 else f"{name[:50]}-{sha256_of(name.encode())[:6]}"
    return Figure(name, lines[0], caption, list(dict.fromkeys(gaps)), drawing)


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
        write_atomic(out / f"{figure.name}.{args.format}", figure.render(args.format))
        print(*[f"{figure.name}: {figure.title}", *figure.gaps], sep="\n  ")
    print(*runs.notes, *notes, *left_out(scored), f"{len(figures)} figures in {out}", sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
