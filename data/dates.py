"""Dates as they are written, and the step that they keep: of a fixed length or the calendar's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.tseries.frequencies import infer_freq, to_offset
from pandas.tseries.offsets import BaseOffset

from utils.files import UserError

SLASHES = ("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S")  # by colons; as in WTH
FIRST_YEAR, LAST_YEAR = 1000, 9000  # plots need room beside the dates
DAY = pd.Timedelta("1D")


def parse_dates(cells: Sequence[Any] | pd.Series | pd.Index, path: Path) -> pd.DatetimeIndex:
    """Turn cells into dates [N], NaT where one is none: ISO 8601, or month first with slashes.

    A time zone that all have is kept. Raises UserError where zones are mixed.
    """
    if isinstance(cells, pd.PeriodIndex):
        cells = cells.to_timestamp()
    series = pd.Series(cells)
    if not pd.api.types.is_datetime64_any_dtype(series):
        series = series.astype(str).replace({"nan": "", "None": "", "NaT": ""})
        first = next(filter(None, series), "")
        form = SLASHES[min(2, first.count(":"))] if "/" in first else "ISO8601"
        try:
            series = pd.to_datetime(series, format=form, errors="coerce")
        except ValueError:
            raise UserError(f"{path}: the dates mix time zones; write them all in one") from None
    dates = pd.DatetimeIndex(series, freq=None)
    return dates.where((dates.year >= FIRST_YEAR) & (dates.year <= LAST_YEAR))


def find_step(dates: pd.DatetimeIndex) -> BaseOffset:
    """Find the step of dates without a zone: one of the calendar's (months, business days) that
    gives them all, or else the commonest length; an hour for fewer than two dates.
    """
    kept = dates.dropna().unique().sort_values()
    if len(kept) < 2:
        return to_offset("h")
    usual = pd.Series(kept).diff().mode()[0]
    if len(kept) > 2 and usual >= DAY and not (kept[1:] - kept[:-1] == usual).all():
        with pd.option_context("future.infer_freq_returns_offset", True):
            found: Any = infer_freq(kept)
        if found is not None and pd.date_range(kept[0], kept[-1], freq=found).equals(kept):
            return found
    return to_offset(usual)


def dates_after(last: pd.Timestamp, steps: int, offset: BaseOffset, path: Path) -> pd.DatetimeIndex:
    """Return the dates that follow one [steps]; a UserError if they go beyond LAST_YEAR."""
    try:
        dates = pd.date_range(last, periods=steps + 1, freq=offset)[1:]
    except (ValueError, OverflowError):
        dates = None
    if dates is None or len(dates) < steps or dates[-1].year > LAST_YEAR:
        raise UserError(f"{path}: dates to forecast lie after the year {LAST_YEAR}; correct them")
    return dates
