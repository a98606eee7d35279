"""Custom files: what is read, and the one line in which each mistake ends."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.csv_reader import parse_table, read_table
from tests.test_data import load
from utils.files import UserError

ROWS = 60
MINE = Path("mine.csv")
HOURS = [str(date) for date in pd.date_range("2020-01-01", periods=ROWS, freq="h")]
LINES = ["date,load,OT", *(f"{date},{i},{i * 0.5}" for i, date in enumerate(HOURS))]
CSV = "\n".join(LINES).encode()


def changed(row: int, line: str) -> bytes:
    """A sound file with another line in that row."""
    return "\n".join([*LINES[: row - 1], line, *LINES[row:]]).encode()


def dated(dates: Iterable[pd.Timestamp | str]) -> bytes:
    """A file with a number for each date."""
    return "\n".join(["date,OT", *(f"{date},{i}" for i, date in enumerate(dates))]).encode()


def message(content: bytes, **flags) -> str:
    """The error of a file and of flags, without the file's name."""
    MINE.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load("custom", seq_len=8, label_len=4, pred_len=2, **flags)
    return str(caught.value).removeprefix("mine.csv: ")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


MONTHS = pd.date_range("2020-01-01", periods=40, freq="MS")
WEEKDAYS = pd.bdate_range("2020-01-01", periods=40)
SHIFTS = dated(day + pd.Timedelta(hours=hour) for day in WEEKDAYS for hour in range(8, 16))
INDEXED = pd.DataFrame({"date": HOURS, "OT": 1.0}).to_csv().encode()
UNUSUAL = (
    "row {}, column 'date': {} 00:00:00 comes {} days 00:00:00 after the row above, where {} is"
)
MISTAKES: list[tuple[bytes, str]] = [
    (b"", "row 1 is empty"),
    (LINES[0].encode(), "0 rows are too few for --seq_len 8 and --pred_len 2"),
    (CSV.replace(b".", b",").replace(b",", b";"), "row 1 has no comma"),
    (INDEXED, "row 1, column 1 has no name: probably the index that pandas writes"),
    (CSV.replace(b"date", b"date "), "row 1 has no column 'date' (did you mean 'date '?)"),
    (CSV.replace(b"load", b"OT"), "row 1 names column 'OT' twice"),
    (CSV.replace(b"load", b" "), "row 1, column 2: ' ' is no column name"),
    (CSV.replace(b"load", b'"lo\nad"'), "row 1, column 2: 'lo\\nad' is no column name"),
    (changed(9, f"{HOURS[7]},7"), "row 9 has 2 cells, the header 3"),
    (changed(9, f"{HOURS[7]},7,3,5"), "row 9 has 4 cells, the header 3"),
    (CSV.replace(b"OT", b"\xb0C"), "not a CSV file in UTF-8 ('utf-8' codec can't decode byte 0xb0"),
    (changed(9, f'{HOURS[7]},"7,3.5'), "not a CSV file in UTF-8 (unexpected end of data)"),
    (changed(2, "yesterday,0,0"), "row 2, column 'date': 'yesterday' is not a date"),
    (changed(7, ",5,2.5"), "row 7, column 'date': an empty cell is not a date"),
    (changed(5, f"{HOURS[3]}+02:00,3,1"), "the dates mix time zones"),
    (
        dated(f"{day}/2/2020" for day in range(1, 29)),
        "row 14, column 'date': '13/2/2020' is not a date: the dates are day first",
    ),
    (  # every date could be month first
        dated(pd.date_range("2020-05-01", periods=72, freq="h").strftime("%d/%m/%Y %H:%M")),
        "row 26, column 'date': 2020-02-05 00:00:00 comes 30 days 01:00:00 after the row above, "
        "where 0 days 01:00:00 is usual: the dates are day first",
    ),
    (changed(6, f"{HOURS[2]},4,2"), f"row 6, column 'date': {HOURS[2]} is before that of the row"),
    (changed(6, f"{HOURS[3]},4,2"), f"row 6, column 'date': {HOURS[3]} repeats that of the row"),
    (
        SHIFTS,
        "row 10, column 'date': 2020-01-02 08:00:00 comes 0 days 17:00:00 after the row above",
    ),
    (dated(WEEKDAYS.delete(9)), UNUSUAL.format(11, "2020-01-15", 2, "the next business day")),
    (
        dated(MONTHS + pd.Timedelta(days=14)),
        UNUSUAL.format(4, "2020-03-15", 29, "31 days 00:00:00") + " usual; months differ in length",
    ),
    (dated(MONTHS.delete(7)), UNUSUAL.format(9, "2020-09-01", 62, "a whole number of months")),
    (
        changed(61, f"{HOURS[59]},59,1e20"),
        "row 61, column 'OT': 1e+20 is 2e+19 standard deviations from the mean of the training",
    ),
]


@pytest.mark.parametrize(("content", "expected"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_in_files_are_named_in_one_line_that_says_what_to_do(content, expected):
    said = message(content)
    assert said.startswith(expected) and "; " in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"cols": ["laod"]}, "--cols laod: mine.csv has no such value column (did you mean load?)"),
        ({"cols": ["load", "load"]}, "--cols load load: a column is named twice; name each once"),
        ({"target": "date"}, "--target date: mine.csv has no such value column"),
    ],
)
def test_flags_that_no_file_fits_are_named(flags, expected):
    assert message(CSV, **flags) == expected


def test_a_file_that_cannot_be_read_is_named():
    MINE.symlink_to(MINE)  # unreadable for root too
    with pytest.raises(UserError) as caught:
        load("custom")
    expected = "cannot be read (Too many levels of symbolic links); check its path"
    assert str(caught.value) == f"mine.csv: {expected}"


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
        CSV.replace(b" ", b"T"),
        CSV.replace(b":00:00,", b":00,"),
        CSV.replace(b":00:00,", b":00:00+01:00,"),
        CSV.replace(b"2020-01-0", b"1/").replace(b" ", b"/2020 "),
        CSV.replace(b"2020-01-0", b"01/").replace(b" ", b"/2020 ").replace(b":00:00,", b":00,"),
    ],
    ids=range(9),
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
    advice = "correct it, or leave the column out with --cols"
    assert message(content) == f"row 9, column 'load': {shown} is not a finite number; {advice}"


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
