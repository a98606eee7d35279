"""python -m paper.signs: which sign helps, and is it real? With the preregistered hypotheses."""

import math
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from data.registry import DATASETS
from paper import runs as records
from paper.answer import compare, estimate, pair, two_level_interval
from paper.runs import CELL, PLACE, Runs, by_cell, loss_text, published_change, regularizer
from paper.tables import flags, left_out, select, study_line
from utils.files import UserError, canonical, sha256_of
from utils.formats import Table, change, joined, number, span, write_out
from utils.output import run_command
from utils.stats import holm

ALPHA = 0.05
BLINDED = ("change", "low", "high", "low90", "high90", "direction", "p", "p_holm", "weeks_low",
           "weeks_high")  # fmt: skip


class Preregistration(NamedTuple):
    """The hypothesis file."""

    family: list[dict[str, Any]]  # as named there, over which Holm's correction is made
    margin: float  # relative difference that counts as none, e.g. 0.02
    extend_above: float  # standard deviation of d above which a hypothesis is extended once
    sha256: str  # of what it means


def read_hypotheses(path: Path = records.HYPOTHESES) -> Preregistration:
    """Read the hypothesis file; its checksum is of what it means, whatever its comments say."""
    body = tomllib.loads(path.read_text(encoding="utf-8"))
    for one in body["hypothesis"]:
        for kind, text in one["seeds"].items():  # of each kind of device: cpu, cuda
            first, last = map(int, text.split("-"))
            one["seeds"][kind] = [*range(first, last + 1)]
    named = body["hypothesis"], body["margin"], body["extend_above"]
    return Preregistration(*named, sha256_of(canonical(named).encode()))


def contrasts(scored: pd.DataFrame) -> pd.DataFrame:
    """Compare every c with c = 0, and c with -c, in each cell, by `compare`: a row each."""
    rows = []
    for _, cell in by_cell(scored).groupby(CELL, sort=False, dropna=False):
        known = sorted(cell["c"].unique())
        sides = [(c, 0.0) for c in known if c] + [(-c, c) for c in known if c > 0 and -c in known]
        for first, second in sides:
            if len(pairs := pair(cell, first, second)):
                row = {**cell.iloc[0].to_dict(), **compare(pairs, first, second)}
                rows.append(row | {"published_change": published_change(row, first, second)})
    return pd.DataFrame(rows)


def verdicts(runs: Runs, named: Preregistration) -> pd.DataFrame:
    """Test what was named beforehand, Holm-corrected over all that was named: a row a hypothesis.

    A hypothesis whose seeds are not complete (state, "" when they are) stays in the family with p =
    1; its numbers are NaN. Beside what `compare` gives: threshold (Holm's for p), weeks_low and
    weeks_high, notes (a list).
    """
    frame = by_cell(records.select_metrics(runs.frame))
    rows = [_test(one, named, frame, runs) for one in named.family]
    adjusted, factors = holm([1.0 if row["state"] else row["p"] for row in rows])
    for row, p_holm, factor in zip(rows, adjusted, factors, strict=True):
        row |= {"p_holm": p_holm, "threshold": ALPHA / factor}
        row["verdict"] = row["state"] or classify(row, named.margin)
        row.update(dict.fromkeys(BLINDED if row["state"] else (), math.nan))
    return pd.DataFrame(rows)


def classify(row: dict[str, Any], margin: float) -> str:
    """Give the verdict on a complete row of `verdicts`, as paper/hypotheses.toml defines it."""
    limit = 100 * margin
    if row["smallest_p"] > row["threshold"]:
        return "undecided"
    if not row["failed"] and -limit < row["low90"] and row["high90"] < limit:
        return f"equal within {limit:g} %"
    if row["p_holm"] > ALPHA:
        return "undecided"
    word = "better" if row["direction"] < 0 else "worse"
    if not row["failed"] and (row["high"] < -limit or row["low"] > limit):
        return f"{word} by at least {limit:g} %"
    return f"{word}, by how much is open"


def _test(
    one: dict[str, Any], named: Preregistration, frame: pd.DataFrame, runs: Runs
) -> dict[str, Any]:
    """Compare one hypothesis' two sides on its seeds, on the device of the cell's first run."""
    cell = cell_runs(one, frame)
    cell = cell.loc[cell["results_version"] == cell["results_version"].max()]
    kind, sides = [*cell.sort_values("started")["kind"], "cpu"][0], (one["first"], one["second"])
    pairs = pair(cell.loc[cell["kind"] == kind], *sides)
    seeds, state = _seeds_needed(pairs, one["seeds"][kind], named.extend_above)
    if cell["setting_id"].nunique() > 1:
        state = f"undecided: several settings fit ({'; '.join(cell['label'].unique())})"
    tested = pairs.loc[pairs.index.isin(seeds)]
    row = {**one, **compare(tested, *sides), "state": state}
    row |= {"label": f"{one['data']} {one['features']} {one['pred_len']}, {one['lip_axis']} axis"}
    row |= {"published_change": published_change(row, *sides)}
    row |= {"seeds": joined(tested.index), "weeks_low": math.nan, "weeks_high": math.nan}
    if not state and row["n"]:
        row |= over_weeks(tested.dropna(subset="d"), one["data"], runs)
    notes = {
        "seeds not named, left out": joined(pairs.index.difference(tested.index)),
        "failed, ranked worst in a sign test": row["failed"],
        "pairs made in unlike environments": joined(tested.index[tested["mismatch"]]),
    }
    return row | {"notes": [f"{what}: {which}" for what, which in notes.items() if which]}


def over_weeks(pairs: pd.DataFrame, data: str, runs: Runs) -> dict[str, float]:
    """Return the interval over seeds and weeks together; nothing without errors by window."""
    sides = [pairs[f"run_{side}"] for side in ("first", "second")]
    try:
        first, second = ([runs.errors(run, "window_errors") for run in side] for side in sides)
    except UserError:
        return {}
    found = two_level_interval(first, second, int(pd.Timedelta("7D") / DATASETS[data].step))
    return {"weeks_low": found.low, "weeks_high": found.high}


def cell_runs(one: dict[str, Any], frame: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of a hypothesis' cell at the paper's settings."""
    same = (frame["overrides"] == "") & frame["axis"].isin([one["lip_axis"], ""])
    for name in (*PLACE, "amp"):
        same &= frame[name] == one[name]
    cell = frame.loc[same & frame["norm"].isin([one["lip_norm"], ""])]
    cell = cell.loc[cell["c"].isin([one["first"], one["second"]])]
    return cell.assign(kind=np.where(cell["device"].fillna("cpu") == "cpu", "cpu", "cuda"))


def _seeds_needed(pairs: pd.DataFrame, seeds: list[int], limit: float) -> tuple[list[int], str]:
    """Return the seeds that a hypothesis now asks for, and "" or what they still lack."""
    done = pairs.index.isin(seeds).sum()
    if done < len(seeds):
        return seeds, f"in progress: {done} of {len(seeds)} seeds" if done else "no runs"
    sd = pairs.loc[pairs.index.isin(seeds), "d"].std()  # of several settings no seed may be whole
    if not sd > limit:
        return seeds, ""
    more = [max(seeds) + 1 + i for i in range(len(seeds))]
    done = pairs.index.isin(more).sum()
    lacking = f"to be extended, sd of d {sd:.3f} above {limit:g}: "
    lacking += f"{done} of seeds {more[0]} to {more[-1]}"
    return [*seeds, *more], lacking if done < len(more) else ""


def _compared(rows: pd.DataFrame) -> dict[str, Any]:
    """Write what is compared, over how many pairs, and the change."""
    every = rows.to_dict("records")
    losses = [f"{loss_text(row['first'])} / {loss_text(row['second'])}" for row in every]
    changes = [estimate(row) for row in every]
    return {"compared": losses, "n": rows["n"], "change, 95 % interval": changes}


def hypothesis_table(tested: pd.DataFrame, named: Preregistration) -> Table:
    """Lay out the verdicts."""
    weeks = tested[["weeks_low", "weeks_high"]].to_numpy(dtype=float)
    text = {"": tested["name"], "cell": tested["label"], **_compared(tested)}
    text |= {"over seeds and weeks": [span(*ends) for ends in weeks]}
    text |= {"p": tested["p"].map(number), "Holm": tested["p_holm"].map(number)}
    text |= {"verdict": tested["verdict"]}
    notes = [
        f"Hypotheses: sha256 {named.sha256[:12]} of what they mean, without comments; `git log "
        "paper/hypotheses.toml` says since when. "
        "Change: of the first loss against the second, mean of d = ln(MSE / MSE) by seed over all "
        "test windows, one test split. p: sign flips, two-sided; Holm: corrected over all that "
        "were named, those without runs too.",
    ]
    for row in tested.to_dict("records"):
        notes += [f"{row['name']}: {note}." for note in row["notes"]]
    return Table("Hypotheses named beforehand", pd.DataFrame(text), notes)


def contrast_table(rows: pd.DataFrame) -> Table:
    """Lay out the comparisons in each cell, with intervals only."""
    labels, notes = records.shorten(rows, "label")
    axes = [regularizer(row) for row in rows.to_dict("records")]
    text = {"cell": labels + ", " + axes, **_compared(rows)}
    text |= {"sd of d": [number(sd, 3) for sd in rows["sd"]]}
    text |= {"published": rows["published_change"].map(change)}
    text |= {"environments differ": rows["mismatched"]}
    text |= {"failed": rows["failed"]} if any(rows["failed"]) else {}
    known = int(np.count_nonzero(rows["low"].notna()))
    chance = f": of {known} intervals about {0.05 * known:.1f} would leave out 0 by chance alone"
    notes += [
        f"Exploratory, not corrected{chance * (known > 0)}. Environments differ: pairs not made on "
        "the same processor, threads, device, torch and commit."
    ]
    return Table("Every loss against MSE, and both signs", pd.DataFrame(text), notes)


def answers(runs: Runs, scored: pd.DataFrame) -> tuple[list[Table], pd.DataFrame]:
    """Lay out the runs to show (scored), and hypotheses on their data; return the rows too."""
    named, found = read_hypotheses(), contrasts(scored)
    tested = verdicts(runs, named)
    places = (tested["data"] + tested["features"]).isin(scored["data"] + scored["features"])
    tested = tested.loc[places & (tested["state"] != "no runs")]
    tables = [contrast_table(found)] if len(found) else []
    tables += [hypothesis_table(tested, named)] if len(tested) else []
    return tables, pd.concat([found, tested])


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    args = flags("signs", __doc__, "results", "data", "features", "format", "out").parse_args(argv)
    runs = records.load(args.results)
    scored = select(runs, args.data, args.features)
    tables, rows = answers(runs, scored)
    write_out(tables, rows, args, [*runs.notes, *study_line(runs), *left_out(scored)])
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
