"""python -m exp.figure: the paper's Figures 2 and 3, error by step and forecasts, from the runs."""

import argparse
import io
import itertools
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure as Drawing

from exp.cells import SIGN_TEXT, Cell, find_cells, paper_settings, usable_runs
from exp.layout import PRECISION, Key, table_keys, title
from exp.panels import (
    KINDS,
    LAM_NOTE,
    Kind,
    coefficient,
    norm,
    read_each,
    shown_runs,
    window_panel,
)
from exp.record import read_arrays, read_runs
from utils.errors import UserError
from utils.files import make_folder, sha256_of, write_atomic

STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 5,
    "svg.hashsalt": "informer-lipreg",  # equal runs, equal bytes
}
METADATA = {"svg": {"Date": None}, "png": {}}
RANKS = ("best", "median", "worst")


@dataclass(frozen=True)
class Figure:
    """A drawing with the words that belong to it.

    Attributes:
        name: file name without ending.
        title: what it is.
        caption: what is shown and how it was made.
        gaps: a sentence for each file that should have been drawn and is not there.
        drawing: the drawing itself.
    """

    name: str
    title: str
    caption: str
    gaps: list[str]
    drawing: Drawing = field(repr=False)

    def render(self, form: str) -> bytes:
        """Return the file's content, form png or svg; equal runs give equal bytes."""
        buffer = io.BytesIO()
        with mpl.rc_context(STYLE):
            self.drawing.savefig(buffer, format=form, dpi=200, metadata=METADATA[form])
        return buffer.getvalue()


def draw_all(cells: list[Cell], results: Path, score: str) -> Iterator[Figure]:
    """Draw every figure that the runs allow, and the printed curves where there are no runs.

    Args:
        cells: as `find_cells` returns them.
        results: the folder of the runs.
        score: truncated or all, as given to `usable_runs`.
    """
    for key in table_keys(cells, ["S"]):
        own = [cell for cell in cells if cell.table == key]
        own = sorted([*own, *without_runs(key, own)], key=lambda c: (*_group(c), c.pred_len))
        for _, group in itertools.groupby(own, _group):
            panels = list(group)
            for kind in KINDS:
                shown = [cell for cell in panels if len(cell.runs) or len(kind.printed(cell))]
                if shown:
                    yield draw_kind(kind, shown, results, score)
            yield from (draw_windows(cell, results) for cell in panels if len(cell.runs))


def _group(cell: Cell) -> tuple[str, str]:
    return cell.data, cell.model


def without_runs(key: Key, cells: list[Cell]) -> list[Cell]:
    """Return an empty cell for each horizon with printed curves that has no run in a table."""
    names = ["run", "seed", "c", "lam", "lip_norm", "mse", "val_mse", "results_version"]
    rows = [(k, v) for k, v in paper_settings().items() if k[:2] == ("ETTh2", "S")]
    have = {cell.pred_len for cell in cells if cell.data == "ETTh2"}
    return [
        Cell(
            "informer", *name, f"{row['seq_len']}/{row['label_len']}", key[3] or None, key[4], "",
            row["itr"], pd.DataFrame(columns=names),
        )
        for name, row in rows
        if key[:3] == (True, "S", "") and name[2] not in have
    ]  # fmt: skip


def draw_kind(kind: Kind, cells: list[Cell], results: Path, score: str) -> Figure:
    """Draw one panel for each cell, with the legend below all."""
    rows, columns = math.ceil(len(cells) / 2), min(len(cells), 2)
    gaps = []
    with mpl.rc_context(STYLE):
        size = (max(3.3 * columns, 4.6), 2.35 * rows + 0.5)
        drawing = Drawing(figsize=size, layout="constrained")
        for i, cell in enumerate(cells):
            axis = drawing.add_subplot(rows, columns, i + 1)
            gaps += kind.panel(axis, cell, results, kind.printed(cell))
            axis.set_xlabel(kind.x if i + columns >= len(cells) else "")
            axis.set_ylabel(kind.y if i % columns == 0 else "")
        _legend(drawing)
    caption = kind.caption.format(score=score.capitalize())
    return _figure(kind.name, kind.title, caption, cells, gaps=gaps, drawing=drawing)


def draw_windows(cell: Cell, results: Path) -> Figure:
    """Draw the best, median and worst test window of one run of each sign."""
    arms = shown_runs(cell)
    shared = set.intersection(*(set(runs["seed"]) for runs in arms.values()))
    gaps, seeds = [], []
    with mpl.rc_context(STYLE):
        drawing = Drawing(figsize=(6.8, 1.9 * len(arms) + 0.5), layout="constrained")
        for row, (sign, runs) in enumerate(arms.items()):
            seed = min(shared or runs["seed"])
            run = runs.loc[runs["seed"] == seed]
            found, lost = read_each(run, lambda folder: read_arrays(folder, "samples"), results)
            gaps += lost
            seeds.append(f"{SIGN_TEXT[sign]} seed {seed:g}")
            for column, rank in enumerate(RANKS):
                axis = drawing.add_subplot(len(arms), 3, 3 * row + column + 1)
                axis.set_title(f"{rank}, c = {coefficient(runs)}{'' if found else ': missing'}")
                if row == len(arms) - 1:
                    axis.set_xlabel("hours from first forecast step")
                for samples in found:
                    window_panel(axis, sign, samples, rank)
                    label = f"{samples['target']} (original units)" if column == 0 else ""
                    axis.set_ylabel(label, parse_math=False)  # a column may be called "$"
        _legend(drawing)
    caption = (
        f"One run of each sign ({', '.join(seeds)}): its best, median and worst test window by the "
        "target's MSE on scaled data, which stands above each panel with the date of the first "
        f"forecast step. Of the input, at most two forecast lengths are shown. {LAM_NOTE}"
    )
    return _figure(
        "windows", "Forecasts against the truth", caption, [cell], gaps=gaps, drawing=drawing
    )


def _legend(drawing: Drawing) -> None:
    """Put one legend below all panels, each label once."""
    pairs = [
        pair
        for axis in drawing.axes
        for pair in zip(*axis.get_legend_handles_labels(), strict=True)
    ]
    handles = {label: handle for handle, label in pairs}
    count, room = len(handles), 3 if drawing.get_figwidth() < 5 else 4
    halves = math.ceil(count / 2)
    columns = next((number for number in (count, halves) if number <= room), 2)
    drawing.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)


def _figure(
    name: str, what: str, caption: str, cells: list[Cell], *, gaps: list[str], drawing: Drawing
) -> Figure:
    """Name a figure after its cells and say what they share."""
    cell = cells[0]
    _, features, differs, axis, amp = cell.table
    names = [name, cell.model, cell.data, features, axis or "c0", PRECISION.get(amp, "no_runs")]
    if name == "windows":
        names.append(f"{cell.pred_len}-{cell.lengths}")
    if differs:
        names.append(sha256_of(differs.encode())[:6])
    shared = f"{title(cell.table)}, lip_norm {norm(cell)}, {_shown(cells)}"
    horizon = f" {cell.pred_len}" if len(cells) == 1 else ""
    return Figure(
        name=re.sub(r"[^\w.-]+", "-", "-".join(names)),
        title=f"{what}: {cell.data} {features}{horizon}, {cell.model}",
        caption=f"{shared}. {caption}",
        gaps=gaps,
        drawing=drawing,
    )


def _shown(cells: list[Cell]) -> str:
    """Write how many seeds some cells have and the results version of their runs."""
    runs = [run for cell in cells for run in cell.runs.to_dict("records")]
    if not runs:
        return "no runs"
    counts = [n for cell in cells for n in cell.runs.groupby("c").size()]
    seeds = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{min(counts)}"
    versions = sorted({f"{run['results_version']:g}" for run in runs})
    return f"{seeds} seed{'s' * (max(counts) > 1)} a c, results version {', '.join(versions)}"


def captions(figures: list[Figure], notes: list[str]) -> str:
    """Write the captions of all figures, which the files themselves do not hold, in Markdown."""
    parts = [f"## {f.name}\n\n{' '.join([f.title + '.', f.caption, *f.gaps])}\n" for f in figures]
    return "\n".join(["# Figures\n", *(f"- {note}" for note in notes), "", *parts])


def main(words: Sequence[str]) -> int:
    """Run one command line and return the exit code: 0, or 2 after a mistake."""
    parser = argparse.ArgumentParser(prog="python -m exp.figure", description=__doc__)
    add = parser.add_argument
    add("--results", type=Path, default=Path("results"), help="folder of the runs (results)")
    add("--out", type=Path, help="folder to write (RESULTS/figures)")
    add("--score", choices=("truncated", "all"), default="truncated", help="test windows scored")
    args = parser.parse_args(words)
    out = args.out or args.results / "figures"
    try:
        runs, notes = usable_runs(read_runs(args.results), args.score)
        make_folder(out)
        figures = list(draw_all(find_cells(runs), args.results, args.score))
        for figure in figures:
            for form in METADATA:
                write_atomic(out / f"{figure.name}.{form}", figure.render(form))
        write_atomic(out / "captions.md", captions(figures, notes).encode())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {len(figures)} figures as PNG and SVG, and captions.md, to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
