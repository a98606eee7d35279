"""CSV files and frames as numbers over dates; files are read once a process."""

import csv
import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import infer_freq, to_offset
from pandas.tseries.offsets import BaseOffset, Tick

from data.registry import DataSet
from utils.files import UserError, nearest, sha256_of

FLOAT32_MAX = float(np.finfo(np.float32).max)  # models compute in float32
EMPTY = {"", "nan", "na", "n/a", "null", "none", "<na>", "nat"}  # cells without a value
FIRST_ROW = 2  # a spreadsheet shows the header as row 1
SLASHES = ("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S")  # by colons
FIRST_YEAR, LAST_YEAR = 1000, 4000  # the longest forecast of years ends before 9999


@dataclass(frozen=True)
class Table:
    """What a file or a frame holds; a file's is shared by all who read it in this process."""

    path: Path
    sha256: str
    stamps: pd.DatetimeIndex  # [N] the dates, in their time zone; NaT where a cell is no date
    values: pd.DataFrame  # [N, C] over rows from 0; NaN: an empty cell, infinity: no number
    written: pd.DataFrame  # the cells of rows in which one is no date or no finite number
    offset: BaseOffset  # the step, as pandas' date_range continues the dates by it
    checked: bool = False  # a registered file, taken as it is

    @functools.cached_property
    def dates(self) -> pd.DatetimeIndex:
        """The dates as their clock shows them, without the zone."""
        return self.stamps.tz_localize(None)

    @property
    def zone(self) -> str | None:
        """The time zone of the dates, if they have one."""
        return None if self.stamps.tz is None else str(self.stamps.tz)

    @functools.cached_property
    def grid(self) -> pd.DatetimeIndex:
        """All dates from the first to the last at the file's step; those of the file if checked."""
        kept: Any = self.dates.dropna()
        if self.checked or kept.empty:
            return kept
        first, last = kept.min(), kept.max()
        steps = (last - first) / pd.Timedelta(self.offset) if isinstance(self.offset, Tick) else 0
        if steps > 10 * len(kept) + 1000:
            what = f"{len(kept)} rows are too few from {first} to {last} at {self.offset.freqstr}"
            raise UserError(f"{self.path}: {what}, the commonest step; resample to one step")
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
        raise UserError(
            f"{path}: sha256 is {sha256}, but {dataset.name} has {dataset.sha256}; delete the file "
            f"and run `python -m data.download {dataset.name}`, or use it as --data custom"
        )
    values: Any = pd.read_csv(io.BytesIO(content))
    dates, step = parse_dates(values.pop("date"), path), to_offset(dataset.step)
    return Table(path, sha256, dates, values.astype(float), values[:0], step, checked=True)


def parse_table(content: bytes, path: Path) -> Table:
    """Read UTF-8 CSV with a header and a column `date`; a UserError if it is none."""
    try:
        text = io.StringIO(content.decode("utf-8-sig").rstrip("\r\n"), newline=None)
        header, *rows = list(csv.reader(text, strict=True)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from None
    if len(header) == 1:
        raise UserError(f"{path}: row 1 has no comma; save the file with commas between cells")
    for number, row in enumerate(rows, FIRST_ROW):
        if len(row) != len(header):
            cells = f"{len(row)} cells, the header {len(header)}"
            raise UserError(f"{path}: row {number} has {cells}; give every row as many")
    return make_table(pd.DataFrame(rows, columns=header, dtype=object), path, sha256_of(content))


def make_table(
    cells: pd.DataFrame, path: Path, sha256: str = "", offset: BaseOffset | None = None
) -> Table:
    """Turn texts or numbers with a column `date` into a table; without a step, find it."""
    cells = cells.reset_index(drop=True)
    for i, name in enumerate(cells.columns, 1):
        if not name.strip() or name.splitlines() != [name]:
            advice = "name it in one line (pandas: to_csv(index=False), or index_label='date')"
            raise UserError(f"{path}: column {i} is named {name!r}; {advice}")
    if len(repeated := cells.columns[cells.columns.duplicated()]):
        raise UserError(f"{path}: column {repeated[0]!r} is there twice; rename one")
    if "date" not in cells:
        hint = nearest("date", cells.columns)
        advice = "name the column of dates date, or in a frame make it the index"
        raise UserError(f"{path}: no column 'date'{hint}; {advice}")
    stamps, columns = parse_dates(cells["date"], path), cells.drop(columns="date")
    numbers = {name: _read_numbers(column) for name, column in columns.items()}
    values = pd.DataFrame(numbers, cells.index, dtype=float)
    written: Any = cells[~np.isfinite(values.to_numpy()).all(axis=1) | stamps.isna()]
    return Table(path, sha256, stamps, values, written, offset or find_step(stamps))


def _read_numbers(column: pd.Series) -> np.ndarray:
    """Read cells as numbers: NaN where one is empty, infinity where it is no finite float32."""
    read: Any = pd.to_numeric(column, errors="coerce")
    numbers = read.to_numpy(np.float64, na_value=np.nan, copy=True)
    unfit = np.flatnonzero(~(np.abs(numbers) <= FLOAT32_MAX))  # NaN compares false
    empty = [str(cell).strip().lower() in EMPTY for cell in column.iloc[unfit]]
    numbers[unfit] = np.where(empty, np.nan, np.inf)
    return numbers


def parse_dates(cells: Any, path: Path) -> pd.DatetimeIndex:
    """Turn cells [N] into dates, NaT where one is none: ISO 8601, or month first with slashes.

    A time zone that all have is kept. Raises UserError where zones are mixed.
    """
    series: Any = pd.Series(cells)
    if not pd.api.types.is_datetime64_any_dtype(series):
        series = series.map(str)
        first = next(filter(None, series), "")
        form = SLASHES[min(2, first.count(":"))] if "/" in first else "ISO8601"
        try:
            series = pd.to_datetime(series, format=form, errors="coerce")
        except ValueError:
            raise UserError(f"{path}: the dates mix time zones; write them all in one") from None
    return pd.DatetimeIndex(series.where(series.dt.year.between(FIRST_YEAR, LAST_YEAR)))


def find_step(stamps: pd.DatetimeIndex) -> BaseOffset:
    """Find the step of dates; fewer than two are taken for hourly.

    It is the commonest length, or a step of the calendar (months, business days) that gives all.
    """
    dates: Any = stamps.tz_localize(None).dropna().unique().sort_values()
    if len(dates) < 2:
        return to_offset("h")
    gaps = dates[1:] - dates[:-1]
    usual: Any = pd.Series(gaps).mode()[0]
    if len(dates) > 2 and usual >= pd.Timedelta(days=1) and (gaps != usual).any():
        with pd.option_context("future.infer_freq_returns_offset", True):
            usual = infer_freq(dates) or usual
    return to_offset(usual)
