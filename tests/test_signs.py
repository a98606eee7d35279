"""The analysis of the sign: paired differences by hand, hypotheses, placebo, and careful words."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp.cells import Cell, find_cells, usable_runs
from exp.render import render
from exp.sign_tables import sign_tables
from exp.signs import (
    HYPOTHESES,
    Hypothesis,
    hypothesis_frame,
    over_cells,
    paired_frame,
    placebo_frame,
    placebo_reading,
    read_hypotheses,
    reading,
    verdict,
)
from exp.table import main
from tests.study import cell_run, full_study, write_runs
from utils.errors import UserError

MINUS = Hypothesis("minus helps", "minus-zero", "informer", "ETTh2", "S", 24, "feature", "off")
PLUS = Hypothesis("plus helps", "plus-zero", "informer", "ETTh2", "S", 24, "feature", "off")


def cells_of(rows: list[dict[str, Any]]) -> list[Cell]:
    return find_cells(usable_runs(pd.DataFrame(rows), "truncated")[0])


def arm(c: float, scores: Sequence[float | None], **settings: Any) -> list[dict[str, Any]]:
    """Runs of one c with seeds 0, 1, ... and these test errors; None is a seed without a run."""
    pairs = [(seed, mse) for seed, mse in enumerate(scores) if mse is not None]
    return [cell_run(mse, seed=seed, lip_coef=c, **settings) for seed, mse in pairs]


def row_of(pairs: pd.DataFrame, comparison: str) -> dict[str, Any]:
    (row,) = pairs.loc[pairs["comparison"] == comparison].to_dict("records")
    return row


def test_paired_differences_by_hand():
    # minus - zero: -1, -2, -3: mean -2, sd 1, half width 4.302653 / sqrt(3) = 2.484138
    pairs = paired_frame(cells_of([*arm(0.0, [4, 6, 8]), *arm(-2.0, [3, 4, 5])]))
    row = row_of(pairs, "minus-zero")
    assert (row["n"], row["first"], row["second"], row["difference"]) == (3, 4, 6, -2)
    assert row["low"] == pytest.approx(-2 - 2.484138, abs=1e-6)
    assert row["high"] == pytest.approx(-2 + 2.484138, abs=1e-6)
    assert row["correlation"] == pytest.approx(1)
    assert row["smallest_p"] == 0.25
    assert row_of(pairs, "minus-plus")["n"] == 0


def test_only_seeds_of_both_sides_are_paired():
    rows = [*arm(0.0, [1, 2, 3, 100]), *arm(2.0, [None, 4, 6, None, 9])]
    row = row_of(paired_frame(cells_of(rows)), "plus-zero")
    assert (row["n"], row["first"], row["second"]) == (2, 5, 2.5)
    assert math.isnan(row["correlation"])  # two points always lie on a line


def test_one_seed_says_nothing():
    rows = [*arm(0.0, [1.0]), *arm(-2.0, [0.5])]
    pairs = paired_frame(cells_of(rows))
    row = row_of(pairs, "minus-zero")
    assert math.isnan(row["low"]) and row["smallest_p"] == 1
    assert reading(row) == "one seed: no interval"
    tested = hypothesis_frame(pairs, [MINUS])
    assert tested.loc[0, "verdict"] == "one seed: nothing can be said"


def test_hypotheses_are_corrected_by_holm():
    zero = [10.0 + seed for seed in range(8)]
    minus = [value - 1 - 0.01 * seed for seed, value in enumerate(zero)]  # below in all: p 2/256
    plus = [value + (-1) ** seed for seed, value in enumerate(zero)]
    pairs = paired_frame(cells_of([*arm(0.0, zero), *arm(-2.0, minus), *arm(2.0, plus)]))
    absent = Hypothesis("elsewhere", "minus-zero", "informer", "ETTh1", "S", 24, "feature", "off")
    tested = hypothesis_frame(pairs, [MINUS, PLUS, absent])
    assert tested["p"].tolist() == pytest.approx([2 / 256, 1, 1])
    assert tested["p_holm"].tolist() == pytest.approx([6 / 256, 1, 1])
    assert tested["verdict"].tolist() == [
        "c < 0 has the lower test MSE than c = 0 in this cell",
        "no difference shown",
        "no runs",
    ]


def test_hypotheses_are_about_the_papers_settings_only():
    rows = [*arm(0.0, [1, 2, 3], d_model=64), *arm(-2.0, [0, 1, 2], d_model=64)]
    assert hypothesis_frame(paired_frame(cells_of(rows)), [MINUS]).loc[0, "verdict"] == "no runs"


def test_five_seeds_cannot_decide():
    rows = [*arm(0.0, [10, 11, 12, 13, 14]), *arm(-2.0, [1, 2.1, 3.2, 4.3, 5.4])]
    cells = cells_of(rows)
    tested = hypothesis_frame(paired_frame(cells), [MINUS])
    assert tested.loc[0, "p"] == pytest.approx(0.0625)
    assert tested.loc[0, "verdict"] == "undecided: 5 seeds cannot give p below 0.062"
    text = render(sign_tables(cells, [MINUS], "truncated"), "terminal", [])
    assert "0.062 (!)" in text
    assert "with so few seeds no result whatever could reach p ≤ 0.05" in text


@given(
    st.integers(2, 20),
    st.floats(-1, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(1, 9),
)
def test_words_are_never_stronger_than_numbers(n, difference, half, p, factor):
    row = {"comparison": "minus-zero", "n": n, "difference": difference, "p": p}
    row |= {"low": difference - half, "high": difference + half, "p_holm": min(1, p * factor)}
    words = verdict(row)
    shown = p * factor <= 0.05 and half < abs(difference) and n >= 6
    assert ("lower" in words) == shown
    if shown:
        assert words.startswith("c < 0" if difference < 0 else "c = 0")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-2.0, -1.0, "interval below 0"),
        (1.0, 2.0, "interval above 0"),
        (-1.0, 2.0, "interval covers 0"),
        (0.0, 0.0, "interval covers 0"),
    ],
)
def test_exploratory_intervals_are_described_only(low, high, words):
    assert reading({"low": low, "high": high, "n": 5}) == words


def test_comparisons_in_cells_have_intervals_only():
    rows = [*arm(0.0, [10, 11, 12]), *arm(-2.0, [1, 2.1, 3.2]), *arm(2.0, [1, 2.1, 3.2])]
    hypotheses, paired, _ = sign_tables(cells_of(rows), [MINUS], "truncated")
    assert ("", "p") in hypotheses.columns and ("", "p") not in paired.columns
    assert hypotheses.rows[0][6:9] == ["0.2500", "0.25 (!)", "0.2500"]
    assert paired.rows[1][3] == "c > 0 minus c = 0"
    assert paired.rows[1][-3:] == ["2.00000", "3.00000", "4.00000"]  # baselines


def test_full_study_over_cells():
    pairs = paired_frame(find_cells(usable_runs(full_study(), "truncated")[0]))
    rows = {
        (row["table"][1], row["comparison"]): row for row in over_cells(pairs).to_dict("records")
    }
    names = ("cells", "data_sets", "wins", "ties", "losses")
    assert [rows["S", "minus-zero"][name] for name in names] == [25, 5, 24, 1, 0]
    assert [rows["M", "minus-zero"][name] for name in names] == [25, 5, 0, 1, 24]
    assert [rows["M", "plus-zero"][name] for name in names] == [25, 5, 0, 0, 25]
    single = pairs.query("data == 'ETTh2' and pred_len == 24 and features == 'S'")
    assert row_of(single, "minus-plus")["difference"] == pytest.approx(-0.003)


def test_ratio_over_cells_by_hand():
    rows = [*arm(0.0, [2.0]), *arm(-2.0, [1.0])]
    rows += [*arm(0.0, [2.0], pred_len=48), *arm(-2.0, [4.0], pred_len=48)]
    frame = over_cells(paired_frame(cells_of(rows)))
    assert frame.loc[0, "ratio"] == pytest.approx(1)  # sqrt(1/2 * 2)
    assert frame.loc[0, ["wins", "ties", "losses", "data_sets"]].tolist() == [1, 0, 1, 1]


def picking_rows(zeros: int) -> list[dict[str, Any]]:
    rows = arm(0.0, [float(10 + seed) for seed in range(zeros)])
    rows += [cell_run(9.0, seed=0, lip_coef=-2.0, val_mse=1), cell_run(7.0, seed=0, lip_coef=-4.0)]
    return [*rows, *arm(-2.0, [None, 8.0]), *arm(-4.0, [None, 12.0])]


def test_placebo_beside_the_gain_of_picking_lambda():
    # c = 0: 10, 11, 12, 13, mean 11.5. Picked by own validation: 9 (seed 0, val 1), 8 (seed 1).
    (row,) = placebo_frame(cells_of(picking_rows(4))).to_dict("records")
    assert (row["sign"], row["k"], row["picks"], row["zero_runs"]) == ("minus", 2, 2, 4)
    assert row["gain"] == pytest.approx(11.5 - 8.5)
    # better of two of 10..13 (validation equals test): 10 in 3 of 6, 11 in 2, 12 in 1: 10.667
    assert row["placebo"] == pytest.approx(11.5 - 64 / 6, abs=0.05)
    assert row["low"] < row["placebo"] < row["high"]
    assert placebo_reading(row) == "more than picking alone gains"


def test_placebo_needs_enough_runs():
    (row,) = placebo_frame(cells_of(picking_rows(3))).to_dict("records")
    assert math.isnan(row["placebo"])
    assert placebo_reading(row) == "no placebo: 4 runs with c = 0 needed"
    (row,) = placebo_frame(cells_of(picking_rows(0))).to_dict("records")
    assert placebo_reading(row) == "no run with c = 0"


def test_nothing_is_picked_from_one_lambda():
    cells = cells_of([*arm(0.0, [1, 2]), *arm(-2.0, [1, 2])])
    assert placebo_frame(cells).empty
    text = render(sign_tables(cells, [], "truncated"), "markdown", [])
    assert "Placebo: what picking" not in text and "are not independent" in text


def test_null_studies_are_seldom_called_different():
    # Whole studies without any effect, through lambda's choice to the verdict.
    rng = np.random.default_rng(11)
    (cell,) = cells_of([
        cell_run(1.0, seed=s, lip_coef=c) for s in range(10) for c in (0.0, -1.0, -2.0, -4.0)
    ])  # fmt: skip
    found = 0
    for _ in range(60):
        luck = 10 + rng.normal(size=10)[cell.runs["seed"].astype(int)]
        scores = luck + rng.normal(scale=0.5, size=len(luck))
        runs = cell.runs.assign(mse=scores, val_mse=scores + rng.normal(size=len(luck)))
        pairs = paired_frame([Cell(**{**vars(cell), "runs": runs})])
        found += "lower" in hypothesis_frame(pairs, [MINUS]).loc[0, "verdict"]
    assert found <= 8  # 60 at 5 %: 3 expected, above 8 with a chance of 0.3 %


def test_the_projects_hypotheses_are_valid():
    hypotheses = read_hypotheses(HYPOTHESES)
    assert hypotheses and len({h.claim for h in hypotheses}) == len(hypotheses)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[hypothesis]\n", "Expected ']]'"),
        ("[[hypothesis]]\nclaim = 'x'\n", "missing 7 required positional arguments"),
        ("[[hypothesis]]\nclaims = 'x'\n", "unexpected keyword argument 'claims'"),
        (None, "No such file"),
    ],
)
def test_faulty_hypotheses_are_refused(tmp_path, text, told):
    path = tmp_path / "named.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"see exp/hypotheses\.toml") as error:
        read_hypotheses(path)
    assert told in str(error.value) and str(path) in str(error.value)


def test_unknown_comparison_is_refused(tmp_path):
    text = HYPOTHESES.read_text().replace('"minus-zero"', '"minus-one"')
    (tmp_path / "named.toml").write_text(text)
    with pytest.raises(UserError, match="minus-one: must be one of minus-zero, plus-zero"):
        read_hypotheses(tmp_path / "named.toml")


def test_command_compares_signs(tmp_path, capsys):
    write_runs(tmp_path, [*arm(0.0, [4.0, 6.0, 8.0]), *arm(-2.0, [3.0, 4.0, 5.0])])
    assert main(["--results", str(tmp_path), "--signs"]) == 0
    text = capsys.readouterr().out
    assert "Signs: Table 2 (S), feature axis, fp32, truncated test windows" in text
    assert "-4.48414 to 0.48414" in text
    assert main(["--results", str(tmp_path), "--signs", "--format", "csv"]) == 0
    assert "minus-zero,3," in capsys.readouterr().out


def test_no_runs(tmp_path, capsys):
    assert main(["--results", str(tmp_path), "--signs"]) == 0
    text = capsys.readouterr().out
    assert "There are no runs." in text and "no runs" in text
