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

from paper.claims import claim_table, open_cells
from paper.figures import draw_all
from paper.pairs import sentences
from paper.runs import DESCRIBED, PRINTED, Runs, by_cell, left_out, load, select_metrics
from paper.signs import Preregistration, cell_runs, read_hypotheses, verdicts
from paper.tables import result_tables
from utils import plots
from utils.files import UserError, make_folder, write_atomic
from utils.formats import DIGITS, Column, Table, percent, render, write_text
from utils.output import run_command

STUDY, PICTURE = Path("results/study"), "figure3-ETTh2-S.png"
POINTS = 300  # of L_f a run, at most
ARM = ["label", "axis", "c"]
BY_EPOCH = "Test MSE of every epoch, whatever validation chose (all windows, mean over seeds)"
LARGEST = "Does the largest value move LipReg? (one validation batch, mean over seeds)"
MOVED = {"lip": "LipReg", "plain": "not normalised", "eval_max": "largest value"}


def collect(results: Path, out: Path) -> str:
    """Add the ended runs of a folder to the study's CSV files, and say so.

    What is there already stays. `paper.runs.load` reads both, the folder and the study.
    """
    runs = load(results)
    every = runs.frame.loc[runs.frame["status"].isin(["finished", "failed"])]
    if runs.committed or every.empty:
        raise UserError(f"{results}: holds no run that has ended; name the folder of the runs")
    cells = by_cell(select_metrics(every, "all"))
    primary = {run for one in read_hypotheses().family for run in cell_runs(one, cells)["run"]}
    path = out / "runs.csv"
    there = pd.read_csv(path, usecols=["run", "device"]) if path.exists() else every.iloc[:0]
    devices = {*pd.concat([every["device"], there["device"]]).fillna("cpu").eq("cpu")}
    if len(devices) > 1:  # a run's name does not say where it was made
        raise UserError(f"{results}: runs on CPU and GPU are two studies; name one by --study")
    ended = every.loc[~every["run"].isin(there["run"])]  # what is made again is not the first
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
    notes = " ".join(left_out(select_metrics(runs.frame, "all")))
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


def page(study: Path, named: Preregistration) -> str:
    """Return RESULTS.md: the headline, the tables, and claim by claim what the study's runs say."""
    runs = load(study)
    tested = verdicts(runs, named)
    scored, beside = select_metrics(runs.frame, "all"), select_metrics(runs.frame)
    ok = runs.frame.loc[runs.frame["status"] == "finished"]
    rows = tested.to_dict("records")
    unfinished = scored["label"].isin(open_cells(tested))
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
        _where_it_stands(study / "PLAN.md"),
        f"![our seeds beside the paper's Figure 3]({STUDY / PICTURE})" * (study / PICTURE).exists(),
        "## Claim by claim",
        render([claim_table(runs, tested, scored)], "markdown"),
        "## Cell by cell",
        "Exploratory, over all test windows, not corrected: one interval in 20 leaves out 0 by "
        "chance alone. Cells of hypotheses stand here again once their seeds are complete; there "
        "the headline decides.",
        _bullets(sentences(scored.loc[~unfinished])),
        *_explored(runs, scored.loc[scored["outcome"] == "ok"]),
        "## Ours beside the print",
        render(result_tables(beside), "markdown", left_out(beside)),
        "## The released code itself",
        "Run as it is, one run a row, apart from this study and with draws of its own.",
        render([released()], "markdown"),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _where_it_stands(plan: Path) -> str:
    """Return the plan's last section: which of its runs are there."""
    text = plan.read_text(encoding="utf-8") if plan.exists() else ""
    return text.partition("## Where it stands\n")[2].partition("\n# ")[0]


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
    tested = epochs.dropna(subset="test_mse").astype({"epoch": int})
    tested = tested.pivot_table("test_mse", ARM, "epoch")
    own = epochs["eval_lip_time"].where(epochs["axis"] == "time", epochs["eval_lip_feature"])
    moved = epochs.assign(lip=own, plain=own * epochs["eval_max"] ** 2).dropna(subset="eval_max")
    ends = {f"{w}, {end} epoch": (n, end) for n, w in MOVED.items() for end in ("first", "last")}
    moved = moved.loc[moved["lip_norm"] == "max"].groupby([*ARM, "run"]).agg(**ends)
    tables = {BY_EPOCH: tested.add_prefix("epoch "), LARGEST: moved.groupby(ARM).mean()}
    arms = tables[LARGEST].reset_index().to_dict("records")
    notes = {LARGEST: [_growth(row) for row in arms if row["c"] != 0]}
    parts = []
    for title, wide in tables.items():
        columns = [Column(str(n), str(n), None if n in ARM else 4) for n in (*ARM, *wide.columns)]
        table = Table(title, wide.reset_index(), columns, notes=notes.get(title, []))
        parts += [render([table], "markdown")] * (len(wide) > 0)
    return ["## Explored", "A few runs each, which test nothing.", *parts] if parts else []


def _growth(row: dict[Any, Any]) -> str:
    """Split the growth of LipReg, mean square / largest value², into its two factors."""
    lip, plain, largest = (
        row[f"{w}, last epoch"] / row[f"{w}, first epoch"] for w in MOVED.values()
    )
    lip, plain, fall = (percent(100 * (x - 1)) for x in (lip, plain, largest**-2))
    arm = f"{row['label']}, {row['axis']} axis, c = {row['c']:g}"
    return (
        f"{arm}, from the end of the first epoch to that of the last: LipReg {lip}, not "
        f"normalised {plain}, through the largest value {fall}."
    )


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _used(values: pd.Series) -> str:
    return ", ".join(f"{name} ({n})" for name, n in values.value_counts().sort_index().items())


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
    for one in draw_all(runs, select_metrics(runs.frame))[0]:
        if f"{one.name}.png" == PICTURE:
            write_atomic(args.study / PICTURE, plots.render(one.drawing, "png"))
    write_text(args.out, page(args.study, read_hypotheses()))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
