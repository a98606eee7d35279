"""Calendar features of dates, as the time embedding reads them."""

import re

import numpy as np
import pandas as pd

from utils.errors import UserError, nearest

_LETTERS = {"min": "t", "sec": "s", "me": "m"} | {letter: letter for letter in "sthdbwm"}
_FIELDS = {
    "s": ("second", "minute", "hour", "day_of_week", "day", "day_of_year"),
    "t": ("minute", "hour", "day_of_week", "day", "day_of_year"),
    "h": ("hour", "day_of_week", "day", "day_of_year"),
    "d": ("day_of_week", "day", "day_of_year"),
    "b": ("day_of_week", "day", "day_of_year"),
    "w": ("day", "week"),
    "m": ("month",),
}
_FROM_0 = {"second": 59, "minute": 59, "hour": 23, "day_of_week": 6}  # largest values
_FROM_1 = {"day": 31, "day_of_year": 366, "week": 53, "month": 12}
_WHOLE = ("month", "day", "day_of_week", "hour", "minute")  # columns of fixed and learned
_WHOLE_WIDTH = {"t": 5, "h": 4, "d": 3, "b": 3, "w": 1, "m": 1}

FEATURE_WIDTH: dict[str, int] = {letter: len(fields) for letter, fields in _FIELDS.items()}


def parse_freq(freq: str) -> str:
    """Reduce a frequency such as `15min`, `H` or `d` to its letter, a key of FEATURE_WIDTH.

    Args:
        freq: s, t (or min), h, d, b, w or m, in either case, with or without a number before it.

    Raises:
        UserError: the frequency is unknown.
    """
    match = re.fullmatch(r"\d*([a-z]+)", freq.strip().lower())
    if match is None or match[1] not in _LETTERS:
        known = ", ".join(FEATURE_WIDTH)
        raise UserError(f"--freq {freq}: unknown{nearest(freq, _LETTERS)}; one of {known}")
    return _LETTERS[match[1]]


def natural_unit(offset: pd.offsets.BaseOffset) -> str:
    """Return the coarsest frequency that sees every step: t for 15 min, w for 7 days."""
    if not isinstance(offset, pd.offsets.Tick):
        return "b" if isinstance(offset, pd.offsets.BusinessDay) else "m"
    units = {"w": "7D", "d": "1D", "h": "1h", "t": "1min"}
    whole = (u for u, length in units.items() if offset.nanos % pd.to_timedelta(length).value == 0)
    return next(whole, "s")


def time_features(dates: pd.DatetimeIndex, freq: str, embed: str) -> np.ndarray:
    """Turn dates into inputs of the time embedding (Informer's global time stamps).

    Args:
        dates: [L].
        freq: a frequency that `parse_freq` knows.
        embed: timeF for fields scaled to [-0.5, 0.5], finest first; fixed or learned for month,
            day, weekday (Monday is 0), hour and minute // 15, as far as the frequency reaches.

    Returns:
        [L, T] float64.

    Raises:
        UserError: the frequency is unknown, or too fine for fixed and learned.
    """
    letter = parse_freq(freq)
    if embed == "timeF":
        return np.stack([_scaled(dates, name) for name in _FIELDS[letter]], axis=1)  # [L, T]
    if letter not in _WHOLE_WIDTH:
        raise UserError(f"--freq {freq}: --embed {embed} ends at minutes; use --embed timeF")
    columns = np.stack([_field(dates, name) for name in _WHOLE], axis=1)
    columns[:, -1] //= 15
    return columns[:, : _WHOLE_WIDTH[letter]]


def _field(dates: pd.DatetimeIndex, name: str) -> np.ndarray:
    source = dates.isocalendar() if name == "week" else dates
    return np.asarray(getattr(source, name), dtype=np.float64)


def _scaled(dates: pd.DatetimeIndex, name: str) -> np.ndarray:
    if name in _FROM_0:
        return _field(dates, name) / _FROM_0[name] - 0.5
    return (_field(dates, name) - 1) / (_FROM_1[name] - 1) - 0.5
