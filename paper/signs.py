"""python -m paper.signs: does the regularizer help, with which sign, and is it real?"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paper import answer
from paper import runs as records
from paper.answer import compare, estimate, pair
from paper.hypotheses import HYPOTHESES, Hypothesis, Preregistration, read_hypotheses
from paper.published import published_change
from paper.runs import CELL, Runs, by_cell, loss_text, regularizer, select_metrics
from utils.files import UserError
from utils.formats import Column, Table, interval, joined, percent, span, write_out
from utils.output import run_command
from utils.stats import holm

ALPHA = 0.05
UNDECIDED = "undecided"
BLINDED = ("change", "low", "high", "low90", "high90", "bca_low", "bca_high", "direction", "p",
           "p_complete", "p_holm", "weeks_low", "weeks_high")  # fmt: skip
COMPARED = ("first", "second", "n", "change", "low", "high", "sd", "failed", "mismatched",
            "published_change")  # fmt: skip


def contrasts(scored: pd.DataFrame, same_environment: bool = False) -> pd.DataFrame:
    """Compare every c with c = 0, and c with -c, in each cell, over all windows.

    Returns:
        One row a comparison: the cell's columns, what `compare` and `published_change` give.
        `same_environment` leaves out pairs whose environments differ.
    """
    rows = []
    for _, cell in by_cell(scored).groupby(CELL, sort=False, dropna=False):
        known = sorted(cell["c"].unique())
        sides = [(c, 0.0) for c in known if c] + [(-c, c) for c in known if c > 0 and -c in known]
        for first, second in sides:
            pairs = pair(cell, first, second)
            pairs = pairs.loc[pairs["mismatch"] == ""] if same_environment else pairs
            if len(pairs):
                row = cell.iloc[0].to_dict()
                rows.append({**row, **compare(pairs, first, second)})
                rows[-1] |= published_change(row, first, second)
    return pd.DataFrame(rows, columns=None if rows else [*scored.columns, *COMPARED])


def verdicts(runs: Runs, named: Preregistration, same_environment: bool = False) -> pd.DataFrame:
    """Test what was named beforehand, Holm-corrected over all that was named.

    A hypothesis whose seeds are not complete stays in the family with p = 1. `same_environment`
    leaves out pairs whose environments differ.

    Returns:
        One row a hypothesis: its fields, what `compare` (NaN before its seeds are complete) and
        `published_change` give, label (the cell), seeds (tested, as text), state ("" when they are
        complete), p_holm, threshold (Holm's for p), verdict, power_seeds (pairs for 80 % power of
        the equivalence test if the truth is 0), weeks_low and weeks_high (interval over seeds and
        weeks together), and notes (a list).
    """
    frame = by_cell(select_metrics(runs.frame, "all"))
    rows = [_test(one, named, frame, runs, same_environment) for one in named.family]
    adjusted, factors = holm([1.0 if row["state"] else row["p"] for row in rows])
    for row, p_holm, factor in zip(rows, adjusted, factors, strict=True):
        row |= {"p_holm": p_holm, "threshold": ALPHA / factor}
        row["verdict"] = row["state"] or classify(row, named.margin)
        if not row["state"] and row["smallest_p"] > row["threshold"]:
            row["notes"].append(f"so few pairs cannot reach p ≤ {row['threshold']:.4f}")
        row.update(dict.fromkeys(BLINDED if row["state"] else (), math.nan))
    return pd.DataFrame(rows)


def classify(row: dict[str, Any], margin: float) -> str:
    """Give the verdict on a complete row of `verdicts`, as paper/hypotheses.toml defines it."""
    limit = 100 * margin
    if row["smallest_p"] > row["threshold"]:
        return UNDECIDED
    if not row["failed"] and -limit < row["low90"] and row["high90"] < limit:
        return f"equal within {limit:g} %"
    if row["p_holm"] > ALPHA:
        return UNDECIDED
    word = "better" if row["direction"] < 0 else "worse"
    if not row["failed"] and (row["high"] < -limit or row["low"] > limit):
        return f"{word} by at least {limit:g} %"
    return f"{word}, by how much is open"


def _test(
    one: Hypothesis, named: Preregistration, frame: pd.DataFrame, runs: Runs, same: bool
) -> dict[str, Any]:
    """Compare one hypothesis' two sides on its seeds, on the device of the cell's first run."""
    every = cell_runs(one, frame)
    cell = every.loc[every["results_version"] == every["results_version"].max()]
    kinds = [*cell.sort_values("started")["kind"].unique()] or ["cpu"]
    pairs, *again = (pair(cell.loc[cell["kind"] == kind], one.first, one.second) for kind in kinds)
    seeds, state = _seeds_asked(pairs, one.seeds[kinds[0]], named.extend_above)
    if len({*cell["setting_id"]}) > 1:
        state = f"undecided: several settings fit ({'; '.join(cell['label'].unique())})"
    tested = pairs.loc[pairs.index.isin(seeds)]
    kept = tested.loc[tested["mismatch"] == ""] if same else tested
    row = {**asdict(one), **compare(kept, one.first, one.second), "state": state}
    row |= {"label": f"{one.data} {one.features} {one.pred_len}, {one.lip_axis} axis"}
    row |= {"seeds": joined(kept.index), **published_change(row, one.first, one.second)}
    row["power_seeds"] = answer.equivalence_seeds(row["sd"], named.margin) if row["n"] > 1 else 0
    row |= {"weeks_low": math.nan, "weeks_high": math.nan}
    notes = []
    if len(every) > len(cell):
        notes.append(f"{len(every) - len(cell)} runs of earlier results versions left out")
    if len(pairs) > len(tested):
        other = joined(pairs.index.difference(tested.index))
        notes.append(f"seeds not named, left out: {other}")
    if row["failed"]:
        complete = f"; on complete pairs: {interval(row)}, p = {row['p_complete']:.4f}"
        complete *= not state and row["n"] > 1
        notes.append(f"failed, ranked worst in a sign test: {row['failed']}{complete}")
    notes += _marks(tested, "left out" if same else "kept", named.since.get(one.name))
    if not state and row["n"]:
        try:
            row |= over_weeks(kept.dropna(subset="d"), cell.iloc[0].to_dict(), runs)
        except UserError:
            notes.append("no errors by window, so no interval over weeks")
    for kind, other in zip(kinds[1:], again, strict=True):
        found = compare(other, one.first, one.second)
        failed = f", failed: {found['failed']}" * bool(found["failed"])
        words = f"replication on {kind}: {interval(found)}, n = {found['n']}{failed}"
        notes += [words] * (len(other) > 0)
    return row | {"notes": notes}


def over_weeks(pairs: pd.DataFrame, row: dict[Any, Any], runs: Runs) -> dict[str, float]:
    """Return the interval of the change over seeds and weeks together, in percent."""
    first, second = (
        [runs.window_errors(run) for run in pairs[side]] for side in ("run_first", "run_second")
    )
    if not (block := runs.windows_a_week(row)):
        return {}
    found = answer.two_level_interval(first, second, block)
    return {"weeks_low": found.low, "weeks_high": found.high}


def _marks(tested: pd.DataFrame, fate: str, since: datetime | None) -> Iterator[str]:
    """Say which pairs are of unlike environments, their fate, and which runs began too early."""
    if unlike := [names for names in tested["mismatch"] if names]:
        names = ", ".join(sorted({*", ".join(unlike).split(", ")}))
        yield f"{len(unlike)} of {len(tested)} pairs differ in {names}: {fate}"
    started = [*tested["started_first"], *tested["started_second"]]
    if early := sum(datetime.fromisoformat(text) < since for text in started if since):
        yield f"{early} of {len(started)} runs began before the hypothesis was committed"


def cell_runs(one: Hypothesis, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of a hypothesis' cell at the paper's settings."""
    same = (frame["data"] == one.data) | (frame["dataset"] == one.data)
    for name in ("model", "features", "pred_len", "amp"):
        same &= frame[name] == getattr(one, name)
    same &= (frame["overrides"] == "") & frame["axis"].isin([one.lip_axis, ""])
    cell = frame.loc[same & frame["norm"].isin([one.lip_norm, ""])]
    cell = cell.loc[cell["c"].isin([one.first, one.second])]
    return cell.assign(kind=np.where(cell["device"].fillna("cpu") == "cpu", "cpu", "cuda"))


def _seeds_asked(pairs: pd.DataFrame, seeds: list[int], limit: float) -> tuple[list[int], str]:
    """Return the seeds that a hypothesis now asks for, and "" or what they still lack."""
    done = pairs.index.isin(seeds).sum()
    if done < len(seeds):
        return seeds, f"in progress: {done} of {len(seeds)} seeds" if done else "no runs"
    sd = pairs.loc[pairs.index.isin(seeds), "d"].std()  # of several settings no seed may be whole
    if not sd > limit:
        return seeds, ""
    more = [max(seeds) + 1 + i for i in range(len(seeds))]
    done = pairs.index.isin(more).sum()
    words = f"to be extended, sd of d {sd:.3f} above {limit:g}: "
    words += f"{done} of seeds {more[0]} to {more[-1]}"
    return [*seeds, *more], words if done < len(more) else ""


def sides(row: dict[Any, Any]) -> str:
    """Write the two losses of a comparison."""
    return f"{loss_text(row['first'])} / {loss_text(row['second'])}"


def hypothesis_tables(tested: pd.DataFrame, named: Preregistration) -> list[Table]:
    """Lay out the verdicts, and below them what stands beside."""

    columns = [
        Column("", "name"),
        Column("cell", "label"),
        Column("compared", "first", write=sides),
        Column("n", "n"),
        Column("change, 95 % interval", "change", write=estimate),
        Column("p", "p", 4),
        Column("Holm", "p_holm", 4),
        Column("verdict", "verdict"),
    ]
    beside = [
        Column("", "name"),
        Column("published change", "published_change", write=published_text),
        Column("sd of d", "sd", 3),
        Column("90 % interval", "low90", write=lambda r: span(r["low90"], r["high90"])),
        Column("BCa interval", "bca_low", write=lambda r: span(r["bca_low"], r["bca_high"])),
        Column(
            "over seeds and weeks",
            "weeks_low",
            write=lambda r: span(r["weeks_low"], r["weeks_high"]),
        ),
        Column("n for 80 % power", "power_seeds"),
    ]
    notes = [
        f"Hypotheses: sha256 {named.sha256[:12]}, {named.when}. Change: of the first loss against "
        "the second, mean of d = ln(MSE / MSE) by seed over all test windows, one test split. p: "
        "sign flips, two-sided; Holm: corrected over all that were named, those without runs too.",
        answer.FAILED_RUN,
    ]
    for row in tested.to_dict("records"):
        notes += [f"{row['name']}: {note}." for note in row["notes"]]
    more = (
        "BCa: bootstrap, where |skewness| of d exceeds 1. n for 80 % power: pairs with which the "
        "equivalence test would find a change of 0."
    )
    tables = [Table("Hypotheses named beforehand", tested, columns, notes=notes)]
    whole = tested.loc[tested["state"] == ""]
    return (
        [*tables, Table("Beside the verdicts", whole, beside, notes=[more])]
        if len(whole)
        else tables
    )


def published_text(row: dict[Any, Any]) -> str:
    """Write a published change."""
    return percent(row["published_change"])


def contrast_table(frame: pd.DataFrame) -> Table:
    """Lay out the comparisons in each cell, with intervals only."""
    columns = [
        Column("cell", "label", write=lambda r: f"{r['label']}, {regularizer(r)}"),
        Column("compared", "first", write=sides),
        Column("n", "n"),
        Column("change, 95 % interval", "change", write=estimate),
        Column("sd of d", "sd", 3),
        Column("published", "published_change", write=published_text),
        Column("environments differ", "mismatched"),
        *[Column("failed", "failed")] * any(frame["failed"]),
    ]
    known = len(frame["low"].dropna())
    notes = [
        f"Exploratory, not corrected: of {known} intervals about {0.05 * known:.1f} would leave "
        "out 0 by chance alone. Environments differ: pairs not made on the same processor, "
        "threads, device, torch and clean commit (--same_environment leaves them out).",
    ]
    return Table("Every loss against MSE, and both signs", frame, columns, notes=notes)


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.signs", description=__doc__)
    records.add_flags(parser, "results", "data", "features", "axis", "amp", "format", "out")
    add = parser.add_argument
    add("--hypotheses", type=Path, default=HYPOTHESES, help="what is tested (%(default)s)")
    about = "leave out pairs whose two runs had other processors, threads, devices or code"
    add("--same_environment", action="store_true", help=about)
    args = parser.parse_args(argv)
    named, runs = read_hypotheses(args.hypotheses), records.load(args.results)
    scored, notes = records.select(select_metrics(runs.frame, "all"), args)
    found = contrasts(scored, args.same_environment)
    tested = verdicts(runs, named, args.same_environment)
    for name in ("data", "features", "lip_axis", "amp"):  # the family stays the whole file
        asked = getattr(args, name.removeprefix("lip_"))
        tested = tested.loc[tested[name].str.lower() == asked.lower()] if asked else tested
    if not runs.committed and args.hypotheses == HYPOTHESES:
        tested = tested.loc[tested["state"] != "no runs"]
        notes.append(records.STUDY_LINE)
    tables = [contrast_table(found)] if len(found) else []
    tables += hypothesis_tables(tested, named) if len(tested) else []
    write_out(tables, args, [*runs.notes, *notes, *records.left_out(scored)])
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
