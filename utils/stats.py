"""Exact tests of a few repetitions, and Holm's correction."""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

FLIPS = 2**16  # sign flips at most: exact up to 16 differences, that many random ones beyond


def sign_flip_p(differences: ArrayLike) -> float:
    """Return the two-sided p of the sign-flip permutation test on the mean of differences [n].

    Under the null hypothesis each paired difference is as likely to have the other sign. All 2^n
    flips are enumerated up to n = 16. For n < 2, where no flip is more extreme, p is 1.
    """
    d = np.asarray(differences)
    if len(d) < 2:
        return 1.0
    result = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=FLIPS, batch=256, axis=-1, rng=0
    )
    return float(result.pvalue)


@functools.cache
def smallest_p(n: int) -> float:
    """Return the smallest p that `sign_flip_p` can give for n differences: all of one sign."""
    return sign_flip_p(np.ones(n))


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
