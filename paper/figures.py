"""python -m paper.figures: the paper's Figures 2 and 3, errors by step and test windows."""

import argparse
import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from exp.record import read_arrays
from paper import runs as records
from paper.pairs import pair
from paper.tables import regularizer
from utils import plots
from utils.files import UserError, make_folder, read_json, sha256_of, write_atomic
from utils.output import run_command
from utils.stats import mean_interval

LOOK = {0: (plots.BLACK, "-", "o"), -1: (plots.RED, "--", "v"), 1: (plots.BLUE, "-.", "^")}
CHANGE = "change from c = 0 (%)"
FIXED = ("1/4", "1/2", "3/4")  # of the test part: windows that every run keeps
POINTS = 300  # of a curve over training steps, about as many as printed
GROUP = ["results_version", "dataset", "features", "model", "differs", "amp"]


class Figure(NamedTuple):
    """A drawing with its words."""

    name: str  # of its file, without ending
    title: str
    caption: str
    drawing: Drawing


class Arm:
    """The runs of one c: their names by seed, and how their lines are drawn."""

    def __init__(self, c: float, frame: pd.DataFrame) -> None:
        rows = frame.loc[frame["c"] == c].set_index("seed").sort_index()
        self.c, self.runs, self.norm = c, rows["run"], rows["lip_norm"].iloc[0]
        color, line, self.marker = LOOK[int(np.sign(c))]
        self.look: dict[str, Any] = {"color": color, "linestyle": line, "label": f"c = {signed(c)}"}


class Cell:
    """The runs of one setting, axis and normalisation."""

    def __init__(self, runs: records.Runs, frame: pd.DataFrame, gaps: list[str]) -> None:
        self.runs, self.gaps, self.first = runs, gaps, frame.iloc[0].to_dict()
        steps = f"{self.first['pred_len']:g} steps ({self.first['lengths']})"
        self.heading = f"{steps}, {regularizer(self.first)}" if self.first["axis"] else steps
        n = frame["c"].value_counts()
        best_last = sorted(n.index[::-1], key=lambda c: (n[c], -abs(abs(c) - 2)))
        chosen = {np.sign(c): Arm(c, frame) for c in best_last}
        self.arms = [chosen[sign] for sign in LOOK if sign in chosen]  # one a sign
        seeds = [set(arm.runs.index) for arm in self.arms]
        self.seed = min(set.intersection(*seeds) or set.union(*seeds))  # of the run shown alone
        d = {c: pair(frame, c, 0.0)["d"] for c in sorted(n.index) if c}
        self.d = pd.DataFrame(d).dropna(axis=1, how="all")  # ln(MSE / MSE with 0), seeds by c

    def read(self, reader: Callable[[str], Any], names: Iterable[str]) -> list[Any]:
        """Read something of some runs; what cannot be read becomes a sentence in gaps."""
        found = []
        for run in names:
            try:
                found.append(reader(run))
            except UserError as error:
                self.gaps.append(f"{error}.")
        return found

    def printed(self, name: str) -> pd.DataFrame:
        """Return the rows of a printed figure for these settings; none but for ETTh2 S."""
        frame = pd.read_csv(records.PRINTED / f"{name}.csv")
        steps = frame["pred_len"] if "pred_len" in frame else [24] * len(frame)
        cells = pd.Series([f"informer ETTh2 S {n}" for n in steps], frame.index)
        ours = f"{self.first['model']} {self.first['cell']}"
        return frame.loc[(cells == ours) & self.first["printed"]]


def continuity(cell: Cell, axis: Axes, mean: bool) -> str:
    """Draw L_f over epochs (Figure 2): of one run of each c, or the mean over seeds."""
    for series, curve in [] if mean else cell.printed("figure2").groupby("series"):
        line, label = {"lip": (":", "c < 0"), "original": ("-", "c = 0")}[str(series)]
        values = curve["epoch"], curve["lipschitz_constant"]
        axis.plot(*values, line, color=plots.GREY, linewidth=0.9, label=f"printed, {label}")
    for arm in cell.arms:
        if cell.first["norm"] not in ("", arm.norm):
            continue  # at c = 0, L_f was measured under another normalisation
        traces = cell.read(cell.runs.trace, arm.runs if mean else arm.runs.filter([cell.seed]))
        if traces:
            points: Any = pd.concat(traces).groupby("epoch", as_index=False)["l_f"].mean()
            block = np.arange(len(points)) // max(1, len(points) // POINTS * (3 if mean else 1))
            points = points.groupby(block).agg("mean" if mean else "first")
            axis.plot(points["epoch"], points["l_f"], linewidth=1.2 if mean else 0.7, **arm.look)
        epochs = cell.read(cell.runs.history, arm.runs) if mean else []
        if epochs:
            points = pd.concat(epochs).groupby("epoch")["eval_l_f"].mean()
            label = f"{arm.look['label']}, evaluation mode"
            axis.plot(points.index, points, arm.marker, color=arm.look["color"], label=label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel="epoch", ylabel="$L_f$ of the embedding (no unit)")
    n = between([len(arm.runs) for arm in cell.arms])
    return f"{cell.heading}: " + (f"mean, n = {n}" if mean else f"one run each, seed {cell.seed:g}")


def changes(cell: Cell, axis: Axes) -> str:
    """Draw the change of test MSE from the run with c = 0 and the same seed (Figure 3)."""
    curve = cell.printed("figure3").set_index("lam")["mse"].rename(lambda lam: -float(lam))
    curve = 100 * (curve / curve.get(0.0, math.nan) - 1)
    ticks = sorted({0.0, *cell.d.columns, *curve.index})
    at, label = [ticks.index(c) for c in curve.index], "printed" if len(curve) else None
    axis.plot(at, curve, "x:", color=plots.GREY, linewidth=0.8, label=label)
    for c in cell.d.columns:
        values, at = cell.d[c].dropna(), ticks.index(c)
        left = [at - 0.12] * len(values)
        axis.plot(left, percent(values), "o", color=plots.BLUE, label="one seed")
        mean, low, high = map(percent, mean_interval(values))
        bar, label = [[mean - low], [high - mean]], "mean, 95 % interval"
        axis.errorbar([at + 0.12], [mean], bar, fmt="s", color="black", mfc="black", label=label)
    names = [signed(c) for c in ticks]
    turned = len(names) * max(map(len, names)) > 48  # else they would touch
    axis.set_xticks(range(len(ticks)), names, rotation=90 * turned)
    plots.fit_around_zero(axis)
    axis.set(xlim=(-0.5, len(ticks) - 0.5), xlabel="c (the paper's λ is −c)", ylabel=CHANGE)
    return f"{cell.heading}, n = {between([*cell.d.count()])}"


def step_errors(cell: Cell, axis: Axes) -> str:
    """Draw the test MSE of each forecast step, and the baselines' where they are recorded."""
    for arm in cell.arms:
        found = cell.read(cell.runs.by_step, arm.runs)
        if found:
            axis.plot(range(1, len(found[0]) + 1), np.mean(found, axis=0), **arm.look)
    metrics = cell.runs.source / cell.first["run"] / "metrics.json"
    body = {} if cell.runs.committed else read_json(metrics).get("baselines", {})
    for (name, label), color in zip(records.BASELINES.items(), plots.OTHERS, strict=True):
        if steps := (body.get(name) or {}).get("by_step"):
            x = range(1, len(steps["mse"]) + 1)
            axis.plot(x, steps["mse"], ":", color=color, linewidth=1.8, label=label)
    axis.set(xlabel="forecast step", ylabel="test MSE (scaled data)")
    return cell.heading


def step_changes(cell: Cell, axis: Axes) -> str:
    """Draw the change from c = 0 at each forecast step."""
    zero = cell.arms[0].runs
    for arm in [arm for arm in cell.arms if arm.c in cell.d]:
        seeds = cell.d[arm.c].dropna().index
        ours, theirs = (cell.read(cell.runs.by_step, x.loc[seeds]) for x in (arm.runs, zero))
        if len(ours) == len(theirs) == len(seeds):
            d = np.log(np.array(ours) / np.array(theirs))  # [n, pred_len]
            mean, low, high = map(percent, mean_interval(d.T))
            steps = np.arange(1, len(mean) + 1)
            axis.fill_between(steps, low, high, color=arm.look["color"], alpha=0.2, linewidth=0)
            axis.plot(steps, mean, **arm.look)
    plots.fit_around_zero(axis)
    axis.set(xlabel="forecast step", ylabel=CHANGE)
    return f"{cell.heading}, n = {between([*cell.d.count()])}"


def windows(cell: Cell) -> list[Callable[[Cell, Axes], str]]:
    """Return a panel for each test window that one run of every c keeps."""
    kept = []
    for arm in () if cell.runs.committed else cell.arms:
        samples = cell.read(
            lambda run: read_arrays(cell.runs.source / run, "samples"), arm.runs.filter([cell.seed])
        )
        kept += [(arm.look, one) for one in samples if set(FIXED) <= {*one["rank"]}]
    ranks = FIXED if 0 < len(kept) == len(cell.arms) else ()
    return [partial(window, kept=kept, rank=rank) for rank in ranks]


def window(cell: Cell, axis: Axes, kept: list[tuple[Any, Any]], rank: str) -> str:
    """Draw one test window: history and truth, and what one run of each c forecasts."""
    samples = kept[0][1]
    i, ahead = samples["rank"].tolist().index(rank), samples["truth"].shape[1]
    known = np.concatenate([samples["history"][i][-2 * ahead :], samples["truth"][i]])
    dates = samples["date"][i][-len(known) :]
    axis.plot(dates, known, color=plots.GREY, linewidth=2, label="history and truth")
    lines = [(look, s["pred"][s["rank"].tolist().index(rank)]) for look, s in kept]
    if "ridge" in samples:  # earlier versions did not keep it
        ridge = {"linestyle": ":", "color": plots.OTHERS[-1], "label": "ridge"}
        lines.insert(0, (ridge, samples["ridge"][i]))
    for look, forecast in lines:
        axis.plot(dates[-ahead - 1 :], [known[-ahead - 1], *forecast], **look)
    locator = AutoDateLocator(minticks=2, maxticks=5)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axis.set_ylabel(str(samples["target"]), parse_math=False)  # a column may be called "$"
    return f"{cell.heading}\nfrom {pd.Timestamp(dates[-ahead]):%Y-%m-%d %H:%M}"


def percent(d: Any) -> np.ndarray:
    """Return the change in percent that a log ratio is."""
    return 100 * np.expm1(np.asarray(d, dtype=float))


def signed(c: float) -> str:
    """Write c with its sign."""
    return f"{c:+g}".replace("e-0", "e-").replace("-", "−") if c else "0"


def between(counts: Sequence[int]) -> str:
    """Write the range of some counts."""
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


PRINTS = {  # said where the print is drawn
    "figure2": " Grey: the paper's Figure 2.",
    "figure3": " Grey: the paper's Figure 3 against its own c = 0.",
}
ONE_C = "Of several c of one sign, the one with most seeds is shown, of equals that nearest to ±2."
# name -> title, caption, and what gives a cell's panels
KINDS: dict[str, tuple[str, str, Callable[[Cell], Sequence[Callable[[Cell, Axes], str]]]]] = {
    "figure3": (
        "test MSE with LipReg",
        "Change from the run with c = 0 and the same seed. Square and bar: mean, 95 % t interval, "
        "which may leave the panel.",
        lambda cell: [changes] if cell.d.size else [],
    ),
    "figure2": (
        "L_f of the embedded input",
        "L_f (Eq. 2): largest step along time, mean over batch and channels, after LipReg's "
        "normalisation. Left: training mode, not smoothed. Right: mean over seeds; evaluation "
        f"mode: on one validation batch after each epoch. {ONE_C}",
        lambda cell: [partial(continuity, mean=mean) for mean in (False, True)],
    ),
    "steps": (
        "test MSE by forecast step",
        "Left: mean over seeds, and baselines where a run recorded them by step. Right: mean and "
        "95 % t interval (band, which may leave the panel) of the change from the run with c = 0 "
        f"and the same seed. All test windows. {ONE_C}",
        lambda cell: [step_errors, step_changes] if cell.d.size else [step_errors],
    ),
    "windows": (
        "the same test windows",
        "The windows at 1/4, 1/2 and 3/4 of the test part, as one run of each c forecasts them, "
        f"in original units, after at most two forecast lengths of the input. {ONE_C}",
        windows,
    ),
}


def draw_all(runs: records.Runs, scored: pd.DataFrame) -> tuple[list[Figure], list[str]]:
    """Draw every figure that the runs allow, and name each file that could not be read."""
    frame = records.by_cell(scored.loc[scored["outcome"] == "ok"])
    several = frame["results_version"].nunique() > 1
    figures, gaps = [], []
    for (_, group), kind in itertools.product(frame.groupby(GROUP, sort=False), KINDS):
        cells = [Cell(runs, one, gaps) for _, one in group.groupby(["pred_len", *records.CELL])]
        what, caption, panels = KINDS[kind]
        rows = [row for cell in cells if (row := [partial(p, cell) for p in panels(cell)])]
        if rows:
            one = group.iloc[0]
            words = [
                w for w in one[["model", "amp", "differs"]] if w not in ("informer", "off", "")
            ]
            words += [f"results version {one['results_version']:g}"] * several
            title = f"{one['dataset']} {one['features']}: {what}"
            name = " ".join([kind, one["dataset"], one["features"], *words])
            name = re.sub(r"[^\w.]+", "-", name)
            name = name if len(name) < 60 else f"{name[:50]}-{sha256_of(name.encode())[:6]}"
            drawing = plots.compose(title, ", ".join(words), rows)
            if kind in PRINTS and any(len(cell.printed(kind)) for cell in cells):
                caption += PRINTS[kind]
            figures.append(Figure(name, title, caption, drawing))
    return figures, list(dict.fromkeys(gaps))


def main(words: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.figures", description=__doc__)
    records.add_flags(parser, "results", "data", "score")
    add = parser.add_argument
    add("--out", type=Path, help="folder to write (RESULTS/figures)")
    add("--format", choices=[*plots.METADATA], default="png", help="of the files (%(default)s)")
    args = parser.parse_args(words)
    runs, out = records.load(args.results), args.out or args.results / "figures"
    scored, notes = records.select(records.select_metrics(runs.frame, args.score), args)
    figures, gaps = draw_all(runs, scored)
    make_folder(out)
    for one in figures:
        write_atomic(out / f"{one.name}.{args.format}", plots.render(one.drawing, args.format))
    notes = [*runs.notes, *notes, *records.left_out(scored), *gaps]
    print(*notes, f"wrote {len(figures)} figures to {out}", sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
