"""Statistics on hand-worked examples and against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.stats import holm, sign_flip_p, sign_test_p, smallest_p


@settings(deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8))
def test_sign_flips_against_brute_force(differences):
    signs = np.array([*itertools.product((1, -1), repeat=len(differences))])
    sums, total = signs @ differences, sum(differences)
    expected = min(1, 2 * min(np.mean(sums >= total), np.mean(sums <= total)))
    assert sign_flip_p(differences) == pytest.approx(expected)
    assert expected >= smallest_p(len(differences)) - 1e-12


def test_smallest_p_is_what_the_test_reaches():
    assert [smallest_p(n) for n in (1, 2, 5, 6, 16)] == [1, 0.5, 2 / 32, 2 / 64, 2 / 2**16]
    # beyond 16 the flips are drawn, and a p below 2 / 65537 is out of reach, whatever 2^-n is
    mixed = np.sin(np.arange(17)) + 0.2
    assert smallest_p(17) >= 2 / (2**16 + 1) and sign_flip_p(mixed) == sign_flip_p(mixed)


def test_sign_test_and_holm_by_hand():
    assert sign_test_p(4, 0) == pytest.approx(2 / 16)
    assert sign_test_p(1, 5) == pytest.approx(2 * 7 / 64)  # at most one of six, either way
    assert sign_test_p(0, 0) == 1
    # sorted .005*4 = .02, .01*3 = .03, .03*2 = .06, .04*1 = .04 raised to .06
    adjusted, factors = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert factors.tolist() == [3, 1, 2, 4]
    assert holm([0.6, 0.9])[0] == pytest.approx([1, 1])
