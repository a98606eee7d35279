"""Tables as text: a frame, and how each of its columns is written."""

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import tabulate

from utils.files import make_folder, write_atomic

tabulate.MIN_PADDING = 0  # headings as narrow as their columns
STAR = "* the lowest of what is compared; all that are equal"
WIDTH = 110  # characters of a terminal's line; wide tables take a few more
NARROW = {"maxcolwidths": 14, "maxheadercolwidths": 8, "break_long_words": False}  # of a terminal
SYMBOLS = str.maketrans(tabulate.LATEX_ESCAPE_RULES | {
    "λ": r"$\lambda$", "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≤": r"$\leq$", "–": "--",
})  # fmt: skip
STYLES = {  # tabulate's name; how titles, notes and the lowest values are written
    "terminal": ("simple", "{}", "{}", "{}*"),
    "markdown": ("pipe", "### {}", "- {}", "**{}**"),
    "latex": ("latex_raw", "% {}", "% {}", r"\textbf{{{}}}"),
}
FORMATS = (*STYLES, "csv")


@dataclass(frozen=True)
class Column:
    """How one column is written."""

    head: str
    name: str  # of the frame's column
    digits: int | None = None  # decimals of a number; None: as it stands
    write: Callable[[dict[Any, Any]], str] | None = None  # a row's text, of more than one value

    def text(self, row: dict[Any, Any]) -> str:
        """Write a row's value, "-" where it is missing."""
        return self.write(row) if self.write else format_number(row[self.name], self.digits)


@dataclass(frozen=True)
class Table:
    """A frame laid out."""

    title: str
    frame: pd.DataFrame  # the values, unrounded
    columns: Sequence[Column]
    best: set[tuple[int, str]] = field(default_factory=set)  # (row, column's name) to stress
    notes: Sequence[str] = ()  # sentences below the table

    @property
    def heads(self) -> list[str]:
        """Headings of the columns."""
        return [column.head for column in self.columns]

    @property
    def rows(self) -> list[list[str]]:
        """Text of each row."""
        return [[c.text(row) for c in self.columns] for row in self.frame.to_dict("records")]

    def body(self, form: str) -> str:
        """Write headings and rows in one of STYLES."""
        name, _, _, best = STYLES[form]
        rows = [[_safe(text, form) for text in row] for row in self.rows]
        names = [column.name for column in self.columns]
        for i, column in self.best:
            j = names.index(column)
            rows[i][j] = best.format(rows[i][j])
        options: dict[str, Any] = NARROW if form == "terminal" else {}
        heads = [_safe(head, form) for head in self.heads]
        return tabulate.tabulate(rows, heads, name, disable_numparse=True, **options)


def _safe(text: str, form: str) -> str:
    """Write out what a format would read as its own."""
    if form == "latex":
        return text.translate(SYMBOLS)
    return text.replace("|", "\\|") if form == "markdown" else text


def format_number(value: Any, digits: int | None = None) -> str:
    """Write a value, "-" if it is missing."""
    if pd.isna(value):
        return "-"
    as_it_stands = "g" if isinstance(value, float) else ""
    return format(value, as_it_stands if digits is None else f".{digits}f")


def percent(value: float) -> str:
    """Write a change in percent with its sign."""
    return "-" if pd.isna(value) else f"{value:+.1f} %".replace("-", "−")


def span(low: float, high: float) -> str:
    """Write an interval in percent."""
    return "-" if pd.isna(low) else f"{low:+.1f} to {high:+.1f} %".replace("-", "−")


def interval(change: float, low: float, high: float) -> str:
    """Write a change with its interval in percent."""
    return percent(change) if pd.isna(low) else f"{percent(change)}, {span(low, high)}"


def joined(values: Iterable[float]) -> str:
    """Write numbers with commas."""
    return ", ".join(f"{value:g}" for value in values)


def render(tables: Sequence[Table], form: str, notes: Sequence[str] = ()) -> str:
    """Write tables one below the other, each note once, and more notes at the end.

    form is one of FORMATS; csv: the frames, unrounded, one below the other.
    """
    if form == "csv":
        return pd.concat([t.frame for t in tables]).to_csv(index=False) if tables else ""
    _, title, note, _ = STYLES[form]
    parts, seen = [], set()

    def line(surround: str, text: str) -> str:
        whole = surround.format(_safe(text, form))
        return textwrap.fill(whole, WIDTH) if form == "terminal" else whole

    for table in [*tables, Table("", pd.DataFrame(), (), notes=notes)]:
        star = [STAR] if table.best and form == "terminal" else []
        new = [text for text in dict.fromkeys((*star, *table.notes)) if text not in seen]
        seen |= {*new}
        parts += [line(title, table.title) if table.title else ""]
        parts += [table.body(form) if table.columns else "", "\n".join(line(note, x) for x in new)]
    return "\n\n".join(filter(None, parts)) + "\n"


def write_out(tables: Sequence[Table], args: argparse.Namespace, notes: Sequence[str]) -> None:
    """Write a command's tables to a file or to the terminal: --format, --out."""
    text = render(tables, args.format, notes)
    if args.format in ("csv", "latex") and notes:  # nothing but the tables goes into the file
        print(*notes, sep="\n", file=sys.stderr)
    if args.out:
        write_text(args.out, text)
    else:
        print(text, end="")


def write_text(path: Path, text: str) -> None:
    """Write a file and say so; a UserError if it or its folder cannot be written."""
    make_folder(path.parent)
    write_atomic(path, text.encode(errors="replace"))
    print(f"wrote {path}")
