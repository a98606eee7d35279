"""Tables as text: a frame, and how each of its columns is written."""

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import tabulate

from utils.files import make_folder, write_atomic

tabulate.MIN_PADDING = 0  # headings as narrow as their columns
DIGITS = 5  # as printed: errors equal to this many digits are equal
STAR = "* the lowest of what is compared; all that are equal"
FORMATS = ("terminal", "markdown", "latex", "csv")
SYMBOLS = tabulate.LATEX_ESCAPE_RULES | {
    "λ": r"$\lambda$", "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≤": r"$\leq$", "–": "--",
}  # fmt: skip
DOCUMENT = r"""\documentclass[a4paper,landscape]{article}
\usepackage[margin=1cm]{geometry}
\setlength{\tabcolsep}{3pt}
\setlength{\parindent}{0pt}
\begin{document}
\scriptsize
%s\end{document}
"""


@dataclass(frozen=True)
class Column:
    """How one column is written."""

    head: str
    name: str  # of the frame's column
    digits: int | None = None  # decimals of a number; None: as it stands
    sd: str = ""  # column of the standard deviation that follows after ±
    write: Callable[[dict[Any, Any]], str] | None = None  # a row's text, of more than one value

    def text(self, row: dict[Any, Any]) -> str:
        """Write a row's value, "-" where it is missing."""
        if self.write:
            return self.write(row)
        value, sd = number(row[self.name], self.digits), number(row.get(self.sd), self.digits)
        return value if sd == "-" else f"{value} ± {sd}"


@dataclass(frozen=True)
class Table:
    """A frame laid out."""

    title: str  # what it shows, with axis and precision
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


def number(value: Any, digits: int | None = None) -> str:
    """Write a value, "-" if it is missing."""
    if pd.isna(value):
        return "-"
    as_it_stands = "g" if isinstance(value, float) else ""
    return format(value, as_it_stands if digits is None else f".{digits}f")


def percent(value: float) -> str:
    """Write a change in percent with its sign."""
    return "-" if pd.isna(value) else f"{value:+.1f} %".replace("-", "−")


def interval(row: Mapping[Any, Any]) -> str:
    """Write a change with its interval (change, low, high) in percent."""
    if pd.isna(row["low"]):
        return percent(row["change"])
    bounds = f"{row['low']:+.1f} to {row['high']:+.1f} %".replace("-", "−")
    return f"{percent(row['change'])}, {bounds}"


def joined(values: Iterable[float]) -> str:
    """Write numbers with commas."""
    return ", ".join(f"{value:g}" for value in values)


def escape(text: str) -> str:
    """Return the text with LaTeX's special characters and our symbols written out."""
    return text.translate(str.maketrans(SYMBOLS))


class Style(NamedTuple):
    """How a format writes: tabulate's name of it, what surrounds texts, escaping, widths."""

    name: str
    title: str
    note: str
    best: str
    safe: Callable[[str], str]
    width: int = sys.maxsize  # characters of a line
    column: int | None = None  # and of a column, at most

    def line(self, surround: str, text: str) -> str:
        """Write a title or a note."""
        return textwrap.fill(surround.format(self.safe(text)), self.width)

    def body(self, table: Table) -> str:
        """Write headings and rows."""
        rows = [[self.safe(text) for text in row] for row in table.rows]
        places = {column.name: j for j, column in enumerate(table.columns)}
        for i, name in table.best:
            rows[i][places[name]] = self.best.format(rows[i][places[name]])
        heads, style = [self.safe(head) for head in table.heads], self.name
        return tabulate.tabulate(
            rows, heads, style, disable_numparse=True, maxcolwidths=self.column
        )


STYLES = {
    "terminal": Style("simple", "{}", "{}", "{}*", str, 110, 30),
    "markdown": Style("pipe", "### {}", "- {}", "**{}**", lambda text: text.replace("|", "\\|")),
    "latex": Style("latex_raw", "% {}", "% {}", r"\textbf{{{}}}", escape),
    "document": Style("latex_raw", r"\subsection*{{{}}}", r"{}\par", r"\textbf{{{}}}", escape),
}


def render(
    tables: Sequence[Table], form: str, notes: Sequence[str] = (), standalone: bool = False
) -> str:
    r"""Write tables one below the other, each note once, and more notes at the end.

    Args:
        tables: what to write.
        form: one of FORMATS. csv: the frames, unrounded, one below the other.
        notes: sentences that belong to no table.
        standalone: LaTeX as a whole document instead of `tabular`s to \input.
    """
    if form == "csv":
        return pd.concat([t.frame for t in tables]).to_csv(index=False) if tables else ""
    document = form == "latex" and standalone
    style = STYLES["document" if document else form]
    parts, seen = [], set()
    for table in [*tables, Table("", pd.DataFrame(), (), notes=notes)]:
        star = [STAR] if table.best and form == "terminal" else []
        new = [note for note in (*star, *table.notes) if note not in seen]
        seen |= {*new}
        title = style.line(style.title, table.title) if table.title else ""
        parts += [title, style.body(table), "\n".join(style.line(style.note, x) for x in new)]
    text = "\n\n".join(filter(None, parts)) + "\n"
    return DOCUMENT.replace("%s", text) if document else text


def write_out(tables: Sequence[Table], args: argparse.Namespace, notes: Sequence[str]) -> None:
    """Write a command's tables to a file or to the terminal: --format, --standalone, --out."""
    text = render(tables, args.format, notes, args.standalone)
    if args.format in ("csv", "latex") and notes:  # nothing but the tables goes into the file
        print(*notes, sep="\n", file=sys.stderr)
    if args.out:
        write_text(args.out, text)
    else:
        print(text, end="")


def write_text(path: Path, text: str) -> None:
    """Write a file and say so; a UserError if it or its folder cannot be written."""
    make_folder(path.parent)
    write_atomic(path, text.encode())
    print(f"wrote {path}")
