"""Custom files: what is read, and the one line in which each mistake ends."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.csv_reader import Table, read_table
from tests.test_data import load
from utils.files import UserError

MINE = Path("mine.csv")
HOURS = [str(date) for date in pd.date_range("2020-01-01", periods=60, freq="h")]
LINES = ["date,load,OT", *(f"{date},{i},{i * 0.5}" for i, date in enumerate(HOURS))]
CSV = "\n".join(LINES).encode()


def changed(row: int, line: str) -> bytes:
    """A sound file with another line in that row."""
    return "\n".join([*LINES[: row - 1], line, *LINES[row:]]).encode()


def dated(dates: Iterable[pd.Timestamp | str]) -> bytes:
    """A file with a number for each date."""
    return "\n".join(["date,OT", *(f"{date},{i}" for i, date in enumerate(dates))]).encode()


def read(content: bytes) -> Table:
    MINE.write_bytes(content)
    return read_table(MINE)


def message(content: bytes, **flags) -> str:
    """The error of a file and of flags."""
    MINE.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load("custom", seq_len=8, label_len=4, pred_len=2, **flags)
    return str(caught.value)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


DAYS = pd.bdate_range("2020-01-01", periods=40)
SHIFTS = dated(day + pd.Timedelta(hours=hour) for day in DAYS for hour in range(8, 16))
INDEXED = pd.DataFrame({"date": HOURS, "OT": 1.0}).to_csv().encode()
STEP, CELL = "date that does not follow by one step (h)", "empty cell or no number"
MISTAKES: list[tuple[bytes, str]] = [  # a file, the error's beginning
    (b"", "not a CSV file in UTF-8 (No columns to parse from file); save it as one"),
    (CSV.replace(b"OT", b"\xb0C"), "not a CSV file in UTF-8 ('utf-8' codec can't decode"),
    (changed(9, f"{HOURS[7]},7,3,5"), "not a CSV file in UTF-8 (Error tokenizing data. C error: E"),
    (CSV.replace(b",", b";"), "its columns are date;load;OT; call the dates date, and name every"),
    (INDEXED, "its columns are Unnamed: 0, date, OT; call the dates date, and name every column ("),
    (CSV.replace(b"OT", b"ot"), "no column 'OT' (did you mean ot?); see --target and --cols"),
    (changed(2, "yesterday,0,0"), "no date: 1 (row 2: 'yesterday'); write dates like 2020-12-31"),
    (changed(7, ",5,2.5"), "no date: 1 (row 7: 'nan')"),
    (dated(f"{day}/1/2020" for day in range(1, 29)), "no date: 16 (row 14: '13/1/2020'; row 15"),
    (changed(5, f"{HOURS[3]}+02:00,3,1"), "the dates have a time zone; write UTC without zone"),
    (CSV.replace(b":00:00,", b":00:00Z,"), "the dates have a time zone"),
    (changed(9, f"{HOURS[7]},7"), f"{CELL}: 1 ({HOURS[7]}, OT: 'nan'); correct or fill it"),
    (changed(9, f"{HOURS[7]},?,"), f"{CELL}: 2 ({HOURS[7]}, load: '?'; {HOURS[7]}, OT: 'nan')"),
    (changed(9, f"{HOURS[7]},inf,1"), f"{CELL}: 1 ({HOURS[7]}, load: 'inf')"),
    (changed(9, f"{HOURS[7]},1,1e39"), f"{CELL}: 1 ({HOURS[7]}, OT: '1e+39')"),
    (changed(9, LINES[7]), f"{STEP}: 2 ({HOURS[6]} after {HOURS[6]}; {HOURS[8]} after {HOURS[6]})"),
    ("\n".join([*LINES[:9], *LINES[11:]]).encode(), f"{STEP}: 1 ({HOURS[10]} after {HOURS[7]});"),
    ("\n".join([LINES[0], *LINES[:0:-1]]).encode(), f"{STEP}: 59 ({HOURS[58]} after {HOURS[59]}"),
    (SHIFTS, f"{STEP}: 39 (2020-01-02 08:00:00 after 2020-01-01 15:00:00; "),
    (dated(DAYS.delete(9)), "date that does not follow by one step (24h): 9 (2020-01-06 "),
    (LINES[0].encode(), "0 rows are too few for --seq_len 8 and --pred_len 2; shorten them"),
]


@pytest.mark.parametrize(("content", "begin"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_in_files_are_named_in_one_line_that_says_what_to_do(content, begin):
    error = message(content).removeprefix("mine.csv: ").removeprefix("--data custom: ")
    assert error.startswith(begin) and "; " in error and "\n" not in error


def test_columns_that_are_not_used_may_hold_anything():
    MINE.write_bytes(changed(9, f"{HOURS[7]},broken,3.5"))
    assert load("custom", seq_len=8, label_len=4, pred_len=2, cols=["OT"]).columns == ["OT"]
    assert message(CSV, cols=["laod"]).startswith("mine.csv: no column 'laod' (did you mean load?)")


def test_a_file_is_read_once_until_it_changes():
    first = read(CSV)
    assert read_table(MINE) is first
    assert read(changed(9, f"{HOURS[7]},9,3.5")).cells["load"].iloc[7] == 9
    MINE.unlink()
    MINE.symlink_to(MINE)  # unreadable for root too
    with pytest.raises(UserError, match=r"mine.csv: cannot be read \(Too many levels of symbolic"):
        read_table(MINE)


FORMS = ["%Y-%m-%dT%H:%M", "%Y%m%dT%H%M%S", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%Y-%m-%d %H"]
SAME = [CSV + b"\n\n\n", b"\xef\xbb\xbf" + CSV, CSV.replace(b"\n", b"\r\n"), *FORMS]


@pytest.mark.parametrize("way", SAME, ids=range(len(SAME)))
def test_ways_to_write_the_same_table(way):
    numbers = {"load": np.arange(60), "OT": np.arange(60) * 0.5}
    dates = pd.DatetimeIndex(HOURS)
    if isinstance(way, str):
        way = pd.DataFrame({"date": dates.strftime(way), **numbers}).to_csv(index=False).encode()
    rows = read(way).numbers(["load", "OT"])
    assert rows.index.equals(dates) and rows.dtypes.eq(float).all()
    assert (rows["load"] == numbers["load"]).all() and (rows["OT"] == numbers["OT"]).all()


NAMES = ["T (degC)", "温度", "a b  c", "x,y", 'say "q"', "100%", "$E=mc^2$", "-9999", "1", "nan"]


def test_columns_may_have_any_name():
    values = np.random.default_rng(3).normal(0, 1e3, (60, len(NAMES)))
    frame = pd.DataFrame(values, pd.DatetimeIndex(HOURS, name="date"), NAMES)
    rows = read(frame.to_csv().encode()).numbers(NAMES)
    pd.testing.assert_frame_equal(rows, frame, rtol=1e-15, check_freq=False)
