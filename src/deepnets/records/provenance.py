"""Where a run comes from: the fingerprint of everything that shapes it, and the code's commit."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from deepnets.base import files, git, project
from deepnets.base.errors import UserError
from deepnets.config.sections import RunParams
from deepnets.records import machine
from deepnets.training.devices import Count

# The package, and those of its folders that decide what a training computes: the text of their
# modules is part of the fingerprint, and dvc.yaml names them as what `train` depends on.
PACKAGE = Path(__file__).parents[1]
SHAPING_FOLDERS = ("networks", "training")

# In a copy of the project that was made without git's folder: what `git_state` said of it.
SOURCES = "sources.json"

# What makes a working tree dirty; results that a pipeline writes as it runs do not.
_SOURCES = (
    "src",
    "dvc.yaml",
    "params.yaml",
    "requirements.lock",
    "pyproject.toml",
)


class ParameterCount(TypedDict):
    """How many numbers a network is made of."""

    total: int
    trainable: int
    non_trainable: int


class GitState(TypedDict):
    """What `git_state` gives. Records of earlier versions have no `patch`, or no `study`."""

    commit: str | None
    dirty: bool | None
    study: NotRequired[str | None]
    patch: NotRequired[str | None]


class Environment(TypedDict):
    """What `machine.describe` gives. Records of earlier versions have no `runtime`."""

    hardware: dict[str, Any]
    settings: dict[str, str]
    runtime: NotRequired[dict[str, Any]]
    versions: dict[str, str]


class Shape(TypedDict):
    """Everything that shapes a training; what `shape` says of its parts is true of these."""

    parameters: dict[str, Any]
    data: dict[str, str]
    start: str
    code: dict[str, str]
    libraries: dict[str, str]
    program: NotRequired[str]
    devices: NotRequired[Count]


class Provenance(Shape):
    """Where one training comes from, as provenance.json has it for each seed of a run.

    `data` holds the sha256 of the images that were trained and validated on, `test_data` that of
    the test images, `start` and `weights` those of the first weights and of the model's, and
    `best_weights` those of the best epoch's model beside it.
    """

    run: str
    stage: str
    fingerprint: str
    test_data: str
    image_size: int
    images: dict[str, int]
    chance_accuracy: float
    parameter_count: ParameterCount
    git: GitState
    environment: Environment
    weights: NotRequired[str]
    best_weights: NotRequired[str]


# Those of a training that says nothing of its devices.
_ONE: Count = {"devices": 1, "processes": 1}

# What `shape` gives, and a record keeps.
_SHAPE = ("parameters", "data", "start", "code", "libraries", "program", "devices")


def shape(
    run: RunParams,
    data: dict[str, str],
    start: str,
    program: str | None = None,
    devices: Count | None = None,
) -> Shape:
    """Everything that shapes a training: parameters, data, starting weights, code, libraries.

    Args:
        run: resolved parameters.
        data: sha256 of each split that the training sees.
        start: sha256 of the starting weights.
        program: sha256 of the compiled program, where it does not follow from all that.
        devices: how many each batch is split over, in how many processes; None for one.
    """
    shaped: Shape = {
        "parameters": run.flat,
        "data": data,
        "start": start,
        "code": shaping_code(),
        "libraries": machine.training_versions(),
    }
    if program:
        shaped["program"] = program
    if devices:
        shaped["devices"] = devices
    return shaped


def shaping_code() -> dict[str, str]:
    """Digests of the code on disk that decides what a training comes to, by module."""
    return code_digests(PACKAGE, shaping_modules(PACKAGE))


def shaping_modules(package: Path) -> list[str]:
    """The modules of `package` that shape a training, as `networks/models`."""
    return sorted(
        path.relative_to(package).with_suffix("").as_posix()
        for folder in SHAPING_FOLDERS
        for path in (package / folder).rglob("*.py")
    )


def code_digests(package: Path, modules: Iterable[str]) -> dict[str, str]:
    """The beginning of the sha256 of each of `modules` that the folder `package` has."""
    paths = {name: package / f"{name}.py" for name in modules}
    return {name: files.file_digest(path)[:16] for name, path in paths.items() if path.is_file()}


def fingerprint(shaped: Mapping[str, Any]) -> str:
    """sha256 over `shape`, as hex: the identity of a run."""
    return hashlib.sha256(json.dumps(shaped, sort_keys=True).encode()).hexdigest()


def fingerprint_of(record: Mapping[str, Any]) -> str:
    """The fingerprint of the training that `record`, a run's provenance, says that it is of."""
    return fingerprint({key: record[key] for key in _SHAPE if key in record})


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What shapes a training otherwise than another one, in words; both hold what `shape` gives."""
    changes = _changes(before["parameters"], now["parameters"])
    changes += [
        f"other {name} images"
        for name in now["data"]
        if before["data"].get(name) != now["data"][name]
    ]
    if before["start"] != now["start"]:
        changes.append("other starting weights")
    if before.get("program") != now.get("program"):
        changes.append("other kernels of the GPU")
    changes += _changes(before.get("devices") or _ONE, now.get("devices") or _ONE)
    code = {*before["code"], *now["code"]}
    changed = sorted(name for name in code if before["code"].get(name) != now["code"].get(name))
    if changed:
        changes.append(f"changed code ({', '.join(changed)})")
    return changes + _changes(before["libraries"], now["libraries"])


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`momentum 0.8, now 0.9` for every key that the two have not alike."""
    return [
        f"{key} {before.get(key, 'not there')}, now {now.get(key, 'not there')}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]


def git_state() -> GitState:
    """Commit of the checkout, the study's folder in it, and what code or parameters differ from it.

    `patch` is what `git apply` makes of a clean checkout of `commit` the sources that a dirty one
    holds, new files included. Bytes that are no UTF-8 are in it as surrogates. All are None where
    unknown, `patch` as well where nothing differs; what may differ is dirty.
    """
    return _git_state()[0]


def why_not_rebuildable() -> str | None:
    """Why a training that starts now could not be rebuilt from its record; None if it could."""
    return _git_state()[1]


def warn() -> None:
    """Say, before a training starts, if it could not be rebuilt from its record, and why."""
    why = why_not_rebuildable()
    if why:
        print(
            f"nobody will be able to rebuild this training, its record lacks its code: {why}; mend "
            "that, or train in a clone of the project",
            flush=True,
        )


def _git_state() -> tuple[GitState, str | None]:
    root, study = project.root(), Path.cwd()
    if (root / SOURCES).is_file():
        return files.read_json(root / SOURCES), None
    place = study.relative_to(root).as_posix() if study.is_relative_to(root) else None
    state: GitState = {"commit": None, "dirty": None, "study": place, "patch": None}
    sources = [folder / source for folder in dict.fromkeys([root, study]) for source in _SOURCES]
    try:
        state["commit"] = commit = git.commit(root)
        state["dirty"] = True
        there = [str(source) for source in sources if source.exists()]
        patch = git.difference(root, commit, there, ["--binary"])
    except (UserError, OSError) as error:  # the folder of temporary files may be full
        return state, str(error)
    state["dirty"], state["patch"] = bool(patch), patch or None
    return state, None
