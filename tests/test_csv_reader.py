"""Custom files: what is read, and the one line in which each mistake ends."""

import csv
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.csv_reader import parse_table, read_table
from data.data_loader import load_data
from data.dates import regular_step
from utils.errors import UserError

ROWS = 60
MINE = Path("mine.csv")


def hours(rows: int = ROWS) -> list[str]:
    return [str(date) for date in pd.date_range("2020-01-01", periods=rows, freq="h")]


def lines(rows: int = ROWS) -> list[str]:
    """Lines of a sound file; line i stands in row i + 1."""
    return ["date,load,OT", *(f"{date},{i},{i * 0.5}" for i, date in enumerate(hours(rows)))]


def changed(row: int, line: str) -> bytes:
    """A sound file with another line in that row."""
    whole = lines()
    whole[row - 1] = line
    return "\n".join(whole).encode()


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


CSV = "\n".join(lines()).encode()
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 1, 1, 8, 2, 0, 0, 0)
NOT_A_NUMBER = "is not a finite number; mend it, or leave the column out with --cols"
NOT_A_DATE = "is not a date; write dates like 2020-12-31 23:00:00"
EMPTY = "the file is empty; it needs a header and a row for each date"
TOO_FEW = "rows are too few for --seq_len 8 and --pred_len 2: a part has no window; shorten them or"
NO_DATE = "row 1 has no column 'date'{}; name the column of dates date"
SORT = "that of the row above; sort the rows by date and keep one row for each"
BINARY = "not a CSV file (it holds zero bytes, as pictures and .xlsx files do); export the table"
CELLS = "the header 3; give every row one cell for each column"
SEPARATED = "; save the file with commas between cells and points in numbers"
INDEX = (
    "row 1, column 1 has no name: probably the index that pandas writes; save the frame with "
    'to_csv(index=False), or with index_label="date" if the index has the dates'
)
USUAL = "where 0 days 01:00:00 is usual; "
NIGHTS = "nights or weekends have no rows: add them, or resample to one row a day"
DAY_FIRST = (
    ": the dates are day first, and slashes are read month first; write dates like "
    "2020-12-31 23:00:00"
)
MONTHS = pd.date_range("2020-01-01", periods=40, freq="MS")
WEEKDAYS = pd.bdate_range("2020-01-01", periods=40)
FAULTS: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", EMPTY),
    "blank lines": (b"\n\n", EMPTY),
    "header only": (b"date,load,OT\n", f"0 {TOO_FEW} give at least 15 rows"),
    "too few rows": ("\n".join(lines(14)).encode(), f"14 {TOO_FEW} give at least 15 rows"),
    "no date column": (CSV.replace(b"date", b"hour"), NO_DATE.format("")),
    "Date": (CSV.replace(b"date", b"Date"), NO_DATE.format(" (did you mean Date?)")),
    "date and a space": (
        CSV.replace(b"date", b"date "),
        NO_DATE.format(" (did you mean 'date '?)"),
    ),
    "repeated column": (CSV.replace(b"load", b"OT"), "row 1 names column 'OT' twice; rename one"),
    "pandas' index": (pd.DataFrame({"date": hours(), "OT": 1.0}).to_csv().encode(), INDEX),
    "nameless column": (
        CSV.replace(b"load", b" "),
        "row 1, column 2: ' ' is no column name; write one in one line",
    ),
    "name over two lines": (
        CSV.replace(b"load", b'"lo\nad"'),
        "row 1, column 2: 'lo\\nad' is no column name; write one in one line",
    ),
    "missing target": (
        CSV.replace(b"OT", b"OTT"),
        "--target OT: mine.csv has no such value column (did you mean OTT?)",
    ),
    "unparsable first date": (
        changed(2, "yesterday,0,0.0"),
        f"row 2, column 'date': 'yesterday' {NOT_A_DATE}",
    ),
    "empty date": (changed(7, ",5,2.5"), f"row 7, column 'date': an empty cell {NOT_A_DATE}"),
    "day first": (
        dated([f"{day}/2/2020" for day in range(1, 29)]),
        f"row 14, column 'date': '13/2/2020' is not a date{DAY_FIRST}",
    ),
    "day first, all of them also months": (
        dated(list(pd.date_range("2020-05-01", periods=72, freq="h").strftime("%d/%m/%Y %H:%M"))),
        f"row 26, column 'date': 2020-02-05 00:00:00 comes 30 days 01:00:00 after the row above, "
        f"{USUAL[:-2]}{DAY_FIRST}",
    ),
    "mixed time zones": (
        changed(5, "2020-01-01 03:00:00+02:00,3,1.5"),
        "the dates mix time zones; write them all in one",
    ),
    "unsorted dates": (
        changed(6, "2020-01-01 01:30:00,4,2.0"),
        f"row 6, column 'date': 2020-01-01 01:30:00 is before {SORT}",
    ),
    "duplicate date": (
        changed(6, "2020-01-01 03:00:00,4,2.0"),
        f"row 6, column 'date': 2020-01-01 03:00:00 repeats {SORT}",
    ),
    "gap": (
        "\n".join(lines()[:10] + lines()[12:]).encode(),
        "row 11, column 'date': 2020-01-01 11:00:00 comes 0 days 03:00:00 after the row above, "
        f"{USUAL}fill the gaps or resample to a regular step",
    ),
    "working hours": (
        dated([day + pd.Timedelta(hours=h) for day in WEEKDAYS for h in range(8, 16)]),
        "row 10, column 'date': 2020-01-02 08:00:00 comes 0 days 17:00:00 after the row above, "
        f"{USUAL}{NIGHTS}",
    ),
    "no weekends": (
        dated([day + pd.Timedelta(hours=h) for day in WEEKDAYS for h in range(24)]),
        "row 74, column 'date': 2020-01-06 00:00:00 comes 2 days 01:00:00 after the row above, "
        f"{USUAL}{NIGHTS}",
    ),
    "holiday": (
        dated(WEEKDAYS.delete(9)),
        "row 11, column 'date': 2020-01-15 00:00:00 comes 2 days 00:00:00 after the row above, "
        "where the next business day is usual; add the missing days (holidays, say) with the "
        "values of the row above",
    ),
    "months on the 15th": (
        dated(MONTHS + pd.Timedelta(days=14)),
        "row 4, column 'date': 2020-03-15 00:00:00 comes 29 days 00:00:00 after the row above, "
        "where 31 days 00:00:00 is usual; months differ in length: date their rows 2020-01-01, "
        "not 2020-01-15",
    ),
    "missing month": (
        dated(MONTHS.delete(7)),
        "row 9, column 'date': 2020-09-01 00:00:00 comes 62 days 00:00:00 after the row above, "
        "where a whole number of months is usual; add the months that are missing",
    ),
    "empty": (
        changed(9, f"{hours()[7]},,3"),
        f"row 9, column 'load': an empty cell {NOT_A_NUMBER}",
    ),
    "long text cell": (
        changed(9, f"{hours()[7]},{'x' * 500},3.5"),
        f"row 9, column 'load': '{'x' * 40}' {NOT_A_NUMBER}",
    ),
    "far from the training rows": (
        changed(61, f"{hours()[59]},59,1e20"),
        "row 61, column 'OT': 1e+20 is 2e+19 standard deviations from the mean of the training "
        "rows; mend it",
    ),
    "short row": (changed(9, f"{hours()[7]},7"), f"row 9 has 2 cells, {CELLS}"),
    "long row": (changed(9, f"{hours()[7]},7,3,5"), f"row 9 has 4 cells, {CELLS}"),
    "blank line inside": (changed(9, ""), f"row 9 has 0 cells, {CELLS}"),
    "semicolons": (
        CSV.replace(b".", b",").replace(b",", b";"),
        f"row 1 is separated by ';'{SEPARATED}",
    ),
    "tabs": (CSV.replace(b",", b"\t"), f"row 1 is separated by '\\t'{SEPARATED}"),
    "picture": (PNG, f"{BINARY} as CSV in UTF-8"),
    "UTF-16": (CSV.decode().encode("utf-16"), f"{BINARY} as CSV in UTF-8"),
    "Latin-1": (
        changed(1, "date,load,°C").replace("°".encode(), b"\xb0"),
        "line 1 is not UTF-8; save it as CSV in UTF-8",
    ),
    "open quote": (
        changed(9, f'{hours()[7]},"7,3.5'),
        "not a CSV file (unexpected end of data); check its quotes",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_files_are_named_in_one_line(fault):
    content, expected = FAULTS[fault]
    assert message(content) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"cols": ["laod"]}, "--cols laod: mine.csv has no such value column (did you mean load?)"),
        ({"cols": ["date"]}, "--cols date: mine.csv has no such value column"),
        ({"cols": ["load", "load"]}, "--cols load load: a column is named twice; name each once"),
        ({"target": "date"}, "--target date: mine.csv has no such value column"),
        ({"scaler_from": Path("x")}, "x: no such file; check --root_path and --data_path"),
    ],
)
def test_flags_that_a_file_does_not_fit_are_named(flags, expected):
    assert message(CSV, **flags) == expected


def test_what_is_no_readable_file_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")  # unreadable for root too
    for name, expected in {
        "none.csv": "no such file; check --root_path and --data_path",
        "folder": "is a folder; name the file in it with --data_path",
        "loop": "cannot be read (Too many levels of symbolic links); check the file and its "
        "permissions",
    }.items():
        with pytest.raises(UserError) as caught:
            read_table(tmp_path / name)
        assert str(caught.value) == f"{tmp_path}/{name}: {expected}"


def test_a_file_is_read_once_until_it_changes(tmp_path):
    MINE.write_bytes(CSV)
    first = read_table(MINE)
    assert read_table(MINE) is first
    MINE.write_bytes(changed(9, f"{hours()[7]},70,3.5"))
    assert read_table(MINE).values["load"].iloc[7] == 70


def test_columns_left_out_may_hold_anything():
    table = parse_table(changed(9, f"{hours()[7]},broken,3.5"), MINE)
    assert table.pick("OT", ["OT"]).columns.tolist() == ["OT"]


@pytest.mark.parametrize(
    "content",
    [
        CSV,
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
)
def test_ways_to_write_the_same_table(content):
    frame = parse_table(content, MINE).pick("OT", None)
    assert frame.index.tolist() == [pd.Timestamp(date) for date in hours()]
    assert frame["load"].tolist() == list(range(ROWS))
    assert frame["OT"].tolist() == [i * 0.5 for i in range(ROWS)]


names = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(
        str.strip
    ),
    min_size=1,
    max_size=4,
    unique=True,
).filter(lambda chosen: "date" not in chosen)
numbers = st.floats(-3e38, 3e38, allow_nan=False)


@settings(deadline=None)
@given(st.data(), names)
def test_what_pandas_writes_is_read_back_exactly(data, chosen):
    rows = data.draw(st.integers(3, 8))
    row = st.lists(numbers, min_size=len(chosen), max_size=len(chosen))
    table = np.array(data.draw(st.lists(row, min_size=rows, max_size=rows)))
    dates = pd.DatetimeIndex(hours(rows), name="date")
    text = pd.DataFrame(table, index=dates, columns=chosen).to_csv()
    frame = parse_table(text.encode(), MINE).pick(chosen[-1], None)
    assert frame.columns.tolist() == chosen
    assert frame.index.tolist() == dates.tolist()
    np.testing.assert_array_equal(frame.to_numpy(), table)


def is_finite_number(text: str) -> bool:
    try:
        return abs(float(text)) < 3.4e38
    except ValueError:
        return False


def is_no_date(text: str) -> bool:
    """pandas takes two words for the present moment; as a step in a file it is irregular."""
    return not any(letter.isdigit() for letter in text) and text not in {"now", "today"}


corruption = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
corrupt_cell = st.tuples(
    st.sampled_from(["load", "OT"]), corruption.filter(lambda text: not is_finite_number(text))
)
corrupt_date = st.tuples(st.just("date"), corruption.filter(is_no_date))


@settings(deadline=None, max_examples=150)
@given(st.integers(0, ROWS - 1), corrupt_cell | corrupt_date)
@example(0, ("load", "nan"))
@example(59, ("OT", "-Infinity"))
@example(1, ("load", '"'))
@example(1, ("load", "1,5"))
@example(1, ("load", "1\n5"))
@example(1, ("OT", "1e39"))
@example(1, ("load", ""))
@example(1, ("OT", "0x10"))
@example(1, ("OT", "True"))
def test_any_corrupted_cell_is_refused_and_named(row, cell):
    column, text = cell
    table = pd.DataFrame({"date": hours(), "load": "1", "OT": "2.5"})
    table.loc[row, column] = text
    content = table.to_csv(index=False, quoting=csv.QUOTE_ALL).encode()
    with pytest.raises(UserError) as caught:
        parse_table(content, MINE).pick("OT", None)
    assert str(caught.value).startswith(f"mine.csv: row {row + 2}, column {column!r}: ")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(NOT_A_DATE if column == "date" else NOT_A_NUMBER)


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


@settings(deadline=None)
@given(st.lists(st.integers(-2, 6), min_size=2, max_size=12))
def test_only_equal_hourly_steps_are_regular(steps):
    dates = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.cumsum([0, *steps]), unit="h")
    index = pd.DatetimeIndex(dates)
    if min(steps) > 0 and len(set(steps)) == 1:
        step, offset = regular_step(index, MINE)
        assert step == offset == pd.Timedelta(hours=steps[0])
        return
    with pytest.raises(UserError) as caught:
        regular_step(index, MINE)
    first = next((i for i, step in enumerate(steps) if step <= 0), None)
    if first is None:
        usual = min(set(steps), key=lambda step: (-steps.count(step), step))
        first = next(i for i, step in enumerate(steps) if step != usual)
    where = f"mine.csv: row {first + 3}, column 'date': {index[first + 1]} "
    assert str(caught.value).startswith(where)
