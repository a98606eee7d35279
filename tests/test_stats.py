"""Statistics on hand-worked examples, against brute force, and by simulation with fixed seeds."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.stats import (
    correlation,
    geometric_mean_ratio,
    holm,
    mean_interval,
    placebo_gains,
    prediction_interval,
    sign_flip_p,
    smallest_p,
)

STUDIES, N = 1000, 12


def test_mean_interval_by_hand():
    # mean 2, sd 1, t(0.975; 2) = 4.302653, divided by sqrt(3): 2.484138
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert (low, high) == (pytest.approx(2 - 2.484138, abs=1e-6), pytest.approx(2 + 2.484138))


def test_prediction_interval_by_hand():
    # 4.302653 * 1 * sqrt(1/3 + 1/5) = 3.142214
    low, high = prediction_interval([1.0, 2.0, 3.0], k=5)
    assert (low, high) == (pytest.approx(2 - 3.142214, abs=1e-6), pytest.approx(2 + 3.142214))


def test_one_repetition_has_no_interval():
    assert all(math.isnan(bound) for bound in prediction_interval([1.0], k=5))
    assert all(math.isnan(bound) for bound in mean_interval([1.0])[1:])
    assert sign_flip_p([1.0]) == 1


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3], 2 / 8),  # all of one sign: only all + and all - are as extreme
        ([1, 2, -0.5], 4 / 8),  # sums of at least 2.5: 3.5 and 2.5, and the same below 0
        ([1, -1], 1.0),
        ([0, 0, 0, 0], 1.0),
        ([0.1] * 5, 2 / 32),
    ],
)
def test_sign_flips_by_hand(differences, p):
    assert sign_flip_p(differences) == pytest.approx(p)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8))
def test_sign_flips_against_brute_force(differences):
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    above = sum(total >= sum(differences) for total in sums) / len(sums)
    below = sum(total <= sum(differences) for total in sums) / len(sums)
    p = sign_flip_p(differences)
    assert p == pytest.approx(min(1, 2 * min(above, below)))
    assert p >= smallest_p(len(differences)) - 1e-12


def test_smallest_p():
    assert [smallest_p(n) for n in (1, 2, 5, 6)] == [1, 0.5, 0.0625, 0.03125]


def test_holm_by_hand():
    # sorted .005*4 = .02, .01*3 = .03, .03*2 = .06, .04*1 = .04 raised to .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert len(holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_only_raises_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert np.all(adjusted >= np.asarray(p_values)) and np.all(adjusted <= 1)
    assert np.all(np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0)


def test_geometric_mean_ratio_by_hand():
    assert geometric_mean_ratio([1.0, 4.0], [2.0, 2.0]) == pytest.approx(1)  # sqrt(1/2 * 2)
    assert geometric_mean_ratio([1.0, 1.0], [2.0, 8.0]) == pytest.approx(0.25)  # sqrt(1/2 * 1/8)


def test_correlation():
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert correlation([1, 2, 3], [1, -2, 1]) == pytest.approx(0, abs=1e-12)
    assert math.isnan(correlation([1, 2], [3, 5]))
    assert math.isnan(correlation([1, 1, 1], [1, 2, 3]))


def test_placebo_by_hand():
    # pairs of three runs: the better by validation tests at 10, 10, 20: mean 13.33, a gain of 6.67
    gains = placebo_gains([1, 2, 3], [10, 20, 30], k=2, picks=1)
    assert set(gains) == {10, 0}
    assert gains.mean() == pytest.approx(20 / 3, abs=0.4)
    assert set(placebo_gains([1, 2, 3], [10, 20, 30], k=3, picks=4)) == {10}
    assert abs(placebo_gains([1, 2, 3], [10, 20, 30], k=1, picks=5).mean()) < 0.4


def test_placebo_against_the_exact_mean():
    rng = np.random.default_rng(1)
    test = np.sort(rng.normal(size=12))  # validation ranks the runs as the test does
    chance = [math.comb(11 - rank, 3) / math.comb(12, 4) for rank in range(12)]
    gains = placebo_gains(test, test, k=4, picks=5)
    assert gains.mean() == pytest.approx(test.mean() - np.dot(chance, test), abs=0.02)
    assert np.array_equal(gains, placebo_gains(test, test, k=4, picks=5))


def test_placebo_refuses_more_runs_than_there_are():
    with pytest.raises(ValueError, match="cannot pick from 4 of 3"):
        placebo_gains([1, 2, 3], [1, 2, 3], k=4, picks=1)


@pytest.fixture(scope="module")
def null_studies() -> np.ndarray:
    """Differences of pairs that share a seed's luck and differ by noise alone [studies, n]."""
    rng = np.random.default_rng(2023)
    luck = rng.normal(size=(STUDIES, N))
    noise = rng.normal(scale=0.5, size=(2, STUDIES, N))
    return (luck + noise[0]) - (luck + noise[1])


def test_false_positives(null_studies):
    assert np.mean(sign_flip_p(null_studies) <= 0.05) <= 0.065


def test_false_positives_with_heavy_tails():
    differences = np.random.default_rng(7).standard_t(3, size=(STUDIES, N))
    assert np.mean(sign_flip_p(differences) <= 0.05) <= 0.065


def test_interval_coverage(null_studies):
    _, low, high = mean_interval(null_studies + 0.3)
    assert 0.93 <= np.mean((low <= 0.3) & (high >= 0.3)) <= 0.97


def test_prediction_interval_coverage():
    rng = np.random.default_rng(5)
    ours, theirs = rng.normal(size=(STUDIES, 5)), rng.normal(size=(STUDIES, 3)).mean(axis=1)
    bounds = np.array([prediction_interval(values, k=3) for values in ours])
    assert 0.93 <= np.mean((bounds[:, 0] <= theirs) & (theirs <= bounds[:, 1])) <= 0.97


def test_power_at_one_standard_deviation(null_studies):
    sd = math.sqrt(0.5)  # of the difference of two noises of sd 0.5
    assert np.mean(sign_flip_p(null_studies + sd) <= 0.05) >= 0.8
