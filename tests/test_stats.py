"""Statistics on hand-worked examples, against brute force, and by simulation with fixed seeds."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.stats import (
    block_bootstrap_ratio,
    choose_by_others,
    holm,
    mean_interval,
    prediction_interval,
    sign_flip_p,
    sign_test_p,
    smallest_p,
    unpaired_range,
)


def test_intervals_by_hand():
    # mean 2, sd 1, t(0.975; 2) = 4.302653, divided by sqrt(3): 2.484138
    mean, low, high = mean_interval([[1, 2, 3], [6, 7, 5]])  # two studies
    assert (mean.tolist(), low.tolist()) == ([2, 6], pytest.approx([2 - 2.484138, 6 - 2.484138]))
    assert high.tolist() == pytest.approx([2 + 2.484138, 6 + 2.484138])
    # t(0.975; 1) = 12.7062, the smallest n that has an interval
    assert mean_interval([1, 3]) == pytest.approx((2, 2 - 12.7062, 2 + 12.7062), abs=1e-4)
    _, *bounds = mean_interval([1, 2, 3], level=0.9)
    assert bounds == pytest.approx(scipy.stats.ttest_1samp([1, 2, 3], 0).confidence_interval(0.9))
    # 4.302653 * 1 * sqrt(1/3 + 1/5) = 3.142214
    bounds = prediction_interval(2.0, 1.0, 3, k=5)
    assert bounds == pytest.approx((2 - 3.142214, 2 + 3.142214), abs=1e-6)
    bounds = prediction_interval(2.0, 1.0, 2, k=2)
    assert bounds == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)


def test_one_repetition_has_no_interval():
    assert all(math.isnan(bound) for bound in prediction_interval(1.0, math.nan, 1, k=5))
    assert all(math.isnan(bound) for bound in mean_interval([1.0])[1:])
    assert all(math.isnan(value) for value in mean_interval([]))
    assert sign_flip_p([1.0]) == 1
    studies = np.ones((3, 1))  # of one repetition each
    assert sign_flip_p(studies).tolist() == [1, 1, 1]
    assert np.isnan(mean_interval(studies)[1:]).all() and len(mean_interval(studies)[1]) == 3


def test_the_range_of_unpaired_means_holds_95_in_100_of_them():
    # n pairs that share their seeds' luck, then k more runs a side that share nothing
    draw, inside = np.random.default_rng(1), []
    for _ in range(2000):
        luck, effect = 0.1 * draw.standard_normal(8), 0.02 * draw.standard_normal(8) - 0.05
        low, high = unpaired_range(np.exp(luck + effect), np.exp(luck), 5)
        first, second = 0.1 * draw.standard_normal((2, 5))
        first += 0.02 * draw.standard_normal(5) - 0.05
        inside.append(low < math.log(np.exp(first).mean() / np.exp(second).mean()) < high)
    assert 0.94 < np.mean(inside) < 0.98  # a little too wide: one t for both parts
    assert all(map(math.isnan, unpaired_range([1.0], [2.0], 5)))


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


def test_sign_test_by_hand():
    assert sign_test_p(4, 0) == pytest.approx(2 / 16)
    assert sign_test_p(1, 5) == pytest.approx(2 * 7 / 64)  # at most one of six, either way
    assert sign_test_p(0, 0) == 1


def test_holm_by_hand():
    # sorted .005*4 = .02, .01*3 = .03, .03*2 = .06, .04*1 = .04 raised to .06
    adjusted, factors = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert factors.tolist() == [3, 1, 2, 4]
    assert holm([0.6, 0.9])[0] == pytest.approx([1, 1])
    assert len(holm([])[0]) == 0


def test_choice_is_made_by_the_others():
    # mean of the others: seed 0: 5 (first), 4 (second): second; seeds 1 and 2: 3, 6.5: first
    assert choose_by_others([[1, 9], [5, 4], [5, 4]]).tolist() == [1, 0, 0]
    # a sum less the seed's own value would lose the small ones beside 1e17
    assert choose_by_others([[1e17, 2.0], [1.0, 2.0], [1.0, 2.0]])[0] == 0


def test_block_bootstrap_of_independent_windows_is_the_normal_interval():
    first, second = np.random.default_rng(4).gamma(4, size=(2, 900))
    bounds = block_bootstrap_ratio(first, second, block=1, draws=20_000)
    sd = math.sqrt(sum(side.var() / side.mean() ** 2 / 900 for side in (first, second)))
    middle = math.log(first.mean() / second.mean())
    assert bounds == pytest.approx((middle - 1.96 * sd, middle + 1.96 * sd), abs=0.08 * sd)
    assert all(math.isnan(bound) for bound in block_bootstrap_ratio([1, 2, 3], [1, 2, 3], block=2))
    # two blocks: both draws are the first in a quarter of all cases, the last in another
    assert block_bootstrap_ratio([1, 3], [1, 1], block=1) == pytest.approx((0, math.log(3)))


def test_block_bootstrap_covers_other_stretches_of_the_same_time():
    # constant over 10 windows: blocks of 100 see that, single windows are too narrow
    sides = np.random.default_rng(5).gamma(20, size=(150, 2, 400)).repeat(10, axis=2)
    found = {
        block: np.array([block_bootstrap_ratio(*pair, block=block, draws=400) for pair in sides])
        for block in (1, 100)
    }
    wide, narrow = (np.mean((found[n][:, 0] <= 0) & (found[n][:, 1] >= 0)) for n in (100, 1))
    assert wide >= 0.88 and narrow <= 0.6
