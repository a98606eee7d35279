"""Custom files: what is read, and the one line in which each mistake ends."""

import csv
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.csv_reader import parse_table, read_table
from data.data_loader import load_data
from utils.errors import UserError

ROWS = 60
MINE = Path("mine.csv")
HOURS = [str(date) for date in pd.date_range("2020-01-01", periods=ROWS, freq="h")]
LINES = ["date,load,OT", *(f"{date},{i},{i * 0.5}" for i, date in enumerate(HOURS))]


def changed(row: int, line: str) -> bytes:
    """A sound file with another line in that row."""
    return "\n".join([*LINES[: row - 1], line, *LINES[row:]]).encode()


def dated(dates: Iterable[pd.Timestamp | str]) -> bytes:
    """A file with a number for each date."""
    return "\n".join(["date,OT", *(f"{date},{i}" for i, date in enumerate(dates))]).encode()


def message(content: bytes, **flags) -> str:
    """The error of a file and of flags, without the file's name."""
    asked = {"features": "M", "target": "OT", "cols": None, "freq": "h", "embed": "timeF"}
    asked |= {"seq_len": 8, "label_len": 4, "pred_len": 2, "root_path": ".", "data_path": MINE.name}
    MINE.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_data("custom", **{**asked, **flags})
    return str(caught.value).removeprefix("mine.csv: ")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


CSV = "\n".join(LINES).encode()
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 1, 1, 8, 2, 0, 0, 0)
NOT_A_NUMBER = "is not a finite number; mend it, or leave the column out with --cols"
NOT_A_DATE = "is not a date; write dates like 2020-12-31 23:00:00"
EMPTY = "the file is empty; it needs a header and a row for each date"
TOO_FEW = "rows are too few for --seq_len 8 and --pred_len 2: a part has no window; shorten them or"
NO_DATE = "row 1 has no column 'date'{}; name the column of dates date"
SORT = "that of the row above; sort the rows by date and keep one row for each"
BINARY = (
    "not a CSV file (it holds zero bytes, as pictures and .xlsx files do); export the table as CSV "
    "in UTF-8"
)
LOOP = "(Too many levels of symbolic links)"
NO_NAME = "is no column name; write one in one line"
CELLS = "the header 3; give every row one cell for each column"
SEPARATED = "; save the file with commas between cells and points in numbers"
INDEX = (
    "row 1, column 1 has no name: probably the index that pandas writes; save the frame with "
    'to_csv(index=False), or with index_label="date" if the index has the dates'
)
HOUR = "0 days 01:00:00"
NIGHTS = f"{HOUR} is usual; nights or weekends have no rows: add them, or resample to one row a day"
DAY_FIRST = (
    ": the dates are day first, and slashes are read month first; write dates like "
    "2020-12-31 23:00:00"
)
MONTHS = pd.date_range("2020-01-01", periods=40, freq="MS")
WEEKDAYS = pd.bdate_range("2020-01-01", periods=40)


def leap(row: int, date: str, gap: str, usual: str) -> str:
    """The message that a date comes too late."""
    return f"row {row}, column 'date': {date} comes {gap} after the row above, where {usual}"


def shift(first: int, end: int) -> bytes:
    """A file whose days have these hours only, and weekends none."""
    return dated(day + pd.Timedelta(hours=hour) for day in WEEKDAYS for hour in range(first, end))


FAULTS: list[tuple[bytes, str]] = [
    (b"", EMPTY),
    (b"\n\n", EMPTY),
    (b"date,load,OT\n", f"0 {TOO_FEW} give at least 15 rows"),
    ("\n".join(LINES[:15]).encode(), f"14 {TOO_FEW} give at least 15 rows"),
    (CSV.replace(b"date", b"hour"), NO_DATE.format("")),
    (CSV.replace(b"date", b"Date"), NO_DATE.format(" (did you mean Date?)")),
    (CSV.replace(b"date", b"date "), NO_DATE.format(" (did you mean 'date '?)")),
    (CSV.replace(b"load", b"OT"), "row 1 names column 'OT' twice; rename one"),
    (pd.DataFrame({"date": HOURS, "OT": 1.0}).to_csv().encode(), INDEX),
    (CSV.replace(b"load", b" "), f"row 1, column 2: ' ' {NO_NAME}"),
    (CSV.replace(b"load", b'"lo\nad"'), f"row 1, column 2: 'lo\\nad' {NO_NAME}"),
    (
        CSV.replace(b"OT", b"OTT"),
        "--target OT: mine.csv has no such value column (did you mean OTT?)",
    ),
    (changed(2, "yesterday,0,0.0"), f"row 2, column 'date': 'yesterday' {NOT_A_DATE}"),
    (changed(7, ",5,2.5"), f"row 7, column 'date': an empty cell {NOT_A_DATE}"),
    (
        dated(f"{day}/2/2020" for day in range(1, 29)),
        f"row 14, column 'date': '13/2/2020' is not a date{DAY_FIRST}",
    ),
    (  # day first, and every date could be month first
        dated(pd.date_range("2020-05-01", periods=72, freq="h").strftime("%d/%m/%Y %H:%M")),
        leap(26, "2020-02-05 00:00:00", "30 days 01:00:00", f"{HOUR} is usual{DAY_FIRST}"),
    ),
    (
        changed(5, "2020-01-01 03:00:00+02:00,3,1.5"),
        "the dates mix time zones; write them all in one",
    ),
    (
        changed(6, "2020-01-01 01:30:00,4,2.0"),
        f"row 6, column 'date': 2020-01-01 01:30:00 is before {SORT}",
    ),
    (
        changed(6, "2020-01-01 03:00:00,4,2.0"),
        f"row 6, column 'date': 2020-01-01 03:00:00 repeats {SORT}",
    ),
    (
        "\n".join(LINES[:10] + LINES[12:]).encode(),
        leap(11, "2020-01-01 11:00:00", "0 days 03:00:00", f"{HOUR} is usual; ")
        + "fill the gaps or resample to a regular step",
    ),
    (shift(8, 16), leap(10, "2020-01-02 08:00:00", "0 days 17:00:00", NIGHTS)),
    (shift(0, 24), leap(74, "2020-01-06 00:00:00", "2 days 01:00:00", NIGHTS)),
    (
        dated(WEEKDAYS.delete(9)),
        leap(11, "2020-01-15 00:00:00", "2 days 00:00:00", "the next business day is usual; ")
        + "add the missing days (holidays, say) with the values of the row above",
    ),
    (
        dated(MONTHS + pd.Timedelta(days=14)),
        leap(4, "2020-03-15 00:00:00", "29 days 00:00:00", "31 days 00:00:00 is usual; ")
        + "months differ in length: date their rows 2020-01-01, not 2020-01-15",
    ),
    (
        dated(MONTHS.delete(7)),
        leap(9, "2020-09-01 00:00:00", "62 days 00:00:00", "a whole number of months is usual; ")
        + "add the months that are missing",
    ),
    (
        changed(61, f"{HOURS[59]},59,1e20"),
        "row 61, column 'OT': 1e+20 is 2e+19 standard deviations from the mean of the training "
        "rows; mend it",
    ),
    (changed(9, f"{HOURS[7]},7"), f"row 9 has 2 cells, {CELLS}"),
    (changed(9, f"{HOURS[7]},7,3,5"), f"row 9 has 4 cells, {CELLS}"),
    (changed(9, ""), f"row 9 has 0 cells, {CELLS}"),
    (CSV.replace(b".", b",").replace(b",", b";"), f"row 1 is separated by ';'{SEPARATED}"),
    (CSV.replace(b",", b"\t"), f"row 1 is separated by '\\t'{SEPARATED}"),
    (PNG, BINARY),
    (CSV.decode().encode("utf-16"), BINARY),
    (CSV.replace(b"OT", b"\xb0C"), "line 1 is not UTF-8; save it as CSV in UTF-8"),
    (
        changed(9, f'{HOURS[7]},"7,3.5'),
        "not a CSV file (unexpected end of data); check its quotes",
    ),
]


@pytest.mark.parametrize(("content", "expected"), FAULTS, ids=range(len(FAULTS)))
def test_faulty_files_are_named_in_one_line(content, expected):
    assert message(content) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"cols": ["laod"]}, "--cols laod: mine.csv has no such value column (did you mean load?)"),
        ({"cols": ["date"]}, "--cols date: mine.csv has no such value column"),
        ({"cols": ["load", "load"]}, "--cols load load: a column is named twice; name each once"),
        ({"target": "date"}, "--target date: mine.csv has no such value column"),
        ({"scaler_from": Path("x")}, "x: no such file; check --root_path and --data_path"),
        ({"data_path": "y"}, "y: no such file; check --root_path and --data_path"),
        ({"data_path": "folder"}, "folder: is a folder; name the file in it with --data_path"),
        ({"data_path": "loop"}, f"loop: cannot be read {LOOP}; check the file and its permissions"),
    ],
)
def test_flags_that_no_file_fits_are_named(flags, expected):
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")  # unreadable for root too
    assert message(CSV, **flags) == expected


def test_a_file_is_read_once_until_it_changes():
    MINE.write_bytes(CSV)
    first = read_table(MINE)
    assert read_table(MINE) is first
    MINE.write_bytes(changed(9, f"{HOURS[7]},broken,3.5"))
    assert read_table(MINE).bad == {"load": (7, "broken")}
    assert read_table(MINE).pick("OT", ["OT"]).columns.tolist() == ["OT"]  # load is left out


@pytest.mark.parametrize(
    "content",
    [
        CSV + b"\n\n\n",
        b"\xef\xbb\xbf" + CSV,
        CSV.replace(b"\n", b"\r\n"),
        CSV.replace(b"\n", b"\r"),
        CSV.replace(b"date,load,OT", b'"date","load","OT"'),
        CSV.replace(b" ", b"T"),
        CSV.replace(b":00:00,", b":00,"),
        CSV.replace(b":00:00,", b":00:00+01:00,"),
        CSV.replace(b"2020-01-0", b"1/").replace(b" ", b"/2020 "),
        CSV.replace(b"2020-01-0", b"01/").replace(b" ", b"/2020 ").replace(b":00:00,", b":00,"),
    ],
    ids=range(10),
)
def test_ways_to_write_the_same_table(content):
    frame = parse_table(content, MINE).pick("OT", None)
    assert frame.index.tolist() == [pd.Timestamp(date) for date in HOURS]
    assert frame["load"].tolist() == list(range(ROWS))
    assert frame["OT"].tolist() == [i * 0.5 for i in range(ROWS)]


letters = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
names = st.text(letters, min_size=1).filter(lambda name: name.strip() and name != "date")
numbers = st.floats(-3e38, 3e38, allow_nan=False)


@settings(deadline=None)
@given(st.data(), st.lists(names, min_size=1, max_size=4, unique=True))
def test_what_pandas_writes_is_read_back_exactly(data, chosen):
    row = st.lists(numbers, min_size=len(chosen), max_size=len(chosen))
    table = np.array(data.draw(st.lists(row, min_size=3, max_size=8)))
    dates = pd.DatetimeIndex(HOURS[: len(table)], name="date")
    text = pd.DataFrame(table, index=dates, columns=chosen).to_csv()
    frame = parse_table(text.encode(), MINE).pick(chosen[-1], None)
    assert frame.columns.tolist() == chosen
    assert frame.index.tolist() == dates.tolist()
    np.testing.assert_array_equal(frame.to_numpy(), table)


@pytest.mark.parametrize(
    "text",
    ["", "x" * 99, "nan", "-Infinity", "1e39", '"', "1,5", "1.2.3", "1\n5", "0x10", "True", "½"],
)
def test_cells_that_are_no_finite_numbers_are_named(text):
    table = pd.DataFrame({"date": HOURS, "load": "1", "OT": "2.5"})
    table.loc[7, "load"] = text
    shown = repr(text[:40]) if text else "an empty cell"
    content = table.to_csv(index=False, quoting=csv.QUOTE_ALL).encode()
    assert message(content) == f"row 9, column 'load': {shown} {NOT_A_NUMBER}"


scraps = st.text('date,OT"\n\r019-: .e;', max_size=60).map(str.encode)


@settings(deadline=None)
@given(st.binary(max_size=100) | scraps | scraps.map(lambda scrap: b"date,OT\n2020," + scrap))
def test_no_bytes_lead_to_anything_but_a_frame_or_a_user_error(content):
    try:
        frame = parse_table(content, MINE).pick("OT", None)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert np.isfinite(frame.to_numpy()).all()
