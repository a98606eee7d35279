"""Tables as text: a frame, and how each of its columns is written."""

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
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


def lowest(frame: pd.DataFrame, names: list[str]) -> set[tuple[int, str]]:
    """Find the lowest of some columns in each row, as printed: equal ones are all the lowest.

    Args:
        frame: the values.
        names: the columns that are compared, where they have a value; one alone is not stressed.
    """
    values = frame[names].astype(float).round(DIGITS)
    least = values.min(axis=1).where(values.notna().sum(axis=1) > 1)
    return {
        (int(i), str(names[int(j)])) for i, j in np.argwhere(values.eq(least, axis=0).to_numpy())
    }


def render(
    tables: Sequence[Table], style: str, notes: Sequence[str] = (), standalone: bool = False
) -> str:
    r"""Write tables one below the other, each note once, and more notes at the end.

    Args:
        tables: what to write.
        style: one of FORMATS. csv: the frames, unrounded, one below the other.
        notes: sentences that belong to no table.
        standalone: LaTeX as a whole document instead of `tabular`s to \input.
    """
    if style == "csv":
        return pd.concat([t.frame for t in tables]).to_csv(index=False) if tables else ""
    lines, seen = [], set()
    for table in [*tables, Table("", pd.DataFrame(), (), notes=notes)]:
        star = [STAR] if table.best and style == "terminal" else []
        new = [note for note in (*star, *table.notes) if note not in seen]
        seen |= {*new}
        lines += _title(table.title, style, standalone) if table.title else []
        lines += ["", _body(table, style), ""] if table.columns else []
        lines += [line for note in new for line in _note(note, style, standalone)]
        lines += [""] if new else []
    text = "\n".join(lines).replace("\n\n\n", "\n\n").strip("\n") + "\n"
    return DOCUMENT.replace("%s", text) if standalone and style == "latex" else text


def _body(table: Table, style: str) -> str:
    form, mark, safe = STYLES[style]
    rows = [
        [
            mark.replace("{}", safe(text)) if (i, column.name) in table.best else safe(text)
            for column, text in zip(table.columns, row, strict=True)
        ]
        for i, row in enumerate(table.rows)
    ]
    widths = [MOST if style == "terminal" else None] * len(table.columns)
    heads = [safe(head) for head in table.heads]
    return tabulate(rows, heads, form, disable_numparse=True, maxcolwidths=widths)


def _title(title: str, style: str, standalone: bool) -> list[str]:
    if style == "latex":
        return [rf"\subsection*{{{escape(title)}}}" if standalone else f"% {title}"]
    return textwrap.wrap(title, WIDTH) if style == "terminal" else [f"### {title}"]


def _note(note: str, style: str, standalone: bool) -> list[str]:
    if style == "latex":
        return [escape(note) + r"\par" if standalone else f"% {note}"]
    return textwrap.wrap(note, WIDTH) if style == "terminal" else [f"- {note}"]


def escape(text: str) -> str:
    """Return the text with LaTeX's special characters and our symbols written out."""
    return "".join(SYMBOLS.get(character, character) for character in text)


STYLES: dict[str, tuple[str, str, Callable[[str], str]]] = {  # tabulate's name, the best, escaping
    "terminal": ("simple", "{}*", str),
    "markdown": ("pipe", "**{}**", lambda text: text.replace("|", "\\|")),
    "latex": ("latex_raw", r"\textbf{{}}", escape),
}


def write_out(tables: Sequence[Table], args: argparse.Namespace, notes: Sequence[str]) -> None:
    """Write a command's tables to a file or to the terminal: --format, --standalone, --out.

    Raises:
        UserError: the file's folder cannot be made or written.
    """
    text = render(tables, args.format, notes, args.standalone)
    if args.format in ("csv", "latex") and notes:  # nothing but the tables goes into the file
        print(*notes, sep="\n", file=sys.stderr)
    if args.out is None:
        print(text, end="")
        return
    make_folder(args.out.parent)
    write_atomic(args.out, text.encode())
    print(f"wrote {args.out}")
