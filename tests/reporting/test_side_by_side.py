"""What a page holds of its rows for their comparison: little, and the pictures that it had."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compared
from deepnets.base import project
from deepnets.reporting import side_by_side
from project import ROOT


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page that was made with the test images at hand, which are gone since."""
    monkeypatch.chdir(tmp_path)
    compared.write_images()
    path = tmp_path / "report.html"
    compared.write_page(path, compared.rows())
    for file in project.split_files("test"):
        file.unlink()
    return path


def _data(html: str) -> Any:
    match = re.search('id="compare-data">(.*?)</script>', html)
    assert match is not None
    return json.loads(match[1])


def test_a_page_made_without_the_images_keeps_its_pictures(written: Path) -> None:
    html = written.read_text()
    assert len(_data(html)["pictures"]) == side_by_side._PICTURES
    assert compared.write_page(written, compared.rows()) == html
    assert "not at hand" not in html


def test_pictures_of_other_test_data_go_and_the_page_says_so(written: Path) -> None:
    rows = {
        name: [replace(record, provenance={"test_data": 64 * "c"}) for record in seeds]
        for name, seeds in compared.rows().items()
    }
    html = compared.write_page(written, rows)
    assert _data(html)["pictures"] == []
    assert "200 of the 200 pictures of digits are not here" in html
    assert "compare-digits" not in html.partition("<script>")[0]


@pytest.mark.parametrize("damage", [("base64,", "base64,AAAA"), ('"columns":20', '"columns":7')])
def test_a_damaged_page_has_no_pictures_to_keep(written: Path, damage: tuple[str, str]) -> None:
    written.write_text(written.read_text().replace(*damage))
    assert "pictures of digits are not here" in compared.write_page(written, compared.rows())


def test_new_rows_keep_the_pictures_that_they_need(written: Path) -> None:
    before = _data(written.read_text())["pictures"]
    rows = compared.rows()
    after = _data(compared.write_page(written, {name: rows[name] for name in ("four", "ones")}))
    assert after["pictures"]
    assert set(after["pictures"]) < set(before)


def test_pictures_are_of_what_a_pair_differs_in_most_often_wrong_first(written: Path) -> None:
    rows = compared.rows()
    tested = [*rows["four"][:3], *rows["ones"], *rows[compared.MARKUP]]
    right = np.array([record.predicted == compared.LABELS for record in tested])
    shown = np.array(_data(written.read_text())["pictures"])
    majority = np.array([right[:3].sum(axis=0) > 1, right[3], right[4]])[:, shown]
    assert (majority.any(axis=0) & ~majority.all(axis=0)).all()
    wrong = (~right).sum(axis=0)[shown]
    assert (np.diff(wrong) <= 0).all()


def test_three_seeds_of_a_row_are_there_with_predictions_and_all_with_curves(written: Path) -> None:
    data = _data(written.read_text())
    four = data["rows"]["four"]
    assert [seed["predicted"] is not None for seed in four] == [True, True, True, False]
    # Four digits; what is not finite is no number of JSON.
    assert four[3]["curves"]["loss"] == [1.235, None, 0.4115]
    assert four[3]["curves"]["accuracy"] == 3 * [0.9123]
    assert data["rows"]["ones"][0]["predicted"] == "=1" + side_by_side._letters(400)
    assert data["rows"]["untested"][0]["lacks"] == "not tested yet"
    assert data["rows"]["elsewhere"][0]["lacks"] == "tested on other images"


def test_one_row_is_not_compared() -> None:
    rows = compared.rows()
    assert side_by_side.line({"four": rows["four"]}) == []
    assert side_by_side.line(rows) == [side_by_side.LINE]


def test_the_script_is_part_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "reporting/side_by_side.js" in declared["package-data"]["deepnets"]
