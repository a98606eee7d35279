"""The word of a verdict: never stronger than its numbers, and right in simulated studies."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper.signs import classify


@settings(deadline=None)
@given(
    st.tuples(st.floats(-30, 30), st.floats(0.01, 30)),
    st.floats(0, 1),
    st.integers(1, 4),
    st.sampled_from([2 / 2**6, 2 / 2**8, 2 / 2**12]),
    st.booleans(),
)
def test_words_are_never_stronger_than_numbers(interval, p, factor, smallest, fails):
    change, half = interval
    row = {"change": change, "low": change - half, "high": change + half, "direction": change}
    row |= {"low90": change - 0.8 * half, "high90": change + 0.8 * half, "smallest_p": smallest}
    row |= {"p_holm": min(1, p * factor), "threshold": 0.05 / factor, "failed": "x" * fails}
    verdict = classify(row, margin=0.02)
    shown, word = row["p_holm"] <= 0.05, "better" if change < 0 else "worse"
    if verdict == f"{word} by at least 2 %":
        assert shown and not fails and abs(change) - half > 2
    elif verdict == "equal within 2 %":
        assert not fails and abs(change) + 0.8 * half <= 2
    else:
        assert verdict == "undecided" or (shown and verdict == f"{word}, by how much is open")
    assert smallest * factor <= 0.05 or verdict == "undecided"


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ({"smallest_p": 0.0125}, "better by at least 2 %"),
        ({"p_holm": 0.05}, "better by at least 2 %"),
        ({"high": -2}, "better, by how much is open"),
        ({"low": 2, "high": 4, "direction": 1}, "worse, by how much is open"),
        ({"low90": -2, "high90": 1, "p_holm": 0.2}, "undecided"),
        ({"low90": -1, "high90": 2, "p_holm": 0.2}, "undecided"),
        ({"low90": -1.9, "high90": 1.9, "p_holm": 0.2}, "equal within 2 %"),
    ],
)
def test_a_p_value_may_reach_its_limit_and_an_interval_may_not(numbers, verdict):
    row = {"low": -4, "high": -2.1, "low90": -3.9, "high90": -2.2, "direction": -1, "failed": ""}
    row |= {"smallest_p": 0.01, "threshold": 0.0125, "p_holm": 0.04}
    assert classify(row | numbers, margin=0.02) == verdict
