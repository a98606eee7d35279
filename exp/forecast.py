"""Forecasts of a trained run: `python -m exp.forecast RUN_FOLDER new.csv ...`; its samples."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.tseries.frequencies import to_offset
from torch import Tensor

from data.csv_reader import Table, make_table, parse_dates, read_table
from data.data_loader import ForecastData, load_data, scaled_rows
from data.gaps import MISSING, regular_rows
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
    read_json,
    write_atomic,
    write_npz,
)
from utils.output import run_command
from utils.plots import Window, draw_windows, render

DRAWN = ("best", "median", "worst")  # test windows, by the error of the target
FIXED = ("1/4", "1/2", "3/4")  # of the test windows: the same in every run of a cell
MOST_PANELS = 8
UNKNOWN = "unknown"  # the time zone, in records of earlier versions


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
    run = TrainedRun(Path(run_folder), device)
    if isinstance(frame, pd.Series):
        frame = frame.to_frame(run.columns[-1] if frame.name is None else frame.name)
    cells: Any = frame.set_axis(frame.columns.map(str), axis=1)
    if "date" not in cells and not isinstance(index := cells.index, pd.RangeIndex):
        cells = cells.assign(date=index.start_time if isinstance(index, pd.PeriodIndex) else index)
    if "date" in cells:  # else what is there helps to say what is missing
        cells = cells.loc[:, cells.columns.isin(["date", *run.columns])]
    ahead = run.predict(make_table(cells, Path("frame"), offset=run.offset), at)
    return pd.DataFrame(ahead.values, ahead.dates.rename("date"), ahead.names)


class Prediction:
    """The forecast that follows an experiment's data, in original units.

    `truth` is what came instead, over the same dates and columns: NaN where it is not known.
    """

    def __init__(self, exp: Exp_Informer, truth: pd.DataFrame | None = None) -> None:
        (batch, forecast), data, width = exp.predict(), exp.data, exp.data.out_width
        self.names, self.scaler, self.truth = data.columns[-width:], data.scaler, truth
        self.past, self.dates = data.dates[-exp.config.seq_len :], data.beyond
        self.history = self.scaler.inverse(batch.x[0, :, -width:].double().cpu().numpy())
        self.values = self.scaler.inverse(forecast.pred[0].double().cpu().numpy())  # [pred_len, C]
        self.attention = [layer[0].float().cpu().numpy() for layer in forecast.attns or []]

    def write(self, folder: Path, stem: str = "prediction") -> list[Path]:
        """Write STEM.csv and .png (and attention.npz), and return their paths.

        Another forecast of that name is never overwritten: this one's gets a number then.
        """
        table = pd.DataFrame(self.values, self.dates, self.names)
        following = {"forecast": self.values}
        if self.truth is not None and self.truth.notna().any(axis=None):
            suffix = " (truth)"
            while {name + suffix for name in self.names} & {*self.names}:
                suffix += "'"  # a column may have any name
            table = table.join(self.truth.add_suffix(suffix))
            following["truth"] = self.truth.to_numpy()
        content = table.to_csv(index_label="date", float_format="%.12g").encode()
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
    count = len(mse)
    by_error = np.argsort(mse, kind="stable")[[0, count // 2, -1]]
    chosen = np.array([*by_error, count // 4, count // 2, 3 * count // 4], dtype=int)
    rows = data.test.start + chosen[:, None] + np.arange(config.seq_len + config.pred_len)
    values = original(data.test.values[..., -1])[rows]  # [n, seq_len + pred_len]
    arrays: dict[str, np.ndarray] = {
        "rank": np.array(DRAWN + FIXED),
        "window": chosen,
        "mse": mse[chosen],
        "date": data.dates.to_numpy()[rows],
        "history": values[:, : config.seq_len],
        "truth": values[:, config.seq_len :],
        "pred": original(pred)[chosen],  # [n, pred_len]
        "ridge": original(ridge(torch.from_numpy(chosen).to(data.test.values.device))[..., -1]),
        "target": np.array(data.columns[-1]),
    }
    write_npz(folder / "samples.npz", arrays)
    windows = []
    for i, rank in enumerate(DRAWN):
        one = {name: array[i] for name, array in arrays.items() if name != "target"}
        ridge_mse = np.square((one["ridge"] - one["truth"]) / std).mean()
        title = (
            f"{rank}: test window {one['window']}, from {pd.Timestamp(one['date'][config.seq_len])}"
            f": MSE {one['mse']:.3g}, of ridge {ridge_mse:.3g} (scaled)"
        )
        lines = {"truth": one["truth"], "forecast": one["pred"], "ridge": one["ridge"]}
        windows.append(Window(data.columns[-1], one["date"], one["history"], lines, title))
    write_atomic(folder / "forecasts.png", render(draw_windows(windows), "png"))


class TrainedRun:
    """A finished run: its settings, its data's columns, scaler and step, its weights."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.options = folder, Options(device=device)
        try:
            body, metrics = (read_json(folder / f"{name}.json") for name in ("config", "metrics"))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{folder}: no finished run; name a run's folder in results") from None
        if not {"identity", "environment"} <= body.keys() or "status" not in metrics:
            raise UserError(f"{folder}: its record is damaged; name another run")
        if metrics["status"] != "finished":
            raise UserError(f"{folder}: the run failed ({metrics['error']}); name a finished one")
        if metrics["weights_sha256"] is None:
            raise UserError(f"{folder}: made with --weights drop; train with --force to keep them")
        settings = settings_of(body["identity"])
        if reason := lack(settings["amp"], pick_device(self.options)):
            print(f"note: {reason}: the forecast is made in fp32")
            settings["amp"] = "off"
        self.config = Config(**{**settings, "output_attention": False})
        scaling = body.get("scaler") or {}
        if "step" not in scaling:
            scaling = self._measure(body)
        self.columns, self.offset = scaling["columns"], to_offset(scaling["step"])
        self.zone = scaling.get("zone", UNKNOWN)
        self.scaler = Scaler(np.array(scaling["mean"]), np.array(scaling["std"]))
        elsewhere = Path(body["environment"].get("checkpoints", folder)) / "weights.pt"
        path = folder / "weights.pt"
        self.weights = load_weights(path if path.exists() else elsewhere, metrics["weights_sha256"])

    def _measure(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take from the run's data file what records did not keep at first."""
        recorded = body["environment"]
        file = Path(recorded.get("folder", ""), recorded.get("data_file", ""))
        print(f"note: {self.folder}: the record lacks scale and step; they are taken from {file}")
        data = load_data(self.config, file.parent, file.name)
        if data.sha256 != body["identity"]["data_sha256"]:
            raise UserError(f"{file}: has changed since the run was trained; put the old one there")
        return data.scaling()

    def predict(self, table: Table, at: Any = None) -> Prediction:
        """Forecast what follows a table's rows, or its rows before a date."""
        config, path = self.config, table.path
        if missing := [name for name in self.columns if name not in table.values]:
            raise UserError(
                f"{path}: has no column {missing[0]!r}; the run reads {', '.join(self.columns)}"
            )
        table = dataclasses.replace(table, stamps=self._in_zone(table.stamps, path))
        begin = self._first_date(table, at)
        max_gap = config.max_gap if config.missing == "interpolate" else None
        steps = config.seq_len + (max_gap or 0)  # to the value before a gap
        grid: Any = pd.date_range(end=begin, periods=steps + 1, freq=self.offset)[:-1]
        grid = grid[grid >= table.dates.min()]
        if len(grid) < config.seq_len:
            found = f"{len(grid)} rows before the first date to forecast"
            raise UserError(f"{path}: {found}; the run reads {config.seq_len} (seq_len)")
        kept = (table.dates >= grid[0]) & (table.dates < begin)
        first, last = np.flatnonzero(kept)[[0, -1]] if kept.any() else (0, 0)
        if table.dates[first : None if at is None else last].isna().any():
            raise UserError(f"{path}: a row that is read has no date; correct it")
        read = dataclasses.replace(
            table, stamps=table.stamps[kept], values=table.values[kept], offset=self.offset
        )
        past = regular_rows(read, self.columns, grid, [(0, len(grid))], max_gap)
        past = past.tail(config.seq_len)
        data = scaled_rows(read, past, self.scaler, config)
        later: Any = table.values[data.columns[-data.out_width :]].set_axis(table.dates)
        later = later[~later.index.duplicated()].reindex(data.beyond).replace(np.inf, np.nan)
        if max_gap is not None:
            later = later.replace(MISSING, np.nan)  # a filled cell is no truth
        with undisturbed(torch.cuda.is_initialized() or pick_device(self.options).type == "cuda"):
            exp = Exp_Informer(config, self.options, data=data)
            load_into(exp.model, self.weights, self.folder)
            return Prediction(exp, later)

    def _in_zone(self, stamps: pd.DatetimeIndex, where: Any) -> pd.DatetimeIndex:
        """Return dates in the run's time zone, if it is known; one of both without is refused."""
        if self.zone == UNKNOWN:
            return stamps
        if (stamps.tz is None) != (self.zone is None):
            zones = f"dates have time zone {stamps.tz}, those of the run {self.zone}"
            raise UserError(f"{where}: {zones}; write them as the run's data file does")
        return stamps.tz_convert(self.zone) if self.zone else stamps

    def _first_date(self, table: Table, at: Any) -> Any:
        """Return the first date to forecast: `at`, or the next after the last row's."""
        dates: Any = table.dates.dropna()
        if dates.empty:
            raise UserError(f"{table.path}: no row has a date; the run reads seq_len rows")
        after = dates.max() + self.offset
        if at is None:
            return after
        stamps = parse_dates([at], table.path)
        stamps = stamps if stamps.tz is None else self._in_zone(stamps, f"--at {at}")
        (date,) = stamps.tz_localize(None)
        if date != after and date not in dates:
            span = f"{table.path} has no row of that date; give one of its dates, or {after}"
            raise UserError(f"--at {at}: {span}")
        return date


def main(argv: list[str]) -> int:
    """Forecast what follows the rows of files, all before anything is written; plot and score."""
    parser = Parser("python -m exp.forecast", description=__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN_FOLDER", help="folder of a finished run")
    add("files", type=Path, nargs="+", metavar="FILE", help="CSV with new rows")
    add("--at", metavar="DATE", help="first date to forecast (after the last row)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    args = parser.parse_args(argv)
    run, folder = TrainedRun(args.run, args.device), args.run.resolve()
    if pick_device(run.options).type == "cpu":
        keep_freed_memory()
    predictions = [run.predict(read_table(path), args.at) for path in args.files]
    out = folder.with_name(f"forecast-{folder.name}")
    make_folder(out)
    for path, ahead in zip(args.files, predictions, strict=True):
        first = f"_from-{ahead.dates[0]:%Y-%m-%dT%H%M%S}" if args.at else ""
        for written in ahead.write(out, path.stem + first):
            print(f"wrote {written}")
        error: Any = (ahead.truth - ahead.values).dropna()
        if len(error):
            scaled = error / ahead.scaler.std[-error.shape[1] :]
            print(
                f"{path}: {len(error)} steps known: MSE {scaled.pow(2).mean(axis=None):.4f}, MAE "
                f"{scaled.abs().mean(axis=None):.4f} (scaled); MAE "
                f"{error.abs().mean(axis=None):.5g} in original units"
            )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
