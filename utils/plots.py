"""One look for figures, for print in grey and for the colour-blind; equal numbers, equal bytes."""

import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    **{"font.size": 8, "axes.titlesize": 8, "axes.linewidth": 0.7, "legend.frameon": False},
    **{"axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "informer-lipreg"},
    **{"lines.linewidth": 1.2, "lines.markersize": 4.5, "lines.markerfacecolor": "none"},
}
METADATA = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # no time of day
BLACK, GREY, RED, BLUE = "#000000", "#808080", "#D55E00", "#0072B2"  # Okabe and Ito's colours
OTHERS = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9")  # of theirs, too


def compose(title: str, subtitle: str, rows: Sequence[Sequence[Callable[[Axes], str]]]) -> Figure:
    """Draw rows of panels under one title, with one legend below all, each label once.

    A panel is what draws it and returns its title. Rows of one panel are set in two columns.
    """
    if max(map(len, rows)) == 1:
        rows = [[row[0] for row in rows[i : i + 2]] for i in range(0, len(rows), 2)]
    columns, found = max(map(len, rows)), {}
    width = 7.2 if columns > 1 else 4.6  # inches
    with mpl.rc_context(STYLE):
        figure = Figure((width, 2.3 * len(rows) + 0.7), layout="constrained")
        for i, row in enumerate(rows):
            for j, draw in enumerate(row):
                axis = figure.add_subplot(len(rows), columns, i * columns + j + 1)
                axis.set_title(draw(axis))
                handles, labels = axis.get_legend_handles_labels()
                found |= dict(zip(labels, handles, strict=True))
        lines = [title, *textwrap.wrap(subtitle, round(15 * width))]
        figure.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left", parse_math=False)
        place: dict[str, Any] = {"loc": "outside lower center", "ncols": round(width / 1.8)}
        figure.legend([*found.values()], [*found], **place)
    return figure


class Window(NamedTuple):
    """One window of a series: its history and what follows it."""

    label: str
    dates: np.ndarray  # [seq_len + pred_len]
    history: np.ndarray  # [seq_len]
    lines: dict[str, np.ndarray]  # truth, forecast, ridge [<= pred_len]
    title: str = ""


def draw_windows(windows: Sequence[Window], sharex: bool = False) -> Figure:
    """Draw windows below each other, over dates, what follows joined to the history."""
    figure = Figure((7, 1.1 + 1.9 * len(windows)), layout="constrained")  # inches
    axes = figure.subplots(len(windows), sharex=sharex, squeeze=False)[:, 0]
    styles = {"truth": ("-", "#444444"), "forecast": ("--", BLUE), "ridge": (":", RED)}
    for axis, (label, dates, history, lines, title) in zip(axes, windows, strict=True):
        now = len(history)
        axis.plot(dates[:now], history, color="#444444", linewidth=0.9, label="history")
        for name, values in lines.items():
            style, color = styles[name]
            joined = np.append(history[-1], values)
            axis.plot(dates[now - 1 : now + len(values)], joined, style, color=color, label=name)
        axis.axvline(date2num(dates[now - 1]), color="0.7", linewidth=0.8)
        locator = AutoDateLocator(minticks=3, maxticks=8)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axis.set_ylabel(label, parse_math=False)  # a column's name is no mathematics
        axis.set_title(title, fontsize="medium", parse_math=False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def render(figure: Figure, form: str) -> bytes:
    """Return the content of a file: form png, svg or pdf."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=form, dpi=200, metadata=METADATA[form])
    return buffer.getvalue()


def fit_around_zero(axis: Axes) -> None:
    """Draw a line at 0 and fit the axis to it and to what was plotted, not to intervals."""
    axis.axhline(0, color=GREY, linewidth=0.7)
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axis.lines])
    room = 0.1 * float(np.ptp(values)) or 1.0
    axis.set_ylim(float(values.min()) - room, float(values.max()) + room)
