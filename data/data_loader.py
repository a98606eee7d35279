"""A data set as scaled tensors, held once, and the windows cut from them by indexing."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
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
from utils.errors import UserError
from utils.timefeatures import natural_unit, time_features

ABSURD, HOPELESS = 1e6, 1e15  # standard deviations; squares of the latter soon leave float32


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
class ForecastData:
    """One data set, ready to be trained on or forecast from."""

    name: str
    path: Path
    sha256: str
    columns: list[str]  # in tensor order, the target last
    target: str
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

    def steps_in(self, length: pd.Timedelta) -> int | None:
        """Count the steps of a length of time; None unless it is a whole number of equal steps."""
        whole = isinstance(self.offset, Tick) and not length % self.step
        return length // self.step if whole else None

    def scaling(self) -> dict[str, Any]:
        """Return what a run's record keeps, so that the run can forecast new rows."""
        mean, std = self.scaler.mean.tolist(), self.scaler.std.tolist()
        return {"columns": self.columns, "mean": mean, "std": std, "step": self.offset.freqstr}

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
    scaler_from: Path | None = None,
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
        scaler_from: another file, whose training rows set the scale.

    Raises:
        UserError: the file, or what it holds, does not do.
    """
    table = _table(name, root_path, data_path)
    counts = window_counts(name, root_path, data_path, seq_len, pred_len)
    frame = table.pick(target, cols).iloc[:, -1 if features == "S" else 0 :]
    borders = _borders(name, len(frame))
    training = _training_rows(scaler_from, frame) if scaler_from else frame.head(borders[1])
    starts = (0, borders[1] - seq_len, borders[2] - seq_len)
    return scaled_rows(
        *(name, table, frame, Scaler.fit(training.to_numpy()), table.offset),
        out_width=len(frame.columns) if features == "M" else 1,
        freq=freq,
        embed=embed,
        lengths=(seq_len, label_len, pred_len),
        parts=tuple(zip(starts, counts, strict=True)),
    )


def scaled_rows(
    name: str,
    table: Table,
    frame: pd.DataFrame,
    scaler: Scaler,
    offset: BaseOffset,
    *,
    out_width: int,
    freq: str,
    embed: str,
    lengths: tuple[int, int, int],
    parts: Sequence[tuple[int, int]] = ((0, 0),) * 3,
) -> ForecastData:
    """Scale rows and give them their time features.

    Args:
        name: as `load_data` takes it; so are freq and embed.
        table: what the rows are from.
        frame: values [N, C] over dates, the target last.
        scaler: of these columns.
        offset: the step that the dates keep.
        out_width: columns to forecast.
        lengths: seq_len, label_len, pred_len.
        parts: first row and number of windows of training, validation and test.

    Raises:
        UserError: a value is so far from the scaler's mean that float32 cannot hold its square.
    """
    scaled = scaler.transform(frame.to_numpy())
    far = np.abs(scaled)
    if not (far <= ABSURD).all():
        row, column = np.unravel_index(far.argmax(), far.shape)
        what = (
            f"{table.path}: row {row + FIRST_ROW}, column {frame.columns[column]!r}: "
            f"{frame.iat[row, column]:g} is {far.max():.1g} standard deviations from the mean of "
            "the training rows"
        )
        if not far.max() <= HOPELESS:
            raise UserError(f"{what}; mend it")
        print(f"note: {what}: scores will show little else")
    values = torch.from_numpy(scaled.astype(np.float32, order="C"))  # rows whole, fast to gather
    dates = pd.DatetimeIndex(frame.index)
    beyond = pd.date_range(dates[-1], periods=lengths[2] + 1, freq=offset)[1:]
    marks = torch.from_numpy(time_features(pd.DatetimeIndex(dates.append(beyond)), freq, embed))
    marks = marks.to(torch.float32 if embed == "timeF" else torch.int64)
    train, val, test = (Windows(values, marks, *part, *lengths) for part in parts)
    columns = list(frame.columns)
    return ForecastData(
        *(name, table.path, table.sha256, columns, columns[-1], dates, beyond, table.step),
        *(offset, scaler, len(columns), out_width, train, val, test),
    )


class Facts(NamedTuple):
    """What is known of a data set before it is loaded; of a registered one, without its file."""

    sha256: str
    rows: int
    columns: int
    freq: str  # unit of the time features: h for registered sets, as in the released scripts


def facts(name: str, root_path: Path | str, data_path: str) -> Facts:
    """Return the registry's row, or what one reading of a custom file shows."""
    if known := DATASETS.get(name):
        return Facts(known.sha256, known.rows, known.columns, "h")
    table = _table(name, root_path, data_path)
    return Facts(table.sha256, *table.values.shape, natural_unit(table.offset))


def data_sha256(name: str, root_path: Path | str, data_path: str) -> str:
    """Return the checksum of a data set's file."""
    return facts(name, root_path, data_path).sha256


def window_counts(
    name: str, root_path: Path | str, data_path: str, seq_len: int, pred_len: int
) -> tuple[int, int, int]:
    """Count the windows of training, validation and test.

    Raises:
        UserError: a part has none.
    """
    rows = facts(name, root_path, data_path).rows
    counts = _counts(_borders(name, rows), seq_len, pred_len)
    if min(counts) < 1:
        longer = itertools.count(rows)
        enough = (n for n in longer if min(_counts(_borders("", n), seq_len, pred_len)) > 0)
        advice = "" if name in DATASETS else f" or give at least {next(enough)} rows"
        raise UserError(
            f"{name if name in DATASETS else Path(root_path) / data_path}: {rows} rows are too few "
            f"for --seq_len {seq_len} and --pred_len {pred_len}: a part has no window; "
            f"shorten them{advice}"
        )
    return counts


def column_counts(
    name: str, root_path: Path | str, data_path: str, features: str, cols: Sequence[str] | None
) -> tuple[int, int]:
    """Count the columns that go in and out; `cols` with the target, None for all."""
    width = 1 if features == "S" else len(cols or ()) or facts(name, root_path, data_path).columns
    return width, width if features == "M" else 1


def natural_freq(name: str, root_path: Path | str, data_path: str, embed: str = "timeF") -> str:
    """Return the unit of time that fits a file's step; fixed and learned know h and t only."""
    unit = facts(name, root_path, data_path).freq
    return unit if embed == "timeF" else "t" if unit in "st" else "h"


def _table(name: str, root_path: Path | str, data_path: str) -> Table:
    return read_table(locate(name, Path(root_path), data_path), DATASETS.get(name))


def _training_rows(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the training rows of another file's columns of the same names."""
    size = path.stat().st_size if path.is_file() else 0
    known = next((dataset for dataset in DATASETS.values() if dataset.size == size), None)
    rows = read_table(path, known).pick(frame.columns[-1], list(frame.columns))
    return rows.head(_borders(known.name if known else "", len(rows))[1])


def _borders(name: str, rows: int) -> tuple[int, ...]:
    """Return the rows between which training, validation and test lie."""
    known = DATASETS.get(name)
    split = known.split if known else ()
    return 0, *(split or (int(rows * 0.7), rows - int(rows * 0.2), rows))


def _counts(borders: Sequence[int], seq_len: int, pred_len: int) -> tuple[int, int, int]:
    """Count each part's windows; those of validation and test reach back seq_len rows."""
    train, val, test = (end - start - pred_len + 1 for start, end in itertools.pairwise(borders))
    return train - seq_len, val, test
