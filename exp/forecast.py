"""New rows forecast by a finished run: `python -m exp.forecast RUN_FOLDER new.csv [more.csv]`."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from data.csv_reader import Table, parse_table, read_table
from data.data_loader import MISSING, DataSettings, scaled_rows, treat_missing
from data.dates import FIRST_ROW, first_break
from data.scaler import Scaler
from exp.checkpoint import load_into, load_weights
from exp.config import Config, Options, Parser, settings_of
from exp.exp_basic import load, pick_device
from exp.exp_informer import Exp_Informer
from exp.samples import Prediction
from models.layers import has_bf16_kernels
from utils.files import UserError, make_folder, nearest, read_json
from utils.output import run_command


def forecast(
    run_folder: Path | str, frame: pd.DataFrame, at: str | None = None, device: str = "auto"
) -> pd.DataFrame:
    """Forecast the rows that follow a frame's with a finished run: [pred_len, C] over dates.

    Args:
        frame: the run's columns in original units and in its step, over dates (the index, or a
            column `date`); the last seq_len rows are read.
        at: the first date to forecast instead; the seq_len rows before it are read.
        device: auto, cpu, cuda or cuda:N.

    A UserError says why a run or a frame cannot be used.
    """
    text = frame.to_csv(index="date" not in frame.columns, index_label="date")
    table = parse_table(text.encode(), Path("frame"))
    ahead = TrainedRun(Path(run_folder), device).predict(table, at)
    return pd.DataFrame(ahead.values, ahead.dates.rename("date"), ahead.names)


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
        on_cpu = pick_device(self.options).type == "cpu"
        if settings.get("amp") == "bf16" and on_cpu and not has_bf16_kernels():
            print("note: this processor has no bf16 instructions: the forecast is made in fp32")
            settings["amp"] = "off"
        self.config = Config(**{**settings, "output_attention": False})
        scaling = self._scaling(body)
        self.columns, self.offset = scaling["columns"], to_offset(scaling["step"])
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

    def predict(self, table: Table, at: str | None) -> Prediction:
        """Forecast what follows a table's rows, or its rows before a date."""
        path, config, offset = table.path, self.config, self.offset
        if missing := [name for name in self.columns if name not in table.values]:
            hint = nearest(missing[0], table.values.columns.difference(self.columns))
            raise UserError(
                f"{path}: has no column {missing[0]!r}{hint}, on which the run was trained; it "
                f"reads {', '.join(self.columns)}"
            )
        rows = table.numbers(self.columns, "correct it")
        dates = pd.DatetimeIndex(rows.index)
        if not rows.empty and (i := first_break(dates, offset)) is not None:
            raise UserError(
                f"{path}: row {i + FIRST_ROW}, column 'date': {dates[i]} does not keep the step of "
                f"the run ({offset.freqstr}); resample the file to it"
            )
        now = len(rows) if at is None or rows.empty else self._position(at, dates, path)
        if now < config.seq_len:
            found = f"{now} rows before the first date to forecast"
            raise UserError(f"{path}: {found}; the run reads {config.seq_len} (seq_len)")
        past, truth = rows.iloc[:now], rows.iloc[now : now + config.pred_len]
        if config.missing == "interpolate":
            past = treat_missing(past, path, "interpolate")  # later rows unseen
            truth = truth.mask(truth.eq(MISSING))  # a cell that is filled is no truth
        read = dataclasses.replace(table, values=past, offset=offset)
        data = scaled_rows(read, self.scaler, DataSettings.of(config))
        exp = Exp_Informer(config, self.options, data=data)
        load_into(exp.model, self.weights, self.folder)
        truth = truth.iloc[:, -data.out_width :].to_numpy()
        return dataclasses.replace(exp.predict(), truth=truth if len(truth) else None)

    def _position(self, at: str, dates: pd.DatetimeIndex, path: Path) -> int:
        """Return the row of a date, which may be the next after the last."""
        date = pd.to_datetime(at, errors="coerce", format="ISO8601")
        whole = pd.date_range(dates[0], periods=len(dates) + 1, freq=self.offset)
        position = int(whole.get_indexer([date])[0])
        if position < 0:
            first = whole[min(self.config.seq_len, len(dates))]
            raise UserError(
                f"--at {at}: {path} has no row of that date; give one from {first} to {whole[-1]}"
            )
        return position


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
