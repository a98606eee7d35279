"""Forecasts as people read them: dated tables and plots in original units."""

import io
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
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
from utils.errors import UserError
from utils.files import write_atomic, write_npz

mpl.use("Agg")
TRUTH, FORECAST = "#444444", "#0072B2"  # distinct in grey and for the colour-blind
MOST_PANELS = 8
RANKS = ("best", "median", "worst")
FIXED = {"1/4": 0.25, "1/2": 0.5, "3/4": 0.75}  # the same windows in every run of a cell


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
        names, truth = self.names, self.truth
        table = pd.DataFrame(self.scaler.as_text(self.values), self.dates, names)
        lines = {name: {"forecast": self.values[:, i]} for i, name in enumerate(names)}
        if truth is not None:
            known = [f"{name} (truth)" for name in names]
            table.loc[self.dates[: len(truth)], known] = self.scaler.as_text(truth)
            for i, name in enumerate(names):
                lines[name]["truth"] = truth[:, i]
        content = table.to_csv(index_label="date").encode()
        paths = [free_path(folder / f"{stem}.csv", content)]
        write_atomic(paths[0], content)
        dates = np.concatenate([self.past.to_numpy(), self.dates.to_numpy()])
        panels = [
            (name, dates, self.history[:, names.index(name)], lines[name])
            for name in names[-MOST_PANELS:]
        ]
        figure = draw_windows(panels, sharex=True)
        figure.axes[-1].set_xlabel(f"date (forecast from {self.dates[0]})")
        paths.append(paths[0].with_suffix(".png"))
        save_figure(figure, paths[1])
        if self.attention:
            paths.append(folder / "attention.npz")
            write_npz(paths[2], {f"layer_{i}": maps for i, maps in enumerate(self.attention)})
        return paths


def free_path(path: Path, content: bytes) -> Path:
    """Return the path, or the first with a number before its suffix, that holds nothing else."""
    numbered = (path.with_name(f"{path.stem}-{i}{path.suffix}") for i in itertools.count(2))
    candidates = itertools.chain([path], numbered)
    return next(p for p in candidates if not p.exists() or p.read_bytes() == content)


@dataclass(frozen=True)
class Samples:
    """Test windows to be looked at, of the target column, in original units."""

    rank: np.ndarray  # best, median, worst, a key of FIXED, or the window's number [n]
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
        """Pick best, median, worst and fixed windows, and those that --plot_windows names.

        `pred` and `true` are the target's in all test windows [windows, pred_len], scaled.
        """
        mse = (pred - true).square().mean(1).numpy()
        ranked = np.argsort(mse, kind="stable")
        number = dict(zip(RANKS, ranked[[0, len(mse) // 2, -1]], strict=True))
        number |= {name: int(share * len(mse)) for name, share in FIXED.items()}
        words = [*number, *(w for w in parse_windows(wanted, len(mse)) if w not in number)]
        window = np.array([number.get(word, word) for word in words], dtype=int)
        mean, std = data.scaler.mean[-1], data.scaler.std[-1]
        rows = data.test.start + window[:, None] + np.arange(config.seq_len + config.pred_len)
        values = data.test.values[..., -1].cpu().numpy().astype(float) * std + mean
        index = torch.from_numpy(window).to(data.test.values.device)
        linear = ridge(index)[..., -1].cpu().numpy()  # [n, pred_len]
        return cls(
            rank=np.array(words),
            window=window,
            mse=mse[window],
            date=data.dates.to_numpy()[rows],
            history=values[rows[:, : config.seq_len]],
            truth=values[rows[:, config.seq_len :]],
            pred=pred.numpy()[window].astype(float) * std + mean,
            ridge=linear.astype(float) * std + mean,
            target=data.columns[-1],
        )

    def write(self, folder: Path, wanted: str) -> None:
        """Write samples.npz and the plot forecasts.png of the windows asked for."""
        write_npz(folder / "samples.npz", {k: np.asarray(v) for k, v in vars(self).items()})
        words = parse_windows(wanted, None)
        shown = [i for i, rank in enumerate(self.rank) if rank in words]
        panels = [
            (self.target, self.date[i], self.history[i], {"truth": t, "forecast": p})
            for i, t, p in zip(shown, self.truth[shown], self.pred[shown], strict=True)
        ]
        figure = draw_windows(panels)
        for axis, i in zip(figure.axes, shown, strict=True):
            first = str(self.date[i, self.history.shape[1]].astype("datetime64[s]"))
            axis.set_title(
                f"{self.rank[i]}: test window {self.window[i]}, from {first.replace('T', ' ')}, "
                f"MSE {self.mse[i]:.3g} (scaled)",
                fontsize="medium",
            )
        save_figure(figure, folder / "forecasts.png")


def draw_windows(
    panels: list[tuple[str, Any, Any, dict[str, Any]]], sharex: bool = False
) -> Figure:
    """Draw windows below each other: the history and what follows it, joined, over dates.

    A panel is its label, dates [seq_len + pred_len], history [seq_len] and the lines that follow,
    truth and forecast [<= pred_len].
    """
    size = (7, 0.9 + 1.9 * len(panels))  # inches
    figure, axes = plt.subplots(len(panels), 1, figsize=size, sharex=sharex, squeeze=False)
    for axis, (label, dates, history, lines) in zip(axes[:, 0], panels, strict=True):
        now = len(history)
        axis.plot(dates[:now], history, color=TRUTH, linewidth=0.9, label="history")
        for name, values in lines.items():
            style, color = ("--", FORECAST) if name == "forecast" else ("-", TRUTH)
            joined = np.concatenate([history[-1:], values])
            axis.plot(dates[now - 1 : now + len(values)], joined, style, color=color, label=name)
        axis.axvline(date2num(dates[now - 1]), color="0.7", linewidth=0.8)
        locator = AutoDateLocator(minticks=3, maxticks=8)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axis.set_ylabel(label.replace("$", r"\$"))  # a column's name is no mathematics
    figure.axes[0].legend(frameon=False, ncols=3)
    return figure


def long_frame(data: ForecastData, config: Config, pred: Tensor) -> pd.DataFrame:
    """Lay out test forecasts [windows, pred_len, C], scaled, one row a window, step and column.

    Returns:
        Columns window, date, column, forecast, truth, in original units with the data's digits.
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


def parse_windows(wanted: str, count: int | None) -> list[str]:
    """Split --plot_windows; a UserError if a word is unknown or beyond the test windows."""
    words = wanted.replace(" ", "").split(",")
    for word in words:
        inside = word.isdecimal() and (count is None or int(word) < count)
        if word not in (*RANKS, *FIXED) and not inside:
            raise UserError(
                f"--plot_windows {word}: must be best, median, worst, {', '.join(FIXED)} "
                f"or a number below {count}"
            )
    return words


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and forget it."""
    buffer = io.BytesIO()
    figure.tight_layout()
    figure.savefig(buffer, format="png", dpi=200, bbox_inches="tight")
    plt.close(figure)
    write_atomic(path, buffer.getvalue())
