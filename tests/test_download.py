"""Downloads: whole and with the right checksum, or not at all; errors in one line."""

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
CONNECTION = "no connection, or no such file there"


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
def place(tmp_path, monkeypatch) -> Iterator[Path]:
    """Where ETTh1 is fetched to; what a test leaves to the collector goes before the next one."""
    monkeypatch.setenv("INFORMER_DATA", str(tmp_path))
    yield tmp_path / "ETT" / "ETTh1.csv"
    gc.collect()


def row(url: str) -> DataSet:
    sha256 = hashlib.sha256(GOOD).hexdigest()
    return dataclasses.replace(DATASETS["ETTh1"], url=url, sha256=sha256, size=len(GOOD))


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("older", [None, b"an older file"])
def test_a_good_file_is_fetched_once(tmp_path, address, place, older):
    dataset = row(f"{address}/good.csv")
    if older:
        place.parent.mkdir()
        place.write_bytes(older)
    assert fetch(dataset) == f"ETTh1: fetched, checksum right: {place}"
    assert files(tmp_path) == {place: GOOD}
    written = place.stat().st_mtime_ns
    assert fetch(dataset) == f"ETTh1: already there, checksum right: {place}"
    assert place.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("corrupt.csv", "what came has another checksum"),
        *(("absent.csv", CONNECTION), ("offline", CONNECTION), ("cut.csv", CONNECTION)),
    ],
)
def test_a_failed_download_leaves_the_folder_as_it_was(tmp_path, address, place, page, reason):
    place.parent.mkdir()
    place.write_bytes(b"an older file")
    address = "http://127.0.0.1:9" if page == "offline" else address
    with pytest.raises(UserError) as caught:
        fetch(row(f"{address}/{page}"))
    message = str(caught.value)
    assert f"ETTh1.csv by hand at {place}, or name a data folder in INFORMER_DATA" in message
    assert f"{address}/{page} ({reason})" in message and "\n" not in message
    assert files(tmp_path) == {place: b"an older file"}


def test_every_row_says_where_its_file_comes_from():
    assert list(DATASETS) == ["ETTh1", "ETTh2", "ETTm1", "ETTm2", "WTH", "weather", "ECL", "demo"]
    for dataset in DATASETS.values():
        assert len(dataset.sha256) == 64 and dataset.source and dataset.licence
        assert not dataset.url or dataset.url.endswith(f"/{dataset.file}")
    assert {d.name for d in DATASETS.values() if not d.url} == {"weather", "ECL", "demo"}


def test_the_command_fetches_lists_and_says_what_is_placed_by_hand(place, monkeypatch, capsys):
    assert main(["demo"]) == 0
    demo = f"{HERE}/demo/demo.csv"
    assert capsys.readouterr().out == f"demo: already there, checksum right: {demo}\n"
    assert main(["ETTh9", "ECL", "demo"]) == 2  # the others are fetched
    output, errors = capsys.readouterr()
    unknown, by_hand = errors.splitlines()
    assert output.startswith("demo: already there") and "unknown (did you mean ETTh" in unknown
    assert "/ECL.csv; " in by_hand and f"sha256 {DATASETS['ECL'].sha256}, from " in by_hand
    place.parent.mkdir()
    place.touch()
    assert main([]) == 0
    listed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(listed) == list(DATASETS)
    assert listed["ETTh1"] == f"ETTh1      2.6 MB  CC BY-ND 4.0  {place}"
    assert listed["ECL"].endswith("UCI           not here, placed by hand")
    monkeypatch.setenv("INFORMER_DATA", "x" * 300)  # no system takes such a name
    assert main(["ETTh1"]) == 2 and "its name is too long" in capsys.readouterr().err
    assert main([]) == 0
