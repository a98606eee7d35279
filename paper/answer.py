"""Was the published change seen, how large is it, and what holds across cells: the statistics.

d = ln(MSE with Lip / MSE without) of two runs of one seed, over all test windows; where a run
failed, +inf (the one with Lip), -inf (the one without) or NaN (both). Changes are in percent:
100 * (exp(mean d) - 1), below 0 where Lip lowers the error.
"""

import bisect
import itertools
import math
import tomllib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from paper.runs import HYPOTHESES, LIP, PLACE, loss_text
from utils.formats import interval, joined, span
from utils.stats import LEVEL, mean_interval, sign_flip_p, sign_test_p, smallest_p

LOOKS = (3, 5, 8)  # pairs at which the rule looks; where a hypothesis was extended, 16 as well
LOOK_LEVEL = 1 - 0.05 / 3  # of the interval at each look
FEWEST = 3  # seeds, or cells, for an interval
TOO_FEW = "too few seeds to tell"
ENVIRONMENT = ["processor", "threads", "device", "torch", "git_commit", "git_dirty"]
SKEWED = 1.0  # |skewness| of d above which the t interval is not shown alone
DRAWS = 10_000  # bootstrap samples over cells; over the seeds of one cell five times as many


class Estimate(NamedTuple):
    """A value between the bounds of its interval; NaN stands for what there is not."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


class Verdict(NamedTuple):
    """What the rule says about the published change of one cell."""

    answer: Literal["seen", "not seen", "open"]
    look: int  # pairs at the look that decided, or at the last one taken; 0 before the first
    next_look: int | None = None  # in pairs; None if it is decided or no look is left


def pair(cell: pd.DataFrame, first: float, second: float) -> pd.DataFrame:
    """Pair the runs of two c by seed; cell: rows of `by_cell`.

    Returns mse_first and mse_second over all test windows, infinite where the run failed;
    log_ratio, infinite or NaN where one or both failed; d, NaN where one failed; mismatch: what of
    the environment the two do not share; run, started and ENVIRONMENT of both.
    """
    ended = cell.loc[cell["status"].isin(["finished", "failed"])].set_index("seed")
    good = np.isfinite(ended["mse_all"]) & (ended["status"] == "finished")
    ended = ended.assign(mse=ended["mse_all"].where(good, math.inf))
    ended = ended[["c", "mse", "run", "started", *ENVIRONMENT]]
    one, other = (ended.loc[ended["c"] == c] for c in (first, second))
    suffixes = ("_first", "_second")
    pairs = one.merge(other, left_index=True, right_index=True, suffixes=suffixes).sort_index()
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs["log_ratio"] = np.log(pairs["mse_first"] / pairs["mse_second"])
    pairs["d"] = pairs["log_ratio"].where(np.isfinite(pairs["log_ratio"]))
    pairs["mismatch"] = [environment_mismatch(row) for row in pairs.to_dict("records")]
    return pairs


def environment_mismatch(row: dict[Any, Any]) -> str:
    """Name what of the environment a pair does not share, between its runs or their sittings."""

    def unlike(name: str) -> bool:
        one, other = (str(row[f"{name}_{side}"]) for side in ("first", "second"))
        return one != other or " / " in one or (name == "git_dirty" and one == "True")

    return ", ".join(name for name in ENVIRONMENT if unlike(name))


def compare(pairs: pd.DataFrame, first: float, second: float) -> dict[str, Any]:
    """Compare the two sides of `pair`, c = first and c = second.

    Returns n (complete pairs); change with its 95 % (low, high), 90 % (low90, high90) and, where d
    is skewed, BCa interval in percent; sd of d; failed (seeds by c, as text); direction (below 0:
    the first side is lower); p, two-sided, of the sign flips on d, with failures of the sign test
    that ranks a failed run worst; smallest_p (the least for n); mismatched (pairs of unlike
    environments).
    """
    d = pairs["d"].dropna().to_numpy(dtype=float)
    n, change, bca = len(d), effect(d), bca_interval(d)
    within = _change(d, 0.9) if n >= FEWEST else Estimate()
    row = {
        "first": first, "second": second, "n": n, "change": change.value,
        "low": change.low, "high": change.high, "low90": within.low, "high90": within.high,
        "bca_low": bca.low, "bca_high": bca.high, "sd": d.std(ddof=1) if n > 1 else math.nan,
        "failed": "", "direction": change.value, "p": float(sign_flip_p(d)),
        "smallest_p": smallest_p(n), "mismatched": int(np.count_nonzero(pairs["mismatch"] != "")),
    }  # fmt: skip
    one, other = pairs[["mse_first", "mse_second"]].to_numpy(dtype=float).T
    if np.isinf([one, other]).any():
        lost = [(c, pairs.index[np.isinf(mse)]) for c, mse in ((first, one), (second, other))]
        failed = [f"{loss_text(c)}: seeds {joined(seeds)}" for c, seeds in lost if len(seeds)]
        won, not_won = int(np.sum(one < other)), int(np.sum(one > other))
        row |= {"failed": "; ".join(failed), "direction": not_won - won}
        row |= {"p": sign_test_p(won, not_won), "smallest_p": sign_test_p(won + not_won, 0)}
    return row


def estimate(row: dict[Any, Any]) -> str:
    """Write a change with its 95 % intervals, or that there are too few seeds for one."""
    beside = f" ({TOO_FEW})" if 0 < row["n"] < FEWEST and not pd.isna(row["change"]) else ""
    if not pd.isna(row["bca_low"]):
        beside = f" (BCa {span(row['bca_low'], row['bca_high'])})"
    return interval(row["change"], row["low"], row["high"]) + beside


def judge(d: ArrayLike, published: float, looks: Sequence[int] = LOOKS) -> Verdict:
    """Say whether the published change was seen, by the first of the looks that decides.

    d [n] is in the order of the seeds, none left out between two of them; published is the
    published log ratio. "seen": the interval lies wholly on the side of the published change from
    half of it; "not seen": wholly on the side of 0; else "open". Pairs between two looks wait for
    the next. Every look that contains a failed pair is open, as no interval can hold it.
    """
    if not math.isfinite(published) or published == 0:
        raise ValueError(f"a published log ratio of {published} has no two sides")
    d, half, look = np.asarray(d, dtype=float), 100 * math.expm1(published / 2), 0
    for look in (n for n in looks if n <= len(d)):
        change = _change(d[:look], LOOK_LEVEL)
        if (above := change.low > half) or change.high < half:
            return Verdict("seen" if above == (published > 0) else "not seen", look)
    return Verdict("open", look, next((n for n in looks if n > len(d)), None))


def rule(cell: pd.DataFrame, published_change: float, first: int = 0) -> tuple[str, list[int]]:
    """Say whether a published change (percent) was seen, and which seeds the next look lacks.

    Pairs count in the order of the seeds: one that is begun with Lip and no pair yet holds up those
    after it. A cell without runs begins with the seed first.
    """
    d, begun = (
        pair(cell, LIP, 0.0)["log_ratio"],
        sorted(map(int, cell.loc[cell["c"] == LIP, "seed"])),
    )
    waiting = [seed for seed in begun if seed not in d.index]
    d = d.loc[[*itertools.takewhile(lambda seed: seed not in waiting, begun)]].to_numpy()
    extended = len(d) >= max(LOOKS) and _extended(cell.iloc[0], d[: max(LOOKS)])
    found = judge(d, math.log1p(published_change / 100), (*LOOKS, 16) if extended else LOOKS)
    missing = max((found.next_look or 0) - len(begun) + len(waiting), bool(waiting))
    after = itertools.count(begun[-1] + 1 if begun else first)
    seeds = itertools.islice(itertools.chain(waiting, after), missing if found.next_look else 0)
    return found.answer, [*seeds]


def _extended(cell: pd.Series, d: np.ndarray) -> bool:
    """Tell whether a hypothesis on this cell was extended for the scatter of its first pairs."""
    body = tomllib.loads(HYPOTHESES.read_text(encoding="utf-8"))
    key = {name: cell[name] for name in PLACE} | {"amp": cell["amp"], "lip_axis": cell["axis"]}
    key |= {"first": LIP, "second": 0.0}
    named = any(key.items() <= one.items() for one in body["hypothesis"])
    return bool(named and np.isfinite(d).all() and d.std(ddof=1) > body["extend_above"])


def effect(d: np.ndarray) -> Estimate:
    """Estimate the change in one cell with its 95 % t interval, from three pairs on."""
    change = _change(d, LEVEL)
    return change if len(d) >= FEWEST else Estimate(change.value)


def bca_interval(d: np.ndarray) -> Estimate:
    """Estimate the change with its 95 % BCa bootstrap interval; nothing where d is not skewed."""
    if len(d) < FEWEST or np.ptp(d) <= 1e-9 or abs(stats.skew(d)) <= SKEWED:
        return Estimate()
    found = stats.bootstrap(
        (d,), np.mean, n_resamples=5 * DRAWS, confidence_level=LEVEL, method="BCa", rng=0
    )
    return Estimate(*_percent([d.mean(), *found.confidence_interval]))


def equivalence_power(n: int, sd: float, margin: float) -> float:
    """Return the power of the two one-sided 5 % t tests (TOST) if Lip changes nothing.

    That is how often the 90 % t interval of n pairs, whose d has the true standard deviation sd,
    lies inside ±margin (relative: 0.02).
    """
    chi2 = stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, n - 1)  # integrates over the sample's sd
    half = stats.t.ppf(0.95, n - 1) * np.sqrt(chi2 / (n - 1))  # of the interval, in standard errors
    error = max(sd, 1e-12) / math.sqrt(n)
    low, high = math.log1p(-margin) / error + half, math.log1p(margin) / error - half
    return float(np.maximum(stats.norm.cdf(high) - stats.norm.cdf(low), 0).mean())


def equivalence_seeds(sd: float, margin: float, power: float = 0.8) -> int:
    """Return the fewest pairs with which `equivalence_power` reaches power."""
    sizes = range(2, 1_000_000)
    return sizes[bisect.bisect_left(sizes, power, key=lambda n: equivalence_power(n, sd, margin))]


def two_level_interval(first: ArrayLike, second: ArrayLike, block: int) -> Estimate:
    """Return ln(mean first / mean second) in percent, over other seeds and other weeks.

    Errors are [n seeds, windows in the order of time]. Each bootstrap sample draws seeds, and
    moving blocks of windows that all its seeds share. No bounds with fewer than three seeds or two
    blocks.
    """
    both = np.stack([np.asarray(first, dtype=float), np.asarray(second, dtype=float)])
    _, n, windows = both.shape
    value = 100 * float(both[0].mean() / both[1].mean() - 1)
    if n < FEWEST or windows < 2 * block:
        return Estimate(value)
    sums = np.cumsum(np.pad(both, ((0, 0), (0, 0), (1, 0))), axis=2)
    blocks = np.moveaxis(sums[..., block:] - sums[..., :-block], 2, 0)  # [starts, 2, n]
    draw = np.random.default_rng(0)
    starts = draw.integers(len(blocks), size=(windows // block, 5 * DRAWS))
    totals = sum(blocks[one] for one in starts)  # [draws, 2, n]
    seeds = draw.multinomial(n, np.full(n, 1 / n), size=5 * DRAWS)
    means = np.einsum("dsn,dn->sd", totals, seeds)
    return Estimate(value, *_percent(_widened(np.log(means[0] / means[1]), n)))


def across_cells(d: Sequence[ArrayLike], published: ArrayLike) -> tuple[Estimate, ...]:
    """Summarise all cells; bootstrap samples draw cells, and seeds within each cell drawn.

    d holds the log ratios of each cell, published the published ones. Returns the mean over cells
    of the published change and of ours, in percent, over cells with a complete pair; and the mean
    share of pairs in which the run with Lip has the lower MSE: ties, and pairs in which both runs
    failed, count 1/2; a run that failed alone loses. No bounds with fewer than three cells.
    """
    every = [np.asarray(one, dtype=float) for one in d]
    complete = [one[np.isfinite(one)] for one in every]
    theirs = np.asarray(published, dtype=float)[[len(one) > 0 for one in complete]]
    logs = theirs[:, None], [one for one in complete if len(one)]
    wins = [(one < 0) + 0.5 * ((one == 0) | np.isnan(one)) for one in every if len(one)]
    return (*(Estimate(*_percent(_over_cells(x))) for x in logs), Estimate(*_over_cells(wins)))


def _over_cells(cells: Sequence[np.ndarray] | np.ndarray) -> list[float]:
    mean = float(np.mean([one.mean() for one in cells])) if len(cells) else math.nan
    if len(cells) < FEWEST:
        return [mean, math.nan, math.nan]
    sizes = np.array([len(one) for one in cells])
    padded = np.stack([np.pad(one, (0, sizes.max() - len(one))) for one in cells])
    draw = np.random.default_rng(0)
    chosen = draw.integers(len(cells), size=(DRAWS, len(cells)))
    n = sizes[chosen][..., None]  # [DRAWS, cells, 1]
    seeds = draw.integers(n, size=(*chosen.shape, sizes.max()))
    drawn = padded[chosen[..., None], seeds] * (np.arange(sizes.max()) < n) / n
    return [mean, *_widened(drawn.sum(axis=2).mean(axis=1), len(cells))]


def _widened(samples: np.ndarray, n: int) -> list[float]:
    """Return the percentiles of bootstrap samples, widened for few (n) seeds or cells.

    Hesterberg (2015): as far out as the t interval. Plain ones hold the truth 91 instead of 95
    times in 100 with n = 8, and 76 with n = 3.
    """
    tail = stats.norm.cdf(-stats.t.ppf((1 + LEVEL) / 2, n - 1) * math.sqrt(n / (n - 1)))
    return np.quantile(samples, [tail, 1 - tail]).tolist()


def _change(d: np.ndarray, level: float) -> Estimate:
    """Return the mean change with its t interval in percent; nothing if a d is not finite."""
    return Estimate(*_percent(mean_interval(d, level))) if np.isfinite(d).all() else Estimate()


def _percent(logs: ArrayLike) -> list[float]:
    return (100 * np.expm1(np.asarray(logs, dtype=float))).tolist()
