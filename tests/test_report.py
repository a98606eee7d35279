"""The page: what it says, and how a real browser shows it."""

from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from paper.report import build, main, page_table, typeset
from paper.runs import load
from paper.signs import read_hypotheses
from paper.study import main as study_main
from tests.browser import Browser
from tests.records import damage, write_arm, write_run, write_study
from utils.text import Column, Table

SECTIONS = ["In short", "Named before the runs", "Results", "Figures", "Details"]
HOSTILE = "<script>alert(1)</script> & <b>\"O'T"
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """The page's text and elements; an element closed in the wrong place is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def html_of(results: Path) -> str:
    return build(load(results), None, read_hypotheses())


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    write_run(folder, 0.1, 2.0, 3, status="failed")
    return folder


@pytest.fixture(scope="module")
def study_html(study) -> str:
    return html_of(study)


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def test_the_first_screen_says_what_was_run_and_what_came_of_it(study_html):
    text = Page(study_html).text
    first, rest = text.split("Results", 1)
    assert "24 of 25 runs used, 2 settings" in first
    assert "ETTh2 S 24, feature axis" in first and "ETTh2 S 336, feature axis" in first
    assert "H1, ETTh2 S 24, feature axis" in first and "in progress: 3 of 8 seeds" in first
    assert "No runs yet: H2 (ETTh2 M 24, feature axis), H3 (ETTh1 M 24, feature axis)." in first
    assert "sha256" in first and "commit" in first
    assert "Table 2 (S), feature axis, fp32, truncated test windows" in rest
    assert "ETTh1: M 24 no run; M 48 no run;" in rest
    assert "ETTh2: M 24 no run" in rest and "S 24 c = 0 3, c = −2 3 of 5 seeds" in rest
    assert "25 runs, 24.4 h together" in rest and "Test & <Co> CPU" in rest
    assert "the loss stopped being finite" in rest and "Left out, failed" in rest


def test_the_page_is_semantic_static_and_the_same_when_built_again(study, study_html):
    assert study_html == html_of(study)
    page = Page(study_html)
    assert page.all("html") == [{"lang": "en"}]
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert viewport in page.all("meta")
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels == [1, 2, 2, 2, 2, 2] and len(page.all("main")) == 1
    assert len(page.all("caption")) == len(page.all("table")) >= 4
    assert all(th["scope"] in ("row", "col") for th in page.all("th"))
    assert all(image["alt"] for image in page.all("img")) and len(page.all("img")) == 4
    assert all(e["tabindex"] == "0" and e["aria-label"] for e in page.all("div"))
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    assert {a["aria-labelledby"] for a in page.all("section")} == set(ids)
    addresses = [v for _, a in page.elements for k, v in a.items() if k in ("src", "href")]
    assert all(address and address.startswith("data:") for address in addresses)
    assert page.all("script") == []
    notes = [note for note in page.words if note.startswith(("MSE: mean", "n: seeds", "unlike:"))]
    assert len(notes) == len(set(notes)) == 3  # each note once


def test_the_committed_study_gives_the_same_answers_and_figures(study, study_html, tmp_path):
    assert study_main(["collect", str(study), "--study", str(tmp_path)]) == 0
    page, ours = Page(html_of(tmp_path)), Page(study_html)
    answers = [p.text.split("In short")[1].split("Figures")[0] for p in (page, ours)]
    assert answers[0] == answers[1] and "c = −2" in answers[0]
    assert [image["alt"] for image in page.all("img")] == [
        image["alt"] for image in ours.all("img") if "windows" not in str(image["alt"])
    ]


def test_names_from_outside_are_text_and_nothing_else(tmp_path):
    write_run(tmp_path, 0.1, data="custom", target=HOSTILE, arrays=True)
    error = {"error": HOSTILE}
    write_run(tmp_path, 0.1, 2.0, data="custom", target=HOSTILE, status="failed", metrics=error)
    page = Page(html_of(tmp_path))
    assert page.all("script") == page.all("b") == []
    assert page.text.count(HOSTILE) >= 3  # the sentence, the table, the failed run's error


def test_what_is_the_same_in_all_rows_goes_to_the_caption_but_for_results():
    frame = pd.DataFrame({"dataset": ["A", "A"], "c": [0.0, 2.0], "n": [3, 3], "mse": [0.1, 0.1]})
    frame["gone"] = None
    columns = [Column(name, name, 5 if name == "mse" else None) for name in frame]
    page = page_table(Table("T", frame, columns, {(1, "mse")}))
    assert page["title"] == "T, dataset A, n 3"
    assert page["heads"] == [("c", False), ("mse", True)]
    assert page["rows"][1] == [("2", False, False), ("0.10000", True, True)]
    one = page_table(Table("T", frame.iloc[:1], columns))
    assert one["heads"][0] == ("dataset, c", False) and one["rows"][0][0][0] == "A 0"
    assert typeset("-") == "–" and typeset("c-2 -0.1 to -2 %") == "c-2 −0.1 to −2\u00a0%"


def test_many_rows_show_the_paper_s_shape_and_fold_the_rest(tmp_path, study_html):
    head = "every c"
    assert head in Page(study_html).text.split("The same results laid out otherwise")[0]
    for pred_len in (24, 48, 168, 336, 720):
        for features in ("S", "M"):
            write_arm(tmp_path, 0.0, [0.1, 0.2], pred_len=pred_len, features=features)
    page = Page(html_of(tmp_path)).text
    shown, folded = page.split("The same results laid out otherwise")
    assert head not in shown and "Table 2 (S)" in shown and head in folded


@pytest.mark.parametrize("kind", ["no runs", "unfinished", "damaged", "no trace.npz"])
def test_odd_inputs_are_shown_and_said(tmp_path, kind):
    if kind in ("damaged", "no trace.npz"):
        damage(write_run(tmp_path, arrays=True), kind)
    elif kind == "unfinished":
        write_run(tmp_path, status=kind)
    page = Page(html_of(tmp_path))
    said = {"no runs": "There are no runs", "no trace.npz": "trace.npz: not there"}
    assert said.get(kind, f"Left out, {kind}") in page.text
    assert len(page.all("img")) == (3 if kind == "no trace.npz" else 0)


def test_the_command_line(tmp_path, capsys):
    write_run(tmp_path / "runs", 0.1)
    out = tmp_path / "sub" / "page.html"
    assert main(["--results", str(tmp_path / "runs"), "--out", str(out), "--data", "etth2"]) == 0
    assert f"wrote {out}" in capsys.readouterr().out and "ETTh2 S 24" in out.read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_real_browser_shows_all_of_it(study_html, browser, tmp_path, width, scheme):
    path = tmp_path / "report.html"
    path.write_text(study_html, encoding="utf-8")
    browser.open(path.as_uri(), width, 844, scheme)
    assert browser.errors() == []
    assert [a for a in browser.requested() if not a.startswith("data:")] == [path.as_uri()]
    page = "document.scrollingElement"
    assert browser.value("innerWidth") == width and browser.value(f"{page}.scrollWidth") <= width
    assert browser.value("[...document.querySelectorAll('h2')].map(h => h.innerText)") == SECTIONS
    assert width < 600 or browser.value(f"{page}.scrollHeight") < 6000
    answer = browser.value("document.querySelector('#answers').getBoundingClientRect().bottom")
    assert answer < 844  # on the first screen
    assert browser.value("[...document.images].every(i => i.naturalWidth > 400)")
    cut = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && "
    cut += f"e.getBoundingClientRect().right > {width}).map(e => e.tagName)"
    assert browser.value(cut) == []
    browser.press_tab()  # the first stop is a table or figure that scrolls
    assert browser.value("document.activeElement.className") == "scroll"
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert contrast(browser, "body") >= 7 and contrast(browser, ".soft") >= 4.5


def contrast(browser: Browser, selector: str) -> float:
    """The WCAG contrast of an element's text on the page's ground."""
    light = []
    for what, name in ((selector, "color"), ("html", "backgroundColor")):
        style = f"getComputedStyle(document.querySelector('{what}')).{name}"
        channels = [int(x) / 255 for x in browser.value(style)[4:-1].split(",")]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)
