"""The page: what it says, and how a real browser shows it."""

import json
import os
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from paper.report import build, main, page_table, typeset
from paper.runs import load
from paper.signs import read_hypotheses
from paper.study import main as study_main
from tests.records import damage, write_arm, write_run, write_study
from utils.formats import Column, Table

HOSTILE = "<script>alert(1)</script> & <b>\"O'T"
FOLDED = "Results: every c, and the baselines"


class Page:
    """The page as a tree, which an element closed in the wrong place would spoil, and its text."""

    def __init__(self, results: Path) -> None:
        self.html = build(load(results), None, read_hypotheses())
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


def test_the_first_screen_says_what_was_run_and_what_came_of_it(page):
    first, rest = page.text.split("Results", 1)
    for words in (
        "24 of 25 runs used, 2 settings", "ETTh2 S 24, feature axis", "ETTh2 S 336, feature axis",
        "H1, ETTh2 S 24, feature axis", "in progress: 3 of 8 seeds", "sha256", "commit",
        "No runs yet: H2 (ETTh2 M 24, feature axis), H3 (ETTh1 M 24, feature axis), H4",
    ):  # fmt: skip
        assert words in first
    for words in (
        "Table 2 (S), feature axis, fp32, truncated test windows", "informer ETTh1: no run.",
        "informer ETTh2: M 24 no run", "autoformer weather: no run.", "25 runs, 24.4 h together",
        "S 24 c = 0 3, c = −2 3 of 5 seeds",
        "Test & <Co> CPU", "the loss stopped being finite", "Left out, failed",
    ):  # fmt: skip
        assert words in rest


def test_the_page_is_semantic_static_and_the_same_when_built_again(study, page):
    assert page.html == Page(study).html
    assert page.all("html") == [{"lang": "en"}]
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert viewport in page.all("meta")
    assert "default-src 'none'" in page.html and page.all("script", "link", "a", "iframe") == []
    assert all(image["src"].startswith("data:") and image["alt"] for image in page.all("img"))
    assert len(page.all("img")) == 4
    assert len(page.all("h1")) == 1 and len(page.all("h2")) == 5
    assert len(page.all("table")) == len(page.all("h3")) >= 4
    assert {"class": "number best"} in page.all("td")
    assert all(th["scope"] in ("row", "col") for th in page.all("th"))
    assert all(e["tabindex"] == "0" and e["aria-label"] for e in page.all("div"))
    assert all(page.text.count(note) == 1 for note in ("MSE: mean", "n: seeds", "unlike:"))


def test_the_committed_study_gives_the_same_answers_and_figures(study, page, tmp_path):
    assert study_main(["collect", str(study), "--study", str(tmp_path)]) == 0
    pages = Page(tmp_path), page
    answers = [p.text.split("In short")[1].split("Figures")[0] for p in pages]
    assert answers[0] == answers[1] and "c = −2" in answers[0]
    drawn = [[image["alt"] for image in p.all("img")] for p in pages]
    assert drawn[0] == [alt for alt in drawn[1] if "windows" not in alt]


def test_complete_tests_come_first(tmp_path):
    for c in (0.0, -2.0):
        write_arm(tmp_path, c, [0.1 + c / 100] * 8)
    text = Page(tmp_path).text
    assert text.index("H1, ETTh2 S 24, feature axis, c = −2 against 0: better") < text.index(
        "In short, cell by cell"
    )


def test_names_from_outside_are_text_and_nothing_else(tmp_path):
    write_run(tmp_path, 0.1, data="custom", target=HOSTILE, arrays=True)
    error = {"error": HOSTILE}
    write_run(tmp_path, 0.1, 2.0, data="custom", target=HOSTILE, status="failed", metrics=error)
    page = Page(tmp_path)
    assert page.all("script", "b") == []
    assert page.text.count(HOSTILE) >= 3  # the sentence, the table, the failed run's error


def test_what_is_the_same_in_all_rows_goes_to_the_title_but_for_results():
    frame = pd.DataFrame({"dataset": ["A", "A"], "c": [0.0, 2.0], "n": [3, 3], "mse": [0.1, 0.1]})
    frame["gone"] = None
    columns = [Column(name, name, 5 if name == "mse" else None) for name in frame]
    page = page_table(Table("T", frame, columns, {(1, "mse")}))
    assert (page["title"], page["label"], page["names"]) == ("T, dataset A, n 3", "c", ["0", "2"])
    assert page["columns"] == [(columns[3], ("0.10000", "0.10000"), True)]
    one = page_table(Table("T", frame.iloc[:1], columns))
    assert one["label"] == "dataset, c" and one["names"] == ["A 0"]
    assert typeset("-") == "–" and typeset("c-2 -0.1 to -2 %") == "c-2 −0.1 to −2\u00a0%"


def test_many_rows_show_the_papers_shape_and_fold_the_rest(tmp_path, page):
    assert "every c" in page.text and FOLDED not in page.text  # each result once
    for pred_len in (24, 48, 168, 336, 720):
        for features in ("S", "M"):
            write_arm(tmp_path, 0.0, [0.1, 0.2], pred_len=pred_len, features=features)
    shown, folded = Page(tmp_path).text.split(FOLDED)
    assert "every c" not in shown and "Table 2 (S)" in shown and "every c" in folded


@pytest.mark.parametrize(
    ("kind", "said", "figures"),
    [
        ("no runs", "There are no runs", 0),
        ("unfinished", "Left out, unfinished", 0),
        ("damaged", "Left out, damaged", 0),
        ("no trace.npz", "trace.npz: not there", 3),
    ],
)
def test_odd_inputs_are_shown_and_said(tmp_path, kind, said, figures):
    if kind in ("damaged", "no trace.npz"):
        damage(write_run(tmp_path, arrays=True), kind)
    elif kind == "unfinished":
        write_run(tmp_path, status=kind)
    page = Page(tmp_path)
    assert said in page.text and len(page.all("img")) == figures


def test_the_command_line(tmp_path, capsys):
    write_run(tmp_path / "runs", 0.1)
    out = tmp_path / "sub" / "page.html"
    assert main(["--results", str(tmp_path / "runs"), "--out", str(out), "--data", "etth2"]) == 0
    assert f"wrote {out}" in capsys.readouterr().out and "ETTh2 S 24" in out.read_text()


SEEN = """(page) => {
  const all = [...page.document.querySelectorAll("body *")];
  const first = (name) => page.document.querySelector(name);
  const style = (element) => page.getComputedStyle(element);
  first(".scroll").focus();
  return {
    width: page.document.scrollingElement.scrollWidth,
    height: page.document.scrollingElement.scrollHeight,
    answer: first("ul").getBoundingClientRect().bottom,
    images: Math.min(...[...page.document.images].map((image) => image.naturalWidth)),
    cut: all.filter((e) => !e.closest(".scroll")
      && e.getBoundingClientRect().right > page.innerWidth).map((e) => e.tagName),
    focus: style(page.document.activeElement).outlineStyle,
    colors: [style(page.document.documentElement).backgroundColor,
      style(page.document.body).color, style(first(".soft")).color],
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
FRAME = '<iframe src="{}" width="{}" height="844" style="border: 0; color-scheme: {}"></iframe>'


def measure(page: Path, sizes: list[tuple[int, str]]) -> list[Any]:
    """Show a page in frames of these widths, in light or dark; return what SEEN gives for each."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        assert not os.environ.get("CI"), "chromium must be installed where CI is"
        pytest.skip("no chromium is installed (Debian: apt-get install chromium)")
    harness = page.with_name("harness.html")
    shown = [FRAME.format(page.as_uri(), width, scheme) for width, scheme in sizes]
    harness.write_text(HARNESS % ("".join(shown), SEEN))
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [program, *FLAGS, profile, harness.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    body = done.stdout.partition("<body>")[2].rpartition("</body>")[0]
    return json.loads(unescape(body))


def test_a_real_browser_shows_all_of_it(page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page.html, encoding="utf-8")
    sizes = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
    for (width, scheme), seen in zip(sizes, measure(path, sizes), strict=True):
        assert seen["width"] <= width and seen["cut"] == []
        assert width < 600 or seen["height"] < 6000
        assert seen["answer"] < 844  # on the first screen
        assert seen["images"] > 400 and seen["focus"] != "none"
        ground, text, soft = (luminance(color) for color in seen["colors"])
        assert (ground > text) == (scheme == "light")
        assert contrast(ground, text) >= 7 and contrast(ground, soft) >= 4.5


def luminance(color: str) -> float:
    """The relative luminance of "rgb(r, g, b)", as WCAG defines it."""
    channels = [int(x) / 255 for x in color[4:-1].split(",")]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
