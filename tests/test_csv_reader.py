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
from data.data_loader import DataSettings, load_data
from utils.errors import UserError

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
    asked = {"features": "M", "target": "OT", "cols": None, "freq": "h", "embed": "timeF"}
    asked |= {"missing": "keep", "seq_len": 8, "label_len": 4, "pred_len": 2, **flags}
    MINE.write_bytes(content)
    place = (".", asked.pop("data_path", MINE.name)), asked.pop("scaler_from", None)
    with pytest.raises(UserError) as caught:
        load_data("custom", *place[0], DataSettings(**asked), place[1])
    return str(caught.value).removeprefix("mine.csv: ")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


MONTHS = pd.date_range("2020-01-01", periods=40, freq="MS")
WEEKDAYS = pd.bdate_range("2020-01-01", periods=40)
EMPTY = "row 1 is empty; the file needs a header and a row for each date"
TOO_FEW = (
    "rows are too few for --seq_len 8 and --pred_len 2: a part has no window; shorten them or give "
    "at least 15 rows"
)
NO_NAME = "is no column name; write one in one line"
WRITE = "write dates like 2020-12-31 23:00:00"
DAY_FIRST = f"the dates are day first, and slashes are read month first; {WRITE}"
SORT = "that of the row above; sort the rows by date and keep one row for each"
GAPS = "0 days 01:00:00 is usual; fill the gaps (nights, weekends), or resample to a longer step"
CELLS = "the header 3; give every row one cell for each column"
NO_COMMA = "row 1 has no comma; save the file with commas between cells and points in numbers"
NOT_UTF8 = "not a CSV file in UTF-8 ('utf-8' codec can't decode byte {} in position {}: " + (
    "invalid start byte); save it as one"
)


def leap(row: int, date: str, gap: str, usual: str) -> str:
    """The message that a date comes too late."""
    return f"row {row}, column 'date': {date} comes {gap} after the row above, where {usual}"


def shift(first: int, end: int) -> bytes:
    """A file whose days have these hours only, and weekends none."""
    return dated(day + pd.Timedelta(hours=hour) for day in WEEKDAYS for hour in range(first, end))


FAULTS: list[tuple[bytes, str]] = [
    (b"", EMPTY),
    (b"\xef\xbb\xbf\n\n", EMPTY),
    (b"date,load,OT\n", f"0 {TOO_FEW}"),
    ("\n".join(LINES[:15]).encode(), f"14 {TOO_FEW}"),
    (CSV.replace(b".", b",").replace(b",", b";"), NO_COMMA),
    (CSV.replace(b",", b"\t"), NO_COMMA),
    (
        pd.DataFrame({"date": HOURS, "OT": 1.0}).to_csv().encode(),
        "row 1, column 1 has no name: probably the index that pandas writes; save the frame with "
        'to_csv(index=False), or with index_label="date" if the index has the dates',
    ),
    (
        CSV.replace(b"date", b"date "),
        "row 1 has no column 'date' (did you mean 'date '?); name the column of dates date",
    ),
    (CSV.replace(b"load", b"OT"), "row 1 names column 'OT' twice; rename one"),
    (CSV.replace(b"load", b" "), f"row 1, column 2: ' ' {NO_NAME}"),
    (CSV.replace(b"load", b'"lo\nad"'), f"row 1, column 2: 'lo\\nad' {NO_NAME}"),
    (changed(9, f"{HOURS[7]},7"), f"row 9 has 2 cells, {CELLS}"),
    (changed(9, f"{HOURS[7]},7,3,5"), f"row 9 has 4 cells, {CELLS}"),
    (b"\x89PNG\r\n", NOT_UTF8.format("0x89", 0)),
    (CSV.decode().encode("utf-16"), NOT_UTF8.format("0xff", 0)),
    (CSV.replace(b"OT", b"\xb0C"), NOT_UTF8.format("0xb0", 10)),
    (
        changed(9, f'{HOURS[7]},"7,3.5'),
        "not a CSV file in UTF-8 (unexpected end of data); save it as one",
    ),
    (changed(2, "yesterday,0,0"), f"row 2, column 'date': 'yesterday' is not a date; {WRITE}"),
    (changed(7, ",5,2.5"), f"row 7, column 'date': an empty cell is not a date; {WRITE}"),
    (changed(5, f"{HOURS[3]}+02:00,3,1"), "the dates mix time zones; write them all in one"),
    (
        dated(f"{day}/2/2020" for day in range(1, 29)),
        f"row 14, column 'date': '13/2/2020' is not a date: {DAY_FIRST}",
    ),
    (  # day first, and every date could be month first
        dated(pd.date_range("2020-05-01", periods=72, freq="h").strftime("%d/%m/%Y %H:%M")),
        leap(26, "2020-02-05 00:00:00", "30 days 01:00:00", "0 days 01:00:00 is usual: ")
        + DAY_FIRST,
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
        leap(11, "2020-01-01 11:00:00", "0 days 03:00:00", GAPS),
    ),
    (shift(8, 16), leap(10, "2020-01-02 08:00:00", "0 days 17:00:00", GAPS)),
    (
        dated(WEEKDAYS.delete(9)),
        leap(
            11,
            "2020-01-15 00:00:00",
            "2 days 00:00:00",
            "the next business day is usual; ",
        )
        + "add the rows that are missing (holidays, too)",
    ),
    (
        dated(MONTHS + pd.Timedelta(days=14)),
        leap(4, "2020-03-15 00:00:00", "29 days 00:00:00", "31 days 00:00:00 is usual; ")
        + "months differ in length: date each row by the first of its own",
    ),
    (
        dated(MONTHS.delete(7)),
        leap(9, "2020-09-01 00:00:00", "62 days 00:00:00", "a whole number of months is usual; ")
        + "add the rows that are missing (holidays, too)",
    ),
    (
        changed(61, f"{HOURS[59]},59,1e20"),
        "row 61, column 'OT': 1e+20 is 2e+19 standard deviations from the mean of the training "
        "rows; mend it",
    ),
]


@pytest.mark.parametrize(("content", "expected"), FAULTS, ids=range(len(FAULTS)))
def test_faulty_files_are_named_in_one_line(content, expected):
    assert message(content) == expected


UNREAD = "cannot be read ({}); check --root_path and --data_path"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"cols": ["laod"]}, "--cols laod: mine.csv has no such value column (did you mean load?)"),
        ({"cols": ["load", "load"]}, "--cols load load: a column is named twice; name each once"),
        ({"target": "date"}, "--target date: mine.csv has no such value column"),
        ({"scaler_from": Path("x")}, "x: " + UNREAD.format("No such file or directory")),
        ({"data_path": "loop"}, "loop: " + UNREAD.format("Too many levels of symbolic links")),
    ],
)
def test_flags_that_no_file_fits_are_named(flags, expected):
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
    advice = "mend it, or leave the column out with --cols"
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
