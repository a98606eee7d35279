"""One look for figures, for print in grey and for the colour-blind; equal numbers, equal bytes."""

import io
import os
import textwrap
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

with mock.patch.dict(os.environ):  # a notebook's backend is not ours: all is drawn into files
    os.environ.pop("MPLBACKEND", None)
    import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Panel = Callable[[Axes], str]  # draws it and returns its title
STYLE: dict[Any, Any] = {
    **{"font.size": 8, "axes.titlesize": 8, "axes.linewidth": 0.7, "legend.frameon": False},
    **{"axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "informer-lipreg"},
    **{"lines.linewidth": 1.2, "lines.markersize": 4.5, "lines.markerfacecolor": "none"},
}
METADATA = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # no time of day
BLACK, GREY, RED, BLUE = "#000000", "#707070", "#D55E00", "#0072B2"  # Okabe and Ito's colours
OTHERS = (("#E69F00", "s"), ("#CC79A7", "D"), ("#8B5A2B", "P"), ("#009E73", "x"))  # and markers


def compose(title: str, subtitle: str, rows: Sequence[Sequence[Panel]]) -> Figure:
    """Draw rows of panels under one title, with one legend below all, each label once."""
    columns, found = max(map(len, rows)), {}
    width = (4.6, 7.2, 9.6)[columns - 1]  # inches
    with mpl.rc_context(STYLE):
        figure = Figure((width, 2.3 * len(rows) + 0.7), layout="constrained")
        for i, row in enumerate(rows):
            for j, draw in enumerate(row):
                axis = figure.add_subplot(len(rows), columns, i * columns + j + 1)
                words = textwrap.fill(draw(axis), round(16 * width / columns))
                axis.set_title(words, parse_math=False)
                handles, labels = axis.get_legend_handles_labels()
                found |= dict(zip(labels, handles, strict=True))
        lines = [title, *textwrap.wrap(subtitle, round(15 * width))]
        figure.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left", parse_math=False)
        place: dict[str, Any] = {"loc": "outside lower center", "ncols": round(width / 1.8)}
        figure.legend([*found.values()], [*found], **place)
    return figure


def render(figure: Figure, form: str) -> bytes:
    """Return the content of a file: form png, svg or pdf."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=form, dpi=200, metadata=METADATA[form])
    return buffer.getvalue()


def counted(axis: Axes, x: str, y: str) -> None:
    """Label the axes; what is counted along x has ticks at whole numbers only."""
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel=x, ylabel=y)


def date_axis(axis: Axes, dates: Any) -> None:
    """Write dates at the x axis, shortly, from the first to the last."""
    locator = AutoDateLocator(minticks=2, maxticks=5)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axis.set_xlim(dates[0], dates[-1])
