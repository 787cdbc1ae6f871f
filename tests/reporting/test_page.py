"""The page of a report in a real browser: it is whole, it fits, and it asks nothing of anyone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright import sync_api as playwright

import compared
import made_up
from deepnets.config import params
from deepnets.records.results import TrainingRecord
from deepnets.stages import report
from project import ROOT

# A small laptop, and a phone that is held upright.
SIZES = {"laptop": (1280, 800), "phone": (390, 844)}

# Studies whose reports git keeps.
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
        window.on("request", lambda request: self.asked.append(request.url))
        window.on("pageerror", lambda error: self.wrong.append(str(error)))
        window.on("console", self._said)
        window.goto(path.as_uri())

    def _said(self, message: playwright.ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def found(self, script: str, *arguments: Any) -> Any:
        return self.window.evaluate(script, *arguments)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that is made up, and its report."""
    return made_up.study(tmp_path_factory)


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
def test_a_committed_page_is_made_by_the_present_code(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / name)
    html = report.PAGE.read_text()
    # The picture of a digit is taken from the images or from the page itself: either way it is it.
    assert html == report._page(report._find(params.load()), report.TEXT.read_text())
    assert len(html) < 1_500_000


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", COMMITTED)
def test_the_page_of_a_committed_report_is_whole_and_fits(
    browser: playwright.Browser, tmp_path: Path, name: str, size: str
) -> None:
    path = tmp_path / "report.html"
    path.write_bytes((ROOT / name / report.PAGE).read_bytes())
    _check(_open(browser, path, size), path)


# The grey pixels of the picture that a tile shows.
PIXELS = """canvas => {
    const drawn = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return [...drawn].filter((_, place) => place % 4 == 0);
}"""


@pytest.fixture(scope="module")
def rows_of_all_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        compared.write_images()
        compared.write_page(folder / "report.html", compared.rows())
    return folder / "report.html"


def _side(opened: Opened, name: str) -> playwright.Locator:
    return opened.window.get_by_role("group", name=name)


def _pick(opened: Opened, first: str, second: str, seed: str | None = None) -> str:
    """Pick two rows; what the page then says in a line or two."""
    for side, row in (("First", first), ("Second", second)):
        _side(opened, side).get_by_label("Row").select_option(row)
        if seed is not None:
            _side(opened, side).get_by_label("Seed").select_option(seed)
    return opened.window.get_by_role("status").inner_text()


@pytest.mark.parametrize("size", SIZES)
def test_any_two_rows_are_compared(browser: playwright.Browser, study: Path, size: str) -> None:
    """As `pairs.csv` has them: Adam misses the first 40 images, SGD the first 30."""
    path = study / report.PAGE
    opened = _open(browser, path, size)
    said = _pick(opened, "vgg16-adam-random", "vgg16-sgd-random", "1")
    assert "vgg16-adam-random: test accuracy 0.9800, seed 1." in said
    assert "both get 1,960 right, only the first 0, only the second 10, neither 30." in said
    tiles = opened.window.locator("#compare-only li")
    assert tiles.count() == 10
    assert [text.split() for text in tiles.all_inner_texts()] == [
        [str(i % 10), "→", str((i + 1) % 10), "image", str(i)] for i in range(30, 40)
    ]
    captions = opened.window.locator("#compare-confusion figcaption").all_inner_texts()
    assert captions == [
        "vgg16-adam-random: 40 of 2,000 are wrong, above all 0→1 (4), 1→2 (4), 2→3 (4).",
        "vgg16-sgd-random: 30 of 2,000 are wrong, above all 0→1 (3), 1→2 (3), 2→3 (3).",
        "The first less the second: +10 in all, above all 0→1 (+1), 1→2 (+1), 2→3 (+1).",
    ]
    # Of two seeds, both have to be right.
    said = _pick(opened, "vgg16-sgd-random", "vgg16-adam-random", "all")
    assert "test accuracy 0.5425 (0.1000, 0.9850), seeds 0, 1; seed 0 collapsed." in said
    assert "only the first 0, only the second 1,760, neither 40." in said
    assert tiles.first.inner_text().split() == ["0", "→", "1", "0", "image", "40"]
    pictures = tiles.locator("canvas").all()
    for index, picture in enumerate(pictures, 40):
        expected = made_up.IMAGES[index, :, :, 0].ravel()
        assert np.abs(np.array(picture.evaluate(PIXELS)) - expected).max() <= 18
    assert len(pictures) == 21
    assert "And 1,739 more." in opened.window.locator("#compare-only").inner_text()
    panel = opened.window.get_by_role("img", name="Validation accuracy by epoch")
    assert panel.get_attribute("aria-label") == (
        "Validation accuracy by epoch: vgg16-sgd-random ends at 0.5325, "
        "vgg16-adam-random ends at 0.9750"
    )
    _check(opened, path)


@pytest.mark.parametrize("size", SIZES)
def test_rows_of_all_kinds_can_be_picked(
    browser: playwright.Browser, rows_of_all_kinds: Path, size: str
) -> None:
    rows = compared.rows()
    opened = _open(browser, rows_of_all_kinds, size)
    for name, told in (
        ("four", "test accuracy 0.9250 (0.9000, 0.9250, 0.9500), seeds 0, 1, 2; seed 3 compared"),
        ("ones", "test accuracy 0.1000, seed 0; seed 0 collapsed."),
        ("untested", "seed 5 not tested yet; seed 5 diverged."),
        ("elsewhere", "seed 0 tested on other images."),
        (compared.MARKUP, f"test accuracy {_accuracy(rows[compared.MARKUP][0]):.4f}, seed 0."),
    ):
        assert f"{name}: {told}" in _pick(opened, name, "four")
        assert opened.found("() => document.documentElement.scrollWidth") <= SIZES[size][0]
        assert opened.window.locator("#compare-curves svg").count() == 4
    assert "takes two that were tested" not in opened.window.locator("#compare-only").inner_text()
    _pick(opened, "untested", "elsewhere")
    assert "takes two that were tested" in opened.window.locator("#compare-only").inner_text()
    assert opened.wrong == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [
        rows_of_all_kinds.as_uri()
    ]


def _accuracy(result: TrainingRecord) -> float:
    return float(np.mean(result.predicted == result.labels))


def test_rows_are_picked_with_the_keyboard(
    browser: playwright.Browser, rows_of_all_kinds: Path
) -> None:
    opened = _open(browser, rows_of_all_kinds, "laptop")
    said = opened.window.get_by_role("status")
    assert said.inner_text().startswith("four: ")
    opened.window.keyboard.press("Tab")
    opened.window.keyboard.press("ArrowDown")
    assert said.inner_text().startswith("ones: ")


def test_a_page_without_its_script_says_so_and_has_all_the_rest(
    browser: playwright.Browser, study: Path
) -> None:
    opened = Opened(browser.new_context(java_script_enabled=False).new_page(), study / report.PAGE)
    assert opened.window.get_by_text("a browser has to run the script").is_visible()
    assert not opened.window.locator("#compare form").is_visible()
    assert opened.window.get_by_role("heading", name="Learning curves").is_visible()


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
