"""The committed study: its CSV reads like the runs' folders, and RESULTS.md is built from it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from exp.record import read_history
from paper import study
from paper.runs import load, select_metrics
from paper.tables import cells
from tests.records import write_arm, write_run, write_study
from tests.runs import ROOT
from tests.test_tables import LUCK, said
from utils.files import UserError


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of runs, failures and custom data among them, and the study's CSV of it."""
    results = tmp_path_factory.mktemp("runs")
    write_study(results)
    write_run(results, 0.1, -2.0, 3, status="failed")
    write_run(results, 0.1, -2.0, 4, windows=[i / 7 for i in range(1, 40)], arrays=True)
    write_run(results, 0.1, data="custom", cols=("OT", "HULL"), windows=[1.0])
    out = results / "study"
    assert study.main(["collect", str(results), "--study", str(out)]) == 0
    return results, out


def test_the_studys_csv_reads_like_the_folders(collected):
    folder, csv = (load(path) for path in collected)
    assert csv.committed and not folder.committed
    names = folder.frame.columns
    left, right = (frame[names].to_numpy(dtype=object) for frame in (folder.frame, csv.frame))
    assert not [pair for pair in zip(left.ravel(), right.ravel(), strict=True)
                if pair[0] != pair[1] and not all(x == "" or pd.isna(x) for x in pair)]  # fmt: skip
    run = folder.frame.query("seed == 4")["run"].item()
    for name in ("by_step", "window_errors"):
        assert csv.errors(run, name) == pytest.approx(folder.errors(run, name), rel=1e-3)
    epochs = pd.read_csv(collected[1] / "histories.csv").query("run == @run")
    history = read_history(collected[0] / run)
    assert epochs[[*history]].to_numpy() == pytest.approx(history.to_numpy(), rel=1e-5)
    trace, thin = folder.trace(run), csv.trace(run)
    assert 150 < len(thin) <= 300 < len(trace)
    at = np.interp(thin["epoch"].to_numpy(), trace["epoch"].to_numpy(), trace["l_f"].to_numpy())
    assert thin["l_f"].to_numpy() == pytest.approx(at, abs=2e-4)
    text = (collected[1] / "window_errors.csv").read_text()
    assert "custom" not in text and text.count("\n") == 2  # of the hypotheses' cells alone


def test_collecting_never_loses_a_run(collected, tmp_path):
    _, out = collected
    copy = tmp_path / "study"
    shutil.copytree(out, copy)
    before = load(copy).frame
    write_run(tmp_path / "more", 0.3, 0.0, 77, arrays=True)
    assert study.main(["collect", str(tmp_path / "more"), "--study", str(copy)]) == 0
    after = load(copy)
    assert {*after.frame["run"]} > {*before["run"]} and len(after.frame) == len(before) + 1
    old = before["run"].iloc[0]
    assert len(after.errors(old, "by_step")) and after.frame.set_index("run").loc[old, "mse"] > 0
    text = {path.name: path.read_text() for path in copy.iterdir()}
    write_run(tmp_path / "again", 0.9, 0.0, 77, arrays=True)  # made again: not the first
    for folder in ("more", "again"):
        assert study.main(["collect", str(tmp_path / folder), "--study", str(copy)]) == 0
        assert text == {path.name: path.read_text() for path in copy.iterdir()}


def test_a_fresh_clone_shows_the_study(collected, tmp_path):
    csv = tmp_path / "results" / "study" / "runs.csv"
    shutil.copytree(collected[1], csv.parent)
    text = said(tmp_path / "results")
    assert "holds no runs of its own: these are the committed study's." in text
    assert "S 336" in text


def test_columns_of_earlier_versions_get_their_new_names(collected, tmp_path):
    shutil.copytree(collected[1], out := tmp_path / "study")
    path = out / "runs.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("_drop_last", "_trunc"), "utf-8")
    before = load(out).frame
    assert "mse_drop_last" in before and "ridge_mse_drop_last" in before
    write_run(tmp_path / "more", 0.3, 0.0, 77, metrics={"by_column": {"mse": [0.25, 0.5]}})
    assert study.main(["collect", str(tmp_path / "more"), "--study", str(out)]) == 0
    assert "_trunc" not in path.read_text(encoding="utf-8")
    after = load(out).frame.query("seed == 77")
    assert after["mse_drop_last"].tolist() == [0.3]
    assert load(out).errors(after["run"].item(), "by_column").tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("changes", "first", "seeds"),
    [
        ([], 0, "0 1 2"),
        ([], 8, "8 9 10"),
        ([0.0, 0.001, -0.001], 0, ""),  # not seen
        ([-0.07, -0.074, -0.075], 0, ""),  # seen
        ([0.1, -0.1, 0.02], 0, "3 4"),
        ([0.1, -0.1, 0.02, 0.05], 0, "4"),
        ([0.1, -0.1, 0.02, 0.05, -0.1], 0, "5 6 7"),
        ([0.1, -0.1, 0.1, -0.1, 0.1, -0.1, 0.1, -0.1], 0, "8 9 10 11 12 13 14 15"),  # H1, extended
        ([0.02, -0.02, 0.02, -0.02, -0.07, -0.06, -0.03, -0.01] * 2, 0, ""),
    ],
)
def test_seeds_to_the_next_look(tmp_path, capsys, changes, first, seeds):
    (tmp_path / "runs").mkdir()
    place = [tmp_path / "study" if seed < 2 else tmp_path / "runs" for seed in range(16)]
    for seed, change in enumerate(changes):
        write_run(tmp_path / "all", 0.1, 0.0, seed)
        write_run(tmp_path / "all", 0.1 * (1 + change), -2.0, seed)
    for folder in (tmp_path / "all").glob("informer*"):  # some are in the study, some are not
        seed = int(folder.name.partition("_s")[2].partition("-")[0].removeprefix("48-"))
        target = place[seed] / folder.name
        shutil.copytree(folder, target)
    words = ["look", "ETTh2", "S", "24", "--first", str(first)]
    words += ["--results", str(tmp_path / "runs"), "--study", str(tmp_path / "study")]
    assert study.main(words) == 0
    assert capsys.readouterr().out.strip() == seeds


def test_only_a_cell_with_a_hypothesis_is_extended(tmp_path):
    for pred_len in (24, 48):  # H1 is on the first
        write_arm(tmp_path, 0.0, [0.1] * 8, pred_len=pred_len)
        write_arm(tmp_path, -2.0, [0.09, 0.11] * 4, pred_len=pred_len)
    rows = cells(select_metrics(load(tmp_path).frame)).set_index("pred_len")
    assert set(rows["answer"]) == {"open"}
    assert rows["next_seeds"].to_dict() == {24: [*range(8, 16)], 48: []}


def test_the_axis_of_a_look_and_cells_that_are_not_published(tmp_path):
    write_arm(tmp_path, 0.0, LUCK)
    write_arm(tmp_path, -2.0, LUCK[:3])
    write_arm(tmp_path, -2.0, LUCK[:3] * [0.9, 1.05, 1.0], lip_axis="time")

    def seeds(*words: str) -> list[int]:
        args = ["ETTh2", "S", "24", "--study", str(tmp_path), "--results", str(tmp_path), *words]
        return study.look(study.flags().parse_args(["look", *args]))

    assert seeds() == [] and seeds("--axis", "time") == [3, 4]
    assert seeds("--amp", "bf16") == [0, 1, 2]
    with pytest.raises(UserError, match="no such cell"):
        study.main(["look", "ETTm2", "S", "24", "--study", str(tmp_path)])


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text))


def test_results_md_is_built_from_the_committed_csv():
    page = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    found = study.blocks(load(ROOT / "results" / "study"))
    assert study.fill(page, found) == page, "stale: run python -m paper.study results"
    said = page.partition("# Results\n")[2].partition("\n\n*Reproduced*")[0]
    assert len(re.findall(r"\.(?:\s|$)", said)) == 3  # sentences
    assert numbers(said) <= numbers(" ".join(re.findall("<!-- begin.*?<!-- end", page, flags=re.S)))
    assert len(page.splitlines()) <= 140
    with pytest.raises(UserError, match="end cells"):
        study.fill(page.replace("<!-- end cells -->", ""), found)
