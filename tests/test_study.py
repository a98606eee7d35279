"""The committed study: its CSV reads like the runs' folders, and RESULTS.md is built from it."""

import itertools
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paper import study
from paper.runs import load
from paper.signs import read_hypotheses
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
    assert "S 336" in text
    csv.write_text("a,b\n1\n2,3,4\n")
    with pytest.raises(UserError, match="not the study's CSV"):
        load(tmp_path / "results")


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
    assert load(out).by_column(after["run"].item()).tolist() == [0.25, 0.5]


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


def test_the_axis_of_a_look_and_cells_that_are_not_published(tmp_path):
    write_arm(tmp_path, 0.0, LUCK)
    write_arm(tmp_path, -2.0, LUCK)
    write_arm(tmp_path, -32.0, LUCK[:3] * [0.95, 1.03, 1.0], lip_axis="time")

    def seeds(*words: str) -> list[int]:
        args = ["ETTh2", "S", "24", "--study", str(tmp_path), "--results", str(tmp_path), *words]
        return study.look(study.flags().parse_args(["look", *args]))

    assert seeds() == [] and seeds("--axis", "time", "--c", "-32") == [3, 4]
    assert seeds("--amp", "bf16") == seeds("--axis", "time") == [0, 1, 2]
    with pytest.raises(UserError, match="no such cell"):
        study.main(["look", "ETTm2", "S", "24", "--study", str(tmp_path)])


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text))


def test_results_md_is_built_from_the_committed_csv():
    named = read_hypotheses()
    if not named.since:
        pytest.skip("without git's full history the page cannot name the hypotheses' commit")
    page = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    found = study.blocks(load(ROOT / "results" / "study"), named)
    assert study.fill(page, found) == page, "stale: run python -m paper.study results"
    said = page.partition("# Results\n")[2].partition("\n\n*Reproduced*")[0]
    assert len(re.findall(r"\.(?:\s|$)", said)) == 3  # sentences
    assert numbers(said) <= numbers(" ".join(found.values()))
    assert len(page.splitlines()) <= 140
    with pytest.raises(UserError, match="end cells"):
        study.fill(page.replace("<!-- end cells -->", ""), found)


# Every number of RESULTS.md's blocks again, from the CSV files, with pandas and scipy alone.

FILES = ROOT / "results" / "study"
PUBLISHED = ROOT / "paper" / "published"


@pytest.fixture(scope="module")
def block() -> dict[str, list[list[str]]]:
    """The cells of each block's tables in the committed page, row by row; a star is left out."""
    text, found = (ROOT / "RESULTS.md").read_text(encoding="utf-8"), {}
    for name, body in re.findall(r"<!-- begin (\w+) -->\n(.*?)<!-- end", text, flags=re.S):
        lines = [line for line in body.replace("**", "").splitlines() if line.startswith("|")]
        found[name] = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
        found[name + " text"] = body
    return found


def read(name: str, folder: Path = FILES) -> Any:
    return pd.read_csv(folder / f"{name}.csv")


def percent(value: Any) -> str:
    return f"{value:+.1f} %".replace("-", "−")


def change(ratios: Any, level: float = 0.95) -> tuple[str, str]:
    """Return the mean of log ratios as a change, and its t interval, as the page writes them."""
    x = np.log(np.asarray(ratios, dtype=float))
    ends = stats.ttest_1samp(x, 0).confidence_interval(level)
    mean, low, high = (100 * math.expm1(v) for v in (x.mean(), *ends))
    return percent(mean), f"{low:+.1f} to {high:+.1f} %".replace("-", "−")


def arms(features: str) -> tuple[Any, Any]:
    """Return the runs of ETTh2 24 with MSE - 2 Lip, and those of MSE with the same seeds."""
    runs = read("runs").set_index("seed").sort_index()
    runs = runs.query("features == @features and dropout == 0.05 and patience == 3")
    lip = runs.query("lip_coef == -2 and lip_axis == 'feature'")
    return lip, runs.query("lip_coef == 0").loc[lip.index]


CELLS = {"S": (1, 0.09309, 0.08626), "M": (2, 0.72025, 0.33658)}


@pytest.mark.parametrize("features", CELLS)
def test_the_cells_and_the_hypotheses_again(block, features):
    row, zero_at, lip_at = CELLS[features]
    lip, zero = arms(features)
    d = np.log(lip["mse"] / zero["mse"])
    r = math.log(lip_at / zero_at)
    file = {"S": "table2_univariate", "M": "table5_multivariate"}[features]
    table = read(file, PUBLISHED).query(
        "model == 'Informer' and dataset == 'ETTh2' and pred_len == 24"
    )
    assert sorted(table["mse"]) == [lip_at, zero_at]
    answers = {}
    for n in (3, 5, 8):
        found: Any = stats.ttest_1samp(d[:n] / r, 0.5)  # in units of the published change
        if found.pvalue < 0.05 / 3 and not answers:
            answers = {n: "seen" if found.statistic > 0 else "not seen"}
    assert answers == {3: "not seen"}
    scores = [f"{side['mse_drop_last'].mean():.4f}" for side in (zero, lip)]
    baselines = [f"{zero[f'{b}_mse_drop_last'].iloc[0]:.4f}" for b in ("last", "day", "ridge")]
    expected = [f"ETTh2 {features} 24", f"{zero_at:.4f}", f"{lip_at:.4f}"]
    expected += [percent(100 * math.expm1(r)), str(len(d)), *scores]
    expected += [", ".join(change(np.exp(d))), answers[3], *baselines]
    assert block["cells"][row + 1] == expected
    whole, beside = block["hypotheses"][row + 1], block["hypotheses"][6 + row + 1]
    flips = np.array([*itertools.product((1, -1), repeat=len(d))]) @ d.to_numpy()
    p = np.mean(np.abs(flips) >= abs(d.sum()) - 1e-12)
    assert whole[3:7] == [str(len(d)), ", ".join(change(np.exp(d))), f"{p:.4f}", "1.0000"]
    equal = stats.ttest_1samp(d, 0).confidence_interval(0.9)
    inside = math.log(0.98) < equal.low and equal.high < math.log(1.02)
    assert whole[7] == ("equal within 2 %" if inside else "undecided")
    assert beside[1:4] == [
        percent(100 * math.expm1(r)),
        f"{d.std():.3f}",
        change(np.exp(d), 0.9)[1],
    ]
    skewed = abs(stats.skew(d)) > 1
    if skewed:
        ends = stats.bootstrap((d,), np.mean, n_resamples=20_000, rng=5).confidence_interval
        shown = [float(x) for x in re.findall(r"[+-]\d+\.\d", beside[4].replace("−", "-"))]
        assert shown == pytest.approx([100 * math.expm1(x) for x in ends], abs=0.3)
    assert skewed == (beside[4] != "-")
    near(beside[5], weeks(lip, zero), 0.25)
    n = int(beside[6])
    assert power(n, d.std()) == pytest.approx(0.8, abs=0.05 if n > 9 else 0.15)


def near(text: str, ends: Any, within: float) -> None:
    shown = [float(x) for x in re.findall(r"[+-]\d+\.\d", text.replace("−", "-"))]
    assert shown == pytest.approx([*ends], abs=within)


def weeks(lip: pd.DataFrame, zero: pd.DataFrame) -> list[float]:
    """Resample seeds and blocks of 168 windows, one draw at a time, and widen as the page does."""
    rows = read("window_errors").set_index("run")["values"].str.split()
    sides = [np.array([*rows.loc[side["run"]]], dtype=float) for side in (lip, zero)]
    n, windows = sides[0].shape
    draw, found = np.random.default_rng(3), []
    for _ in range(3000):
        starts = draw.integers(windows - 168 + 1, size=windows // 168)
        at = (starts[:, None] + np.arange(168)).ravel()
        seeds = draw.integers(n, size=n)
        first, second = (side[seeds][:, at].mean() for side in sides)
        found.append(math.log(first / second))
    tail = stats.norm.cdf(-stats.t.ppf(0.975, n - 1) * math.sqrt(n / (n - 1)))
    return [100 * math.expm1(x) for x in np.quantile(found, [tail, 1 - tail])]


def power(n: int, sd: float) -> float:
    d = np.random.default_rng(4).normal(scale=sd, size=(20_000, n))
    half = stats.t.ppf(0.95, n - 1) * d.std(axis=1, ddof=1) / math.sqrt(n)
    inside = (d.mean(axis=1) - half > math.log(0.98)) & (d.mean(axis=1) + half < math.log(1.02))
    return float(inside.mean())


def test_across_cells_again(block):
    d = [np.log(lip["mse"] / zero["mse"]) for lip, zero in map(arms, CELLS)]
    ours = 100 * math.expm1(np.mean([one.mean() for one in d]))
    paper = 100 * math.expm1(np.mean([math.log(lip / zero) for _, zero, lip in CELLS.values()]))
    share = np.mean([(one < 0).mean() for one in d])
    expected = ["all cells (2)", "0", "2", "0", percent(paper), percent(ours), f"{share:.2f}"]
    assert block["across"][2] == expected


@pytest.mark.parametrize(("features", "column"), [("S", 2), ("M", 3)])
def test_claims_again(block, features, column):
    history = read("histories").sort_values("epoch")
    epochs = {run: rows.reset_index(drop=True) for run, rows in history.groupby("run")}
    lip, zero = ([epochs[run] for run in side["run"]] for side in arms(features))
    rows = {row[0]: row for row in block["claims"][2:]}

    def shown(what: str, values: Any) -> None:
        text = ", ".join(change(values))
        assert rows[what][column] == f"{text} (n = {len(lip)})"

    for words, name in (("L_f, training mode", "train_l_f"), ("L_f, evaluation mode", "eval_l_f"),
                        ("LipReg along features", "eval_lip_feature")):  # fmt: skip
        ends = [[run[name].iloc[-1] for run in side] for side in (lip, zero)]
        shown(f"{words}, last epoch", np.array(ends[0]) / ends[1])
    best = [
        [run["eval_lip_feature"][run["val_mse"].idxmin()] for run in side] for side in (lip, zero)
    ]
    shown("LipReg along features, tested epoch", np.array(best[0]) / best[1])
    grown = [run["train_l_f"].iloc[-1] / run["train_l_f"].iloc[len(run) // 2] for run in lip]
    shown("L_f with Lip, last epoch against the middle", grown)


def test_what_is_counted_or_published_again(block):
    rows = {row[0]: row for row in block["claims"][2:]}
    both = [[side.reset_index() for side in arms(features)] for features in CELLS]
    steps = np.concatenate([lip["step_seconds"] / zero["step_seconds"] for lip, zero in both])
    assert rows["seconds a step: gradient of LipReg"][4] == f"{', '.join(change(steps))} (n = 24)"
    same = sum((lip["best_epoch"] == zero["best_epoch"]).sum() for lip, zero in both)
    assert rows["pairs that chose the same epoch"][4] == f"{same} of {len(steps)}"
    curve = read("figure2", PUBLISHED)
    means = (
        curve.groupby([np.ceil(curve["epoch"]), "series"])["lipschitz_constant"].mean().unstack()
    )
    end, middle = means.iloc[-1], means.iloc[len(means) // 2]
    assert rows["L_f, training mode, last epoch"][1] == percent(
        100 * (end["lip"] / end["original"] - 1)
    )
    shown = rows["L_f with Lip, last epoch against the middle"][1]
    assert shown == percent(100 * (end["lip"] / middle["lip"] - 1))
    table = read("table2_univariate", PUBLISHED)
    table = table.query("model == 'Informer' and dataset == 'ETTh2'")
    figure = read("figure3", PUBLISHED)
    for row in block["figure3"][2:]:
        two = table.query(f"pred_len == {row[0]}").set_index("lip")["mse"]
        three = figure.query(f"pred_len == {row[0]}").set_index("lam")["mse"]
        expected = [f"{two[0]:.4f}", f"{three[0]:.4f}", percent(100 * (three[0] / two[0] - 1))]
        expected += [f"{two[1]:.4f}", f"{three[2]:.4f}", percent(100 * (three[2] / two[1] - 1))]
        expected += [
            percent(100 * (x / y - 1)) for x, y in ((two[1], two[0]), (three[2], three[0]))
        ]
        assert row[1:] == expected
    runs = read("released_code_runs", PUBLISHED).query("features == 'M'")
    epochs = read("released_code_epochs", PUBLISHED)
    for row, lam in zip(block["released"][2:], (0, 2), strict=True):
        end = runs.loc[runs["lam"] == lam, "mse"].item()
        tests = epochs.loc[epochs["lam"] == lam, "test_mse"]
        assert row[1:] == [f"{x:.4f}" for x in (end, *tests)]


def test_runs_and_hours_again(block):
    runs = read("runs")
    text = block["runs text"]
    assert f"{len(runs)} runs: {len(runs)} shown." in text
    assert f"together {runs['wall_seconds'].sum() / 3600:.1f}." in text
    for (_, part), words in zip(
        runs.groupby(["features", "patience", "dropout"]),
        ("M 24", "M 24, patience 6", "S 24, dropout 0", "S 24"),
        strict=True,
    ):
        hours = part["wall_seconds"].sum() / 3600
        assert f"ETTh2 {words} {hours:.1f} ({len(part)} runs)" in text
    for (processor, torch, commit), part in runs.groupby(["processor", "torch", "git_commit"]):
        assert f"{processor}, {torch}, {commit[:10]} ({len(part)})" in text
    for row in block["explored"][2:]:
        lam = {"MSE + 2": 2, "dropout": -2, "MSE − 8": -8}
        (c,) = [value for words, value in lam.items() if words in row[0]]
        part = runs.query(f"lip_coef == {c} and features == '{row[0].split()[1]}'")
        part = part.loc[part["dropout"].eq(0) == ("dropout" in row[0])]
        part = part.loc[part["lip_axis"].eq("time") == ("time" in row[0])]
        score = "mse_drop_last" if c == 2 else "mse"
        assert row[3] == f"{part[score].mean():.4f}"
