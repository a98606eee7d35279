"""Forecasts for people: `python -m exp.forecast RUN_FOLDER new.csv [more.csv]`; a run's samples."""

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.tseries.frequencies import to_offset
from torch import Tensor

from data.csv_reader import Table, date_hint, make_table, read_table
from data.data_loader import DataSettings, ForecastData, scaled_rows
from data.dates import parse_dates
from data.gaps import MISSING, regular_rows, treat_missing
from data.scaler import Scaler
from exp.baselines import Forecaster
from exp.checkpoint import load_into, load_weights
from exp.config import Config, Options, Parser, settings_of
from exp.exp_basic import lack, pick_device
from exp.exp_informer import Exp_Informer, TestForecasts
from models.layers import keep_freed_memory
from utils.environment import undisturbed
from utils.files import (
    UserError,
    free_path,
    make_folder,
    nearest,
    read_json,
    write_atomic,
    write_npz,
)
from utils.output import run_command
from utils.plots import Window, draw_windows, render

DRAWN = ("best", "median", "worst")  # test windows, by the error of the target
FIXED = ("1/4", "1/2", "3/4")  # of the test windows: the same in every run of a cell
MOST_PANELS = 8
UNKNOWN = "unknown"  # the time zone in records of earlier versions


def forecast(
    run_folder: Path | str, frame: pd.DataFrame | pd.Series, at: Any = None, device: str = "auto"
) -> pd.DataFrame:
    """Forecast the rows that follow a frame's with a finished run: [pred_len, C] over dates.

    torch's generators stay as they were, and threads get the numbers that they get alone.

    Args:
        frame: the run's columns in original units and in its step, over dates (the index, or a
            column `date`); dates in another time zone are converted. The last seq_len rows are
            read. A series where the run has one column.
        at: the first date to forecast instead; the seq_len rows before it are read.
        device: auto, cpu, cuda or cuda:N.

    A UserError says why a run or a frame cannot be used.
    """
    run, path = TrainedRun(Path(run_folder), device), Path("frame")
    if isinstance(frame, pd.Series):
        frame = frame.to_frame(run.columns[-1] if frame.name is None else frame.name)
    frame = frame.set_axis(list(map(str, frame.columns)), axis=1)
    dates: Any = frame.get("date", frame.index)
    if isinstance(dates, pd.RangeIndex):
        advice = "name the column of dates date, or make it the index"
        raise UserError(f"{path}: no column 'date'{date_hint(list(frame.columns))}; {advice}")
    run.check_columns(path, list(frame.columns))
    ahead = run.predict(make_table(frame.filter(run.columns), dates, path), at)
    return pd.DataFrame(ahead.values, ahead.dates.rename("date"), ahead.names)


class Prediction:
    """The forecast that follows an experiment's data, in original units.

    `truth` is what came instead [<= pred_len, C], as far as it is known.
    """

    def __init__(self, exp: Exp_Informer, truth: np.ndarray | None = None) -> None:
        (batch, forecast), data, width = exp.predict(), exp.data, exp.data.out_width
        self.names, self.scaler = data.columns[-width:], data.scaler
        self.truth = np.empty((0, width)) if truth is None else truth
        self.past, self.dates = data.dates[-exp.config.seq_len :], data.beyond
        self.history = self.scaler.inverse(batch.x[0, :, -width:].double().cpu().numpy())
        self.values = self.scaler.inverse(forecast.pred[0].double().cpu().numpy())  # [pred_len, C]
        self.attention = [layer[0].float().cpu().numpy() for layer in forecast.attns or []]

    def write(self, folder: Path, stem: str = "prediction") -> list[Path]:
        """Write STEM.csv and .png (and attention.npz), and return their paths.

        Another forecast of that name is never overwritten: this one's gets a number then.
        """
        table = pd.DataFrame(self.scaler.as_text(self.values), self.dates, self.names)
        following = {"forecast": self.values}
        if len(self.truth):
            suffixes = (f" (truth{i})" for i in itertools.chain([""], itertools.count(2)))
            taken = {*self.names}  # a column may have any name
            suffix = next(s for s in suffixes if not any(n + s in taken for n in self.names))
            known = [name + suffix for name in self.names]
            texts = np.where(np.isnan(self.truth), "", self.scaler.as_text(self.truth))
            table.loc[self.dates[: len(self.truth)], known] = texts
            following["truth"] = self.truth
        content = table.to_csv(index_label="date").encode()
        path = free_path(folder / f"{stem}.csv", content)
        write_atomic(path, content)
        dates, panels = self.past.append(self.dates).to_numpy(), []
        for i in range(len(self.names))[-MOST_PANELS:]:
            lines = {name: values[:, i] for name, values in following.items()}
            panels.append(Window(self.names[i], dates, self.history[:, i], lines))
        figure = draw_windows(panels, sharex=True)
        figure.axes[-1].set_xlabel(f"date (forecast from {self.dates[0]})")
        paths = [path, path.with_suffix(".png")]
        write_atomic(paths[1], render(figure, "png"))
        if self.attention:
            paths.append(path.with_name(f"attention{path.stem.removeprefix(stem)}.npz"))
            write_npz(paths[2], {f"layer_{i}": maps for i, maps in enumerate(self.attention)})
        return paths


def write_samples(
    folder: Path,
    data: ForecastData,
    config: Config,
    tested: TestForecasts,
    ridge: Forecaster | None,
) -> None:
    """Write samples.npz, six test windows of the target in original units, and forecasts.png.

    DRAWN are best, median and worst by its error; FIXED are the same in every run of a cell.
    """
    assert ridge, "it always applies"
    mean, std = data.scaler.mean[-1], data.scaler.std[-1]

    def original(scaled: Tensor) -> np.ndarray:
        return scaled.cpu().numpy().astype(float) * std + mean

    pred = tested.pred[..., -1]
    mse = (pred - tested.true).square().mean(1).numpy()
    ranked, count = np.argsort(mse, kind="stable"), len(mse)
    chosen = np.array(
        [*ranked[[0, count // 2, -1]], count // 4, count // 2, 3 * count // 4], dtype=int
    )
    rows = data.test.start + chosen[:, None] + np.arange(config.seq_len + config.pred_len)
    values = original(data.test.values[..., -1])[rows]  # [n, seq_len + pred_len]
    history, truth = values[:, : config.seq_len], values[:, config.seq_len :]
    dates, forecast = data.dates.to_numpy()[rows], original(pred)[chosen]  # [n, pred_len]
    baseline = original(ridge(torch.from_numpy(chosen).to(data.test.values.device))[..., -1])
    arrays = {
        **{"rank": np.array(DRAWN + FIXED), "window": chosen, "mse": mse[chosen], "date": dates},
        **{"history": history, "truth": truth, "pred": forecast, "ridge": baseline},
        "target": np.array(target := data.columns[-1]),
    }
    write_npz(folder / "samples.npz", arrays)
    ridge_mse = np.square((baseline - truth) / std).mean(axis=1)
    windows = []
    for i, rank in enumerate(DRAWN):
        title = (
            f"{rank}: test window {chosen[i]}, from {pd.Timestamp(dates[i, config.seq_len])}: MSE "
            f"of {target} {mse[chosen[i]]:.3g}, of ridge {ridge_mse[i]:.3g} (scaled)"
        )
        lines = {"truth": truth[i], "forecast": forecast[i], "ridge": baseline[i]}
        windows.append(Window(target, dates[i], history[i], lines, title))
    write_atomic(folder / "forecasts.png", render(draw_windows(windows), "png"))


class TrainedRun:
    """A finished run: its settings, its data's columns, scaler and step, its weights."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.options = folder, Options(device=device)
        try:
            body, metrics = (read_json(folder / f"{name}.json") for name in ("config", "metrics"))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{folder}: no finished run; name a run's folder in results") from None
        if metrics["status"] != "finished":
            raise UserError(f"{folder}: the run failed ({metrics['error']}); name a finished one")
        if metrics["weights_sha256"] is None:
            raise UserError(f"{folder}: weights were not kept (--weights drop); train with --force")
        settings = settings_of(body["identity"])
        if reason := lack(settings["amp"], pick_device(self.options)):
            print(f"note: {reason}: the forecast is made in fp32")
            settings["amp"] = "off"
        self.config = Config(**{**settings, "output_attention": False})
        scaling = body.get("scaler") or {}
        if "step" not in scaling:
            raise UserError(f"{folder}: an old record without scale and step; train with --force")
        self.columns, self.offset = scaling["columns"], to_offset(scaling["step"])
        self.zone = scaling.get("zone", UNKNOWN)
        self.max_gap = self.config.max_gap if self.config.missing == "interpolate" else None
        self.scaler = Scaler(np.array(scaling["mean"]), np.array(scaling["std"]))
        elsewhere = Path(body["environment"].get("checkpoints", folder)) / "weights.pt"
        path = folder / "weights.pt"
        self.weights = load_weights(path if path.exists() else elsewhere, metrics["weights_sha256"])

    def check_columns(self, path: Path, names: list[str]) -> None:
        """Refuse a file or frame that lacks a column, or names one twice."""
        for name in self.columns:
            if names.count(name) > 1:
                raise UserError(f"{path}: column {name!r} is there twice; rename one")
            if name not in names:
                hint = nearest(name, {*names} - {*self.columns})
                raise UserError(
                    f"{path}: has no column {name!r}{hint}, on which the run was trained; it reads "
                    f"{', '.join(self.columns)}"
                )

    def predict(self, table: Table, at: Any = None) -> Prediction:
        """Forecast what follows a table's rows, or its rows before a date."""
        path, config, offset, max_gap = table.path, self.config, self.offset, self.max_gap
        table = dataclasses.replace(self._in_zone(table), offset=offset)
        self.check_columns(path, list(table.values.columns))
        begin = self._first_date(table, at)
        fill = max_gap is not None
        steps = config.seq_len + (max_gap + 1 if fill else 0)  # to the value before a gap
        grid: Any = pd.date_range(end=begin, periods=steps + 1, freq=offset)[:-1]
        grid = grid[grid >= table.dates.min()]
        if len(grid) < config.seq_len:
            found = f"{len(grid)} rows before the first date to forecast"
            raise UserError(f"{path}: {found}; the run reads {config.seq_len} (seq_len)")
        past = regular_rows(table.between(grid[0], begin), self.columns, grid, fill)
        if fill:  # from the last row on, before those that are read, in which nothing is missing
            whole = (past.notna() & past.ne(MISSING)).all(axis=1).to_numpy()
            past = past.iloc[max(np.flatnonzero(whole[: 1 - config.seq_len]), default=0) :]
        past = treat_missing(past, path, max_gap, [(0, len(past))]).tail(config.seq_len)
        data = scaled_rows(table, past, self.scaler, DataSettings.of(config))
        names, beyond = data.columns[-data.out_width :], data.beyond
        later: Any = table.values[names].set_axis(table.dates)
        later = later[later.index.isin(beyond) & ~later.index.duplicated()]
        unknown = later.abs().eq(np.inf) | (later.eq(MISSING) & fill)  # a filled cell is no truth
        truth = later.mask(unknown).reindex(beyond[beyond <= table.dates.max()]).to_numpy()
        with undisturbed(torch.cuda.is_initialized() or pick_device(self.options).type == "cuda"):
            exp = Exp_Informer(config, self.options, data=data)
            load_into(exp.model, self.weights, self.folder)
            return Prediction(exp, truth)

    def _in_zone(self, table: Table) -> Table:
        """Return a table with its dates in the run's zone; one of both without is refused."""
        if self.zone in (table.zone, UNKNOWN):
            return table
        if table.zone is None or self.zone is None:
            zones = f"its dates have time zone {table.zone}, those of the run {self.zone}"
            raise UserError(f"{table.path}: {zones}; write them as the run's data file does")
        dates = table.dates.tz_localize(table.zone).tz_convert(self.zone).tz_localize(None)
        return dataclasses.replace(table, dates=dates)

    def _first_date(self, table: Table, at: Any) -> Any:
        """Return the first date to forecast: `at`, or the next after the last row's."""
        dates: Any = table.dates.dropna()
        after = dates.max() + self.offset if len(dates) else pd.Timestamp(0)
        if at is None or dates.empty:
            return after
        date: Any = parse_dates([at], table.path)[0]
        if date.tz is not None and self.zone:
            date = date.tz_convert(self.zone).tz_localize(None)
        if date.tz is not None or (date != after and date not in dates):
            first = min(dates.min() + self.config.seq_len * self.offset, after)
            raise UserError(
                f"--at {at}: {table.path} has no row of that date; give one from {first} to {after}"
            )
        return date


def main(words: list[str]) -> int:
    """Forecast what follows the rows of files, all before anything is written; plot and score."""
    parser = Parser("python -m exp.forecast", description=__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN_FOLDER", help="folder of a finished run")
    add("files", type=Path, nargs="+", metavar="FILE", help="CSV with new rows")
    add("--at", metavar="DATE", help="first date to forecast (after the last row)")
    add("--results", type=Path, help="folder of results (that of the run)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    asked = parser.parse_args(words)
    run, folder = TrainedRun(asked.run, asked.device), asked.run.resolve()
    if pick_device(run.options).type == "cpu":
        keep_freed_memory()
    predictions = [run.predict(read_table(path), asked.at) for path in asked.files]
    out = (asked.results or folder.parent) / f"forecast-{folder.name}"
    make_folder(out)
    for path, ahead in zip(asked.files, predictions, strict=True):
        first = f"_from-{ahead.dates[0]:%Y-%m-%dT%H%M%S}" if asked.at else ""
        for written in ahead.write(out, path.stem + first):
            print(f"wrote {written}")
        known: Any = np.isfinite(ahead.truth).all(axis=1)
        if known.any():
            error = (ahead.values[: len(known)] - ahead.truth)[known]
            scaled = error / ahead.scaler.std[-error.shape[1] :]
            print(
                f"{path}: {known.sum()} steps known: MSE {np.square(scaled).mean():.4f}, MAE "
                f"{np.abs(scaled).mean():.4f}; in original units: MSE {np.square(error).mean():.5g}"
                f", MAE {np.abs(error).mean():.5g}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
