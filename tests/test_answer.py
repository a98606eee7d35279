"""The answer's statistics: the rule by simulation, the rest against scipy, loops and by hand."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paper import answer
from paper.answer import LOOKS, compare, effect, judge, pair
from paper.runs import by_cell, load, select_metrics
from paper.signs import over_weeks
from tests.records import write_run

R = math.log(0.33658 / 0.72025)  # as published in ETTh2 M 24
DRAWS = 40_000  # simulated cells: three standard errors are 0.1 points at 0.5 %, 0.3 at 3 %


def decisions(d: np.ndarray, r: float, looks: tuple[int, ...] = LOOKS) -> np.ndarray:
    """Apply the rule to many cells [cells, n] at once: 1 seen, -1 not seen, 0 open; and the look.

    Written apart from `judge`: a t test of whether the mean of d / r is a half.
    """
    found = np.zeros((2, len(d)), dtype=int)
    for n in looks:
        t = (d[:, :n].mean(axis=1) / r - 0.5) / (d[:, :n].std(axis=1, ddof=1) / abs(r) / n**0.5)
        new = (found[0] == 0) & (np.abs(t) > stats.t.ppf(1 - 0.05 / 6, n - 1))
        found[:, new] = np.sign(t[new]), np.full(new.sum(), n)
    return found


def errors(kind: str, n: int = 8) -> np.ndarray:
    """Draw errors with sd 1; "outlier": one pair in 20 is 5 sd up, the others have mean 0."""
    draw = np.random.default_rng(5)
    if kind == "t3":
        return draw.standard_t(3, (DRAWS, n)) / 3**0.5
    outlying = 5.0 * (draw.random((DRAWS, n)) < (0.05 if kind == "outlier" else 0))
    return (draw.standard_normal((DRAWS, n)) + outlying) / (1 + outlying.var()) ** 0.5


def shares(d: np.ndarray, r: float, looks: tuple[int, ...] = LOOKS) -> tuple[float, float]:
    """Give the percentages of cells with *seen* and with *not seen*."""
    found = decisions(d, r, looks)[0]
    return 100 * (found == 1).mean(), 100 * (found == -1).mean()


@pytest.mark.parametrize("kind", ["normal", "t3", "outlier"])
def test_the_rule_is_rarely_wrong(kind):
    e = errors(kind)
    for r, sd, side in itertools.product((math.log(0.9), R), (0.01, 0.03, 0.1), (1, -1)):
        assert shares(side * sd * e, r)[0] < 0.5  # seen, where nothing is there
        assert shares(side * sd * e + r, r)[1] < 0.5  # not seen, where all of it is there
    assert max(*shares(e - 0.5, -1), *shares(e + 0.5, 1)) < 3  # half of it: the same at every sd


def test_judge_is_the_simulated_rule():
    for r, looks in itertools.product((-0.1, 0.06), (LOOKS, (*LOOKS, 16))):
        d = 0.04 * errors("t3", 16)[:300] + np.linspace(-0.2, 0.2, 300)[:, None]
        names = [("open", "seen", "not seen")[one] for one in decisions(d, r, looks)[0]]
        assert [judge(one, r, looks) for one in d] == [(name, None) for name in names]
        assert len({*names}) == 3


@pytest.mark.parametrize("side", [1, -1])
def test_looks_wait_for_their_pairs_and_what_is_decided_stays(side):
    r, d = -0.1 * side, np.array([-0.1, -0.11, -0.09, *[0.0, 0.01, -0.01] * 2]) * side
    assert judge(d[:2], r) == ("open", 3)
    assert {judge(d[:n], r) for n in range(3, 10)} == {("seen", None)}
    assert judge(d[3:], r) == judge(-d, r) == ("not seen", None)
    wide = np.array([-0.2, 0.1, -0.05, *[0.0] * 5]) * side
    assert judge(wide[:4], r) == ("open", 5) and judge(wide, r) == ("open", None)
    assert judge(wide, r, (*LOOKS, 16)) == ("open", 16)


def test_a_failed_pair_keeps_its_looks_open():
    for lost in (math.inf, -math.inf, math.nan):
        assert judge([-0.1, lost, -0.1, -0.1, -0.1], -0.1) == ("open", 8)
        assert judge([-0.1, -0.1, -0.1, lost, lost], -0.1) == ("seen", None)


def test_effect_by_hand_and_of_few_or_equal_pairs():
    few = [effect(np.array(d)) for d in ([], [0.1], [0.1, 0.3], [math.inf, -math.inf, 0.1])]
    assert np.isnan([one[1:] for one in few]).all()
    assert few[2].value == pytest.approx(100 * math.expm1(0.2))
    assert effect(np.full(4, 0.1)) == pytest.approx([100 * math.expm1(0.1)] * 3)
    # mean 2, sd 1, t(0.975; 2) = 4.302653, divided by sqrt(3): 2.484138
    bounds = [100 * math.expm1((2 + half) / 100) for half in (0, -2.484138, 2.484138)]
    assert effect(np.array([1, 2, 3]) / 100) == pytest.approx(bounds, rel=1e-6)


def widened(samples: list, n: int) -> np.ndarray:
    tail = stats.norm.cdf(-stats.t.ppf(0.975, n - 1) * (n / (n - 1)) ** 0.5)
    return np.quantile(samples, [tail, 1 - tail], axis=0)


def test_interval_over_weeks_and_seeds_against_a_loop_and_as_often_right(monkeypatch):
    draw, samples = np.random.default_rng(2), []
    second = np.exp(0.1 * np.cumsum(draw.standard_normal(60)) + 0.2 * draw.standard_normal((6, 1)))
    first = second * np.exp(0.2 * draw.standard_normal((6, 1)) + 0.1 * draw.standard_normal(60))
    for _ in range(8000):
        seeds, starts = draw.integers(6, size=6), draw.integers(51, size=6)
        windows = np.concatenate([np.arange(start, start + 10) for start in starts])
        one, other = (side[seeds][:, windows].mean() for side in (first, second))
        samples.append(math.log(one / other))
    bounds = 100 * np.expm1(widened(samples, 6))
    assert answer.two_level_interval(first, second, 10)[1:] == pytest.approx(bounds, rel=0.1)
    assert np.isnan(answer.two_level_interval(first[:2], second[:2], 10)[1:]).all()
    assert np.isnan(answer.two_level_interval(first, second, 31)[1:]).all()
    monkeypatch.setattr(answer, "DRAWS", 1000)
    inside = []
    for _ in range(400):
        noise = 0.03 * draw.standard_normal((8, 1)) + 0.01 * draw.standard_normal((1, 80))
        _, low, high = answer.two_level_interval(np.exp(noise), np.ones((8, 80)), 5)
        inside.append(low < 100 * math.expm1((0.03**2 + 0.01**2) / 2) < high)
    assert 0.92 < np.mean(inside) < 0.985


STEPS = {"ETTh2": 168, "WTH": 168, "ETTm1": 672, "weather": 1008}  # a week's


@pytest.mark.parametrize("data", STEPS)
def test_seeds_and_weeks_are_resampled_together(tmp_path, data):
    errors = np.random.default_rng(1).gamma(3, size=(2, 3, 2500)).astype(np.float32)
    for c, side in ((-2.0, 0), (0.0, 1)):
        for seed in range(3):
            write_run(tmp_path, 0.1, c, seed, data=data, windows=errors[side, seed])
    runs = load(tmp_path)
    found = over_weeks(pair(by_cell(select_metrics(runs.frame)), -2.0, 0.0), data, runs)
    expected = answer.two_level_interval(errors[0], errors[1], STEPS[data])
    assert [*found.values()] == pytest.approx(expected[1:]) and expected.low < 0 < expected.high


def test_failed_runs_by_hand():
    # ranked worst: lost, won, won; the pairs of equals, and of two failures, count for neither
    sides = {
        "mse_first": [math.inf, 1, 3, 2, math.inf],
        "mse_second": [1, 2, math.inf, 2, math.inf],
    }
    d = [math.nan, math.log(0.5), math.nan, 0.0, math.nan]
    row = compare(pd.DataFrame({**sides, "d": d, "mismatch": False}), -2.0, 0.0)
    assert row["failed"] == "MSE − 2 Lip: seeds 0, 4; MSE: seeds 2, 4"
    assert row["direction"] == -1 and row["p"] == stats.binomtest(2, 3).pvalue
    assert row["smallest_p"] == stats.binomtest(3, 3).pvalue
    assert (row["n"], row["sd"]) == (2, pytest.approx(math.log(2) / math.sqrt(2)))
