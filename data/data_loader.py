"""A data set as scaled tensors, held once, and the windows cut from them by indexing."""

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from data.csv_reader import (
    FIRST_ROW,
    LARGEST,
    read_custom,
    read_file,
    read_registered,
    regular_step,
)
from data.registry import DATASETS, DataSet, locate
from utils.errors import UserError
from utils.timefeatures import time_features


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
    start: int
    count: int
    seq_len: int
    label_len: int
    pred_len: int

    def __len__(self) -> int:
        return self.count

    def batch(self, index: Tensor) -> Batch:
        """Cut the windows of the given numbers [B], int64, on the tensors' device."""
        first = self.start + index[:, None]
        steps = torch.arange(self.seq_len + self.pred_len, device=index.device)
        x = first + steps[: self.seq_len]  # [B, seq_len]
        y = first + steps[self.seq_len - self.label_len :]  # [B, label_len + pred_len]
        gathered = (
            table.index_select(0, rows.flatten()).unflatten(0, rows.shape)  # [B, L, C | T]
            for rows in (x, y)
            for table in (self.values, self.marks)
        )
        return Batch(*gathered)


@dataclass(frozen=True)
class Scaler:
    """Standard scaling; a column that is constant in the training rows keeps its unit."""

    mean: np.ndarray  # [C] float64
    std: np.ndarray  # [C] float64, population standard deviation; 1 for a constant column

    @classmethod
    def fit(cls, rows: np.ndarray) -> "Scaler":
        """Measure the training rows [n, C]."""
        return cls(rows.mean(axis=0), np.where(np.ptp(rows, axis=0), rows.std(axis=0), 1.0))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Scale values [..., C] in original units."""
        return (values - self.mean) / self.std

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Bring scaled values of the last c columns [..., c] back to original units."""
        width = values.shape[-1]
        return values * self.std[-width:] + self.mean[-width:]


@dataclass(frozen=True)
class ForecastData:
    """One data set, ready to be trained on."""

    name: str
    path: Path
    sha256: str
    columns: list[str]  # in tensor order, the target last
    target: str
    dates: pd.DatetimeIndex  # [N]
    beyond: pd.DatetimeIndex  # [pred_len] the dates that follow, at the data's own step
    step: pd.Timedelta  # the commonest one where steps are the calendar's (months)
    scaler: Scaler
    x_width: int  # columns of x and y
    out_width: int  # columns to forecast, the last ones: all for M, 1 for S and MS
    train: Windows
    val: Windows
    test: Windows

    def future(self) -> tuple[Batch, pd.DatetimeIndex]:
        """Cut the window that ends with the file.

        Returns:
            A batch of one, whose y is zero beyond the end, and the dates there [pred_len].
        """
        last = self.test
        unknown = last.values.new_zeros(last.pred_len, self.x_width)
        ending = dataclasses.replace(
            last, values=torch.cat([last.values, unknown]), start=len(self.dates) - last.seq_len
        )
        return ending.batch(torch.zeros(1, dtype=torch.int64, device=unknown.device)), self.beyond

    def to(self, device: torch.device | str) -> "ForecastData":
        """Give the same data with its tensors on a device."""
        values, marks = self.train.values.to(device), self.train.marks.to(device)
        train, val, test = (
            dataclasses.replace(part, values=values, marks=marks)
            for part in (self.train, self.val, self.test)
        )
        return dataclasses.replace(self, train=train, val=val, test=test)


def load_data(
    name: str,
    *,
    root_path: Path | str,
    data_path: str,
    features: str,
    target: str,
    cols: Sequence[str] | None,
    freq: str,
    embed: str,
    seq_len: int,
    label_len: int,
    pred_len: int,
) -> ForecastData:
    """Read a data set, check it, scale it and cut it into parts.

    Args:
        name: a registered data set, or custom: any regular CSV with a column `date`.
        root_path: folder searched first.
        data_path: file name of a custom data set.
        features: M (all columns), S (the target alone) or MS (all in, the target out).
        target: column to forecast; it becomes the last.
        cols: other columns to use; None for all.
        freq: unit of the time features.
        embed: timeF, fixed or learned.
        seq_len: input length in steps.
        label_len: known steps at the decoder's start, at most seq_len.
        pred_len: forecast length in steps.

    Raises:
        UserError: the file, or what it holds, does not do.
    """
    path = locate(name, Path(root_path), data_path)
    content = read_file(path)
    sha256 = hashlib.sha256(content).hexdigest()
    dataset = DATASETS.get(name)
    if dataset:
        dataset.verify(sha256, path)
    frame = (read_registered if dataset else read_custom)(content, path, target, cols)
    borders = _borders(len(frame), dataset)
    counts = _counts(borders, seq_len, pred_len)
    if min(counts) < 1:
        _refuse_lengths(path, len(frame), dataset, seq_len, pred_len)
    dates = pd.DatetimeIndex(frame.index)
    if dataset:
        step = follows = pd.to_timedelta(dataset.step)
    else:
        step, follows = regular_step(dates, path)
    beyond = pd.date_range(dates[-1], periods=pred_len + 1, freq=follows)[1:]
    columns = [target] if features == "S" else list(frame.columns)
    table = frame[columns].to_numpy()
    scaler = Scaler.fit(table[: borders[1]])
    scaled = scaler.transform(table)
    if (far := np.argwhere(~(np.abs(scaled) <= LARGEST))).size:
        row, column = far[0]
        raise UserError(
            f"{path}: row {row + FIRST_ROW}, column {columns[column]!r}: {table[row, column]:g} is "
            "too far from the training rows to be scaled; mend it, or leave the column out"
        )
    scaled = scaled.astype(np.float32, order="C")  # rows whole, fast to gather
    values = torch.from_numpy(scaled)
    marks = torch.from_numpy(time_features(pd.DatetimeIndex(dates.append(beyond)), freq, embed))
    marks = marks.to(torch.float32 if embed == "timeF" else torch.int64)
    starts = (0, borders[1] - seq_len, borders[2] - seq_len)
    train, val, test = (
        Windows(values, marks, start, count, seq_len, label_len, pred_len)
        for start, count in zip(starts, counts, strict=True)
    )
    return ForecastData(
        *(name, path, sha256, columns, target, dates, beyond, step, scaler),
        x_width=len(columns),
        out_width=len(columns) if features == "M" else 1,
        train=train,
        val=val,
        test=test,
    )


def _borders(rows: int, dataset: DataSet | None) -> tuple[int, int, int, int]:
    """Return the rows between which training, validation and test lie."""
    if dataset and dataset.split:
        return 0, *dataset.split
    return 0, int(rows * 0.7), rows - int(rows * 0.2), rows


def _counts(borders: Sequence[int], seq_len: int, pred_len: int) -> list[int]:
    """Count each part's windows; those of validation and test reach back seq_len rows."""
    lengths = [end - start for start, end in itertools.pairwise(borders)]
    return [lengths[0] - seq_len - pred_len + 1, *(n - pred_len + 1 for n in lengths[1:])]


def _refuse_lengths(
    path: Path, rows: int, dataset: DataSet | None, seq_len: int, pred_len: int
) -> NoReturn:
    def enough(more: int) -> bool:
        return min(_counts(_borders(more, None), seq_len, pred_len)) > 0

    way_out = "" if dataset else f" or bring {next(filter(enough, itertools.count(rows)))} rows"
    raise UserError(
        f"{path}: {rows} rows are too few for --seq_len {seq_len} and --pred_len {pred_len}: "
        f"a part has no window; shorten them{way_out}"
    )
