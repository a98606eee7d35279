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


class Server(BaseHTTPRequestHandler):
    """Answers with the file, a corrupt one, half of it, or 404."""

    def do_GET(self):
        answers = {"/good.csv": GOOD, "/corrupt.csv": GOOD[::-1], "/cut.csv": GOOD[:999]}
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


@pytest.fixture
def place(tmp_path, monkeypatch) -> Iterator[Path]:
    """An older file where ETTh1 is fetched to; what a test leaves to the collector goes with it."""
    monkeypatch.setenv("INFORMER_DATA", str(tmp_path))
    path = tmp_path / "ETT" / "ETTh1.csv"
    path.parent.mkdir()
    path.write_bytes(b"an older file")
    yield path
    gc.collect()


def row(url: str) -> DataSet:
    return dataclasses.replace(DATASETS["ETTh1"], url=url, sha256=hashlib.sha256(GOOD).hexdigest())


def test_a_good_file_is_fetched_once(address, place):
    dataset = row(f"{address}/good.csv")
    done = "ETTh1: fetched, checksum right, licence CC BY-ND 4.0"
    assert fetch(dataset) == f"{done}: {place}"
    assert place.read_bytes() == GOOD and [*place.parent.iterdir()] == [place]
    assert fetch(dataset) == f"ETTh1: already there, checksum right: {place}"


@pytest.mark.parametrize("page", ["corrupt.csv", "absent.csv", "offline", "cut.csv"])
def test_a_failed_download_leaves_the_folder_as_it_was(address, place, page):
    address = "http://127.0.0.1:9" if page == "offline" else address
    with pytest.raises(UserError) as caught:
        fetch(row(f"{address}/{page}"))
    message = f"ETTh1: place ETTh1.csv by hand at {place}, or try again; it was not fetched ("
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert place.read_bytes() == b"an older file" and [*place.parent.iterdir()] == [place]


def test_every_row_says_where_its_file_comes_from():
    assert list(DATASETS) == ["ETTh1", "ETTh2", "ETTm1", "ETTm2", "WTH", "weather", "ECL", "demo"]
    for dataset in DATASETS.values():
        assert len(dataset.sha256) == 64 and dataset.source and dataset.licence
        assert not dataset.url or dataset.url.endswith(f"/{dataset.file}")
    assert {d.name for d in DATASETS.values() if not d.url} == {"weather", "ECL", "demo"}


def test_the_command_takes_names_and_says_what_is_placed_by_hand(place, capsys):
    assert main(["demo"]) == 0
    assert capsys.readouterr().out == f"demo: already there, checksum right: {HERE}/demo/demo.csv\n"
    with pytest.raises(UserError, match=r"ETTh9: unknown \(did you mean ETTh"):
        main(["ETTh9"])
    known = f"/ECL.csv; sha256:{DATASETS['ECL'].sha256}, from the data links"
    with pytest.raises(UserError, match=known):
        main(["ECL"])
