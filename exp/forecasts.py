"""Forecasts as people read them: dated CSV files and plots in original units."""

import io
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from torch import Tensor

from data.data_loader import ForecastData
from exp.config import Config
from utils.errors import UserError
from utils.files import write_atomic, write_npz

mpl.use("Agg")
TRUTH, FORECAST = "#444444", "#0072B2"  # told apart in grey and by the colour-blind
MOST_PANELS = 8


@dataclass(frozen=True)
class Prediction:
    """The forecast beyond the end of the file.

    Args:
        names: output columns.
        past: dates of the input window [seq_len].
        history: its values [seq_len, C], original units.
        dates: dates of the forecast [pred_len], at the data's own step.
        values: the forecast [pred_len, C], original units.
        attention: the encoder layers' maps [H, L, L], where --output_attention keeps them.
    """

    names: list[str]
    past: pd.DatetimeIndex
    history: np.ndarray
    dates: pd.DatetimeIndex
    values: np.ndarray
    attention: list[np.ndarray]

    def write(self, folder: Path) -> list[Path]:
        """Write prediction.csv and .png (and attention.npz), and return their places."""
        table = pd.DataFrame(self.values, columns=self.names, index=self.dates)
        paths = [folder / "prediction.csv", folder / "prediction.png"]
        text = table.to_csv(index_label="date", float_format="%.6g")
        write_atomic(paths[0], text.encode())
        shown = self.names[-MOST_PANELS:]
        figure, axes = plt.subplots(
            len(shown), 1, figsize=(7, 0.9 + 1.7 * len(shown)), sharex=True, squeeze=False
        )
        for axis, name in zip(axes[:, 0], shown, strict=True):
            column = self.names.index(name)
            axis.plot(self.past, self.history[:, column], color=TRUTH, label="history")
            axis.plot(self.dates, self.values[:, column], "--", color=FORECAST, label="forecast")
            axis.axvline(self.past[-1], color="0.7", linewidth=0.8)
            axis.set_ylabel(plain(name))
        axes[0, 0].legend(frameon=False, ncols=2)
        axes[-1, 0].set_xlabel("date")
        _concise_dates(axes[-1, 0])
        save_figure(figure, paths[1])
        if self.attention:
            paths.append(folder / "attention.npz")
            write_npz(paths[2], {f"layer_{i}": maps for i, maps in enumerate(self.attention)})
        return paths


@dataclass(frozen=True)
class Samples:
    """Test windows to be looked at, of the target column, in original units.

    Args:
        rank: best, median, worst, or the window's number [n].
        start: window numbers from 0 [n].
        mse: the target's error in each window, on scaled data [n].
        history: [n, seq_len].
        truth: [n, pred_len].
        pred: [n, pred_len].
        first: date of the first forecast step [n], ISO text.
        step_seconds: the data's step.
        target: the column's name.
    """

    rank: np.ndarray
    start: np.ndarray
    mse: np.ndarray
    history: np.ndarray
    truth: np.ndarray
    pred: np.ndarray
    first: np.ndarray
    step_seconds: float
    target: str

    @classmethod
    def choose(
        cls, data: ForecastData, config: Config, wanted: str, pred: Tensor, true: Tensor
    ) -> "Samples":
        """Pick best, median and worst windows, and those named by number.

        Args:
            data: the data set.
            config: lengths.
            wanted: words and numbers with commas, as --plot_windows takes them.
            pred: forecasts of the target in all test windows [n, pred_len], scaled.
            true: the truth [n, pred_len], scaled.

        Raises:
            UserError: a word is unknown or a number is out of range.
        """
        mse = (pred - true).square().mean(1).numpy()
        ranked = np.argsort(mse, kind="stable")
        places = {"best": ranked[0], "median": ranked[len(mse) // 2], "worst": ranked[-1]}
        words = [*places, *(w for w in parse_windows(wanted, len(mse)) if w not in places)]
        start = np.array([places.get(word, word) for word in words], dtype=int)
        mean, std = data.scaler.mean[-1], data.scaler.std[-1]
        index = data.test.start + start
        reach = index[:, None] + np.arange(config.seq_len)
        values = data.test.values[..., -1].cpu().numpy()
        return cls(
            rank=np.array(words),
            start=start,
            mse=mse[start],
            history=values[reach] * std + mean,
            truth=true.numpy()[start] * std + mean,
            pred=pred.numpy()[start] * std + mean,
            first=data.dates[index + config.seq_len].to_numpy().astype("datetime64[s]").astype(str),
            step_seconds=_seconds(data),
            target=data.columns[-1],
        )

    def write(self, folder: Path, wanted: str) -> Path:
        """Write samples.npz and the plot forecasts.png of the windows asked for."""
        write_npz(folder / "samples.npz", {k: np.asarray(v) for k, v in vars(self).items()})
        words = parse_windows(wanted, None)
        shown = [i for i, rank in enumerate(self.rank) if rank in words]
        figure, axes = plt.subplots(
            len(shown), 1, figsize=(7, 0.9 + 2.0 * len(shown)), squeeze=False
        )
        for axis, i in zip(axes[:, 0], shown, strict=True):
            self._draw(axis, i)
        axes[0, 0].legend(frameon=False, ncols=3)
        figure.tight_layout()
        path = folder / "forecasts.png"
        save_figure(figure, path)
        return path

    def _draw(self, axis: Axes, i: int) -> None:
        step = np.timedelta64(round(self.step_seconds), "s")
        first = np.datetime64(self.first[i])
        past = first + step * np.arange(-self.history.shape[1], 0)
        ahead = first + step * np.arange(self.truth.shape[1])
        axis.plot(past, self.history[i], color=TRUTH, linewidth=0.9)
        axis.plot(ahead, self.truth[i], color=TRUTH, label="truth")
        axis.plot(ahead, self.pred[i], "--", color=FORECAST, label="forecast")
        axis.axvline(ahead[0], color="0.7", linewidth=0.8)
        axis.set_ylabel(plain(self.target))
        axis.set_title(
            f"{self.rank[i]}: test window {self.start[i]}, MSE {self.mse[i]:.3g} (scaled)",
            fontsize="medium",
        )
        _concise_dates(axis)


def plain(name: str) -> str:
    """Keep matplotlib from reading a column's name as mathematics."""
    return name.replace("$", r"\$")


def parse_windows(wanted: str, count: int | None) -> list[str]:
    """Check the words of --plot_windows against the number of test windows.

    Raises:
        UserError: a word is unknown or a number is out of range.
    """
    words = wanted.replace(" ", "").split(",")
    for word in words:
        known = word in ("best", "median", "worst")
        inside = word.isdecimal() and (count is None or int(word) < count)
        if not known and not inside:
            raise UserError(
                f"--plot_windows {word}: must be best, median, worst or a number below {count}"
            )
    return words


def _seconds(data: ForecastData) -> float:
    return pd.Timedelta(data.step).total_seconds()


def _concise_dates(axis: Axes) -> None:
    """Label a date axis so that day, month and year are told once each."""
    locator = AutoDateLocator()
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and forget it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, bbox_inches="tight")
    plt.close(figure)
    write_atomic(path, buffer.getvalue())
