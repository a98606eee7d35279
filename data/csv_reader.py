"""CSV files as numbers over dates, read once a process, and what can be wrong with them."""

import csv
import functools
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset

from data.dates import FIRST_ROW, parse_dates, regular_dates
from data.registry import DataSet
from utils.files import UserError, nearest, sha256_of

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

        Raises UserError where a column is not there, or holds a cell that is no finite number.
        """
        names = list(self.values.columns)
        for flag, name in [("target", target), *(("cols", name) for name in cols or ())]:
            if name not in names:
                hint = nearest(name, names)
                raise UserError(f"--{flag} {name}: {self.path} has no such value column{hint}")
        if cols is not None and len(set(cols)) < len(cols):
            raise UserError(f"--cols {' '.join(cols)}: a column is named twice; name each once")
        chosen = [name for name in cols or names if name != target] + [target]
        return self.numbers(chosen, "correct it, or leave the column out with --cols")

    def numbers(self, names: list[str], advice: str) -> pd.DataFrame:
        """Return columns that are there; raises UserError unless every cell is a finite number."""
        if bad := [(*self.bad[name], name) for name in names if name in self.bad]:
            row, text, name = min(bad, key=lambda cell: cell[0])
            shown = repr(text[:40]) if text else "an empty cell"
            where = f"{self.path}: row {row + FIRST_ROW}, column {name!r}"
            raise UserError(f"{where}: {shown} is not a finite number; {advice}")
        return self.values.reindex(columns=names)


def read_table(path: Path, dataset: DataSet | None = None) -> Table:
    """Read a file, or return what was read before if it has not changed since.

    A registered data set is known by its checksum and taken as it is; any other file must be as
    `parse_table` says. Raises UserError with row and column as a spreadsheet shows them.
    """
    try:
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size, dataset)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its path") from error


@functools.lru_cache(maxsize=4)
def _read(path: Path, _mtime: int, _size: int, dataset: DataSet | None) -> Table:
    content = path.read_bytes()
    if dataset is None:
        return parse_table(content, path)
    if (sha256 := sha256_of(content)) != dataset.sha256:
        name = dataset.name
        raise UserError(
            f"{path}: sha256 is {sha256}, but {name} has {dataset.sha256}; delete the file and run "
            f"`python -m data.download {name}`, or use it as --data custom"
        )
    frame = pd.read_csv(io.BytesIO(content))
    frame.index, step = parse_dates(frame.pop("date").tolist(), path), dataset.step
    return Table(path, sha256, frame.astype(np.float64), {}, step, to_offset(step))


def parse_table(content: bytes, path: Path) -> Table:
    """Read UTF-8 CSV with a header and regular dates in a column `date`; UserError if it is not."""
    try:
        text = io.StringIO(content.decode("utf-8-sig").rstrip("\r\n"), newline=None)
        header, *rows = list(csv.reader(text, strict=True)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from None
    if mistake := next(_mistakes(header, rows), None):
        raise UserError(f"{path}: {mistake}")
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


def _mistakes(header: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Say what is wrong with a table's form, the likeliest cause first."""
    if not header:
        yield "row 1 is empty; the file needs a header and a row for each date"
    if len(header) == 1:
        yield "row 1 has no comma; save the file with commas between cells and points in numbers"
    if header[:1] == [""]:
        yield (
            "row 1, column 1 has no name: probably the index that pandas writes; save the frame "
            'with to_csv(index=False), or with index_label="date" if the index has the dates'
        )
    for i, name in enumerate(header):
        if not name.strip() or name.splitlines() != [name]:
            yield f"row 1, column {i + 1}: {name!r} is no column name; write one in one line"
        if name in header[:i]:
            yield f"row 1 names column {name!r} twice; rename one"
    if "date" not in header:
        hint = nearest("date", header)
        yield f"row 1 has no column 'date'{hint}; name the column of dates date"
    for number, row in enumerate(rows, FIRST_ROW):
        if len(row) != len(header):
            cells = f"{len(row)} cells, the header {len(header)}"
            yield f"row {number} has {cells}; give every row one cell for each column"
