import csv
import math
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.csv_reader import read_custom, regular_step
from data.data_loader import load_data
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


def load(folder: Path, **changes):
    asked = {
        **{"root_path": folder, "data_path": "mine.csv", "features": "M", "target": "OT"},
        **{"cols": None, "freq": "h", "embed": "timeF"},
        **{"seq_len": 8, "label_len": 4, "pred_len": 2},
    }
    return load_data("custom", **{**asked, **changes})


CSV = "\n".join(lines()).encode()
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 1, 1, 8, 2, 0, 0, 0)
NOT_A_NUMBER = "is not a finite number; mend it, or leave the column out with --cols"
FAULTS = {
    "empty file": (b"", "{path}: the file is empty; it needs a header and a row for each date"),
    "blank lines": (
        b"\n\n",
        "{path}: the file is empty; it needs a header and a row for each date",
    ),
    "header only": (
        b"date,load,OT\n",
        "{path}: 0 rows are too few for --seq_len 8 and --pred_len 2: a part has no window; "
        "shorten them or bring 15 rows",
    ),
    "too few rows": (
        "\n".join(lines(14)).encode(),
        "{path}: 14 rows are too few for --seq_len 8 and --pred_len 2: a part has no window; "
        "shorten them or bring 15 rows",
    ),
    "no date column": (
        CSV.replace(b"date", b"hour"),
        "{path}: row 1 has no column 'date'; give the column of dates that name",
    ),
    "date column in capitals": (
        CSV.replace(b"date", b"Date"),
        "{path}: row 1 has no column 'date' (did you mean Date?); "
        "give the column of dates that name",
    ),
    "no header": (
        b"\n".join(CSV.splitlines()[1:]),
        "{path}: row 1 has no column 'date'; give the column of dates that name",
    ),
    "repeated column": (
        CSV.replace(b"load", b"OT"),
        "{path}: row 1 names column 'OT' twice; rename one",
    ),
    "nameless column": (
        CSV.replace(b"load", b" "),
        "{path}: row 1, column 2: ' ' is no name; write one in one line",
    ),
    "name over two lines": (
        CSV.replace(b"load", b'"lo\nad"'),
        "{path}: row 1, column 2: 'lo\\nad' is no name; write one in one line",
    ),
    "missing target": (
        CSV.replace(b"OT", b"OTT"),
        "--target OT: {path} has no such value column (did you mean OTT?)",
    ),
    "unparsable date": (
        changed(5, "2020-13-01 03:00,3,1.5"),
        "{path}: row 5, column 'date': '2020-13-01 03:00' is not a date; "
        "write dates like 2020-12-31 23:00:00",
    ),
    "unparsable first date": (
        changed(2, "yesterday,0,0.0"),
        "{path}: row 2, column 'date': 'yesterday' is not a date; "
        "write dates like 2020-12-31 23:00:00",
    ),
    "empty date": (
        changed(7, ",5,2.5"),
        "{path}: row 7, column 'date': an empty cell is not a date; "
        "write dates like 2020-12-31 23:00:00",
    ),
    "day first": (
        b"date,OT\n" + b"".join(b"%d/2/2020,1\n" % day for day in range(1, 29)),
        "{path}: row 14, column 'date': '13/2/2020' is not a date; "
        "write dates like 2020-12-31 23:00:00",
    ),
    "mixed time zones": (
        changed(5, "2020-01-01 03:00:00+02:00,3,1.5"),
        "{path}: the dates mix time zones; write them all in one",
    ),
    "unsorted dates": (
        changed(6, "2020-01-01 01:30:00,4,2.0"),
        "{path}: row 6: date 2020-01-01 01:30:00 is before that of the row above; "
        "sort the rows by date and keep one row for each",
    ),
    "newest first": (
        "\n".join([lines()[0], *reversed(lines()[1:])]).encode(),
        "{path}: row 3: date 2020-01-03 10:00:00 is before that of the row above; "
        "sort the rows by date and keep one row for each",
    ),
    "duplicate date": (
        changed(6, "2020-01-01 03:00:00,4,2.0"),
        "{path}: row 6: date 2020-01-01 03:00:00 repeats that of the row above; "
        "sort the rows by date and keep one row for each",
    ),
    "gap": (
        "\n".join(lines()[:10] + lines()[12:]).encode(),
        "{path}: row 11: date 2020-01-01 11:00:00 comes 0 days 03:00:00 after the row above, "
        "where 0 days 01:00:00 is usual; fill the gaps or resample to a regular step",
    ),
    "text cell": (
        changed(9, "2020-01-01 07:00:00,n/a,3.5"),
        "{path}: row 9, column 'load': 'n/a' " + NOT_A_NUMBER,
    ),
    "NaN cell": (
        changed(9, "2020-01-01 07:00:00,7,NaN"),
        "{path}: row 9, column 'OT': 'NaN' " + NOT_A_NUMBER,
    ),
    "empty cell": (
        changed(9, "2020-01-01 07:00:00,,3.5"),
        "{path}: row 9, column 'load': an empty cell " + NOT_A_NUMBER,
    ),
    "infinite cell": (
        changed(61, "2020-01-03 11:00:00,-inf,3.5"),
        "{path}: row 61, column 'load': '-inf' " + NOT_A_NUMBER,
    ),
    "number beyond float32": (
        changed(9, "2020-01-01 07:00:00,1e39,3.5"),
        "{path}: row 9, column 'load': '1e39' " + NOT_A_NUMBER,
    ),
    "long text cell": (
        changed(9, f"2020-01-01 07:00:00,{'x' * 500},3.5"),
        "{path}: row 9, column 'load': '" + "x" * 40 + "' " + NOT_A_NUMBER,
    ),
    "short row": (
        changed(9, "2020-01-01 07:00:00,7"),
        "{path}: row 9 has 2 cells, the header 3; give every row one cell for each column",
    ),
    "long row": (
        changed(9, "2020-01-01 07:00:00,7,3,5"),
        "{path}: row 9 has 4 cells, the header 3; give every row one cell for each column",
    ),
    "blank line inside": (
        changed(9, ""),
        "{path}: row 9 has 0 cells, the header 3; give every row one cell for each column",
    ),
    "semicolons": (
        CSV.replace(b".", b",").replace(b",", b";"),
        "{path}: row 1 is separated by ';'; save the file with commas between cells and points "
        "in numbers",
    ),
    "tabs": (
        CSV.replace(b",", b"\t"),
        "{path}: row 1 is separated by '\\t'; save the file with commas between cells and points "
        "in numbers",
    ),
    "picture": (
        PNG,
        "{path}: not a CSV file (it holds zero bytes, as pictures and .xlsx files do); "
        "export the table as CSV in UTF-8",
    ),
    "UTF-16": (
        CSV.decode().encode("utf-16"),
        "{path}: not a CSV file (it holds zero bytes, as pictures and .xlsx files do); "
        "export the table as CSV in UTF-8",
    ),
    "Latin-1": (
        changed(1, "date,load,°C").replace("°".encode(), b"\xb0"),
        "{path}: line 1 is not UTF-8; save it as CSV in UTF-8",
    ),
    "open quote": (
        changed(9, '2020-01-01 07:00:00,"7,3.5'),
        "{path}: not a CSV file (unexpected end of data); check its quotes",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_files_are_named_in_one_line(tmp_path, fault):
    content, message = FAULTS[fault]
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert str(caught.value) == message.replace("{path}", str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/mine.csv: no such file; check --root_path and --data_path"
    )


def test_a_folder_is_named(tmp_path):
    (tmp_path / "mine.csv").mkdir()
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/mine.csv: is a folder; name the file in it with --data_path"
    )


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "mine.csv").symlink_to("mine.csv")  # unreadable for root too
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/mine.csv: cannot be read (Too many levels of symbolic links); "
        "check the file and its permissions"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"cols": ["laod"]}, "--cols laod: {path} has no such value column (did you mean load?)"),
        ({"cols": ["date"]}, "--cols date: {path} has no such value column"),
        ({"cols": ["load", "load"]}, "--cols load load: a column is named twice; name each once"),
        ({"target": "date"}, "--target date: {path} has no such value column"),
    ],
)
def test_columns_that_are_not_there_are_named(tmp_path, flags, message):
    path = tmp_path / "mine.csv"
    path.write_bytes(CSV)
    with pytest.raises(UserError) as caught:
        load(tmp_path, **flags)
    assert str(caught.value) == message.replace("{path}", str(path))


def test_columns_left_out_may_hold_anything(tmp_path):
    (tmp_path / "mine.csv").write_bytes(changed(9, "2020-01-01 07:00:00,broken,3.5"))
    assert load(tmp_path, cols=["OT"]).columns == ["OT"]


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
    frame = read_custom(content, MINE, "OT", None)
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
    table = np.array(
        data.draw(
            st.lists(
                st.lists(numbers, min_size=len(chosen), max_size=len(chosen)),
                min_size=rows,
                max_size=rows,
            )
        )
    )
    dates = pd.DatetimeIndex(hours(rows), name="date")
    text = pd.DataFrame(table, index=dates, columns=chosen).to_csv()
    frame = read_custom(text.encode(), MINE, chosen[-1], None)
    assert frame.columns.tolist() == chosen
    assert frame.index.tolist() == dates.tolist()
    np.testing.assert_array_equal(frame.to_numpy(), table)


def is_finite_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


corruption = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(deadline=None)
@given(
    st.integers(0, ROWS - 1),
    st.sampled_from(["load", "OT"]),
    corruption.filter(lambda text: not is_finite_number(text)),
)
@example(0, "load", "nan")
@example(59, "OT", "-Infinity")
@example(1, "load", '"')
@example(1, "load", "1,5")
@example(1, "load", "1\n5")
@example(1, "OT", "1e400")
@example(1, "OT", "0x10")
@example(1, "OT", "True")
def test_any_corrupted_cell_is_refused_and_named(row, column, text):
    table = pd.DataFrame({"date": hours(), "load": "1", "OT": "2.5"})
    table.loc[row, column] = text
    with pytest.raises(UserError) as caught:
        read_custom(table.to_csv(index=False, quoting=csv.QUOTE_ALL).encode(), MINE, "OT", None)
    message = str(caught.value)
    assert message.startswith(f"mine.csv: row {row + 2}, column {column!r}: ")
    assert message.endswith(NOT_A_NUMBER)
    assert "\n" not in message


def is_no_date(text: str) -> bool:
    """pandas takes two words for the present moment; as a step in a file it is irregular."""
    return not any(letter.isdigit() for letter in text) and text not in {"now", "today"}


@settings(deadline=None)
@given(st.integers(0, ROWS - 1), corruption.filter(is_no_date))
def test_any_corrupted_date_is_refused_and_named(row, text):
    table = pd.DataFrame({"date": hours(), "OT": "2.5"})
    table.loc[row, "date"] = text
    with pytest.raises(UserError) as caught:
        read_custom(table.to_csv(index=False, quoting=csv.QUOTE_ALL).encode(), MINE, "OT", None)
    assert str(caught.value).startswith(f"mine.csv: row {row + 2}, column 'date': ")


scraps = st.text('date,OT"\n\r019-: .e;', max_size=60).map(str.encode)


@given(st.binary(max_size=100) | scraps | scraps.map(lambda scrap: b"date,OT\n2020," + scrap))
def test_no_bytes_lead_to_anything_but_a_frame_or_a_user_error(content):
    try:
        frame = read_custom(content, MINE, "OT", None)
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
        step, follows = regular_step(index, MINE)
        assert step == follows == pd.Timedelta(hours=steps[0])
        return
    with pytest.raises(UserError) as caught:
        regular_step(index, MINE)
    first_fault = next((i for i, step in enumerate(steps) if step <= 0), None)
    if first_fault is None:
        usual = min(set(steps), key=lambda step: (-steps.count(step), step))
        first_fault = next(i for i, step in enumerate(steps) if step != usual)
    assert str(caught.value).startswith(
        f"mine.csv: row {first_fault + 3}: date {index[first_fault + 1]} "
    )
