"""python -m paper.figures: the paper's Figures 2 and 3, errors by step and test windows."""

import argparse
import io
import math
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
from utils.errors import UserError
from utils.files import make_folder, read_json, sha256_of, write_atomic
from utils.stats import mean_interval

STYLE: dict[Any, Any] = {
    **{"font.size": 8, "axes.titlesize": 8, "legend.frameon": False, "axes.linewidth": 0.7},
    **{"axes.spines.top": False, "axes.spines.right": False},
    **{"lines.linewidth": 1.2, "lines.markersize": 4.5, "lines.markerfacecolor": "none"},
    "svg.hashsalt": "informer-lipreg",  # equal runs, equal bytes
}
METADATA = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
# Okabe and Ito's colours; line styles and markers differ too, for print in grey.
LOOK: dict[int, tuple[str, Any, str]] = {  # by the sign of c
    0: ("#000000", "-", "o"),
    -1: ("#D55E00", "--", "v"),
    1: ("#0072B2", "-.", "^"),
}
BASELINE_LOOK: dict[str, tuple[str, Any]] = {
    "last": ("#E69F00", ":"),
    "day": ("#009E73", (0, (7, 2))),
    "week": ("#CC79A7", (0, (2, 2))),
    "ridge": ("#56B4E9", (0, (5, 1, 1, 1, 1, 1))),
}
GREY = "#808080"
CHANGE = "change of test MSE from c = 0 (%)"
FIXED = ("1/4", "1/2", "3/4")  # of the test part: windows that every run keeps
POINTS = 300  # of a curve over training steps, about as many as printed
LAM = 2  # of the released scripts
GROUP = ["results_version", "dataset", "features", "model", "differs", "amp"]


@dataclass(frozen=True)
class Figure:
    """A drawing with the words that belong to it.

    Attributes:
        name: file name without ending.
        title: what it is, as in the drawing.
        caption: how to read it.
        gaps: a sentence for each file that should have been drawn and is not there.
        drawing: the drawing itself.
    """

    name: str
    title: str
    caption: str
    gaps: list[str]
    drawing: Drawing = field(repr=False)

    def render(self, form: str) -> bytes:
        """Return the file's content, form png, svg or pdf; equal runs give equal bytes."""
        buffer = io.BytesIO()
        with mpl.rc_context(STYLE):
            self.drawing.savefig(buffer, format=form, dpi=200, metadata=METADATA[form])
        return buffer.getvalue()


class Cell:
    """The runs of one setting, axis and normalisation.

    Attributes:
        arms: by sign, the runs of one c: that with most seeds, of equals the one nearest to LAM.
        seed: the lowest that all arms have; the lowest of all where they share none.
        d: ln(MSE with c / MSE with 0), one row a seed, one column a c that has a pair.
        heading: horizon, lengths, axis and normalisation.
    """

    def __init__(self, runs: Runs, frame: pd.DataFrame, gaps: list[str]) -> None:
        self.runs, self.gaps, self.first = runs, gaps, frame.iloc[0]
        self.arms: dict[int, pd.DataFrame] = {}
        for sign in LOOK:
            n = frame.loc[np.sign(frame["c"]) == sign, "c"].value_counts()
            if len(n):
                c = max(n.index, key=lambda c, n=n: (n[c], -abs(abs(c) - LAM)))
                self.arms[sign] = frame[frame["c"] == c].sort_values("seed")
        seeds = [set(arm["seed"]) for arm in self.arms.values()]
        self.seed = min(set.intersection(*seeds) or set.union(*seeds))
        wide = frame.pivot(index="seed", columns="c", values="mse")
        ratios = wide.div(wide.get(0.0, pd.Series(math.nan, wide.index)), axis=0)
        self.d = np.log(ratios).drop(columns=0.0, errors="ignore").dropna(how="all", axis=1)
        axis, norm = (str(self.first[name]) for name in ("axis", "norm"))
        self.heading = f"{self.first['pred_len']:g} steps ({self.first['lengths']})"
        self.heading += f", {axis} axis" * bool(axis)
        self.heading += f", lip_norm {norm}" * (norm not in ("", "max"))

    def read(self, reader: Callable[[str], Any], arm: pd.DataFrame) -> list[Any]:
        """Read something of every run; what cannot be read becomes a sentence in gaps."""
        found = []
        for run in arm["run"]:
            try:
                found.append(reader(run))
            except (UserError, FileNotFoundError) as error:
                file = getattr(error, "filename", None)
                self.gaps.append(f"{file}: not there." if file else f"{error}.")
        return found

    def samples(self, arm: pd.DataFrame) -> list[dict[str, np.ndarray]]:
        """Read the test windows that the run with `seed` keeps."""
        one = arm[arm["seed"] == self.seed]
        return self.read(lambda run: read_arrays(self.runs.source / run, "samples"), one)

    def printed(self, name: str) -> pd.DataFrame:
        """Return the rows of a printed figure for these settings; none but for ETTh2 S."""
        frame = pd.read_csv(PRINTED / f"{name}.csv")
        horizons = frame["pred_len"] if "pred_len" in frame else pd.Series(24, frame.index)
        inside = self.first["printed"] and self.first["cell"].startswith("ETTh2 S ")
        return frame[(horizons == self.first["pred_len"]) & inside]


def look(arm: pd.DataFrame, part: str = "", *, marker: bool = False) -> dict[str, Any]:
    """Return how an arm is drawn, and its name in the legend."""
    c = arm["c"].iloc[0]
    color, line, mark = LOOK[int(np.sign(c))]
    style = {"marker": mark, "linestyle": "none"} if marker else {"linestyle": line}
    return {"color": color, "label": f"c = {signed(c)}{part}", **style}


def one_run(cell: Cell, axis: Axes) -> None:
    """Draw L_f in training mode of one run of each c, beside the printed curves (Figure 2)."""
    for series, sign, line in (("original", "= 0", "-"), ("lip", "< 0", ":")):
        curve = cell.printed("figure2").query("series == @series")
        if len(curve):
            style: dict[str, Any] = {"color": GREY, "linestyle": line, "linewidth": 0.9}
            label = f"printed, c {sign}"
            axis.plot(curve["epoch"], curve["lipschitz_constant"], label=label, **style)
    for arm in cell.arms.values():
        for trace in cell.read(cell.runs.trace, arm[arm["seed"] == cell.seed]):
            points = trace.iloc[:: max(1, len(trace) // POINTS)]
            axis.plot(points["epoch"], points["l_f"], **look(arm) | {"linewidth": 0.7})
    axis.set_title(f"{cell.heading}: one run each, seed {cell.seed:g}")
    axis.set(xlabel="epoch", ylabel="$L_f$ of the embedding (no unit)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def mean_run(cell: Cell, axis: Axes) -> None:
    """Draw the seeds' mean of L_f: training mode in blocks of steps, evaluation mode by epoch."""
    for arm in cell.arms.values():
        traces = [trace.set_index("epoch")["l_f"] for trace in cell.read(cell.runs.trace, arm)]
        if traces:
            mean = pd.concat(traces, axis=1).mean(axis=1).rename("l_f").reset_index()
            block = np.arange(len(mean)) // max(1, len(mean) // (POINTS // 3))
            axis.plot(*mean.groupby(block).mean().to_numpy().T, **look(arm))
        epochs = [one.set_index("epoch")["eval_l_f"] for one in cell.read(cell.runs.history, arm)]
        if epochs:
            mean = pd.concat(epochs, axis=1).mean(axis=1)
            axis.plot(mean.index, mean, **look(arm, ", evaluation mode", marker=True))
    axis.set_title(f"{cell.heading}: mean, n = {between(map(len, cell.arms.values()))}")
    axis.set(xlabel="epoch", ylabel="$L_f$ of the embedding (no unit)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def differences(cell: Cell, axis: Axes) -> None:
    """Draw the paired change of test MSE from c = 0, for each c (Figure 3)."""
    curve = cell.printed("figure3").set_index("lam")["mse"].rename(lambda lam: -float(lam))
    curve = 100 * (curve / curve.get(0.0, math.nan) - 1)
    ticks = sorted({0.0, *cell.d.columns, *curve.index})
    if len(curve):
        at = [ticks.index(c) for c in curve.index]
        axis.plot(at, curve, "x:", color=GREY, linewidth=0.8, label="printed")
    for c in cell.d.columns:
        values, at = cell.d[c].dropna(), ticks.index(c)
        left = np.full(len(values), at - 0.12)
        axis.plot(left, percent(values), "o", color=LOOK[1][0], label="one seed")
        mean, low, high = map(percent, mean_interval(values))
        style: dict[str, Any] = {"fmt": "s", "color": "black", "mfc": "black", "capsize": 2}
        bar = [[mean - low], [high - mean]]
        axis.errorbar([at + 0.12], [mean], bar, label="mean, 95 % interval", **style)
    around_zero(axis, np.array([*curve, *percent(cell.d.stack())]))
    names = [signed(c) for c in ticks]
    axis.set_xticks(range(len(ticks)), names, rotation=90 * (sum(map(len, names)) > 34))
    axis.set(xlim=(-0.5, len(ticks) - 0.5), xlabel="c (the paper's λ is −c)", ylabel=CHANGE)
    axis.set_title(f"{cell.heading}, n = {between(cell.d.count())}")


def around_zero(axis: Axes, values: np.ndarray) -> None:
    """Draw the line of no change, and fit the axis to values, not to intervals."""
    low, high = min(0, np.nanmin(values)), max(0, np.nanmax(values))
    axis.axhline(0, color=GREY, linewidth=0.7)
    axis.set_ylim(low - 0.1 * (high - low or 1), high + 0.1 * (high - low or 1))


def step_errors(cell: Cell, axis: Axes) -> None:
    """Draw the test MSE of each forecast step, and the baselines' where they are recorded."""
    lines = [
        (np.mean(found, axis=0), look(arm))
        for arm in cell.arms.values()
        if (found := cell.read(cell.runs.by_step, arm))
    ]
    if not cell.runs.committed:
        body = read_json(cell.runs.source / cell.first["run"] / "metrics.json")
        for name, (color, line) in BASELINE_LOOK.items():
            found = (body["baselines"].get(name) or {}).get("by_step")
            style = {"color": color, "linestyle": line, "label": BASELINES[name]}
            lines += [(found["mse"], style)] if found else []
    for values, style in lines:
        axis.plot(range(1, len(values) + 1), values, **style)
    axis.set(title=cell.heading, xlabel="forecast step", ylabel="test MSE (scaled data)")


def step_differences(cell: Cell, axis: Axes) -> None:
    """Draw the paired change from c = 0 at each forecast step."""
    zero, seen = cell.arms[0].set_index("seed", drop=False), [np.zeros(1)]
    for arm in [arm for sign, arm in cell.arms.items() if sign]:
        seeds = cell.d[arm["c"].iloc[0]].dropna().index
        pair = (arm.set_index("seed", drop=False).loc[seeds], zero.loc[seeds])
        ours, theirs = (cell.read(cell.runs.by_step, side) for side in pair)
        if len(ours) == len(theirs) == len(seeds):
            d = np.log(np.array(ours) / np.array(theirs))  # [n, pred_len]
            mean, low, high = map(percent, mean_interval(d.T))
            steps = np.arange(1, len(mean) + 1)
            axis.fill_between(steps, low, high, color=look(arm)["color"], alpha=0.2, linewidth=0)
            axis.plot(steps, mean, **look(arm))
            seen.append(percent(d).ravel())
    around_zero(axis, np.concatenate(seen))
    axis.set_title(f"{cell.heading}, n = {between(cell.d.count())}")
    axis.set(xlabel="forecast step", ylabel=CHANGE)


def window(cell: Cell, axis: Axes, rank: str) -> None:
    """Draw one test window: history and truth, and what one run of each c forecasts."""
    for arm in cell.arms.values():
        samples = cell.samples(arm)[0]
        i, ahead = samples["rank"].tolist().index(rank), samples["truth"].shape[1]
        past = samples["history"][i][-2 * ahead :]
        dates = samples["date"][i][-len(past) - ahead :]
        if not axis.lines:
            known = np.concatenate([past, samples["truth"][i]])
            axis.plot(dates, known, color=GREY, linewidth=2, label="history and truth")
            axis.axvline(dates[len(past) - 1], color=GREY, linewidth=0.7)
            axis.set_title(f"{cell.heading}\nfrom {pd.Timestamp(dates[-ahead]):%Y-%m-%d %H:%M}")
            unit = f"{samples['target']} (original units)" if rank == FIXED[0] else ""
            axis.set_ylabel(unit, parse_math=False)  # a column may be called "$"
        line = np.concatenate([past[-1:], samples["pred"][i]])
        axis.plot(dates[-ahead - 1 :], line, **look(arm))
    locator = AutoDateLocator(minticks=2, maxticks=5)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def window_panels(cell: Cell) -> list[Callable[[Cell, Axes], None]]:
    """Return a panel for each test window that a run of each c keeps."""
    if cell.runs.committed:
        return []
    kept = [cell.samples(arm) for arm in cell.arms.values()]
    ranks = [set(one[0]["rank"]) if one and "date" in one[0] else set() for one in kept]
    return [partial(window, rank=rank) for rank in FIXED if all(rank in own for own in ranks)]


def percent(d: Any) -> np.ndarray:
    """Return the change in percent that a log ratio is."""
    return 100 * np.expm1(np.asarray(d, dtype=float))


def signed(c: float) -> str:
    """Write c with its sign."""
    return f"{c:+g}".replace("-", "−") if c else "0"


def between(counts: Any) -> str:
    """Write the range of some counts."""
    found = sorted(set(counts))
    return f"{found[0]} to {found[-1]}" if len(found) > 1 else f"{found[0]}"


class Kind(NamedTuple):
    """A kind of figure, with one row of panels a cell."""

    name: str
    title: str
    caption: str
    panels: Callable[[Cell], Sequence[Callable[[Cell, Axes], None]]]


ONE_C = "Of several c of one sign, the one with most seeds is shown, of equals that nearest to ±2."
KINDS = (
    Kind(
        "figure3",
        "test MSE with LipReg",
        "Change from the run with c = 0 and the same seed; square and bar: mean and 95 % t "
        "interval (of log ratios), which may leave the panel. Grey: the paper's Figure 3 against "
        "its own c = 0, for ETTh2 S.",
        lambda cell: [differences] if cell.d.size else [],
    ),
    Kind(
        "figure2",
        "L_f of the embedded input",
        "L_f (Eq. 2): the largest step along time, mean over batch and channels, after LipReg's "
        "normalisation. Left: training mode (with dropout), not smoothed; grey: the paper's "
        "Figure 2, for ETTh2 S 24. Right: mean over seeds, of training mode in about 100 blocks of "
        f"steps, of evaluation mode on one validation batch after each epoch. {ONE_C}",
        lambda cell: [one_run, mean_run],
    ),
    Kind(
        "steps",
        "test MSE by forecast step",
        "Left: mean over seeds, and the baselines where their errors by step are recorded. Right: "
        "mean and 95 % t interval (band) of the change from the run with c = 0 and the same seed. "
        f"All test windows. {ONE_C}",
        lambda cell: [step_errors, step_differences] if cell.d.size else [step_errors],
    ),
    Kind(
        "windows",
        "the same test windows",
        "The windows at 1/4, 1/2 and 3/4 of the test part, as one run of each c forecasts them. "
        f"Of the input, at most two forecast lengths are shown. {ONE_C}",
        window_panels,
    ),
)


def draw_all(runs: Runs, scored: pd.DataFrame) -> Iterator[Figure]:
    """Draw every figure that the runs allow.

    Args:
        runs: where histories and arrays are read from.
        scored: as `score_windows` returns it.
    """
    frame = by_cell(scored[scored["outcome"] == "ok"])
    for _, group in frame.groupby(GROUP, sort=False):
        for kind in KINDS:
            gaps: list[str] = []
            cells = [Cell(runs, one, gaps) for _, one in group.groupby(["pred_len", *CELL])]
            rows = [[partial(panel, cell) for panel in kind.panels(cell)] for cell in cells]
            if any(rows):
                yield _compose(kind, group, [row for row in rows if row], gaps)


def _compose(
    kind: Kind, group: pd.DataFrame, rows: list[list[partial[None]]], gaps: list[str]
) -> Figure:
    """Draw rows of panels under one title, with one legend below all."""
    if max(map(len, rows)) == 1:  # two columns of single panels
        flat = [panel for row in rows for panel in row]
        rows = [flat[i : i + 2] for i in range(0, len(flat), 2)]
    one, columns = group.iloc[0], max(map(len, rows))
    named = [f"{one['dataset']} {one['features']}", one["model"], one["amp"], one["differs"]]
    named = [word for word in named if word not in ("informer", "off", "")]
    title = f"{named[0]}: {kind.title}"
    with mpl.rc_context(STYLE):
        drawing = Drawing(figsize=(7.2, 2.3 * len(rows) + 0.7), layout="constrained")
        for i, row in enumerate(rows):
            for j, panel in enumerate(row):
                panel(drawing.add_subplot(len(rows), columns, i * columns + j + 1))
        whole = [title, *textwrap.wrap(", ".join(named[1:]), 110)]
        drawing.suptitle("\n".join(whole), fontsize=9, x=0.01, ha="left", parse_math=False)
        found = [axis.get_legend_handles_labels() for axis in drawing.axes]
        handles = {n: h for hs, ns in found for h, n in zip(hs, ns, strict=True)}
        drawing.legend(handles.values(), handles, loc="outside lower center", ncols=4)
    name = re.sub(r"[^\w.]+", "-", "-".join([kind.name, *named]))
    name = name if len(name) < 60 else f"{name[:50]}-{sha256_of(name.encode())[:6]}"
    return Figure(name, title, kind.caption, list(dict.fromkeys(gaps)), drawing)


def main(words: Sequence[str]) -> int:
    """Run one command line and return the exit code: 0, or 2 after a mistake."""
    parser = argparse.ArgumentParser(prog="python -m paper.figures", description=__doc__)
    add = parser.add_argument
    add("--results", type=Path, default=Path("results"), help="folder of the runs (results)")
    add("--data", help="data set to draw (all)")
    add("--out", type=Path, help="folder to write (RESULTS/figures)")
    add("--score", choices=("truncated", "all"), help="test windows (truncated beside a print)")
    add("--format", choices=[*METADATA], default="png", help="of the files (%(default)s)")
    args = parser.parse_args(words)
    out = args.out or args.results / "figures"
    try:
        runs = load(args.results)
        scored = score_windows(runs.frame, args.score)
        figures = list(draw_all(runs, scored))
        make_folder(out)
        for figure in figures:
            write_atomic(out / f"{figure.name}.{args.format}", figure.render(args.format))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for figure in figures:
        print("\n".join([f"{out / figure.name}.{args.format}: {figure.title}.", *figure.gaps]))
    print("\n".join([*runs.notes, *left_out(scored), f"wrote {len(figures)} figures"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
