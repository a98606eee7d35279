"""python -m exp.table: the paper's tables from the runs; with --signs, whether the sign matters."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from exp.cells import find_cells, usable_runs
from exp.layout import result_frame, result_tables
from exp.paper_tables import TABLES
from exp.record import read_runs
from exp.render import render
from exp.sign_tables import sign_tables
from exp.signs import HYPOTHESES, paired_frame, read_hypotheses
from utils.errors import UserError
from utils.files import write_atomic


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m exp.table", description=__doc__)
    add = parser.add_argument
    add("--results", type=Path, default=Path("results"), help="folder of the runs (results)")
    add("--signs", action="store_true", help="compare c < 0, c = 0 and c > 0 instead")
    add("--hypotheses", type=Path, default=HYPOTHESES, help="what --signs tests (%(default)s)")
    add("--features", choices=("S", "M", "MS"), help="S: Table 2, M: Table 5 (all)")
    add(
        "--score",
        choices=("truncated", "all"),
        default="truncated",
        help="test windows scored: truncated, as in the print, or all (%(default)s)",
    )
    add("--axis", choices=("feature", "time"), help="axis of the regularizer (all)")
    add("--amp", choices=("off", "bf16"), help="precision (all)")
    add(
        "--format",
        choices=("terminal", "markdown", "latex", "csv"),
        default="terminal",
        help="csv: the numbers behind the tables, unrounded",
    )
    add("--out", type=Path, help="file to write (the terminal)")
    return parser


def select(runs: pd.DataFrame, args: argparse.Namespace) -> pd.DataFrame:
    """Keep the runs that the flags ask for; c = 0 belongs to every axis."""
    for column, asked in (("features", args.features), ("amp", args.amp), ("lip_axis", args.axis)):
        if asked and len(runs):
            runs = runs.loc[(runs[column] == asked) | ((column == "lip_axis") & (runs["c"] == 0))]
    return runs


def build(args: argparse.Namespace) -> str:
    """Return the whole text that the flags ask for."""
    runs, notes = usable_runs(read_runs(args.results), args.score)
    cells = find_cells(select(runs, args))
    features = [args.features] if args.features else ["S", "M"]
    if args.format == "csv":
        frame = paired_frame(cells) if args.signs else result_frame(cells, features)
        print(*notes, sep="\n", end="\n" if notes else "", file=sys.stderr)
        return frame.drop(columns=["table", "differences"], errors="ignore").to_csv(index=False)
    if args.signs:
        tables = sign_tables(cells, read_hypotheses(args.hypotheses), args.score)
    else:
        tables = result_tables(cells, features, args.score)
        shown = {cell.table[:3] for cell in cells}
        notes += [
            f"No run has the settings of {TABLES[kind][0]}."
            for kind in features
            if kind in TABLES and (True, kind, "") not in shown
        ]
    return render(tables, args.format, notes)


def main(words: Sequence[str]) -> int:
    """Run one command line and return the exit code: 0, or 2 after a mistake."""
    try:
        args = build_parser().parse_args(words)
        text = build(args)
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(args.out, text.encode())
        else:
            print(text, end="")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
