"""Dates as they are written, and the step that they keep: of a fixed length or the calendar's."""

from pathlib import Path
from typing import Any

import pandas as pd
from pandas.tseries.frequencies import infer_freq, to_offset
from pandas.tseries.offsets import BaseOffset

from utils.files import UserError

SLASHES = ("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S")  # by colons; as in WTH
FIRST_YEAR, LAST_YEAR = 1000, 4000  # the longest forecast of years ends before 9999
DAY = pd.Timedelta("1D")


def parse_dates(cells: Any, path: Path) -> pd.DatetimeIndex:
    """Turn cells [N] into dates, NaT where one is none: ISO 8601, or month first with slashes.

    A time zone that all have is kept. Raises UserError where zones are mixed.
    """
    series: Any = pd.Series(cells.to_timestamp() if isinstance(cells, pd.PeriodIndex) else cells)
    if not pd.api.types.is_datetime64_any_dtype(series):
        series = series.map(str)
        first = next(filter(None, series), "")
        form = SLASHES[min(2, first.count(":"))] if "/" in first else "ISO8601"
        try:
            series = pd.to_datetime(series, format=form, errors="coerce")
        except ValueError:
            raise UserError(f"{path}: the dates mix time zones; write them all in one") from None
    years = series.dt.year
    return pd.DatetimeIndex(series.where((years >= FIRST_YEAR) & (years <= LAST_YEAR)))


def find_step(dates: pd.DatetimeIndex) -> BaseOffset:
    """Find the step of dates without a zone; fewer than two are taken for hourly.

    It is the commonest length, or a step of the calendar (months, business days) that gives all.
    """
    kept: Any = dates.dropna().unique().sort_values()
    if len(kept) < 2:
        return to_offset("h")
    gaps = kept[1:] - kept[:-1]
    usual: Any = pd.Series(gaps).mode()[0]
    if len(kept) > 2 and usual >= DAY and (gaps != usual).any():
        with pd.option_context("future.infer_freq_returns_offset", True):
            found: Any = infer_freq(kept)
        if found is not None and pd.date_range(kept[0], kept[-1], freq=found).equals(kept):
            return found
    return to_offset(usual)
