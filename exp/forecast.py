"""Forecasts of a trained run: `python -m exp.forecast RUN_FOLDER new.csv ...`; its plots."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.tseries.frequencies import to_offset

from data.csv_reader import Table, make_table, parse_dates, read_table
from data.data_loader import ForecastData, scaled_rows
from data.scaler import Scaler
from exp.baselines import Forecaster
from exp.checkpoint import load_weights
from exp.config import Config, Options, Parser, settings_of
from exp.exp_basic import pick_device
from exp.exp_informer import Exp_Informer, TestForecasts
from models import MODELS
from utils.files import UserError, make_folder, read_json, write_atomic, write_npz
from utils.output import run_command
from utils.plots import Window, draw_windows, render

MOST_PANELS = 8


def forecast(
    run_folder: Path | str, frame: pd.DataFrame, at: Any = None, device: str = "auto"
) -> pd.DataFrame:
    """Forecast the rows that follow a frame's with a finished run: [pred_len, C] over dates.

    Args:
        frame: the run's columns in original units and in its step, over dates (the index, or a
            column `date`). The last seq_len rows are read.
        at: the first date to forecast instead; the seq_len rows before it are read.
        device: auto, cpu, cuda or cuda:N.

    A UserError says why a run or a frame cannot be used. torch's generators stay as they were.
    """
    cells = frame if "date" in frame else frame.rename_axis("date").reset_index()
    table = make_table(cells, Path("frame"))
    return TrainedRun(Path(run_folder), device).predict(table, at).ahead


class Prediction:
    """The forecast that follows an experiment's data, in original units over dates.

    `cells` are rows that may hold what came instead, the truth.
    """

    def __init__(self, exp: Exp_Informer, cells: pd.DataFrame | None = None) -> None:
        (batch, forecast), data, width = exp.predict(), exp.data, exp.data.out_width
        names, dates = data.columns[-width:], data.beyond.rename("date")
        self.std, inverse = data.scaler.std[-width:], data.scaler.inverse
        history = inverse(batch.x[0, :, -width:].double().cpu().numpy())  # [seq_len, C]
        ahead = inverse(forecast.pred[0].double().cpu().numpy())  # [pred_len, C]
        self.history = pd.DataFrame(history, data.dates[-len(history) :], names)
        self.ahead = pd.DataFrame(ahead, dates, names)
        later: Any = self.history if cells is None else cells[~cells.index.duplicated()]
        truth = later[names].reindex(dates).apply(pd.to_numeric, errors="coerce")
        self.truth = truth.dropna(axis=1, how="all")  # of the columns that are known
        self.attention = [layer[0].float().cpu().numpy() for layer in forecast.attns or []]

    def write(self, folder: Path, stem: str = "prediction") -> list[Path]:
        """Write STEM.csv, STEM.png and the attention maps, if there are any; return their paths."""
        paths = [folder / f"{stem}.csv", folder / f"{stem}.png"]
        table = self.ahead.join(self.truth.add_suffix(" (truth)"))
        write_atomic(paths[0], table.to_csv(float_format="%.12g").encode())
        dates, panels = self.history.index.append(self.ahead.index).to_numpy(), []
        for name in self.ahead.columns[-MOST_PANELS:]:
            lines = {"forecast": self.ahead[name].to_numpy()}
            lines |= {"truth": self.truth[name].to_numpy()} if name in self.truth else {}
            panels.append(Window(name, dates, self.history[name].to_numpy(), lines))
        figure = draw_windows(panels, sharex=True)
        figure.axes[-1].set_xlabel(f"date (forecast from {self.ahead.index[0]})")
        write_atomic(paths[1], render(figure, "png"))
        if self.attention:
            paths.append(folder / "attention.npz")
            write_npz(paths[2], {f"layer_{i}": maps for i, maps in enumerate(self.attention)})
        return paths


def write_samples(
    folder: Path, data: ForecastData, config: Config, test: TestForecasts, ridge: Forecaster | None
) -> None:
    """Draw forecasts.png: the best, median and worst test window, by the target's error."""
    assert ridge, "it always applies"
    mse = (test.pred[..., -1] - test.true).square().mean(1)  # [windows]
    chosen = mse.argsort(stable=True)[[0, len(mse) // 2, -1]]
    index, panels = chosen.to(data.test.values.device), []
    batch = data.test.batch(index)
    scaled = (batch.x, batch.y[:, config.label_len :], test.pred[chosen], ridge(index))
    targets = [data.scaler.inverse(one[..., -1:].double().cpu().numpy())[..., 0] for one in scaled]
    for i, rank in enumerate(("best", "median", "worst")):
        history, *after = (target[i] for target in targets)
        first = data.test.start + int(chosen[i])
        dates = data.dates[first : first + config.seq_len + config.pred_len]
        window = f"test window {chosen[i]}, from {dates[config.seq_len]}"
        title = f"{rank}: {window}: MSE {mse[chosen[i]]:.3g} (scaled)"
        lines: dict[str, Any] = dict(zip(("truth", "forecast", "ridge"), after, strict=True))
        panels.append(Window(data.columns[-1], dates.to_numpy(), history, lines, title))
    write_atomic(folder / "forecasts.png", render(draw_windows(panels), "png"))


class TrainedRun:
    """A finished run: its settings, its data's columns, scaler and step, its weights."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.options = folder, Options(device=device)
        try:
            body, metrics = (read_json(folder / f"{name}.json") for name in ("config", "metrics"))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{folder}: no finished run; name a run's folder in results") from None
        identity, scaling = body["identity"], body.get("scaler") or {}
        if metrics["status"] != "finished" or not metrics["weights_sha256"]:
            raise UserError(f"{folder}: failed, or made with --weights drop; name another run")
        old = identity["model"] not in MODELS or "missing" in identity or scaling.get("zone")
        if old or "step" not in scaling:
            what = "of an old version (a model that is gone, filled gaps, a zone, no step)"
            raise UserError(f"{folder}: its record is {what}; train anew")
        # in fp32, which every device has
        self.config = Config(**settings_of(identity) | {"output_attention": False, "amp": "off"})
        self.columns, self.offset = scaling["columns"], to_offset(scaling["step"])
        self.scaler = Scaler(np.array(scaling["mean"]), np.array(scaling["std"]))
        self.weights = load_weights(folder / "weights.pt", metrics["weights_sha256"])

    def predict(self, table: Table, at: Any = None) -> Prediction:
        """Forecast what follows a table's rows, or its rows before a date."""
        cells, length, names = table.cells, self.config.seq_len, self.columns
        table.choose(names[-1], names)
        dates: Any = cells.index
        (first,) = parse_dates(pd.Series([at]), f"--at {at}") if at else [dates.max() + self.offset]
        read = replace(table, cells=cells[dates < first].tail(length), offset=self.offset)
        if (found := len(read.cells)) < length:
            what = f"{found} rows before {first}, the run reads {length}"
            raise UserError(f"{table.path}: {what}; give more (--seq_len)")
        past = read.numbers(names)
        if (after := past.index[-1] + self.offset) != first:
            raise UserError(f"--at {at}: what follows the rows before it begins at {after}")
        data, device = scaled_rows(read, past, self.scaler, self.config), pick_device(self.options)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            exp = Exp_Informer(self.config, self.options, data=data)
            exp.model.load_state_dict(self.weights)
            return Prediction(exp, cells)


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
    predictions = [run.predict(read_table(path), args.at) for path in args.files]
    out = folder.with_name(f"forecast-{folder.name}")
    make_folder(out)
    for path, one in zip(args.files, predictions, strict=True):
        for written in one.write(out, f"{path.stem}_from-{one.ahead.index[0]:%Y-%m-%dT%H%M%S}"):
            print(f"wrote {written}")
        error: Any = (one.truth - one.ahead).dropna()
        if len(error):
            scaled = error / one.std
            print(
                f"{path}: {len(error)} steps known: MSE {scaled.pow(2).mean(axis=None):.4f}, MAE "
                f"{scaled.abs().mean(axis=None):.4f} (scaled); MAE "
                f"{error.abs().mean(axis=None):.5g} in original units"
            )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
