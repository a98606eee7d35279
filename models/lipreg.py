"""The Lipschitz Regularizer: how continuous is a sequence of embedded inputs?

Qu, Luo, Li: "Data Continuity Matters: Improving Sequence Modeling with Lipschitz Regularizer",
ICLR 2023. Add `c * LipReg(h)` to a model's loss, h being its embedded input: c < 0 makes h more
discrete (Eq. 7, the choice for Transformers), c > 0 more continuous (Eq. 6).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NORMALISATIONS = ("max", "range", "none")


def LipReg(x0: Tensor, transpose: bool = True, normalize: bool | str = True) -> Tensor:
    """Give the mean squared difference of neighbours along a sequence (Definition 3.1, Eq. 3).

    x0 is [B, H, L] with transpose, [B, L, H] without: L >= 2 steps of H features, else ValueError.

    As published ("max" or True), x0 becomes (x0 - min) / max, both of the whole batch. The minimum
    cancels in every difference, and dividing once, after averaging, gives the same value; gradients
    flow through max. It suits an embedding whose largest value is well above 0, as Informer's is.
    Where no value is positive it means nothing: near 0 LipReg explodes, at 0 it is infinite, below
    0 the value closest to 0 decides. Take "range" (max - min), which ignores shift and scale, or
    "none" (False), under which a model can change LipReg by scaling its embedding alone. LipReg of
    a constant is always 0, also of zeros, where the published function gives 0 / 0.
    """
    x = _checked(x0, 2) if transpose else _checked(x0, 1).transpose(1, 2)  # [B, H, L]
    how = normalize if isinstance(normalize, str) else ("max" if normalize else "none")
    lip = F.mse_loss(x[..., 1:], x[..., :-1])  # Eq. 3: mean of (x_{k+1} - x_k)^2
    return lip / _divisor(x0, how, lip) ** 2


def lipschitz_constant(x: Tensor, normalize: str = "none") -> Tensor:
    """Give the steepest step of a sequence (Eq. 2), of which LipReg is the smooth surrogate.

    x is [B, L, D]. The result is max over time of |x_{k+1} - x_k|, averaged over batch and
    channels, divided by the size of LipReg's divisor; errors as there.
    """
    x = _checked(x, 1)
    steepest = (x[:, 1:] - x[:, :-1]).abs().amax(dim=1).mean()  # [B, D] -> scalar
    return steepest / abs(_divisor(x, normalize, steepest))


def _divisor(x: Tensor, how: str, value: Tensor) -> Tensor | float:
    """Give what a normalisation divides by: 1 for a constant, whose value is 0 as it stands."""
    if how not in NORMALISATIONS:
        raise ValueError(f"unknown normalisation {how!r}: choose one of {NORMALISATIONS}")
    if how == "none":
        return 1.0
    size = x.max() if how == "max" else x.max() - x.min()
    return torch.where(value == 0, 1.0, size)


def _checked(x: Tensor, axis: int) -> Tensor:
    if x.dim() != 3 or x.shape[axis] < 2:
        shape = list(x.shape)
        raise ValueError(f"expected a 3-D tensor with at least 2 steps on axis {axis}, got {shape}")
    return x
