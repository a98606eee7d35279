"""The cell's table and the reader of runs: what enters a mean, values by hand, what is said."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paper import tables
from paper.runs import CELL, PUBLISHED, by_cell, load, published, published_change, select_metrics
from paper.tables import accounted, all_cells, cell_table, cells, result_tables
from tests.records import damage, write_arm, write_run
from utils.formats import change, render

LUCK = np.array([0.081, 0.079, 0.083, 0.080, 0.078, 0.082, 0.077, 0.084])  # of a seed, without Lip
NOISE = 0.002 * np.array([1, -1, 2, -2, 1, -1, 0.5, -0.5])


def scored(results: Path) -> pd.DataFrame:
    return select_metrics(load(results).frame)


def one(frame: pd.DataFrame, **values: Any) -> Any:
    (row,) = [row for row in frame.to_dict("records") if values.items() <= row.items()]
    return row


def said(results: Path, *words: str) -> str:
    out = results.parent / "said.txt"
    assert tables.main(["--results", str(results), "--out", str(out), *words]) == 0
    return " ".join(out.read_text(encoding="utf-8").split())


def write_pairs(results: Path, change: np.ndarray | float, n: int = 8, **more: Any) -> None:
    write_arm(results, 0.0, LUCK[:n], **more)
    write_arm(results, -2.0, LUCK[:n] * np.broadcast_to(1 + np.asarray(change), n), **more)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 50 cells, three seeds: without Lip the published value, with Lip that (S) or +1 % (M)."""
    results = tmp_path_factory.mktemp("full")
    for row in published().loc["informer"].reset_index().to_dict("records"):
        cell = {name: row[name] for name in ("features", "data", "pred_len")}
        zero, lip = row["mse_zero"], row["mse_lip"]
        for seed, offset in enumerate((0.999, 1.0, 1.001)):
            write_run(results, zero, 0.0, seed, **cell)
            write_run(results, offset * (lip if cell["features"] == "S" else 1.01 * zero), -2.0,
                      seed, **cell)  # fmt: skip
    return results


def test_every_published_cell_is_judged_and_counted_once(full):
    rows = cells(scored(full))
    assert len(rows) == 50 and set(rows["n"]) == {3}
    row = one(rows, label="ETTh2 S 24")
    assert (row["mse_zero"], row["mse_lip"]) == pytest.approx((0.09309, 0.08626))
    assert (row["mse_zero_published"], row["mse_lip_published"]) == (0.09309, 0.08626)
    d = np.log(0.08626 * np.array([0.999, 1.0, 1.001]) / 0.09309)
    assert row["change"] == pytest.approx(100 * math.expm1(d.mean()))
    assert {*rows.query("features == 'S'")["answer"]} == {"seen"}
    for row in rows.query("features == 'M'").to_dict("records"):  # +1 %, whatever is published
        r = math.log(row["mse_lip_published"] / row["mse_zero_published"])
        assert abs(r) < 0.03 or row["answer"] == "not seen"
    (table,) = all_cells(rows)
    whole = table.text.iloc[0]
    assert whole[["seen", "not seen", "open"]].sum() == 50
    ratios = np.log(rows["mse_lip_published"] / rows["mse_zero_published"])
    bounds = stats.ttest_1samp(ratios, 0).confidence_interval()
    expected = [100 * math.expm1(x) for x in (ratios.mean(), *bounds)]
    assert whole["published: mean change"] == change(*expected)
    text = render(result_tables(rows), "terminal")
    assert "\nAll cells\n" in text and max(map(len, text.splitlines())) <= 120


def test_axes_and_precisions_of_a_cell_are_counted_once(tmp_path):
    write_pairs(tmp_path, 0.0, n=3)
    write_pairs(tmp_path, -0.5, n=3, amp="bf16")
    write_arm(tmp_path, -2.0, LUCK[:3] * 0.4, lip_axis="time")
    rows = cells(scored(tmp_path))
    settings = ["S 24", "S 24, time axis", "S 24, bf16"]
    assert rows["setting"].tolist() == settings and set(rows["answer"]) == {"not seen", "seen"}
    (table,) = all_cells(rows)
    assert table.text.to_numpy().tolist()[0][:4] == ["all cells (1)", 0, 1, 0]
    assert table.text["ours: mean change"].item() == "+0.0 %"


def test_a_cell_without_a_pair_does_not_count(tmp_path):
    write_run(tmp_path, 0.1, -2.0)
    (table,) = tables.result_tables(tables.cells(scored(tmp_path)))
    assert table.title == "ETTh2: MSE"


def test_a_failed_run_alone_loses_and_ties_count_half():
    d = [[-0.1, 0.1], [-0.2, math.inf], [0.0, -0.3, -math.inf], [math.inf, math.nan]]
    place = {"model": "informer", "features": "S", "data": "ETTh2", "axis": "feature", "amp": "off"}
    rows = pd.DataFrame([
        {**place, "pred_len": i, "n": 1, "d": one, "answer": "open", "published_change": -10.0}
        for i, one in enumerate(d[:3])
    ])  # fmt: skip
    (table,) = all_cells(rows)
    assert table.text.iloc[0, -1] == f"{(1 / 2 + 1 / 2 + 2.5 / 3) / 3:.2f}"
    bounds = stats.ttest_1samp([0, -0.2, -0.15], 0).confidence_interval()
    mean = 100 * math.expm1((0 - 0.2 - 0.15) / 3)
    assert table.text["ours: mean change"].item() == change(mean, *(100 * np.expm1(bounds)))


def test_means_are_over_the_seeds_that_both_have(tmp_path):
    write_arm(tmp_path, 0.0, [0.1, 0.11, 0.3, 0.4])
    write_arm(tmp_path, -2.0, [0.12, 0.13])
    rows = cells(scored(tmp_path))
    (row,) = rows.to_dict("records")
    assert (row["n"], row["mse_zero"], row["mse_lip"]) == (2, pytest.approx(0.105), 0.125)
    (line,) = cell_table(rows, "").text.to_numpy().tolist()
    assert "**0.1050**" in line and math.isnan(row["low"]) and row["answer"] == "open"
    assert "+19.1 % (too few seeds to tell)" in line
    assert accounted(scored(tmp_path), rows) == ["6 runs: 4 shown, 2 without a pair."]


@pytest.mark.parametrize(
    ("zero", "lip", "best"),
    [
        (0.30, 0.25, {"ridge"}),  # 0.2: baselines included
        (0.1, 0.100004, {"ours: MSE", "ours: with Lip"}),  # equal as written
        (0.1, 0.1002, {"ours: MSE"}),
    ],
)
def test_the_lowest_is_stressed(tmp_path, zero, lip, best):
    write_arm(tmp_path, 0.0, [zero])
    write_arm(tmp_path, -2.0, [lip])
    line = cell_table(cells(scored(tmp_path)), "").text.astype(str).iloc[0]
    assert {*line.index[line.str.startswith("**")]} == best


def test_every_coefficient_has_a_row_and_the_lowest_on_validation_a_mark(tmp_path):
    for c, val in ((-5.0, 3), (-2.0, 2), (0.0, 0), (1.0, 1)):
        for seed in range(2):
            write_run(tmp_path, 0.1, c, seed, metrics={"val_mse": val})
    rows = cells(scored(tmp_path))
    assert rows["setting"].tolist() == ["S 24, MSE − 5 Lip", "S 24", "S 24, MSE + 1 Lip †"]
    _, mae, _ = result_tables(rows, mae=True)
    assert mae.title == "ETTh2: MAE" and any(note.startswith("†") for note in mae.notes)
    assert mae.text.to_numpy().tolist()[1] == [
        "S 24", "0.2402", "0.2256", 2, "**0.2000**", "**0.2000**", "0.8000", "0.6000", "0.4000"
    ]  # fmt: skip


def test_what_all_rows_share_is_said_once(tmp_path):
    for mse, c, dropout in ((0.2, 0.0, 0.05), (0.3, -2.0, 0.05), (0.2, 2.0, 0.05), (0.2, 0.0, 0.1)):
        own = {"data": "demo", "d_model": 64, "n_heads": 4, "dropout": dropout}
        write_run(tmp_path, mse, c, **own)
    rows = cells(scored(tmp_path))
    table = cell_table(rows.loc[rows["overrides"].eq("d_model 64, n_heads 4")], "")
    assert [*table.text["setting"]] == ["S 24 (96/48)", "S 24 (96/48), MSE + 2 Lip †"]
    assert "In every row: d_model 64, n_heads 4." in table.notes
    assert [*cell_table(rows, "").text["setting"]][-1] == "S 24 (96/48), dropout 0.1"


@pytest.mark.parametrize(
    ("setting", "overrides"),
    [
        ({"seq_len": 96, "factor": 5, "freq": "t"}, "freq t, factor 5, seq_len 96"),
        ({"distil": False, "attn": "full", "cols": ("OT", "HULL")},
         "cols OT,HULL, distil False, attn full"),
    ],
)  # fmt: skip
def test_runs_of_other_settings_are_apart(tmp_path, setting, overrides):
    write_arm(tmp_path, -2.0, [0.1] * 3)
    write_run(tmp_path, 9.0, -2.0, 3, **setting)
    rows = cells(scored(tmp_path))
    assert one(rows, overrides="")["mse_lip"] == pytest.approx(0.1)
    apart = one(rows, overrides=overrides)
    assert apart["mse_lip"] == 9 and apart["windows"] == "all" and not apart["published"]


def test_axes_norms_and_precisions_are_cells_of_their_own(tmp_path):
    runs: list[tuple[float, float, dict[str, Any]]] = [
        (0.05, 0.0, {}), (0.06, 0.0, {"lip_norm": "range"}),  # MSE again, beside its own norm
        (0.07, 0.0, {"amp": "bf16"}), (0.10, -2.0, {}), (0.20, -2.0, {"lip_axis": "time"}),
        (0.30, -2.0, {"amp": "bf16"}), (0.40, -2.0, {"lip_norm": "range"}),
    ]  # fmt: skip
    for mse, c, settings in runs:
        write_run(tmp_path, mse, c, **settings)
    frame = scored(tmp_path)
    found = {
        tuple(cell[["axis", "norm", "amp"]].iloc[0]): sorted(cell["mse"])
        for _, cell in by_cell(frame).groupby(CELL)
    }
    assert found == {
        ("feature", "max", "off"): [0.05, 0.10],
        ("time", "max", "off"): [0.05, 0.20],
        ("feature", "range", "off"): [0.06, 0.40],
        ("feature", "max", "bf16"): [0.07, 0.30],
    }
    assert accounted(frame, cells(frame)) == ["7 runs: 7 shown."]
    part = frame.loc[frame["lip_norm"].eq("max") | (frame["c"] == 0)]  # MSE again is in no pair
    assert "1 without a pair" in accounted(part, cells(part))[0]


def test_drop_last_beside_a_published_value_and_all_windows_elsewhere(tmp_path):
    parts = {"all": {"mse": 2.0, "mae": 2.0}, "truncated": {"mse": 1.0, "mae": 1.0}}
    write_run(tmp_path, metrics=parts)
    write_run(tmp_path, metrics=parts, data="demo")
    assert scored(tmp_path).set_index("data")["mse"].to_dict() == {"ETTh2": 1, "demo": 2}
    assert set(scored(tmp_path)["mse_all"]) == {2}


def test_custom_files_are_told_apart_by_file_and_target(tmp_path):
    for target, sha256 in (("T (degC)", "a" * 64), ("MT", "a" * 64), ("MT", "b" * 64)):
        more = {"data": "custom", "target": target, "sha256": sha256}
        write_arm(tmp_path / "unnamed", 0.0, [0.1, 0.2], **more)
        file = {"data_file": "/x/own.csv"}
        write_arm(tmp_path / "named", 0.0, [0.1, 0.2], **more, environment=file)
    datasets = ["custom aaaaaaaa MT", "custom aaaaaaaa T (degC)", "custom bbbbbbbb MT"]
    assert sorted(scored(tmp_path / "unnamed")["dataset"].unique()) == datasets
    labels = sorted(scored(tmp_path / "named")["label"].unique())
    assert [label[:23] for label in labels[:2]] == ["own.csv MT S 24 (96/48)"] * 2
    assert labels[2] == "own.csv T (degC) S 24 (96/48)" and len(set(labels)) == 3
    for data in ("own.csv", "OWN.CSV"):  # all targets of the file
        text = said(tmp_path / "named", "--data", data)
        assert "own.csv T (degC): MSE" in text and "own.csv MT: MSE" in text
    assert "own.csv MT" not in said(tmp_path / "named", "--data", "own.csv T (degC)")


def test_what_enters_no_mean_is_named(tmp_path):
    write_run(tmp_path / "runs")
    write_run(tmp_path / "runs", seed=1, status="unfinished")
    damage(write_run(tmp_path / "runs", seed=2), "damaged")
    for seed in range(3, 8):
        write_run(tmp_path / "runs", seed=seed, status="failed")
    text = said(tmp_path / "runs")
    assert "8 runs: 1 shown, 7 left out." in text and "Left out as well: 2 runs." in text
    assert text.count("Left out, ") == 5 and "(the loss stopped being finite (nan)" in text


def test_an_open_cell_says_what_brings_it_to_its_next_look(tmp_path):
    runs = tmp_path / "runs"
    write_pairs(runs, 0.1 * NOISE[:3] / 0.002, n=3)
    text = said(runs)
    assert "open" in text and "The committed study: --results results/study." in text
    assert 'ETTh2 S 24, feature axis, to its next look: SEEDS="3 4"' in text
    write_run(runs, 0.1, -2.0, 3)  # without its pair it holds up those after it
    write_run(runs, 0.1, 0.0, 4)
    write_run(runs, 0.1, -2.0, 4)
    (row,) = cells(scored(runs)).to_dict("records")
    assert (row["n"], row["answer"], row["next_seeds"]) == (4, "open", [3])


def test_flags_choose_and_what_is_missing_is_said(tmp_path):
    write_run(tmp_path / "runs")
    write_run(tmp_path / "runs", data="demo")
    text = said(tmp_path / "runs", "--data", "etth2")
    assert "ETTh2" in text and "demo" not in text
    assert "There are no such runs." in said(tmp_path / "runs", "--features", "MS")


@pytest.mark.parametrize("features", ["S", "M"])
def test_published_changes_are_those_of_the_tables_and_of_figure_3(features):
    cell = {"model": "informer", "data": "ETTh2", "features": features, "pred_len": 24}
    ratio = {"S": 0.08626 / 0.09309, "M": 0.33658 / 0.72025}[features]
    assert published_change(cell, -2, 0) == pytest.approx(100 * (ratio - 1), abs=1e-9)
    curve = pd.read_csv(PUBLISHED / "figure3.csv").query("pred_len == 24").set_index("lam")["mse"]
    for first, second in ((-2, 2), (-4, 0)):  # the paper's λ is -c
        change = published_change(cell, first, second)
        if features == "S":
            assert change == pytest.approx(100 * (curve[-first] / curve[-second] - 1))
        else:
            assert math.isnan(change)
    for other in ({"data": "ETTh1"}, {"model": "transformer"}, {"overrides": "dropout 0.1"}):
        assert math.isnan(published_change({**cell, **other}, -4, 0))
