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
from data.gaps import regular_rows
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


def read(content: bytes) -> pd.DataFrame:
    table = parse_table(content, MINE)
    return regular_rows(table, list(table.values), table.grid, [(0, len(table.grid))], None)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


MONTHS = pd.date_range("2020-01-01", periods=40, freq="MS")
WEEKDAYS = pd.bdate_range("2020-01-01", periods=40)
SHIFTS = dated(day + pd.Timedelta(hours=hour) for day in WEEKDAYS for hour in range(8, 16))
INDEXED = pd.DataFrame({"date": HOURS, "OT": 1.0}).to_csv().encode()
MISTAKES: list[tuple[bytes, str, str]] = [  # a file, the error's beginning, what it lists
    (b"", "no column 'date'", ""),
    (LINES[0].encode(), "0 rows are too few for --seq_len 8 and --pred_len 2", ""),
    (CSV.replace(b".", b",").replace(b",", b";"), "row 1 has no comma", ""),
    (INDEXED, "column 1 is named ''; name it in one line (pandas: to_csv(index=False)", ""),
    (CSV.replace(b"date", b"Date"), "no column 'date' (did you mean Date?)", ""),
    (CSV.replace(b"load", b"OT"), "column 'OT' is there twice", ""),
    (CSV.replace(b"load", b'"lo\nad"'), "column 2 is named 'lo\\nad'", ""),
    (changed(9, f"{HOURS[7]},7"), "row 9 has 2 cells, the header 3", ""),
    (changed(9, f"{HOURS[7]},7,3,5"), "row 9 has 4 cells, the header 3", ""),
    (CSV.replace(b"OT", b"\xb0C"), "not a CSV file in UTF-8 ('utf-8' codec can't decode", ""),
    (changed(9, f'{HOURS[7]},"7,3.5'), "not a CSV file in UTF-8 (unexpected end of data)", ""),
    (changed(2, "yesterday,0,0"), "not a date: 1 (", "row 2: not a date, 'yesterday'"),
    (changed(7, ",5,2.5"), "not a date: 1, gaps: 1", "row 7: not a date, ''"),
    (changed(5, f"{HOURS[3]}+02:00,3,1"), "the dates mix time zones", ""),
    (
        dated(f"{day}/2/2020" for day in range(1, 29)),  # day first
        "not a date: 16, date off the step: ",
        "row 4: date off the step, 2020-03-02 00:00:00",
    ),
    (
        SHIFTS,
        "gaps: 39 (the step is h); add what is missing",
        "2020-01-01 16:00:00 to 2020-01-02 07:00:00: 16 steps without a value in OT",
    ),
    (dated(WEEKDAYS.delete(9)), "gaps: 9 (the step is 24h)", "2 steps without a value"),
    (dated(MONTHS + pd.Timedelta(days=14)), "date off the step: ", "row 4: date off the step, 2"),
    (dated(pd.date_range("9998-01-01", periods=40)), "not a date: 40", "'9998-01-01 "),
    (changed(61, "3020-01-01,59,1"), "60 rows are too few from 2020-01-01 00:00:00 to 3020", ""),
    (changed(61, f"{HOURS[59]},59,1e20"), "2020-01-03 11:00:00, column 'OT': 1e+20 is ", ""),
]


@pytest.mark.parametrize(("content", "begin", "listed"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_in_files_are_named_in_one_line_that_says_what_to_do(content, begin, listed):
    first, *more = message(content).splitlines()
    assert first.startswith(begin) and "; " in first
    assert bool(more) == bool(listed) and len(more) <= 10
    assert any(listed in line for line in more) == bool(listed)


def test_all_defects_of_a_file_are_said_at_once():
    lines = [*LINES[:7], LINES[6], *LINES[7:20], *LINES[22:]]  # repeated; two missing rows
    lines[10], lines[30] = f"{HOURS[8]},,4", f"{HOURS[30]},n/a,many"
    head, *listed = message("\n".join(lines).encode()).splitlines()
    assert head.startswith(
        "repeated date: 1, not a finite number: 1, gaps: 3 (the step is h); keep one row"
    )
    assert listed == [
        f"  row 8: repeated date, {HOURS[5]}",
        "  row 31: not a finite number, 'many' in column 'OT'",
        f"  {HOURS[8]} to {HOURS[8]}: 1 steps without a value in load",
        f"  {HOURS[19]} to {HOURS[20]}: 2 steps without a value in load, OT",
        f"  {HOURS[30]} to {HOURS[30]}: 1 steps without a value in load",
    ]


FLAGS = {
    "--cols laod": "mine.csv has no such value column (did you mean load?)",
    "--cols load load": "a column is named twice; name each once",
    "--target date": "mine.csv has no such value column",
}


@pytest.mark.parametrize("given", FLAGS)
def test_flags_that_no_file_fits_are_named(given):
    flag, *values = given.split()
    changes = {"cols": values} if flag == "--cols" else {"target": values[0]}
    assert message(CSV, **changes) == f"{given}: {FLAGS[given]}"


def test_a_file_is_read_once_until_it_changes():
    MINE.write_bytes(CSV)
    first = read_table(MINE)
    assert read_table(MINE) is first
    MINE.write_bytes(changed(9, f"{HOURS[7]},broken,3.5"))
    assert read_table(MINE).written["load"].to_dict() == {7: "broken"}
    assert load("custom", seq_len=8, label_len=4, pred_len=2, cols=["OT"]).columns == ["OT"]
    MINE.unlink()
    MINE.symlink_to(MINE)  # unreadable for root too
    with pytest.raises(UserError, match=r"mine.csv: cannot be read \(Too many levels of symbolic"):
        read_table(MINE)


@pytest.mark.parametrize(
    "content",
    [
        CSV + b"\n\n\n",
        b"\xef\xbb\xbf" + CSV,
        CSV.replace(b"\n", b"\r\n"),
        CSV.replace(b"\n", b"\r"),
        CSV.replace(b":00:00,", b":00:00+01:00,"),
    ],
    ids=range(5),
)
def test_ways_to_write_the_same_table(content):
    frame = read(content)
    assert frame.index.tolist() == [pd.Timestamp(date) for date in HOURS]
    assert frame["load"].tolist() == list(range(ROWS))
    assert frame["OT"].tolist() == [i * 0.5 for i in range(ROWS)]


letters = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
names = st.text(letters, min_size=1).filter(lambda name: name.strip() and name != "date")
numbers = st.floats(-3e38, 3e38, allow_nan=False)


@settings(deadline=None, max_examples=40)
@given(st.data(), st.lists(names, min_size=1, max_size=4, unique=True))
def test_what_pandas_writes_is_read_back_exactly(data, chosen):
    row = st.lists(numbers, min_size=len(chosen), max_size=len(chosen))
    table = np.array(data.draw(st.lists(row, min_size=3, max_size=8)))
    dates = pd.DatetimeIndex(HOURS[: len(table)], name="date")
    text = pd.DataFrame(table, index=dates, columns=chosen).to_csv()
    frame = read(text.encode())
    assert frame.columns.tolist() == chosen
    assert frame.index.tolist() == dates.tolist()
    np.testing.assert_array_equal(frame.to_numpy(), table)


@pytest.mark.parametrize(
    "text",
    ["x" * 99, "-Infinity", "1e39", '"', "1,5", "1.2.3", "1\n5", "0x10", "True", "½", " NaN"],
)
def test_cells_that_are_no_finite_numbers_are_named(text):
    table = pd.DataFrame({"date": HOURS, "load": "1", "OT": "2.5"})
    table.loc[7, "load"] = text
    content = table.to_csv(index=False, quoting=csv.QUOTE_ALL).encode()
    _, listed = message(content).splitlines()
    expected = f"  row 9: not a finite number, {text[:40]!r} in column 'load'"
    empty = f"  {HOURS[7]} to {HOURS[7]}: 1 steps without a value in load"
    assert listed == (empty if "NaN" in text else expected)


scraps = st.text('date,OT"\n\r019-: .e;', max_size=60).map(str.encode)


@settings(deadline=None)
@given(st.binary(max_size=100) | scraps | scraps.map(lambda scrap: b"date,OT\n2020," + scrap))
def test_no_bytes_lead_to_anything_but_a_frame_or_a_user_error(content):
    try:
        frame = read(content)
    except UserError as error:
        assert len(str(error).splitlines()) <= 11
    else:
        assert np.isfinite(frame.to_numpy()).all()
