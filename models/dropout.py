"""Dropout that is cheap to draw on a CPU."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout whose mask is drawn several times faster than torch's on a CPU.

    torch draws one number per element from the Mersenne Twister. Here one 64-bit draw serves four
    elements, 16 bits each, so p is rounded to a multiple of 2^-16; what is kept is scaled by the
    probability after rounding. The draws are SFC64's, seeded by torch's default generator: they
    repeat with it.

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
        source = np.random.SFC64(int(torch.randint(2**63 - 1, ())))
        draws = source.random_raw(-(-x.numel() // 4)).view(np.uint16)[: x.numel()]
        # One byte an element is kept for the backward pass; torch multiplies it faster as a number
        # than as a truth value.
        keep = torch.from_numpy((draws >= dropped).view(np.int8)).view(x.shape)
        return (x * keep).mul_(2**16 / (2**16 - dropped))
