import dataclasses
import gc
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data.download import fetch, main
from data.registry import DATASETS, HERE, DataSet
from utils.files import UserError

# pooch leaves the connection of a failed answer to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
GOOD = b"date,OT\n2020-01-01,1.0\n" * 5000
HALF = len(GOOD) // 2


class Server(BaseHTTPRequestHandler):
    """Answers with the file, a corrupt one, half of it, or 404."""

    def do_GET(self):
        answers = {"/good.csv": GOOD, "/corrupt.csv": GOOD[::-1], "/cut.csv": GOOD[:HALF]}
        self.send_response(200 if self.path in answers else 404)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        self.wfile.write(answers.get(self.path, b""))

    def log_message(self, format, *args):
        """Keep the tests' output to themselves."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Let what a test leaves to the collector go before the next one."""
    yield
    gc.collect()


def row(url: str) -> DataSet:
    sha256 = hashlib.sha256(GOOD).hexdigest()
    return dataclasses.replace(DATASETS["ETTh1"], url=url, sha256=sha256, size=len(GOOD))


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("older", [None, b"an older file"])
def test_a_good_file_is_fetched_once(tmp_path, address, older, capfd):
    dataset, place = row(f"{address}/good.csv"), tmp_path / "ETT" / "ETTh1.csv"
    if older:
        place.parent.mkdir()
        place.write_bytes(older)
    assert fetch(dataset, tmp_path) == f"ETTh1: fetched, checksum right: {place}"
    assert "100%" in capfd.readouterr().err  # the progress bar
    assert files(tmp_path) == {place: GOOD}
    written = place.stat().st_mtime_ns
    assert fetch(dataset, tmp_path) == f"ETTh1: already there, checksum right: {place}"
    assert place.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("corrupt.csv", "what came has another checksum"),
        ("absent.csv", "the server answered 404 Not Found"),
        ("offline", "no connection, or it broke off"),
        ("cut.csv", "no connection, or it broke off"),
    ],
)
def test_a_failed_download_leaves_the_folder_as_it_was(tmp_path, address, page, reason):
    place = tmp_path / "ETT" / "ETTh1.csv"
    place.parent.mkdir()
    place.write_bytes(b"an older file")
    address = "http://127.0.0.1:9" if page == "offline" else address
    with pytest.raises(UserError) as caught:
        fetch(row(f"{address}/{page}"), tmp_path)
    message = str(caught.value)
    assert message.startswith(f"ETTh1: not fetched from {address}/{page}, nothing kept (")
    assert message.endswith(
        f"); try again, or place the file by hand at {place}, or below a folder that you name in "
        "INFORMER_DATA: ETT/ETTh1.csv"
    )
    assert reason in message and "\n" not in message
    assert files(tmp_path) == {place: b"an older file"}


def test_files_placed_by_hand_say_where_from_and_where_to(tmp_path):
    dataset, path = DATASETS["weather"], tmp_path / "weather" / "weather.csv"
    known = f"weather.csv, 7,235,425 bytes, sha256 {dataset.sha256}, from {dataset.source}"
    for state in ("is not there", "has another checksum"):
        with pytest.raises(UserError) as caught:
            fetch(dataset, tmp_path)
        assert str(caught.value) == f"weather: {path} {state}; it is placed there by hand: {known}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"something else")


def test_every_row_says_where_its_file_comes_from():
    assert list(DATASETS) == ["ETTh1", "ETTh2", "ETTm1", "ETTm2", "WTH", "weather", "ECL", "demo"]
    for dataset in DATASETS.values():
        assert len(dataset.sha256) == 64
        assert dataset.source and dataset.licence
        assert not dataset.url or dataset.url.endswith(f"/{dataset.file}")
    assert {d.name for d in DATASETS.values() if not d.url} == {"weather", "ECL", "demo"}


def test_the_command_goes_on_past_an_error_and_lists_what_is_there(tmp_path, benchmark, capsys):
    assert main(["ETTh9", "ECL", "demo", "--to", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    first, second = shown.err.splitlines()
    assert first.startswith("error: ETTh9: unknown (did you mean ETTh")
    assert second.startswith(f"error: ECL: {tmp_path}/ECL/ECL.csv is not there")
    assert shown.out == f"demo: already there, checksum right: {HERE}/demo/demo.csv\n"
    assert main(["--to", str(tmp_path)]) == 0
    listed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(listed) == list(DATASETS)
    assert listed["ETTh1"] == f"ETTh1      2.6 MB  CC BY-ND 4.0  {benchmark}/ETT/ETTh1.csv"
    assert listed["ECL"].endswith("UCI           not here, placed by hand")
    long = ["--to", "x" * 300]  # no system takes such a name
    assert (main(["ETTh1", *long]), main(long)) == (2, 0)
