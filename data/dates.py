"""Date columns: parsed, and found to keep one step, of a fixed length or the calendar's."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset, BusinessDay, Tick

from utils.files import UserError

FIRST_ROW = 2  # a spreadsheet shows the header as row 1
SLASHES = ("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S")  # by colons; as in WTH
HOUR, DAY, MONTH = (pd.to_timedelta(length) for length in ("1h", "1D", "28D"))
MONTHLY = ("MonthBegin", "MonthEnd", "BusinessMonthBegin", "BusinessMonthEnd")
WRITE = "write dates like 2020-12-31 23:00:00"


def regular_dates(
    texts: Sequence[str], path: Path
) -> tuple[pd.DatetimeIndex, pd.Timedelta, BaseOffset]:
    """Parse a date column and find its step, as `parse_dates` and `regular_step` do.

    A UserError names day-first dates where they are the cause.
    """
    try:
        dates = parse_dates(texts, path)
        return dates, *regular_step(dates, path)
    except UserError as error:
        swapped = [re.sub(r"^(\d+)/(\d+)/", r"\2/\1/", text) for text in texts]
        try:
            regular_step(parse_dates(swapped, path), path)
        except UserError:
            raise error from None
        what = str(error).rpartition("; ")[0]
        why = "the dates are day first, and slashes are read month first"
        raise UserError(f"{what}: {why}; {WRITE}") from None


def parse_dates(texts: Sequence[str], path: Path) -> pd.DatetimeIndex:
    """Turn texts into dates, clock time as written: ISO 8601, or month first with slashes.

    Raises UserError where one is written in another form, or time zones are mixed.
    """
    first = texts[0] if texts else ""
    form = SLASHES[min(2, first.count(":"))] if "/" in first else "ISO8601"
    cells = pd.Series(texts, dtype=object)
    try:
        dates = pd.DatetimeIndex(pd.to_datetime(cells, format=form, errors="coerce"))
    except ValueError:
        raise UserError(f"{path}: the dates mix time zones; write them all in one") from None
    if dates.hasnans:
        row = int(dates.isna().argmax())
        shown = repr(texts[row][:40]) if texts[row] else "an empty cell"
        raise UserError(
            f"{path}: row {row + FIRST_ROW}, column 'date': {shown} is not a date; {WRITE}"
        )
    return dates.tz_localize(None)


def regular_step(dates: pd.DatetimeIndex, path: Path) -> tuple[pd.Timedelta, BaseOffset]:
    """Find the step that dates keep; fewer than two are taken for hourly.

    Returns the commonest length of a step, and what pandas' date_range continues the dates by:
    that length, or a step of the calendar's that gives every date. Raises UserError where the
    dates are unsorted, repeated or irregular.
    """
    if len(dates) < 2:
        return HOUR, to_offset(HOUR)
    gaps: Any = pd.Series(dates).diff()
    if (early := gaps <= pd.Timedelta(0)).any():
        i = int(early.argmax())
        what = "is before" if gaps[i] else "repeats"
        advice = "that of the row above; sort by date, one row each (at clock changes: write UTC)"
        raise UserError(f"{path}: row {i + FIRST_ROW}, column 'date': {dates[i]} {what} {advice}")
    usual = gaps.mode()[0]
    offsets: list[BaseOffset] = [to_offset(usual)]
    if usual == DAY:
        offsets.append(BusinessDay())
    if usual >= MONTH:
        months: Any = pd.Series(dates.year * 12 + dates.month).diff().mode()
        offsets += [getattr(pd.offsets, kind)(max(1, int(months[0]))) for kind in MONTHLY]
    breaks = [first_break(dates, offset) for offset in offsets]
    if None in breaks:
        return usual, offsets[breaks.index(None)]
    i = max(row for row in breaks if row is not None)
    closest = offsets[breaks.index(i)]  # keeps its step for the most rows
    step, advice = str(usual), "fill the gaps (nights, weekends), or resample to a longer step"
    if not isinstance(closest, Tick):
        step = "a whole number of months" if usual >= MONTH else "the next business day"
        advice = "add the rows that are missing (holidays, too)"
    elif usual >= MONTH:
        advice = "months differ in length: date each row by the first of its own"
    raise UserError(
        f"{path}: row {i + FIRST_ROW}, column 'date': {dates[i]} comes {gaps[i]} after the row "
        f"above, where {step} is usual; {advice}"
    )


def first_break(dates: pd.DatetimeIndex, offset: BaseOffset) -> int | None:
    """Return the first position at which dates leave the steps from their first one on."""
    wrong = pd.date_range(dates[0], periods=len(dates), freq=offset) != dates
    return int(np.argmax(wrong)) if wrong.any() else None
