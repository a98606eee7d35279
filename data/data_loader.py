"""A data set as scaled tensors, held once, and the windows cut from them by indexing."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pandas.tseries.offsets import BaseOffset, Tick
from torch import Tensor

from data.csv_reader import Table, read_table
from data.dates import FIRST_ROW
from data.registry import DATASETS, locate
from data.scaler import Scaler
from utils.files import UserError
from utils.timefeatures import natural_unit, time_features

MISSING = -9999.0  # how weather, and many loggers, mark a missing value
ABSURD, HOPELESS = 1e6, 1e15  # standard deviations; squares of the latter soon leave float32


@dataclass(frozen=True)
class DataSettings:
    """What is taken from a file, and how windows are cut from it; lengths are in steps."""

    features: str  # M (all columns), S (the target alone) or MS (all in, the target out)
    target: str  # column to forecast; it becomes the last
    cols: Sequence[str] | None  # other columns to use; None for all
    missing: str  # cells of -9999: keep or interpolate
    freq: str  # unit of the time features
    embed: str  # timeF, fixed or learned
    seq_len: int
    label_len: int  # known steps at the decoder's start, at most seq_len
    pred_len: int

    @classmethod
    def of(cls, settings: Any) -> "DataSettings":
        """Take them from a run's settings."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})


class Batch(NamedTuple):
    """B windows; marks are float32 for timeF and int64 for fixed and learned."""

    x: Tensor  # [B, seq_len, C] float32, scaled
    x_mark: Tensor  # [B, seq_len, T]
    y: Tensor  # [B, label_len + pred_len, C], overlapping x by label_len
    y_mark: Tensor  # [B, label_len + pred_len, T]


@dataclass(frozen=True)
class Windows:
    """The windows of one part of the data; window i begins at row start + i."""

    values: Tensor  # [N, C] all rows of the file, scaled, shared by the parts
    marks: Tensor  # [N + pred_len, T] their time features, and those beyond the end
    how: DataSettings
    start: int
    count: int

    def __len__(self) -> int:
        return self.count

    def batch(self, index: Tensor) -> Batch:
        """Cut the windows of the given numbers [B], int64, on the tensors' device."""
        first = self.start + index[:, None]
        steps = torch.arange(self.how.seq_len + self.how.pred_len, device=index.device)
        x = first + steps[: self.how.seq_len]  # [B, seq_len]
        y = first + steps[self.how.seq_len - self.how.label_len :]  # [B, label_len + pred_len]
        gathered = (
            table.index_select(0, rows.flatten()).unflatten(0, rows.shape)  # [B, L, C | T]
            for rows in (x, y)
            for table in (self.values, self.marks)
        )
        return Batch(*gathered)


@dataclass(frozen=True)
class ForecastData:
    """One data set, ready to be trained on or forecast from."""

    path: Path
    sha256: str
    columns: list[str]  # in tensor order, the target last
    dates: pd.DatetimeIndex  # [N]
    beyond: pd.DatetimeIndex  # [pred_len] the dates that follow, at the data's own step
    step: pd.Timedelta  # the commonest one where steps are the calendar's (months)
    offset: BaseOffset  # the step as pandas continues dates by it
    scaler: Scaler
    x_width: int  # columns of x and y
    out_width: int  # columns to forecast, the last ones: all for M, 1 for S and MS
    train: Windows
    val: Windows
    test: Windows

    def future(self) -> Batch:
        """Cut the window that ends with the file: one in a batch, with y zero beyond the end."""
        last = self.test
        values = torch.cat([last.values, last.values.new_zeros(last.how.pred_len, self.x_width)])
        ending = replace(last, values=values, start=len(self.dates) - last.how.seq_len)
        return ending.batch(torch.zeros(1, dtype=torch.int64, device=values.device))

    def steps_in(self, length: pd.Timedelta) -> int | None:
        """Count the steps of a length of time; None unless it is a whole number of equal steps."""
        whole = isinstance(self.offset, Tick) and not length % self.step
        return length // self.step if whole else None

    def scaling(self) -> dict[str, Any]:
        """Return what a run's record keeps, so that the run can forecast new rows."""
        mean, std = self.scaler.mean.tolist(), self.scaler.std.tolist()
        return {"columns": self.columns, "mean": mean, "std": std, "step": self.offset.freqstr}

    def to(self, device: torch.device | str) -> "ForecastData":
        """Give the same data with its tensors, shared by the parts, on a device."""
        values, marks = self.train.values.to(device), self.train.marks.to(device)
        parts = (self.train, self.val, self.test)
        train, val, test = (replace(part, values=values, marks=marks) for part in parts)
        return replace(self, train=train, val=val, test=test)


def load_data(
    name: str,
    root_path: Path | str,
    data_path: str,
    how: DataSettings,
    scaler: Scaler | None = None,
) -> ForecastData:
    """Read a data set, check it, scale it and cut it into parts.

    `name` is a registered data set, or custom: the regular CSV data_path in root_path. It is scaled
    by its training rows unless a scaler is given. Raises UserError where the file, or what it
    holds, cannot be used.
    """
    table = _table(name, root_path, data_path)
    counts = window_counts(name, root_path, data_path, how.seq_len, how.pred_len)
    rows = table.pick(how.target, how.cols).iloc[:, -1 if how.features == "S" else 0 :]
    rows = treat_missing(rows, table.path, how.missing)
    _, train_end, val_end, _ = _borders(name, len(rows))
    scaler = scaler or Scaler.fit(rows.head(train_end).to_numpy())
    starts = (0, train_end - how.seq_len, val_end - how.seq_len)
    parts = tuple(zip(starts, counts, strict=True))
    return scaled_rows(replace(table, values=rows), scaler, how, parts)


def treat_missing(rows: pd.DataFrame, path: Path, missing: str) -> pd.DataFrame:
    """Keep a file's cells of -9999, or fill them linearly in time (ends: the nearest value).

    A note counts them. Raises UserError where nothing else is in a column to be filled.
    """
    marked = rows.eq(MISSING)
    if not (count := int(marked.to_numpy().sum())):
        return rows
    cells = f"note: {path.stem}: {count} cells of {', '.join(rows.columns[marked.any()])}"
    if missing == "keep":
        print(f"{cells} are -9999, a missing value's mark: --missing interpolate fills them")
        return rows
    if marked.all().any():
        name = rows.columns[marked.all()][0]
        raise UserError(f"{path}: column {name!r}: all is -9999; one cell must have a value")
    print(f"{cells} were -9999: filled, linearly in time")
    return rows.mask(marked).interpolate("time", limit_direction="both")


def scaled_rows(
    table: Table,
    scaler: Scaler,
    how: DataSettings,
    parts: Sequence[tuple[int, int]] = ((0, 0),) * 3,
) -> ForecastData:
    """Scale a table's values [N, C], the target last, and give them their time features.

    The values are those that `how` chooses; `parts` are the first row and the number of windows of
    training, validation and test. Raises UserError where float32 could not hold a scaled square.
    """
    columns, dates = list(table.values.columns), pd.DatetimeIndex(table.values.index)
    scaled = scaler.transform(table.values.to_numpy())
    far = np.abs(scaled)
    row, column = np.unravel_index(far.argmax(), far.shape)
    if not far.max() <= ABSURD:
        what = (
            f"{table.path}: row {row + FIRST_ROW}, column {columns[column]!r}: "
            f"{table.values.iat[row, column]:g} is {far.max():.1g} standard deviations from the "
            "mean of the training rows"
        )
        if not far.max() <= HOPELESS:
            raise UserError(f"{what}; correct it")
        print(f"note: {what}: scores will show little else")
    values = torch.from_numpy(scaled.astype(np.float32, order="C"))  # rows whole, fast to gather
    beyond = pd.date_range(dates[-1], periods=how.pred_len + 1, freq=table.offset)[1:]
    stamps = pd.DatetimeIndex(dates.append(beyond))
    marks = torch.from_numpy(time_features(stamps, how.freq, how.embed))
    marks = marks.to(torch.float32 if how.embed == "timeF" else torch.int64)
    train, val, test = (Windows(values, marks, how, *part) for part in parts)
    return ForecastData(
        *(table.path, table.sha256, columns, dates, beyond, table.step, table.offset),
        *(scaler, len(columns), len(columns) if how.features == "M" else 1, train, val, test),
    )


def data_sha256(name: str, root_path: Path | str, data_path: str) -> str:
    """Return the checksum of a data set's file."""
    return _facts(name, root_path, data_path)[0]


def window_counts(
    name: str, root_path: Path | str, data_path: str, seq_len: int, pred_len: int
) -> tuple[int, int, int]:
    """Count the windows of training, validation and test; a UserError if a part has none."""
    _, rows, _ = _facts(name, root_path, data_path)
    counts = _counts(name, rows, seq_len, pred_len)
    if min(counts) < 1:
        where, advice = name, ""
        if name not in DATASETS:
            longer = itertools.count(rows)
            enough = next(n for n in longer if min(_counts(name, n, seq_len, pred_len)) > 0)
            where, advice = Path(root_path) / data_path, f" or give at least {enough} rows"
        raise UserError(
            f"{where}: {rows} rows are too few for --seq_len {seq_len} and --pred_len {pred_len}: "
            f"a part has no window; shorten them{advice}"
        )
    return counts


def column_counts(
    name: str, root_path: Path | str, data_path: str, features: str, cols: Sequence[str] | None
) -> tuple[int, int]:
    """Count the columns that go in and out; `cols` with the target, None for all."""
    width = 1 if features == "S" else len(cols or ()) or _facts(name, root_path, data_path)[2]
    return width, width if features == "M" else 1


def natural_freq(name: str, root_path: Path | str, data_path: str, embed: str = "timeF") -> str:
    """Return the unit of time that fits a file's step; fixed and learned know h and t only."""
    if name in DATASETS:
        return "h"  # as the released scripts leave it
    unit = natural_unit(_table(name, root_path, data_path).offset)
    return unit if embed == "timeF" else "t" if unit in "st" else "h"


def _facts(name: str, root_path: Path | str, data_path: str) -> tuple[str, int, int]:
    """Return checksum, rows and columns: the registry's, or those of a custom file."""
    if known := DATASETS.get(name):
        return known.sha256, known.rows, known.columns
    table = _table(name, root_path, data_path)
    return table.sha256, *table.values.shape


def _table(name: str, root_path: Path | str, data_path: str) -> Table:
    return read_table(locate(name, Path(root_path), data_path), DATASETS.get(name))


def _borders(name: str, rows: int) -> tuple[int, ...]:
    """Return the rows between which training, validation and test lie."""
    split = DATASETS[name].split if name in DATASETS else ()
    return 0, *(split or (int(rows * 0.7), rows - int(rows * 0.2), rows))


def _counts(name: str, rows: int, seq_len: int, pred_len: int) -> tuple[int, int, int]:
    """Count each part's windows; those of validation and test reach back seq_len rows."""
    parts = itertools.pairwise(_borders(name, rows))
    train, val, test = (end - start - pred_len + 1 for start, end in parts)
    return train - seq_len, val, test
