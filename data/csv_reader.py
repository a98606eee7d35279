"""CSV files as numbers over dates, read once a process, and what can be wrong with them."""

import csv
import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from data.registry import DataSet
from utils.errors import UserError, nearest
from utils.files import sha256_of
from utils.timefeatures import natural_unit

# The first format that fits the first date is used for all: slashes mean month first, as in WTH.
MONTH_FIRST = ("%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y")
DAY_FIRST = tuple(form.replace("%m/%d", "%d/%m") for form in MONTH_FIRST)
LARGEST = float(np.finfo(np.float32).max)  # models compute in float32
FIRST_ROW = 2  # a spreadsheet shows the header as row 1
DAY, MONTH = pd.Timedelta(days=1), pd.Timedelta(days=28)


@dataclass(frozen=True)
class Table:
    """A file's content, shared by all who read it in this process.

    Attributes:
        path: the file.
        sha256: checksum of its bytes.
        values: all columns but the date, [N, C] float64 over dates; NaN where a cell is no number.
        bad: for each column with such a cell, the first one's row from 0, and its text.
        step: the commonest length of a step.
        offset: what pandas' date_range continues the dates by: a length, or the calendar's.
    """

    path: Path
    sha256: str
    values: pd.DataFrame
    bad: dict[str, tuple[int, str]]
    step: pd.Timedelta
    offset: pd.offsets.BaseOffset

    @property
    def rows(self) -> int:
        """Number of rows without the header."""
        return len(self.values)

    @property
    def columns(self) -> int:
        """Number of columns without the date."""
        return self.values.shape[1]

    @property
    def freq(self) -> str:
        """Unit of the time features that fits the step."""
        return natural_unit(self.offset)

    def pick(self, target: str, cols: Sequence[str] | None) -> pd.DataFrame:
        """Choose columns: `cols` in their order (None for all), then the target.

        Raises:
            UserError: a column is not there, or holds a cell that is not a finite number.
        """
        names = list(self.values.columns)
        for flag, name in [("target", target), *(("cols", name) for name in cols or ())]:
            if name not in names:
                hint = nearest(name, names)
                raise UserError(f"--{flag} {name}: {self.path} has no such value column{hint}")
        if cols is not None and len(set(cols)) < len(cols):
            raise UserError(f"--cols {' '.join(cols)}: a column is named twice; name each once")
        chosen = [name for name in cols or names if name != target] + [target]
        if bad := [(*self.bad[name], name) for name in chosen if name in self.bad]:
            row, text, name = min(bad, key=lambda cell: cell[0])
            wanted = "a finite number; mend it, or leave the column out with --cols"
            _refuse_cell(self.path, row, name, text, wanted)
        return self.values[chosen]


def read_table(path: Path, dataset: DataSet | None = None) -> Table:
    """Read a file, or return what was read before if it has not changed since.

    Args:
        path: comma-separated UTF-8 with a header row and a column `date` in regular steps, either
            ISO 8601 (2020-12-31 23:00) or month first (12/31/2020 23:00).
        dataset: the registered data set that it must be; its content is then taken as it is.

    Raises:
        UserError: what is wrong with the file, with row and column as a spreadsheet shows them.
    """
    try:
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size, dataset)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check --root_path and --data_path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name the file in it with --data_path") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); check the file and its permissions"
        ) from error


@functools.lru_cache(maxsize=4)
def _read(path: Path, _mtime: int, _size: int, dataset: DataSet | None) -> Table:
    content = path.read_bytes()
    sha256 = sha256_of(content)
    if dataset:
        dataset.verify(sha256, path)
        frame = pd.read_csv(io.BytesIO(content))
        dates, step = _parse_dates(frame.pop("date").tolist(), path), pd.Timedelta(dataset.step)
        values = pd.DataFrame(frame.to_numpy(np.float64), dates, frame.columns)
        return Table(path, sha256, values, {}, step, to_offset(step))
    header, *rows = _cells(content, path)
    _check_header(header, path)
    for number, row in enumerate(rows, FIRST_ROW):
        if len(row) != len(header):
            raise UserError(
                f"{path}: row {number} has {len(row)} cells, the header {len(header)}; "
                "give every row one cell for each column"
            )
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    dates, step, offset = _regular_dates(columns.pop("date"), path)
    values, bad = {}, {}
    for name, texts in columns.items():
        cells = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce")
        values[name] = cells.to_numpy(np.float64)
        finite = np.abs(values[name]) <= LARGEST  # NaN compares false
        if not finite.all():
            bad[name] = int(finite.argmin()), texts[finite.argmin()]
    return Table(path, sha256, pd.DataFrame(values, dates), bad, step, offset)


def regular_step(
    dates: pd.DatetimeIndex, where: Path | str
) -> tuple[pd.Timedelta, pd.offsets.BaseOffset]:
    """Find the step that dates keep: a length of time, or one of the calendar's.

    Args:
        dates: fewer than two are taken for hours, which nothing depends on.
        where: the file's name, for messages.

    Returns:
        The commonest length of a step, and what pandas' date_range continues the dates by.

    Raises:
        UserError: the dates are unsorted, repeated or irregular.
    """
    if len(dates) < 2:
        return pd.Timedelta(hours=1), to_offset("h")
    gaps = np.diff(dates.to_numpy())
    zero = np.timedelta64(0)
    if (early := gaps <= zero).any():
        i = int(early.argmax())
        what = "repeats" if gaps[i] == zero else "is before"
        raise UserError(
            f"{where}: row {i + 1 + FIRST_ROW}, column 'date': {dates[i + 1]} {what} that of the "
            "row above; sort the rows by date and keep one row for each"
        )
    usual = pd.Timedelta(_commonest(gaps))
    offsets = [to_offset(usual), *_calendar_steps(dates, usual)]
    fitting = next((offset for offset in offsets if first_break(dates, offset) is None), None)
    if fitting is None:
        _refuse_irregular(dates, usual, offsets, where)
    return usual, fitting


def first_break(dates: pd.DatetimeIndex, offset: pd.offsets.BaseOffset) -> int | None:
    """Return the first position at which dates differ from equal steps from their first one on."""
    wrong = pd.date_range(dates[0], periods=len(dates), freq=offset) != dates
    return int(wrong.argmax()) if wrong.any() else None


def _calendar_steps(dates: pd.DatetimeIndex, usual: pd.Timedelta) -> list[pd.offsets.BaseOffset]:
    """Return the calendar's steps that dates at such distances can keep."""
    if usual < MONTH:
        return [pd.offsets.BusinessDay()] if usual == DAY else []
    months = max(1, int(_commonest(np.diff(dates.year * 12 + dates.month))))
    kinds = ("MonthBegin", "MonthEnd", "BusinessMonthBegin", "BusinessMonthEnd")
    return [getattr(pd.offsets, kind)(months) for kind in kinds]


def _refuse_irregular(
    dates: pd.DatetimeIndex,
    usual: pd.Timedelta,
    offsets: Sequence[pd.offsets.BaseOffset],
    where: Path | str,
) -> NoReturn:
    """Name the first date that breaks the step, and why."""
    offset, step, advice = offsets[0], str(usual), "fill the gaps or resample to a regular step"
    hours = pd.Series(dates.strftime("%T")).groupby(dates.floor("D").to_numpy()).agg("".join)
    if usual >= MONTH and (dates.is_month_start.all() or dates.is_month_end.all()):
        offset = offsets[1 if dates.is_month_start.all() else 2]
        step, advice = "a whole number of months", "add the months that are missing"
    elif usual >= MONTH and len(set(dates.day)) == 1:
        first = dates[0]
        advice = f"months differ in length: date their rows {first:%Y-%m}-01, not {first:%Y-%m-%d}"
    elif usual == DAY and (dates.dayofweek < 5).all():
        offset, step = offsets[1], "the next business day"
        advice = "add the missing days (holidays, say) with the values of the row above"
    elif usual < DAY and hours.nunique() == 1 < len(hours):
        advice = "nights or weekends have no rows: add them, or resample to one row a day"
    i = first_break(dates, offset)
    assert i, "these dates keep none of the steps"
    raise UserError(
        f"{where}: row {i + FIRST_ROW}, column 'date': {dates[i]} comes {dates[i] - dates[i - 1]} "
        f"after the row above, where {step} is usual; {advice}"
    )


def _commonest(values: np.ndarray | pd.Index) -> np.generic:
    found, counts = np.unique(np.asarray(values), return_counts=True)
    return found[counts.argmax()]


def _regular_dates(
    texts: list[str], path: Path
) -> tuple[pd.DatetimeIndex, pd.Timedelta, pd.offsets.BaseOffset]:
    """Parse a date column and find its step; say so where day-first dates are what is wrong."""
    try:
        dates = _parse_dates(texts, path)
        return dates, *regular_step(dates, path)
    except UserError as error:
        if _is_day_first(texts):
            what = str(error).rpartition("; ")[0]
            raise UserError(
                f"{what}: the dates are day first, and slashes are read month first; "
                "write dates like 2020-12-31 23:00:00"
            ) from None
        raise


def _is_day_first(texts: list[str]) -> bool:
    """Tell whether dates are whole only with the day first, or regular only so."""
    dates = _read_dates(texts, DAY_FIRST)
    if dates.hasnans or _read_dates(texts, MONTH_FIRST).hasnans:
        return not dates.hasnans
    try:
        regular_step(dates, "")
    except UserError:
        return False
    return True


def _parse_dates(texts: list[str], path: Path) -> pd.DatetimeIndex:
    """Turn the date column into dates, clock time as written."""
    try:
        dates = _read_dates(texts, ("ISO8601", *MONTH_FIRST))
    except ValueError:
        raise UserError(f"{path}: the dates mix time zones; write them all in one") from None
    if dates.hasnans:
        row = int(dates.isna().argmax())
        _refuse_cell(path, row, "date", texts[row], "a date; write dates like 2020-12-31 23:00:00")
    return dates.tz_localize(None)


def _read_dates(texts: list[str], formats: Sequence[str]) -> pd.DatetimeIndex:
    """Read all dates in the format that fits the first; NaT where it does not fit."""
    cells = pd.Series(texts, dtype=object)
    tried = {form: pd.to_datetime(cells[:1], format=form, errors="coerce") for form in formats}
    fits = next((form for form, date in tried.items() if date.notna().all()), formats[0])
    return pd.DatetimeIndex(pd.to_datetime(cells, format=fits, errors="coerce"))


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
    if not header[0].strip() and len(header) > 1:
        raise UserError(
            f"{path}: row 1, column 1 has no name: probably the index that pandas writes; save it "
            'with to_csv(index=False), or index_label="date" if it holds the dates'
        )
    for column, name in enumerate(header):
        if not name.strip() or name.splitlines() != [name]:
            raise UserError(
                f"{path}: row 1, column {column + 1}: {name!r} is not a column name; give the "
                "column a name in one line"
            )
        if name in header[:column]:
            raise UserError(f"{path}: row 1 names column {name!r} twice; rename one")
    if "date" not in header:
        padded = next((name for name in header if name.strip() == "date"), None)
        hint = f" but {padded!r}, with spaces" if padded else nearest("date", header)
        raise UserError(
            f"{path}: row 1 has no column 'date'{hint}; name the column of dates exactly date"
        )


def _refuse_cell(path: Path, row: int, column: str, cell: str, wanted: str) -> NoReturn:
    shown = repr(cell[:40]) if cell else "an empty cell"
    raise UserError(f"{path}: row {row + FIRST_ROW}, column {column!r}: {shown} is not {wanted}")
