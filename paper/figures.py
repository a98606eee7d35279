"""python -m paper.figures: the change in every cell, L_f, errors by forecast step, test windows."""

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from exp.record import read_arrays
from paper import runs as records
from paper.answer import FEWEST, pair
from paper.runs import PUBLISHED, Runs, loss_text, regularizer, shared_overrides, without
from paper.tables import add_flags, cells, left_out, select
from utils import plots
from utils.files import UserError, make_folder, read_json, sha256_of, write_atomic
from utils.output import run_command
from utils.plots import Axes, Rows
from utils.stats import mean_interval

COLORS = {0: (plots.BLACK, "-"), -1: (plots.RED, "--"), 1: (plots.BLUE, "-.")}  # by c's sign
CHANGE = "change of test MSE (%)"
FIXED = ("1/4", "1/2", "3/4")  # of the test part: windows that every run keeps
BINS = 25  # an epoch: over each L_f is averaged; the running mean is over a quarter of an epoch
TITLES = {
    "changes": "Change of the test MSE from the model without Lip",
    "figure2": "L_f of the embedded input",
    "steps": "test MSE by forecast step",
    "windows": "the same test windows",
}


class Figure(NamedTuple):
    """A drawing with its title."""

    name: str  # of its file, without ending
    kind: str  # of TITLES
    title: str
    drawing: plots.Figure


class Cell:
    """Runs of one cell with the same seeds: with one or two c, and without Lip."""

    def __init__(
        self, runs: Runs, frame: pd.DataFrame, pairs: dict[float, Any], gaps: list[str]
    ) -> None:
        # frame: rows of `by_cell`; pairs: of `paper.answer.pair`, by c
        self.runs, self.pairs, self.gaps, self.row = runs, pairs, gaps, frame.iloc[0].to_dict()
        zero, *_ = pairs.values()
        self.arms = {0.0: zero["run_second"]} | {c: one["run_first"] for c, one in pairs.items()}
        # without Lip, L_f may have been measured under another normalisation
        alike = frame.loc[frame["lip_norm"] == frame["norm"], "run"]
        self.measured = {c: names for c, names in self.arms.items() if names.isin(alike).all()}
        losses = ", ".join(map(loss_text, pairs))
        self.heading = f"{self.row['label']}, {losses}, {regularizer(self.row)}, n = {len(zero)}"

    def read(self, reader: Callable[[Any], Any], names: Iterable[Any]) -> list[Any]:
        """Read something of some runs; what cannot be read becomes a sentence in gaps."""
        found = []
        for run in names:
            try:
                found.append(reader(run))
            except UserError as error:
                self.gaps.append(f"{error}.")
        return found


def changes(rows: Sequence[dict[str, Any]], axis: Axes) -> str:
    """Draw rows of `paper.tables.cells`, a column each; what all share goes to the title."""
    names = []
    for row in rows:
        name, *apart = row["label"].split(", ")
        names.append([name, loss_text(row["c"]), regularizer(row), *apart, f"n = {row['n']}"])
    shared = [one for one in names[0][1:-1] if all(one in other for other in names)]
    many, beside = len(rows) > 4, min(0.02 * len(rows), 0.15)
    published = np.array([row["published_change"] for row in rows])
    if np.isfinite(published).any():
        axis.plot(range(len(rows)), published, "X", color=plots.GREY, label="published change")
    for at, row in enumerate(rows):
        d = np.asarray(row["d"], dtype=float)
        seeds = 100 * np.expm1(d[np.isfinite(d)])
        dots = {"color": plots.BLUE, "markersize": 4, "label": "one seed"}
        axis.plot([at - beside] * len(seeds), seeds, "o", **dots)
        if np.isfinite(row["low"]):
            bar = [[row["change"] - row["low"]], [row["high"] - row["change"]]]
            style = {"fmt": "s", "color": plots.BLACK, "mfc": plots.BLACK, "capsize": 2.5}
            label = "mean, 95 % interval"
            axis.errorbar([at + beside], [row["change"]], bar, label=label, **style)
        if not many and np.isfinite(published[at]):
            text = f"  {published[at]:+.0f} %".replace("-", "−")
            axis.text(at + beside, published[at], text, va="center", color=plots.GREY)
    axis.axhline(0, color=plots.GREY, linewidth=0.7)
    ticks = [(", " if many else "\n").join(x for x in one if x not in shared) for one in names]
    axis.set_xticks(range(len(rows)), ticks, rotation=90 * many, parse_math=False)
    axis.set(xlim=(-0.5, len(rows) - 0.5), ylabel=CHANGE)
    return ", ".join([rows[0]["features"], *shared])


def training_l_f(cell: Cell, axis: Axes) -> str:
    """Draw L_f over the training steps, thin behind a running mean, beside the paper's Figure 2."""
    lines = [(look(c), cell.read(cell.runs.trace, names)) for c, names in cell.measured.items()]
    if cell.row["published"] and cell.row["label"] == "ETTh2 S 24":
        for series, curve in pd.read_csv(PUBLISHED / "figure2.csv").groupby("series"):
            line, name = {"lip": (":", "MSE − λ Lip"), "original": ("-", "MSE")}[str(series)]
            style = {"color": plots.GREY, "linestyle": line, "label": f"published, {name}"}
            lines.append((style, [curve.rename(columns={"lipschitz_constant": "l_f"})]))
    for style, traces in lines:
        bins = [t.groupby((np.ceil(t["epoch"] * BINS) - 0.5) / BINS)["l_f"].mean() for t in traces]
        if bins:
            end = min(one.index.max() for one in bins)  # as far as all runs go
            mean = pd.concat(bins, axis=1).sort_index().loc[:end].mean(axis=1)
            axis.plot(mean.index, mean, color=style["color"], linewidth=0.4, alpha=0.5)
            axis.plot(mean.index, mean.rolling(BINS // 4 + 1, 1, center=True).mean(), **style)
    plots.counted(axis, "epoch", "$L_f$, training mode")
    return cell.heading


def evaluation_l_f(cell: Cell, axis: Axes) -> str:
    """Draw L_f without dropout, as far as all runs go."""
    for c, names in cell.measured.items():
        epochs = cell.read(cell.runs.history, names)
        curves = [one.set_index("epoch")["eval_l_f"] for one in epochs if "eval_l_f" in one]
        if curves:
            mean = pd.concat(curves, axis=1).dropna().mean(axis=1)
            axis.plot(mean.index, mean, marker="o", **look(c))
    plots.counted(axis, "epoch", "$L_f$, evaluation mode")
    return cell.heading


def step_errors(cell: Cell, axis: Axes) -> str:
    """Draw the test MSE of each forecast step, and the baselines' where they are recorded."""
    by_step = partial(cell.runs.errors, name="by_step")
    for c, names in cell.arms.items():
        if found := cell.read(by_step, names):
            axis.plot(range(1, len(found[0]) + 1), np.mean(found, axis=0), **look(c))
    metrics = cell.runs.source / cell.arms[0.0].iloc[0] / "metrics.json"
    body = {} if cell.runs.committed else read_json(metrics).get("baselines", {})
    baselines = zip(records.BASELINES.items(), plots.BASELINES, strict=True)
    for (name, label), (color, mark) in baselines:
        if mse := (body.get(name) or {}).get("by_step", {}).get("mse"):
            style = {"color": color, "marker": mark, "markevery": max(1, len(mse) // 8)}
            axis.plot(range(1, len(mse) + 1), mse, ":", label=label, **style)
    plots.counted(axis, "forecast step", "test MSE (scaled data)")
    return cell.heading


def step_changes(cell: Cell, axis: Axes) -> str:
    """Draw the change at each forecast step."""
    by_step = partial(cell.runs.errors, name="by_step")
    for c, pairs in cell.pairs.items():
        sides = [cell.read(by_step, pairs[f"run_{side}"]) for side in ("first", "second")]
        if all(len(one) == len(pairs) for one in sides):
            d = np.log(np.array(sides[0]) / np.array(sides[1]))  # [n, pred_len]
            mean, low, high = (100 * np.expm1(x) for x in mean_interval(d.T))
            steps = np.arange(1, len(mean) + 1)
            axis.plot(steps, mean, **look(c))
            if len(d) >= FEWEST:
                axis.fill_between(steps, low, high, color=look(c)["color"], alpha=0.15)
    axis.axhline(0, color=plots.GREY, linewidth=0.7)
    plots.counted(axis, "forecast step", CHANGE)
    return cell.heading


def windows(cell: Cell) -> Rows:
    """Return two rows of panels: windows that one run of every arm keeps, and differences."""
    names = [] if cell.runs.committed else cell.arms.values()
    folders = [cell.runs.source / one.iloc[0] for one in names]
    kept = cell.read(partial(read_arrays, name="samples"), folders)
    if not kept or len(kept) < len(names) or any({*FIXED} - {*one["rank"]} for one in kept):
        return []
    return [[partial(window, cell, kept, rank, below) for rank in FIXED] for below in (False, True)]


def window(cell: Cell, kept: Sequence[Any], rank: str, below: bool, axis: Axes) -> str:
    """Draw a test window with the forecast without Lip, or how much more those with Lip are."""
    zero, *others = kept
    i, ahead = zero["rank"].tolist().index(rank), zero["truth"].shape[1]
    history = zero["history"][i][-ahead:]
    dates = zero["date"][i][-ahead - len(history) :]
    if not below:
        names = {"truth": "truth", "forecast": "pred", "ridge": "ridge"}
        lines = {name: zero[key][i] for name, key in names.items() if key in zero}
        plots.draw_window(axis, plots.Window(str(zero["target"]), dates, history, lines))
        return f"from {pd.Timestamp(dates[-ahead]):%Y-%m-%d %H:%M}, seed {cell.arms[0.0].index[0]}"
    for c, samples in zip(cell.pairs, others, strict=True):
        axis.plot(dates[-ahead:], samples["pred"][i] - zero["pred"][i], **look(c))
    axis.axhline(0, color=plots.GREY, linewidth=0.7)
    plots.date_axis(axis, dates)
    axis.set_ylabel("forecast with Lip\nless that without")
    return cell.heading


def look(c: float) -> dict[str, Any]:
    """Say how the lines of a coefficient are drawn."""
    color, line = COLORS[int(np.sign(c))]
    return {"color": color, "linestyle": line, "label": f"trained on {loss_text(c)}"}


def figure(kind: str, place: Sequence[str], rows: Rows, height: float = 2.4) -> Figure:
    """Compose a figure; place is data set and features, if it is of one alone."""
    whole = "-".join([kind, *place])
    name = re.sub(r"[^\w.]+", "-", whole)[:60]  # of a file
    name += f"-{sha256_of(whole.encode())[:6]}" * (name != whole)
    title = f"{' '.join(place)}: {TITLES[kind]}" if place else TITLES[kind]
    return Figure(name, kind, title, plots.compose(title, rows, height))


def change_figure(scored: pd.DataFrame) -> Figure | None:
    """Draw the change in each cell of runs as `select_metrics` gives them; None: there is none."""
    rows = cells(scored)
    groups = [group for _, group in rows.loc[rows["n"] > 0].groupby("features", sort=False)]
    panels = [partial(changes, group.to_dict("records")) for group in groups]
    many = max(map(len, groups), default=0) > 4
    laid_out = [[panel] for panel in panels] if many else [panels]
    return figure("changes", [], laid_out, 3.6 if many else 2.4) if panels else None


def draw_all(runs: Runs, scored: pd.DataFrame) -> tuple[list[Figure], list[str]]:
    """Draw every figure that runs allow, and name what could not be read, the first five.

    scored: those to show, as `paper.runs.select_metrics` gives them.
    """
    first = change_figure(scored)
    if not first:
        return [], ["No figure: no run with Lip has the seed of one without."] * (len(scored) > 0)
    figures, gaps, rows = [first], [], cells(scored)
    frames = dict(iter(records.by_cell(scored).groupby(records.CELL, dropna=False)))
    for place, group in rows.loc[rows["n"] > 0].groupby(["dataset", "features"], sort=False):
        some, same = [], shared_overrides(group)
        for cell, lips in group.groupby(records.CELL, sort=False, dropna=False)["c"]:
            frame = frames[cell].assign(label=[without(x, same) for x in frames[cell]["label"]])
            panels: dict[Any, dict[float, Any]] = {}  # means over other seeds do not compare
            for c in lips:
                pairs = pair(frame, c, 0.0).dropna(subset="d")
                panels.setdefault((abs(c), *pairs.index), {})[c] = pairs
            some += [Cell(runs, frame, one, gaps) for one in panels.values()]
        l_f = [[partial(training_l_f, cell), partial(evaluation_l_f, cell)] for cell in some]
        steps = [[partial(step_errors, cell), partial(step_changes, cell)] for cell in some]
        shown = [row for cell in some for row in windows(cell)]
        figures += [figure("figure2", place, l_f), figure("steps", place, steps)]
        figures += [figure("windows", place, shown)] if shown else []
    gaps = list(dict.fromkeys(gaps))
    return figures, [*gaps[:5], *[f"And {len(gaps) - 5} more files."] * (len(gaps) > 5)]


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.figures", description=__doc__)
    add_flags(parser, "results", "data")
    add = parser.add_argument
    add("--out", type=Path, help="folder to write (RESULTS/figures)")
    add("--format", choices=[*plots.METADATA], default="png", help="of the files (%(default)s)")
    args = parser.parse_args(argv)
    runs, out = records.load(args.results), args.out or args.results / "figures"
    scored, notes = select(records.select_metrics(runs.frame), args.data)
    figures, gaps = draw_all(runs, scored)
    make_folder(out)
    for one in figures:
        write_atomic(out / f"{one.name}.{args.format}", plots.render(one.drawing, args.format))
    notes = [*runs.notes, *notes, *left_out(scored), *gaps]
    print(*notes, f"wrote {len(figures)} figures to {out}", sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
