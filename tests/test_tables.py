"""Tables from runs: what enters a cell, how lambda is chosen, and values worked out by hand."""

import io
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from exp.cells import Cell, choose, find_cells, usable_runs
from exp.layout import result_frame, result_tables
from exp.paper_tables import best_of_pair, counts, paper_shape, summarise
from exp.render import render
from exp.table import main
from tests.study import cell_run, full_study, run, write_runs

ROOT = Path(__file__).resolve().parent.parent


def cells_of(rows: list[dict[str, Any]], score: str = "truncated") -> list[Cell]:
    return find_cells(usable_runs(pd.DataFrame(rows), score)[0])


def one_row(frame: pd.DataFrame, **values: Any) -> dict[str, Any]:
    (row,) = [row for row in frame.to_dict("records") if values.items() <= row.items()]
    return {str(name): value for name, value in row.items()}


@pytest.fixture(scope="module")
def study() -> pd.DataFrame:
    return full_study()


@pytest.fixture(scope="module")
def summary(study: pd.DataFrame) -> pd.DataFrame:
    return summarise(find_cells(usable_runs(study, "truncated")[0]))


def test_full_study_means_and_intervals(summary):
    assert len(summary) == 50 * 3
    assert set(summary["n"]) == {5}
    zero = one_row(summary, data="ETTh2", features="S", pred_len=24, sign="zero")
    # printed 0.09309 and hit exactly; half width 2.776445 * 0.000158114 * sqrt(1/5 + 1/5)
    assert zero["mse"] == pytest.approx(0.09309)
    assert zero["mse_sd"] == pytest.approx(0.000158114, rel=1e-5)
    assert zero["mse_high"] - zero["mse"] == pytest.approx(0.000277645, rel=1e-5)
    assert zero["mse_inside"] and zero["mae_inside"]
    minus = one_row(summary, data="ETTh2", features="S", pred_len=24, sign="minus")
    assert minus["mse"] == pytest.approx(0.09209)
    assert minus["mse_printed"] == 0.08626
    assert minus["mse_inside"] is False
    assert minus["lam"] == "2"
    plus = one_row(summary, data="ETTh2", features="S", pred_len=24, sign="plus")
    assert math.isnan(plus["mse_printed"]) and plus["mse_inside"] is None
    assert (plus["ridge_mse"], plus["day_mae"]) == (4, 8)


def test_three_repetitions_on_wth(summary):
    zero = one_row(summary, data="WTH", features="M", pred_len=24, sign="zero")
    # 2.776445 * 0.000158114 * sqrt(1/5 + 1/3) = 0.000320597
    assert zero["mse_high"] - zero["mse"] == pytest.approx(0.000320597, rel=1e-5)


def test_paper_shape_and_its_counts(summary):
    shape = paper_shape("M", summary[summary["features"] == "M"])
    assert shape.shape == (50, 12)
    assert shape.loc[("ETTh2", 24, "ours"), ("Informer", "minus", "mse")] == pytest.approx(0.72125)
    assert shape.loc[("ETTh2", 24, "printed"), ("Informer", "minus", "mse")] == 0.33658
    assert math.isnan(shape.loc[("ETTh2", 24, "ours"), ("Autoformer", "zero", "mse")])
    won = counts(shape)
    # the cells' own counts, where the paper prints 12/38 and 13/38
    assert won.loc["printed", "Informer"].to_dict() == {"zero": 13, "minus": 37}
    assert won.loc["printed", "Autoformer"].to_dict() == {"zero": 14, "minus": 36}
    # ours: c = 0 lower everywhere, both metrics of the one equal cell counted for both
    assert won.loc["ours", "Informer"].to_dict() == {"zero": 50, "minus": 2}
    best = best_of_pair(shape)
    assert best.loc[("ETTh1", 24, "ours"), ("Informer", "zero", "mse")]
    assert best.loc[("ETTh1", 24, "ours"), ("Informer", "minus", "mse")]
    assert not best.loc[("ETTh2", 24, "ours"), ("Autoformer", "zero", "mse")]


def test_table_2_counts(summary):
    won = counts(paper_shape("S", summary[summary["features"] == "S"]))
    assert won.loc["ours", "Informer"].to_dict() == {"zero": 2, "minus": 50}
    assert won.loc["printed", "Transformer"].sum() == 51  # one tie among 50


def test_equal_at_the_printed_digits_is_a_tie():
    rows = [cell_run(mse, lip_coef=c) for c, mse in ((0.0, 0.1), (-2.0, 0.100004))]
    rows += [cell_run(mse, pred_len=48, lip_coef=c) for c, mse in ((0.0, 0.1), (-2.0, 0.100006))]
    won = counts(paper_shape("S", summarise(cells_of(rows))))
    # equal are 0.1 and 0.100004; not 0.1 and 0.100006, nor the MAE, 0.2 and 0.200008 (0.200012)
    assert won.loc["ours", "Informer"].to_dict() == {"zero": 4, "minus": 1}


def test_all_windows_or_the_truncated_set():
    rows = [cell_run(0.1)]
    assert summarise(cells_of(rows)).loc[0, ["mse", "last_mse"]].tolist() == [0.1, 2.0]
    assert summarise(cells_of(rows, "all")).loc[0, ["mse", "last_mse"]].tolist() == [1.1, 3.0]


@pytest.mark.parametrize(
    ("setting", "differs"),
    [
        ({"seq_len": 96}, "seq_len 96"),
        ({"label_len": 24}, "label_len 24"),
        ({"factor": 5}, "factor 5"),
        ({"e_layers": 3}, "e_layers 3"),
        ({"d_model": 64}, "d_model 64"),
        ({"train_epochs": 2}, "train_epochs 2"),
        ({"batch_size": 16, "dropout": 0.1}, "dropout 0.1, batch_size 16"),
        ({"learning_rate": 1e-3}, "learning_rate 0.001"),
        ({"distil": False}, "distil False"),
        ({"attn": "full"}, "attn full"),
        ({"freq": "t"}, "freq t"),
        ({"eval_batch_size": 64}, "eval_batch_size 64"),
        ({"cols": ("OT", "HULL")}, "cols OT,HULL"),
        ({"lip_norm": "range"}, "lip_norm range"),
    ],
)
def test_runs_of_other_settings_are_listed_apart(setting, differs):
    own = [cell_run(0.1, seed=seed, lip_coef=-2.0) for seed in range(3)]
    other = cell_run(9.0, seed=3, lip_coef=-2.0, **setting)
    frame = summarise(cells_of([*own, other]))
    assert one_row(frame, differs="")["mse"] == pytest.approx(0.1)
    apart = one_row(frame, differs=differs)
    assert apart["mse"] == 9 and math.isnan(apart["mse_printed"])
    titles = [table.title for table in result_tables(cells_of([*own, other]), ["S"], "truncated")]
    assert titles[2] == f"Apart from Table 2 (S), feature axis, fp32, {differs}, truncated " + (
        "test windows"
    )


def test_precisions_and_axes_make_tables_of_their_own():
    rows = [cell_run(0.1, lip_coef=-2.0), cell_run(0.2, lip_coef=-2.0, lip_axis="time")]
    rows += [cell_run(0.3, lip_coef=-2.0, amp="bf16"), cell_run(0.05), cell_run(0.06, amp="bf16")]
    frame = summarise(cells_of(rows))
    values = {
        (row["axis"], row["amp"], row["sign"]): row["mse"] for row in frame.to_dict("records")
    }
    assert values == {
        ("feature", "off", "zero"): 0.05,  # c = 0 belongs to both axes
        ("time", "off", "zero"): 0.05,
        ("feature", "off", "minus"): 0.1,
        ("time", "off", "minus"): 0.2,
        ("feature", "bf16", "zero"): 0.06,
        ("feature", "bf16", "minus"): 0.3,
    }
    titles = [table.title for table in result_tables(cells_of(rows), ["S"], "all")]
    assert "Table 2 (S), feature axis, bf16, all test windows" in titles


def test_c_0_counts_for_every_normalisation_once():
    rows = [cell_run(0.1), cell_run(0.1, lip_norm="range")]
    rows.append(cell_run(0.2, lip_coef=2.0, lip_norm="range"))
    frame = summarise(cells_of(rows))
    assert one_row(frame, differs="lip_norm range", sign="zero")["n"] == 1
    assert one_row(frame, differs="", sign="zero")["n"] == 1


def test_data_outside_the_paper_have_a_table_without_print():
    rows = [run(0.1, data="demo", features="S", lip_coef=c) for c in (-2.0, 0.0, 2.0)]
    rows += [cell_run(0.1), run(0.5, data="weather", features="S")]
    tables = {table.title: table for table in result_tables(cells_of(rows), ["S"], "truncated")}
    own = tables["Outside the paper (S), time axis, fp32, truncated test windows"]
    shown = [(row[0], row[4], row[5]) for row in own.rows]
    assert shown[:3] == [
        ("demo", "MSE", "c = 0"),
        ("demo", "MSE", "c < 0"),
        ("demo", "MSE", "c > 0"),
    ]
    assert ("weather", "MSE", "c = 0") in shown  # the paper's Informer rows are another: WTH
    assert ("", "printed") not in own.columns and ("", "ridge") in own.columns


def test_only_data_outside_the_paper_leave_its_table_out():
    cells = cells_of([run(0.1, data="demo", features="S")])
    assert len(result_tables(cells, ["S", "M"], "truncated")) == 1


def test_custom_files_are_told_apart_by_their_checksum():
    rows = [run(0.1, data="custom", data_sha256="aaaaaaaa1"), run(0.2, data="custom", seed=1)]
    assert {cell.data for cell in cells_of(rows)} == {"custom aaaaaaaa", "custom sum-of-c"}


def lambda_runs(validation: dict[tuple[int, int], int]) -> list[dict[str, Any]]:
    """Runs of c = -lam by (lam, seed); the test MSE tells lam and seed: lam + seed / 10."""
    return [
        cell_run(lam + seed / 10, lip_coef=-lam, seed=seed, val_mse=value)
        for (lam, seed), value in validation.items()
    ]


def test_lambda_is_chosen_by_the_other_seeds():
    # others' sums: seed 0: 10 (2), 8 (4): 4; seed 1: 6, 13: 2; seed 2: 6, 13: 2.
    # By their own validation they would have chosen 2, 4, 4.
    validation = {(2, 0): 1, (2, 1): 5, (2, 2): 5, (4, 0): 9, (4, 1): 4, (4, 2): 4}
    (cell,) = cells_of(lambda_runs(validation))
    arm = choose(cell, "minus")
    assert arm.runs["lam"].to_dict() == {0: 4, 1: 2, 2: 2}
    assert arm.runs["mse"].tolist() == pytest.approx([4.0, 2.1, 2.2])
    assert arm.lam == "2 (2/3), 4 (1/3)"
    assert arm.note == ""


def test_seeds_that_lack_a_lambda_take_no_part_in_the_choice():
    (cell,) = cells_of(lambda_runs({(2, 0): 1, (2, 1): 1, (4, 0): 2, (4, 1): 2, (2, 7): 0}))
    arm = choose(cell, "minus")
    assert list(arm.runs.index) == [0, 1] and arm.lam == "2 (2/2)"
    assert arm.note == "c < 0: left out, for lack of some λ of 2, 4: seeds 7"


def test_one_seed_cannot_choose_lambda():
    cells = cells_of([*lambda_runs({(2, 0): 1, (4, 0): 2}), cell_run(0.1)])
    frame = summarise(cells)
    shown = frame[frame["sign"] == "minus"]
    assert shown["lam"].tolist() == ["2 (not chosen)", "4 (not chosen)"]
    assert shown["mse"].tolist() == [2, 4]
    shape, beside = result_tables(cells, ["S"], "truncated")
    (row,) = [row for row in shape.rows if row[:3] == ["ETTh2", "24", "ours"]]
    assert row[7:11] == ["0.10000", "0.20000", "-", "-"]
    assert any(
        "ETTh2 24: c < 0, λ of 2, 4: not chosen, which takes two seeds" in note
        for note in beside.notes
    )


def test_the_choice_is_not_optimistic():
    # Validation equals test and every lambda is as good: choosing by one's own score would gain
    # about 0.85 sd (the expected least of three normal numbers), by the others' nothing.
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(200, 5, 3)) + 10  # [studies, seeds, lambdas]
    template = pd.DataFrame(lambda_runs({(lam, s): 1 for s in range(5) for lam in (1, 2, 4)}))
    (cell,) = find_cells(usable_runs(template, "truncated")[0])
    means = []
    for values in noise:
        flat = values[cell.runs["seed"].astype(int), cell.runs["lam"].map([0, 1, 2, 4].index) - 1]
        runs = cell.runs.assign(mse=flat, val_mse=flat)
        chosen = choose(Cell(**{**vars(cell), "runs": runs}), "minus").runs["mse"]
        means.append(chosen.mean() - 10)
    assert abs(np.mean(means)) < 4 * np.std(means) / math.sqrt(len(means))
    assert np.mean(noise.min(axis=2)) - 10 < -0.7


def test_one_seed_has_no_interval():
    cells = cells_of([cell_run(0.09309), cell_run(0.1, lip_coef=-2.0)])
    row = one_row(summarise(cells), sign="zero")
    assert row["mse_inside"] is None and math.isnan(row["mse_sd"])
    beside = result_tables(cells, ["S"], "truncated")[1]
    shown = next(row for row in beside.rows if row[:4] == ["ETTh2", "24", "MSE", "c = 0"])
    assert shown[5:9] == ["1", "0.09309", "0.09309", "-"]
    assert "n = 1: one run, so no sd and no interval." in beside.notes


def test_missing_cells_are_shown_as_missing():
    cells = cells_of([cell_run(0.1)])
    frame = result_frame(cells, ["S"])
    assert len(frame) == 50
    assert one_row(frame, data="ETTh1", pred_len=24, sign="zero")["n"] == 0
    table = result_tables(cells, ["S"], "truncated")[1]
    empty = next(row for row in table.rows if row[:4] == ["ETTh1", "24", "MSE", "c < 0"])
    assert empty[5:] == ["0", "0.08882", "-", "-", "-", "-", "-"]


def test_no_runs():
    runs, notes = usable_runs(pd.DataFrame(), "truncated")
    assert notes == ["There are no runs."]
    shape, beside, *_ = result_tables(find_cells(runs), ["S", "M"], "truncated")
    assert shape.title == "Table 2 (S), no runs, truncated test windows"
    assert shape.rows[-1][:5] == ["count", "", "ours", "-", ""]
    assert {row[7] for row in beside.rows} == {"-"}


def test_runs_that_did_not_finish_are_named():
    rows = [
        cell_run(0.1),
        cell_run(math.nan, seed=1, status="failed", error="loss is nan", run="bad"),
        cell_run(math.nan, seed=2, status="unfinished", run="half"),
        cell_run(math.nan, seed=3, run="strange"),
        cell_run(0.2, seed=4, val_mse=math.inf, run="endless"),
    ]
    runs, notes = usable_runs(pd.DataFrame(rows), "truncated")
    assert runs["mse"].tolist() == [0.1]
    assert notes == [
        "Left out, failed: 1 run (bad).",
        "Left out, unfinished: 1 run (half).",
        "Left out, no finite score (truncated windows): 2 runs (strange, endless).",
    ]


def test_no_finished_runs():
    runs, notes = usable_runs(pd.DataFrame([{"run": "x", "status": "unfinished"}]), "all")
    assert find_cells(runs) == []
    assert notes == ["There are no finished runs.", "Left out, unfinished: 1 run (x)."]


def test_results_versions_are_never_averaged():
    rows = [cell_run(0.1, seed=seed, results_version=2) for seed in range(2)]
    rows += [cell_run(9, seed=s, results_version=1, run=f"old{s}") for s in range(2, 7)]
    runs, notes = usable_runs(pd.DataFrame(rows), "truncated")
    assert runs["mse"].tolist() == [0.1, 0.1]
    assert notes == [
        "Left out, results version 1 (the newest is 2): 5 runs (old2, old3, old4 and 2 more)."
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("results")
    rows = [
        cell_run(0.1 + seed / 100 + c / 1000, seed=seed, lip_coef=c)
        for seed in range(3)
        for c in (-2.0, 0.0)
    ]
    write_runs(results, [*rows, cell_run(0.1, seed=9, status="unfinished")])
    return results


def test_command_prints_the_frames_of_real_folders(folder):
    words = ["--results", str(folder), "--features", "S", "--format", "csv"]
    command = [sys.executable, "-W", "error", "-m", "exp.table", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Left out, unfinished: 1 run" in done.stderr
    frame = pd.read_csv(io.StringIO(done.stdout))
    row = one_row(frame, data="ETTh2", pred_len=24, sign="minus")
    assert (row["n"], row["mse"]) == (3, pytest.approx(0.108))
    assert row["mse_sd"] == pytest.approx(0.01)


def test_command_writes_a_file(folder, tmp_path):
    out = tmp_path / "new" / "table.md"
    assert main(["--results", str(folder), "--format", "markdown", "--out", str(out)]) == 0
    text = out.read_text()
    assert "### Table 2 (S), feature axis, fp32, truncated test windows" in text
    assert "No run has the settings of Table 5." in text
    assert "0.10800 ± 0.01000" in text


def test_command_filters_by_axis_and_precision(folder, capsys):
    words = ["--results", str(folder), "--features", "S"]
    assert main([*words, "--axis", "feature", "--amp", "off"]) == 0
    assert "Table 2 (S), feature axis, fp32" in capsys.readouterr().out
    assert main([*words, "--axis", "time"]) == 0  # c = 0 belongs to this axis, too
    assert "Table 2 (S), no run with the regularizer, fp32" in capsys.readouterr().out
    assert main([*words, "--amp", "bf16"]) == 0
    assert "Table 2 (S), no runs" in capsys.readouterr().out


def test_command_refuses_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["--results", str(tmp_path / "none")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1


def test_full_study_renders_quickly(study):
    cells = find_cells(usable_runs(study, "truncated")[0])
    text = render(result_tables(cells, ["S", "M"], "truncated"), "terminal", [])
    assert text.count("\n") > 4 * 75
