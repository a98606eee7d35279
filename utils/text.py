"""Tables as text: a frame, and how each of its columns is written."""

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import tabulate as layout
from tabulate import tabulate

from utils.files import make_folder, write_atomic

layout.MIN_PADDING = 0  # headings as narrow as their columns
DIGITS = 5  # as printed: errors equal to this many digits are equal
WIDTH = 110  # characters of a line in a terminal
MOST = 30  # characters of a column there
STAR = "* the lowest of what is compared; all that are equal"
FORMATS = ("terminal", "markdown", "latex", "csv")
SYMBOLS = {
    **{symbol: f"\\{symbol}" for symbol in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "=": "$=$", "λ": r"$\lambda$", "±": r"$\pm$", "−": "$-$",
    "×": r"$\times$", "≤": r"$\leq$", "–": "--",
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
    """How one column is written.

    Attributes:
        head: heading.
        name: of the frame's column.
        digits: decimals of a number; None: as it stands.
        sd: column of the standard deviation that follows after ±; "" for none.
        write: from a row to text, where more than one value makes it.
    """

    head: str
    name: str
    digits: int | None = None
    sd: str = ""
    write: Callable[[dict[Any, Any]], str] | None = None

    def text(self, row: dict[Any, Any]) -> str:
        """Write a row's value, "-" where it is missing."""
        if self.write:
            return self.write(row)
        words = number(row[self.name], self.digits)
        sd = number(row[self.sd], self.digits) if self.sd else "-"
        return words if sd == "-" else f"{words} ± {sd}"


@dataclass(frozen=True)
class Table:
    """A frame laid out.

    Attributes:
        title: what the table shows, with axis and precision.
        frame: the values, unrounded.
        columns: those that are shown, in order.
        best: (row, column name) of the values to stress; rows are counted from 0.
        notes: sentences below the table.
    """

    title: str
    frame: pd.DataFrame
    columns: Sequence[Column]
    best: set[tuple[int, str]] = field(default_factory=set)
    notes: Sequence[str] = ()

    @property
    def heads(self) -> list[str]:
        """Headings of the columns."""
        return [column.head for column in self.columns]

    @property
    def rows(self) -> list[list[str]]:
        """Text of each row."""
        return [[c.text(row) for c in self.columns] for row in self.frame.to_dict("records")]

    def marked(self, mark: str, change: Callable[[str], str] = str) -> list[list[str]]:
        """Return the rows with `mark`, which has a {}, around the best, after changing each text.

        Args:
            mark: e.g. "**{}**".
            change: from text to text, before the mark is set.
        """
        names = [column.name for column in self.columns]
        return [
            [
                mark.replace("{}", change(text)) if (i, name) in self.best else change(text)
                for name, text in zip(names, row, strict=True)
            ]
            for i, row in enumerate(self.rows)
        ]


def number(value: Any, digits: int | None = None) -> str:
    """Write a value, "-" if it is missing."""
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "-"
    if digits is None:
        return f"{value:g}" if isinstance(value, float) else str(value)
    return f"{value:.{digits}f}"


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


def lowest(frame: pd.DataFrame, names: Sequence[str]) -> set[tuple[int, str]]:
    """Find the lowest of some columns in each row, as printed: equal ones are all the lowest.

    Args:
        frame: the values.
        names: the columns that are compared, where they have a value; one alone is not stressed.
    """
    values = frame.loc[:, [*names]].astype(float).round(DIGITS)
    least = values.min(axis=1).where(values.notna().sum(axis=1) > 1)
    return {
        (i, name)
        for name in names
        for i, is_best in enumerate(values[name] == least)
        if is_best
    }  # fmt: skip


def render(
    tables: Sequence[Table], style: str, notes: Sequence[str] = (), standalone: bool = False
) -> str:
    r"""Write tables one below the other, and notes at the end.

    Args:
        tables: what to write.
        style: one of FORMATS. csv: the frames, unrounded, one below the other.
        notes: sentences that belong to no table.
        standalone: LaTeX as a whole document instead of `tabular`s to \input.
    """
    if style == "csv":
        frames = [table.frame.assign(table=table.title) for table in tables]
        return pd.concat(frames).to_csv(index=False) if frames else ""
    if style == "latex":
        body = "\n".join(_latex(table, standalone) for table in tables)
        return DOCUMENT.replace("%s", body) if standalone else body
    write, seen, parts = _markdown if style == "markdown" else _terminal, set(), []
    for table in tables:
        star = [STAR] if table.best and style == "terminal" else []
        new = [note for note in (*star, *table.notes) if note not in seen]  # each note once
        seen |= {*new}
        parts += [*write(table), *([""] if new else []), *_notes(new, style), ""]
    return "\n".join([*parts, *_notes(notes, style)]).rstrip("\n") + "\n"


def _notes(notes: Sequence[str], style: str) -> list[str]:
    if style == "markdown":
        return [f"- {note}" for note in notes]
    return [line for note in notes for line in textwrap.wrap(note, WIDTH)]


def _terminal(table: Table) -> list[str]:
    rows, most = table.marked("{}*"), [MOST] * len(table.columns)
    body = tabulate(rows, table.heads, disable_numparse=True, maxcolwidths=most)
    return [*textwrap.wrap(table.title, WIDTH), "", body]


def _markdown(table: Table) -> list[str]:
    def safe(text: str) -> str:
        return text.replace("|", "\\|")

    heads = [safe(head) for head in table.heads]
    body = tabulate(table.marked("**{}**", safe), heads, "pipe", disable_numparse=True)
    return [*([f"### {table.title}", ""] if table.title else []), body]


def _latex(table: Table, standalone: bool) -> str:
    heads = [escape(head) for head in table.heads]
    rows = table.marked(r"\textbf{{}}", escape)
    body = tabulate(rows, heads, "latex_raw", disable_numparse=True)
    if standalone:
        notes = [escape(note) + r"\par" for note in table.notes]
        return "\n".join([rf"\subsection*{{{escape(table.title)}}}", body, "", *notes]) + "\n"
    return "\n".join([f"% {line}" for line in (table.title, *table.notes)] + [body]) + "\n"


def escape(text: str) -> str:
    """Return the text with LaTeX's special characters and our symbols written out."""
    return "".join(SYMBOLS.get(character, character) for character in text)


def write_out(tables: Sequence[Table], args: argparse.Namespace, notes: Sequence[str]) -> None:
    """Write a command's tables to a file or to the terminal: --format, --standalone, --out.

    Raises:
        UserError: the file's folder cannot be made or written.
    """
    text = render(tables, args.format, notes, args.standalone)
    if args.format in ("csv", "latex"):  # nothing but the tables goes into the file
        print(*notes, sep="\n", file=sys.stderr)
    if args.out is None:
        print(text, end="")
        return
    make_folder(args.out.parent)
    write_atomic(args.out, text.encode())
    print(f"wrote {args.out}")
