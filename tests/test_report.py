"""The page: what it says, and how a real browser shows it."""

import json
import os
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from paper.report import build, main
from paper.runs import load, select_metrics
from paper.study import main as study_main
from paper.tables import cells, result_tables
from tests.records import write_run, write_study

HOSTILE = "<script>alert(1)</script> & <b>\"O'T"


class Page:
    """The page as a tree, which an element closed in the wrong place would spoil, and its text."""

    def __init__(self, results: Path) -> None:
        self.html = build(load(results))
        self.root = ElementTree.fromstring(self.html)
        self.text = " ".join(" ".join(self.root[1].itertext()).split())  # the body's

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [element.attrib for element in self.root.iter() if element.tag in tags]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    write_run(folder, 0.1, 2.0, 3, status="failed")
    return folder


@pytest.fixture(scope="module")
def page(study) -> Page:
    return Page(study)


def test_own_cells_come_first_and_one_line_names_the_study(study, page):
    results, rest = page.text.split("Results", 1)[1].split("Which sign, and is it real?")
    tested, rest = rest.split("Figures", 1)
    assert "MSE − 2 Lip / MSE + 2 Lip" in tested and "H2" not in tested  # it has no runs here
    assert "H1 ETTh2 S 24, feature axis" in tested and "in progress: 3 of 8 seeds" in tested
    assert "16 runs: " in rest and "results/study" in rest
    assert 'to its next look: SEEDS="3 4"' in rest and "the loss stopped being finite" in rest
    table, *_ = result_tables(cells(select_metrics(load(study).frame)))  # the terminal's
    first = next(element for element in page.root.iter("table"))
    rows = [["".join(cell.itertext()).strip() for cell in row] for row in first.iter("tr")]
    assert rows[0] == [*table.text]
    assert rows[1:] == [[str(x).replace("**", "") for x in row] for row in table.text.to_numpy()]
    assert all(note in results for note in table.notes if "**" not in note)


def test_the_page_is_static_and_the_same_when_built_again(study, page):
    assert page.html == Page(study).html
    assert page.all("html") == [{"lang": "en"}]
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert viewport in page.all("meta")
    assert "default-src 'none'" in page.html and page.all("script", "link", "a", "iframe") == []
    assert all(image["src"].startswith("data:") and image["alt"] for image in page.all("img"))
    assert len(page.all("img")) == 2 and len(page.all("h1")) == 1 and len(page.all("h2")) == 4
    assert len(page.all("table")) == len(page.all("h3")) >= 4 and page.all("b")


def test_the_committed_study_gives_the_same_page(study, page, tmp_path):
    assert study_main(["collect", str(study), "--study", str(tmp_path)]) == 0
    committed = Page(tmp_path)
    tables = [p.text.split("Results")[1].split("Figures")[0] for p in (committed, page)]
    assert tables[0] == tables[1] and "MSE + 2 Lip" in tables[0]
    assert len(committed.all("img")) == len(page.all("img"))


def test_names_from_outside_are_text_and_nothing_else(tmp_path):
    own: dict[str, Any] = {"data": "custom", "target": HOSTILE}
    for c in (0.0, -2.0):
        write_run(tmp_path, 0.1, c, **own, environment={"data_file": "a\udcff.csv"})
    write_run(tmp_path, 0.1, 2.0, status="failed", metrics={"error": HOSTILE}, **own)
    out = tmp_path / "sub" / "page.html"
    assert main(["--results", str(tmp_path), "--out", str(out), "--data", "a?.csv"]) == 0
    assert "2 runs: 2 shown" in out.read_text(encoding="utf-8")
    page = Page(tmp_path)
    assert page.all("script") == []
    assert page.text.count(HOSTILE) >= 2  # the table, the failed run's error
    assert "a?.csv" in page.text and len(page.all("img")) == 2


SEEN = """(page) => ({
  width: page.document.scrollingElement.scrollWidth,
  answer: page.document.querySelector("table").getBoundingClientRect(),
  images: Math.min(...[...page.document.images].map((image) => image.naturalWidth)),
  cut: [...page.document.querySelectorAll("body *")].filter((e) => !e.parentNode.closest("table")
    && e.getBoundingClientRect().right > page.innerWidth).map((e) => e.tagName),
})"""
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]
FLAGS += ["--allow-file-access-from-files", "--hide-scrollbars", "--enable-logging=stderr"]
HARNESS = """<!DOCTYPE html><body>%s<script>
const frames = [...document.querySelectorAll("iframe")], measure = %s;
onload = () => {
  document.body.textContent = JSON.stringify(frames.map((frame) => measure(frame.contentWindow)));
};
</script>"""
FRAME = '<iframe src="{}" width="{}" height="844" style="border: 0"></iframe>'


def measure(page: Path, widths: list[int]) -> list[Any]:
    """Show a page in frames of these widths; return what SEEN gives for each."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        assert not os.environ.get("CI"), "chromium must be installed where CI is"
        pytest.skip("no chromium is installed (Debian: apt-get install chromium)")
    harness = page.with_name("harness.html")
    shown = [FRAME.format(page.as_uri(), width) for width in widths]
    harness.write_text(HARNESS % ("".join(shown), SEEN), encoding="utf-8")
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [program, *FLAGS, profile, harness.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    body = done.stdout.partition("<body>")[2].rpartition("</body>")[0]
    return json.loads(unescape(body))


def test_a_real_browser_shows_all_of_it(page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page.html, encoding="utf-8")
    for width, seen in zip((1280, 390), measure(path, [1280, 390]), strict=True):
        assert seen["width"] <= width and seen["cut"] == []
        assert seen["answer"]["bottom"] < 844  # on the first screen
        assert width < 600 or seen["answer"]["width"] > 900
        assert seen["images"] > 400
