"""Forecasts as people read them: dated tables and plots in original units."""

import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
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
    """The forecast that follows one window.

    Attributes:
        names: output columns.
        scaler: by whose deviations numbers are rounded.
        past: dates of the input window [seq_len].
        history: its values [seq_len, C], original units.
        dates: dates of the forecast [pred_len].
        values: the forecast [pred_len, C], original units.
        attention: the encoder layers' maps [H, L, L], where --output_attention keeps them.
        truth: what came instead [<= pred_len, C], original units, where it is known.
    """

    names: list[str]
    scaler: Scaler
    past: pd.DatetimeIndex
    history: np.ndarray
    dates: pd.DatetimeIndex
    values: np.ndarray
    attention: list[np.ndarray]
    truth: np.ndarray | None = None

    def write(self, folder: Path, stem: str = "prediction") -> list[Path]:
        """Write STEM.csv and .png (and attention.npz), and return their paths.

        Another forecast of that name is never overwritten: this one's gets a number then.
        """
        table = pd.DataFrame(self.scaler.as_text(self.values), self.dates, self.names)
        columns = {name: {"forecast": self.values[:, i]} for i, name in enumerate(self.names)}
        if self.truth is not None:
            known = len(self.truth)
            names = [f"{name} (truth)" for name in self.names]
            table.loc[self.dates[:known], names] = self.scaler.as_text(self.truth)
            for i, name in enumerate(self.names):
                columns[name]["truth"] = self.truth[:, i]
        content = table.to_csv(index_label="date").encode()
        paths = [free_path(folder / f"{stem}.csv", content)]
        write_atomic(paths[0], content)
        shown = self.names[-MOST_PANELS:]
        figure, axes = plt.subplots(
            len(shown), 1, figsize=(7, 0.9 + 1.7 * len(shown)), sharex=True, squeeze=False
        )
        dates = np.concatenate([self.past.to_numpy(), self.dates.to_numpy()])
        for axis, name in zip(axes[:, 0], shown, strict=True):
            draw_window(axis, dates, self.history[:, self.names.index(name)], columns[name])
            axis.set_ylabel(plain(name))
        axes[0, 0].legend(frameon=False, ncols=3)
        axes[-1, 0].set_xlabel(f"date (forecast from {self.dates[0]})")
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
    """Test windows to be looked at, of the target column, in original units.

    Attributes:
        rank: best, median, worst, a key of FIXED, or the window's number [n].
        window: window numbers from 0 [n].
        mse: the target's error in each window, on scaled data [n].
        date: the file's dates [n, seq_len + pred_len].
        history: [n, seq_len].
        truth: [n, pred_len].
        pred: [n, pred_len].
        ridge: forecast of ridge regression [n, pred_len].
        target: the column's name.
    """

    rank: np.ndarray
    window: np.ndarray
    mse: np.ndarray
    date: np.ndarray
    history: np.ndarray
    truth: np.ndarray
    pred: np.ndarray
    ridge: np.ndarray
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
        """Pick best, median, worst and fixed windows, and those named by number.

        Args:
            data: the data set.
            config: lengths.
            wanted: words and numbers with commas, as --plot_windows takes them.
            pred: forecasts of the target in all test windows [n, pred_len], scaled.
            true: the truth [n, pred_len], scaled.
            ridge: the ridge regression.

        Raises:
            UserError: a word is unknown or a number is out of range.
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

    def write(self, folder: Path, wanted: str) -> Path:
        """Write samples.npz and the plot forecasts.png of the windows asked for."""
        write_npz(folder / "samples.npz", {k: np.asarray(v) for k, v in vars(self).items()})
        words = parse_windows(wanted, None)
        shown = [i for i, rank in enumerate(self.rank) if rank in words]
        figure, axes = plt.subplots(
            len(shown), 1, figsize=(7, 0.9 + 2.0 * len(shown)), squeeze=False
        )
        for axis, i in zip(axes[:, 0], shown, strict=True):
            first = str(self.date[i, self.history.shape[1]].astype("datetime64[s]"))
            lines = {"truth": self.truth[i], "forecast": self.pred[i]}
            draw_window(axis, self.date[i], self.history[i], lines)
            axis.set_ylabel(plain(self.target))
            axis.set_title(
                f"{self.rank[i]}: test window {self.window[i]}, from {first.replace('T', ' ')}, "
                f"MSE {self.mse[i]:.3g} (scaled)",
                fontsize="medium",
            )
        axes[0, 0].legend(frameon=False, ncols=3)
        figure.tight_layout()
        path = folder / "forecasts.png"
        save_figure(figure, path)
        return path


def draw_window(
    axis: Axes, dates: np.ndarray, history: np.ndarray, ahead: dict[str, np.ndarray]
) -> None:
    """Draw a window's history and what follows it, joined, over the file's dates.

    Args:
        axis: where.
        dates: datetime64 [seq_len + pred_len].
        history: [seq_len].
        ahead: name of each line (truth, forecast) to its values [pred_len].
    """
    now = len(history)
    axis.plot(dates[:now], history, color=TRUTH, linewidth=0.9, label="history")
    for name, values in ahead.items():
        line = ("--", FORECAST) if name == "forecast" else ("-", TRUTH)
        joined = np.concatenate([history[-1:], values])
        axis.plot(dates[now - 1 : now + len(values)], joined, line[0], color=line[1], label=name)
    axis.axvline(date2num(dates[now - 1]), color="0.7", linewidth=0.8)
    locator = AutoDateLocator(minticks=3, maxticks=8)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def long_frame(data: ForecastData, config: Config, pred: Tensor) -> pd.DataFrame:
    """Lay out all test forecasts, one row a window, step and column, in original units.

    Args:
        data: the data set.
        config: lengths.
        pred: forecasts [windows, pred_len, C], scaled.

    Returns:
        Columns window, date, column, forecast, truth.
    """
    count, _, width = pred.shape
    rows = data.test.start + config.seq_len + np.arange(count)[:, None] + np.arange(pred.shape[1])
    names = data.columns[-width:]
    true = data.test.values[..., -width:].cpu().numpy()[rows]  # [windows, pred_len, C]
    return pd.DataFrame(
        {
            "window": np.repeat(np.arange(count), rows.shape[1] * width),
            "date": np.repeat(data.dates.to_numpy()[rows].ravel(), width),
            "column": np.tile(names, rows.size),
            "forecast": _texts(data, pred.numpy()),
            "truth": _texts(data, true),
        }
    )


def _texts(data: ForecastData, scaled: np.ndarray) -> np.ndarray:
    """Write scaled values [..., C] in original units, with the digits that the data have."""
    values = data.scaler.inverse(scaled.astype(float))
    return data.scaler.as_text(values.reshape(-1, values.shape[-1])).ravel()


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
    figure.savefig(buffer, format="png", dpi=200, bbox_inches="tight")
    plt.close(figure)
    write_atomic(path, buffer.getvalue())
