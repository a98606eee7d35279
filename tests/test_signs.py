"""Verdicts on synthetic records with known truth, and since when a hypothesis is named."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paper.runs import HYPOTHESES, load
from paper.signs import (
    BLINDED,
    Preregistration,
    contrast_table,
    contrasts,
    hypothesis_table,
    main,
    read_hypotheses,
    verdicts,
)
from tests.records import damage, write_arm, write_run
from tests.runs import ROOT
from tests.test_tables import LUCK, NOISE, scored, write_pairs

FLIPS = np.array(np.meshgrid(*[[1, -1]] * 8)).reshape(8, -1).T


def verdict_on(results: Path, named: Preregistration, place: int = 0) -> dict[str, Any]:
    """Return what is said of one hypothesis, H1 unless another place is given."""
    row = verdicts(load(results), named).to_dict("records")[place]
    return {str(name): value for name, value in row.items()}


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
    (line,) = hypothesis_table(pd.DataFrame([row]), named).text.to_numpy().tolist()
    cell = ["H1", "ETTh2 S 24, feature axis", "MSE − 2 Lip / MSE", 8, numbers, "-"]
    assert line == [*cell, f"{p:.4f}", f"{min(4 * p, 1):.4f}", verdict]


COMMITTED = {  # the verdicts on the committed study, before these modules were rebuilt
    "H1": ("equal within 2 %", 8, 0.19746750652089987, -0.5310158504550807, 0.9312860743259479,
           -0.3866291972488996, 0.7849891416689408, 0.008728292888224179, 0.5390625, 1.0,
           0.0078125, 0.016666666666666666, -7.3369857127510985),
    "H2": ("undecided", 16, 2.135814140703679, -1.742036405042239, 6.166708005331421,
           -1.0645088211787144, 5.439659781235735, 0.07264002473268387, 0.291168212890625, 1.0,
           3.0517578125e-05, 0.0125, -53.2690038181187),
}  # fmt: skip


def test_verdicts_on_the_committed_study_stay(named):
    tested = verdicts(load(ROOT / "results" / "study"), named).set_index("name")
    names = ["verdict", "n", "change", "low", "high", "low90", "high90", "sd", "p", "p_holm",
             "smallest_p", "threshold", "published_change"]  # fmt: skip
    for name, (verdict, *numbers) in COMMITTED.items():
        row = tested.loc[name, names]
        assert row["verdict"] == verdict
        assert row[names[1:]].tolist() == pytest.approx(numbers, rel=1e-12)


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
    same = ("verdict", "n", "p", "p_holm", "change", "low", "high", "first", "second")
    assert {k: before[k] for k in same} == {k: after[k] for k in same}
    assert "seeds not named, left out: 8, 100" in after["notes"]
    time = contrasts(scored(tmp_path)).query("axis == 'time' and second == 0")
    assert sorted(time["first"]) == [-32, -2]  # two arms


def test_no_verdict_before_the_named_seeds_are_complete(tmp_path, named):
    write_pairs(tmp_path, -0.05, n=7)
    write_run(tmp_path, 0.1, 0.0, 7)  # one arm's alone
    row = verdict_on(tmp_path, named)
    assert row["verdict"] == "in progress: 7 of 8 seeds"
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
    assert row["n"] == 16 and row["verdict"] == "undecided"  # no second extension


def test_the_device_of_the_first_run_fixes_the_seeds(tmp_path, named):
    gpu = {"device": "NVIDIA H100", "started": "2099-06-01T00:00:00+00:00"}
    write_pairs(tmp_path / "gpu", 0.0, environment=gpu)
    assert verdict_on(tmp_path / "gpu", named)["verdict"] == "in progress: 8 of 12 seeds"
    write_pairs(tmp_path, -0.05 + NOISE)
    for c, mse in ((0.0, 0.1), (-2.0, 0.2)):
        write_run(tmp_path, mse, c, 100, environment=gpu)  # in no pair
    row = verdict_on(tmp_path, named)
    assert (row["n"], row["verdict"]) == (8, "better by at least 2 %")


def test_several_settings_in_one_cell_are_no_pairs_and_newer_results_stand_alone(tmp_path, named):
    write_pairs(tmp_path / "two", 0.0, n=4)
    write_pairs(tmp_path / "two", 0.0, n=4, sha256="b" * 64)  # the same cell of another file
    assert verdict_on(tmp_path / "two", named)["verdict"].startswith("undecided: several settings")
    write_pairs(tmp_path / "new", -0.05 + NOISE)
    damage(write_run(tmp_path / "new", 0.1, seed=9), "newer version")
    assert verdict_on(tmp_path / "new", named)["verdict"] == "no runs"


def test_failed_runs_are_listed_ranked_worst_and_not_dropped(tmp_path, named):
    # c = -2 fails on the four seeds that would have been hardest; on the others it is lower
    write_arm(tmp_path, 0.0, LUCK)
    for seed, luck in enumerate(LUCK):
        write_run(tmp_path, luck * 0.9, -2.0, seed, status="failed" if seed < 4 else "finished")
    row = verdict_on(tmp_path, named)
    assert row["p"] == 1 and row["verdict"] == "undecided"  # 4 against 4
    assert row["failed"] == "MSE − 2 Lip: seeds 0, 1, 2, 3" and row["n"] == 4
    assert row["notes"] == [f"failed, ranked worst in a sign test: {row['failed']}"]


def test_an_arm_that_always_fails_is_worse(tmp_path, named):
    write_arm(tmp_path, 0.0, LUCK)
    for seed in range(8):  # a score that is not finite counts like a failure
        status, metrics = ("failed", {}) if seed % 2 else ("finished", {"all": {"mse": None}})
        write_run(tmp_path, 0.1, -2.0, seed, status=status, metrics=metrics)
    row = verdict_on(tmp_path, named)
    assert row["p"] == pytest.approx(2 / 2**8) and row["n"] == 0
    assert row["verdict"] == "worse, by how much is open"


@pytest.mark.parametrize(
    "other",
    [{"processor": "old"}, {"torch": "2.0"}, {"git_commit": "f" * 40}, {"threads": 2}],
)
def test_pairs_of_unlike_environments_are_marked(tmp_path, named, other):
    write_arm(tmp_path, 0.0, LUCK)
    for seed in range(8):
        write_run(tmp_path, 0.1, -2.0, seed, environment=other if seed < 3 else None)
    row = verdict_on(tmp_path, named)
    assert row["notes"] == ["pairs made in unlike environments: 0, 1, 2"] and row["n"] == 8
    assert contrasts(scored(tmp_path))["mismatched"].tolist() == [3]


def test_dirty_checkouts_and_sittings_on_two_machines_are_no_clean_pairs(tmp_path):
    for seed, both in enumerate(({"git_dirty": True}, {"threads": "1 / 2"}, {})):
        for c in (0.0, -2.0):
            write_run(tmp_path, 0.1, c, seed, environment=both)
    assert contrasts(scored(tmp_path))["mismatched"].tolist() == [2]


def test_every_loss_is_laid_out_against_mse_and_its_mirror(tmp_path):
    write_arm(tmp_path, 0.0, [0.1, 0.2, 0.3])
    write_arm(tmp_path, -2.0, [0.09, 0.18, 0.27])
    write_run(tmp_path, 0.09, -2.0, 3, status="failed")
    write_run(tmp_path, 0.09, 0.0, 3)
    write_arm(tmp_path, 2.0, [0.11, 0.22, 0.33])
    table = contrast_table(contrasts(scored(tmp_path)))
    rows = {compared: row for _, compared, *row in table.text.to_numpy().tolist()}
    change, failed = "−10.0 %, −10.0 to −10.0 %", "MSE − 2 Lip: seeds 3"
    assert rows["MSE − 2 Lip / MSE"] == [3, change, "0.000", "−7.3 %", 0, failed]
    assert rows["MSE + 2 Lip / MSE"][1] == "+10.0 %, +10.0 to +10.0 %"
    assert rows["MSE − 2 Lip / MSE + 2 Lip"][1] == "−18.2 %, −18.2 to −18.2 %"
    assert len(rows) == 3 and "of 3 intervals about 0.2 would leave out 0" in table.notes[0]


@pytest.mark.parametrize(("features", "shown"), [("S", ["H1", "H4"]), ("M", ["H2"])])
def test_the_command_shows_both_tables_of_the_runs_asked_for(features, shown, capsys):
    words = ["--features", features, "--format", "markdown"]
    assert main(["--results", str(ROOT / "results" / "study"), *words]) == 0
    text = capsys.readouterr().out
    assert "### Every loss against MSE, and both signs" in text
    assert re.findall(r"^\| (H\d) ", text, re.MULTILINE) == shown


def test_the_checksum_is_of_what_is_named_whatever_the_comments_say(tmp_path, named):
    file, text = tmp_path / "named.toml", HYPOTHESES.read_text(encoding="utf-8")
    file.write_text(text + "# a comment, which changes no meaning\n", encoding="utf-8")
    assert read_hypotheses(file) == named
    other = text.replace("first = -2.0\nsecond = 2.0", "first = -4.0\nsecond = 2.0")
    file.write_text(other, encoding="utf-8")
    assert read_hypotheses(file).sha256 != named.sha256
