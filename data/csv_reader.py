"""CSV files and frames as numbers over dates; files are read once a process."""

import csv
import functools
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset

from data.dates import find_step, parse_dates
from data.registry import DataSet
from utils.files import UserError, nearest, sha256_of

FLOAT32_MAX = float(np.finfo(np.float32).max)  # models compute in float32
EMPTY = {"", "nan", "na", "n/a", "null", "none", "<na>", "nat"}  # cells without a value
FIRST_ROW = 2  # a spreadsheet shows the header as row 1
TEXTS = 10  # cells of a column that are kept as written, for messages


@dataclass(frozen=True)
class Table:
    """What a file or a frame holds, shared by all who read it in this process."""

    path: Path
    sha256: str
    dates: pd.DatetimeIndex  # [N] as written, without the zone; NaT where a cell is no date
    zone: str | None  # of the dates
    values: pd.DataFrame  # [N, C] over rows from 0; NaN: an empty cell, infinity: no number
    texts: dict[tuple[int, str], str]  # by row and column: the first cells that are no number
    offset: BaseOffset  # the step, as pandas' date_range continues the dates by it
    checked: bool = False  # a registered file, taken as it is

    @functools.cached_property
    def grid(self) -> pd.DatetimeIndex:
        """All dates from the first to the last at the file's step; those of the file if checked."""
        kept = self.dates.dropna()
        if self.checked or kept.empty:
            return kept
        first: Any = kept.min()
        last: Any = kept.max()
        if first + (10 * len(self.dates) + 1000) * self.offset < last:
            step = f"{self.offset.freqstr} is the commonest step, but from {first} to {last}"
            advice = "resample it to one step"
            raise UserError(f"{self.path}: {step} are only {len(kept)} rows; {advice}")
        return pd.date_range(first, last, freq=self.offset)

    def pick(self, target: str, cols: Sequence[str] | None) -> list[str]:
        """Choose columns: `cols` in their order (None for all), then the target."""
        names = list(self.values.columns)
        for flag, name in [("target", target), *(("cols", name) for name in cols or ())]:
            if name not in names:
                hint = nearest(name, names)
                raise UserError(f"--{flag} {name}: {self.path} has no such value column{hint}")
        if cols is not None and len(set(cols)) < len(cols):
            raise UserError(f"--cols {' '.join(cols)}: a column is named twice; name each once")
        return [name for name in cols or names if name != target] + [target]

    def between(self, first: pd.Timestamp, end: pd.Timestamp) -> "Table":
        """Return the rows from a date on and before another, in the file's order."""
        kept = (self.dates >= first) & (self.dates < end)
        return replace(self, dates=self.dates[kept], values=self.values[kept])


def read_table(path: Path, dataset: DataSet | None = None) -> Table:
    """Read a file, or return what was read before if it has not changed since.

    A registered data set is known by its checksum and taken as it is. Raises UserError where the
    file cannot be read, or is no table.
    """
    try:
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size, dataset)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its path") from error


@functools.lru_cache(maxsize=4)
def _read(path: Path, _mtime: int, _size: int, dataset: DataSet | None) -> Table:
    content = path.read_bytes()
    if dataset is None:
        return parse_table(content, path)
    if (sha256 := sha256_of(content)) != dataset.sha256:
        name = dataset.name
        raise UserError(
            f"{path}: sha256 is {sha256}, but {name} has {dataset.sha256}; delete the file and run "
            f"`python -m data.download {name}`, or use it as --data custom"
        )
    frame = pd.read_csv(io.BytesIO(content))
    dates, step = parse_dates(frame.pop("date"), path), to_offset(dataset.step)
    return Table(path, sha256, dates, None, frame.astype(np.float64), {}, step, checked=True)


def parse_table(content: bytes, path: Path) -> Table:
    """Read UTF-8 CSV with a header and a column `date`; a UserError if it is none."""
    try:
        text = io.StringIO(content.decode("utf-8-sig").rstrip("\r\n"), newline=None)
        header, *rows = list(csv.reader(text, strict=True)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from None
    if mistake := next(_mistakes(header, rows), None):
        raise UserError(f"{path}: {mistake}")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    dates = columns.pop("date")
    return make_table(pd.DataFrame(columns, dtype=object), dates, path, sha256_of(content))


def make_table(cells: pd.DataFrame, dates: Any, path: Path, sha256: str = "") -> Table:
    """Turn cells [N, C], texts or numbers, and their dates [N] into a table."""
    parsed, values, texts = parse_dates(dates, path), {}, {}
    for row in np.flatnonzero(parsed.isna())[:TEXTS].tolist():
        texts[row, "date"] = str(pd.Series(dates).iloc[row])
    for name, column in cells.reset_index(drop=True).items():
        read: Any = pd.to_numeric(column, errors="coerce")
        numbers = read.to_numpy(np.float64, na_value=np.nan, copy=True)
        unfit = np.flatnonzero(~(np.abs(numbers) <= FLOAT32_MAX))  # NaN compares false
        written = [str(cell) for cell in column.iloc[unfit]]
        empty = [cell.strip().lower() in EMPTY for cell in written]
        numbers[unfit] = np.where(empty, np.nan, np.inf)
        first = zip(unfit[:TEXTS].tolist(), written, strict=False)
        texts |= {(row, str(name)): cell for row, cell in first}
        values[name] = numbers
    clock = parsed.tz_localize(None)
    zone = None if parsed.tz is None else str(parsed.tz)
    frame = pd.DataFrame(values, index=range(len(clock)), dtype=np.float64)
    return Table(path, sha256, clock, zone, frame, texts, find_step(clock))


def _mistakes(header: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Say what is wrong with a table's form, the likeliest cause first."""
    if not header:
        yield "row 1 is empty; the file needs a header and a row for each date"
    if len(header) == 1:
        yield "row 1 has no comma; save the file with commas between cells and points in numbers"
    if header[:1] == [""]:
        yield (
            "row 1, column 1 has no name: probably the index that pandas writes; save the frame "
            'with to_csv(index=False), or with index_label="date" if the index has the dates'
        )
    for i, name in enumerate(header):
        if not name.strip() or name.splitlines() != [name]:
            yield f"row 1, column {i + 1}: {name!r} is no column name; write one in one line"
        if name in header[:i]:
            yield f"row 1 names column {name!r} twice; rename one"
    if "date" not in header:
        yield f"row 1 has no column 'date'{date_hint(header)}; name the column of dates date"
    for number, row in enumerate(rows, FIRST_ROW):
        if len(row) != len(header):
            cells = f"{len(row)} cells, the header {len(header)}"
            yield f"row {number} has {cells}; give every row one cell for each column"


def date_hint(names: Sequence[str]) -> str:
    """Suggest the column that was probably meant to be `date`."""
    known = [name for name in names if name.strip().lower() in ("ds", "time", "datetime", "index")]
    close = nearest("date", names)
    return close or next((f" (did you mean {name!r}?)" for name in known), "")
