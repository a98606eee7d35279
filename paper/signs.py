"""python -m paper.signs: does the regularizer help, with which sign, and is it real?"""

import argparse
import math
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paper.pairs import compare, over_weeks, pair, pair_tables, print_of, sentences, sides
from paper.runs import Runs, add_flags, by_cell, left_out, load, select, select_metrics
from utils.environment import committed, versions
from utils.files import UserError, sha256_of
from utils.formats import Column, Table, interval, joined, percent, write_out
from utils.output import run_command
from utils.stats import holm, unpaired_range

HYPOTHESES = Path(__file__).with_name("hypotheses.toml")
ALPHA = 0.05
UNDECIDED = "undecided"
BLINDED = ("change", "low", "high", "low90", "high90", "direction", "p", "p_complete", "p_holm",
          "unpaired_pi_low", "unpaired_pi_high")  # fmt: skip


@dataclass(frozen=True)
class Hypothesis:
    """A comparison of two c in one cell, named before its runs."""

    name: str
    claim: str
    model: str
    data: str
    features: str
    pred_len: int
    second: float
    lip_axis: str
    lip_norm: str
    amp: str
    first: float = math.nan
    seeds: dict[str, list[int]] = field(default_factory=dict)  # of each kind of device: cpu, cuda
    choose_from: tuple[float, ...] = ()  # instead of first: the c with the lowest validation MSE
    pilot_seeds: str = ""  # on these seeds, which are not tested


@dataclass(frozen=True)
class Preregistration:
    """A hypothesis file, and when it was settled."""

    family: list[Hypothesis]  # over which Holm's correction is made
    margin: float  # relative difference that counts as none, e.g. 0.02
    extend_above: float  # standard deviation of d above which a hypothesis is extended once
    sha256: str  # of the file
    when: str  # the commit that made the file what it is, or that it is named now
    since: dict[str, datetime]  # since when each hypothesis has meant what it means, where known


def read_hypotheses(path: Path = HYPOTHESES) -> Preregistration:
    """Read a hypothesis file.

    Raises:
        UserError: it is missing, no TOML in UTF-8, or not of the form of paper/hypotheses.toml.
    """
    try:
        content = path.read_bytes()
        family, margin, extend_above = _parse(content)
        for one in family:
            if math.isnan(one.first) != bool(one.choose_from and one.pilot_seeds):
                raise ValueError(f"{one.name}: needs first, or choose_from and pilot_seeds")
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        words = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: {words}; see paper/hypotheses.toml for the form") from error
    when, _ = committed(path)
    return Preregistration(
        family, margin, extend_above, sha256_of(content), when, _since(content, path)
    )


def _parse(content: bytes) -> tuple[list[Hypothesis], float, float]:
    """Return hypotheses, margin and extend_above; earlier files have one line of seeds for all."""
    body, family = tomllib.loads(content.decode()), []
    for entry in body["hypothesis"]:
        seeds = entry.get("seeds") or body["seeds"]
        asked = {kind: seed_list(seeds[kind]) for kind in ("cpu", "cuda")}
        family.append(Hypothesis(**entry | {"seeds": asked}))
    return family, float(body["margin"]), float(body["extend_above"])


def _since(content: bytes, path: Path) -> dict[str, datetime]:
    """Return the time of the commit from which on each hypothesis has meant what it means now."""

    def meanings(text: bytes) -> dict[str, Any]:
        family, *limits = _parse(text)
        return {one.name: (replace(one, claim=""), limits) for one in family}

    now, since = meanings(content), {}
    changed: set[str] = set()
    for time, text in versions(path):
        then = meanings(text)
        changed |= {name for name in now if then.get(name) != now[name]}
        since |= dict.fromkeys(now.keys() - changed, time)
    return since


def seed_list(text: str) -> list[int]:
    """Read seeds: "0-7", "3", "0-3,8"."""
    parts = [part.split("-") for part in text.split(",") if part]
    return [seed for part in parts for seed in range(int(part[0]), int(part[-1]) + 1)]


def verdicts(runs: Runs, named: Preregistration, alike: bool = False) -> pd.DataFrame:
    """Test what was named beforehand, Holm-corrected over all that was named.

    A hypothesis whose seeds are not complete stays in the family with p = 1. With `alike` pairs
    whose runs differ in processor, device, torch or commit are left out.

    Returns:
        One row a hypothesis: its fields, what `compare` (NaN before its seeds are complete) and
        `print_of` give, label (the cell), seeds (tested, as text), state ("" when they are
        complete), p_holm, threshold (Holm's for p), verdict, sentence, and notes (a list).
    """
    frame = by_cell(select_metrics(runs.frame, "all"))
    rows = [_test(one, named, frame, runs, alike) for one in named.family]
    adjusted, factors = holm([1.0 if row["state"] else row["p"] for row in rows])
    for row, p_holm, factor in zip(rows, adjusted, factors, strict=True):
        row |= {"p_holm": p_holm, "threshold": ALPHA / factor}
        row["verdict"] = row["state"] or classify(row, named.margin)
        row.update(dict.fromkeys(BLINDED if row["state"] else (), math.nan))
        row["sentence"] = _sentence(row, named.margin)
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
    one: Hypothesis, named: Preregistration, frame: pd.DataFrame, runs: Runs, alike: bool
) -> dict[str, Any]:
    """Compare one hypothesis' two sides on its seeds, on the device of the cell's first run."""
    every, pilots = cell_runs(one, frame), seed_list(one.pilot_seeds)
    cell = every.loc[every["results_version"] == every["results_version"].max()]
    kinds = [*cell.sort_values("started")["kind"].unique()] or ["cpu"]
    first = _chosen(one, cell, pilots) if one.choose_from else one.first
    pairs, *again = (pair(cell.loc[cell["kind"] == kind], first, one.second) for kind in kinds)
    pairs = pairs.drop(index=pilots, errors="ignore")
    seeds = [seed for seed in one.seeds[kinds[0]] if seed not in pilots]
    seeds, state = _seeds_asked(pairs, seeds, named.extend_above)
    if math.isnan(first):
        state = "in progress: the pilot seeds are not complete"
    if len({*cell["setting_id"]}) > 1:
        state = f"undecided: several settings fit ({'; '.join(cell['label'].unique())})"
    tested = pairs.loc[pairs.index.isin(seeds)]
    kept = tested.loc[tested["unlike"] == ""] if alike else tested
    row = {**asdict(one), **compare(kept, first, one.second), "state": state}
    row |= {"label": f"{one.data} {one.features} {one.pred_len}, {one.lip_axis} axis"}
    row |= {"seeds": joined(kept.index), **print_of(row)}
    whole = kept.dropna(subset="d")
    apart = unpaired_range(whole["mse_first"], whole["mse_second"], row["print_runs"] or 1)
    row["unpaired_pi_low"], row["unpaired_pi_high"] = (100 * math.expm1(x) for x in apart)
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
    notes += _marks(tested, "left out" if alike else "kept", named.since.get(one.name))
    notes += [] if state else over_weeks(kept, one.data, runs)
    for kind, other in zip(kinds[1:], again, strict=True):
        found = compare(other, first, one.second)
        failed = f", failed: {found['failed']}" * bool(found["failed"])
        words = f"replication on {kind}: {interval(found)}, n = {found['n']}{failed}"
        notes += [words] * (len(other) > 0)
    return row | {"notes": notes}


def _marks(tested: pd.DataFrame, fate: str, since: datetime | None) -> Iterator[str]:
    """Say which pairs are unlike, and what became of them, and which runs began too early."""
    if unlike := [names for names in tested["unlike"] if names]:
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
    same &= (frame["differs"] == "") & frame["axis"].isin([one.lip_axis, ""])
    cell = frame.loc[same & frame["norm"].isin([one.lip_norm, ""])]
    cell = cell.loc[cell["c"].isin([one.first, one.second, *one.choose_from])]
    return cell.assign(kind=np.where(cell["device"].fillna("cpu") == "cpu", "cpu", "cuda"))


def _chosen(one: Hypothesis, cell: pd.DataFrame, pilots: list[int]) -> float:
    """Choose c by the mean validation MSE of the pilot seeds; NaN while they are not complete."""
    wide = cell.pivot_table(index="seed", columns="c", values="val_mse")
    wide = wide.reindex(index=pilots, columns=[*one.choose_from])
    return math.nan if wide.isna().to_numpy().any() else float(str(wide.mean().idxmin()))


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


def _sentence(row: dict[str, Any], margin: float) -> str:
    """Say a verdict with what it rests on."""
    words = f"{row['name']}, {row['label']}, c = {row['first']:g} against {row['second']:g}: "
    words += row["verdict"]
    if row["state"]:
        return f"{words}."
    numbers = f"{interval(row)} (95 % interval), " if row["n"] > 1 else ""
    numbers += f"n = {row['n']}, p = {row['p']:.4f}"
    words += f"; {numbers}, with Holm's correction {row['p_holm']:.4f}"
    if row["verdict"].startswith("equal"):
        bounds = {"low": row["low90"], "high": row["high90"]}
        words += f"; 90 % interval {interval(row | bounds).split(', ')[1]}"
    if row["verdict"].startswith("equal") and row["p_holm"] <= ALPHA:
        words += "; a difference is shown, and is smaller than that"
    if row["smallest_p"] > row["threshold"]:
        words += f"; so few pairs could not reach p ≤ {row['threshold']:.4f}"
    if row["verdict"] == UNDECIDED and row["n"] > 1:
        enough = max((1.96 * row["sd"] / margin) ** 2, 1 - math.log2(row["threshold"]))
        wish = f"; about {math.ceil(enough)} seeds would give an interval of ±{100 * margin:g} %"
        words += wish if enough > row["n"] else ""
    if row["print_at"] and row["n"] > 1:
        low, high, k = row["unpaired_pi_low"], row["unpaired_pi_high"], row["print_runs"]
        inside = "inside" if low <= row["print"] <= high else "outside"
        bounds = interval({"change": row["print"], "low": low, "high": high}).split(", ")[1]
        words += f"; the printed {percent(row['print'])} ({row['print_at']}) lies {inside} {bounds}"
        words += f", where a ratio of two unpaired means of {k} runs like ours would lie"
    return f"{words}."


def hypothesis_table(tested: pd.DataFrame, named: Preregistration) -> Table:
    """Lay out the verdicts."""
    columns = [
        Column("", "name"),
        Column("cell", "label"),
        Column("c", "first", write=sides),
        Column("n", "n"),
        Column("change, 95 % interval", "change", write=interval),
        Column("p", "p", 4),
        Column("Holm", "p_holm", 4),
        Column("verdict", "verdict"),
    ]
    notes = [
        f"sha256 {named.sha256[:12]}, {named.when}. Change: MSE of the first c against the second, "
        "over all test windows, mean of ln(MSE / MSE) by seed.",
        "p: two-sided sign-flip permutation test, exact up to 16 seeds; Holm's correction over all "
        f"{len(named.family)} named, those without runs included. Inference is over seeds, for one "
        "test split.",
        *tested["sentence"],
        *(f"{row['name']}: {note}." for row in tested.to_dict("records") for note in row["notes"]),
    ]
    return Table("Hypotheses named beforehand", tested, columns, notes=notes)


def main(words: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.signs", description=__doc__)
    names = "results data features axis amp format standalone out"
    add_flags(parser, *names.split())
    add = parser.add_argument
    add("--hypotheses", type=Path, default=HYPOTHESES, help="what is tested (%(default)s)")
    about = "leave out pairs made on different processors, devices, torch versions or commits"
    add("--alike", action="store_true", help=about)
    args = parser.parse_args(words)
    named, runs = read_hypotheses(args.hypotheses), load(args.results)
    scored, notes = select(select_metrics(runs.frame, "all"), args)
    tested = verdicts(runs, named, args.alike)
    for name in ("data", "features", "lip_axis", "amp"):  # the family stays the whole file
        asked = getattr(args, name.removeprefix("lip_"))
        tested = tested.loc[tested[name].str.lower() == asked.lower()] if asked else tested
    tables = [hypothesis_table(tested, named)] if len(tested) else []
    tables += pair_tables(scored, args.alike)
    write_out(tables, args, [*runs.notes, *notes, *left_out(scored), *sentences(scored)])
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
