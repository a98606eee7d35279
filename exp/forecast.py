"""Forecasts for people: `python -m exp.forecast RUN_FOLDER new.csv [more.csv]`; a run's samples."""

import dataclasses
import itertools
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.tseries.frequencies import to_offset
from torch import Tensor

from data.csv_reader import Table, date_hint, make_table, read_table
from data.data_loader import DataSettings, ForecastData, scaled_rows
from data.dates import dates_after
from data.gaps import MISSING, regular_rows, treat_missing
from data.scaler import Scaler
from exp.baselines import Forecaster
from exp.checkpoint import load_into, load_weights
from exp.config import Config, Options, Parser, settings_of
from exp.exp_basic import lack, load, pick_device
from exp.exp_informer import Exp_Informer, TestForecasts
from models.layers import keep_freed_memory
from utils.files import UserError, make_folder, nearest, read_json, write_atomic, write_npz
from utils.output import run_command
from utils.plots import Window, draw_windows, render

DRAWN = ("best", "median", "worst")  # test windows, by the error of the target
FIXED = ("1/4", "1/2", "3/4")  # of the test windows: the same in every run of a cell
MOST_PANELS = 8
_one_at_a_time = threading.Lock()  # models draw from the one generator of the process


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

    @classmethod
    def of(cls, exp: Exp_Informer, truth: np.ndarray | None = None) -> "Prediction":
        """Forecast what follows an experiment's data."""
        batch, forecast = exp.predict()
        data, width = exp.data, exp.data.out_width
        return cls(
            names=data.columns[-width:],
            scaler=data.scaler,
            past=data.dates[-exp.config.seq_len :],
            history=data.scaler.inverse(batch.x[0, :, -width:].double().cpu().numpy()),
            dates=data.beyond,
            values=data.scaler.inverse(forecast.pred[0].double().cpu().numpy()),
            attention=[layer[0].float().cpu().numpy() for layer in forecast.attns or []],
            truth=truth,
        )

    def write(self, folder: Path, stem: str = "prediction") -> list[Path]:
        """Write STEM.csv and .png (and attention.npz), and return their paths.

        Another forecast of that name is never overwritten: this one's gets a number then.
        """
        table = pd.DataFrame(self.scaler.as_text(self.values), self.dates, self.names)
        following = {"forecast": self.values}
        if self.truth is not None:
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


def free_path(path: Path, content: bytes) -> Path:
    """Return the path, or the first with a number before its suffix, that holds nothing else."""
    numbered = (path.with_stem(f"{path.stem}-{i}") for i in itertools.count(2))
    candidates = itertools.chain([path], numbered)
    return next(p for p in candidates if not p.exists() or p.read_bytes() == content)


@dataclass(frozen=True)
class Samples:
    """Test windows to be looked at, of the target column, in original units."""

    rank: np.ndarray  # one of DRAWN or FIXED [n]
    window: np.ndarray  # window numbers from 0 [n]
    mse: np.ndarray  # the target's error in each window, on scaled data [n]
    date: np.ndarray  # the file's dates [n, seq_len + pred_len]
    history: np.ndarray  # [n, seq_len]
    truth: np.ndarray  # [n, pred_len]
    pred: np.ndarray  # [n, pred_len]
    ridge: np.ndarray  # forecast of ridge regression [n, pred_len]
    std: np.ndarray  # the target's standard deviation, by which its errors are scaled
    target: str

    @classmethod
    def choose(
        cls, data: ForecastData, config: Config, tested: TestForecasts, ridge: Forecaster | None
    ) -> "Samples":
        """Pick the best, median and worst test windows, and the fixed ones."""
        assert ridge, "it always applies"
        mean, std = data.scaler.mean[-1], data.scaler.std[-1]

        def original(scaled: Tensor) -> np.ndarray:
            return scaled.cpu().numpy().astype(float) * std + mean

        pred = tested.pred[..., -1]
        mse = (pred - tested.true).square().mean(1).numpy()
        ranked, count = np.argsort(mse, kind="stable"), len(mse)
        by_error = ranked[[0, count // 2, -1]]
        window = np.array([*by_error, count // 4, count // 2, 3 * count // 4])
        rows = data.test.start + window[:, None] + np.arange(config.seq_len + config.pred_len)
        values = original(data.test.values[..., -1])[rows]  # [n, seq_len + pred_len]
        index = torch.from_numpy(window).to(data.test.values.device)
        return cls(
            rank=np.array(DRAWN + FIXED),
            window=window,
            mse=mse[window],
            date=data.dates.to_numpy()[rows],
            history=values[:, : config.seq_len],
            truth=values[:, config.seq_len :],
            pred=original(pred)[window],
            ridge=original(ridge(index)[..., -1]),
            std=np.array(std),
            target=data.columns[-1],
        )

    def write(self, folder: Path) -> None:
        """Write samples.npz, and forecasts.png of the best, median and worst window."""
        write_npz(folder / "samples.npz", {k: np.asarray(v) for k, v in vars(self).items()})
        windows, steps = [], self.history.shape[1]
        ridge_mse = np.square((self.ridge - self.truth) / self.std).mean(axis=1)
        for i, rank in enumerate(DRAWN):
            title = (
                f"{rank}: test window {self.window[i]}, from {pd.Timestamp(self.date[i, steps])}: "
                f"MSE of {self.target} {self.mse[i]:.3g}, of ridge {ridge_mse[i]:.3g} (scaled)"
            )
            lines = {"truth": self.truth[i], "forecast": self.pred[i], "ridge": self.ridge[i]}
            windows.append(Window(self.target, self.date[i], self.history[i], lines, title))
        write_atomic(folder / "forecasts.png", render(draw_windows(windows), "png"))


def all_forecasts(
    data: ForecastData, config: Config, pred: Tensor
) -> dict[str, Callable[[], np.ndarray]]:
    """Give what makes forecasts.npz of scaled test forecasts [windows, pred_len, C].

    Its arrays are dates [windows, pred_len], pred and true [windows, pred_len, C] in original
    units, and the columns' names [C].
    """
    count, steps, width = pred.shape
    rows = data.test.start + config.seq_len + np.arange(count)[:, None] + np.arange(steps)
    scaled = data.test.values[:, -width:].cpu().numpy()
    return {
        "columns": lambda: np.array(data.columns[-width:]),
        "dates": lambda: data.dates.to_numpy()[rows],
        "pred": lambda: data.scaler.inverse(pred.numpy()),
        "true": lambda: data.scaler.inverse(scaled)[rows],
    }


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
        scaling = self._scaling(body)
        self.columns, self.offset = scaling["columns"], to_offset(scaling["step"])
        self.zone, self.zone_known = scaling.get("zone"), "zone" in scaling
        self.max_gap = self.config.max_gap if self.config.missing == "interpolate" else None
        self.scaler = Scaler(np.array(scaling["mean"]), np.array(scaling["std"]))
        elsewhere = Path(body["environment"].get("checkpoints", folder)) / "weights.pt"
        path = folder / "weights.pt"
        self.weights = load_weights(path if path.exists() else elsewhere, metrics["weights_sha256"])

    def _scaling(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return columns, mean, std and step, measured anew where an older record lacks them."""
        if "step" in (known := body.get("scaler") or {}):
            return known
        file, sha256 = Path(body["environment"]["data_file"]), body["identity"]["data_sha256"]
        place = dataclasses.replace(self.options, root_path=file.parent, data_path=file.name)
        try:
            data = load(self.config, place)
            if data.sha256 != sha256:
                raise UserError("the file has changed")
        except UserError as error:
            raise UserError(
                f"{self.folder}: an earlier version trained it and did not record scaler and step; "
                f"they take its data file {file}, sha256 {sha256} ({error})"
            ) from error
        return data.scaling()

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
        device = pick_device(self.options)
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
        devices = [device] if device.type == "cuda" and not devices else devices
        with _one_at_a_time, torch.random.fork_rng(devices):
            exp = Exp_Informer(config, self.options, data=data)
            load_into(exp.model, self.weights, self.folder)
            return Prediction.of(exp, truth if len(truth) else None)

    def _in_zone(self, table: Table) -> Table:
        """Return a table with its dates in the run's zone; one of both without is refused."""
        if not self.zone_known or table.zone == self.zone:
            return table
        if table.zone is None or self.zone is None:
            zones = f"its dates have {_zone(table.zone)}, those of the run {_zone(self.zone)}"
            raise UserError(f"{table.path}: {zones}; write them as the run's data file does")
        dates = table.dates.tz_localize(table.zone).tz_convert(self.zone).tz_localize(None)
        return dataclasses.replace(table, dates=dates, zone=self.zone)

    def _first_date(self, table: Table, at: Any) -> Any:
        """Return the first date to forecast: `at`, or the next after the last row's."""
        dates: Any = table.dates.dropna()
        if dates.empty:
            needed = f"the run reads {self.config.seq_len} (seq_len)"
            raise UserError(f"{table.path}: 0 rows before the first date to forecast; {needed}")
        after = dates_after(dates.max(), 1, self.offset, table.path)[0]
        if at is None:
            return after
        date = pd.to_datetime(at, errors="coerce", format="ISO8601")
        if date.tz is not None and self.zone:
            date = date.tz_convert(self.zone).tz_localize(None)
        if date.tz is not None or (date != after and date not in dates):
            first = min(dates.min() + self.config.seq_len * self.offset, after)
            raise UserError(
                f"--at {at}: {table.path} has no row of that date; give one from {first} to {after}"
            )
        return date


def _zone(name: str | None) -> str:
    return f"the time zone {name}" if name else "no time zone"


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
        truth = np.empty((0, len(ahead.names))) if ahead.truth is None else ahead.truth
        known = np.isfinite(truth).all(axis=1)
        if known.any():
            error = (ahead.values[: len(truth)] - truth)[known]
            scaled = error / ahead.scaler.std[-error.shape[1] :]
            print(
                f"{path}: {known.sum()} steps known: MSE {np.square(scaled).mean():.4f}, MAE "
                f"{np.abs(scaled).mean():.4f}; in original units: MSE {np.square(error).mean():.5g}"
                f", MAE {np.abs(error).mean():.5g}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
