"""Forecasts of new rows by a trained run: `python main_informer.py --forecast RUN_FOLDER`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset
from torch import Tensor

from data.csv_reader import Table, parse_table, read_table
from data.data_loader import scaled_rows
from data.dates import FIRST_ROW, first_break
from data.registry import DATASETS
from data.scaler import Scaler
from exp.config import Config
from exp.exp_basic import load
from exp.exp_informer import Exp_Informer
from exp.flags import Options
from exp.samples import Prediction
from exp.state import fit_weights, load_weights
from utils.errors import UserError, nearest
from utils.files import make_folder, read_json


def forecast(
    run_folder: Path | str, frame: pd.DataFrame, at: str | None = None, device: str = "auto"
) -> pd.DataFrame:
    """Forecast the rows that follow a frame's, with a finished run's model.

    Args:
        run_folder: the run's folder.
        frame: the columns that the run was trained on, over dates (the index, or a column `date`),
            in the run's step; the last seq_len rows count.
        at: the first date to forecast, for what follows the rows before it; None: after the last.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        The forecast [pred_len, C] over dates, in original units.

    Raises:
        UserError: the run or the frame does not do.
    """
    run = TrainedRun.open(Path(run_folder), Options(device=device))
    text = frame.to_csv(index="date" not in frame.columns, index_label="date")
    table = parse_table(text.encode(), Path("frame"))
    prediction = run.predict(table, at)
    return pd.DataFrame(prediction.values, prediction.dates.rename("date"), prediction.names)


def run_forecast(folder: Path, names: Sequence[str], at: str | None, options: Options) -> None:
    """Forecast what follows each of some files; write, plot, and score where the truth is known.

    Args:
        folder: the run's folder.
        names: the files, under --root_path or from here.
        at: the first date to forecast, whose row and later ones are the truth.
        options: device, root_path, and the folder of results, where the forecasts go.

    Raises:
        UserError: the run or one of the files does not do; nothing is written then.
    """
    run = TrainedRun.open(folder, options)
    paths = [_find(name, options.root_path) for name in names]
    predictions = [run.predict(read_table(path), at) for path in paths]
    out = options.results / f"forecast-{folder.resolve().name}"
    make_folder(out)
    for path, prediction in zip(paths, predictions, strict=True):
        first = f"_from-{prediction.dates[0]:%Y-%m-%dT%H%M%S}" if at else ""
        for written in prediction.write(out, path.stem + first):
            print(f"wrote {written}")
        if (truth := prediction.truth) is not None:
            error = prediction.values[: len(truth)] - truth
            scaled = error / run.scaler.std[-error.shape[1] :]
            print(
                f"{path}: {len(truth)} steps known: MSE {np.square(scaled).mean():.4f}, MAE "
                f"{np.abs(scaled).mean():.4f}; in original units: MSE {np.square(error).mean():.5g}"
                f", MAE {np.abs(error).mean():.5g}"
            )


def _find(name: str, root_path: Path) -> Path:
    paths = [root_path / name, Path(name)]
    found = next((path for path in paths if path.exists()), None)
    if found is None:
        raise UserError(f"--data_path {name}: not found, looked for {paths[0]} and {paths[1]}")
    return found


@dataclass(frozen=True)
class TrainedRun:
    """A finished run's settings, columns, scaler, step and weights."""

    folder: Path
    config: Config
    options: Options
    columns: list[str]
    scaler: Scaler
    offset: BaseOffset | None  # None: not recorded, and the training file is gone
    weights: dict[str, Tensor]

    @classmethod
    def open(cls, folder: Path, options: Options) -> "TrainedRun":
        """Read a run's record; an older one's scaler comes from its data file, by checksum.

        Raises:
            UserError: the run has not finished, or something of it is gone.
        """
        try:
            body, metrics = (read_json(folder / f"{name}.json") for name in ("config", "metrics"))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{folder}: no finished run; name a run's folder in results") from None
        if metrics["status"] != "finished":
            raise UserError(f"{folder}: the run failed ({metrics['error']}); name a finished one")
        fields = {field.name for field in dataclasses.fields(Config)}
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in body["identity"].items()
            if name in fields and value is not None
        }
        known["output_attention"] = False
        config = Config(**known)
        scale: dict[str, Any] = dict(body.get("scaler") or {})
        if config.data in DATASETS:
            scale.setdefault("step", DATASETS[config.data].step)
        if not {"mean", "step"} <= scale.keys():
            scale |= _measured_again(config, options, body)
        if "mean" not in scale:
            raise UserError(
                f"{folder}: an earlier version recorded no scaler, and its data file "
                f"({body['environment']['data_file']}, sha256 {body['identity']['data_sha256']}) "
                "is not there; put it back"
            )
        return cls(
            folder,
            config,
            options,
            scale["columns"],
            Scaler(np.array(scale["mean"]), np.array(scale["std"])),
            to_offset(scale["step"]) if "step" in scale else None,
            _weights(folder, body, metrics),
        )

    def predict(self, table: Table, at: str | None) -> Prediction:
        """Forecast what follows a table's rows, or its rows before a date.

        Raises:
            UserError: columns, step or number of rows do not do, or the date is not there.
        """
        path, config = table.path, self.config
        extra = [name for name in table.values.columns if name not in self.columns]
        for name in self.columns:
            if name not in table.values.columns:
                raise UserError(
                    f"{path}: has no column {name!r}{nearest(name, extra)}, on which the run was "
                    f"trained; it reads {', '.join(self.columns)}"
                )
        if extra:
            print(f"note: {path}: not used: {', '.join(extra)}")
        rows = table.numbers(self.columns, "mend it")
        dates, offset = pd.DatetimeIndex(rows.index), self.offset or table.offset
        if self.offset is None:
            print(f"note: {path}: the run's step is not recorded; {offset.freqstr} is taken")
        if len(dates) and (i := first_break(dates, offset)) is not None:
            raise UserError(
                f"{path}: row {i + FIRST_ROW}, column 'date': {dates[i]} does not keep the step of "
                f"the run ({offset.freqstr}); resample the file to it"
            )
        now = len(rows) if at is None else _position(at, dates, offset, path)
        if now < config.seq_len:
            raise UserError(
                f"{path}: {now} rows before the first date to forecast; the run reads "
                f"{config.seq_len} (seq_len)"
            )
        out_width = len(self.columns) if config.features == "M" else 1
        data = scaled_rows(
            *(config.data, table, rows.head(now), self.scaler, offset),
            out_width=out_width,
            freq=config.freq,
            embed=config.embed,
            lengths=(config.seq_len, config.label_len, config.pred_len),
        )
        exp = Exp_Informer(config, self.options, data=data)
        fit_weights(exp.model, self.weights, self.folder)
        truth = rows.iloc[now : now + config.pred_len, -out_width:].to_numpy()
        return dataclasses.replace(exp.predict(), truth=truth if len(truth) else None)


def _position(at: str, dates: pd.DatetimeIndex, offset: BaseOffset, path: Path) -> int:
    """Return the row of a date, which may be the next after the last."""
    date = pd.to_datetime(at, errors="coerce", format="ISO8601")
    whole = dates.append(pd.date_range(dates[-1], periods=2, freq=offset)[1:])
    if pd.isna(date) or date.tzinfo or date not in whole:
        raise UserError(
            f"--at {at}: {path} has no row of that date; give one from {dates[0]} to {whole[-1]}"
        )
    return int(whole.get_indexer([date])[0])


def _measured_again(config: Config, options: Options, body: dict[str, Any]) -> dict[str, Any]:
    """Scale a run's data file again, if it is still there; nothing otherwise."""
    file = Path(body["environment"]["data_file"])
    there = dataclasses.replace(options, root_path=file.parent, data_path=file.name)
    try:
        data = load(config, there)
    except UserError:  # gone or changed: what that means is for the caller to say
        return {}
    return data.scaling() if data.sha256 == body["identity"]["data_sha256"] else {}


def _weights(folder: Path, body: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Tensor]:
    if metrics["weights_sha256"] is None:
        raise UserError(f"{folder}: the weights were not kept (--weights drop); train with --force")
    elsewhere = Path(body["environment"].get("checkpoints", folder)) / "weights.pt"
    path = folder / "weights.pt"
    return load_weights(path if path.exists() else elsewhere, metrics["weights_sha256"])
