"""python -m paper.figures: the change of the test MSE in every cell, and L_f over training."""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from paper import runs as records
from paper.answer import pair
from paper.runs import LIP, PUBLISHED, Runs
from paper.tables import cells, flags, left_out, select
from utils import plots
from utils.files import UserError, make_folder, write_atomic
from utils.output import run_command
from utils.plots import Axes, Figure

BINS = 25  # an epoch: over each L_f is averaged; the running mean is over a quarter of an epoch
TRAINED = {"first": (plots.RED, "--", "with Lip"), "second": (plots.BLACK, "-", "MSE")}
FIGURE2 = {"lip": (plots.GREY, ":", "published, MSE − λ Lip"),
           "original": (plots.GREY, "-", "published, MSE")}  # fmt: skip


def heading(row: dict[Any, Any]) -> str:
    """Name a row of `paper.tables.cells`."""
    return f"{row['dataset']} {row['setting'].removesuffix(' †')}"


def changes(rows: Sequence[dict[Any, Any]], axis: Axes) -> str:
    """Draw rows of `paper.tables.cells`, a column each."""
    at, beside = np.arange(len(rows)), min(0.02 * len(rows), 0.15)
    published = [row["published_change"] for row in rows]
    if np.isfinite(published).any():
        axis.plot(at, published, "X", color=plots.GREY, label="published change")
    for x, row in zip(at, rows, strict=True):
        d = np.asarray(row["d"], dtype=float)
        seeds = 100 * np.expm1(d[np.isfinite(d)])
        axis.plot([x - beside] * len(seeds), seeds, "o", color=plots.BLUE, label="one seed")
        if np.isfinite(row["low"]):
            bar = [[row["change"] - row["low"]], [row["high"] - row["change"]]]
            style = {"fmt": "s", "color": plots.BLACK, "mfc": plots.BLACK, "capsize": 2.5}
            axis.errorbar([x + beside], [row["change"]], bar, label="mean, 95 % interval", **style)
    axis.axhline(0, color=plots.GREY, linewidth=0.7)
    names, many = [f"{heading(row)}, n = {row['n']}" for row in rows], len(rows) > 4
    names = names if many else [name.replace(", ", "\n") for name in names]
    axis.set_xticks(at, names, rotation=90 * many, parse_math=False)
    axis.set(xlim=(-0.5, len(rows) - 0.5), ylabel="change of test MSE (%)")
    return rows[0]["features"]


def change_figure(rows: pd.DataFrame) -> Figure | None:
    """Draw the change in each cell of `paper.tables.cells`; None: no cell has a pair."""
    groups = [group for _, group in rows.loc[rows["n"] > 0].groupby("features", sort=False)]
    panels = [partial(changes, group.to_dict("records")) for group in groups]
    title = "Test MSE with Lip against without: MSE − 2 Lip along features, unless said"
    many = max(map(len, groups), default=0) > 4
    columns = 1 if many else len(panels)
    return plots.compose(title, panels, columns, 3.6 if many else 2.4) if panels else None


def l_f(runs: Runs, cell: pd.DataFrame, row: dict[Any, Any], axis: Axes) -> str:
    """Draw L_f over the training steps of a cell's pairs, beside the paper's Figure 2.

    cell: rows of `by_cell`. Each line is a running mean over all runs, as far as all of them go.
    """
    pairs, lines = pair(cell, row["c"], 0.0).dropna(subset="d"), []
    alike = cell.loc[cell["lip_norm"] == cell["norm"], "run"]  # L_f is normalised as Lip is
    try:
        for side, style in TRAINED.items():
            names = pairs[f"run_{side}"]
            lines += [(style, [*map(runs.trace, names)])] * bool(names.isin(alike).all())
    except UserError as error:
        return str(error)
    if row["published"] and row["label"] == "ETTh2 S 24" and row["c"] == LIP:
        curves = pd.read_csv(PUBLISHED / "figure2.csv")
        curves = curves.rename(columns={"lipschitz_constant": "l_f"})
        lines += [(FIGURE2[str(name)], [curve]) for name, curve in curves.groupby("series")]
    for (color, line, label), traces in lines:
        bins = [t.groupby((np.ceil(t["epoch"] * BINS) - 0.5) / BINS)["l_f"].mean() for t in traces]
        end = min(one.index.max() for one in bins)
        mean = pd.concat(bins, axis=1).sort_index().loc[:end].mean(axis=1)
        smooth = mean.rolling(BINS // 4 + 1, 1, center=True).mean()
        axis.plot(smooth.index, smooth, line, color=color, label=label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel="epoch", ylabel="$L_f$, training mode")
    return f"{heading(row)}, n = {len(pairs)}"


def draw_all(runs: Runs, scored: pd.DataFrame) -> dict[str, Figure]:
    """Draw what runs allow, by the name of its file: changes, and figure2 a data set.

    scored: the runs to show, as `paper.runs.select_metrics` gives them.
    """
    rows = cells(scored)
    rows = rows.loc[rows["n"] > 0]
    frames = dict(iter(records.by_cell(scored).groupby(records.CELL, dropna=False)))
    figures = {"changes": first} if (first := change_figure(rows)) else {}
    for dataset, group in rows.groupby("dataset", sort=False):
        every = group.to_dict("records")
        panels = [partial(l_f, runs, frames[tuple(x[k] for k in records.CELL)], x) for x in every]
        name = re.sub(r"[^\w.]+", "-", f"figure2-{dataset}")[:60]  # of a file
        figures[name] = plots.compose("L_f of the embedded input", panels, 2, 2.4)
    return figures


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = flags("figures", __doc__, "results", "data", "out")
    parser.add_argument("--format", choices=[*plots.METADATA], default="png", help="(%(default)s)")
    args = parser.parse_args(argv)
    runs, out = records.load(args.results), args.out or args.results / "figures"
    scored = select(runs, args.data)
    figures = draw_all(runs, scored)
    make_folder(out)
    for name, figure in figures.items():
        write_atomic(out / f"{name}.{args.format}", plots.render(figure, args.format))
    print(*runs.notes, *left_out(scored), f"wrote {len(figures)} figures to {out}", sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
