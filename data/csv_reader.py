"""CSV files as numbers over dates, read once a process, and what can be wrong with them."""

import csv
import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset

from data.dates import FIRST_ROW, parse_dates, regular_dates
from data.registry import DataSet
from utils.errors import UserError, nearest
from utils.files import sha256_of

LARGEST = float(np.finfo(np.float32).max)  # models compute in float32


@dataclass(frozen=True)
class Table:
    """A file's content, shared by all who read it in this process."""

    path: Path
    sha256: str
    values: pd.DataFrame  # [N, C] float64 over dates; NaN where a cell is no number
    bad: dict[str, tuple[int, str]]  # row from 0 and text of a column's first such cell
    step: pd.Timedelta  # the commonest length
    offset: BaseOffset  # what pandas' date_range continues the dates by

    def pick(self, target: str, cols: Sequence[str] | None) -> pd.DataFrame:
        """Choose columns: `cols` in their order (None for all), then the target.

        Raises:
            UserError: a column is not there, or holds a cell that is not a finite number.
        """
        names = list(self.values.columns)
        for flag, name in [("target", target), *(("cols", name) for name in cols or ())]:
            if name not in names:
                hint = nearest(name, names)
                raise UserError(f"--{flag} {name}: {self.path} has no such value column{hint}")
        if cols is not None and len(set(cols)) < len(cols):
            raise UserError(f"--cols {' '.join(cols)}: a column is named twice; name each once")
        chosen = [name for name in cols or names if name != target] + [target]
        return self.numbers(chosen, "mend it, or leave the column out with --cols")

    def numbers(self, names: list[str], advice: str) -> pd.DataFrame:
        """Return columns that are there; raises UserError unless every cell is a finite number."""
        if bad := [(*self.bad[name], name) for name in names if name in self.bad]:
            row, text, name = min(bad, key=lambda cell: cell[0])
            shown = repr(text[:40]) if text else "an empty cell"
            raise UserError(
                f"{self.path}: row {row + FIRST_ROW}, column {name!r}: {shown} is not a finite "
                f"number; {advice}"
            )
        return self.values.reindex(columns=names)


def read_table(path: Path, dataset: DataSet | None = None) -> Table:
    """Read a file, or return what was read before if it has not changed since.

    Args:
        path: comma-separated UTF-8 with a header row and a column `date` in regular steps.
        dataset: the registered data set that it must be; its content is then taken as it is.

    Raises:
        UserError: what is wrong with the file, with row and column as a spreadsheet shows them.
    """
    try:
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size, dataset)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check --root_path and --data_path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name the file in it with --data_path") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); check the file and its permissions"
        ) from error


@functools.lru_cache(maxsize=4)
def _read(path: Path, _mtime: int, _size: int, dataset: DataSet | None) -> Table:
    content = path.read_bytes()
    if dataset is None:
        return parse_table(content, path)
    sha256 = sha256_of(content)
    dataset.verify(sha256, path)
    frame = pd.read_csv(io.BytesIO(content))
    frame.index, step = parse_dates(frame.pop("date").tolist(), path), dataset.step
    return Table(path, sha256, frame.astype(np.float64), {}, step, to_offset(step))


def parse_table(content: bytes, path: Path) -> Table:
    """Read a custom file's content; the rest as for `read_table`."""
    header, *rows = _cells(content, path)
    _check_header(header, f"{path}: row 1")
    for number, row in enumerate(rows, FIRST_ROW):
        if len(row) != len(header):
            raise UserError(
                f"{path}: row {number} has {len(row)} cells, the header {len(header)}; "
                "give every row one cell for each column"
            )
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    dates, step, offset = regular_dates(columns.pop("date"), path)
    texts = pd.DataFrame(columns, dates, dtype=object)
    values = pd.DataFrame(texts.apply(pd.to_numeric, errors="coerce"), dtype=np.float64)
    unfit = ~(values.abs() <= LARGEST)  # NaN compares false
    bad = {
        name: (row := int(unfit[name].to_numpy().argmax()), columns[name][row])
        for name in values.columns[unfit.any()]
    }
    return Table(path, sha256_of(content), values, bad, step, offset)


def _cells(content: bytes, path: Path) -> list[list[str]]:
    """Take the text apart into rows of cells, without the empty lines at its end."""
    if b"\0" in content:
        raise UserError(
            f"{path}: not a CSV file (it holds zero bytes, as pictures and .xlsx files do); "
            "export the table as CSV in UTF-8"
        )
    try:
        text = content.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=None), strict=True))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line} is not UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file ({error}); check its quotes") from None
    while rows and not rows[-1]:
        rows.pop()
    if not rows:
        raise UserError(f"{path}: the file is empty; it needs a header and a row for each date")
    return rows


def _check_header(header: list[str], where: str) -> None:
    if len(header) == 1 and (marks := [mark for mark in ";\t|" if mark in header[0]]):
        raise UserError(
            f"{where} is separated by {marks[0]!r}; save the file with commas between cells "
            "and points in numbers"
        )
    if header[:1] == [""] and len(header) > 1:
        raise UserError(
            f"{where}, column 1 has no name: probably the index that pandas writes; save the "
            'frame with to_csv(index=False), or with index_label="date" if the index has the dates'
        )
    for column, name in enumerate(header):
        if not name.strip() or name.splitlines() != [name]:
            raise UserError(
                f"{where}, column {column + 1}: {name!r} is no column name; write one in one line"
            )
        if name in header[:column]:
            raise UserError(f"{where} names column {name!r} twice; rename one")
    if "date" not in header:
        hint = nearest("date", header)
        raise UserError(f"{where} has no column 'date'{hint}; name the column of dates date")
