"""The registered data sets, one row each, and where their files are looked for."""

import os
from dataclasses import dataclass
from pathlib import Path

from utils.errors import UserError

HERE = Path(__file__).resolve().parent
DOWNLOADS = HERE / "downloads"


@dataclass(frozen=True)
class DataSet:
    """One registered file, taken as it is by its checksum."""

    name: str  # what --data calls it
    file: str
    folder: str  # below a data folder; absolute for the file that the project carries
    rows: int
    columns: int  # without the date
    target: str  # what S and MS forecast
    step: str  # time between rows, as pandas writes it
    split: tuple[int, int, int] | None  # rows that end train, val, test; None: 70/10/20 %
    size: int  # bytes
    sha256: str
    url: str  # empty for a file placed by hand
    source: str
    licence: str

    @property
    def freq(self) -> str:
        """Unit of the time features: the released code's, whatever the step."""
        return "h"

    def place(self, base: Path) -> Path:
        """Return the file's place below a data folder."""
        return base / self.folder / self.file

    def places(self) -> list[Path]:
        """List where the file is looked for besides --root_path."""
        named = os.environ.get("INFORMER_DATA")
        bases = [Path(named), DOWNLOADS] if named else [DOWNLOADS]
        return list(dict.fromkeys(self.place(base) for base in bases))

    def verify(self, sha256: str, path: Path) -> None:
        """Check the checksum of what was read from a path.

        Raises:
            UserError: it differs.
        """
        if sha256 != self.sha256:
            raise UserError(
                f"{path}: sha256 is {sha256}, but {self.name} has {self.sha256}; delete the file "
                f"and run `python -m data.download {self.name}`, or use it as --data custom"
            )


def _ett(name: str, size: int, sha256: str) -> DataSet:
    step, hourly = ("1h", 1) if name.startswith("ETTh") else ("15min", 4)
    month = 30 * 24 * hourly
    rows = 17420 * hourly
    url = f"https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/{name}.csv"
    return DataSet(
        *(name, f"{name}.csv", "ETT", rows, 7, "OT", step),
        *((12 * month, 16 * month, 20 * month), size, sha256),
        *(url, "github.com/zhouhaoyi/ETDataset", "CC BY-ND 4.0"),
    )


_ROWS = (
    _ett("ETTh1", 2589657, "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"),
    _ett("ETTh2", 2417960, "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b"),
    _ett("ETTm1", 10360719, "6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e"),
    _ett("ETTm2", 9677236, "db973ca252c6410a30d0469b13d696cf919648d0f3fd588c60f03fdbdbadd1fd"),
    DataSet(
        *("WTH", "WTH.csv", "WTH", 35064, 12, "WetBulbCelsius", "1h", None, 2109091),
        sha256="153fead3ea2a83dc5c4127d3994af6b167322f6f5e292c99491f43a2caf14cd4",
        url="https://raw.githubusercontent.com/xun468/Time-GNN/main/datasets/WTH.csv",
        source="NOAA's local climatological data, as distributed with Informer2020",
        licence="none stated",
    ),
    DataSet(
        *("weather", "weather.csv", "weather", 52696, 21, "OT", "10min", None, 7235425),
        sha256="34ee981d07313e51da2a50bb600072c8ae4a69cb4b0651f4cb93a069d7a2ba63",
        url="",
        source="the data links in the README of github.com/thuml/Autoformer (from MPI Jena)",
        licence="none stated",
    ),
    DataSet(
        *("ECL", "ECL.csv", "ECL", 26304, 321, "MT_320", "1h", None, 53338611),
        sha256="0a96854fc5c6dd6775147eca20668ba571dde1848fcb2df470a666d1623f6362",
        url="",
        source="the data links in the README of github.com/zhouhaoyi/Informer2020 (from UCI)",
        licence="UCI",
    ),
    DataSet(
        *("demo", "demo.csv", str(HERE / "demo"), 8730, 7, "temp", "1h", None, 514340),
        sha256="0ca572bf9e741929b7ada48e7b299487fdf659c7de8ff3557f9c9b30a946b994",
        url="",
        source="the project itself: data/demo/PROVENANCE.md",
        licence="CC0",
    ),
)
DATASETS: dict[str, DataSet] = {row.name: row for row in _ROWS}


def locate(name: str, root_path: Path, data_path: str) -> Path:
    """Find a data set's file.

    Args:
        name: a key of DATASETS, or custom.
        root_path: folder searched first.
        data_path: file name of a custom data set; a registered one has its own.

    Returns:
        The file: under root_path, in the folder that the environment variable INFORMER_DATA names,
        or among the downloads. A custom file is root_path / data_path, there or not.

    Raises:
        UserError: a registered file is in none of these places.
    """
    if name == "custom":
        return root_path / data_path
    dataset = DATASETS[name]
    places = [root_path / dataset.file, *dataset.places()]
    try:
        found = next((place for place in places if place.is_file()), None)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; check --root_path") from error
    if found is None:
        raise UserError(
            f"{dataset.file}: not found, looked for {', '.join(map(str, places))}; "
            f"run `python -m data.download {name}`, or name its folder with --root_path or the "
            "variable INFORMER_DATA"
        )
    return found
