"""Two signed coefficients c in one cell, compared by seed; and c chosen on validation.

d = ln(MSE of the first c / MSE of the second), over all test windows; shown in percent.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from paper.runs import BASELINES, CELL, PRINTED, Runs, by_cell, paper_settings
from paper.tables import PLACE, SIDES, printed, regularizer
from utils import stats
from utils.files import UserError
from utils.formats import DIGITS, Column, Table, interval, joined, percent

COMPARED = ["first", "second", "n", "change", "low", "high", "low90", "high90", "sd", "failed",
            "direction", "p", "p_complete", "smallest_p", "unlike", "print", "print_at",
            "control"]  # fmt: skip
CONTROL = 1e-5  # |c| up to here: a negative control, which measures what rounding alone does
WEEK = {"ETTm1": 672, "ETTm2": 672, "weather": 1008, "custom": 0}  # windows a week; others 168
UNLIKE = ["processor", "device", "torch", "git_commit"]


def pair(cell: pd.DataFrame, first: float, second: float) -> pd.DataFrame:
    """Pair the runs of two c by seed; cell: rows of `by_cell`, scored over all windows.

    Returns:
        Index seed; mse_first, mse_second, infinite where the run failed; d, NaN where one failed;
        unlike: what the two runs differ in beside c; run_, started_ and UNLIKE of both sides.
    """
    ended = cell.loc[cell["outcome"].isin(["ok", "failed"])].set_index("seed")
    ended["mse"] = ended["mse"].where(ended["outcome"] == "ok", math.inf)
    ended = ended[["c", "mse", "run", "started", *UNLIKE]]
    one, other = (ended.loc[ended["c"] == c] for c in (first, second))
    suffixes = ("_first", "_second")
    pairs = one.merge(other, left_index=True, right_index=True, suffixes=suffixes).sort_index()
    ratio = pairs["mse_first"] / pairs["mse_second"]
    ratio = ratio.where(ratio.between(0, math.inf, inclusive="neither"))
    pairs["d"] = ratio.map(math.log)
    pairs["unlike"] = [
        ", ".join(n for n in UNLIKE if str(row[f"{n}_first"]) != str(row[f"{n}_second"]))
        for row in pairs.to_dict("records")
    ]
    return pairs


def compare(pairs: pd.DataFrame, first: float, second: float) -> dict[str, Any]:
    """Compare the two sides of `pair`, c = first and c = second.

    Returns:
        n: complete pairs; change and its 95 % interval (low, high) and 90 % interval (low90,
        high90) in percent; sd of d; failed: the failed seeds by c, as text; direction: below 0
        where the first side is the lower: change, or with failures the pairs lost less those won;
        p, two-sided: of the sign flips on d, or with failures of the sign test that ranks a
        failed run worst; p_complete: of the sign flips in any case; smallest_p: the least for n;
        unlike: pairs whose runs differ in more than c.
    """
    d = pairs["d"].dropna().to_numpy(dtype=float)
    change, low, high = (100 * np.expm1(float(x)) for x in stats.mean_interval(d))
    _, low90, high90 = (100 * np.expm1(float(x)) for x in stats.mean_interval(d, 0.9))
    one, other = pairs[["mse_first", "mse_second"]].to_numpy(dtype=float).T
    lost = [(c, pairs.index[np.isinf(mse)]) for c, mse in ((first, one), (second, other))]
    p = float(stats.sign_flip_p(d))
    row = {
        "first": first, "second": second, "n": len(d), "change": change, "low": low, "high": high,
        "low90": low90, "high90": high90, "sd": d.std(ddof=1) if len(d) > 1 else math.nan,
        "failed": "; ".join(f"c = {c:g}: seeds {joined(seeds)}" for c, seeds in lost if len(seeds)),
        "direction": change, "p": p, "p_complete": p, "smallest_p": stats.smallest_p(len(d)),
        "unlike": int(np.sum(pairs["unlike"].to_numpy() != "")),
    }  # fmt: skip
    if row["failed"]:
        won, not_won = int(np.sum(one < other)), int(np.sum(one > other))
        row |= {"direction": not_won - won, "p": stats.sign_test_p(won, not_won)}
        row |= {"smallest_p": stats.sign_test_p(won + not_won, 0)}
    return row


def over_weeks(pairs: pd.DataFrame, data: str, runs: Runs) -> list[str]:
    """Give the interval over weeks of the test rows, the models as trained, in a sentence."""
    complete, block = pairs.dropna(subset="d"), WEEK.get(data, 168)
    if complete.empty or not block:
        return []
    try:
        first, second = (
            np.mean([runs.window_errors(run) for run in complete[side]], axis=0)
            for side in ("run_first", "run_second")
        )
    except UserError:
        return ["no errors by window, so no interval over weeks"]
    low, high = (100 * math.expm1(x) for x in stats.block_bootstrap_ratio(first, second, block))
    row = {"change": 100 * (first.mean() / second.mean() - 1), "low": low, "high": high}
    words = "over weeks of the test rows (moving blocks), models as trained, without the variation"
    return [f"{words} between seeds: {interval(row)}"]


def print_of(row: dict[Any, Any]) -> dict[str, Any]:
    """Return the printed change between two c of a cell in percent (NaN: none), its place, and k.

    k (print_runs): the runs behind each of the two printed means.
    """
    first, second, pred_len = row["first"], row["second"], row["pred_len"]
    place = tuple(row[name] for name in PLACE)
    mse, where = {}, ""
    if {first, second} <= {*SIDES.values()} and place in printed().index:
        cell = printed().loc[place]
        mse = {c: cell[f"mse_{side}"] for side, c in SIDES.items()}
        where = {"S": "Table 2", "M": "Table 5"}[row["features"]]
    elif (row["model"], row["features"], row["data"]) == ("informer", "S", "ETTh2"):
        curve = pd.read_csv(PRINTED / "figure3.csv").query(f"pred_len == {pred_len}")
        mse, where = dict(zip(-curve["lam"], curve["mse"], strict=True)), "Figure 3"
    if row.get("differs") or not {first, second} <= mse.keys():
        return {"print": math.nan, "print_at": "", "print_runs": 0}
    key = row["data"], row["features"], pred_len
    k = paper_settings(row["model"]).get(key, {}).get("itr", 1)
    return {"print": 100 * (mse[first] / mse[second] - 1), "print_at": where, "print_runs": k}


def contrasts(scored: pd.DataFrame, alike: bool = False) -> pd.DataFrame:
    """Compare every c with c = 0, and c with -c, in each cell, over all windows.

    Returns:
        One row a comparison: the cell's columns, what `compare` and `print_of` give, and control (a
        negative control). `alike` leaves out pairs whose runs differ in more than c.
    """
    rows = []
    for _, cell in by_cell(scored).groupby(CELL, sort=False):
        known = sorted(cell["c"].unique())
        asked = [(c, 0.0) for c in known if c] + [(-c, c) for c in known if c > 0 and -c in known]
        for first, second in asked:
            pairs = pair(cell, first, second)
            pairs = pairs.loc[pairs["unlike"] == ""] if alike else pairs
            if len(pairs):
                row = {**cell.iloc[0].to_dict(), **compare(pairs, first, second)}
                rows.append({**row, **print_of(row), "control": abs(first) <= CONTROL})
    return pd.DataFrame(rows, columns=[*scored.columns, *COMPARED])


def choices(scored: pd.DataFrame) -> pd.DataFrame:
    """Choose c within each sign on validation, for each seed by the other seeds.

    This describes; it tests nothing: choices made from shared seeds are not independent.

    Returns:
        One row a cell and sign with several c: the cell's columns, sign (c < 0, c > 0), tried,
        chosen (how often each c), n, the mean test MSE of the chosen (mse) and of c = 0 on the same
        seeds (mse_zero).
    """
    rows = []
    usable = scored.loc[(scored["outcome"] == "ok") & np.isfinite(scored["val_mse"].astype(float))]
    for _, cell in by_cell(usable).groupby(CELL, sort=False):
        zero = cell.loc[cell["c"] == 0].set_index("seed")["mse"]
        for sign, side in (("c < 0", cell["c"] < -CONTROL), ("c > 0", cell["c"] > CONTROL)):
            wide = cell.loc[side].pivot(index="seed", columns="c", values=["val_mse", "mse"])
            wide, tried = wide.dropna(), wide.columns.unique("c")
            if len(wide) < 2 or len(tried) < 2:
                continue
            chosen = stats.choose_by_others(wide["val_mse"])
            counts = zip(*np.unique(tried[chosen], return_counts=True), strict=True)
            rows.append({
                **cell.iloc[0].to_dict(), "sign": sign, "tried": joined(tried), "n": len(wide),
                "chosen": ", ".join(f"{c:g} ({count}x)" for c, count in counts),
                "mse": wide["mse"].to_numpy()[np.arange(len(wide)), chosen].mean(),
                "mse_zero": zero.reindex(wide.index).mean(skipna=False),
            })  # fmt: skip
    return pd.DataFrame(rows, columns=[*scored.columns, "sign", "tried", "n", "chosen", "mse_zero"])


def sentences(scored: pd.DataFrame, numbers: bool = True) -> list[str]:
    """Say in plain words, one sentence a cell, what its runs show over all windows."""
    frame, lines = contrasts(scored), []
    frame = frame.loc[(frame["second"] == 0) & ~frame["control"].astype(bool)]
    for _, cell in by_cell(scored).groupby(CELL, sort=False):
        ok = cell.loc[cell["outcome"] == "ok"]
        if ok.empty:
            continue
        row = ok.iloc[0].to_dict()
        shown = _shown(frame.loc[(frame[CELL] == cell[CELL].iloc[0]).all(axis=1)], numbers)
        name = f"{row['label']}, {regularizer(row)}" if row["axis"] else row["label"]
        scores = {words: row[f"{b}_mse"] for b, words in BASELINES.items()}
        best = min(scores, key=lambda words: np.nan_to_num(scores[words], nan=math.inf))
        model, least = ok.groupby("c")["mse"].mean().min(), scores[best]
        end = f"{best} ({least:.4f}) is better than every c (at best {model:.4f})"
        end = end if least < model else f"at best {model:.4f}, below every baseline"
        lines.append(f"{name}: {shown}; {end}.")
    return lines


def _shown(rows: pd.DataFrame, numbers: bool) -> str:
    """Say which c have an interval beside c = 0."""
    if rows.empty:
        return "nothing to compare: no seed has both c = 0 and another c"
    if max(rows["n"]) < 2 and not any(rows["failed"]):
        return "one seed with c = 0 and another c, from which nothing can be said"
    below, above, few = rows["high"] < 0, rows["low"] > 0, rows["n"] < 2
    groups = {
        "lower MSE than c = 0 with": rows.loc[below],
        "higher MSE than c = 0 with": rows.loc[above],
        "no difference from c = 0 shown for": rows.loc[~below & ~above & ~few],
        "no interval for": rows.loc[few],
    }
    said = []
    for words, part in groups.items():
        if len(part) and numbers:
            each = part.to_dict("records")
            named = [f"c = {row['first']:g} ({interval(row)}, n = {row['n']})" for row in each]
            said.append(f"{words} {', '.join(named)}")
        elif len(part):
            seeds = " to ".join(map(str, sorted({part["n"].min(), part["n"].max()})))
            said.append(f"{words} c = {joined(part['first'])} ({seeds} seeds)")
    return "; ".join([*said, *(f"failed: {text}" for text in rows["failed"] if text)])


def sides(row: dict[Any, Any]) -> str:
    """Write the two c of a comparison."""
    return f"{row['first']:g} / {row['second']:g}"


def contrast_table(frame: pd.DataFrame) -> Table:
    """Lay out the comparisons in each cell, with intervals only."""
    columns = [
        Column("cell", "label"),
        Column("regularizer", "axis", write=regularizer),
        Column("c", "first", write=sides),
        Column("n", "n"),
        Column("change, 95 % interval", "change", write=interval),
        Column("sd of ln", "sd", 3),
        Column("print", "print", write=lambda row: percent(row["print"])),
        Column("unlike", "unlike"),
        Column("", "failed", write=lambda row: row["failed"] or "control" * row["control"]),
    ]
    known = len(frame["low"].dropna())
    notes = [
        "Exploratory, apart from the hypotheses, and not corrected: of "
        f"{known} intervals about {0.05 * known:.1f} would leave out 0 by chance alone.",
        "unlike: pairs whose runs differ in processor, device, torch or commit (--alike leaves "
        "them out). control: c so small that only rounding differs.",
    ]
    return Table("Every c against 0, and against -c, all test windows", frame, columns, notes=notes)


def choice_table(frame: pd.DataFrame) -> Table:
    """Lay out what choosing c on validation gives: a description, without p and interval."""
    columns = [
        Column("cell", "label"),
        Column("regularizer", "axis", write=regularizer),
        Column("c tried", "tried"),
        Column("chosen", "chosen"),
        Column("n", "n"),
        Column("MSE", "mse", DIGITS),
        Column("MSE at c = 0", "mse_zero", DIGITS),
    ]
    note = (
        "For each seed by the validation MSE of the other seeds. A description: the chosen depend "
        "on each other, so there is no p and no interval; pilot_seeds in a hypothesis allow a test."
    )
    return Table("c chosen on validation", frame, columns, notes=[note])


def pair_tables(scored: pd.DataFrame, alike: bool = False) -> list[Table]:
    """Lay out `contrasts` and `choices`, where there are any."""
    tables = contrast_table(contrasts(scored, alike)), choice_table(choices(scored))
    return [table for table in tables if len(table.frame)]
