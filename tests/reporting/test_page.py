"""The page of a report in a real browser: it is whole, it fits, and it asks nothing of anyone."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api as playwright

import made_up
from deepnets.reporting import page
from deepnets.stages import report
from project import ROOT

# A small laptop, and a phone that is held upright.
SIZES = {"laptop": (1280, 800), "phone": (390, 844)}

# Studies whose reports git keeps; the page is made anew, by the code that is tested.
COMMITTED = sorted(
    path.parents[1].relative_to(ROOT).as_posix()
    for pattern in ("reports/report.md", "studies/*/reports/report.md")
    for path in ROOT.glob(pattern)
)

# What is wider than the window, or lies outside of it: tables, their cells, code and pictures.
OUTSIDE = """() => [...document.querySelectorAll("table, th, td, img, code")].filter(of => {
    const box = of.getBoundingClientRect();
    return box.width > 0 && (box.left < 0 || box.right > window.innerWidth);
}).map(of => `${of.tagName}: ${of.textContent || of.alt}`.slice(0, 80))"""

# What lies over its neighbour, or does not show all of itself.
SPILLED = """() => [...document.querySelectorAll("th, td")].filter(
    of => of.scrollWidth > of.clientWidth + 1
).map(of => of.textContent.slice(0, 80))"""

BROKEN = """() => [...document.images].filter(of => !of.complete || of.naturalWidth == 0)
    .map(of => of.alt)"""

# The columns of each table in the section of that heading.
COLUMNS = """heading => {
    const found = [];
    let within = false;
    for (const of of document.body.children) {
        if (of.tagName == "H2") within = of.textContent == heading;
        if (within && of.tagName == "TABLE") found.push(of.rows[0].cells.length);
    }
    return found;
}"""


class Opened:
    """A page in a window, with what it asked for and what went wrong in it."""

    def __init__(self, window: playwright.Page, path: Path) -> None:
        self.window = window
        self.asked: list[str] = []
        self.wrong: list[str] = []
        window.on("request", lambda of: self.asked.append(of.url))
        window.on("pageerror", lambda error: self.wrong.append(str(error)))
        window.on("console", self._said)
        window.goto(path.as_uri())

    def _said(self, message: playwright.ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def found(self, script: str, *of: Any) -> Any:
        return self.window.evaluate(script, *of)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that is made up, and its report."""
    return made_up.reported(tmp_path_factory.mktemp("study"), made_up.small, {})


def _open(browser: playwright.Browser, path: Path, size: str) -> Opened:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height})
    return Opened(context.new_page(), path)


def _check(opened: Opened, path: Path) -> None:
    """The page is whole, no wider than the window, and has asked for nothing but itself."""
    assert opened.found(BROKEN) == []
    assert opened.found("() => document.images.length") > 0
    assert opened.found("() => document.querySelectorAll('table').length") > 0
    width = opened.found("() => document.documentElement.scrollWidth")
    assert width <= opened.found("() => window.innerWidth")
    assert opened.found(OUTSIDE) == []
    assert opened.found(SPILLED) == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [path.as_uri()]
    assert opened.wrong == []


@pytest.mark.parametrize("size", SIZES)
def test_the_page_of_a_study_is_whole_and_fits(
    browser: playwright.Browser, study: Path, size: str
) -> None:
    path = study / report.PAGE
    opened = _open(browser, path, size)
    _check(opened, path)
    columns = opened.found(COLUMNS, "Results")
    assert len(columns) == 2
    assert max(columns) <= 10


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_page_is_made_by_the_present_code(name: str) -> None:
    folder = ROOT / name / "reports"
    html, text = ((folder / f"report.{kind}").read_text() for kind in ("html", "md"))
    title = re.search("<title>(.*)</title>", html)
    assert title is not None
    assert html == page.render(title[1], text, folder)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", COMMITTED)
def test_the_page_of_a_committed_report_is_whole_and_fits(
    browser: playwright.Browser, tmp_path: Path, name: str, size: str
) -> None:
    folder = ROOT / name / "reports"
    path = tmp_path / "report.html"
    path.write_text(page.render(name, (folder / "report.md").read_text(), folder))
    _check(_open(browser, path, size), path)


def test_a_wide_window_shows_tables_and_a_narrow_one_every_cell_with_its_heading(
    browser: playwright.Browser, study: Path
) -> None:
    lines = {}
    for size in SIZES:
        opened = _open(browser, study / report.PAGE, size)
        # The first cell of that column is in the results of the first network.
        cells = opened.window.locator("tr:has(td[data-label='test acc'])").first.locator("td")
        tops = [box["y"] for cell in cells.all() if (box := cell.bounding_box())]
        lines[size] = len(set(tops))
        headings = cells.evaluate_all(
            "cells => cells.map(of => getComputedStyle(of, '::before').content)"
        )
        assert ('"test acc"' in headings) == (size == "phone")
        assert opened.window.locator("thead").first.is_visible() == (size == "laptop")
    assert lines == {"laptop": 1, "phone": 9}


def test_the_checks_see_what_is_wrong(browser: playwright.Browser, tmp_path: Path) -> None:
    """Each of them fails on a page that has what it is there for."""
    path = tmp_path / "wrong.html"
    path.write_text(
        "<!doctype html><title>wrong</title><h2>Results</h2>"
        f"<table><tr>{'<td>x' * 11}</table><table><tr><td>{'wide' * 500}</table>"
        "<table><tr><td style='max-width: 9px'>spilled</table>"
        "<img alt='broken' src='data:image/png;base64,AAAA'><img src='http://127.0.0.1:9/'>"
        "<script>setTimeout(() => { throw new Error('thrown') })</script>"
    )
    opened = _open(browser, path, "phone")
    opened.window.wait_for_timeout(200)
    assert opened.found(BROKEN)[0] == "broken"
    assert opened.found("() => document.documentElement.scrollWidth") > SIZES["phone"][0]
    assert opened.found(OUTSIDE)[0].startswith("TABLE: wide")
    assert "spilled" in opened.found(SPILLED)
    assert opened.found(COLUMNS, "Results") == [11, 1, 1]
    assert "http://127.0.0.1:9/" in opened.asked
    assert any("thrown" in text for text in opened.wrong)
    assert any("ERR_" in text for text in opened.wrong)
