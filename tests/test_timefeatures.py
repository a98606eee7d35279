import numpy as np
import pandas as pd
import pytest

from utils.files import UserError
from utils.timefeatures import FEATURE_WIDTH, parse_freq, time_features


@pytest.mark.parametrize(("embed", "frequencies"), [("timeF", "htsdbm"), ("fixed", "ht")])
def test_equals_the_golden_columns(golden, embed, frequencies):
    arrays = np.load(golden / "timefeatures.npz")
    for freq in frequencies:
        ours = time_features(pd.DatetimeIndex(arrays["dates"]), freq, embed)
        np.testing.assert_allclose(ours, arrays[f"{embed}/{freq}"], rtol=0, atol=1e-12)


def test_hand_worked_examples():
    dates = pd.DatetimeIndex(["2018-01-01 00:00:00", "2020-12-31 23:59:59"])  # Monday, Thursday
    for freq, width in FEATURE_WIDTH.items():
        assert time_features(dates, freq, "timeF")[0].tolist() == [-0.5] * width
    last = time_features(dates, "s", "timeF")[1]
    assert last.tolist() == [0.5, 0.5, 0.5, 0.0, 0.5, 0.5]  # a leap year: day 366
    assert time_features(dates, "w", "timeF")[1].tolist() == [0.5, 0.5]  # week 53
    assert time_features(dates, "m", "timeF")[1].tolist() == [0.5]
    whole = time_features(dates, "15min", "learned")
    assert whole.tolist() == [[1, 1, 0, 0, 0], [12, 31, 3, 23, 3]]


def test_frequencies_reduce_to_their_letter():
    written = {"s": "s S sec", "t": "t T 15t min 15min", "h": "h H 2h", "d": "d D", "b": "b B"}
    for letter, words in {**written, "w": "w W", "m": "m M ME"}.items():
        assert {parse_freq(word) for word in words.split()} == {letter}


@pytest.mark.parametrize("freq", ["", "15", "hour and a half", "x", "h2", "-1h", "MS", "mins"])
def test_unknown_frequencies_are_refused(freq):
    hint = " (did you mean min?)" if freq == "mins" else ""  # MS is not nearly s
    with pytest.raises(UserError) as caught:
        parse_freq(freq)
    assert str(caught.value) == f"--freq {freq}: unknown{hint}; one of s, t, h, d, b, w, m"
