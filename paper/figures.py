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
from paper.pairs import CONTROL, pair, print_of
from paper.tables import regularizer
from utils import plots
from utils.files import UserError, make_folder, read_json, sha256_of, write_atomic
from utils.output import run_command
from utils.plots import Axes, Panel
from utils.stats import mean_interval

COLORS = {0: (plots.BLACK, "-"), -1: (plots.RED, "--"), 1: (plots.BLUE, "-.")}  # by c's sign
CHANGE = "change of test MSE (%)"
FIXED = ("1/4", "1/2", "3/4")  # of the test part: windows that every run keeps
FEWEST = 3  # seeds for an interval
BINS = 25  # an epoch: over each L_f is averaged; the running mean is over a quarter of an epoch
GROUP = ["results_version", "dataset", "features", "model", "differs", "amp"]  # of one figure
SEEDS = "and its 95 % t interval over seeds, from three seeds on"
ONE_C = "Of several coefficients of one sign: the one with most seeds, then nearest to ±2."
WORDS = {  # title and caption of each kind
    "changes": (
        "change of the test MSE from the model without Lip",
        f"Circles: pairs of runs. Squares: mean {SEEDS}. Crosses: the published change. ",
    ),
    "figure2": (
        "L_f of the embedded input",
        "L_f (Eq. 2): largest step along time, mean over batch and channels, after Lip's "
        "normalisation. Thin: mean over seeds; thick: its running mean over a quarter of an epoch. "
        "Evaluation mode: without dropout, one validation batch. Only as far as all runs go. ",
    ),
    "steps": (
        "test MSE by forecast step",
        "Left: mean over seeds, and baselines where a run recorded them. Right: mean change from "
        f"the model without Lip {SEEDS}. Jumps, as at steps 7 and 16 of 24, are Informer's own: "
        "with mix its decoder reads 72 steps in blocks of 9, one a head. ",
    ),
    "windows": (
        "the same test windows",
        "At 1/4, 1/2 and 3/4 of the test part, in original units. Below, on a scale of its own: "
        "how much more the models trained with Lip from the same seed forecast. ",
    ),
}


class Figure(NamedTuple):
    """A drawing with its words."""

    name: str  # of its file, without ending
    title: str
    caption: str
    drawing: plots.Figure


class Cell:
    """The runs of one setting, axis and normalisation, with Lip and without, of equal seeds."""

    def __init__(self, runs: records.Runs, frame: pd.DataFrame, gaps: list[str]) -> None:
        self.runs, self.gaps, self.row = runs, gaps, frame.iloc[0].to_dict()
        d = {c: pair(frame, c, 0.0)["d"] for c in sorted(frame["c"].unique()) if c}
        self.d = pd.DataFrame(d).dropna(axis=1, how="all")  # ln(MSE / MSE without), seeds by c
        n, chosen = self.d.count(), {}
        for c in sorted(n.index, key=lambda c: (abs(c) > CONTROL, n[c], -abs(abs(c) - 2))):
            chosen[np.sign(c)] = c  # the last of each sign
        self.lips = [chosen[sign] for sign in COLORS if sign in chosen]
        rows = {
            c: frame.loc[frame["c"] == c].set_index("seed").sort_index() for c in (0, *self.lips)
        }
        self.arms = {c: one["run"] for c, one in rows.items()}  # names of runs by seed
        norm = self.row["norm"]  # L_f of runs without Lip may be measured under another one
        self.measured = [c for c, one in rows.items() if norm in ("", one["lip_norm"].iloc[0])]
        self.seed = min(self.d[self.lips].dropna().index, default=0)  # of the runs shown alone
        words = [self.row[name] for name in ("model", "amp", "differs")]
        old = self.row["results_version"] < runs.frame["results_version"].max()
        words += [f"results version {self.row['results_version']:g}"] * bool(old)
        self.special = [word for word in words if word not in ("informer", "off", "")]
        self.size = f"{self.row['pred_len']:g} steps ({self.row['lengths']})"
        counts = " to ".join(f"{n}" for n in sorted({n[self.lips].min(), n[self.lips].max()}))
        self.heading = f"{self.size}, {regularizer(self.row)}, n = {counts}"

    def read(self, reader: Callable[[str], Any], names: Iterable[str]) -> list[Any]:
        """Read something of some runs; what cannot be read becomes a sentence in gaps."""
        found = []
        for run in names:
            try:
                found.append(reader(run))
            except UserError as error:
                self.gaps.append(f"{error}.")
        return found

    def published(self, name: str) -> pd.DataFrame:
        """Return the rows of a published figure for these settings; none but for ETTh2 S."""
        frame = pd.read_csv(records.PRINTED / f"{name}.csv")
        steps = frame["pred_len"] if "pred_len" in frame else np.full(len(frame), 24)
        ours = self.row["printed"] and self.row["label"].startswith("ETTh2 S ")
        return frame.loc[ours & (steps == self.row["pred_len"])]


def draw_changes(axis: Axes, d: dict[str, Sequence[float]], published: Sequence[float]) -> None:
    """Draw one column a label: seeds left of its tick, mean and interval right of it.

    Args:
        axis: the panel.
        d: ln(MSE with Lip / MSE without), by seed, of each column.
        published: of each column, in percent, which is marked on the tick; NaN: there is none.
    """
    beside = 0.02 * len(d)  # the same on paper, however many columns there are
    if np.isfinite(published).any():
        axis.plot(range(len(d)), published, "X", color=plots.GREY, label="published change")
    for at, values in enumerate(d.values()):
        dots = {"color": plots.BLUE, "markersize": 4, "label": "one seed"}
        axis.plot([at - beside] * len(values), percent(values), "o", **dots)
        if len(values) >= FEWEST:
            mean, *bounds = map(percent, mean_interval(values))
            bar = np.abs(np.subtract(bounds, mean))[:, None]
            look = {"fmt": "s", "color": plots.BLACK, "mfc": plots.BLACK, "capsize": 2.5}
            axis.errorbar([at + beside], [mean], bar, label="mean, 95 % interval", **look)
        if len(d) <= 6 and np.isfinite(published[at]):
            words = f"  {published[at]:+.0f} %".replace("-", "−")
            axis.text(at + beside, published[at], words, va="center", color=plots.GREY)
    turned = sum(max(map(len, label.split("\n"))) for label in d) > 55  # else they would touch
    names = [label.replace("\n", ", ") if turned else label for label in d]
    axis.axhline(0, color=plots.GREY, linewidth=0.7)
    axis.set_xticks(range(len(d)), names, rotation=90 * turned, parse_math=False)
    axis.set(xlim=(-0.5, len(d) - 0.5), ylabel=CHANGE)


def changes(cells: Sequence[Cell], axis: Axes) -> str:
    """Draw the change in each cell; what is said of all of them goes to the title."""
    words, values, published = [], [], []
    for cell, c in [(one, c) for one in cells for c in one.lips]:
        name, d = f"{cell.row['dataset']}\n{cell.size}", cell.d[c].dropna().tolist()
        words.append([name, loss(c), regularizer(cell.row), *cell.special, f"n = {len(d)}"])
        values.append(d)
        published.append(print_of({**cell.row, "first": c, "second": 0.0})["print"])
    shared = [word for word in words[0][1:-1] if all(word in other for other in words)]
    labels = ["\n".join(word for word in one if word not in shared) for one in words]
    draw_changes(axis, dict(zip(labels, values, strict=True)), published)
    return ", ".join([cells[0].row["features"], *shared])


def coefficients(cell: Cell, axis: Axes) -> str:
    """Draw the change for every coefficient of a cell, beside the paper's Figure 3."""
    curve = cell.published("figure3").set_index("lam")["mse"].rename(lambda lam: -float(lam))
    curve = 100 * (curve / curve.get(0.0, np.nan) - 1)
    ticks = sorted({0.0, *cell.d.columns, *curve.index})
    d = cell.d.reindex(columns=ticks)
    draw_changes(axis, {signed(c): d[c].dropna() for c in ticks}, [*curve.reindex(ticks)])
    axis.set_xlabel("coefficient of Lip in the loss")
    return f"{cell.row['dataset']} {cell.row['features']}, {cell.heading}"


def training_l_f(cell: Cell, axis: Axes) -> str:
    """Draw L_f over the training steps, beside the paper's Figure 2."""
    for series, curve in cell.published("figure2").groupby("series"):
        line, name = {"lip": (":", "MSE − λ Lip"), "original": ("-", "MSE")}[str(series)]
        style = {"color": plots.GREY, "linestyle": line, "label": f"published, {name}"}
        draw_running(axis, [curve.rename(columns={"lipschitz_constant": "l_f"})], style)
    for c in cell.measured:
        draw_running(axis, cell.read(cell.runs.trace, cell.arms[c]), look(c))
    plots.counted(axis, "epoch", "$L_f$, training mode")
    return cell.heading


def draw_running(axis: Axes, traces: Sequence[pd.DataFrame], style: dict[str, Any]) -> None:
    """Draw the mean over runs, as far as all of them go, thin behind its running mean."""
    if traces:
        bins = [t.groupby((np.ceil(t["epoch"] * BINS) - 0.5) / BINS)["l_f"].mean() for t in traces]
        end = min(one.index.max() for one in bins)
        mean = pd.concat(bins, axis=1).sort_index().loc[:end].mean(axis=1)
        axis.plot(mean.index, mean, color=style["color"], linewidth=0.4, alpha=0.5)
        axis.plot(mean.index, mean.rolling(BINS // 4 + 1, 1, center=True).mean(), **style)


def evaluation_l_f(cell: Cell, axis: Axes) -> str:
    """Draw L_f without dropout, as far as all runs go."""
    for c in cell.measured:
        epochs = cell.read(cell.runs.history, cell.arms[c])
        curves = [one.set_index("epoch")["eval_l_f"] for one in epochs if "eval_l_f" in one]
        if curves:
            mean = pd.concat(curves, axis=1).dropna().mean(axis=1)
            axis.plot(mean.index, mean, marker="o", **look(c))
    plots.counted(axis, "epoch", "$L_f$, evaluation mode")
    return cell.heading


def step_errors(cell: Cell, axis: Axes) -> str:
    """Draw the test MSE of each forecast step, and the baselines' where they are recorded."""
    for c, names in cell.arms.items():
        if found := cell.read(cell.runs.by_step, names):
            axis.plot(range(1, len(found[0]) + 1), np.mean(found, axis=0), **look(c))
    metrics = cell.runs.source / cell.row["run"] / "metrics.json"
    body = {} if cell.runs.committed else read_json(metrics).get("baselines", {})
    for (name, label), (color, mark) in zip(records.BASELINES.items(), plots.OTHERS, strict=True):
        if mse := (body.get(name) or {}).get("by_step", {}).get("mse"):
            style = {"color": color, "marker": mark, "markevery": max(1, len(mse) // 8)}
            axis.plot(range(1, len(mse) + 1), mse, ":", label=label, **style)
    plots.counted(axis, "forecast step", "test MSE (scaled data)")
    return cell.heading


def step_changes(cell: Cell, axis: Axes) -> str:
    """Draw the change at each forecast step."""
    for c in cell.lips:
        seeds = cell.d[c].dropna().index
        ours, zero = (cell.read(cell.runs.by_step, cell.arms[x][seeds]) for x in (c, 0))
        if len(ours) == len(zero) == len(seeds):
            d = np.log(np.array(ours) / np.array(zero))  # [n, pred_len]
            mean, *bounds = map(percent, mean_interval(d.T))
            steps = np.arange(1, len(mean) + 1)
            axis.plot(steps, mean, **look(c))
            if len(d) >= FEWEST:
                axis.fill_between(steps, *bounds, color=look(c)["color"], alpha=0.15)
    axis.axhline(0, color=plots.GREY, linewidth=0.7)
    plots.counted(axis, "forecast step", CHANGE)
    return cell.heading


def windows(cell: Cell) -> list[list[Panel]]:
    """Return two rows of panels: windows that one run of every arm keeps, and differences."""
    names = [] if cell.runs.committed else cell.arms.values()
    folders = [cell.runs.source / run for one in names for run in one.filter([cell.seed])]
    kept = cell.read(partial(read_arrays, name="samples"), folders)
    if not kept or len(kept) < len(names) or any({*FIXED} - {*one["rank"]} for one in kept):
        return []
    return [[partial(window, cell, kept, rank, below) for rank in FIXED] for below in (False, True)]


def window(cell: Cell, kept: Sequence[Any], rank: str, below: bool, axis: Axes) -> str:
    """Draw a window and the forecast without Lip, or how much more those with Lip are."""
    zero, *others = kept
    i, ahead = zero["rank"].tolist().index(rank), zero["truth"].shape[1]
    known = np.concatenate([zero["history"][i], zero["truth"][i]])[-2 * ahead :]
    dates = zero["date"][i][-len(known) :]
    if below:
        axis.axhline(0, color=plots.GREY, linewidth=0.7)
        for c, samples in zip(cell.lips, others, strict=True):
            axis.plot(dates[-ahead:], samples["pred"][i] - zero["pred"][i], **look(c))
    else:
        axis.plot(dates, known, color=plots.GREY, linewidth=2, label="history and truth")
        ridge = {"color": plots.OTHERS[-1][0], "linestyle": ":", "label": "ridge"}
        for name, style in (("pred", look(0)), ("ridge", ridge)):
            if name in zero:  # earlier versions did not keep ridge's
                axis.plot(dates[-ahead - 1 :], [known[-ahead - 1], *zero[name][i]], **style)
    plots.date_axis(axis, dates)
    label = "forecast with Lip\nless that without" if below else str(zero["target"])
    axis.set_ylabel(label, parse_math=False)  # a column may be called "$"
    start = f"{cell.size} from {pd.Timestamp(dates[-ahead]):%Y-%m-%d %H:%M}"
    return regularizer(cell.row) if below else start


def percent(d: Any) -> np.ndarray:
    """Return the change in percent that a log ratio is."""
    return 100 * np.expm1(np.asarray(d, dtype=float))


def signed(c: float) -> str:
    """Write a coefficient with its sign."""
    return f"{c:+g}".replace("e-0", "e-").replace("-", "−") if c else "0"


def loss(c: float) -> str:
    """Write the loss with a coefficient."""
    return f"MSE {signed(c)[0]} {signed(abs(c))[1:]} Lip" if c else "MSE"


def look(c: float) -> dict[str, Any]:
    """Say how the lines of a coefficient are drawn."""
    color, line = COLORS[int(np.sign(c))]
    return {"color": color, "linestyle": line, "label": f"trained on {loss(c)}"}


def grouped(cells: Iterable[Cell], names: Sequence[str]) -> list[list[Cell]]:
    """Put cells together that are equal in what is named."""
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.row[name] for name in names), []).append(cell)
    return [*groups.values()]


def figure(kind: str, about: Sequence[str], rows: Sequence[Sequence[Panel]]) -> Figure:
    """Compose a figure; `about` tells it from others of its kind."""
    title, caption = WORDS[kind]
    name = re.sub(r"[^\w.]+", "-", " ".join([kind, *about]))
    name = name if len(name) < 60 else f"{name[:50]}-{sha256_of(name.encode())[:6]}"
    title = f"{' '.join(about[:2])}: {title}" if about else title.capitalize()
    return Figure(name, title, caption, plots.compose(title, ", ".join(about[2:]), rows))


def change_figure(cells: Sequence[Cell]) -> Figure:
    """Draw a panel for all cells of S and of M, and one for each cell with several coefficients."""
    groups = grouped(cells, ["results_version", "features"])
    panels = [partial(changes, group) for group in groups]
    panels += [partial(coefficients, c) for c in cells if len(c.d.columns) > len(c.lips)]
    width = 1 if max(map(len, groups)) > 4 else 2  # panels side by side
    return figure("changes", [], [panels[i : i + width] for i in range(0, len(panels), width)])


def draw_all(runs: records.Runs, scored: pd.DataFrame) -> tuple[list[Figure], list[str]]:
    """Draw every figure that the runs allow, and name what could not be read.

    Args:
        runs: what the runs recorded.
        scored: those to show, scored over all test windows.
    """
    frame, gaps = records.by_cell(scored.loc[scored["outcome"] == "ok"]), []
    every = [one for _, one in frame.groupby(records.CELL, sort=False, dropna=False)]
    seeds = [[{*one.loc[side, "seed"]} for side in (one["c"] == 0, one["c"] != 0)] for one in every]
    cells = [Cell(runs, one, gaps) for one, (a, b) in zip(every, seeds, strict=True) if a & b]
    if not cells:
        return [], ["No figure: no run with Lip has the seed of one without."] * (len(scored) > 0)
    figures = [change_figure(cells)]
    for group in grouped(cells, GROUP):
        about = [group[0].row["dataset"], group[0].row["features"], *group[0].special]
        l_f = [[partial(training_l_f, cell), partial(evaluation_l_f, cell)] for cell in group]
        steps = [[partial(step_errors, cell), partial(step_changes, cell)] for cell in group]
        shown = [row for cell in group for row in windows(cell)]
        figures += [figure("figure2", about, l_f), figure("steps", about, steps)]
        figures += [figure("windows", about, shown)] if shown else []
    return figures, list(dict.fromkeys(gaps))


def main(args: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.figures", description=__doc__)
    records.add_flags(parser, "results", "data")
    add = parser.add_argument
    add("--out", type=Path, help="folder to write (RESULTS/figures)")
    add("--format", choices=[*plots.METADATA], default="png", help="of the files (%(default)s)")
    flags = parser.parse_args(args)
    runs, out = records.load(flags.results), flags.out or flags.results / "figures"
    scored, notes = records.select(records.select_metrics(runs.frame, "all"), flags)
    figures, gaps = draw_all(runs, scored)
    make_folder(out)
    for one in figures:
        write_atomic(out / f"{one.name}.{flags.format}", plots.render(one.drawing, flags.format))
    notes = [*runs.notes, *notes, *records.left_out(scored), *gaps]
    print(*notes, f"wrote {len(figures)} figures to {out}", sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
