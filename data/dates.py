"""Date columns: parsed, and found to keep one step, of a fixed length or the calendar's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset

from utils.errors import UserError

FIRST_ROW = 2  # a spreadsheet shows the header as row 1
# The first format that fits the first date is used for all: slashes mean month first, as in WTH.
MONTH_FIRST = ("%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y")
DAY_FIRST = tuple(form.replace("%m/%d", "%d/%m") for form in MONTH_FIRST)
HOUR, DAY, MONTH = (pd.to_timedelta(length) for length in ("1h", "1D", "28D"))


def parse_dates(texts: Sequence[str], path: Path) -> pd.DatetimeIndex:
    """Turn texts into dates, clock time as written: ISO 8601, or month first with slashes.

    Raises:
        UserError: one is not a date, or time zones are mixed.
    """
    try:
        dates = _read(texts, ("ISO8601", *MONTH_FIRST))
    except ValueError:
        raise UserError(f"{path}: the dates mix time zones; write them all in one") from None
    if dates.hasnans:
        row = int(dates.isna().argmax())
        shown = repr(texts[row][:40]) if texts[row] else "an empty cell"
        raise UserError(
            f"{path}: row {row + FIRST_ROW}, column 'date': {shown} is not a date; "
            "write dates like 2020-12-31 23:00:00"
        )
    return dates.tz_localize(None)


def regular_dates(
    texts: Sequence[str], path: Path
) -> tuple[pd.DatetimeIndex, pd.Timedelta, BaseOffset]:
    """Parse a date column and find its step, as `regular_step` does.

    Raises:
        UserError: what is wrong, and where; day-first dates are named where they are the cause.
    """
    try:
        dates = parse_dates(texts, path)
        return dates, *regular_step(dates, path)
    except UserError as error:
        if not _is_day_first(texts):
            raise
        what = str(error).rpartition("; ")[0]
        raise UserError(
            f"{what}: the dates are day first, and slashes are read month first; "
            "write dates like 2020-12-31 23:00:00"
        ) from None


def regular_step(dates: pd.DatetimeIndex, where: Path | str) -> tuple[pd.Timedelta, BaseOffset]:
    """Find the step that dates keep; fewer than two are taken for hourly.

    Returns:
        The commonest length of a step, and what pandas' date_range continues the dates by: that
        length, or a step of the calendar's that gives every date.

    Raises:
        UserError: the dates of the file `where` are unsorted, repeated or irregular.
    """
    if len(dates) < 2:
        return HOUR, to_offset(HOUR)
    gaps = np.diff(dates.to_numpy())
    if (early := gaps <= np.timedelta64(0)).any():
        i = int(early.argmax()) + 1
        what = "is before" if gaps[i - 1] else "repeats"
        raise UserError(
            f"{where}: row {i + FIRST_ROW}, column 'date': {dates[i]} {what} that of the "
            "row above; sort the rows by date and keep one row for each"
        )
    usual = pd.to_timedelta(_commonest(gaps))
    offsets: list[BaseOffset] = [to_offset(usual)]
    if usual == DAY:
        offsets.append(pd.offsets.BusinessDay())
    if usual >= MONTH:
        months = max(1, int(_commonest(np.diff(dates.year * 12 + dates.month))))
        kinds = ("MonthBegin", "MonthEnd", "BusinessMonthBegin", "BusinessMonthEnd")
        offsets += [getattr(pd.offsets, kind)(months) for kind in kinds]
    fitting = next((offset for offset in offsets if first_break(dates, offset) is None), None)
    if fitting is None:
        _refuse_irregular(dates, usual, offsets, where)
    return usual, fitting


def first_break(dates: pd.DatetimeIndex, offset: BaseOffset) -> int | None:
    """Return the first position at which dates leave the steps from their first one on."""
    wrong = pd.date_range(dates[0], periods=len(dates), freq=offset) != dates
    return int(wrong.argmax()) if wrong.any() else None


def _refuse_irregular(
    dates: pd.DatetimeIndex, usual: pd.Timedelta, offsets: list[BaseOffset], where: Path | str
) -> NoReturn:
    """Name the first date that breaks the step, and why."""
    offset, step, advice = offsets[0], str(usual), "fill the gaps or resample to a regular step"
    span, workdays = dates[-1] - dates[0], bool((dates.day_of_week < 5).all())
    clock = dates - dates.floor("D")
    if usual >= MONTH and (dates.is_month_start.all() or dates.is_month_end.all()):
        offset = offsets[1 if dates.is_month_start.all() else 2]
        step, advice = "a whole number of months", "add the months that are missing"
    elif usual >= MONTH and len(set(dates.day)) == 1:
        first = f"{dates[0]:%Y-%m}"
        advice = f"months differ in length: date their rows {first}-01, not {dates[0]:%Y-%m-%d}"
    elif usual == DAY and workdays:
        offset, step = offsets[1], "the next business day"
        advice = "add the missing days (holidays, say) with the values of the row above"
    elif usual < DAY and bool(
        (span >= 2 * DAY and clock.nunique() < DAY // usual) or (span >= 7 * DAY and workdays)
    ):
        advice = "nights or weekends have no rows: add them, or resample to one row a day"
    i = first_break(dates, offset)
    assert i, "these dates keep none of the steps"
    raise UserError(
        f"{where}: row {i + FIRST_ROW}, column 'date': {dates[i]} comes {dates[i] - dates[i - 1]} "
        f"after the row above, where {step} is usual; {advice}"
    )


def _commonest(values: Any) -> Any:
    found, counts = np.unique(values, return_counts=True)
    return found[counts.argmax()]


def _is_day_first(texts: Sequence[str]) -> bool:
    """Tell whether dates can be read with the day first only, or are regular only so."""
    dates = _read(texts, DAY_FIRST)
    if dates.hasnans or _read(texts, MONTH_FIRST).hasnans:
        return not dates.hasnans
    try:
        regular_step(dates, "")
    except UserError:
        return False
    return True


def _read(texts: Sequence[str], formats: Sequence[str]) -> pd.DatetimeIndex:
    """Read all dates in the format that fits the first; NaT where it does not fit."""
    first = texts[:1]
    fits = (form for form in formats if _parsed(first, form).notna().all())
    return _parsed(texts, next(fits, formats[0]))


def _parsed(texts: Sequence[str], form: str) -> pd.DatetimeIndex:
    cells = pd.Series(texts, dtype=object)
    return pd.DatetimeIndex(pd.to_datetime(cells, format=form, errors="coerce"))
