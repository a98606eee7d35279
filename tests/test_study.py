"""The committed study: its CSV reads like the runs' folders, and RESULTS.md is built from it."""

import itertools
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paper import study
from paper.runs import by_cell, load, select_metrics
from paper.signs import Preregistration, cell_runs, read_hypotheses, verdicts
from tests.records import write_run, write_study
from tests.runs import ROOT
from tests.test_tables import said
from utils.files import UserError
from utils.formats import interval


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
    assert csv.by_step(run) == pytest.approx(folder.by_step(run), rel=1e-3)
    assert csv.window_errors(run) == pytest.approx(folder.window_errors(run), rel=1e-3)
    history = folder.history(run)
    assert csv.history(run)[[*history]].to_numpy() == pytest.approx(history.to_numpy(), rel=1e-5)
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
    assert len(after.by_step(old)) and after.frame.set_index("run").loc[old, "mse"] > 0
    text = {path.name: path.read_text() for path in copy.iterdir()}
    write_run(tmp_path / "again", 0.9, 0.0, 77, arrays=True)  # made again: not the first
    for folder in ("more", "again"):
        assert study.main(["collect", str(tmp_path / folder), "--study", str(copy)]) == 0
        assert text == {path.name: path.read_text() for path in copy.iterdir()}
    write_run(tmp_path / "gpu", 0.9, 0.0, 78, environment={"device": "NVIDIA H100"}, arrays=True)
    with pytest.raises(UserError, match="two studies; name one by --study"):
        study.collect(tmp_path / "gpu", copy)
    assert text == {path.name: path.read_text() for path in copy.iterdir()}
    assert study.main(["collect", str(tmp_path / "gpu"), "--study", str(tmp_path / "other")]) == 0


def test_a_fresh_clone_shows_the_study(collected, tmp_path):
    csv = tmp_path / "results" / "study" / "runs.csv"
    shutil.copytree(collected[1], csv.parent)
    text = said(tmp_path / "results")
    assert "holds no runs of its own: these are the committed study's." in text
    assert "ETTh2 336" in text
    csv.write_text("a,b\n1\n2,3,4\n")
    with pytest.raises(UserError, match="not the study's CSV"):
        load(tmp_path / "results")


def test_results_page(collected):
    written = collected[1] / "page.md"
    (collected[1] / "PLAN.md").write_text("# Plan\n\n## Where it stands\n\nH1 alone.\n")
    assert study.main(["results", "--study", str(collected[1]), "--out", str(written)]) == 0
    text = written.read_text()
    assert "](results/study/figure3-ETTh2-S.png)" in text
    assert "\n\nH1 alone.\n\n" in text and "# Plan" not in text
    assert (collected[1] / "figure3-ETTh2-S.png").read_bytes().startswith(b"\x89PNG")
    for heading in ("# Results", "## Headline", "## Claim by claim", "## Ours beside the print"):
        assert f"{heading}\n" in text
    assert "- H1, ETTh2 S 24, feature axis, c = -2 against 0: in progress: 3 of 8 seeds." in text
    assert "- H3, ETTh1 M 24, feature axis, c = -2 against 0: no runs." in text
    # L_f ends at 0.15 - 0.02 c (1 - e^-6) / 2: 0.17 against 0.15, on every seed
    assert re.search(r"L_f becomes larger .*\+13\.\d %, \+1\d\.\d to \+1\d.* supported", text)
    assert "| Very little extra computational cost" in text


def test_what_was_explored_is_laid_out_by_arm(tmp_path):
    for c, seed in itertools.product((0.0, -2.0), range(2)):
        folder = write_run(tmp_path / "runs", 0.1, c, seed, arrays=True)
        epochs = [
            {"epoch": i, "test_mse": 0.1 * i + seed / 100, "eval_max": 2.0 * i}
            | {"eval_lip_feature": 0.5 - c * i, "eval_lip_time": math.nan}
            for i in (1, 2)
        ]
        (folder / "history.json").write_text(json.dumps({"schema": 1, "epochs": epochs}))
    out = tmp_path / "study"
    assert study.main(["collect", str(tmp_path / "runs"), "--study", str(out)]) == 0
    text = study.page(out, read_hypotheses()).partition("## Explored")[2]
    rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines()]
    assert ["axis", "c", "epoch 1", "epoch 2"] in rows
    assert ["feature", "-2", "0.1050", "0.2050"] in rows  # epochs 1 and 2, over seeds 0 and 1
    # LipReg, not normalised (times the largest value squared), largest value: first, last
    assert ["feature", "-2", "2.5000", "4.5000", "10.0000", "72.0000", "2.0000", "4.0000"] in rows
    assert ["", "0", "0.5000", "0.5000", "2.0000", "8.0000", "2.0000", "4.0000"] in rows
    # 4.5 / 2.5, 72 / 10, (2 / 4)²
    assert "LipReg +80.0 %, not normalised +620.0 %, through the largest value −75.0 %." in text
    assert text.count("through the largest value") == 1  # without c nothing pulls at it


def test_results_md_is_built_from_the_committed_csv():
    assert (ROOT / "RESULTS.md").read_text() == study.page(ROOT / "results" / "study", committed())


def test_the_readme_shows_what_the_study_found():
    named, runs = committed(), load(ROOT / "results" / "study")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    truncated = by_cell(select_metrics(runs.frame))
    found = {row["name"]: row for row in verdicts(runs, named).to_dict("records")}
    for one in named.family[:2]:
        row, cell = found[one.name], cell_runs(one, truncated)
        arms = [cell.loc[cell["c"] == c, "mse"] for c in (0, -2)]
        scores = [f"{arm.mean():.3f} ± {arm.std():.3f}" for arm in arms]
        first = f"| {one.data} {one.features} {one.pred_len} | {row['n']} | {' | '.join(scores)} |"
        (line,) = (line for line in readme.splitlines() if line.startswith(first))
        change = interval(row).replace(", ", " (").replace("−", "-")
        assert f"| {change}) |" in line
        assert f"| {row['verdict']} |" in line


def committed() -> Preregistration:
    named = read_hypotheses()
    if not named.since:
        pytest.skip("without git's full history the page cannot name the hypotheses' commit")
    return named
