"""The Lipschitz Regularizer: how continuous is a sequence of embedded inputs?

Qu, Luo, Li: "Data Continuity Matters: Improving Sequence Modeling with Lipschitz Regularizer",
ICLR 2023. Add `c * LipReg(h)` to a model's loss, h being its embedded input: c < 0 makes h more
discrete (Eq. 7, the choice for Transformers), c > 0 more continuous (Eq. 6).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NORMALISATIONS = ("max", "range", "none")
PIECE = 2**20  # numbers differenced at a time: they stay in a processor's cache


def divisor(x: Tensor, how: str = "max") -> Tensor | float:
    """Give what a normalisation divides a whole batch by; gradients flow through it.

    The published normalisation is (x - min) / max. Its minimum cancels in every difference, so
    the divisor alone decides, and dividing once, after averaging, gives the same value.

    Args:
        x: any shape, any unit.
        how: "max" is x's maximum, as published; "range" max - min; "none" 1.

    Returns:
        A scalar in x's unit. Where it is 0 the normalised regularizer is not finite.

    Raises:
        ValueError: the normalisation is none of the three.
    """
    if how not in NORMALISATIONS:
        raise ValueError(
            f"unknown normalisation {how!r}: choose one of {', '.join(NORMALISATIONS)}"
        )
    if how == "none":
        return 1.0
    return x.max() if how == "max" else x.max() - x.min()


def LipReg(x0: Tensor, transpose: bool = True, normalize: bool | str = True) -> Tensor:
    """Give the mean squared difference of neighbours along a sequence (Definition 3.1, Eq. 3).

    Args:
        x0: [B, H, L] with transpose, [B, L, H] without: L steps of H features.
        transpose: says that the steps stand last, as in convolutional models.
        normalize: True means "max" (as published), False "none"; or a name `divisor` knows.

    Returns:
        A differentiable scalar, zero for constant sequences without normalisation.

    Raises:
        ValueError: x0 is not 3-D, has fewer than two steps, or the normalisation is unknown.
    """
    if not transpose:
        x0 = _checked(x0, step_axis=1).transpose(1, 2)  # [B, L, H] -> [B, H, L]
    how = normalize if isinstance(normalize, str) else ("max" if normalize else "none")
    x = _checked(x0, step_axis=2)
    # Means and not sums: half-precision inputs of other models would overflow.
    means = [F.mse_loss(part[..., 1:], part[..., :-1]) * (len(part) / len(x)) for part in _parts(x)]
    return torch.stack(means).sum() / divisor(x, how) ** 2


def lipschitz_constant(x: Tensor, normalize: str = "none") -> Tensor:
    """Give the steepest step of a sequence (Eq. 2), of which LipReg is the smooth surrogate.

    Args:
        x: [B, L, D], L steps of D channels.
        normalize: a name that `divisor` knows.

    Returns:
        A scalar: max over time of |x_{k+1} - x_k|, averaged over batch and channels; divided by
        the size of the divisor.

    Raises:
        ValueError: as for LipReg.
    """
    x = _checked(x, step_axis=1)
    steepest = [(part[:, 1:] - part[:, :-1]).abs().amax(dim=1) for part in _parts(x)]
    return torch.cat(steepest).mean() / abs(divisor(x, normalize))  # mean over [B, D]


def _parts(x: Tensor) -> tuple[Tensor, ...]:
    """Split [B, ...] along the batch."""
    return x.split(max(1, PIECE // x[0].numel()))


def _checked(x: Tensor, step_axis: int) -> Tensor:
    if x.dim() != 3 or x.shape[step_axis] < 2:
        raise ValueError(
            f"expected a 3-D tensor with at least 2 steps on axis {step_axis}, got {list(x.shape)}"
        )
    return x
