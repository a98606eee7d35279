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
from paper.signs import read_hypotheses
from paper.study import main as study_main
from paper.tables import result_tables
from tests.records import damage, write_run, write_study

HOSTILE = "<script>alert(1)</script> & <b>\"O'T"


class Page:
    """The page as a tree, which an element closed in the wrong place would spoil, and its text."""

    def __init__(self, results: Path) -> None:
        self.html = build(load(results), read_hypotheses())
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
    head, rest = page.text.split("Results", 1)
    cells, rest = rest.split("Hypotheses", 1)
    assert "results/study" in head and "16 runs: " in head and "H1" not in head + cells
    assert "more: 2 pairs" in cells and 'SEEDS="3 4" bash scripts/ETTh2.sh' in cells
    tested, rest = rest.split("Figures", 1)
    assert "H1 ETTh2 S 24, feature axis" in tested and "in progress: 3 of 8 seeds" in tested
    assert "H2" not in tested  # it has no runs here
    assert "the loss stopped being finite" in rest and "MSE − 2 Lip / MSE + 2 Lip" in rest
    table, *_ = result_tables(select_metrics(load(study).frame))  # the terminal's
    first = next(element for element in page.root.iter("table"))
    assert [[cell.text for cell in row] for row in first.iter("tr")] == [table.heads, *table.rows]


def test_the_page_is_semantic_static_and_the_same_when_built_again(study, page):
    assert page.html == Page(study).html
    assert page.all("html") == [{"lang": "en"}]
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert viewport in page.all("meta")
    assert "default-src 'none'" in page.html and page.all("script", "link", "a", "iframe") == []
    assert all(image["src"].startswith("data:") and image["alt"] for image in page.all("img"))
    assert len(page.all("img")) == 4 and page.text.count("Circles: pairs of runs.") == 1
    assert len(page.all("h1")) == 1 and len(page.all("h2")) == 4
    assert len(page.all("table")) == len(page.all("h3")) >= 4
    assert {"class": "best"} in page.all("td")
    assert all(th["scope"] in ("row", "col") for th in page.all("th"))
    boxes = [e for e in page.all("div") if e["class"] == "scroll"]
    assert all(e["tabindex"] == "0" and e["aria-label"] for e in boxes)


def test_the_committed_study_gives_the_same_tables_and_figures(study, page, tmp_path):
    assert study_main(["collect", str(study), "--study", str(tmp_path)]) == 0
    committed = Page(tmp_path)
    rows = [p.text.split("Results")[1].split("All cells")[0] for p in (committed, page)]
    assert rows[0] == rows[1] and "MSE + 2 Lip" in rows[0]
    assert "H2" in committed.text and "more: " not in committed.text
    drawn = [[image["alt"] for image in p.all("img")] for p in (committed, page)]
    assert drawn[0] == [alt for alt in drawn[1] if "windows" not in alt]


def test_names_from_outside_are_text_and_nothing_else(tmp_path):
    own: dict[str, Any] = {"data": "custom", "target": HOSTILE}
    for c in (0.0, -2.0):
        write_run(tmp_path, 0.1, c, **own, environment={"data_file": "a\udcff.csv"})
    write_run(tmp_path, 0.1, 2.0, status="failed", metrics={"error": HOSTILE}, **own)
    out = tmp_path / "sub" / "page.html"
    assert main(["--results", str(tmp_path), "--out", str(out), "--data", "a?.csv"]) == 0
    assert "2 runs: 2 shown" in out.read_text(encoding="utf-8")
    page = Page(tmp_path)
    assert page.all("script", "b") == []
    assert page.text.count(HOSTILE) >= 3  # the table, the figure, the failed run's error
    assert "a?.csv" in page.text and len(page.all("img")) == 3


@pytest.mark.parametrize(
    ("kind", "said", "figures"),
    [
        ("no runs", "There are no such runs", 0),
        ("unfinished", "Left out, unfinished", 0),
        ("damaged", "Left out, damaged", 0),
        ("no trace.npz", "trace.npz: not there", 4),
    ],
)
def test_odd_inputs_are_shown_and_said(tmp_path, kind, said, figures):
    if kind in ("damaged", "no trace.npz"):
        write_run(tmp_path, 0.1, -2.0, arrays=True)
        damage(write_run(tmp_path, arrays=True), kind)
    elif kind == "unfinished":
        write_run(tmp_path, status=kind)
    page = Page(tmp_path)
    assert said in page.text and len(page.all("img")) == figures


SEEN = """(page) => {
  const all = [...page.document.querySelectorAll("body *")];
  const first = (name) => page.document.querySelector(name);
  first(".scroll").focus();
  return {
    width: page.document.scrollingElement.scrollWidth,
    height: page.document.scrollingElement.scrollHeight,
    answer: first("table").getBoundingClientRect(),
    hint: page.getComputedStyle(first(".scroll"), "::before").content,
    images: Math.min(...[...page.document.images].map((image) => image.naturalWidth)),
    cut: all.filter((e) => !e.closest(".scroll")
      && e.getBoundingClientRect().right > page.innerWidth).map((e) => e.tagName),
    focus: page.getComputedStyle(page.document.activeElement).outlineStyle,
  };
}"""
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
        assert width < 600 or (seen["height"] < 6000 and seen["answer"]["width"] > 1100)
        assert seen["answer"]["bottom"] < 844  # on the first screen
        assert ("Scrolls" in seen["hint"]) == (width < 600)
        assert seen["images"] > 400 and seen["focus"] != "none"
