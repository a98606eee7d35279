"""New rows forecast by a finished run: `python -m exp.forecast RUN_FOLDER new.csv [more.csv]`."""

import dataclasses
import sys
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
from exp.flags import Options, Parser
from exp.samples import Prediction
from exp.state import fit_weights, load_weights
from models.fast import has_bf16_kernels
from utils.errors import UserError, nearest
from utils.files import make_folder, read_json
from utils.output import run_command


def forecast(
    run_folder: Path | str, frame: pd.DataFrame, at: str | None = None, device: str = "auto"
) -> pd.DataFrame:
    """Forecast the rows that follow a frame's, with a finished run's model.

    Args:
        run_folder: the run's folder.
        frame: the run's columns, in its step, over dates (the index, or a column `date`); its last
            seq_len rows are read.
        at: the first date to forecast instead; the rows before it are read.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        The forecast [pred_len, C] over dates, in original units.

    Raises:
        UserError: the run or the frame does not do.
    """
    text = frame.to_csv(index="date" not in frame.columns, index_label="date")
    run = TrainedRun.open(Path(run_folder), Options(device=device))
    ahead = run.predict(parse_table(text.encode(), Path("frame")), at)
    return pd.DataFrame(ahead.values, ahead.dates.rename("date"), ahead.names)


@dataclass(frozen=True)
class TrainedRun:
    """A finished run: its settings, its data's columns, scaler and step, its weights."""

    folder: Path
    config: Config
    options: Options
    columns: list[str]
    scaler: Scaler
    offset: BaseOffset | None  # None: not recorded, and the data file is gone
    weights: dict[str, Tensor]

    @classmethod
    def open(cls, folder: Path, options: Options) -> "TrainedRun":
        """Read a run's record.

        Raises:
            UserError: the run has not finished, or something of it is gone.
        """
        try:
            body, metrics = (read_json(folder / f"{name}.json") for name in ("config", "metrics"))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{folder}: no finished run; name a run's folder in results") from None
        if metrics["status"] != "finished":
            raise UserError(f"{folder}: the run failed ({metrics['error']}); name a finished one")
        if metrics["weights_sha256"] is None:
            raise UserError(f"{folder}: weights were not kept (--weights drop); train with --force")
        fields = {field.name for field in dataclasses.fields(Config)}
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in body["identity"].items()
            if name in fields and value is not None
        }
        if settings.get("amp") == "bf16" and not has_bf16_kernels():
            print("note: this processor has no bf16 instructions: the forecast is made in fp32")
            settings["amp"] = "off"
        config = Config(**{**settings, "output_attention": False})
        scaling = _scaling(body, config, options, folder)
        elsewhere = Path(body["environment"].get("checkpoints", folder)) / "weights.pt"
        path = folder / "weights.pt"
        return cls(
            *(folder, config, options, scaling["columns"]),
            Scaler(np.array(scaling["mean"]), np.array(scaling["std"])),
            to_offset(scaling["step"]) if "step" in scaling else None,
            load_weights(path if path.exists() else elsewhere, metrics["weights_sha256"]),
        )

    def predict(self, table: Table, at: str | None) -> Prediction:
        """Forecast what follows a table's rows, or its rows before a date.

        Raises:
            UserError: columns, step or number of rows do not do, or the date is not there.
        """
        path, config = table.path, self.config
        rows = self._columns_of(table)
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

    def _columns_of(self, table: Table) -> pd.DataFrame:
        """Take the run's columns from a table that may hold others."""
        extra = [name for name in table.values.columns if name not in self.columns]
        for name in self.columns:
            if name not in table.values.columns:
                raise UserError(
                    f"{table.path}: has no column {name!r}{nearest(name, extra)}, on which the run "
                    f"was trained; it reads {', '.join(self.columns)}"
                )
        if extra:
            print(f"note: {table.path}: not used: {', '.join(extra)}")
        return table.numbers(self.columns, "mend it")


def _scaling(
    body: dict[str, Any], config: Config, options: Options, folder: Path
) -> dict[str, Any]:
    """Return columns, mean, std and, if known, step of a run's data.

    What an earlier version did not record is measured again, if the data file is still there.
    """
    known = dict(body.get("scaler") or {})
    if config.data in DATASETS:
        known.setdefault("step", DATASETS[config.data].step)
    if {"mean", "step"} <= known.keys():
        return known
    file, sha256 = Path(body["environment"]["data_file"]), body["identity"]["data_sha256"]
    there = dataclasses.replace(options, root_path=file.parent, data_path=file.name)
    try:
        data = load(config, there)
    except UserError as error:
        cause = str(error)
    else:
        if data.sha256 == sha256:
            return data.scaling()
        cause = f"{file} has changed since"
    if "mean" not in known:
        raise UserError(
            f"{folder}: an earlier version trained it and recorded no scaler, which takes its data "
            f"file, sha256 {sha256} ({cause})"
        )
    return known


def _position(at: str, dates: pd.DatetimeIndex, offset: BaseOffset, path: Path) -> int:
    """Return the row of a date, which may be the next after the last."""
    date = pd.to_datetime(at, errors="coerce", format="ISO8601")
    whole = pd.date_range(dates[0], periods=len(dates) + 1, freq=offset)
    if pd.isna(date) or date.tzinfo or date not in whole:
        raise UserError(
            f"--at {at}: {path} has no row of that date; give one from {whole[0]} to {whole[-1]}"
        )
    return int(whole.get_indexer([date])[0])


def main(words: list[str]) -> int:
    """Forecast what follows the rows of some files; write, plot, and score where truth is known.

    Args:
        words: the command line without the program's name.

    Returns:
        0; mistakes raise UserError, before anything is written.
    """
    parser = Parser("python -m exp.forecast", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN_FOLDER", help="folder of a finished run")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="CSV with new rows")
    parser.add_argument("--at", metavar="DATE", help="first date to forecast (after the last row)")
    parser.add_argument("--results", type=Path, help="folder of results (that of the run)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    asked = parser.parse_args(words)
    run = TrainedRun.open(asked.run, Options(device=asked.device))
    for path in asked.files:
        if not path.exists():
            raise UserError(f"{path}: no such file; name CSV files by their paths")
    predictions = [run.predict(read_table(path), asked.at) for path in asked.files]
    folder = asked.run.resolve()
    out = (asked.results or folder.parent) / f"forecast-{folder.name}"
    make_folder(out)
    for path, ahead in zip(asked.files, predictions, strict=True):
        first = f"_from-{ahead.dates[0]:%Y-%m-%dT%H%M%S}" if asked.at else ""
        for written in ahead.write(out, path.stem + first):
            print(f"wrote {written}")
        if (truth := ahead.truth) is not None:
            error = ahead.values[: len(truth)] - truth
            scaled = error / run.scaler.std[-error.shape[1] :]
            print(
                f"{path}: {len(truth)} steps known: MSE {np.square(scaled).mean():.4f}, MAE "
                f"{np.abs(scaled).mean():.4f}; in original units: MSE {np.square(error).mean():.5g}"
                f", MAE {np.abs(error).mean():.5g}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
