"""Two c in one cell, compared by seed: the numbers by hand, beside the print and over weeks."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paper.pairs import (
    choice_table,
    choices,
    compare,
    contrast_table,
    contrasts,
    over_weeks,
    pair,
    pair_tables,
    print_of,
    sentences,
)
from paper.runs import PRINTED, by_cell, load
from tests.records import write_arm, write_run
from tests.test_signs import LUCK, NOISE, write_pairs
from tests.test_tables import scored
from utils.formats import interval
from utils.stats import block_bootstrap_ratio


def test_choice_on_validation_is_described_and_not_tested(tmp_path):
    for c, validation in ((-2.0, [1, 5, 5]), (-4.0, [9, 4, 4])):
        for seed, value in enumerate(validation):
            write_run(tmp_path, -c / 100 + seed / 1000, c, seed, metrics={"val_mse": value})
    write_arm(tmp_path, 0.0, [0.03] * 3)
    frame = choices(scored(tmp_path, "all"))
    (row,) = frame.to_dict("records")
    # the others' means: seed 0: 5 (2), 4 (4); seeds 1 and 2: 3 (2), 6.5 (4)
    assert row["chosen"] == "-4 (1x), -2 (2x)" and row["n"] == 3
    assert row["mse"] == pytest.approx(np.mean([0.04, 0.021, 0.022]))
    assert row["mse_zero"] == pytest.approx(0.03)
    assert choice_table(frame).heads[-3:] == ["n", "MSE", "MSE at c = 0"]  # no p, no interval
    assert choice_table(frame).rows[0][1] == "feature axis"
    write_run(tmp_path, 0.05, -2.0, 3)
    write_run(tmp_path, 0.05, -4.0, 3)  # without c = 0 of this seed there is no mean of both
    assert math.isnan(choices(scored(tmp_path, "all"))["mse_zero"].iloc[0])


def test_negative_control_is_shown_and_never_chosen(tmp_path):
    write_pairs(tmp_path, 0.0)
    write_arm(tmp_path, -1e-6, LUCK * (1 + NOISE))
    shown = contrasts(scored(tmp_path, "all")).set_index("first")
    assert shown["control"].to_dict() == {-2.0: False, -1e-6: True}
    assert shown.loc[-1e-6, "sd"] == pytest.approx(np.log(1 + NOISE).std(ddof=1))
    none = choices(scored(tmp_path, "all"))  # one c < 0 is no choice
    assert none.empty and {"sign", "chosen"} < {*none.columns}
    for c in (1.0, 2.0):
        write_arm(tmp_path, c, [0.1, 0.2])
    assert choices(scored(tmp_path, "all"))["sign"].tolist() == ["c > 0"]  # the other side's can be


def test_every_cell_has_one_plain_sentence(tmp_path):
    write_pairs(tmp_path, -0.05 + NOISE)
    write_arm(tmp_path, 2.0, LUCK * (1 + NOISE))
    write_arm(tmp_path, 0.0, [0.5, 0.6], data="ETTh1")
    for c in (0.0, 2.0):
        write_run(tmp_path, 0.5, c, data="demo")
    write_run(tmp_path, 0.5, status="failed", pred_len=48, data="ETTh1")  # hides no other cell
    write_run(tmp_path, 0.1, data="ETTm1")
    write_arm(tmp_path, 0.0, [0.1, 0.2], data="WTH")
    write_arm(tmp_path, -1.0, [0.11, 0.22], data="WTH")
    assert sentences(scored(tmp_path, "all")) == [
        "ETTh1 S 24: nothing to compare: no seed has both c = 0 and another c; ridge "
        "(0.2000) is better than every c (at best 0.5500).",
        "ETTh2 S 24, feature axis: lower MSE than c = 0 with c = -2 (−5.0 %, −5.2 to −4.8 %, "
        "n = 8); no difference from c = 0 shown for c = 2 (−0.0 %, −0.2 to +0.2 %, n = 8); at "
        "best 0.0765, below every baseline.",
        "ETTm1 S 24: nothing to compare: no seed has both c = 0 and another c; at best 0.1000, "
        "below every baseline.",
        "WTH S 24, feature axis: higher MSE than c = 0 with c = -1 (+10.0 %, +10.0 to +10.0 %, "
        "n = 2); at best 0.1500, below every baseline.",
        "demo S 24 (96/48), feature axis: one seed with c = 0 and another c, from which nothing "
        "can be said; ridge (0.2000) is better than every c (at best 0.5000).",
    ]


def test_every_c_is_laid_out_against_0_and_against_minus_c(tmp_path):
    write_arm(tmp_path, 0.0, [0.1, 0.2, 0.3])
    write_arm(tmp_path, -2.0, [0.09, 0.18])
    write_run(tmp_path, 0.09, -2.0, 2, status="failed")
    write_arm(tmp_path, 2.0, [0.11, 0.22, 0.33])
    write_arm(tmp_path, -4.0, [0.1005, 0.201])
    write_arm(tmp_path, -1e-6, [0.1])
    table = contrast_table(contrasts(scored(tmp_path)))
    rows = {c: row for (_, _, c, *row) in table.rows}
    change, failed = "−10.0 %, −10.0 to −10.0 %", "c = -2: seeds 2"
    assert rows["-2 / 0"] == ["2", change, "0.000", "−7.3 %", "0", failed]
    assert rows["2 / 0"][1:3] == ["+10.0 %, +10.0 to +10.0 %", "0.000"] and rows["2 / 0"][-1] == ""
    assert rows["-2 / 2"][1] == "−18.2 %, −18.2 to −18.2 %"
    assert rows["-1e-06 / 0"][-1] == "control"
    assert len(table.rows) == 5 and {row[1] for row in table.rows} == {"feature axis"}
    assert "of 4 intervals about 0.2 would leave out 0" in table.notes[0]
    (line,) = sentences(scored(tmp_path))
    assert "higher MSE than c = 0 with c = -4 (+0.5 %, +0.5 to +0.5 %, n = 2), c = 2" in line
    chosen = choices(scored(tmp_path))
    assert chosen["n"].tolist() == [2] and choice_table(chosen).notes
    for data in ("WTH", "ETTm1", "ETTh1", "ECL"):  # said in the paper's order
        for c in (-1.0, 1.0, 0.0):
            environment = {"torch": "2.0"} if c else {}
            write_arm(tmp_path, c, [0.1, 0.2], data=data, environment=environment)
            write_arm(tmp_path, 2 * c - 0.5, [0.1, 0.2], data=data)
    several, of = contrasts(scored(tmp_path)), choices(scored(tmp_path))
    order = ["ETTh1", "ETTh2", "ETTm1", "WTH", "ECL"]
    assert several["data"].unique().tolist() == of["data"].unique().tolist() == order
    assert len(several.query("first == -1 and second == 1")) == 4
    assert any("2" in row[-2] for row in pair_tables(scored(tmp_path))[0].rows)  # unlike: kept


def test_failed_runs_by_hand():
    # ranked worst: lost, won, won; the pairs of equals, and of two failures, count for neither
    sides = {
        "mse_first": [math.inf, 1, 3, 2, math.inf],
        "mse_second": [1, 2, math.inf, 2, math.inf],
    }
    d = [math.nan, math.log(0.5), math.nan, 0.0, math.nan]
    row = compare(pd.DataFrame({**sides, "d": d, "unlike": ""}), -2.0, 0.0)
    assert row["failed"] == "c = -2: seeds 0, 4; c = 0: seeds 2, 4"
    assert row["direction"] == -1 and row["p"] == stats.binomtest(2, 3).pvalue
    assert row["smallest_p"] == stats.binomtest(3, 3).pvalue
    assert (row["n"], row["sd"]) == (2, pytest.approx(math.log(2) / math.sqrt(2)))
    bounds = stats.ttest_1samp([math.log(0.5), 0], 0).confidence_interval(0.9)
    ends = [100 * math.expm1(x) for x in bounds]
    assert [row["low90"], row["high90"]] == pytest.approx(ends)


@pytest.mark.parametrize(("features", "table"), [("S", "Table 2"), ("M", "Table 5")])
def test_printed_changes_are_those_of_the_tables_and_of_figure_3(features, table):
    cell = {"model": "informer", "data": "ETTh2", "features": features, "pred_len": 24}

    def of(first: float, second: float, **other: object) -> tuple[float, str]:
        found = print_of({**cell, "first": first, "second": second, **other})
        return found["print"], found["print_at"]

    printed = {"S": 0.08626 / 0.09309, "M": 0.33658 / 0.72025}[features]
    assert of(-2, 0) == (pytest.approx(100 * (printed - 1), abs=1e-9), table)
    curve = pd.read_csv(PRINTED / "figure3.csv").query("pred_len == 24").set_index("lam")["mse"]
    for first, second in ((-2, 2), (-4, 0)):  # the paper's λ is -c
        change, place = of(first, second)
        if features == "S":
            expected = 100 * (curve[-first] / curve[-second] - 1)
            assert (change, place) == (pytest.approx(expected), "Figure 3")
        else:
            assert math.isnan(change) and place == ""
    for other in ({"data": "ETTh1"}, {"model": "transformer"}, {"differs": "dropout 0.1"}):
        assert math.isnan(of(-4, 0, **other)[0])


WEEKS = {"ETTh2": 168, "WTH": 168, "ETTm1": 672, "ETTm2": 672, "weather": 1008, "custom": 0}


@pytest.mark.parametrize("data", WEEKS)
def test_blocks_of_windows_are_weeks(tmp_path, data):
    first, second = np.random.default_rng(3).gamma(0.1, size=(2, 2500)).astype(np.float32)
    for c, errors in ((0.0, second), (-2.0, first)):
        write_run(tmp_path, 0.1, c, data=data, windows=errors, environment={"git_commit": None})
    found = over_weeks(pair(by_cell(scored(tmp_path, "all")), -2.0, 0.0), data, load(tmp_path))
    if not WEEKS[data]:
        assert found == []  # the step of a custom file is not known
        return
    low, high = np.expm1(block_bootstrap_ratio(first, second, WEEKS[data]))
    row = {"change": 100 * (first.mean(dtype=float) / second.mean(dtype=float) - 1)}
    words = interval({**row, "low": 100 * low, "high": 100 * high})
    assert len(found) == 1 and found[0].endswith(f"between seeds: {words}")
