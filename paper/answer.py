"""Was the published change seen, and how large is it: the statistics of one cell.

d = ln(MSE with Lip / MSE without) of two runs of one seed, over all test windows; where a run
failed, +inf (the one with Lip), -inf (the one without) or NaN (both). Changes are in percent:
100 * (exp(mean d) - 1), below 0 where Lip lowers the error.
"""

import itertools
import math
import tomllib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from paper.runs import HYPOTHESES, LIP, PLACE, loss_text
from utils.formats import change, joined
from utils.stats import sign_flip_p, sign_test_p, smallest_p

LOOKS = (3, 5, 8)  # pairs at which the rule looks; where a hypothesis was extended, 16 as well
LOOK_LEVEL = 1 - 0.05 / 3  # of the interval at each look
LEVEL = 0.95  # of the intervals shown
FEWEST = 3  # seeds, or cells, for an interval
ENVIRONMENT = ["processor", "threads", "device", "torch", "git_commit", "git_dirty"]
DRAWS = 50_000  # bootstrap samples


class Estimate(NamedTuple):
    """A value between the bounds of its interval; NaN stands for what there is not."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


def pair(cell: pd.DataFrame, first: float, second: float) -> pd.DataFrame:
    """Pair the runs of two c by seed; cell: rows of `by_cell`.

    Returns mse_first and mse_second over all test windows, infinite where the run failed;
    log_ratio, infinite or NaN where one or both failed; d, NaN where one failed; mismatch: whether
    the two were not made in one environment, from one clean commit; run and ENVIRONMENT of both.
    """
    ended = cell.loc[cell["status"].isin(["finished", "failed"])].set_index("seed")
    good = np.isfinite(ended["mse_all"]) & (ended["status"] == "finished")
    ended = ended.assign(mse=ended["mse_all"].where(good, math.inf))
    ended = ended[["c", "mse", "run", *ENVIRONMENT]]
    one, other = (ended.loc[ended["c"] == c] for c in (first, second))
    suffixes = ("_first", "_second")
    pairs = one.merge(other, left_index=True, right_index=True, suffixes=suffixes).sort_index()
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs["log_ratio"] = np.log(pairs["mse_first"] / pairs["mse_second"])
    pairs["d"] = pairs["log_ratio"].where(np.isfinite(pairs["log_ratio"]))
    made = [pairs[[f"{name}{end}" for name in ENVIRONMENT]].to_numpy(dtype=str) for end in suffixes]
    alike = (made[0] == made[1]) & (np.char.find(made[0], " / ") < 0)  # " / ": sittings differ
    pairs["mismatch"] = ~alike.all(axis=1) | (made[0][:, -1] == "True")  # a dirty checkout
    return pairs


def compare(pairs: pd.DataFrame, first: float, second: float) -> dict[str, Any]:
    """Compare the two sides of `pair`, c = first and c = second.

    Returns n (complete pairs); change with its 95 % (low, high) and 90 % (low90, high90) interval
    in percent; sd of d; failed (seeds by c, as text); direction (below 0: the first side is lower);
    p, two-sided, of the sign flips on d, with failures of the sign test that ranks a failed run
    worst; smallest_p (the least for n); mismatched (pairs of unlike environments).
    """
    d = pairs["d"].dropna().to_numpy(dtype=float)
    n, found, within = len(d), effect(d), effect(d, 0.9)
    row = {
        "first": first, "second": second, "n": n, "change": found.value,
        "low": found.low, "high": found.high, "low90": within.low, "high90": within.high,
        "sd": d.std(ddof=1) if n > 1 else math.nan, "failed": "", "direction": found.value,
        "p": sign_flip_p(d), "smallest_p": smallest_p(n),
        "mismatched": int(np.count_nonzero(pairs["mismatch"])),
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
    """Write a change with its 95 % interval, or that there are too few seeds for one."""
    few = pd.notna(row["change"]) and row["n"] < FEWEST
    return change(row["change"], row["low"], row["high"]) + " (too few seeds to tell)" * few


def judge(d: ArrayLike, published: float, looks: Sequence[int] = LOOKS) -> tuple[str, int | None]:
    """Say whether the published change was seen, by the first of the looks that decides.

    d [n] is in the order of the seeds, none left out between two of them; published is the
    published log ratio. "seen": the interval lies wholly on the side of the published change from
    half of it; "not seen": wholly on the side of 0; else "open", with the pairs of the next look
    (None: none is left). Every look that contains a failed pair is open, as no interval can hold
    it.
    """
    d, half = np.asarray(d, dtype=float), 100 * math.expm1(published / 2)
    for look in (n for n in looks if n <= len(d)):
        found = effect(d[:look], LOOK_LEVEL)
        if (above := found.low > half) or found.high < half:
            return "seen" if above == (published > 0) else "not seen", None
    return "open", next((n for n in looks if n > len(d)), None)


def rule(cell: pd.DataFrame, published_change: float, first: int = 0) -> tuple[str, list[int]]:
    """Say whether a published change (percent) was seen, and which seeds the next look lacks.

    Pairs count in the order of the seeds: one that is begun with Lip and no pair yet holds up those
    after it. A cell without runs begins with the seed first.
    """
    d, begun = pair(cell, LIP, 0.0)["log_ratio"], sorted(cell.loc[cell["c"] == LIP, "seed"])
    waiting = [int(seed) for seed in begun if seed not in d.index]
    d = d.loc[[*itertools.takewhile(lambda seed: seed not in waiting, begun)]].to_numpy()
    extended = len(d) >= max(LOOKS) and _extended(cell.iloc[0], d[: max(LOOKS)])
    looks = (*LOOKS, 16) if extended else LOOKS
    answer, next_look = judge(d, math.log1p(published_change / 100), looks)
    if not next_look:
        return answer, []
    missing = max(next_look - len(begun) + len(waiting), bool(waiting))
    after = itertools.count(int(begun[-1]) + 1 if begun else first)
    return answer, [*itertools.islice(itertools.chain(waiting, after), missing)]


def _extended(cell: pd.Series, d: np.ndarray) -> bool:
    """Tell whether a hypothesis on this cell was extended for the scatter of its first pairs."""
    body = tomllib.loads(HYPOTHESES.read_text(encoding="utf-8"))
    key = {name: cell[name] for name in PLACE} | {"amp": cell["amp"], "lip_axis": cell["axis"]}
    key |= {"first": LIP, "second": 0.0}
    named = any(key.items() <= one.items() for one in body["hypothesis"])
    return bool(named and np.isfinite(d).all() and d.std(ddof=1) > body["extend_above"])


def effect(d: np.ndarray, level: float = LEVEL) -> Estimate:
    """Estimate the change with its t interval, from three pairs on; NaN if a d is not finite."""
    n = len(d)
    if not n or not np.isfinite(d).all():
        return Estimate()
    half = stats.t.ppf((1 + level) / 2, n - 1) * d.std(ddof=1) / math.sqrt(n) if n > 2 else math.nan
    return Estimate(*_percent(d.mean() + np.array([0, -half, half])))


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
    starts = draw.integers(len(blocks), size=(windows // block, DRAWS))
    totals = sum(blocks[one] for one in starts)  # [draws, 2, n]
    seeds = draw.multinomial(n, np.full(n, 1 / n), size=DRAWS)
    means = np.einsum("dsn,dn->sd", totals, seeds)
    # Hesterberg (2015): as far out as the t interval. Plain percentiles hold the truth 91 instead
    # of 95 times in 100 with n = 8, and 76 with n = 3.
    tail = stats.norm.cdf(-stats.t.ppf((1 + LEVEL) / 2, n - 1) * math.sqrt(n / (n - 1)))
    return Estimate(value, *_percent(np.quantile(np.log(means[0] / means[1]), [tail, 1 - tail])))


def _percent(logs: ArrayLike) -> list[float]:
    return (100 * np.expm1(np.asarray(logs, dtype=float))).tolist()
