"""Tables and the study's CSV: what enters a mean, values by hand, and what commands say."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from paper import tables
from paper.runs import CELL, PRINTED, by_cell, left_out, load, select_metrics
from paper.tables import printed, published_layout, result_tables, summarise
from tests.records import damage, scores, write_arm, write_run
from utils.formats import render

OFFSETS = 0.0001 * np.array([-2, -1, 0, 1, 2])  # by seed: mean 0, sd sqrt(2.5e-8) = 0.000158114


def scored(results: Path, score: str | None = None) -> pd.DataFrame:
    return select_metrics(load(results).frame, score)


def one(frame: pd.DataFrame, **values: Any) -> dict[str, Any]:
    (row,) = [row for row in frame.to_dict("records") if values.items() <= row.items()]
    return {str(name): value for name, value in row.items()}


def said(results: Path, *words: str) -> str:
    """Return what the command prints, on one line."""
    out = results.parent / "said.txt"
    assert tables.main(["--results", str(results), "--out", str(out), *words]) == 0
    return " ".join(out.read_text().split())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 50 cells, five seeds: c = 0 hits the print, c = -2 is 0.001 below (S) or above it (M)."""
    results = tmp_path_factory.mktemp("full")
    for row in printed().loc["informer"].reset_index().to_dict("records"):
        features, data, pred_len = row["features"], row["data"], row["pred_len"]
        for c, shift in ((0.0, 0.0), (-2.0, -0.001 if features == "S" else 0.001)):
            cell = {"data": data, "features": features, "pred_len": pred_len}
            for seed, offset in enumerate(OFFSETS):
                errors = scores(row["mse_zero"] + shift + offset)
                for part in errors.values():
                    part["mae"] = row["mae_zero"] + shift + offset
                write_run(results, 0.1, c, seed, metrics=errors, **cell)
    return results


def test_means_and_prediction_intervals_by_hand(full):
    frame = summarise(scored(full))
    assert len(frame) == 100 and set(frame["n"]) == {5}
    zero = one(frame, label="ETTh2 S 24", c=0.0)
    # printed 0.09309 and hit exactly; half width 2.776445 * 0.000158114 * sqrt(1/5 + 1/5)
    assert zero["mse"] == pytest.approx(0.09309) and zero["print"] == 0.09309
    assert zero["mse_sd"] == pytest.approx(0.000158114, rel=1e-5)
    assert zero["high"] - zero["mse"] == pytest.approx(0.000277645, rel=1e-5)
    wth = one(frame, label="WTH M 24", c=0.0)  # three repetitions: sqrt(1/5 + 1/3)
    assert wth["high"] - wth["mse"] == pytest.approx(0.000320597, rel=1e-5)
    lip = one(frame, label="ETTh2 S 24", c=-2.0)
    assert lip["print"] == 0.08626 and lip["low"] > lip["print"]
    change = np.exp(np.mean(np.log((0.09209 + OFFSETS) / (0.09309 + OFFSETS)))) - 1
    assert (lip["change"], lip["pairs"]) == (pytest.approx(100 * change), 5)
    text = render(result_tables(scored(full)), "terminal")
    assert "0.09281 to 0.09337: yes" in text and "0.09181 to 0.09237: no" in text
    assert max(map(len, text.splitlines())) <= 110


def test_counts_are_computed_from_the_cells(full):
    text = render(result_tables(scored(full)), "markdown")
    assert "printed 13/37 (recomputed; the paper states 12/38), ours 50/0 in 25 cells" in text
    assert "printed 4/46, ours 0/50 in 25 cells" in text


def test_other_models_have_their_own_print(tmp_path):
    for model, data, error in (("autoformer", "ETTh1", 0.1), ("transformer", "weather", 0.2)):
        write_arm(tmp_path, 0.0, [error, error], model=model, data=data, train_epochs=10)
    frame = published_layout(scored(tmp_path)).set_index("model")
    assert frame["mse_zero"].to_dict() == {"autoformer": 0.1, "transformer": 0.2}
    table = pd.read_csv(PRINTED / "table2_univariate.csv").query("pred_len == 24 and lip == 0")
    for model, data in (("autoformer", "ETTh1"), ("transformer", "Weather")):
        cell = table.query(f"model == '{model.title()}' and dataset == '{data}'")
        assert frame.loc[model, "mse_zero_print"] == cell["mse"].item()
    text = render(result_tables(scored(tmp_path)), "markdown")
    assert "Table 2 (S), no run with the regularizer, fp32, autoformer" in text
    assert "at assumed settings" in text and "Informer's own authors" not in text


def test_only_seeds_of_both_sides_enter_the_papers_shape(tmp_path):
    # c = -2 is worse on every seed that both have, and was run on the easy ones
    write_arm(tmp_path, 0.0, [0.1, 0.11, 0.3, 0.4])
    write_arm(tmp_path, -2.0, [0.12, 0.13])
    (row,) = published_layout(scored(tmp_path)).to_dict("records")
    assert (row["n"], row["mse_zero"], row["mse_lip"]) == (2, pytest.approx(0.105), 0.125)
    shape, _, arms = result_tables(scored(tmp_path))
    assert shape.best == {(0, "mse_zero")}
    assert arms.best == set()  # means over other seeds are not compared
    assert "No star where the c of a cell were run with different seeds." in arms.notes
    assert one(arms.frame, c=-2.0)["pairs"] == 2 and one(arms.frame, c=-2.0)["change"] > 0


@pytest.mark.parametrize(
    ("zero", "lip", "best"),
    [
        (0.30, 0.25, {"ridge_mse"}),  # 0.2: baselines included
        (0.1, 0.100004, {"mse_zero", "mse_lip"}),  # equal as printed
        (0.1, 0.10001, {"mse_zero"}),
    ],
)
def test_the_lowest_is_stressed(tmp_path, zero, lip, best):
    write_arm(tmp_path, 0.0, [zero])
    write_arm(tmp_path, -2.0, [lip])
    shape, *_, arms = result_tables(scored(tmp_path))
    assert shape.best == {(0, name) for name in best}
    assert len(arms.best) == len(best)


def test_every_c_of_a_cell_in_one_table(tmp_path):
    for c in (-5.0, -2.0, 0.0, 1.0, 5.0):
        write_arm(tmp_path, c, [0.1, 0.2])
    arms = result_tables(scored(tmp_path))[-1]
    methods = ["c = -5", "c = -2", "c = 0", "c = 1", "c = 5", "last value", "a day ago", "ridge"]
    assert [row[2] for row in arms.rows] == methods


@pytest.mark.parametrize(
    ("setting", "differs"),
    [
        ({"seq_len": 96, "factor": 5, "freq": "t"}, "freq t, factor 5, seq_len 96"),
        ({"batch_size": 16, "learning_rate": 1e-3}, "batch_size 16, learning_rate 0.001"),
        ({"distil": False, "dropout": 0.1, "attn": "full"}, "distil False, dropout 0.1, attn full"),
        ({"cols": ("OT", "HULL"), "d_model": 64}, "cols OT,HULL, d_model 64"),
    ],
)
def test_runs_of_other_settings_are_apart(tmp_path, setting, differs):
    write_arm(tmp_path, -2.0, [0.1] * 3)
    write_run(tmp_path, 9.0, -2.0, 3, **setting)
    frame = summarise(scored(tmp_path))
    assert one(frame, differs="")["mse"] == pytest.approx(0.1)
    apart = one(frame, differs=differs)
    assert apart["mse"] == 9 and np.isnan(apart["print"]) and apart["windows"] == "all"
    other = result_tables(scored(tmp_path, "all"))[-1]  # apart, whatever windows are scored
    assert other.title.startswith(f"Other runs (S), feature axis, fp32, {differs}, all test")


def test_axes_norms_and_precisions_are_cells_of_their_own(tmp_path):
    runs: list[tuple[float, float, dict[str, Any]]] = [
        (0.05, 0.0, {}), (0.06, 0.0, {"lip_norm": "range"}),  # c = 0 again, beside its own norm
        (0.07, 0.0, {"amp": "bf16"}), (0.10, -2.0, {}), (0.20, -2.0, {"lip_axis": "time"}),
        (0.30, -2.0, {"amp": "bf16"}), (0.40, -2.0, {"lip_norm": "range"}),
    ]  # fmt: skip
    for mse, c, settings in runs:
        write_run(tmp_path, mse, c, **settings)
    cells = {
        tuple(cell[["axis", "norm", "amp"]].iloc[0]): sorted(cell["mse"])
        for _, cell in by_cell(scored(tmp_path)).groupby(CELL)
    }
    assert cells == {
        ("feature", "max", "off"): [0.05, 0.10],
        ("time", "max", "off"): [0.05, 0.20],
        ("feature", "range", "off"): [0.06, 0.40],
        ("feature", "max", "bf16"): [0.07, 0.30],
    }


def test_truncated_beside_a_print_and_all_windows_elsewhere(tmp_path):
    parts = {"all": {"mse": 2.0, "mae": 2.0}, "truncated": {"mse": 1.0, "mae": 1.0}}
    write_run(tmp_path, metrics=parts)
    write_run(tmp_path, metrics=parts, data="demo")
    assert scored(tmp_path).set_index("data")["mse"].to_dict() == {"ETTh2": 1, "demo": 2}
    assert set(scored(tmp_path, "truncated")["mse"]) == {1}
    assert set(scored(tmp_path, "all")["mse"]) == {2}


def test_custom_files_are_told_apart_by_file_and_target(tmp_path):
    for target, sha256 in (("OT", "a" * 64), ("MT", "a" * 64), ("OT", "b" * 64)):
        more = {"data": "custom", "target": target, "sha256": sha256}
        write_arm(tmp_path / "unnamed", 0.0, [0.1, 0.2], **more)
        file = {"data_file": "/x/own.csv"}
        write_arm(tmp_path / "named", 0.0, [0.1, 0.2], **more, environment=file)
    datasets = ["custom aaaaaaaa MT", "custom aaaaaaaa OT", "custom bbbbbbbb OT"]
    assert sorted(scored(tmp_path / "unnamed")["dataset"].unique()) == datasets
    labels = sorted(scored(tmp_path / "named")["label"].unique())
    assert labels[0] == "own.csv MT S 24 (96/48)"
    assert [label[:25] for label in labels[1:]] == ["own.csv OT S 24 (96/48) #"] * 2
    assert len(set(labels)) == 3


def test_results_versions_are_shown_apart(tmp_path):
    write_arm(tmp_path, 0.0, [0.1, 0.1])
    damage(write_run(tmp_path, 9.0, 0.0, 2), "newer version")
    frame = summarise(scored(tmp_path))
    assert sorted(zip(frame["results_version"], frame["mse"], strict=True)) == [(2, 0.1), (3, 9)]
    titles = " ".join(table.title for table in result_tables(scored(tmp_path)))
    assert "results version 2" in titles and "results version 3" in titles


@pytest.mark.parametrize(
    "kind", ["damaged", "a folder for a file", "other schema", "no config.json"]
)
def test_one_bad_folder_costs_a_note_and_not_the_table(tmp_path, kind):
    write_arm(tmp_path / "runs", 0.0, [0.1, 0.2])
    bad = write_run(tmp_path / "runs", 0.1, 0.0, 2)
    damage(bad, kind)
    text = said(tmp_path / "runs")
    assert "0.15000 ± 0.07071" in text and bad.name in text


def test_what_enters_no_mean_is_named(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, seed=1, status="failed")
    write_run(tmp_path, seed=2, status="unfinished")
    write_run(tmp_path, seed=3, metrics={"truncated": None})
    failed, few, unfinished = left_out(scored(tmp_path))
    assert failed.startswith("Left out, failed: inf") and unfinished.startswith("Left out, unf")
    assert "fewer than 32 test windows: --score all shows them" in few
    assert len(left_out(scored(tmp_path, "all"))) == 2


def test_data_sets_without_a_run_are_one_line(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs)
    write_run(runs, data="demo")
    text = said(runs)
    assert (
        "Table 2 (S), no run yet: informer ETTh1, ETTm1, WTH, ECL; transformer all; auto" in text
        and "ETTh1 24" not in text
    )
    text = said(runs, "--data", "etth2")
    assert "ETTh2" in text and "demo" not in text and "no run yet" not in text
    write_run(runs, features="M", data="WTH")
    assert "Table 5" not in said(runs, "--features", "S")
    assert "Table 5 (M), no run yet: informer ETTh1, ETTh2, ETTm1, ECL; trans" in said(runs)
    assert "No run of ECL." in said(runs, "--data", "ECL")
    assert "No run of weather." in said(runs, "--data", "weather")
    assert "No run of MS." in said(runs, "--features", "MS")
    (tmp_path / "empty").mkdir()
    assert "There are no runs." in said(tmp_path / "empty")
