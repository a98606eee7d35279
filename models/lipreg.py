"""The Lipschitz Regularizer: how continuous is a sequence of embedded inputs?

Qu, Luo, Li: "Data Continuity Matters: Improving Sequence Modeling with Lipschitz Regularizer",
ICLR 2023. Add `c * LipReg(h)` to a model's loss, h being its embedded input: c < 0 makes h more
discrete (Eq. 7, the choice for Transformers), c > 0 more continuous (Eq. 6).
"""

from torch import Tensor

NORMALISATIONS = ("max", "range", "none")


def normalise(x: Tensor, how: str = "max") -> Tensor:
    """Shift and scale a whole batch by its global extremes; gradients flow through them.

    Args:
        x: any shape, any unit.
        how: "max" divides x - min by max, as published; "range" divides it by max - min;
            "none" leaves x as it is.

    Returns:
        A dimensionless tensor of x's shape (x itself for "none").

    Raises:
        ValueError: the normalisation is none of the three.
    """
    if how not in NORMALISATIONS:
        raise ValueError(
            f"unknown normalisation {how!r}: choose one of {', '.join(NORMALISATIONS)}"
        )
    if how == "none":
        return x
    low, high = x.min(), x.max()
    return (x - low) / (high if how == "max" else high - low)


def LipReg(x0: Tensor, transpose: bool = True, normalize: bool | str = True) -> Tensor:
    """Give the mean squared difference of neighbours along a sequence (Definition 3.1, Eq. 3).

    Args:
        x0: [B, H, L] with transpose, [B, L, H] without: L steps of H features.
        transpose: says that the steps stand last, as in convolutional models.
        normalize: True means "max" (as published), False "none"; or a name `normalise` knows.

    Returns:
        A differentiable scalar, zero for constant sequences without normalisation.

    Raises:
        ValueError: x0 is not 3-D, has fewer than two steps, or the normalisation is unknown.
    """
    if not transpose:
        x0 = _checked(x0, step_axis=1).transpose(1, 2)  # [B, L, H] -> [B, H, L]
    how = normalize if isinstance(normalize, str) else ("max" if normalize else "none")
    x = normalise(_checked(x0, step_axis=2), how)
    return (x[..., 1:] - x[..., :-1]).square().mean()


def lipschitz_constant(x: Tensor, normalize: str = "none") -> Tensor:
    """Give the steepest step of a sequence (Eq. 2), of which LipReg is the smooth surrogate.

    Args:
        x: [B, L, D], L steps of D channels.
        normalize: a name that `normalise` knows.

    Returns:
        A scalar: max over time of |x_{k+1} - x_k|, averaged over batch and channels.

    Raises:
        ValueError: as for LipReg.
    """
    x = normalise(_checked(x, step_axis=1), normalize)
    return (x[:, 1:] - x[:, :-1]).abs().amax(dim=1).mean()


def _checked(x: Tensor, step_axis: int) -> Tensor:
    if x.dim() != 3 or x.shape[step_axis] < 2:
        raise ValueError(
            f"expected a 3-D tensor with at least 2 steps on axis {step_axis}, got {list(x.shape)}"
        )
    return x
