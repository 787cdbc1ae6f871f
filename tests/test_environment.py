"""The environment is described three times; the descriptions must agree."""

import re
import tomllib

import pytest
from ruamel.yaml import YAML

from project import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
ADDED = {extra: (ROOT / f"requirements-{extra}.lock").read_text() for extra in ("jax", "gpu")}
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

    declared = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    locked = _locked()
    for text in declared:
        requirement = Requirement(text)
        versions = locked.get(_name(text).replace(".", "-"), [])
        assert versions, f"{text} is not in requirements.lock: run make lock"
        for version in versions:
            assert requirement.specifier.contains(version), f"{text} against {version}"


@pytest.mark.parametrize("extra", ADDED)
def test_an_extra_is_locked_apart_and_fits_what_is_there(extra: str) -> None:
    from packaging.requirements import Requirement

    locked, added = _locked(), _locked(ADDED[extra])
    assert "jax" not in locked
    for text in PROJECT["optional-dependencies"][extra]:
        (version,) = added[_name(text)]
        specifier = Requirement(text).specifier
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
