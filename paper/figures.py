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
GROUP = ["results_version", "features", "model", "differs", "amp", "dataset"]  # of one figure
PANEL = [*GROUP[:-1], "axis", "norm"]  # of one panel of the figure of all cells


class Figure(NamedTuple):
    """A drawing with its words."""

    name: str  # of its file, without ending
    title: str
    caption: str
    drawing: plots.Figure


class Arm:
    """The runs of one coefficient: their names by seed, and how their lines are drawn."""

    def __init__(self, c: float, frame: pd.DataFrame) -> None:
        rows = frame.loc[frame["c"] == c].set_index("seed").sort_index()
        self.c, self.runs, self.norm = c, rows["run"], rows["lip_norm"].iloc[0]
        color, line = COLORS[int(np.sign(c))]
        self.look: dict[str, Any] = {"color": color, "linestyle": line, "label": loss(c)}


class Cell:
    """The runs of one setting, axis and normalisation: some of equal seeds, with and without Lip.

    The arms are c = 0 and one coefficient of each sign.
    """

    def __init__(self, runs: records.Runs, frame: pd.DataFrame, gaps: list[str]) -> None:
        self.runs, self.gaps, self.first = runs, gaps, frame.iloc[0].to_dict()
        d = {c: pair(frame, c, 0.0)["d"] for c in sorted(frame["c"].unique()) if c}
        self.d = pd.DataFrame(d).dropna(axis=1, how="all")  # ln(MSE / MSE without), seeds by c
        n, chosen = self.d.count(), {}
        for c in sorted(n.index, key=lambda c: (abs(c) > CONTROL, n[c], -abs(abs(c) - 2))):
            chosen[np.sign(c)] = c  # the last of each sign
        self.arms = [Arm(c, frame) for c in (0.0, *(chosen[s] for s in COLORS if s in chosen))]
        self.seed = min(self.d[[arm.c for arm in self.arms[1:]]].dropna().index, default=0)
        steps = f"{self.first['pred_len']:g} steps ({self.first['lengths']})"
        self.heading = f"{steps}, {regularizer(self.first)}, n = {between(n[[*chosen.values()]])}"

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
        steps = frame["pred_len"] if "pred_len" in frame else [24] * len(frame)
        cells = pd.Series([f"informer ETTh2 S {n}" for n in steps], frame.index)
        ours = f"{self.first['model']} {self.first['cell']}"
        return frame.loc[(cells == ours) & self.first["printed"]]


def draw_changes(axis: Axes, d: dict[str, Sequence[float]], published: Sequence[float]) -> None:
    """Draw one column a label: seeds left of its tick, mean and interval right of it.

    Args:
        axis: the panel.
        d: ln(MSE with Lip / MSE without), by seed, of each column.
        published: of each column, in percent, which is marked on the tick; NaN: there is none.
    """
    left, right = (plots.aside(axis, points) for points in (-4, 4))
    mark = {"color": plots.GREY, "markersize": 6, "label": "published change"}
    axis.plot(range(len(d)), published, "X", **mark)
    for at, values in enumerate(d.values()):
        dots = {"color": plots.BLUE, "alpha": 0.8, "label": "two runs of one seed"}
        axis.plot([at] * len(values), percent(values), "o", transform=left, **dots)
        if len(values) >= FEWEST:
            mean, *bounds = map(percent, mean_interval(values))
            look = {"fmt": "s", "color": plots.BLACK, "mfc": plots.BLACK, "capsize": 2.5}
            look["label"] = "mean, 95 % interval"
            bar = np.abs(np.subtract(bounds, mean))[:, None]
            axis.errorbar([at], [mean], bar, transform=right, **look)
    axis.axhline(0, color=plots.GREY, linewidth=0.7)
    turned = sum(max(map(len, label.split("\n"))) for label in d) > 55  # else they would touch
    names = [label.replace("\n", ", ") if turned else label for label in d]
    axis.set_xticks(range(len(d)), names, rotation=90 * turned, parse_math=False)
    axis.set(xlim=(-0.6, len(d) - 0.4), ylabel=CHANGE)


def changes(cells: Sequence[Cell], axis: Axes) -> str:
    """Draw the change in each cell of one kind."""
    d, published = {}, []
    for cell, arm in ((cell, arm) for cell in cells for arm in cell.arms[1:]):
        row, values = cell.first, cell.d[arm.c].dropna().tolist()
        label = f"{row['dataset']}\n{row['lengths']}/{row['pred_len']:g}\n{loss(arm.c)}"
        d[f"{label}\nn = {len(values)}"] = values
        published.append(print_of({**row, "first": arm.c, "second": 0.0})["print"])
    draw_changes(axis, d, published)
    return ", ".join([cells[0].first["features"], regularizer(cells[0].first), *special(cells[0])])


def coefficients(cell: Cell, axis: Axes) -> str:
    """Draw the change for every coefficient of a cell, beside the paper's Figure 3."""
    curve = cell.published("figure3").set_index("lam")["mse"].rename(lambda lam: -float(lam))
    curve = 100 * (curve / curve.get(0.0, np.nan) - 1)
    ticks = sorted({0.0, *cell.d.columns, *curve.index})
    d = cell.d.reindex(columns=ticks)
    draw_changes(axis, {signed(c): d[c].dropna() for c in ticks}, curve.reindex(ticks))
    axis.set_xlabel("coefficient of Lip in the loss")
    return f"{cell.first['dataset']} {cell.first['features']}, {cell.heading}"


def training_l_f(cell: Cell, axis: Axes, beside: bool = False) -> str:
    """Draw L_f over the training steps (Figure 2), beside the published curves or alone."""
    for series, curve in cell.published("figure2").groupby("series") if beside else ():
        line, name = {"lip": (":", "MSE − λ Lip"), "original": ("-", "MSE")}[str(series)]
        look = {"color": plots.GREY, "linestyle": line, "label": f"published, {name}"}
        draw_running(axis, [curve.rename(columns={"lipschitz_constant": "l_f"})], look)
    for arm in cell.arms:
        if cell.first["norm"] in ("", arm.norm):  # else c = 0 was measured under another one
            draw_running(axis, cell.read(cell.runs.trace, arm.runs), arm.look)
    plots.whole_numbers(axis)
    axis.set(xlabel="epoch", ylabel="$L_f$, training mode")
    return cell.heading


def draw_running(axis: Axes, traces: Sequence[pd.DataFrame], look: dict[str, Any]) -> None:
    """Draw the mean over runs, as far as all of them go, thin behind its running mean."""
    if traces:
        bins = [t.groupby((t["epoch"] * BINS).round() / BINS)["l_f"].mean() for t in traces]
        end = min(one.index.max() for one in bins)
        mean = pd.concat(bins, axis=1).sort_index().loc[:end].mean(axis=1)
        axis.plot(mean.index, mean, color=look["color"], linewidth=0.4, alpha=0.5)
        axis.plot(mean.index, mean.rolling(BINS // 4 + 1, 1, center=True).mean(), **look)


def evaluation_l_f(cell: Cell, axis: Axes) -> str:
    """Draw L_f without dropout, as far as all runs go."""
    for arm in cell.arms:
        epochs = cell.read(cell.runs.history, arm.runs)
        curves = [one.set_index("epoch")["eval_l_f"] for one in epochs if "eval_l_f" in one]
        if curves and cell.first["norm"] in ("", arm.norm):
            mean = pd.concat(curves, axis=1).dropna().mean(axis=1)
            axis.plot(mean.index, mean, marker=".", **arm.look)
    plots.whole_numbers(axis)
    axis.set(xlabel="epoch", ylabel="$L_f$, evaluation mode")
    return cell.heading


def step_errors(cell: Cell, axis: Axes) -> str:
    """Draw the test MSE of each forecast step, and the baselines' where they are recorded."""
    for arm in cell.arms:
        if found := cell.read(cell.runs.by_step, arm.runs):
            axis.plot(range(1, len(found[0]) + 1), np.mean(found, axis=0), **arm.look)
    metrics = cell.runs.source / cell.first["run"] / "metrics.json"
    body = {} if cell.runs.committed else read_json(metrics).get("baselines", {})
    for (name, label), (color, mark) in zip(records.BASELINES.items(), plots.OTHERS, strict=True):
        if steps := (body.get(name) or {}).get("by_step"):
            look = {"color": color, "marker": mark, "markevery": max(1, len(steps["mse"]) // 8)}
            axis.plot(range(1, len(steps["mse"]) + 1), steps["mse"], ":", label=label, **look)
    plots.whole_numbers(axis)
    axis.set(xlabel="forecast step", ylabel="test MSE (scaled data)")
    return cell.heading


def step_changes(cell: Cell, axis: Axes) -> str:
    """Draw the change at each forecast step."""
    for arm in cell.arms[1:]:
        seeds = cell.d[arm.c].dropna().index
        ours, theirs = (cell.read(cell.runs.by_step, x.runs[seeds]) for x in (arm, cell.arms[0]))
        if len(ours) == len(theirs) == len(seeds):
            d = np.log(np.array(ours) / np.array(theirs))  # [n, pred_len]
            mean, low, high = map(percent, mean_interval(d.T))
            steps = np.arange(1, len(mean) + 1)
            axis.plot(steps, mean, **arm.look)
            if len(d) >= FEWEST:
                axis.fill_between(steps, low, high, color=arm.look["color"], alpha=0.15, lw=0.5)
    axis.axhline(0, color=plots.GREY, linewidth=0.7)
    plots.whole_numbers(axis)
    axis.set(xlabel="forecast step", ylabel=CHANGE)
    return cell.heading


def windows(cell: Cell) -> list[list[Panel]]:
    """Return two rows of panels: windows that one run of every arm keeps, and differences."""

    def samples(run: str) -> dict[str, np.ndarray]:
        return read_arrays(cell.runs.source / run, "samples")

    arms = [] if cell.runs.committed else cell.arms
    kept = [one for arm in arms for one in cell.read(samples, arm.runs.filter([cell.seed]))]
    if not kept or len(kept) < len(arms) or any({*FIXED} - {*one["rank"]} for one in kept):
        return []
    return [[partial(draw, cell, kept, rank) for rank in FIXED] for draw in (window, difference)]


def window(cell: Cell, kept: Sequence[dict[str, np.ndarray]], rank: str, axis: Axes) -> str:
    """Draw a test window: history and truth, the forecasts of the model without Lip and of ridge."""
    zero, ridge = kept[0], {"color": plots.OTHERS[-1][0], "linestyle": ":", "label": "ridge"}
    i, ahead = zero["rank"].tolist().index(rank), zero["truth"].shape[1]
    known = np.concatenate([zero["history"][i][-ahead:], zero["truth"][i]])
    dates = zero["date"][i][-len(known) :]
    axis.plot(dates, known, color=plots.GREY, linewidth=2, label="history and truth")
    for name, look in (("pred", cell.arms[0].look), ("ridge", ridge)):
        if name in zero:  # earlier versions did not keep ridge's
            axis.plot(dates[-ahead - 1 :], [known[-ahead - 1], *zero[name][i]], **look)
    plots.date_axis(axis, most=4)
    axis.set_ylabel(str(zero["target"]), parse_math=False)  # a column may be called "$"
    return f"{cell.heading.partition(' (')[0]} from {pd.Timestamp(dates[-ahead]):%Y-%m-%d %H:%M}"


def difference(cell: Cell, kept: Sequence[dict[str, np.ndarray]], rank: str, axis: Axes) -> str:
    """Draw what the forecasts of the models with Lip have more, below the window's panel."""
    i, ahead = kept[0]["rank"].tolist().index(rank), kept[0]["truth"].shape[1]
    for arm, samples in zip(cell.arms[1:], kept[1:], strict=True):
        more = samples["pred"][i] - kept[0]["pred"][i]
        axis.plot(samples["date"][i][-ahead:], more, **arm.look)
    axis.axhline(0, color=plots.GREY, linewidth=0.7)
    plots.date_axis(axis, most=4)
    axis.set_ylabel("forecast with Lip\nless that without")
    return ""


def percent(d: Any) -> np.ndarray:
    """Return the change in percent that a log ratio is."""
    return 100 * np.expm1(np.asarray(d, dtype=float))


def signed(c: float) -> str:
    """Write a coefficient with its sign."""
    return f"{c:+g}".replace("e-0", "e-").replace("-", "−") if c else "0"


def loss(c: float) -> str:
    """Write the loss with a coefficient."""
    return f"MSE {signed(c)[0]} {signed(abs(c))[1:]} Lip" if c else "MSE"


def between(counts: Sequence[int] | pd.Series) -> str:
    """Write the range of some counts."""
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


def special(cell: Cell) -> list[str]:
    """Say what sets a cell's runs apart from Informer's in fp32 at the paper's settings."""
    words = [cell.first[name] for name in ("model", "amp", "differs")]
    return [word for word in words if word not in ("informer", "off", "")]


SEEDS = "and a 95 % t interval over seeds, from three seeds on. All test windows."
ONE_C = "Of several coefficients of one sign: the one with most seeds, then nearest to ±2."
WORDS = {  # title and caption
    "changes": (
        "change of the test MSE from a model without Lip",
        f"By seed; squares and bars: mean {SEEDS} Crosses: the published change; beside several "
        f"coefficients that of Figure 3 against its own MSE. {ONE_C}",
    ),
    "figure2": (
        "L_f of the embedded input",
        "L_f (Eq. 2): largest step along time, mean over batch and channels, after Lip's "
        "normalisation. Thin: mean over seeds; thick: its running mean over a quarter of an epoch. "
        f"Evaluation mode: without dropout, on one validation batch. As far as all runs go. {ONE_C}",
    ),
    "steps": (
        "test MSE by forecast step",
        "Left: mean over seeds, and baselines where a run recorded them. Right: mean change from the "
        f"model without Lip {SEEDS} Jumps, as at steps 7 and 16 of 24, are Informer's: with mix its "
        f"decoder reads 72 steps in blocks of 9, one a head. {ONE_C}",
    ),
    "windows": (
        "the same test windows",
        "At 1/4, 1/2 and 3/4 of the test part, in original units. Above: truth and the forecast of "
        "a model trained without Lip; below, on a scale of its own: what models trained with Lip "
        f"from the same seed forecast more. {ONE_C}",
    ),
}


def figure(kind: str, cells: Sequence[Cell], about: Sequence[str], rows: Sequence[Any]) -> Figure:
    """Compose a figure of some cells; `about` tells it from others of its kind."""
    title, caption = WORDS[kind]
    name = re.sub(r"[^\w.]+", "-", " ".join([kind, *about]))
    name = name if len(name) < 60 else f"{name[:50]}-{sha256_of(name.encode())[:6]}"
    title = f"{' '.join(about[:2])}: {title}" if about else title
    return Figure(name, title, caption, plots.compose(title, ", ".join(about[2:]), rows))


def grouped(cells: Sequence[Cell], names: Sequence[str]) -> list[list[Cell]]:
    """Put cells together that are equal in what is named."""
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.first[name] for name in names), []).append(cell)
    return [*groups.values()]


def change_panels(cells: Sequence[Cell]) -> list[list[Panel]]:
    """Return a panel for each kind of cell, and one for each cell with several coefficients."""
    groups = grouped(cells, PANEL)
    panels = [partial(changes, group) for group in groups]
    panels += [partial(coefficients, c) for c in cells if len(c.d.columns) >= len(c.arms)]
    side_by_side = 1 if max(map(len, groups)) > 4 else 2
    return [panels[i : i + side_by_side] for i in range(0, len(panels), side_by_side)]


def l_f_panels(cell: Cell) -> list[Panel]:
    """Return a row of panels: beside the published curves where there are any, then alone."""
    beside = [partial(training_l_f, cell, beside=True)] * (len(cell.published("figure2")) > 0)
    return [*beside, partial(training_l_f, cell), partial(evaluation_l_f, cell)]


def comparable(runs: records.Runs, scored: pd.DataFrame, gaps: list[str]) -> list[Cell]:
    """Return the cells in which a run with Lip has the seed of one without."""
    frame, cells = records.by_cell(scored.loc[scored["outcome"] == "ok"]), []
    for _, one in frame.groupby(records.CELL, sort=False, dropna=False):
        zero = one["c"] == 0
        if {*one.loc[zero, "seed"]} & {*one.loc[~zero, "seed"]}:
            cells.append(Cell(runs, one, gaps))
    return cells


def draw_all(runs: records.Runs, scored: pd.DataFrame) -> tuple[list[Figure], list[str]]:
    """Draw every figure that the runs allow, and name what could not be read.

    Args:
        runs: what the runs recorded.
        scored: those to show, scored over all test windows.
    """
    gaps: list[str] = []
    cells = comparable(runs, scored, gaps)
    if not cells:
        return [], ["No figure: no run with Lip has the seed of one without."] * (len(scored) > 0)
    figures = [figure("changes", cells, [], change_panels(cells))]
    several = len({cell.first["results_version"] for cell in cells}) > 1
    for group in grouped(cells, GROUP):
        row = group[0].first
        about = [row["dataset"], row["features"], *special(group[0])]
        about += [f"results version {row['results_version']:g}"] * several
        steps = [[partial(step_errors, cell), partial(step_changes, cell)] for cell in group]
        figures.append(figure("figure2", group, about, [l_f_panels(cell) for cell in group]))
        figures.append(figure("steps", group, about, steps))
        if rows := [row for cell in group for row in windows(cell)]:
            figures.append(figure("windows", group, about, rows))
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
