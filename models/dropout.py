"""Dropout that is cheap to draw on a CPU."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout whose mask takes a quarter of the random numbers that torch's takes on a CPU.

    torch draws on the CPU one number per element, one after the other. Here one 64-bit draw
    serves four elements, 16 bits each, so p is rounded to a multiple of 2^-16; what is kept is
    scaled by the probability after rounding. Draws come from torch's default generator.

    Args:
        p: probability of dropping an element, in [0, 1).

    Raises:
        ValueError: p is outside [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape; in evaluation, or at p = 0, give x itself and draw nothing."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        dropped = min(round(self.p * 2**16), 2**16 - 1)  # of the 2^16 values of 16 bits
        draws = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int64).random_(-(2**63), None)
        keep = draws.view(torch.int16)[: x.numel()] >= dropped - 2**15
        return x * keep.view(x.shape).to(x.dtype).mul_(2**16 / (2**16 - dropped))
