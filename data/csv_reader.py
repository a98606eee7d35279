"""CSV files and frames as columns over dates; files are read once a process."""

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import infer_freq, to_offset
from pandas.tseries.offsets import BaseOffset

from data.registry import DataSet
from utils.files import UserError, nearest, sha256_of


@dataclass(frozen=True)
class Table:
    """What a file or a frame holds; a file's is shared by all who read it in this process."""

    path: Path
    sha256: str
    cells: pd.DataFrame  # [N, C] over dates, as pandas reads them
    offset: BaseOffset  # the step, as pandas continues the dates by it
    registered: bool = False  # known by its checksum, taken as it is

    def choose(self, target: str, cols: Sequence[str] | None) -> list[str]:
        """Choose columns: `cols` in their order (None for all), then the target."""
        for name in (target, *(cols or ())):
            if name not in self.cells:
                hint = nearest(name, map(str, self.cells))
                raise UserError(f"{self.path}: no column {name!r}{hint}; see --target and --cols")
        names = dict.fromkeys(cols or self.cells)
        return [*(name for name in names if name != target), target]

    def numbers(self, names: list[str]) -> pd.DataFrame:
        """Return columns [N, C] float64 over dates that follow each other by the step.

        Raises UserError where a cell is empty or no number, or a date does not follow.
        """
        cells, dates = self.cells[names], pd.DatetimeIndex(self.cells.index)
        numbers: Any = cells.apply(pd.to_numeric, errors="coerce").astype(float)
        if self.registered:
            return numbers
        fit = np.abs(numbers.to_numpy()) <= np.finfo(np.float32).max  # NaN compares false
        bad = [(dates[i], names[j], str(cells.iat[i, j])[:40]) for i, j in np.argwhere(~fit)]
        found = [f"{date}, {name}: {cell!r}" for date, name, cell in bad]
        advice = "correct or fill it (docs/data.md), or leave its column out (--cols)"
        _refuse(self.path, "empty cell or no number", found, advice)
        late = np.flatnonzero(dates[1:] != dates[:-1] + self.offset)
        found = [f"{dates[i + 1]} after {dates[i]}" for i in late]
        what = f"date that does not follow by one step ({self.offset.freqstr})"
        _refuse(self.path, what, found, "keep one row a step, sorted; fill gaps (docs/data.md)")
        return numbers


def _refuse(path: Path | str, what: str, found: list[str], advice: str) -> None:
    """Raise a UserError that counts defects of one kind and names the first three, if any."""
    if found:
        raise UserError(f"{path}: {what}: {len(found)} ({'; '.join(found[:3])}); {advice}")


def read_table(path: Path, dataset: DataSet | None = None) -> Table:
    """Read a file, or return what was read before if it has not changed since.

    Raises UserError where it cannot be read, is no table over dates, or not the registered one.
    """
    try:
        return _read(path, path.stat().st_mtime_ns, dataset)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its path") from error


@functools.lru_cache(maxsize=4)
def _read(path: Path, _mtime: int, dataset: DataSet | None) -> Table:
    content = path.read_bytes()
    sha256 = sha256_of(content)
    if dataset and sha256 != dataset.sha256:
        what = f"{path}: its sha256 is not that of {dataset.name}; delete it and run"
        raise UserError(f"{what} `python -m data.download {dataset.name}`, or use --data custom")
    try:
        cells = pd.read_csv(io.BytesIO(content), dtype={"date": str}, low_memory=False)
    except ValueError as error:  # pandas' own and UnicodeDecodeError are among them
        reason = str(error).strip()
        raise UserError(f"{path}: not a CSV file in UTF-8 ({reason}); save it as one") from None
    table = make_table(cells, path, sha256)
    return replace(table, offset=to_offset(dataset.step), registered=True) if dataset else table


def make_table(cells: pd.DataFrame, path: Path, sha256: str = "") -> Table:
    """Make a table of a frame with a column `date`; a UserError names what it has instead."""
    names = [str(name) for name in cells]
    if "date" not in names or any(name.startswith("Unnamed: ") for name in names):
        advice = "call the dates date, and name every column (pandas: to_csv(index_label='date'))"
        raise UserError(f"{path}: its columns are {', '.join(names[:9])}; {advice}")
    dates = parse_dates(pd.Series(cells["date"]), path)
    return Table(path, sha256, cells.drop(columns="date").set_axis(dates), find_step(dates))


def parse_dates(cells: pd.Series, path: Path | str) -> pd.DatetimeIndex:
    """Turn cells [N] into dates: ISO 8601, or month first with slashes.

    Raises UserError where one is no date or has a time zone.
    """
    texts = cells.map(str)
    form = None if "/" in next(iter(texts), "") else "ISO8601"  # None: as the first is written
    try:
        dates = pd.DatetimeIndex(pd.to_datetime(texts, format=form, errors="coerce"))
    except ValueError:  # some have a zone, others have none or another
        dates = pd.DatetimeIndex([], tz="UTC")
    if dates.tz is not None:
        raise UserError(f"{path}: the dates have a time zone; write UTC without zone")
    found = [f"row {i + 2}: {texts.iloc[i][:40]!r}" for i in np.flatnonzero(dates.isna())]
    _refuse(path, "no date", found, "write dates like 2020-12-31 23:00 (with slashes: month first)")
    return dates


def find_step(dates: pd.DatetimeIndex) -> BaseOffset:
    """Find the step of dates: the commonest, or one of the calendar that gives all of them.

    Such steps are months and business days. Fewer than two dates are taken for hourly.
    """
    dates = dates.unique().sort_values()
    steps = pd.Series(dates[1:] - dates[:-1])
    usual: Any = steps.mode()[0] if len(steps) else pd.Timedelta(hours=1)
    if len(steps) > 1 and usual >= pd.Timedelta(days=1) and (steps != usual).any():
        with pd.option_context("future.infer_freq_returns_offset", True):
            usual = infer_freq(dates) or usual
    return to_offset(usual)
