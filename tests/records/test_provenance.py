"""A training's fingerprint: everything that shapes its numbers is in it, and each part counts."""

import copy
import hashlib
from typing import Any

import pytest

from deepnets.config import params
from deepnets.records import machine, provenance
from modules import PACKAGE
from project import ROOT

RUN = params.load(ROOT / "params.yaml").run_params("vgg16-sgd-random", 0)
DATA = {"train": "a" * 64, "validation": "b" * 64}
START = "c" * 64


def test_the_modules_that_shape_a_training_are_those_of_two_folders() -> None:
    there = {
        path.relative_to(PACKAGE).with_suffix("").as_posix()
        for folder in ("networks", "training")
        for path in (PACKAGE / folder).rglob("*.py")
    }
    assert set(provenance.shaping_modules(PACKAGE)) == there
    assert {"networks/models", "training/loop"} <= there


def test_shape_holds_what_it_is_given_and_what_is_installed() -> None:
    code = {
        name: hashlib.sha256((PACKAGE / f"{name}.py").read_bytes()).hexdigest()[:16]
        for name in provenance.shaping_modules(PACKAGE)
    }
    assert provenance.shape(RUN, DATA, START) == {
        "parameters": RUN.flat,
        "data": DATA,
        "start": START,
        "code": code,
        "libraries": machine.training_versions(),
    }
    said = {key: value for key, value in dict(RUN).items() if value is not None}
    # As before there was a choice.
    assert said.pop("keep") == "last"
    assert RUN.flat == said
    assert {"tensorflow", "keras", "numpy"} <= machine.training_versions().keys()


def _leaves(part: Any, *place: str) -> list[tuple[str, ...]]:
    if not isinstance(part, dict):
        return [place]
    return [leaf for key, value in part.items() for leaf in _leaves(value, *place, key)]


SHAPE = provenance.shape(RUN, DATA, START)


@pytest.mark.parametrize("place", _leaves(SHAPE), ids="/".join)
def test_every_part_changes_the_fingerprint_and_is_named(place: tuple[str, ...]) -> None:
    other = copy.deepcopy(SHAPE)
    part = other
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = "another"
    assert provenance.fingerprint(other) != provenance.fingerprint(SHAPE)
    (said,) = provenance.differences(SHAPE, other)
    expected = {
        "parameters": f"{place[-1]} {SHAPE['parameters'].get(place[-1])}, now another",
        "data": f"other {place[-1]} images",
        "start": "other starting weights",
        "code": f"changed code ({place[-1]})",
        "libraries": f"{place[-1]} {SHAPE['libraries'].get(place[-1])}, now another",
    }
    assert said == expected[place[0]]


def test_a_record_gives_the_fingerprint_of_what_it_holds() -> None:
    record = {"run": "a run", **SHAPE, "git": {"commit": None}}
    assert provenance.fingerprint_of(record) == provenance.fingerprint(SHAPE)
    for key in SHAPE:
        changed = record | {key: "another"}
        assert provenance.fingerprint_of(changed) != provenance.fingerprint(SHAPE), key


def test_devices_are_part_of_it_where_there_are_several() -> None:
    two = provenance.shape(RUN, DATA, START, devices={"devices": 2, "processes": 1})
    four = provenance.shape(RUN, DATA, START, devices={"devices": 4, "processes": 2})
    fingerprints = {provenance.fingerprint(shape) for shape in (SHAPE, two, four)}
    assert len(fingerprints) == 3
    assert provenance.fingerprint_of({"run": "a run", **two}) == provenance.fingerprint(two)
    assert provenance.differences(SHAPE, two) == ["devices 1, now 2"]
    assert provenance.differences(four, SHAPE) == ["devices 4, now 1", "processes 2, now 1"]
