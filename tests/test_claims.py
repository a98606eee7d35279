"""The paper's claims beside runs with known truth."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from paper.claims import claim_table
from paper.runs import load, select_metrics
from paper.signs import Preregistration, verdicts
from tests.records import write_arm, write_run
from tests.test_signs import with_seeds

LUCK = 0.08 + 0.002 * np.arange(8)
SPREAD = 0.002 * np.array([1, -1, 2, -2, 1, -1, 0.5, -0.5])


def claims(results: Path, named: Preregistration) -> dict[str, list[str]]:
    """Return the rows: the claim, then place, test, numbers, verdict and command."""
    runs = load(results)
    table = claim_table(runs, verdicts(runs, named), select_metrics(runs.frame, "all"))
    return {claim: row for claim, *row in table.rows}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([-0.07] * 5, "supported"),  # the same help from every λ is what the claim says
        ([-0.02, -0.07, -0.07, -0.07, -0.07], "not supported"),
        ([-0.07, -0.02, -0.07, -0.07, -0.07], "not supported"),
        ([-0.07, -0.07, -0.055, -0.07, -0.07], "undecided"),
    ],
)
def test_insensitive_means_alike_at_every_coefficient(tmp_path, named, changes, said):
    write_arm(tmp_path, 0.0, LUCK)
    for pred_len in (24, 48, 168, 336, 720):
        for c, change in zip((-1.0, -2.0, -3.0, -4.0, -5.0), changes, strict=True):
            shuffled = np.roll(SPREAD, int(c))
            write_arm(tmp_path, c, LUCK * (1 + change + shuffled), pred_len=pred_len)
    write_arm(tmp_path, -1e-6, 2 * LUCK)  # the negative control is no λ
    _, _, numbers, verdict, _ = claims(tmp_path, named)["Not sensitive to λ"]
    assert numbers.startswith("20 intervals: ")
    assert verdict.partition(";")[0] == said


def test_few_coefficients_leave_insensitivity_open(tmp_path, named):
    for c in (-1.0, -2.0):
        write_arm(tmp_path, c, LUCK)
    assert claims(tmp_path, named)["Not sensitive to λ"][3].startswith("undecided; it would take")


def test_what_an_open_claim_would_take(tmp_path, named):
    wide = 0.06 * np.array([1, -1] * 4)
    write_arm(tmp_path, 0.0, LUCK)
    write_arm(tmp_path, -2.0, LUCK * (1 + wide))
    write_run(tmp_path, 0.7, features="M")
    write_run(tmp_path, 0.5, -2.0, features="M")
    _, _, numbers, said, _ = claims(tmp_path, named)["Lip lowers the error"]
    assert numbers == "no interval yet"  # no interval of a cell that is open
    assert 'STAGES="H2 H3" bash scripts/study.sh` and ' in said
    assert 'and `STAGES="H1" SEEDS="8 9 10 11 12 13 14 15" bash scripts/study.sh`' in said
    for seed, change in enumerate(wide, start=8):
        write_run(tmp_path, 0.08, 0.0, seed)
        write_run(tmp_path, 0.08 * (1 + change), -2.0, seed)
    _, _, numbers, said, _ = claims(tmp_path, named)["Lip lowers the error"]
    assert numbers == "1 interval: 0 below 0, 0 above, 1 covering 0"
    assert said.endswith('it would take `STAGES="H2 H3" bash scripts/study.sh`')
    needed = np.ceil((1.96 * np.std(np.log1p([*wide, *wide]), ddof=1) / 0.02) ** 2)
    assert f"H1: undecided (about {needed:.0f} seeds would give an interval of ±2 %); H2" in said


def test_growth_of_l_f_stands_beside_the_printed_size(tmp_path, named):
    for c in (0.0, -2.0):
        for seed in range(4):
            write_run(tmp_path, 0.08, c, seed, arrays=True)
    rows = claims(tmp_path, named)
    # 0.15 - 0.02 c (1 - e^-t) / 2, the mean over epochs 6 and 4
    last, fourth = (0.02 * (1 - (np.exp(1 - end) - np.exp(-end))) for end in (6, 4))
    larger, growth = (100 * (np.log(0.15 + last) - np.log(0.15 + x)) for x in (0, fourth))
    for claim, change, printed in (
        ("L_f becomes larger", larger, "+124.5 %"),
        ("L_f keeps growing", growth, "+10.0 %"),
    ):
        _, _, numbers, said, _ = rows[claim]
        assert 100 * np.log1p(float(numbers.split(" ")[0]) / 100) == pytest.approx(change, abs=0.4)
        assert numbers.endswith(f"n = 4; printed {printed}")
        assert said == "supported, in another size than printed"


def test_l_f_that_shrinks_or_stays_is_not_said_to_grow(tmp_path, named):
    for c, seed in itertools.product((0.0, -2.0), range(4)):
        folder = write_run(tmp_path, 0.08, c, seed)
        end = 0.15 * (1 - 0.001 * c * (-1) ** seed)  # with c = -2 alternately above and below
        curve = (0.2, 0.2, 0.16 if c else 0.15, end)
        epochs = [{"epoch": i, "train_l_f": value} for i, value in enumerate(curve, start=1)]
        (folder / "history.json").write_text(json.dumps({"schema": 1, "epochs": epochs}))
    rows = claims(tmp_path, named)
    assert rows["L_f becomes larger"][3] == "undecided"
    assert rows["L_f keeps growing"][3] == "not supported"


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(1.02, "supported"), (1.045, "supported"), (1.07, "not supported")],
)
def test_cost_is_the_gradients(tmp_path, named, ratio, verdict):
    for seed in range(4):
        for c, seconds in ((0.0, 2.0), (-2.0, 2 * ratio + seed / 500)):
            write_run(tmp_path, 0.08, c, seed, metrics={"step_seconds": seconds})
    _, _, numbers, said, _ = claims(tmp_path, named)["Very little extra computational cost"]
    assert float(numbers.split(" ")[0]) == pytest.approx(100 * (ratio + 0.0015 - 1), abs=0.06)
    assert numbers.endswith("n = 4")
    assert said == verdict


def test_intervals_are_counted_by_where_they_lie_and_decided_claims_ask_for_nothing(
    tmp_path, named
):
    write_arm(tmp_path, 0.0, LUCK)
    for c, change in ((-2.0, -0.005), (2.0, 0.005), (-1.0, -0.005), (-3.0, 0.005), (-4.0, 0.0)):
        write_arm(tmp_path, c, LUCK * (1 + change + SPREAD / 4))
    for c in (0.0, -2.0):  # settings of their own, not the paper's
        write_arm(tmp_path, c, LUCK * 2, amp="bf16")
        write_arm(tmp_path, c, LUCK * 2, dropout=0.0)
    rows = claims(tmp_path, with_seeds(named, 8))
    _, _, numbers, said, _ = rows["MSE rises with λ < 0 and falls with λ > 0"]
    found = "c < 0: 4 intervals: 2 below 0, 1 above, 1 covering 0; c > 0: 1 interval: 0 below 0, 1"
    assert numbers == f"{found} above, 0 covering 0"
    assert said == "H4: equal within 2 %"  # though not all of Figure 3 is there
    assert rows["The column without Lip is a control run"][3] == "not supported"


def test_all_of_figure_3_leaves_its_claim_to_the_hypothesis(tmp_path, named):
    horizons = (24, 48, 168, 336, 720)
    for pred_len, c in itertools.product(horizons, range(-5, 6)):
        luck = LUCK if pred_len == 24 and c in (0, -2) else LUCK[:2]  # H1 is complete
        if (pred_len, c) != (720, 5):
            write_arm(tmp_path, float(c), luck * (1 + 0.01 * c), pred_len=pred_len)
    claim = "MSE rises with λ < 0 and falls with λ > 0"
    assert claims(tmp_path, named)[claim][3].endswith('`STAGES="H4 figure3" bash scripts/study.sh`')
    write_arm(tmp_path, 5.0, LUCK[:2] * 1.05, pred_len=720)
    _, _, numbers, said, _ = claims(tmp_path, named)[claim]
    assert numbers.startswith("c < 0: 25 intervals: ")
    assert said.endswith('; it would take `STAGES="H4" bash scripts/study.sh`')
