"""Statistics of a few repetitions: intervals, exact tests, and what picking alone gains."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95
FLIPS = 2**16  # sign flips at most: exact up to 16 differences, that many random ones beyond


def mean_interval(
    values: ArrayLike, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a mean and its t interval; on differences by seed this is the paired-t interval.

    Args:
        values: repetitions along the last axis, [..., n].
        level: coverage.

    Returns:
        Mean, lower and upper bound [...]; the bounds are NaN for n = 1.
    """
    values = np.asarray(values, dtype=float)
    mean = values.mean(axis=-1)
    half = _half_width(values, 1 / values.shape[-1], level)
    return mean, mean - half, mean + half


def prediction_interval(values: ArrayLike, k: int, level: float = LEVEL) -> tuple[float, float]:
    """Return where the mean of k further repetitions would lie: ± t * sd * sqrt(1/n + 1/k).

    Args:
        values: our n repetitions [n].
        k: repetitions behind the mean that is looked at.
        level: coverage.

    Returns:
        Lower and upper bound, NaN for n = 1.
    """
    values = np.asarray(values, dtype=float)
    half = _half_width(values, 1 / len(values) + 1 / k, level)
    return float(values.mean() - half), float(values.mean() + half)


def _half_width(values: np.ndarray, variance_factor: float, level: float) -> np.ndarray:
    n = values.shape[-1]
    if n < 2:
        return np.full(values.shape[:-1], math.nan)
    quantile = stats.t.ppf((1 + level) / 2, n - 1)
    return quantile * values.std(axis=-1, ddof=1) * math.sqrt(variance_factor)


def sign_flip_p(differences: ArrayLike) -> np.ndarray:
    """Return the two-sided p value of the sign-flip permutation test on the mean.

    Under the null hypothesis each paired difference is as likely to have the other sign. All 2^n
    flips are enumerated up to n = 16.

    Args:
        differences: paired differences along the last axis, [..., n].

    Returns:
        p values [...]; 1 for n = 1, where no flip is more extreme than another.
    """
    differences = np.asarray(differences, dtype=float)
    if differences.shape[-1] < 2:
        return np.ones(differences.shape[:-1])
    result = stats.permutation_test(
        (differences,),
        lambda sample, axis: sample.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        batch=256,
        axis=-1,
        rng=0,
    )
    return np.asarray(result.pvalue)


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that n sign flips can give: 2 of 2^n."""
    return min(1.0, 2.0 ** (1 - n))


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Return Pearson's r of two paired samples; NaN where it says nothing (n < 3, no spread)."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return Holm's step-down adjusted p values, in the order given.

    The i-th smallest of m is multiplied by m - i (i from 0); none may fall below the one before.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def geometric_mean_ratio(a: ArrayLike, b: ArrayLike) -> float:
    """Return the geometric mean of a / b, for positive errors of two methods on the same cells."""
    return float(stats.gmean(np.asarray(a, dtype=float) / np.asarray(b, dtype=float)))


def placebo_gains(
    validation: ArrayLike, test: ArrayLike, *, k: int, picks: int, draws: int = 2_000, seed: int = 0
) -> np.ndarray:
    """Return what picking the best of k equal runs by validation gains on the test set.

    Args:
        validation: validation error of each run [n].
        test: test error of each run [n].
        k: runs to pick from, drawn without replacement for each pick.
        picks: independent picks whose mean is one draw.
        draws: resamples.
        seed: of the resampling.

    Returns:
        Mean test error of all runs minus that of the picked ones [draws]; positive is a gain.

    Raises:
        ValueError: k is not within 1 and n.
    """
    validation, test = np.asarray(validation, dtype=float), np.asarray(test, dtype=float)
    if not 1 <= k <= len(test):
        raise ValueError(f"cannot pick from {k} of {len(test)} runs")
    runs = np.tile(np.arange(len(test)), (draws * picks, 1))
    drawn = np.random.default_rng(seed).permuted(runs, axis=1)[:, :k]  # [draws * picks, k]
    best = validation[drawn].argmin(axis=1)
    picked = test[drawn[np.arange(len(drawn)), best]]
    return test.mean() - picked.reshape(draws, picks).mean(axis=1)
