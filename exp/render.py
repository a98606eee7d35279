"""A table of text, written for the terminal, Markdown or LaTeX."""

import itertools
from dataclasses import dataclass, field

SYMBOLS = {
    **{symbol: f"\\{symbol}" for symbol in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "=": "$=$",
    "λ": r"$\lambda$",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "≤": r"$\leq$",
}
PREAMBLE = r"""\documentclass[a4paper,landscape]{article}
\usepackage[utf8]{inputenc}
\usepackage[margin=1cm]{geometry}
\usepackage{booktabs,longtable}
\setlength{\tabcolsep}{3pt}
\setlength{\parindent}{0pt}
\begin{document}
\scriptsize
"""


@dataclass(frozen=True)
class Table:
    """Rows of text under one or two lines of headings.

    Attributes:
        title: what the table shows, with axis and precision.
        columns: (group, heading) of each column; neighbours of one group share its heading.
        rows: text of each cell; "" is empty, "-" a missing number.
        bold: (row, column) of the cells to stress.
        notes: sentences below the table.
    """

    title: str
    columns: list[tuple[str, str]]
    rows: list[list[str]]
    bold: set[tuple[int, int]] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def spans(self) -> list[tuple[str, int]]:
        """Groups from left to right, each with its number of columns."""
        return [
            (group, len(list(columns)))
            for group, columns in itertools.groupby(group for group, _ in self.columns)
        ]


def render(tables: list[Table], style: str, notes: list[str]) -> str:
    """Write tables one below the other.

    Args:
        tables: what to write.
        notes: sentences about them all, at the end.
        style: terminal (a star stands for bold), markdown, or latex (a document that compiles).

    Returns:
        The text, with a newline at its end.
    """
    if style == "latex":
        body = [*map(_latex, tables), *(escape(note) + "\\par\n" for note in notes)]
        return PREAMBLE + "\n".join(body) + "\\end{document}\n"
    if style == "markdown":
        return "\n".join([*map(_markdown, tables), *(f"- {note}\n" for note in notes)])
    return "\n".join([*map(_terminal, tables), *(f"{note}\n" for note in notes)])


def _terminal(table: Table) -> str:
    body = [
        [text + "*" if (i, j) in table.bold else text for j, text in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    names = [name for _, name in table.columns]
    widths = [max(map(len, column)) for column in zip(names, *body, strict=True)]
    heads, start = [], 0
    for group, count in table.spans:
        room = sum(widths[start : start + count]) + 2 * (count - 1)
        widths[start + count - 1] += max(0, len(group) - room)
        heads.append(group.ljust(max(room, len(group))))
        start += count
    lines = ["  ".join(text.ljust(w) for text, w in zip(r, widths, strict=True)) for r in body]
    top = "  ".join(name.ljust(w) for name, w in zip(names, widths, strict=True))
    groups = ["  ".join(heads)] if any(group for group, _ in table.spans) else []
    rule = "-" * len(top)
    stars = ["* the better of its pair, or both when equal"] if table.bold else []
    parts = [table.title, rule, *groups, top, rule, *lines, rule, *stars, *table.notes]
    return "\n".join(part.rstrip() for part in parts) + "\n"


def _markdown(table: Table) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    names = [f"{group} {name}".strip() for group, name in table.columns]
    body = [
        [f"**{text}**" if (i, j) in table.bold else text for j, text in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    parts = [f"### {table.title}", "", line(names), line(["---"] * len(names)), *map(line, body)]
    notes = [""] + [f"- {note}" for note in table.notes] if table.notes else []
    return "\n".join([*parts, *notes]) + "\n"


def _latex(table: Table) -> str:
    def line(cells: list[str]) -> str:
        return " & ".join(cells) + r" \\"

    body = [
        [rf"\textbf{{{escape(t)}}}" if (i, j) in table.bold else escape(t) for j, t in enumerate(r)]
        for i, r in enumerate(table.rows)
    ]
    heads = [rf"\multicolumn{{{count}}}{{c}}{{{escape(group)}}}" for group, count in table.spans]
    ends = list(itertools.accumulate(count for _, count in table.spans))
    rules = [
        rf"\cmidrule(lr){{{end - count + 1}-{end}}}"
        for (group, count), end in zip(table.spans, ends, strict=True)
        if group
    ]
    parts = [
        rf"\begin{{longtable}}{{{'l' * len(table.columns)}}}",
        rf"\caption{{{escape(table.title)}}}\\",
        r"\toprule",
        *([line(heads), " ".join(rules)] if rules else []),
        line([escape(name) for _, name in table.columns]),
        r"\midrule",
        r"\endhead",
        *map(line, body),
        r"\bottomrule",
        r"\end{longtable}",
        *(escape(note) + r"\par" for note in table.notes),
    ]
    return "\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Return the text with LaTeX's special characters and our symbols written out."""
    return "".join(SYMBOLS.get(character, character) for character in text)
