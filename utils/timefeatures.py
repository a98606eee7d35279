"""Calendar features of dates, as the time embedding reads them."""

import re
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.offsets import BaseOffset, BusinessDay, Tick

from utils.files import UserError, nearest

_LETTERS = {"min": "t", "sec": "s", "me": "m"} | {letter: letter for letter in "sthdbwm"}
_FINEST_FIRST = ("second", "minute", "hour", "day_of_week", "day", "day_of_year")
_FIELDS = {letter: _FINEST_FIRST[i:] for i, letter in enumerate("sthd")}
_FIELDS |= {"b": _FIELDS["d"], "w": ("day", "week"), "m": ("month",)}
_RANGES = {
    **{"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day_of_week": (0, 6)},
    **{"day": (1, 31), "day_of_year": (1, 366), "week": (1, 53), "month": (1, 12)},
}
_WHOLE = ("month", "day", "day_of_week", "hour", "minute")  # of fixed and learned; h has 4

FEATURE_WIDTH: dict[str, int] = {letter: len(fields) for letter, fields in _FIELDS.items()}


def parse_freq(freq: str) -> str:
    """Reduce a frequency such as `15min`, `H` or `d` to its letter; a UserError if unknown."""
    match = re.fullmatch(r"\d*([a-z]+)", freq.strip().lower())
    if match is None or match[1] not in _LETTERS:
        known = ", ".join(FEATURE_WIDTH)
        raise UserError(f"--freq {freq}: unknown{nearest(freq, _LETTERS)}; one of {known}")
    return _LETTERS[match[1]]


def natural_unit(offset: BaseOffset) -> str:
    """Return the coarsest frequency that sees every step: t for 15 min, w for 7 days."""
    if not isinstance(offset, Tick):
        return "b" if isinstance(offset, BusinessDay) else "m"
    length: Any = pd.Timedelta(offset)
    if length % pd.to_timedelta("7D") == pd.to_timedelta(0):
        return "w"
    return {"D": "d", "h": "h", "min": "t"}.get(length.resolution_string, "s")


def time_features(dates: pd.DatetimeIndex, freq: str, embed: str) -> np.ndarray:
    """Turn dates [L] into inputs of the time embedding [L, T] (Informer's global time stamps).

    `embed` timeF gives fields scaled to [-0.5, 0.5], finest first; fixed and learned give month,
    day, weekday (Monday is 0) and hour, with freq t also minute // 15.
    """
    letter = parse_freq(freq)
    names = _FIELDS[letter] if embed == "timeF" else _WHOLE[: 5 if letter == "t" else 4]
    sources = {name: dates.isocalendar() if name == "week" else dates for name in names}
    fields = [np.asarray(getattr(source, name), np.float64) for name, source in sources.items()]
    columns = np.stack(fields, axis=1)  # [L, T]
    if embed != "timeF":
        return columns // [15 if name == "minute" else 1 for name in names]
    low, high = np.array([_RANGES[name] for name in names], dtype=np.float64).T
    return (columns - low) / (high - low) - 0.5
