"""Forecast errors, summed up batch by batch."""

import copy
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

SINGLE = 2.0**-23  # relative precision of single-precision numbers
RELEASED_BATCH = 32  # the released code drops the last incomplete batch of this size


class ErrorSums:
    """Running sums from which MAE, MSE, RMSE, MAPE and MSPE follow at any time.

    Percentage errors leave out the elements whose true value is zero, where they are undefined.
    Sums are in double, on the device. So are original units, computed from scaled errors and each
    column's mean and std [C] float64: near 1e9 ± 3, single precision would lose them.
    """

    def __init__(self, mean: Tensor | float = 0.0, std: Tensor | float = 1.0) -> None:
        self.mean, self.std = mean, std
        self.windows = self.elements = 0
        nothing = torch.zeros((), dtype=torch.float64)
        self.zeros = self.percentage = self.square_percentage = nothing
        self.square_by_step = self.absolute_by_step = nothing
        self.square_by_column = self.absolute_by_column = nothing

    def add(self, pred: Tensor, true: Tensor) -> None:
        """Add a batch of scaled forecasts and truths, [B, pred_len, C] each."""
        error = (pred.double() - true.double()) * self.std
        truth = true.double() * self.std + self.mean
        zero = truth.abs() <= abs(self.mean) * SINGLE  # what scaling in fp32 leaves of a zero
        ratio = torch.where(zero, 0.0, error / torch.where(zero, 1.0, truth))
        self.windows += len(pred)
        self.elements += pred.numel()
        self.zeros = self.zeros + zero.sum()  # new tensors: a copy of the sums keeps the old
        self.square_by_step = self.square_by_step + error.square().sum((0, 2))  # [pred_len]
        self.absolute_by_step = self.absolute_by_step + error.abs().sum((0, 2))
        self.square_by_column = self.square_by_column + error.square().sum((0, 1))  # [C]
        self.absolute_by_column = self.absolute_by_column + error.abs().sum((0, 1))
        self.percentage = self.percentage + ratio.abs().sum()
        self.square_percentage = self.square_percentage + ratio.square().sum()

    @property
    def mse(self) -> float:
        """Mean squared error over every element so far."""
        return float(self.square_by_step.sum()) / self.elements

    def result(self) -> dict[str, Any] | None:
        """Return the metrics and the numbers of windows and of targets equal to 0; None when empty.

        A metric that is not finite, or undefined, is None.
        """
        if not self.elements:
            return None
        counted = (self.elements - int(self.zeros)) or math.nan
        scores = {
            "mae": float(self.absolute_by_step.sum()) / self.elements,
            "mse": self.mse,
            "rmse": self.mse**0.5,
            "mape": float(self.percentage) / counted,
            "mspe": float(self.square_percentage) / counted,
        }
        finite = {name: v if math.isfinite(v) else None for name, v in scores.items()}
        return {**finite, "windows": self.windows, "zeros": int(self.zeros)}

    def by_step(self) -> dict[str, list[float]]:
        """Return MSE and MAE of each forecast step."""
        per_step = self.elements / len(self.square_by_step)
        sums = {"mse": self.square_by_step, "mae": self.absolute_by_step}
        return {name: (sums[name] / per_step).tolist() for name in sums}

    def by_column(self) -> dict[str, list[float]]:
        """Return MSE and MAE of each column, in the data's order."""
        per_column = self.elements / len(self.square_by_column)
        sums = {"mse": self.square_by_column, "mae": self.absolute_by_column}
        return {name: (sums[name] / per_column).tolist() for name in sums}


class Scores(NamedTuple):
    """Errors over all windows, and over the truncated set that the released code scored."""

    full: ErrorSums
    truncated: ErrorSums

    def as_dict(self) -> dict[str, Any]:
        """Return both results; None for a truncated set without a window."""
        return {"all": self.full.result(), "truncated": self.truncated.result()}


def score(forecasts: Iterable[tuple[Tensor, Tensor]], windows: int) -> Scores:
    """Sum the errors of a stream of batches (pred, true), [B, pred_len, C] each, in order.

    Of all the `windows`, the first (windows // 32) * 32 are the truncated set.
    """
    kept = windows // RELEASED_BATCH * RELEASED_BATCH
    full = ErrorSums()
    truncated = copy.copy(full)
    for pred, true in forecasts:
        room = max(0, kept - full.windows)
        for part in (slice(0, room), slice(room, None)):
            if len(pred[part]):
                full.add(pred[part], true[part])
            if full.windows == kept:
                truncated = copy.copy(full)
    return Scores(full, truncated)
