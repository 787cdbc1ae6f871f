"""A training's fingerprint: everything that shapes its numbers is in it, and each part counts."""

import copy
import hashlib
from typing import Any

import pytest

from deepnets import params, provenance, runtime
from modules import PACKAGE, imports
from project import ROOT

RUN = params.load(ROOT / "params.yaml").run_params("vgg16-sgd-random", 0)
DATA = {"train": "a" * 64, "validation": "b" * 64}
START = "c" * 64

# What a training uses beside: where its files are, how it is told and timed, how long it takes.
# Its parameters are in the fingerprint themselves.
ONLY_AROUND_IT = {
    *("checkpoints", "clock", "errors", "files", "foreign", "git", "live", "params", "processes"),
    *("progress", "project", "provenance", "results"),
}


def test_every_module_of_a_training_shapes_it_or_is_known_not_to() -> None:
    train = PACKAGE / "stages/train.py"
    used = {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in imports(train)}
    used = {"stages/train", *used} - {"stages/__init__"}
    assert used == {*provenance.TRAINING_MODULES, *ONLY_AROUND_IT}
    assert not ONLY_AROUND_IT & set(provenance.TRAINING_MODULES)
    assert len(set(provenance.TRAINING_MODULES)) == len(provenance.TRAINING_MODULES)


def test_shape_holds_what_it_is_given_and_what_is_installed() -> None:
    code = {
        name: hashlib.sha256((PACKAGE / f"{name}.py").read_bytes()).hexdigest()[:16]
        for name in provenance.TRAINING_MODULES
    }
    assert provenance.shape(RUN, DATA, START) == {
        "parameters": RUN.flat,
        "data": DATA,
        "start": START,
        "code": code,
        "libraries": runtime.training_versions(),
    }
    assert RUN.flat == {key: value for key, value in dict(RUN).items() if value is not None}
    assert {"tensorflow", "keras", "numpy"} <= runtime.training_versions().keys()


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
