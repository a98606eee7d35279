"""Statistics of a few repetitions: intervals, exact tests, and resampled blocks of time."""

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95  # coverage of an interval
FLIPS = 2**16  # sign flips at most: exact up to 16 differences, that many random ones beyond


def mean_interval(
    values: ArrayLike, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean of values [..., n] and its t interval; of differences, the paired-t interval.

    Returns:
        Mean, lower and upper bound [...]; NaN where there are no values, the bounds also for n = 1.
    """
    values = np.asarray(values, dtype=float)
    n = values.shape[-1]
    none = np.full(values.shape[:-1], math.nan)
    mean = values.mean(axis=-1) if n else none
    sd = values.std(axis=-1, ddof=1) if n > 1 else none
    half = stats.t.ppf((1 + level) / 2, max(n - 1, 1)) * sd / math.sqrt(max(n, 1))
    return mean, mean - half, mean + half


def prediction_interval(
    mean: ArrayLike, sd: ArrayLike, n: ArrayLike, k: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Return where the mean of k more repetitions would lie: mean ± t * sd * sqrt(1/n + 1/k).

    Mean and standard deviation are those of n repetitions; NaN where sd is, as for n = 1.
    """
    mean, sd, n, k = (np.asarray(value, dtype=float) for value in (mean, sd, n, k))
    half = stats.t.ppf((1 + LEVEL) / 2, np.maximum(n - 1, 1)) * sd * np.sqrt(1 / n + 1 / k)
    return mean - half, mean + half


def unpaired_range(first: ArrayLike, second: ArrayLike, k: int) -> tuple[float, float]:
    """Return where ln(mean first / mean second) of k more runs a side, not paired, would lie.

    mean d ± t * sqrt((var ln first + var ln second) / k + var d / n), with d = ln(first / second)
    of n pairs; NaN for n = 1.
    """
    logs = np.log(np.stack([np.asarray(first), np.asarray(second)]))  # [2, n]
    d, n = logs[0] - logs[1], logs.shape[1]
    if n < 2:
        return math.nan, math.nan
    spread = math.sqrt(logs.var(axis=1, ddof=1).sum() / k + d.var(ddof=1) / n)
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * spread
    return float(d.mean() - half), float(d.mean() + half)


def sign_flip_p(differences: ArrayLike) -> np.ndarray:
    """Return the two-sided p of the sign-flip permutation test on the mean of differences [..., n].

    Under the null hypothesis each paired difference is as likely to have the other sign. All 2^n
    flips are enumerated up to n = 16. For n < 2, where no flip is more extreme, p is 1.
    """
    d = np.asarray(differences)
    if d.shape[-1] < 2:
        return np.ones(d.shape[:-1])
    result = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=FLIPS, batch=256, axis=-1, rng=0
    )
    return np.asarray(result.pvalue)


@functools.cache
def smallest_p(n: int) -> float:
    """Return the smallest p that `sign_flip_p` can give for n differences: all of one sign."""
    return float(sign_flip_p(np.ones(n)))


def sign_test_p(wins: int, losses: int) -> float:
    """Return the two-sided p value of the sign test; ties are not counted."""
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(p_values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return Holm's step-down adjusted p values, in the order given, and each one's factor.

    The i-th smallest of m is multiplied by m - i (i from 0); none may fall below the one before.
    """
    p = np.asarray(p_values)
    order = np.argsort(p, kind="stable")
    place = np.argsort(order)
    factors = np.arange(len(p), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted[place], factors[place]


def choose_by_others(validation: ArrayLike) -> np.ndarray:
    """Choose for each seed the candidate with the lowest mean validation error of the other seeds.

    A seed's own error plays no part in its choice, so the mean of the chosen is not lowered by
    the choosing; but the chosen values depend on each other, so they carry no interval and no test.

    Args:
        validation: errors [seeds, candidates], at least two seeds.
    """
    values = np.asarray(validation)
    others = [np.delete(values, seed, axis=0).mean(axis=0) for seed in range(len(values))]
    return np.argmin(others, axis=1)


def block_bootstrap_ratio(
    first: ArrayLike, second: ArrayLike, block: int, draws: int = 50_000
) -> tuple[float, float]:
    """Return an interval of ln(mean first / mean second) over other stretches of the same time.

    Moving blocks: windows overlap and neighbours resemble each other, so whole blocks are drawn.

    Args:
        first: errors by window, in order of time [windows].
        second: those of the other side, same windows.
        block: windows a block; with fewer than two blocks the bounds are NaN.
        draws: resamples.
    """
    both = np.stack([np.asarray(first), np.asarray(second)])
    n = both.shape[1]
    if n < 2 * block:
        return math.nan, math.nan
    sums = np.cumsum(np.pad(both, ((0, 0), (1, 0))), axis=1)
    blocks = sums[:, block:] - sums[:, :-block]  # [2, starts]
    starts = np.random.default_rng(0).integers(blocks.shape[1], size=(draws, n // block))
    totals = blocks[:, starts].sum(axis=-1)  # [2, draws]
    low, high = np.quantile(np.log(totals[0] / totals[1]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
