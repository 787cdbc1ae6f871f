"""The environment is described three times; the descriptions must agree."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from project import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
ADDED = {name: (ROOT / f"requirements-{name}.lock").read_text() for name in ("gpu", "ray")}
LOCKS = {"all": LOCK} | ADDED
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = YAML(typ="safe").load((ROOT / "conda.yaml").read_text())


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ ]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")


def _locked(lock: str = LOCK) -> dict[str, list[str]]:
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9._-]+)==([^ \\;]+)", lock, re.MULTILINE):
        versions.setdefault(name.replace(".", "-"), []).append(version)
    return versions


def test_every_declared_dependency_is_locked_within_its_range() -> None:
    from packaging.requirements import Requirement

    extras = PROJECT["optional-dependencies"]
    declared = {*PROJECT["dependencies"], *extras["dev"], *extras["team"]}
    locked = _locked()
    # The tests need what a team does.
    for text in declared - {"deepnets[team]"}:
        requirement = Requirement(text)
        versions = locked.get(_name(text).replace(".", "-"), [])
        assert versions, f"{text} is not in requirements.lock: run make lock"
        for version in versions:
            assert requirement.specifier.contains(version), f"{text} against {version}"


@pytest.mark.parametrize("extra", ADDED)
def test_an_extra_is_locked_apart_and_fits_what_is_there(extra: str) -> None:
    from packaging.requirements import Requirement

    locked, added = _locked(), _locked(ADDED[extra])
    for text in PROJECT["optional-dependencies"][extra]:
        specifier = Requirement(text).specifier
        assert added[_name(text)]
        for version in added[_name(text)]:
            assert specifier.contains(version), f"{text} against {version}: run make lock"
    for name in set(added) & set(locked):
        assert set(added[name]) <= set(locked[name]), f"{name}: run make lock"


def test_gpus_are_looked_after_on_linux_alone() -> None:
    """Nobody makes these packages for other systems, where the lock is to install as well."""
    pins = re.findall(r"^[a-z0-9-]+==.*$", ADDED["gpu"], re.MULTILINE)
    assert sum(pin.startswith("nvidia-") for pin in pins) > 10
    assert [pin for pin in pins if "sys_platform == 'linux'" not in pin] == []


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_every_locked_package_has_hashes(lock: str) -> None:
    blocks = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)
    for block in filter(str.strip, blocks):
        assert "--hash=sha256:" in block, block.splitlines()[0]


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_the_lock_names_no_index(lock: str) -> None:
    assert not re.search(r"https?://|--index-url|--extra-index-url|--find-links|@ file", lock)


def test_conda_installs_the_lock_on_a_python_that_the_project_supports() -> None:
    from packaging.specifiers import SpecifierSet

    python = next(d for d in CONDA["dependencies"] if str(d).startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python=") + ".0")
    pip = next(d["pip"] for d in CONDA["dependencies"] if isinstance(d, dict))
    assert pip == ["-r requirements.lock"]


def test_the_makefile_and_mlflow_use_the_same_descriptions() -> None:
    project = YAML(typ="safe").load((ROOT / "MLproject").read_text())
    assert project["conda_env"] == "conda.yaml"
    assert "--require-hashes" in (ROOT / "Makefile").read_text()


def test_installed_packages_are_the_locked_ones() -> None:
    from importlib.metadata import version

    locked = _locked()
    for name in ("tensorflow", "keras", "mlflow", "dvc", "numpy", "pandas", "matplotlib"):
        assert version(name) in locked[name]


def _would_make(folder: Path, *targets: str) -> str:
    command = ["make", "--dry-run", *targets]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True).stdout


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A project whose environment has been set up, in a folder with an unusual name."""
    folder = tmp_path / "it's a place"
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    # The beginning of what pip writes where a path has a space in it.
    (programs / "deepnets").write_text(f"#!/bin/sh\n'''exec' \"{programs}/python\" \"$0\"")
    (programs / "python").symlink_to("/usr/bin/env")
    (folder / ".venv/.ready").touch()
    assert "Nothing to be done" in _would_make(folder, "setup")
    return folder


def test_an_environment_that_is_elsewhere_or_a_copy_is_made_anew(installed: Path) -> None:
    """Its programs begin with the path of its Python: `make tour` ended in "Error 127"."""
    copied, moved = (installed.with_name(name) for name in ("copied", "moved"))
    shutil.copytree(installed, copied, symlinks=True)
    installed.rename(moved)
    for folder in (copied, moved):
        for target in ("setup", "tour", "verify"):
            made = _would_make(folder, target)
            assert "rm -rf .venv" in made
            assert made.index("rm -rf .venv") < made.index("-r requirements.lock")
    # Whoever shares an environment has said so.
    moved.rename(installed)
    shutil.rmtree(copied / ".venv")
    (copied / ".venv").symlink_to(installed / ".venv")
    assert "Nothing to be done" in _would_make(copied, "setup")


def _make(*arguments: str, **variables: str) -> list[str]:
    """What the project's Makefile prints, with targets that are added to it by --eval."""
    made = subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.splitlines()


def test_what_a_user_has_set_for_pip_installs_nothing_elsewhere() -> None:
    elsewhere = {"PIP_TARGET": "/there", "PIP_PREFIX": "/there", "PIP_ROOT": "/there"}
    index = {"PIP_INDEX_URL": "https://index.example"}
    seen = _make("--eval=show: ; @env", "show", PIP_USER="1", **elsewhere, **index)
    assert {"PIP_USER=0", "PIP_INDEX_URL=https://index.example"} <= set(seen)
    assert not [line for line in seen if line.endswith("=/there")]


def test_targets_take_turns() -> None:
    added = ["--eval=first: ; @sleep 0.5; echo first", "--eval=second: ; @echo second"]
    assert _make(*added, "first", "second", MAKEFLAGS="-j2") == ["first", "second"]
