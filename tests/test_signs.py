"""Verdicts on synthetic records with known truth, and the words they are given in."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paper.pairs import contrasts, sentences
from paper.runs import load
from paper.signs import BLINDED, HYPOTHESES, Preregistration, hypothesis_table, main, verdicts
from tests.records import damage, write_arm, write_run
from tests.test_tables import scored

LUCK = np.array([0.081, 0.079, 0.083, 0.080, 0.078, 0.082, 0.077, 0.084])  # of a seed, at c = 0
NOISE = 0.002 * np.array([1, -1, 2, -2, 1, -1, 0.5, -0.5])
FLIPS = np.array(np.meshgrid(*[[1, -1]] * 8)).reshape(8, -1).T


def with_seeds(named: Preregistration, n: int) -> Preregistration:
    """Let every hypothesis ask for n seeds."""
    family = [replace(one, seeds={"cpu": [*range(n)], "cuda": []}) for one in named.family]
    return replace(named, family=family)


def verdict_on(
    results: Path, named: Preregistration, place: int = 0, **more: Any
) -> dict[str, Any]:
    """Return what is said of one hypothesis, H1 unless another place is given."""
    row = verdicts(load(results), named, **more).to_dict("records")[place]
    return {str(name): value for name, value in row.items()}


def write_pairs(results: Path, change: np.ndarray | float, n: int = 8, **more: Any) -> None:
    """Write c = 0, and c = -2 with this relative change."""
    write_arm(results, 0.0, LUCK[:n], **more)
    write_arm(results, -2.0, LUCK[:n] * np.broadcast_to(1 + np.asarray(change), n), **more)


@pytest.mark.parametrize(
    ("change", "verdict", "numbers"),
    [
        (-0.05 + NOISE, "better by at least 2 %", "−5.0 %, −5.2 to −4.8 %"),
        (-0.073 + 5 * NOISE, "better by at least 2 %", "−7.3 %, −8.4 to −6.2 %"),  # as printed
        (0.05 + NOISE, "worse by at least 2 %", "+5.0 %, +4.8 to +5.2 %"),
        (-0.03 + 5 * NOISE, "better, by how much is open", "−3.0 %, −4.1 to −1.9 %"),
        (0.03 + 5 * NOISE, "worse, by how much is open", "+3.0 %, +1.9 to +4.1 %"),
        (0.001 + NOISE, "equal within 2 %", "+0.1 %, −0.1 to +0.3 %"),
        (-0.005 + NOISE, "equal within 2 %", "−0.5 %, −0.7 to −0.3 %"),  # a difference, but small
        (-0.01 + 9 * NOISE, "undecided", "−1.0 %, −3.0 to +1.0 %"),
    ],
)
def test_four_verdicts_and_their_mirror(tmp_path, named, change, verdict, numbers):
    write_pairs(tmp_path, change)
    row = verdict_on(tmp_path, named)
    assert row["verdict"] == verdict
    # everything again, from scipy alone
    d = np.log(1 + change)
    bounds = stats.ttest_1samp(d, 0).confidence_interval()
    mean, low, high = (100 * math.expm1(x) for x in (d.mean(), *bounds))
    assert [row["change"], row["low"], row["high"]] == pytest.approx([mean, low, high])
    sums = FLIPS @ d
    p = min(1, 2 * min(np.mean(sums >= d.sum() - 1e-15), np.mean(sums <= d.sum() + 1e-15)))
    assert row["p"] == pytest.approx(p)
    assert row["p_holm"] == pytest.approx(min(4 * p, 1))  # three others without runs stay in
    words = f"H1, ETTh2 S 24, feature axis, c = -2 against 0: {verdict}; {numbers}"
    words += f" (95 % interval), n = 8, p = {p:.4f}, with Holm's correction {min(4 * p, 1):.4f}"
    if verdict == "equal within 2 %":
        words += f"; 90 % interval {numbers.split(', ')[1]}"  # to this figure as wide
    if verdict == "equal within 2 %" and p < 0.01:
        words += "; a difference is shown, and is smaller than that"
    # two unpaired means of 5 seeds: their own scatter, and that of the mean difference
    scatter = np.var(np.log(LUCK), ddof=1) + np.var(np.log(LUCK) + d, ddof=1)
    half = stats.t.ppf(0.975, 7) * math.sqrt(scatter / 5 + np.var(d, ddof=1) / 8)
    low, high = (100 * math.expm1(d.mean() + x) for x in (-half, half))
    where = "inside" if low <= 100 * (0.08626 / 0.09309 - 1) <= high else "outside"
    range_ = f"{low:+.1f} to {high:+.1f} %".replace("-", "−")
    words += f"; the printed −7.3 % (Table 2) lies {where} {range_}, where a ratio of two unpaired"
    assert row["sentence"] == f"{words} means of 5 runs like ours would lie."
    (line,) = hypothesis_table(pd.DataFrame([row]), named).rows
    cell = ["H1", "ETTh2 S 24, feature axis", "-2 / 0", "8"]
    assert line == [*cell, numbers, f"{p:.4f}", f"{min(4 * p, 1):.4f}", verdict]


def test_runs_at_other_coefficients_and_seeds_change_no_verdict(tmp_path, named):
    write_pairs(tmp_path, -0.05 + NOISE)
    before = verdict_on(tmp_path, named)
    for c in (-4.0, -8.0, -1.0):
        write_arm(tmp_path, c, LUCK[:3] * 0.5)
    for c in (-32.0, -2.0):
        write_arm(tmp_path, c, LUCK * 2, lip_axis="time")
    write_arm(tmp_path, -2.0, LUCK * 2, lip_norm="range")
    for apart in ({"dropout": 0.0}, {"amp": "bf16"}, {"model": "informerstack"}, {"data": "ETTh1"}):
        write_arm(tmp_path, -2.0, LUCK * 2, **apart)
    for seed in (8, 100):
        write_run(tmp_path, 9.0, 0.0, seed)
        write_run(tmp_path, 1.0, -2.0, seed)
    for seed in range(8):  # c = 0 is the same whatever the norm, but its own comes first
        write_run(tmp_path, 0.5, 0.0, seed, lip_norm="range", status="unfinished")
    after = verdict_on(tmp_path, named)
    same = ("verdict", "n", "p", "p_holm", "change", "low", "high", "first", "second", "sentence")
    assert {k: before[k] for k in same} == {k: after[k] for k in same}
    assert "seeds not named, left out: 8, 100" in after["notes"]
    time = contrasts(scored(tmp_path, "all")).query("axis == 'time' and second == 0")
    assert sorted(time["first"]) == [-32, -2]  # two arms


def test_no_verdict_before_the_named_seeds_are_complete(tmp_path, named):
    write_pairs(tmp_path, -0.05, n=7)
    write_run(tmp_path, 0.1, 0.0, 7)  # one arm's alone
    row = verdict_on(tmp_path, named)
    assert row["verdict"] == "in progress: 7 of 8 seeds"
    assert row["sentence"].endswith("in progress: 7 of 8 seeds.")
    assert row["n"] == 7 and all(math.isnan(row[name]) for name in BLINDED)
    assert verdict_on(tmp_path, named, place=1)["verdict"] == "no runs"


def test_an_unfinished_hypothesis_counts_as_p_1_for_the_others(tmp_path, named):
    mixed = np.where(np.arange(8) < 2, 0.01, -0.02)
    write_pairs(tmp_path, mixed)
    write_pairs(tmp_path, -0.05, n=7, features="M")
    row, open_ = verdict_on(tmp_path, named), verdict_on(tmp_path, named, place=1)
    assert open_["verdict"] == "in progress: 7 of 8 seeds"
    assert row["p"] > 2 / 2**7  # the open one's would come first in Holm's order
    assert row["p_holm"] == pytest.approx(4 * row["p"])
    assert row["threshold"] == pytest.approx(0.05 / 4)


def test_extension_when_the_differences_scatter(tmp_path, named):
    wide = 0.06 * np.array([1, -1] * 4)
    write_pairs(tmp_path, wide)
    words = f"to be extended, sd of d {np.log1p(wide).std(ddof=1):.3f} above 0.025"
    assert verdict_on(tmp_path, named)["verdict"] == f"{words}: 0 of seeds 8 to 15"
    for seed, change in enumerate(wide, start=8):
        write_run(tmp_path, 0.1, 0.0, seed)
        write_run(tmp_path, 0.1 * (1 + change), -2.0, seed)
    row = verdict_on(tmp_path, named)
    assert row["n"] == 16 and row["verdict"] == "undecided"
    # no second extension; what it would take is said
    sd = np.log1p(wide.tolist() * 2).std(ddof=1)
    needed = math.ceil((1.96 * sd / 0.02) ** 2)
    assert f"; about {needed} seeds would give an interval of ±2 %" in row["sentence"]
    for seed, change in enumerate([*wide, *wide]):
        write_run(tmp_path / "shown", 0.1, 0.0, seed)
        write_run(tmp_path / "shown", 0.07 * (1 + change), -2.0, seed)
    row = verdict_on(tmp_path / "shown", named)  # what is decided asks for no more
    assert row["verdict"] == "better by at least 2 %" and "seeds would" not in row["sentence"]


def test_device_fixes_the_seeds_and_another_device_is_a_replication(tmp_path, named):
    write_pairs(tmp_path, -0.05 + NOISE)
    gpu = {"device": "NVIDIA H100", "started": "2099-06-01T00:00:00+00:00"}
    for seed in range(100, 104):
        write_run(tmp_path, 0.1, 0.0, seed, environment=gpu)
    assert not any("cuda" in note for note in verdict_on(tmp_path, named)["notes"])  # one arm
    for seed in range(100, 104):
        write_run(tmp_path, 0.1, -2.0, seed, environment=gpu)
    row = verdict_on(tmp_path, named)
    assert (row["n"], row["verdict"]) == (8, "better by at least 2 %")
    replication = "replication on cuda: +0.0 %, +0.0 to +0.0 %, n = 4"
    assert replication in row["notes"] and len(row["notes"]) > 1
    write_pairs(tmp_path / "gpu", 0.0, environment=gpu)
    assert verdict_on(tmp_path / "gpu", named)["verdict"] == "in progress: 8 of 12 seeds"


def test_several_settings_in_one_cell_are_no_pairs_and_newer_results_stand_alone(tmp_path, named):
    write_pairs(tmp_path / "two", 0.0, n=4)
    write_pairs(tmp_path / "two", 0.0, n=4, sha256="b" * 64)  # the same cell of another file
    assert verdict_on(tmp_path / "two", named)["verdict"].startswith("undecided: several settings")
    write_pairs(tmp_path / "new", -0.05 + NOISE)
    damage(write_run(tmp_path / "new", 0.1, seed=9), "newer version")
    row = verdict_on(tmp_path / "new", named)
    assert row["verdict"] == "no runs"
    assert row["notes"] == ["16 runs of earlier results versions left out"]


def test_too_few_pairs_for_holms_threshold_are_undecided(tmp_path, named):
    # six equal signs: p = 0.031, times four hypotheses above 0.05, whatever the runs had said
    six = with_seeds(named, 6)
    write_pairs(tmp_path, -0.05, n=6)
    row = verdict_on(tmp_path, six)
    assert row["p"] == pytest.approx(2 / 64) and row["verdict"] == "undecided"
    few = "so few pairs could not reach p ≤ 0.0125; about 8 seeds would give an interval of ±2 %;"
    assert few in row["sentence"]
    alone = replace(six, family=six.family[:1])
    assert verdict_on(tmp_path, alone)["verdict"] == "better by at least 2 %"


@pytest.mark.parametrize("n", [1, 2])
def test_an_interval_takes_two_pairs(tmp_path, named, n):
    write_pairs(tmp_path, -0.05 + NOISE[:n], n=n)
    row = verdict_on(tmp_path, with_seeds(named, n))
    assert row["sentence"].startswith("H1, ETTh2 S 24, feature axis, c = -2 against 0: undecided;")
    for words in ("(95 % interval)", "seeds would give", "the printed −7.3 %"):
        assert (words in row["sentence"]) == (n == 2)
    for seed in range(n, 8):
        write_run(tmp_path, 0.1, 0.0, seed)
        write_run(tmp_path, 0.1, -2.0, seed, status="failed")
    notes = verdict_on(tmp_path, named)["notes"]
    assert any("on complete pairs: −5.0 %" in note for note in notes) == (n == 2)


def test_failed_runs_are_listed_ranked_worst_and_not_dropped(tmp_path, named):
    # c = -2 fails on the four seeds that would have been hardest; on the others it is lower
    write_arm(tmp_path, 0.0, LUCK)
    for seed, luck in enumerate(LUCK):
        write_run(tmp_path, luck * 0.9, -2.0, seed, status="failed" if seed < 4 else "finished")
    row = verdict_on(tmp_path, named)
    assert row["p"] == 1 and row["verdict"] == "undecided"  # 4 against 4
    assert row["failed"] == "c = -2: seeds 0, 1, 2, 3" and row["n"] == 4
    words = f"failed, ranked worst in a sign test: {row['failed']}; on complete pairs: −10.0 %"
    (note,) = [note for note in row["notes"] if note.startswith(words)]
    assert "p = 0.1250" in note
    write_arm(part := tmp_path / "part", 0.0, LUCK[:4])
    for seed in range(4):
        write_run(part, 0.07, -2.0, seed, status="finished" if seed else "failed")
    row = verdict_on(part, named)  # no number before all seeds are there
    assert row["notes"] == ["failed, ranked worst in a sign test: c = -2: seeds 0"]


def test_an_arm_that_always_fails_is_worse(tmp_path, named):
    write_arm(tmp_path, 0.0, LUCK)
    for seed in range(8):  # a score that is not finite counts like a failure
        status, metrics = ("failed", {}) if seed % 2 else ("finished", {"all": {"mse": None}})
        write_run(tmp_path, 0.1, -2.0, seed, status=status, metrics=metrics)
    row = verdict_on(tmp_path, named)
    assert row["p"] == pytest.approx(2 / 2**8) and row["n"] == 0
    assert row["verdict"] == "worse, by how much is open"
    assert "interval" not in row["sentence"]  # there is none
    (line,) = sentences(scored(tmp_path, "all"))
    assert (
        "failed: c = -2: seeds 0, 1, 2, 3, 4, 5, 6, 7" in line and "nothing to compare" not in line
    )


def test_unlike_pairs_are_marked_counted_and_left_out_on_request(tmp_path, named):
    write_arm(tmp_path, 0.0, LUCK)
    other = [{"processor": "old"}, {"torch": "2.0"}, {"git_commit": "f" * 40}, *[None] * 5]
    for seed, environment in enumerate(other):
        write_run(tmp_path, 0.1, -2.0, seed, environment=environment)
    row = verdict_on(tmp_path, named)
    assert "3 of 8 pairs differ in git_commit, processor, torch: kept" in row["notes"]
    assert row["n"] == 8
    row = verdict_on(tmp_path, named, alike=True)
    assert "3 of 8 pairs differ in git_commit, processor, torch: left out" in row["notes"]
    assert row["n"] == 5 and row["seeds"] == "3, 4, 5, 6, 7"
    assert contrasts(scored(tmp_path, "all"))["unlike"].tolist() == [3]
    assert contrasts(scored(tmp_path, "all"), alike=True)["n"].tolist() == [5]


def test_pilot_seeds_choose_and_the_others_test(tmp_path, named):
    piloted = {"first": math.nan, "choose_from": (-2.0, -4.0), "pilot_seeds": "0-1,100"}
    family = replace(named, family=[replace(named.family[0], **piloted)])
    write_arm(tmp_path, 0.0, LUCK)
    for c in (-2.0, -4.0):
        for seed, luck in enumerate(LUCK):
            write_run(tmp_path, luck * (1 + c / 100), c, seed, metrics={"val_mse": c + 4 + seed})
    assert "pilot seeds are not complete" in verdict_on(tmp_path, family)["verdict"]
    write_run(tmp_path, 1.0, -2.0, 100, metrics={"val_mse": 9.0})
    write_run(tmp_path, 1.0, -4.0, 100, metrics={"val_mse": 1.0})
    row = verdict_on(tmp_path, family)
    assert row["first"] == -4 and row["seeds"] == "2, 3, 4, 5, 6, 7"
    assert row["change"] == pytest.approx(-4)


def test_weeks_are_resampled_where_errors_by_window_are_there(tmp_path, named):
    errors = np.random.default_rng(1).gamma(3, size=1700)
    write_arm(tmp_path, 0.0, LUCK, windows=errors)
    write_arm(tmp_path, -2.0, LUCK, windows=errors * 0.9)
    (note,) = [note for note in verdict_on(tmp_path, named)["notes"] if "weeks" in note]
    assert "without the variation between seeds: −10.0 %, −10.0 to −10.0 %" in note


def test_command(tmp_path, capsys):
    write_pairs(tmp_path, -0.05 + NOISE)
    assert main(["--results", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "better by at least 2 %" in text and text.count("no runs") == 6
    assert max(map(len, text.splitlines())) <= 110
    assert text.rstrip().splitlines()[-2].startswith("ETTh2 S 24, feature axis: lower MSE than c =")
    assert main(["--results", str(tmp_path), "--features", "M"]) == 0
    shown = capsys.readouterr().out  # hypotheses on other cells are not called "no runs"
    assert "H2" in shown and "H1" not in shown and "No run of M." in shown
    assert main(["--results", str(tmp_path), "--data", "WTH", "--alike"]) == 0
    assert "named beforehand" not in capsys.readouterr().out  # no hypothesis is on WTH
    (own := tmp_path / "own.toml").write_bytes(HYPOTHESES.read_bytes().replace(b'"H1"', b'"A"'))
    assert main(["--results", str(tmp_path), "--hypotheses", str(own)]) == 0
    assert "A, ETTh2 S 24, feature axis, c = -2 against 0: better" in capsys.readouterr().out
    assert main(["--results", str(tmp_path), "--format", "csv"]) == 0
    assert ",-2.0,0.0," in capsys.readouterr().out
