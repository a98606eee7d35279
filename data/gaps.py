"""What is wrong with the rows of a table, said all at once; and gaps, filled in time if asked."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.csv_reader import FIRST_ROW, Table
from utils.files import UserError

MISSING = -9999.0  # how weather, and many loggers, mark a missing value
SHOWN = 10  # defects listed
FILL = "add what is missing, or let --missing interpolate fill gaps of at most --max_gap steps"
ADVICE = {
    "rows without a date": "write dates like 2020-12-31 23:00:00 (with slashes: month first)",
    "repeated dates": "keep one row for each date (at clock changes: write UTC)",
    "dates out of order": "sort the rows by date",
    "dates off the step": "resample to one step (months: date each row by its first day)",
    "missing rows": FILL,
    "empty cells": FILL,
    "cells that are no finite number": "correct them, or leave their columns out with --cols",
}


def regular_rows(
    table: Table, names: list[str], grid: pd.DatetimeIndex, fill: bool
) -> pd.DataFrame:
    """Return columns over a grid of dates; with `fill`, NaN where a row or a cell is missing.

    Raises UserError with the number of defects of each kind, and the first ones in row order.
    """
    rows: Any = table.values[names].set_axis(table.dates)
    if table.checked:
        return rows
    counts, advice, listed = [], {}, []
    for kind, count, first in _defects(table, names, grid):
        if count and not (fill and ADVICE[kind] == FILL):
            counts.append(f"{kind}: {count}")
            advice[ADVICE[kind]] = None
            listed += first
    if counts:
        step = f"the step is {table.offset.freqstr}"
        what = f"{table.path}: {', '.join(counts)} ({step}); {'; '.join(advice)}"
        lines = [f"  row {row + FIRST_ROW}: {text}" for row, text in sorted(listed)[:SHOWN]]
        raise UserError("\n".join([what, *lines]))
    return rows.reindex(grid)


def _defects(
    table: Table, names: list[str], grid: pd.DatetimeIndex
) -> Iterator[tuple[str, int, list[tuple[int, str]]]]:
    """Give each kind of defect, how many there are, and the first ones' rows and texts."""
    rows, dates = table.values.index.tolist(), pd.Series(table.dates)
    place = grid.get_indexer(table.dates)  # -1 where a date is none of the grid's

    def cell(i: int, name: str) -> str:
        text = table.texts.get((rows[i], name), "")
        return repr(text[:40]) if text else "an empty cell"

    none = dates.isna()
    again = dates.duplicated() & ~none
    early = (dates < dates.cummax().ffill().shift()) & ~again
    off = ~none & ~again & ~early & (place < 0)
    for kind, wrong, text in (
        ("rows without a date", none, "is not a date"),
        ("repeated dates", again, "repeats the date of a row above"),
        ("dates out of order", early, "is before the date of a row above"),
        ("dates off the step", off, "is not a whole number of steps after the first date"),
    ):
        at = np.flatnonzero(wrong).tolist()
        named = [(i, cell(i, "date") if wrong is none else dates[i]) for i in at[:SHOWN]]
        yield kind, len(at), [(rows[i], f"{what} {text}") for i, what in named]
    absent = np.setdiff1d(np.arange(len(grid)), place)
    gaps = np.split(absent, np.flatnonzero(np.diff(absent) > 1) + 1) if len(absent) else []
    first = []
    for gap in gaps[:SHOWN]:
        next_row = int(np.argmax([*(place > gap[-1]), True]))
        row = rows[next_row] if next_row < len(rows) else rows[-1] + 1
        first.append((row, f"before it {_stretch(grid[gap], 'missing')}"))
    yield "missing rows", len(absent), first
    values = table.values[names].to_numpy()
    for kind, wrong in (
        ("empty cells", np.isnan(values)),
        ("cells that are no finite number", np.isinf(values)),
    ):
        at = np.argwhere(wrong).tolist()
        named = [(rows[i], names[j], cell(i, names[j])) for i, j in at[:SHOWN]]
        texts = [
            (row, f"column {name!r}: {what} is not a finite number") for row, name, what in named
        ]
        yield kind, len(at), texts


def _stretch(dates: Any, what: str) -> str:
    """Say which steps are meant: `3 steps are missing, 2020-01-01 to 2020-01-03`."""
    if len(dates) == 1:
        return f"1 step is {what}, {dates[0]}"
    return f"{len(dates)} steps are {what}, {dates[0]} to {dates[-1]}"


def treat_missing(
    rows: pd.DataFrame, path: Path, max_gap: int | None, parts: Iterable[tuple[int, int]]
) -> pd.DataFrame:
    """Keep a file's cells of -9999 (max_gap None), or fill them and NaN linearly in time.

    Each part, from a row to before another, is filled from its own values (its ends: with the
    nearest). A note counts the cells. Raises UserError with the place of each longer gap.
    """
    marked, gaps = rows.eq(MISSING), rows.isna()
    where = f"in {', '.join(rows.columns[(marked | gaps).any()])}"
    marks, holes = int(marked.to_numpy().sum()), int(gaps.to_numpy().sum())
    if not marks + holes:
        return rows
    if max_gap is None:
        advice = "a missing value's mark: --missing interpolate fills them"
        print(f"note: {path.stem}: {marks} cells of -9999 {where}, {advice}")
        return rows
    rows = rows.mask(marked)
    parts = list(parts)
    if longer := [text for part in parts for text in _long_gaps(rows.iloc[slice(*part)], max_gap)]:
        advice = "raise it, or leave these columns or rows out"
        said = f"{path}: {len(longer)} gaps are longer than --max_gap {max_gap}; {advice}"
        raise UserError("\n".join([said, *longer[:SHOWN]]))
    filled = [
        rows.iloc[begin:end].interpolate("time", limit_direction="both") for begin, end in parts
    ]
    print(
        f"note: {path.stem}: filled, linearly in time: {marks} cells of -9999 and {holes} cells "
        f"that were empty or in missing rows, {where}"
    )
    return pd.concat(filled)


def _long_gaps(rows: pd.DataFrame, max_gap: int) -> Iterator[str]:
    dates = pd.DatetimeIndex(rows.index)
    for name in rows.columns[rows.isna().any()]:
        missing = rows[name].isna().to_numpy()
        edges = np.flatnonzero(np.diff(missing, prepend=False, append=False)).reshape(-1, 2)
        for begin, end in edges:
            if end - begin > max_gap or missing.all():
                yield f"  column {name!r}: {_stretch(dates[begin:end], 'without a value')}"
