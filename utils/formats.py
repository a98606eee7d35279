"""Tables as text in a terminal, Markdown, LaTeX and HTML, laid out by tabulate."""

import argparse
import html
import math
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import tabulate

from utils.files import make_folder, write_atomic

tabulate.MIN_PADDING = 0  # headings as narrow as their columns
WIDTH = 110  # characters of a terminal's line; wide tables take a few more
NARROW = {"maxcolwidths": 14, "maxheadercolwidths": 8, "break_long_words": False}  # of a terminal
SYMBOLS = str.maketrans(tabulate.LATEX_ESCAPE_RULES | {
    "λ": r"$\lambda$", "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≤": r"$\leq$", "–": "--",
})  # fmt: skip
FORMATS = ("terminal", "markdown", "latex", "csv")
STYLES = {  # tabulate's name; titles, notes and bold text; what the form reads as its own
    "terminal": ("simple", "{}", "{}", r"\1*", str),
    "markdown": ("pipe", "### {}", "- {}", r"**\1**", lambda text: text.replace("|", r"\|")),
    "latex": ("latex_raw", "% {}", "% {}", r"\\textbf{\1}", lambda x: x.translate(SYMBOLS)),
    "html": ("unsafehtml", "<h3>{}</h3>", "<p>{}</p>", r"<b>\1</b>", html.escape),
}


class Table(NamedTuple):
    """A table's text; **bold** is written as in Markdown."""

    title: str
    text: pd.DataFrame
    notes: Sequence[str] = ()  # sentences below it


def number(value: Any, digits: int = 4) -> str:
    """Write a number, "-" if it is missing."""
    return "-" if pd.isna(value) else f"{value:.{digits}f}"


def span(low: float, high: float) -> str:
    """Write an interval in percent, "-" if it is missing."""
    return "-" if pd.isna(low) else f"{low:+.1f} to {high:+.1f} %".replace("-", "−")


def change(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Write a change in percent with its interval, if it has one; "-" if it is missing."""
    text = "-" if pd.isna(value) else f"{value:+.1f} %".replace("-", "−")
    return text if pd.isna(low) else f"{text}, {span(low, high)}"


def joined(values: Iterable[float]) -> str:
    """Write numbers with commas."""
    return ", ".join(f"{value:g}" for value in values)


def render(tables: Sequence[Table], form: str, notes: Sequence[str] = ()) -> str:
    """Write tables one below the other, each note once, and more notes at the end."""
    name, title, note, bold, escape = STYLES[form]
    options, parts, seen = NARROW if form == "terminal" else {}, [], set()

    def written(text: Any) -> str:
        return re.sub(r"\*\*(.+?)\*\*", bold, escape(str(text)))

    for table in [*tables, Table("", pd.DataFrame(), notes)]:
        text: Any = table.text.rename(columns=written).map(written)
        lines = [note.format(written(x)) for x in dict.fromkeys(table.notes) if x not in seen]
        lines = [textwrap.fill(line, WIDTH) for line in lines] if form == "terminal" else lines
        seen |= {*table.notes}
        parts += [title.format(written(table.title))] * bool(table.title)
        if len(text):
            rows = text.to_numpy().tolist()
            parts += [tabulate.tabulate(rows, [*text], name, disable_numparse=True, **options)]
        parts += ["\n".join(lines)] * bool(lines)
    return "\n\n".join(parts) + "\n"


def write_out(
    tables: Sequence[Table], rows: pd.DataFrame, args: argparse.Namespace, notes: Sequence[str]
) -> None:
    """Write tables as --format and --out say; csv: their rows, unrounded, instead."""
    if args.format == "csv":
        print(*notes, sep="\n", file=sys.stderr)
        text = rows.to_csv(index=False)
    else:
        text = render(tables, args.format, notes)
    if args.out:
        write_text(args.out, text)
    else:
        print(text, end="")


def write_text(path: Path, text: str) -> None:
    """Write a file and say so; a UserError if it or its folder cannot be written."""
    make_folder(path.parent)
    write_atomic(path, text.encode(errors="replace"))
    print(f"wrote {path}")
