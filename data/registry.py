"""The registered data sets, one row of registry.csv each, and where their files are."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from utils.files import UserError, is_file

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class DataSet:
    """One registered file, taken as it is by its checksum."""

    name: str  # what --data calls it
    file: str
    folder: str  # below the folder of all data
    rows: int
    columns: int  # without the date
    target: str  # what S and MS forecast
    step: pd.Timedelta
    split: tuple[int, ...]  # rows that end train, val, test; empty: 70/10/20 %
    sha256: str
    url: str  # empty for a file placed by hand
    source: str
    licence: str

    @property
    def path(self) -> Path:
        """Where the file is, or will be fetched to: INFORMER_DATA names the folder of all data."""
        folder = Path(os.environ.get("INFORMER_DATA") or HERE / "downloads")
        return (HERE if self.name == "demo" else folder) / self.folder / self.file


_rows: Any = pd.read_csv(HERE / "registry.csv", keep_default_na=False)
_rows["step"] = pd.to_timedelta(_rows["step"])
_rows["split"] = [tuple(map(int, ends.split())) for ends in _rows["split"]]
DATASETS = {row["name"]: DataSet(**row) for row in _rows.to_dict("records")}


def locate(name: str, root_path: Path, data_path: str) -> Path:
    """Find a file in root_path, or in the data folder; a UserError if a known one is in neither."""
    if name == "custom":
        return root_path / data_path
    dataset = DATASETS[name]
    for path in (root_path / dataset.file, dataset.path):
        if is_file(path):
            return path
    what = f"{dataset.file}: neither in {root_path} nor at {dataset.path}"
    raise UserError(f"{what}; run `python -m data.download {name}`, or give its --root_path")
