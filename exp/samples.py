"""Forecasts as people read them: dated tables and plots in original units."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from torch import Tensor

from data.data_loader import ForecastData
from data.scaler import Scaler
from exp.baselines import Forecaster
from exp.config import Config
from utils.files import UserError, write_atomic, write_npz
from utils.plots import BLUE, render

WINDOWS = ("best", "median", "worst", "1/4", "1/2", "3/4")  # of --plot_windows, beside numbers
MOST_PANELS = 8
TRUTH = "#444444"


class Panel(NamedTuple):
    """One window of a plot."""

    label: str
    dates: np.ndarray  # [seq_len + pred_len]
    history: np.ndarray  # [seq_len]
    lines: dict[str, np.ndarray]  # what follows it: truth, forecast [<= pred_len]
    title: str = ""


def draw_windows(panels: Sequence[Panel], sharex: bool = False) -> Figure:
    """Draw windows below each other: the history and what follows it, joined, over dates."""
    figure = Figure((7, 0.9 + 1.9 * len(panels)), layout="constrained")  # inches
    axes = figure.subplots(len(panels), sharex=sharex, squeeze=False)[:, 0]
    for axis, (label, dates, history, lines, title) in zip(axes, panels, strict=True):
        now = len(history)
        axis.plot(dates[:now], history, color=TRUTH, linewidth=0.9, label="history")
        for name, values in lines.items():
            style, color = ("--", BLUE) if name == "forecast" else ("-", TRUTH)
            joined = np.append(history[-1], values)
            axis.plot(dates[now - 1 : now + len(values)], joined, style, color=color, label=name)
        axis.axvline(date2num(dates[now - 1]), color="0.7", linewidth=0.8)
        locator = AutoDateLocator(minticks=3, maxticks=8)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axis.set_ylabel(label.replace("$", r"\$"))  # a column's name is no mathematics
        axis.set_title(title, fontsize="medium")
    axes[0].legend(frameon=False, ncols=3)
    return figure


@dataclass(frozen=True)
class Prediction:
    """The forecast that follows one window, in original units."""

    names: list[str]  # output columns
    scaler: Scaler  # by whose deviations numbers are rounded
    past: pd.DatetimeIndex  # [seq_len]
    history: np.ndarray  # [seq_len, C]
    dates: pd.DatetimeIndex  # of the forecast [pred_len]
    values: np.ndarray  # the forecast [pred_len, C]
    attention: list[np.ndarray]  # the encoder layers' maps [H, L, L], if kept
    truth: np.ndarray | None = None  # what came instead [<= pred_len, C], where it is known

    def write(self, folder: Path, stem: str = "prediction") -> list[Path]:
        """Write STEM.csv and .png (and attention.npz), and return their paths.

        Another forecast of that name is never overwritten: this one's gets a number then.
        """
        table = pd.DataFrame(self.scaler.as_text(self.values), self.dates, self.names)
        following = {"forecast": self.values}
        if self.truth is not None:
            known = [f"{name} (truth)" for name in self.names]
            texts = np.where(np.isnan(self.truth), "", self.scaler.as_text(self.truth))
            table.loc[self.dates[: len(self.truth)], known] = texts
            following["truth"] = self.truth
        content = table.to_csv(index_label="date").encode()
        path = free_path(folder / f"{stem}.csv", content)
        write_atomic(path, content)
        dates, panels = self.past.append(self.dates).to_numpy(), []
        for i in range(len(self.names))[-MOST_PANELS:]:
            lines = {name: values[:, i] for name, values in following.items()}
            panels.append(Panel(self.names[i], dates, self.history[:, i], lines))
        figure = draw_windows(panels, sharex=True)
        figure.axes[-1].set_xlabel(f"date (forecast from {self.dates[0]})")
        paths = [path, path.with_suffix(".png")]
        write_atomic(paths[1], render(figure, "png"))
        if self.attention:
            paths.append(path.with_name(f"attention{path.stem.removeprefix(stem)}.npz"))
            write_npz(paths[2], {f"layer_{i}": maps for i, maps in enumerate(self.attention)})
        return paths


def free_path(path: Path, content: bytes) -> Path:
    """Return the path, or the first with a number before its suffix, that holds nothing else."""
    numbered = (path.with_stem(f"{path.stem}-{i}") for i in itertools.count(2))
    candidates = itertools.chain([path], numbered)
    return next(p for p in candidates if not p.exists() or p.read_bytes() == content)


@dataclass(frozen=True)
class Samples:
    """Test windows to be looked at, of the target column, in original units."""

    rank: np.ndarray  # one of WINDOWS, or the window's number [n]
    window: np.ndarray  # window numbers from 0 [n]
    mse: np.ndarray  # the target's error in each window, on scaled data [n]
    date: np.ndarray  # the file's dates [n, seq_len + pred_len]
    history: np.ndarray  # [n, seq_len]
    truth: np.ndarray  # [n, pred_len]
    pred: np.ndarray  # [n, pred_len]
    ridge: np.ndarray  # forecast of ridge regression [n, pred_len]
    target: str

    @classmethod
    def choose(
        cls,
        data: ForecastData,
        config: Config,
        wanted: str,
        pred: Tensor,
        true: Tensor,
        *,
        ridge: Forecaster,
    ) -> "Samples":
        """Pick best, median, worst and, the same in every run of a cell, fixed windows.

        `wanted` (--plot_windows) adds others; `pred` and `true` are the target's in all test
        windows [windows, pred_len], scaled.
        """
        mean, std = data.scaler.mean[-1], data.scaler.std[-1]

        def original(scaled: Tensor) -> np.ndarray:
            return scaled.cpu().numpy().astype(float) * std + mean

        mse = (pred - true).square().mean(1).numpy()
        ranked, count = np.argsort(mse, kind="stable"), len(mse)
        picked = [*ranked[[0, count // 2, -1]], count // 4, count // 2, 3 * count // 4]
        number: dict[str, int] = dict(zip(WINDOWS, picked, strict=True))
        words = list(dict.fromkeys([*number, *parse_windows(wanted, count)]))
        window = np.array([int(number.get(word, word)) for word in words])
        rows = data.test.start + window[:, None] + np.arange(config.seq_len + config.pred_len)
        values = original(data.test.values[..., -1])[rows]  # [n, seq_len + pred_len]
        index = torch.from_numpy(window).to(data.test.values.device)
        return cls(
            rank=np.array(words),
            window=window,
            mse=mse[window],
            date=data.dates.to_numpy()[rows],
            history=values[:, : config.seq_len],
            truth=values[:, config.seq_len :],
            pred=original(pred)[window],
            ridge=original(ridge(index)[..., -1]),
            target=data.columns[-1],
        )

    def write(self, folder: Path, wanted: str) -> None:
        """Write samples.npz and the plot forecasts.png of the windows asked for."""
        write_npz(folder / "samples.npz", {k: np.asarray(v) for k, v in vars(self).items()})
        panels, words = [], wanted.replace(" ", "").split(",")
        for i in np.flatnonzero(np.isin(self.rank, words)):
            title = f"{self.rank[i]}: test window {self.window[i]}, from "
            title += f"{pd.Timestamp(self.date[i, self.history.shape[1]])}, "
            title += f"MSE {self.mse[i]:.3g} (scaled)"
            lines = {"truth": self.truth[i], "forecast": self.pred[i]}
            panels.append(Panel(self.target, self.date[i], self.history[i], lines, title))
        write_atomic(folder / "forecasts.png", render(draw_windows(panels), "png"))


def parse_windows(wanted: str, count: int) -> list[str]:
    """Split --plot_windows; a UserError if a word is unknown or beyond the test windows."""
    words = wanted.replace(" ", "").split(",")
    for word in words:
        if word not in WINDOWS and not (word.isdecimal() and int(word) < count):
            raise UserError(
                f"--plot_windows {word}: must be {', '.join(WINDOWS)} or a number below {count}"
            )
    return words


def long_frame(data: ForecastData, config: Config, pred: Tensor) -> pd.DataFrame:
    """Lay out scaled test forecasts [windows, pred_len, C] by window, date and column.

    Forecast and truth are in original units, with the data's digits.
    """
    count, steps, width = pred.shape
    rows = data.test.start + config.seq_len + np.arange(count)[:, None] + np.arange(steps)
    true = data.test.values[..., -width:].cpu().numpy()[rows]  # [windows, pred_len, C]

    def texts(scaled: np.ndarray) -> np.ndarray:
        values = data.scaler.inverse(scaled.astype(float))
        return data.scaler.as_text(values.reshape(-1, width)).ravel()

    return pd.DataFrame(
        {
            "window": np.repeat(np.arange(count), steps * width),
            "date": np.repeat(data.dates.to_numpy()[rows].ravel(), width),
            "column": np.tile(data.columns[-width:], rows.size),
            "forecast": texts(pred.numpy()),
            "truth": texts(true),
        }
    )
