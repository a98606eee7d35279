"""Every number of RESULTS.md's tables again, from the CSV files, with pandas and scipy alone."""

import itertools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.runs import ROOT

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
TESTED = {"S": 8, "M": 16}  # seeds of H1; of H2 with its extension


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
    expected = [f"ETTh2 {features} 24", f"{zero_at:.4f}", f"{lip_at:.4f}"]
    expected += [percent(100 * math.expm1(r)), *ours(lip, zero, "mse_drop_last")]
    expected.insert(8, answers[3])
    assert block["cells"][row + 1] == expected
    lip, zero = (side.loc[side.index < TESTED[features]] for side in (lip, zero))
    d = np.log(lip["mse"] / zero["mse"])
    name, _, _, n, effect, over_weeks, p, p_holm, verdict = block["hypotheses"][row + 1]
    assert (name, n) == ({"S": "H1", "M": "H2"}[features], str(len(d)))
    assert effect == ", ".join(change(np.exp(d)))
    ps = sorted(flips(other) for other in CELLS)  # of four hypotheses two have no runs, p = 1
    mine, least = flips(features), max(4 * ps[0], 3 * ps[1] * (flips(features) > ps[0]))
    assert (p, p_holm) == (f"{mine:.4f}", f"{min(1, least):.4f}")
    equal = stats.ttest_1samp(d, 0).confidence_interval(0.9)
    inside = math.log(0.98) < equal.low and equal.high < math.log(1.02)
    assert verdict == ("equal within 2 %" if inside else "undecided") and least > 0.05
    shown = [float(x) for x in re.findall(r"[+-]\d+\.\d", over_weeks.replace("−", "-"))]
    assert shown == pytest.approx(weeks(lip, zero), abs=0.25)


def flips(features: str) -> float:
    """Return the p of the sign flips, all of them written out."""
    lip, zero = arms(features)
    d = np.log(lip["mse"] / zero["mse"]).to_numpy()[: TESTED[features]]
    sums = np.array([*itertools.product((1, -1), repeat=len(d))]) @ d
    return float(np.mean(np.abs(sums) >= abs(d.sum()) - 1e-12))


def ours(lip: pd.DataFrame, zero: pd.DataFrame, score: str) -> list[str]:
    """Return n, the means, the change and the baselines of two arms with the same seeds."""
    n, some = len(zero), lip if zero.empty else zero
    d = np.log(lip["mse"] / zero["mse"]) if n else pd.Series(dtype=float)
    few = f"{percent(100 * math.expm1(d.mean()))} (too few seeds to tell)" if n else "-"
    means = [f"{side[score].mean():.4f}" if len(side) else "-" for side in (zero, lip)]
    baselines = [f"{some[f'{b}_{score}'].iloc[0]:.4f}" for b in ("last", "day", "ridge")]
    return [str(n), *means, ", ".join(change(np.exp(d))) if n > 2 else few, *baselines]


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


def test_across_cells_again(block):
    d = [np.log(lip["mse"] / zero["mse"]) for lip, zero in map(arms, CELLS)]
    ours = 100 * math.expm1(np.mean([one.mean() for one in d]))
    paper = 100 * math.expm1(np.mean([math.log(lip / zero) for _, zero, lip in CELLS.values()]))
    share = np.mean([(one < 0).mean() for one in d])
    expected = ["all cells (2)", "0", "2", "0", percent(paper), percent(ours), f"{share:.2f}"]
    assert block["across"][2] == expected


def test_what_is_published_again(block):
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
    runs, text = read("runs"), block["runs text"]
    assert f"{len(runs)} runs: {len(runs)} shown." in text
    assert f" {runs['wall_seconds'].sum() / 3600:.1f} core-hours" in text
    for processor, part in runs.groupby("processor"):
        assert f"{processor} ({len(part)})" in text


TRIED = {  # setting: which runs, the coefficient, the windows that are scored
    "ETTh2 S 24, MSE + 2 Lip †": ("S 0.05 3 feature", 2, "mse_drop_last"),
    "ETTh2 S 24, dropout 0": ("S 0.0 3 feature", -2, "mse"),
    "ETTh2 M 24, patience 6, MSE − 8 Lip": ("M 0.05 6 feature", -8, "mse"),
    "ETTh2 M 24, patience 6, time axis, MSE − 8 Lip": ("M 0.05 6 time", -8, "mse"),
}


def test_what_was_tried_once_again(block):
    runs = read("runs").set_index("seed").sort_index()
    assert [row[0] for row in block["explored"][2:]] == [*TRIED]
    for row in block["explored"][2:]:
        setting, c, score = TRIED[row[0]]
        features, dropout, patience, axis = setting.split()
        of_all = f"features == '{features}' and dropout == {dropout} and patience == {patience}"
        lip = runs.query(f"{of_all} and lip_coef == {c} and lip_axis == '{axis}'")
        zero = runs.query(f"{of_all} and lip_coef == 0")
        assert row[1:] == ours(lip, zero.loc[zero.index.isin(lip.index)], score)
    tried = runs.query("features == 'S' and dropout == 0.05 and lip_coef != 0 and seed < 2")
    assert tried.groupby("lip_coef")["val_mse"].mean().idxmin() == 2  # the mark
