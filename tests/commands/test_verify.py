"""`make verify`: every way in which an environment can differ from its lock is a line."""

import base64
import hashlib
import platform
import shutil
import subprocess
import sys
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest

from deepnets.commands import verify
from project import ROOT, environment

LOCK = """\
alpha==1.0 \\
    --hash=sha256:00
beta-lib==2.1 ; python_full_version >= '3' \\
    --hash=sha256:00
gamma==3.0 ; sys_platform == 'nowhere' \\
    --hash=sha256:00
"""


def _install(site: Path, name: str, version: str) -> None:
    """What pip leaves of a package with one module."""
    module, info = site / f"{name}.py", site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    module.write_text(f"version = {version!r}\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(module.read_bytes()).digest())
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(
        f"{name}.py,sha256={digest.rstrip(b'=').decode()},{module.stat().st_size}\n"
        f"__pycache__/{name}.pyc,,\n{info.name}/RECORD,,\n"
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An environment as LOCK has it."""
    _install(tmp_path, "alpha", "1.0")
    _install(tmp_path, "Beta_Lib", "2.1")
    _install(tmp_path, "pip", "23.0")
    _install(tmp_path, "deepnets", "0.1.0")
    return tmp_path


def _found(site: Path, *additions: str) -> list[str]:
    return verify.differences(
        verify.pinned_versions(LOCK),
        [verify.pinned_versions(text) for text in additions],
        distributions(path=[str(site)]),
    )


def test_an_environment_as_it_was_locked_has_no_differences(site: Path) -> None:
    assert _found(site) == []


def test_a_missing_package(site: Path) -> None:
    shutil.rmtree(site / "alpha-1.0.dist-info")
    assert _found(site) == ["alpha: expected 1.0, received none"]


def test_another_version_and_one_beside_the_right_one(site: Path) -> None:
    shutil.rmtree(site / "Beta_Lib-2.1.dist-info")
    _install(site, "Beta_Lib", "2.2")
    _install(site, "alpha", "0.9")
    assert _found(site) == [
        "alpha: expected 1.0, received 0.9 and 1.0",
        "alpha: expected its files as installed, changed or missing: alpha.py",
        "beta-lib: expected 2.1, received 2.2",
    ]


def test_a_package_that_nobody_asked_for(site: Path) -> None:
    _install(site, "gamma", "3.0")
    _install(site, "torch", "2.13.0+cpu")
    assert _found(site) == [
        "gamma: expected none, received 3.0",
        "torch: expected none, received 2.13.0+cpu",
    ]
    assert _found(site, "torch==2.13.0 \\\n    --hash=sha256:00\ngamma==3.0\n") == []
    assert _found(site, "torch==2.12.0\ngamma==3.0\n") == [
        "torch: expected 2.12.0, received 2.13.0+cpu"
    ]


@pytest.mark.parametrize("harm", [lambda path: path.write_text("x = 1\n"), Path.unlink])
def test_a_changed_or_lost_file(site: Path, harm: object) -> None:
    harm(site / "Beta_Lib.py")
    assert _found(site) == [
        "beta-lib: expected its files as installed, changed or missing: Beta_Lib.py"
    ]


def test_a_package_without_a_record(site: Path) -> None:
    (site / "alpha-1.0.dist-info" / "RECORD").unlink()
    assert _found(site) == ["alpha: expected its files as installed, changed or missing: RECORD"]


def test_the_lock_as_it_is_names_what_this_python_needs() -> None:
    locked = verify.pinned_versions((ROOT / verify.LOCK).read_text())
    assert {"tensorflow", "keras", "mlflow", "numpy", "pillow", "packaging"} <= set(locked)
    assert "pywin32" not in locked or platform.system() == "Windows"
    text = (ROOT / verify.LOCK).read_text()
    assert len(locked) > 0.9 * sum("==" in line.split(";")[0] for line in text.splitlines())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with an environment of its own that holds two packages, as it was locked."""
    folder, site = tmp_path / "project", tmp_path / "site"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "deepnets").symlink_to(ROOT / "src" / "deepnets")
    for name in ("Makefile", "MLproject"):
        shutil.copy(ROOT / name, folder)
    _install(site, "alpha", "1.0")
    packaging = distribution("packaging")
    for name in ("packaging", f"packaging-{packaging.version}.dist-info"):
        (site / name).symlink_to(str(packaging.locate_file(name)))
    (folder / "requirements.lock").write_text(f"packaging=={packaging.version}\nalpha==1.0\n")
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    # -S: none of the packages that this test runs with.
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/src:{site} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return folder


def _make_verify(project: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", "verify"],
        cwd=project,
        env=environment(),
        text=True,
        capture_output=True,
        check=False,
    )


def test_make_verify_says_it_a_line_each_and_exits_accordingly(project: Path) -> None:
    result = _make_verify(project)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "is what requirements.lock says, every file as it was installed" in result.stdout
    with (project / "requirements.lock").open("a") as lock:
        lock.write("nothing-of-the-kind==1.0\n")
    (project.parent / "site" / "alpha.py").write_text("version = '6.6.6'\n")
    result = _make_verify(project)
    assert result.returncode == 2
    assert result.stdout.splitlines() == [
        "alpha: expected its files as installed, changed or missing: alpha.py",
        "nothing-of-the-kind: expected 1.0, received none",
    ]
    assert "verify: 2 differences from requirements.lock in " in result.stderr
    assert "Traceback" not in result.stderr
