"""A data set as scaled tensors, held once, and the windows cut from them by indexing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pandas.tseries.offsets import BaseOffset
from torch import Tensor

from data.csv_reader import Table, read_table
from data.registry import DATASETS, locate
from data.scaler import Scaler
from utils.files import UserError
from utils.timefeatures import natural_unit, time_features

MISSING = -9999.0  # how weather, and many loggers, mark a missing value


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
    window_spec: Any  # the settings of a run (exp.config.Config)
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


def load_data(settings: Any, root_path: Path | str, data_path: str) -> ForecastData:
    """Read a data set, check it, scale it by its training rows and cut it into parts.

    The settings are a run's Config: they name a registered data set, or custom, the regular CSV
    data_path in root_path. Raises UserError where the file, or what it holds, cannot be used.
    """
    place, seq_len = (settings.data, root_path, data_path), settings.seq_len
    table = _table(*place)
    names = table.choose(settings.target, settings.cols)
    rows = table.numbers(names[-1:] if settings.features == "S" else names)
    counts = window_counts(*place, seq_len, settings.pred_len)
    train_end, val_end, _ = _ends(settings.data, len(rows))
    starts = (0, train_end - seq_len, val_end - seq_len)  # they reach back into the part before
    scaler = Scaler.fit(rows.head(train_end).to_numpy())
    return scaled_rows(table, rows, scaler, settings, list(zip(starts, counts, strict=True)))


def scaled_rows(
    table: Table,
    rows: pd.DataFrame,
    scaler: Scaler,
    settings: Any,
    parts: Sequence[tuple[int, int]] = ((0, 0),) * 3,
) -> ForecastData:
    """Scale a table's rows [N, C] over dates, the target last, and give them their time features.

    `parts` are the first row and the number of windows of training, validation and test.
    """
    columns, dates, marked = list(rows.columns), pd.DatetimeIndex(rows.index), rows.eq(MISSING)
    if count := marked.to_numpy().sum():
        where = ", ".join(rows.columns[marked.any()])
        print(f"note: {table.path.stem}: {count} cells of -9999 in {where} are taken as they are")
    scaled = scaler.transform(rows.to_numpy())
    values = torch.from_numpy(scaled.astype(np.float32, order="C"))  # rows whole, fast to gather
    beyond = pd.date_range(dates[-1], periods=settings.pred_len + 1, freq=table.offset)[1:]
    stamps = pd.DatetimeIndex(dates.append(beyond))
    marks = torch.from_numpy(time_features(stamps, settings.freq, settings.embed))
    marks = marks.to(torch.float32 if settings.embed == "timeF" else torch.int64)
    windows = [Windows(values, marks, settings, *part) for part in parts]
    widths = len(columns), len(columns) if settings.features == "M" else 1
    return ForecastData(
        table.path, table.sha256, columns, dates, beyond, table.offset, scaler, *widths, *windows
    )


def data_sha256(name: str, root_path: Path | str, data_path: str) -> str:
    """Return the checksum of a data set's file."""
    return _facts(name, root_path, data_path)[0]


def window_counts(
    name: str, root_path: Path | str, data_path: str, seq_len: int, pred_len: int
) -> tuple[int, int, int]:
    """Count the windows of training, validation and test; a UserError if a part has none."""
    _, rows, _ = _facts(name, root_path, data_path)
    train, val, test = np.diff([seq_len, *_ends(name, rows)]) - pred_len + 1
    if min(train, val, test) < 1:
        lengths = f"--seq_len {seq_len} and --pred_len {pred_len}"
        raise UserError(f"--data {name}: {rows} rows are too few for {lengths}; shorten them")
    return int(train), int(val), int(test)


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
    return table.sha256, *table.cells.shape


def _table(name: str, root_path: Path | str, data_path: str) -> Table:
    return read_table(locate(name, Path(root_path), data_path), DATASETS.get(name))


def _ends(name: str, rows: int) -> tuple[int, ...]:
    """Return the rows before which training, validation and test end."""
    split = DATASETS[name].split if name in DATASETS else ()
    return split or (int(rows * 0.7), rows - int(rows * 0.2), rows)
