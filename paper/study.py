"""python -m paper.study: collect runs into the committed study, and write RESULTS.md from it."""

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paper.figures import draw_all
from paper.pairs import contrasts, sentences
from paper.runs import CELL, DESCRIBED, PRINTED, Runs, by_cell, left_out, load, score_windows
from paper.signs import UNDECIDED, Named, cell_runs, read_hypotheses, verdicts
from paper.tables import count_note, result_tables, shape_frame
from utils import plots
from utils.errors import UserError
from utils.files import make_folder, write_atomic
from utils.output import run_command
from utils.stats import mean_interval
from utils.text import DIGITS, Column, Table, interval, render, write_text

STUDY, PICTURE = Path("results/study"), "figure3-ETTh2-S.png"
POINTS = 300  # of L_f a run, at most
HEADS = ("Claim (the paper's λ is -c)", "Place", "Test", "Numbers", "Supported?", "Command")
ARM = ["label", "axis", "c"]
BY_EPOCH = "Test MSE of every epoch, whatever validation chose (all windows, mean over seeds)"
LARGEST = "Does the largest value move LipReg? (one validation batch, mean over seeds)"
MOVED = {"lip": "LipReg", "plain": "not normalised", "eval_max": "largest value"}
NOTES = (
    "H1 to H4 are tests. Until all four are complete, Holm's correction counts an open one as "
    "p = 1: completing it can turn `undecided` into a decision, and change no decision. All other "
    "rows are exploratory: they say where an interval lies. Cost: runs with c = 0 compute LipReg "
    "as well, to record it; what is compared is its gradient."
)
LITTLE = 5.0  # percent of a step's time that counts as "very little extra computational cost"


def collect(results: Path, out: Path) -> str:
    """Add the ended runs of a folder to the study's CSV files, and say so.

    What is there already stays. `paper.runs.load` reads both, the folder and the study.
    """
    runs = load(results)
    every = runs.frame.loc[runs.frame["status"].isin(["finished", "failed"])]
    if runs.committed or every.empty:
        raise UserError(f"{results}: holds no run that has ended; name the folder of the runs")
    cells = by_cell(score_windows(every, "all"))
    primary = {run for one in read_hypotheses().family for run in cell_runs(one, cells)["run"]}
    path = out / "runs.csv"
    there = pd.read_csv(path, usecols=["run"])["run"] if path.exists() else ()
    ended = every.loc[~every["run"].isin(there)]  # made again, or on another device: not the first
    tested = [run for run in ended["run"] if run in primary]
    frames = {
        "histories": _read(ended["run"], lambda run: runs.history(run).map(_short)),
        "l_f": _read(ended["run"], lambda run: _thinned(runs.trace(run))),
        "by_step": _read(ended["run"], lambda run: _packed(runs.by_step(run))),
        "window_errors": _read(tested, lambda run: _packed(runs.window_errors(run))),
        "runs": ended.drop(columns=DESCRIBED),  # last: with its row a run is there
    }
    make_folder(out)
    for name, new in frames.items():
        path = out / f"{name}.csv"
        old = pd.read_csv(path, dtype=str) if path.exists() else new.iloc[:0]
        whole = pd.concat([old.loc[~old["run"].isin(ended["run"])], new])
        write_atomic(path, whole.sort_values("run", kind="stable").to_csv(index=False).encode())
    total = len(pd.read_csv(out / "runs.csv"))
    notes = " ".join(left_out(score_windows(runs.frame, "all")))
    stay = f", {len(every) - len(ended)} were there and stay" * (len(every) > len(ended))
    return f"{out}: {len(ended)} runs of {results} collected{stay}, {total} in all. {notes}"


def _read(runs: Iterable[str], reader: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """Read something of every run that has it; a failed run may not."""
    parts = [pd.DataFrame({"run": []})]
    for run in runs:
        with contextlib.suppress(UserError):
            parts.append(reader(run).assign(run=run))
    return pd.concat(parts)


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _thinned(trace: pd.DataFrame) -> pd.DataFrame:
    part = trace.iloc[:: math.ceil(len(trace) / POINTS)]
    epochs = part["epoch"].to_numpy()
    return _packed(part["l_f"], epochs[0], np.ptp(epochs) / max(len(epochs) - 1, 1))


def _packed(values: Iterable[float], first: float = 0, step: float = 1) -> pd.DataFrame:
    """Write evenly spaced values as one row, apart by spaces."""
    text = " ".join(f"{value:.4g}" for value in values)
    return pd.DataFrame([{"first": round(first, 5), "step": round(step, 7), "values": text}])


def page(study: Path, named: Named) -> str:
    """Return RESULTS.md: the headline, the tables, and claim by claim what the study's runs say."""
    runs = load(study)
    tested = verdicts(runs, named)
    scored, beside = score_windows(runs.frame, "all"), score_windows(runs.frame)
    ok = runs.frame.loc[runs.frame["status"] == "finished"]
    claims = pd.DataFrame(_claims(runs, tested, scored), columns=HEADS)
    rows = tested.to_dict("records")
    notes = [f"{row['name']}: {note}." for row in rows for note in row["notes"]]
    parts = [
        "# Results",
        "Written by `python -m paper.study results` from `results/study/*.csv`. "
        f"{len(runs.frame)} runs, {len(ok)} finished, {ok['wall_seconds'].sum() / 3600:.1f} hours "
        f"of computing; {_used(ok['processor'])}; torch {_used(ok['torch'])}; commit "
        f"{_used(ok['git_commit'].str[:10])}. Plan: `results/study/PLAN.md`. Hypotheses: sha256 "
        f"{named.sha256[:12]}, {named.when}.",
        "## Headline",
        _bullets([*tested["sentence"], *notes]),
        f"![our seeds beside the paper's Figure 3]({STUDY / PICTURE})" * (study / PICTURE).exists(),
        "## Claim by claim",
        render([Table("", claims, [Column(head, head) for head in HEADS])], "markdown"),
        NOTES,
        "## Cell by cell",
        "Exploratory, over all test windows, not corrected: one interval in 20 leaves out 0 by "
        "chance alone. Cells of hypotheses stand here again; on these the headline decides.",
        _bullets(sentences(scored)),
        *_explored(runs, scored.loc[scored["outcome"] == "ok"]),
        "## Ours beside the print",
        render(result_tables(beside), "markdown", left_out(beside)),
        "## The released code itself",
        "Run as it is, one run a row, apart from this study and with draws of its own.",
        render([released()], "markdown"),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def released() -> Table:
    """Lay out what the released code gave when it was run."""
    frame = pd.read_csv(PRINTED / "released_code_runs.csv", dtype={"seed": str})
    frame["c"] = -frame["lam"]
    names = ["dataset", "features", "pred_len", "lip_axis", "c", "train_epochs", "seed"]
    columns = [Column(name, name) for name in names]
    columns += [Column("MSE", "mse", DIGITS), Column("MAE", "mae", DIGITS), Column("", "note")]
    return Table("", frame, columns)


def _explored(runs: Runs, ok: pd.DataFrame) -> list[str]:
    """Show what only some runs recorded: test MSE by epoch, and what moves a normalised LipReg."""
    recorded = ["run", "epoch", "test_mse", "eval_max", "eval_lip_time", "eval_lip_feature"]
    epochs = _read(ok["run"], runs.history).reindex(columns=recorded)
    epochs = epochs.merge(ok[["run", "lip_norm", *ARM]], on="run")
    tested = epochs.dropna(subset="test_mse").pivot_table("test_mse", ARM, "epoch")
    own = epochs["eval_lip_time"].where(epochs["axis"] == "time", epochs["eval_lip_feature"])
    moved = epochs.assign(lip=own, plain=own * epochs["eval_max"] ** 2).dropna(subset="eval_max")
    ends = {f"{w}, {end} epoch": (n, end) for n, w in MOVED.items() for end in ("first", "last")}
    moved = moved.loc[moved["lip_norm"] == "max"].groupby([*ARM, "run"]).agg(**ends)
    tables = {BY_EPOCH: tested.add_prefix("epoch "), LARGEST: moved.groupby(ARM).mean()}
    parts = []
    for title, wide in tables.items():
        columns = [Column(str(n), str(n), None if n in ARM else 4) for n in (*ARM, *wide.columns)]
        table = Table(title, wide.reset_index(), columns)
        parts += [render([table], "markdown")] * (len(wide) > 0)
    return ["## Explored", "A few runs each, which test nothing.", *parts] if parts else []


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _used(values: pd.Series) -> str:
    return ", ".join(f"{name} ({n})" for name, n in values.value_counts().sort_index().items())


def _claims(runs: Runs, tested: pd.DataFrame, scored: pd.DataFrame) -> list[tuple[str, ...]]:
    """Set the paper's claims beside the runs; an open one names the stages that it would take."""
    verdict = dict.fromkeys(("H1", "H2", "H3", "H4"), UNDECIDED)
    verdict |= dict(zip(tested["name"], tested["verdict"], strict=True))
    h1, h2, h3, h4 = (f"{name}: {verdict[name]}" for name in ("H1", "H2", "H3", "H4"))
    every = contrasts(scored).query("second == 0 and axis == 'feature' and norm == 'max'")
    every = every.loc[every["printed"].astype(bool) & (every["amp"] == "off")]
    every, table = every.query("model == 'informer'"), every.query("model == 'informer' and n > 1")
    curve = table.query("data == 'ETTh2' and features == 'S' and not control")
    rougher, smoother = curve.query("first < 0"), curve.query("first > 0")
    failed = every.query("data == 'ETTh2' and features == 'S' and first < 0")["failed"].any()
    alike = len(rougher) >= 25 and rougher["low"].min() > -2 and rougher["high"].max() < 2
    alike = alike and not failed  # 5 c at 5 horizons, and none failed
    table5 = shape_frame(score_windows(runs.frame)).query("model == 'informer' and features == 'M'")
    growth, larger, cost = _ratios(runs, scored)
    rows = [
        ("The column without Lip is a control run", "Tables 2, 5", "print against print",
         "all 100 numbers round to those that Informer's authors published", "not supported",
         "python -m paper.tables", ""),
        ("Lip lowers the error", "Tables 2, 5", "H1, H2, H3; c = -2 against 0 in every cell",
         _counted(table.query("first == -2")), f"{h1}; {h2}; {h3}", "python -m paper.signs",
         "H1 H2 H3"),
        ("MSE rises with λ < 0 and falls with λ > 0", "Figure 3", "H4; every c against 0",
         f"c < 0: {_counted(rougher)}; c > 0: {_counted(smoother)}", h4,
         "python -m paper.figures", "H4 figure3"),
        ("L_f becomes larger", "Figure 2", "end of training, c = -2 against 0, by seed",
         larger["said"], judge(larger["low"] > 0, larger["high"] < 0),
         "python -m paper.figures", "H1"),
        ("L_f keeps growing", "Figure 2", "c = -2: last tenth of training against the middle",
         growth["said"], judge(growth["low"] > 0, growth["high"] < 0),
         "python -m paper.figures", "H1"),
        ("Not sensitive to λ", "Section 4", "every c < 0 against 0: intervals within ±2 %",
         _counted(rougher), judge(alike, False), "python -m paper.signs", "figure3"),
        ("Informer + Lip is better in 38 of 50", "Table 5", "count of the lower means",
         count_note(table5, "informer", "M"), "not supported: the printed cells give 37",
         "python -m paper.tables", ""),
        ("Very little extra computational cost", "Section 3",
         "seconds a step, c = -2 against 0 (gradient)", cost["said"],
         judge(cost["high"] < LITTLE, cost["low"] > LITTLE),
         "python -m exp.bench", "H1"),
    ]  # fmt: skip
    left = {name for name, words in verdict.items() if words.startswith(("in pro", "no runs"))}
    left |= {"figure3"} if len(curve) < 50 else set()  # 10 c at 5 horizons
    found = []
    for *row, said, command, stages in rows:
        names = " ".join(name for name in stages.split() if name in left)
        if names and any(word in said for word in (UNDECIDED, "in progress", "no runs")):
            row.append(f'{said}; it would take `STAGES="{names}" bash scripts/study.sh`')
        else:
            row.append(said)
        found.append((*row, command))
    return found


def judge(holds: Any, fails: Any) -> str:
    """Name what an interval says on a claim."""
    return "supported" if holds else "not supported" if fails else UNDECIDED


def _counted(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "no interval yet"
    below, above = sum(rows["high"] < 0), sum(rows["low"] > 0)
    covers = len(rows) - below - above
    word = "interval" if len(rows) == 1 else "intervals"
    return f"{len(rows)} {word}: {below} below 0, {above} above, {covers} covering 0"


def _ratios(runs: Runs, scored: pd.DataFrame) -> list[dict[str, float]]:
    """Measure L_f's growth, L_f against c = 0, and the time of a step, in percent with intervals.

    Of ETTh2 S 24 on the feature axis, the cell of Figure 2; the time in all of the paper's cells.
    """
    cells = by_cell(scored.loc[scored["outcome"] == "ok"])
    cells = cells.query("printed and axis == 'feature' and norm == 'max'")
    lip, zero = (cells.loc[cells["c"] == c].set_index([*CELL, "seed"]) for c in (-2, 0))
    alike = [*CELL, "seed", "processor", "device"]
    both = lip.reset_index().merge(zero.reset_index(), on=alike, suffixes=("_lip", "_zero"))
    steps = np.log(both["step_seconds_lip"] / both["step_seconds_zero"]).dropna()
    ends, growth = {}, []
    for row in cells.query("label == 'ETTh2 S 24' and c in (-2, 0)").to_dict("records"):
        with contextlib.suppress(UserError):
            l_f = np.log(runs.trace(row["run"])["l_f"].to_numpy())
            tenth = max(len(l_f) // 10, 1)
            ends[row["c"], row["seed"]] = end = l_f[-tenth:].mean()
            if row["c"]:
                growth.append(end - l_f[len(l_f) // 2 :][:tenth].mean())
    larger = [end - ends[0, seed] for (c, seed), end in ends.items() if c and (0, seed) in ends]
    found = []
    for values in (growth, larger, steps):
        bounds = (100 * math.expm1(float(x)) for x in mean_interval(values))
        row = dict(zip(("change", "low", "high"), bounds, strict=True))
        found.append({**row, "said": f"{interval(row)}, n = {len(values)}"})
    return found


def main(words: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper.study", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    about = "add a folder's runs to the study's CSV; what is there already stays"
    add = commands.add_parser("collect", help=about)
    add.add_argument("results", type=Path, help="folder of the runs")
    build = commands.add_parser("results", help="write RESULTS.md from the study's CSV")
    build.add_argument("--out", type=Path, default=Path("RESULTS.md"), help="file (%(default)s)")
    for command in (add, build):
        command.add_argument("--study", type=Path, default=STUDY, help="its folder (%(default)s)")
    args = parser.parse_args(words)
    if args.command == "collect":
        print(collect(args.results, args.study))
        return 0
    runs = load(args.study)
    for one in draw_all(runs, score_windows(runs.frame))[0]:
        if f"{one.name}.png" == PICTURE:
            write_atomic(args.study / PICTURE, plots.render(one.drawing, "png"))
    write_text(args.out, page(args.study, read_hypotheses()))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
