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
from data.gaps import regular_rows, treat_missing
from data.registry import DATASETS, locate
from data.scaler import Scaler
from utils.files import UserError
from utils.timefeatures import natural_unit, time_features

NOTED, REFUSED = 1e6, 1e15  # standard deviations; squares of the latter soon leave float32


@dataclass(frozen=True)
class DataSettings:
    """What is taken from a file, and how windows are cut from it; lengths are in steps."""

    features: str  # M (all columns), S (the target alone) or MS (all in, the target out)
    target: str  # column to forecast; it becomes the last
    cols: Sequence[str] | None  # other columns to use; None for all
    missing: str  # keep cells of -9999, or interpolate them and other gaps
    max_gap: int  # steps of the longest gap that is filled
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
    window_spec: DataSettings
    start: int
    count: int

    def __len__(self) -> int:
        return self.count

    def batch(self, index: Tensor) -> Batch:
        """Cut the windows of the given numbers [B], int64, on the tensors' device."""
        spec, first = self.window_spec, self.start + index[:, None]
        steps = torch.arange(spec.seq_len + spec.pred_len, device=index.device)
        x = first + steps[: spec.seq_len]  # [B, seq_len]
        y = first + steps[spec.seq_len - spec.label_len :]  # [B, label_len + pred_len]
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
    zone: str | None  # the dates' time zone
    offset: BaseOffset  # the step, as pandas continues dates by it
    scaler: Scaler
    x_width: int  # columns of x and y
    out_width: int  # columns to forecast, the last ones: all for M, 1 for S and MS
    train: Windows
    val: Windows
    test: Windows

    def future(self) -> Batch:
        """Cut the window that ends with the file: one in a batch, with y zero beyond the end."""
        test, spec = self.test, self.test.window_spec
        values = torch.cat([test.values, test.values.new_zeros(spec.pred_len, self.x_width)])
        ending = replace(test, values=values, start=len(self.dates) - spec.seq_len)
        return ending.batch(torch.zeros(1, dtype=torch.int64, device=values.device))

    def steps_in(self, length: pd.Timedelta) -> int | None:
        """Count the steps of a length of time; None unless it is a whole number of equal steps."""
        if not isinstance(self.offset, Tick):
            return None
        steps, rest = divmod(length.value, pd.Timedelta(self.offset).value)
        return None if rest else steps

    def scaling(self) -> dict[str, Any]:
        """Return what a run's record keeps, so that the run can forecast new rows."""
        mean, std = self.scaler.mean.tolist(), self.scaler.std.tolist()
        scale = {"columns": self.columns, "mean": mean, "std": std}
        return {**scale, "step": self.offset.freqstr, "zone": self.zone}

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
    window_spec: DataSettings,
    scaler: Scaler | None = None,
) -> ForecastData:
    """Read a data set, check it, scale it and cut it into parts.

    `name` is a registered data set, or custom: the regular CSV data_path in root_path. It is scaled
    by its training rows unless a scaler is given. Raises UserError where the file, or what it
    holds, cannot be used.
    """
    table, fill = _table(name, root_path, data_path), window_spec.missing == "interpolate"
    names = table.pick(window_spec.target, window_spec.cols)
    names = names[-1:] if window_spec.features == "S" else names
    rows = regular_rows(table, names, table.grid, fill)
    lengths = window_spec.seq_len, window_spec.pred_len
    counts = window_counts(name, root_path, data_path, *lengths)
    borders = _borders(name, len(rows))
    parts = itertools.pairwise((*borders[:-1], len(rows)))
    rows = treat_missing(rows, table.path, window_spec.max_gap if fill else None, parts)
    _, train_end, val_end, _ = borders
    starts = (0, train_end - window_spec.seq_len, val_end - window_spec.seq_len)
    scaler = scaler or Scaler.fit(rows.head(train_end).to_numpy())
    return scaled_rows(table, rows, scaler, window_spec, list(zip(starts, counts, strict=True)))


def scaled_rows(
    table: Table,
    rows: pd.DataFrame,
    scaler: Scaler,
    window_spec: DataSettings,
    parts: Sequence[tuple[int, int]] = ((0, 0),) * 3,
) -> ForecastData:
    """Scale a table's rows [N, C] over dates, the target last, and give them their time features.

    `parts` are the first row and the number of windows of training, validation and test. Raises
    UserError where float32 could not hold a scaled square.
    """
    columns, dates = list(rows.columns), pd.DatetimeIndex(rows.index)
    scaled = scaler.transform(rows.to_numpy())
    far = np.abs(scaled)
    row, column = np.unravel_index(far.argmax(), far.shape)
    if not far.max() <= NOTED:
        what = (
            f"{table.path}: {dates[row]}, column {columns[column]!r}: {rows.iat[row, column]:g} is "
            f"{far.max():.1g} standard deviations from the mean of the training rows"
        )
        if not far.max() <= REFUSED:
            raise UserError(f"{what}; correct it")
        print(f"note: {what}: scores will show little else")
    values = torch.from_numpy(scaled.astype(np.float32, order="C"))  # rows whole, fast to gather
    beyond = pd.date_range(dates[-1], periods=window_spec.pred_len + 1, freq=table.offset)[1:]
    stamps = pd.DatetimeIndex(dates.append(beyond))
    marks = torch.from_numpy(time_features(stamps, window_spec.freq, window_spec.embed))
    marks = marks.to(torch.float32 if window_spec.embed == "timeF" else torch.int64)
    train, val, test = (Windows(values, marks, window_spec, *part) for part in parts)
    return ForecastData(
        *(table.path, table.sha256, columns, dates, beyond, table.zone, table.offset, scaler),
        *(len(columns), len(columns) if window_spec.features == "M" else 1, train, val, test),
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
    return table.sha256, len(table.grid), table.values.shape[1]


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
