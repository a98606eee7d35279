"""Standard scaling, and the way back to original units in double precision."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


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
        """Bring scaled values of the last c columns [..., c] back to original units, float64."""
        width = values.shape[-1]
        return values * self.std[-width:] + self.mean[-width:]

    def last(self, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the last columns, [width] float64 each."""
        mean, std = torch.from_numpy(self.mean[-width:]), torch.from_numpy(self.std[-width:])
        return mean.to(device), std.to(device)
