"""What is wrong with the rows of a table, said all at once; and gaps, filled in time if wished."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from data.csv_reader import FIRST_ROW, Table
from utils.files import UserError

MISSING = -9999.0  # how weather, and many loggers, mark a missing value
SHOWN = 10  # defects listed
ADVICE = {
    "not a date": "write dates like 2020-12-31 23:00:00 (with slashes: month first)",
    "repeated date": "keep one row for each date (at clock changes: write UTC)",
    "date out of order": "sort the rows by date",
    "date off the step": "resample to one step (months: date each row by its first day)",
    "not a finite number": "correct it, or train without its column (--cols)",
}


def regular_rows(
    table: Table,
    names: list[str],
    grid: pd.DatetimeIndex,
    parts: Sequence[tuple[int, int]],
    max_gap: int | None,
) -> pd.DataFrame:
    """Return columns over a grid of dates; without `max_gap` nothing may be missing.

    With it, missing rows, empty cells and cells of -9999 are filled linearly in time: each part,
    from a row to before another, from its own values (its ends: with the nearest). A note counts
    the cells. Raises UserError with the number of defects of each kind, and the first ones.
    """
    rows: Any = table.values[names].set_axis(table.dates)
    counts, listed = {}, []
    if not table.checked:
        counts, listed = _defects(table, names, grid)
        rows = rows[~rows.index.duplicated()].reindex(grid)
    marked, empty = rows.eq(MISSING), rows.isna()
    rows = rows if max_gap is None else rows.mask(marked)
    advice = [ADVICE[kind] for kind in counts]
    gaps = _gaps(rows, max_gap or 0)  # whole, where they reach over a border
    gaps = gaps or [gap for part in parts for gap in _gaps(rows.iloc[slice(*part)], len(rows))]
    if gaps:
        counts["gaps" if max_gap is None else f"gaps of over {max_gap} steps"] = len(gaps)
        advice.append(
            "add what is missing, or train without these columns (--cols), or with --missing "
            "interpolate, which fills gaps of at most --max_gap steps"
        )
    if counts:
        found = ", ".join(f"{kind}: {count}" for kind, count in counts.items())
        head = f"{table.path}: {found} (the step is {table.offset.freqstr}); {'; '.join(advice)}"
        raise UserError("\n  ".join([head, *[*listed, *gaps][:SHOWN]]))
    unknown = (marked | empty).any()
    if not unknown.any():
        return rows
    note = f"note: {table.path.stem}: {marked.to_numpy().sum()} cells of -9999"
    where = ", ".join(rows.columns[unknown])
    if max_gap is None:
        print(f"{note} in {where} are taken as they are; --missing interpolate fills them")
        return rows
    holes = empty.to_numpy().sum()
    print(
        f"{note} and {holes} empty or missing cells in {where} are filled, linearly in time, at "
        "the ends of training, validation and test with the nearest value"
    )
    filled = [rows.iloc[slice(*part)].interpolate("time", limit_direction="both") for part in parts]
    return pd.concat(filled)


def _defects(
    table: Table, names: list[str], grid: pd.DatetimeIndex
) -> tuple[dict[str, int], list[str]]:
    """Count each kind of defect in rows, and list the first ones in row order."""
    rows, written, listed = table.values.index, table.written, []
    dates = pd.Series(table.dates, rows)
    none = dates.isna()
    again = dates.duplicated() & ~none
    early = dates < dates.cummax().ffill().shift()
    off = ~(dates.isin(grid) | none)
    masks = dict(zip(ADVICE, (none, again, early, off), strict=False))
    counts = {kind: int(mask.sum()) for kind, mask in masks.items()}
    for kind, mask in masks.items():
        for row in rows[mask][:SHOWN]:
            cell = dates[row] if kind != "not a date" else repr(str(written.at[row, "date"])[:40])
            listed.append((row, f"{kind}, {cell}"))
    places = np.argwhere(np.isinf(table.values[names].to_numpy()))
    counts["not a finite number"] = len(places)
    for i, j in places[:SHOWN]:
        cell = str(written.at[rows[i], names[j]])[:40]
        listed.append((rows[i], f"not a finite number, {cell!r} in column {names[j]!r}"))
    lines = [f"row {row + FIRST_ROW}: {text}" for row, text in sorted(listed)]
    return {kind: count for kind, count in counts.items() if count}, lines


def _gaps(rows: pd.DataFrame, longest: int) -> list[str]:
    """List stretches without a value that are longer, or fill the whole of their column."""
    columns: dict[tuple[int, int], list[str]] = {}
    missing: Any = rows.isna()
    for name in rows.columns[missing.any()]:
        edges = np.diff(missing[name].to_numpy(), prepend=False, append=False)
        for begin, end in np.flatnonzero(edges).reshape(-1, 2):
            if end - begin > longest or missing[name].all():
                columns.setdefault((begin, end), []).append(name)
    return [
        f"{rows.index[begin]} to {rows.index[end - 1]}: {end - begin} steps without a value in "
        f"{', '.join(names)}"
        for (begin, end), names in sorted(columns.items())
    ]
