"""The page: what it says, and how a real browser shows it."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from exp.config import Config
from exp.report import build, main
from exp.signs import read_hypotheses
from tests.browser import Browser
from tests.records import ODD, start_run, write_odd, write_run, write_study
from tests.runs import run

SECTIONS = ["Verdicts", "Tables", "Signs", "Figures", "Runs", "What is missing"]
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
    return build(results, "truncated", read_hypotheses())


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    return folder


@pytest.fixture(scope="module")
def study_html(study) -> str:
    return html_of(study)


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def test_the_page_holds_verdicts_tables_figures_runs_and_what_is_missing(study_html):
    page = Page(study_html)
    headings = [attributes["id"] for attributes in page.all("h2")]
    assert headings == ["verdicts", "tables", "signs", "figures", "runs", "missing"]
    assert "undecided: 3 seeds cannot give p below 0.25" in page.text  # the verdict, in words
    assert "c < 0 minus c = 0: −0.0" in page.text and "Holm" in page.text
    assert "Table 2 (S), feature axis, fp32, truncated test windows" in page.text
    assert len(page.all("img")) == 5  # Figures 2 and 3, steps, windows of two cells
    assert page.text.count("informer_ETTh2_S_48-48-24_c-2_feature_s") == 3
    assert "61.0 min" in page.text and "321" in page.text
    assert "Test & <Co> CPU" in page.text and "0123456789ab" in page.text
    assert "ETTh2 24 3 of 5 3 of 5 3 of 5" in page.text
    assert "ECL 960 0 of 5 0 of 5 0 of 5" in page.text
    assert "Seeds: Table 5 (M), no runs" in page.text


def test_the_page_is_semantic_static_and_the_same_when_built_again(study, study_html):
    assert study_html == html_of(study)
    page = Page(study_html)
    assert page.all("html") == [{"lang": "en"}]
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert viewport in page.all("meta")
    assert len(page.all("h1")) == 1 and len(page.all("main")) == 1
    assert len(page.all("caption")) == len(page.all("table")) > 5
    assert all(th["scope"] in ("row", "col", "colgroup") for th in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    assert {f"#{name}" for name in ids} == {a["href"] for a in page.all("a")}
    addresses = [v for _, a in page.elements for k, v in a.items() if k in ("src", "href")]
    assert all(address and address.startswith(("data:", "#")) for address in addresses)
    assert page.all("script") == []


def test_names_from_outside_are_text_and_nothing_else(tmp_path):
    config = Config(model="informer", data="custom", features="S", target=HOSTILE)
    write_run(tmp_path, config, target=HOSTILE)
    failed = start_run(tmp_path, dataclasses.replace(config, seed=1))
    failed.finish("failed", {"error": HOSTILE})
    page = Page(html_of(tmp_path))
    assert page.all("script") == []
    assert page.text.count(HOSTILE) == 2  # the cell's settings and the failed run's error


@pytest.mark.parametrize("kind", ODD)
def test_odd_inputs_are_shown_and_said(tmp_path, kind):
    write_odd(tmp_path, kind)
    page = Page(html_of(tmp_path))
    assert ODD[kind] in page.text
    drawn = 2 if kind == "empty" or ("Left out" in ODD[kind] and "version" not in kind) else 4
    assert len(page.all("img")) == drawn
    none_left_out = "Runs left out: none." in page.text
    assert none_left_out == ("Left out" not in ODD[kind])


def test_the_command_line(tmp_path, capsys):
    assert main(["--results", str(tmp_path), "--out", str(tmp_path / "sub" / "page.html")]) == 0
    assert "There are no runs." in (tmp_path / "sub" / "page.html").read_text()
    assert main(["--results", str(tmp_path / "none")]) == 2
    assert "no such folder; name the folder of runs with --results" in capsys.readouterr().err
    assert main(["--results", str(tmp_path), "--hypotheses", str(tmp_path / "none.toml")]) == 2
    assert "none.toml" in capsys.readouterr().err


def test_a_page_from_a_run_that_was_really_done(tmp_path):
    code, _, errors = run(results=tmp_path)
    assert code == 0, errors
    page = Page(html_of(tmp_path))
    assert "demo S 4, informer" in page.text and "Runs found: 1; used: 1; cells: 1" in page.text
    assert len(page.all("img")) == 4
    assert "Files that should have been drawn" not in page.text


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["study", "empty"])
def test_a_real_browser_shows_all_of_it(study_html, browser, tmp_path, kind, width):
    path = tmp_path / "report.html"
    path.write_text(study_html if kind == "study" else html_of(tmp_path), encoding="utf-8")
    browser.open(path.as_uri(), width, 844)
    assert browser.errors() == []
    assert [a for a in browser.requested() if not a.startswith("data:")] == [path.as_uri()]
    assert browser.value("innerWidth") == width
    assert browser.value("document.scrollingElement.scrollWidth") <= width
    headings = browser.value("[...document.querySelectorAll('h2')].map(h => h.innerText)")
    assert headings == SECTIONS
    images = browser.value("[...document.images].map(i => [i.naturalWidth, i.clientWidth])")
    assert len(images) == (5 if kind == "study" else 2)
    assert all(natural > 0 and 300 < shown <= width for natural, shown in images)
    cut = "[...document.querySelectorAll('body *')].filter(e => !e.closest('table') && "
    cut += f"e.getBoundingClientRect().right > {width}).map(e => e.tagName)"
    assert browser.value(cut) == []
    tables = "[...document.querySelectorAll('.scroll')].map(e => [e.scrollWidth, e.clientWidth])"
    wide = [room for whole, room in browser.value(tables) if whole > room]
    assert wide and all(room <= width for room in wide)  # these scroll within themselves
