"""Was the published change seen, how large is it, and what holds across cells: the statistics.

d = ln(MSE with Lip / MSE without) of two runs of one seed, over all test windows; where a run
failed, +inf (the one with Lip), -inf (the one without) or NaN (both). Changes are in percent:
100 * (exp(mean d) - 1), below 0 where Lip lowers the error.
"""

import bisect
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from paper.runs import loss_text
from utils.formats import interval, joined
from utils.stats import LEVEL, mean_interval, sign_flip_p, sign_test_p, smallest_p

LOOKS = (3, 5, 8)  # pairs at which the rule looks; where a hypothesis was extended, 16 as well
LOOK_LEVEL = 1 - 0.05 / 3  # of the interval at each look
FEWEST = 3  # seeds, or cells, for an interval
TOO_FEW = "too few seeds to tell"
ENVIRONMENT = ["processor", "threads", "device", "torch", "git_commit", "git_dirty"]
SKEWED = 1.0  # |skewness| of d above which the t interval is not shown alone
DRAWS = 10_000  # bootstrap samples over cells; over the seeds of one cell five times as many
FAILED_RUN = (  # of the named hypotheses' verdicts; under the rule for the print see `judge`
    "With one failed run in 8 pairs no verdict on the size of an effect can be reached, and one on "
    "its direction only if the side that failed is the worse one in all 7 other pairs as well."
)


class Estimate(NamedTuple):
    """A value between the bounds of its interval; NaN stands for what there is not."""

    value: float
    low: float
    high: float


class Verdict(NamedTuple):
    """What the rule says about the published change of one cell."""

    answer: Literal["seen", "not seen", "open"]
    look: int  # pairs at the look that decided, or at the last one taken; 0 before the first
    change: Estimate  # percent, at that look, with its interval
    next_look: int | None = None  # in pairs; None if it is decided or no look is left
    missing: int = 0  # pairs still to be run for the next look


class Effect(NamedTuple):
    """How large the change in one cell is, on its complete pairs."""

    change: Estimate  # percent, with the 95 % t interval
    bca: Estimate  # the same change with the 95 % BCa bootstrap interval, where d is skewed
    n: int  # complete pairs
    sd: float  # of d
    skewness: float  # of d
    note: str = ""  # TOO_FEW where it is so


class AllCells(NamedTuple):
    """What holds across cells."""

    counts: dict[str, int]  # cells by answer
    ours: Estimate  # percent: the mean over cells of mean d
    published: Estimate  # percent: the mean over the same cells of the published log ratio
    improvement: Estimate  # probability that Lip has the lower MSE


NOTHING = Estimate(math.nan, math.nan, math.nan)


def pair(cell: pd.DataFrame, first: float, second: float) -> pd.DataFrame:
    """Pair the runs of two c by seed; cell: rows of `by_cell`.

    Returns:
        Index seed; mse_first, mse_second, over all test windows, infinite where the run failed;
        log_ratio, infinite or NaN where one or both failed; d, NaN where one failed; mismatch:
        what of the environment the two do not share; run_, started_ and ENVIRONMENT of both.
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

    Returns:
        n: complete pairs; change and its 95 % interval (low, high), 90 % interval (low90, high90)
        and, where d is skewed, BCa interval (bca_low, bca_high) in percent; sd of d; failed: the
        failed seeds by c, as text; direction: below 0 where the first side is the lower: change,
        or with failures the pairs lost less those won; p, two-sided: of the sign flips on d, or
        with failures of the sign test that ranks a failed run worst; p_complete: of the sign flips
        in any case; smallest_p: the least for n; mismatched: pairs of unlike environments.
    """
    d = pairs["d"].dropna().to_numpy(dtype=float)
    found = effect(d)
    bounds = mean_interval(d, 0.9)[1:] if found.n >= FEWEST else (math.nan, math.nan)
    low90, high90 = (100 * np.expm1(float(x)) for x in bounds)
    one, other = pairs[["mse_first", "mse_second"]].to_numpy(dtype=float).T
    lost = [(c, pairs.index[np.isinf(mse)]) for c, mse in ((first, one), (second, other))]
    p = float(sign_flip_p(d))
    row = {
        "first": first, "second": second, "n": found.n, "change": found.change.value,
        "low": found.change.low, "high": found.change.high, "low90": low90, "high90": high90,
        "bca_low": found.bca.low, "bca_high": found.bca.high, "sd": found.sd,
        "failed": "; ".join(f"{loss_text(c)}: seeds {joined(s)}" for c, s in lost if len(s)),
        "direction": found.change.value, "p": p, "p_complete": p,
        "smallest_p": smallest_p(found.n),
        "mismatched": int(np.count_nonzero(pairs["mismatch"] != "")),
    }  # fmt: skip
    if row["failed"]:
        won, not_won = int(np.sum(one < other)), int(np.sum(one > other))
        row |= {"direction": not_won - won, "p": sign_test_p(won, not_won)}
        row |= {"smallest_p": sign_test_p(won + not_won, 0)}
    return row


def estimate(row: dict[Any, Any]) -> str:
    """Write a change with its 95 % interval, or that there are too few seeds for one."""
    few = 0 < row["n"] < FEWEST and not pd.isna(row["change"])
    return f"{interval(row)}{f' ({TOO_FEW})' * few}"


def judge(d: ArrayLike, published: float, looks: Sequence[int] = LOOKS) -> Verdict:
    """Say whether the published change was seen, by the first look that decides.

    "seen": the interval lies wholly on the side of the published change from half of it; "not
    seen": wholly on the side of 0; else "open". A failed pair counts as a pair, but no interval can
    hold it: every look that contains it is open.

    Args:
        d: log ratios [n] in the order of the seeds, none left out between two of them.
        published: the published log ratio, not 0.
        looks: numbers of pairs, ascending; pairs between two looks wait for the next.
    """
    if not math.isfinite(published) or published == 0:
        raise ValueError(f"a published log ratio of {published} has no two sides")
    d, half = np.asarray(d, dtype=float), 100 * math.expm1(published / 2)
    look, change = 0, NOTHING
    for look in (n for n in looks if n <= len(d)):
        change = _change(d[:look], LOOK_LEVEL)
        if (above := change.low > half) or change.high < half:
            return Verdict("seen" if above == (published > 0) else "not seen", look, change)
    ahead = next((n for n in looks if n > len(d)), None)
    return Verdict("open", look, change, ahead, ahead - len(d) if ahead else 0)


def effect(d: ArrayLike) -> Effect:
    """Estimate the change in one cell; where |skewness| of d exceeds 1, with BCa bounds as well.

    Args:
        d: log ratios [n]; those that are not finite are left out.
    """
    d = _finite(d)
    change, n = _change(d, LEVEL), len(d)
    sd = float(d.std(ddof=1)) if n > 1 else math.nan
    if n < FEWEST:
        return Effect(NOTHING._replace(value=change.value), NOTHING, n, sd, math.nan, TOO_FEW)
    skewness = float(stats.skew(d)) if np.ptp(d) > 1e-9 else 0.0  # of three at most 0.71
    if abs(skewness) <= SKEWED:
        return Effect(change, NOTHING, n, sd, skewness)
    found = stats.bootstrap(
        (d,), np.mean, n_resamples=5 * DRAWS, confidence_level=LEVEL, method="BCa", rng=0
    )
    bca = Estimate(change.value, *_percent(found.confidence_interval))
    return Effect(change, bca, n, sd, skewness)


def equivalence_power(n: int, sd: float, margin: float) -> float:
    """Return the power of the two one-sided 5 % t tests (TOST) if Lip changes nothing.

    That is how often the 90 % t interval of the change then lies inside ±margin.

    Args:
        n: pairs, at least 2.
        sd: true standard deviation of normal d.
        margin: relative change that counts as none, e.g. 0.02.
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

    Each bootstrap sample draws seeds, and moving blocks of windows that all its seeds share. No
    bounds with fewer than three seeds or two blocks.

    Args:
        first, second: errors of complete pairs [n seeds, windows], windows in the order of time.
        block: windows a block; a week's.
    """
    both = np.stack([np.asarray(first, dtype=float), np.asarray(second, dtype=float)])
    _, n, windows = both.shape
    value = 100 * float(both[0].mean() / both[1].mean() - 1)
    if n < FEWEST or windows < 2 * block:
        return NOTHING._replace(value=value)
    sums = np.cumsum(np.pad(both, ((0, 0), (0, 0), (1, 0))), axis=2)
    blocks = np.moveaxis(sums[..., block:] - sums[..., :-block], 2, 0)  # [starts, 2, n]
    draw = np.random.default_rng(0)
    starts = draw.integers(len(blocks), size=(windows // block, 5 * DRAWS))
    totals = sum(blocks[one] for one in starts)  # [draws, 2, n]
    seeds = draw.multinomial(n, np.full(n, 1 / n), size=5 * DRAWS)
    means = np.einsum("dsn,dn->sd", totals, seeds)
    return Estimate(value, *_percent(_widened(np.log(means[0] / means[1]), n)))


def across_cells(d: Sequence[ArrayLike], published: ArrayLike, answers: Sequence[str]) -> AllCells:
    """Summarise all cells; bootstrap samples draw cells, and seeds within each cell drawn.

    The probability of improvement is that of pairs: the mean over cells of the share of pairs in
    which the run with Lip has the lower MSE. Ties, and pairs in which both runs failed, count 1/2;
    a run that failed alone loses. No bounds with fewer than three cells.

    Args:
        d: log ratios [n] of each cell; one without a complete pair is not in the two means of logs.
        published: published log ratios [cells].
        answers: of `judge` [cells].
    """
    every = [np.asarray(one, dtype=float) for one in d]
    complete = [len(_finite(one)) > 0 for one in every]
    theirs = np.asarray(published, dtype=float)[complete]
    wins = [(one < 0) + 0.5 * ((one == 0) | np.isnan(one)) for one in every if len(one)]
    return AllCells(
        counts={answer: list(answers).count(answer) for answer in ("seen", "not seen", "open")},
        ours=Estimate(*_percent(_over_cells([x for x in map(_finite, every) if len(x)]))),
        published=Estimate(*_percent(_over_cells(theirs[:, None]))),
        improvement=Estimate(*_over_cells(wins)),
    )


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
    return Estimate(*_percent(mean_interval(d, level))) if np.isfinite(d).all() else NOTHING


def _finite(d: ArrayLike) -> np.ndarray:
    d = np.asarray(d, dtype=float)
    return d[np.isfinite(d)]


def _percent(logs: ArrayLike) -> list[float]:
    return (100 * np.expm1(np.asarray(logs, dtype=float))).tolist()
