"""Statistics on hand-worked examples, against brute force, and by simulation with fixed seeds."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.stats import holm, mean_interval, sign_flip_p, sign_test_p, smallest_p


def test_intervals_by_hand():
    # mean 2, sd 1, t(0.975; 2) = 4.302653, divided by sqrt(3): 2.484138
    mean, low, high = mean_interval([[1, 2, 3], [6, 7, 5]])  # two studies
    assert (mean.tolist(), low.tolist()) == ([2, 6], pytest.approx([2 - 2.484138, 6 - 2.484138]))
    assert high.tolist() == pytest.approx([2 + 2.484138, 6 + 2.484138])
    # t(0.975; 1) = 12.7062, the smallest n that has an interval
    assert mean_interval([1, 3]) == pytest.approx((2, 2 - 12.7062, 2 + 12.7062), abs=1e-4)
    _, *bounds = mean_interval([1, 2, 3], level=0.9)
    assert bounds == pytest.approx(scipy.stats.ttest_1samp([1, 2, 3], 0).confidence_interval(0.9))


def test_one_repetition_has_no_interval():
    assert all(math.isnan(bound) for bound in mean_interval([1.0])[1:])
    assert all(math.isnan(value) for value in mean_interval([]))
    assert sign_flip_p([1.0]) == 1
    assert sign_flip_p(np.ones((3, 1))).tolist() == [1, 1, 1]  # three studies of one each


@settings(deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8))
def test_sign_flips_against_brute_force(differences):
    signs = np.array([*itertools.product((1, -1), repeat=len(differences))])
    sums, total = signs @ differences, sum(differences)
    expected = min(1, 2 * min(np.mean(sums >= total), np.mean(sums <= total)))
    assert sign_flip_p([differences, differences]).tolist() == pytest.approx([expected] * 2)
    assert expected >= smallest_p(len(differences)) - 1e-12


def test_smallest_p_is_what_the_test_reaches():
    assert [smallest_p(n) for n in (1, 2, 5, 6, 16)] == [1, 0.5, 2 / 32, 2 / 64, 2 / 2**16]
    # beyond 16 the flips are drawn, and a p below 2 / 65537 is out of reach, whatever 2^-n is
    for n in (17, 40):
        assert smallest_p(n) == sign_flip_p(1 + np.arange(n) / 10) >= 2 / (2**16 + 1)
        mixed = np.sin(np.arange(n)) + 0.2
        assert sign_flip_p(mixed) == sign_flip_p(mixed)


def test_sign_test_and_holm_by_hand():
    assert sign_test_p(4, 0) == pytest.approx(2 / 16)
    assert sign_test_p(1, 5) == pytest.approx(2 * 7 / 64)  # at most one of six, either way
    assert sign_test_p(0, 0) == 1
    # sorted .005*4 = .02, .01*3 = .03, .03*2 = .06, .04*1 = .04 raised to .06
    adjusted, factors = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert factors.tolist() == [3, 1, 2, 4]
    assert holm([0.6, 0.9])[0] == pytest.approx([1, 1])
    assert len(holm([])[0]) == 0
