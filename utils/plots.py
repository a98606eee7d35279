"""One look for figures, for print in grey and for the colour-blind; equal numbers, equal bytes."""

import io
import math
import os
import textwrap
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

with mock.patch.dict(os.environ):  # a notebook's backend is not ours: all is drawn into files
    os.environ.pop("MPLBACKEND", None)
    import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    **{"font.size": 8, "axes.titlesize": 8, "axes.linewidth": 0.7, "legend.frameon": False},
    **{"axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "informer-lipreg"},
    **{"lines.linewidth": 1.2, "lines.markersize": 4.5, "lines.markerfacecolor": "none"},
}
METADATA = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # no time of day
BLACK, GREY, RED, BLUE = "#000000", "#707070", "#D55E00", "#0072B2"  # Okabe and Ito's colours
GREEN = "#009E73"


Panel = Callable[[Axes], str]  # draws, and returns the panel's title


def compose(
    title: str, panels: Sequence[Panel], columns: int = 1, height: float = 1.9, sharex: bool = False
) -> Figure:
    """Draw panels of a height in inches in columns; one legend below names all lines."""
    rows, found = math.ceil(len(panels) / columns), {}
    with mpl.rc_context(STYLE):
        figure = Figure((7.2, 1.1 + height * rows), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=sharex, squeeze=False).ravel()
        for axis, draw in zip(axes, panels, strict=False):
            axis.set_title(textwrap.fill(draw(axis), 100 // columns), parse_math=False)
            handles, labels = axis.get_legend_handles_labels()
            found |= dict(zip(labels, handles, strict=True))
        for axis in axes[len(panels) :]:
            axis.remove()
        figure.suptitle(title, fontsize=9, x=0.01, ha="left", parse_math=False)
        figure.legend([*found.values()], [*found], loc="outside lower center", ncols=4)
    return figure


class Window(NamedTuple):
    """One window of a series: its history and what follows it."""

    label: str
    dates: np.ndarray  # [seq_len + pred_len]
    history: np.ndarray  # [seq_len]
    lines: dict[str, np.ndarray]  # truth, forecast, ridge [<= pred_len]
    title: str = ""


def draw_windows(windows: Sequence[Window], sharex: bool = False) -> Figure:
    """Draw windows below each other."""
    return compose("", [partial(draw_window, one) for one in windows], sharex=sharex)


def draw_window(window: Window, axis: Axes) -> str:
    """Draw a window over dates, what follows joined to the history."""
    label, dates, history, lines, title = window
    now, known = len(history), np.append(history, lines.get("truth", []))
    shown = "history and truth" if "truth" in lines else "history"
    axis.plot(dates[: len(known)], known, color=GREY, linewidth=2, label=shown)
    for name, line, color in (("forecast", "-", BLACK), ("ridge", ":", GREEN)):
        if name in lines:
            values = np.append(history[-1], lines[name])
            axis.plot(dates[now - 1 : now - 1 + len(values)], values, line, color=color, label=name)
    axis.axvline(date2num(dates[now - 1]), color="0.7", linewidth=0.8)
    locator = AutoDateLocator(minticks=2, maxticks=5)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axis.set_xlim(dates[0], dates[-1])
    axis.set_ylabel(label, parse_math=False)  # a column's name is no mathematics
    return title


def render(figure: Figure, form: str) -> bytes:
    """Return the content of a file: form png, svg or pdf."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a column may have any name
        figure.savefig(buffer, format=form, dpi=200, metadata=METADATA[form])
    return buffer.getvalue()
