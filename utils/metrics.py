"""Forecast errors, summed up batch by batch."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class ErrorSums:
    """Running sums from which MAE, MSE, RMSE, MAPE and MSPE follow at any time.

    Percentage errors leave out the elements whose true value is exactly zero, where they are
    undefined; how many these were is told beside them. Sums stay on the device, in double.
    """

    def __init__(self) -> None:
        self.windows = 0
        self.elements = 0
        self.zeros: Tensor | float = 0.0
        self.square_by_step: Tensor | float = 0.0
        self.absolute_by_step: Tensor | float = 0.0
        self.percentage: Tensor | float = 0.0
        self.square_percentage: Tensor | float = 0.0

    def add(self, pred: Tensor, true: Tensor) -> None:
        """Add a batch of forecasts and truths, [B, pred_len, C] each."""
        truth = true.double()
        error = pred.double() - truth
        zero = truth == 0
        ratio = torch.where(zero, 0.0, error / torch.where(zero, 1.0, truth))
        self.windows += len(pred)
        self.elements += pred.numel()
        self.zeros = self.zeros + zero.sum()
        self.square_by_step = self.square_by_step + error.square().sum((0, 2))  # [pred_len]
        self.absolute_by_step = self.absolute_by_step + error.abs().sum((0, 2))
        self.percentage = self.percentage + ratio.abs().sum()
        self.square_percentage = self.square_percentage + ratio.square().sum()

    def snapshot(self) -> "ErrorSums":
        """Return a copy that later batches do not change."""
        return copy.copy(self)

    @property
    def mse(self) -> float:
        """Mean squared error over every element so far."""
        return float(torch.as_tensor(self.square_by_step).sum()) / self.elements

    def result(self) -> dict[str, Any] | None:
        """Return the five metrics, the number of windows and of zero truths; None when empty."""
        if not self.elements:
            return None
        zeros = int(self.zeros)
        counted = self.elements - zeros
        return {
            "mae": float(torch.as_tensor(self.absolute_by_step).sum()) / self.elements,
            "mse": self.mse,
            "rmse": self.mse**0.5,
            "mape": float(self.percentage) / counted if counted else None,
            "mspe": float(self.square_percentage) / counted if counted else None,
            "windows": self.windows,
            "zeros": zeros,
        }

    def by_step(self) -> dict[str, list[float]]:
        """Return MSE and MAE of each forecast step."""
        square = torch.as_tensor(self.square_by_step)
        per_step = self.elements / len(square)
        absolute = torch.as_tensor(self.absolute_by_step)
        return {"mse": (square / per_step).tolist(), "mae": (absolute / per_step).tolist()}


@dataclass
class Scores:
    """Errors over all windows, and over the truncated set that the released code scored.

    Args:
        full: sums over all windows.
        truncated: sums over the first (n // 32) * 32 windows.
    """

    full: ErrorSums
    truncated: ErrorSums

    def as_dict(self) -> dict[str, Any]:
        """Return both results; None for a truncated set without a window."""
        return {"all": self.full.result(), "truncated": self.truncated.result()}


RELEASED_BATCH = 32  # the released code drops the last incomplete batch of this size


def score(forecasts: Iterable[tuple[Tensor, Tensor]], windows: int) -> Scores:
    """Sum the errors of a stream of batches in the windows' order.

    Args:
        forecasts: (pred, true), [B, pred_len, C] each.
        windows: how many there are in all.

    Returns:
        The scores over all windows and over the first (windows // 32) * 32.
    """
    kept = windows // RELEASED_BATCH * RELEASED_BATCH
    full = ErrorSums()
    truncated = full.snapshot()
    for pred, true in forecasts:
        room = max(0, kept - full.windows)
        for part in (slice(0, room), slice(room, None)):
            if len(pred[part]):
                full.add(pred[part], true[part])
            if full.windows == kept:
                truncated = full.snapshot()
    return Scores(full, truncated)
