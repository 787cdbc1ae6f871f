"""What stands beside the study's numbers: rows on its data, split as there, by digest."""

from collections.abc import Mapping
from typing import Any

import pytest

from deepnets.base import files
from deepnets.config.params import FILE, load
from deepnets.records.results import TrainingRecord
from deepnets.reporting import published
from project import ROOT

STUDY = load(ROOT / FILE)
NAME, OTHER = "vgg16-sgd-random", "vgg16-adam-random"
RUNS = {name: [STUDY.run_params(name, 0)] for name in (NAME, OTHER)}

# As a training of the whole study has recorded it.
RECORD = files.read_json(ROOT / "metrics" / NAME / "provenance.json")["0"]
SPLIT = RECORD["data"]


def training(changes: Mapping[str, Any], name: str = NAME) -> TrainingRecord:
    record = {key: RECORD[key] for key in ("images", "data", "test_data")} | changes
    return TrainingRecord(
        run=name,
        seed=0,
        row=RUNS[name][0],
        history=[],
        timing=[],
        outcome="completed",
        provenance=record,
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        # The first of its training images, whatever they were validated on.
        ({"images": {"train": 5_000}, "data": {"train": "a", "validation": "b"}}, True),
        # As many or more, but others; or others that validate.
        ({"data": SPLIT | {"train": 64 * "a"}}, False),
        ({"data": SPLIT | {"validation": 64 * "a"}}, False),
        ({"images": {"train": 55_000}, "data": {"train": "a", "validation": "b"}}, False),
        # Another data set of that form.
        ({"test_data": 64 * "a"}, False),
        ({"test_data": 64 * "a", "images": {"train": 5_000}}, False),
    ],
)
def test_the_studys_data_is_known_by_its_digests(
    changes: Mapping[str, Any], expected: bool
) -> None:
    assert published.is_on_its_data(training(changes)) == expected
    assert (NAME in published.rows_beside(RUNS, {NAME: [training(changes)]})) == expected


def test_a_row_with_a_seed_on_other_data_stands_alone() -> None:
    seeds = [training({}), training({"test_data": 64 * "a"})]
    assert published.rows_beside(RUNS, {NAME: seeds}) == {}


def test_a_row_that_was_not_trained_goes_with_the_others() -> None:
    elsewhere = training({"test_data": 64 * "a"})
    assert list(published.rows_beside(RUNS, {})) == [NAME, OTHER]
    assert list(published.rows_beside(RUNS, {NAME: [training({})]})) == [NAME, OTHER]
    assert list(published.rows_beside(RUNS, {NAME: [elsewhere]})) == []
    assert list(published.rows_beside(RUNS, {NAME: [elsewhere], OTHER: [training({}, OTHER)]})) == [
        OTHER
    ]
