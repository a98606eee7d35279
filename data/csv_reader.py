"""CSV files as frames of numbers over dates, and the faults of files that people bring."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from utils.errors import UserError, nearest

# The first that fits the first date is used for all: slashes mean month first, as in WTH.
DATE_FORMATS = ("ISO8601", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y")
LARGEST = float(np.finfo(np.float32).max)  # models compute in float32
FIRST_ROW = 2  # a spreadsheet shows the header as row 1


def read_file(path: Path) -> bytes:
    """Return all bytes of a file.

    Raises:
        UserError: it is missing, a folder, or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check --root_path and --data_path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name the file in it with --data_path") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); check the file and its permissions"
        ) from error


def read_registered(
    content: bytes, path: Path, target: str, cols: Sequence[str] | None
) -> pd.DataFrame:
    """Read a file whose checksum holds, as it is; arguments and result as in `read_custom`."""
    frame = pd.read_csv(io.BytesIO(content))
    dates = _parse_dates(frame.pop("date").tolist(), path)
    names = _pick_columns(list(frame.columns), path, target, cols)
    return pd.DataFrame(frame[names].to_numpy(np.float64), dates, names)


def read_custom(
    content: bytes, path: Path, target: str, cols: Sequence[str] | None
) -> pd.DataFrame:
    """Read and check a file that someone brought.

    Args:
        content: comma-separated UTF-8 with a header row and a column `date`, either ISO 8601
            (2020-12-31 23:00) or month first (12/31/2020 23:00).
        path: its name, for messages.
        target: column that comes last.
        cols: other columns to use, in this order; None for all. The rest may hold anything.

    Returns:
        Finite values [rows, C] float64 over dates.

    Raises:
        UserError: the first fault, with row and column as a spreadsheet shows them.
    """
    header, *rows = _cells(content, path)
    _check_header(header, path)
    for number, row in enumerate(rows, FIRST_ROW):
        if len(row) != len(header):
            raise UserError(
                f"{path}: row {number} has {len(row)} cells, the header {len(header)}; "
                "give every row one cell for each column"
            )
    table = pd.DataFrame(rows, columns=header, dtype=object)
    dates = _parse_dates(table.pop("date").tolist(), path)
    names = _pick_columns(header, path, target, cols)
    values = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    bad = ~(np.abs(values) <= LARGEST)  # NaN compares false
    if bad.any():
        row, column = np.argwhere(bad)[0]
        wanted = "a finite number; mend it, or leave the column out with --cols"
        _refuse_cell(path, row, names[column], table[names[column]].tolist()[row], wanted)
    return pd.DataFrame(values, dates, names)


def regular_step(
    dates: pd.DatetimeIndex, path: Path
) -> tuple[pd.Timedelta, pd.Timedelta | pd.offsets.BaseOffset]:
    """Find the step that at least three dates keep: a length of time, or one of the calendar's.

    Returns:
        The commonest length of a step, and what pandas' date_range continues the dates by.

    Raises:
        UserError: the dates are unsorted, repeated or irregular.
    """
    gaps = np.diff(dates.to_numpy())
    lengths, counts = np.unique(gaps, return_counts=True)
    usual = pd.to_timedelta(lengths[counts.argmax()])
    zero = np.timedelta64(0)
    if lengths[0] <= zero:
        i = int((gaps <= zero).argmax())
        fault = "repeats" if gaps[i] == zero else "is before"
        raise UserError(
            f"{path}: row {i + 1 + FIRST_ROW}: date {dates[i + 1]} {fault} that of the row above; "
            "sort the rows by date and keep one row for each"
        )
    if len(lengths) == 1:
        return usual, usual
    with pd.option_context("future.infer_freq_returns_offset", True):
        calendar: Any = pd.infer_freq(dates)  # month starts, business days and their like
    if calendar is None:
        i = int((gaps != usual.to_timedelta64()).argmax())
        raise UserError(
            f"{path}: row {i + 1 + FIRST_ROW}: date {dates[i + 1]} comes "
            f"{pd.to_timedelta(gaps[i])} after the row above, where {usual} is usual; "
            "fill the gaps or resample to a regular step"
        )
    return usual, calendar


def _cells(content: bytes, path: Path) -> list[list[str]]:
    """Take the text apart into rows of cells, without the empty lines at its end."""
    if b"\0" in content:
        raise UserError(
            f"{path}: not a CSV file (it holds zero bytes, as pictures and .xlsx files do); "
            "export the table as CSV in UTF-8"
        )
    try:
        text = content.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=None), strict=True))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line} is not UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file ({error}); check its quotes") from None
    while rows and not rows[-1]:
        rows.pop()
    if not rows:
        raise UserError(f"{path}: the file is empty; it needs a header and a row for each date")
    return rows


def _check_header(header: list[str], path: Path) -> None:
    separator = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
    if separator:
        raise UserError(
            f"{path}: row 1 is separated by {separator!r}; save the file with commas between "
            "cells and points in numbers"
        )
    for column, name in enumerate(header):
        if not name.strip() or name.splitlines() != [name]:
            raise UserError(
                f"{path}: row 1, column {column + 1}: {name!r} is no name; write one in one line"
            )
        if name in header[:column]:
            raise UserError(f"{path}: row 1 names column {name!r} twice; rename one")
    if "date" not in header:
        raise UserError(
            f"{path}: row 1 has no column 'date'{nearest('date', header)}; "
            "give the column of dates that name"
        )


def _parse_dates(cells: list[str], path: Path) -> pd.DatetimeIndex:
    """Turn the date column into dates, clock time as written."""
    texts = pd.Series(cells, dtype=object)
    try:
        tried = (pd.to_datetime(texts[:1], format=f, errors="coerce") for f in DATE_FORMATS)
        fits = next((f for f, d in zip(DATE_FORMATS, tried, strict=False) if d.notna().all()), None)
        dates = pd.DatetimeIndex(
            pd.to_datetime(texts, format=fits or DATE_FORMATS[0], errors="coerce")
        )
    except ValueError:
        raise UserError(f"{path}: the dates mix time zones; write them all in one") from None
    if dates.hasnans:
        row = int(dates.isna().argmax())
        _refuse_cell(path, row, "date", cells[row], "a date; write dates like 2020-12-31 23:00:00")
    return dates.tz_localize(None)


def _pick_columns(
    header: list[str], path: Path, target: str, cols: Sequence[str] | None
) -> list[str]:
    """Choose the value columns, the target last."""
    names = [name for name in header if name != "date"]
    for flag, name in [("target", target), *(("cols", name) for name in cols or ())]:
        if name not in names:
            hint = nearest(name, names)
            raise UserError(f"--{flag} {name}: {path} has no such value column{hint}")
    if cols is not None and len(set(cols)) < len(cols):
        raise UserError(f"--cols {' '.join(cols)}: a column is named twice; name each once")
    return [name for name in cols or names if name != target] + [target]


def _refuse_cell(path: Path, row: int, column: str, cell: str, wanted: str) -> NoReturn:
    shown = repr(cell[:40]) if cell else "an empty cell"
    raise UserError(f"{path}: row {row + FIRST_ROW}, column {column!r}: {shown} is not {wanted}")
