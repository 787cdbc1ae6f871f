"""A commit of the project in a folder of its own, and commands that run with its code.

What the user has is read, never written. The checkout is a repository of its own with the objects
of the user's, and ends with the block that asked for it, however that ends.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deepnets.base import git, lifeline, project
from deepnets.base.errors import UserError
from deepnets.data import mirrors
from deepnets.networks import runtime

# `python -c TRAINER ARGUMENTS`: deepnets where MLflow seems not to be installed, since Python takes
# None for a module that is not there. Every version of the project then keeps to its files.
UNTRACKED = (
    "import sys; sys.modules['mlflow'] = None; from deepnets.__main__ import main; sys.exit(main())"
)
# What it says then.
_UNTRACKED_SAYS = "mlflow is not installed here"

# Environment and libraries, as in a run's provenance.
Asked = tuple[dict[str, Any], dict[str, str]]


@contextmanager
def checkout(commit: str, patch: str | None) -> Iterator[Path]:
    """Yield the project's root in a checkout of `commit` with `patch` applied, gone afterwards.

    A signal that ends a program ends the block first.

    Raises:
        UserError: the commit is not in this repository, or the patch does not fit it.
    """
    root = project.root()
    top = git.top_folder(root)
    try:
        git.ask(root, "cat-file", "-e", f"{commit}^{{commit}}")
    except UserError:
        raise UserError(
            f"the commit {commit[:12]} is not in this repository: fetch the branch that has it "
            "(`git fetch --all`, in a shallow clone `git fetch --unshallow`)"
        ) from None
    with _orderly(), TemporaryDirectory(prefix="deepnets-", ignore_cleanup_errors=True) as folder:
        there = Path(folder) / "project"
        git.checkout(root, commit, there)
        if patch:
            apply(there, patch)
        yield there / root.resolve().relative_to(top.resolve())


def apply(folder: Path, patch: str) -> None:
    """Apply a run's patch, from `provenance.git_state`, to the clean checkout in `folder`."""
    content = patch.encode(errors="surrogateescape")
    try:
        git.run_isolated(folder, "apply", "--binary", "--whitespace=nowarn", "-", given=content)
    except UserError as error:
        raise UserError(f"the run's uncommitted changes do not fit its commit: {error}") from None


def changed_files(patch: str) -> list[str]:
    """The files that a patch from `provenance.git_state` changes."""
    heads = (line for line in patch.splitlines() if line.startswith("diff --git "))
    return [head.rpartition(" b/")[2] for head in heads]


def changed_lines(commit: str, modules: Sequence[str]) -> list[str]:
    """The lines of `modules` that the user's working tree has and `commit` has not (+), or not (-).

    Each is preceded by the file and line where it stands; those of a file are in its order.
    """
    paths = [f"src/deepnets/{module}.py" for module in modules]
    shown = git.difference(project.root(), commit, ["src"], ["--unified=0", "--relative"], paths)
    lines: list[str] = []
    name, at = "", {"-": 0, "+": 0}
    for line in shown.splitlines():
        hunk = re.match(r"@@ -(\d+)\S* \+(\d+)", line)
        if line.startswith(("--- a/", "+++ b/")):
            name = line[6:]
        elif hunk:
            at = {"-": int(hunk[1]), "+": int(hunk[2])}
        elif name and line[:1] in ("+", "-") and not line.startswith(("--- ", "+++ ")):
            lines.append(f"{name}:{at[line[0]]}: {line[0]} {line[1:].strip()}")
            at[line[0]] += 1
    return lines


def lend_data(study: Path, there: Path) -> None:
    """Copy what was downloaded for `study` (or for the whole project) to the checkout `there`.

    The stages there check it by digest, and fetch what is missing themselves.

    Args:
        study: the study's folder, relative to the project's root.
        there: the root of the checkout.
    """
    for folder in {study, Path()}:
        for kind in (project.RAW, project.IMAGENET):
            source, target = project.root() / folder / kind, there / folder / kind
            if source.is_dir() and not target.exists():
                shutil.copytree(source, target)


def run(arguments: Sequence[str], root: Path, study: Path, environment: Mapping[str, str]) -> None:
    """Run `deepnets` with the code below `root` in its folder `study`; what it prints is indented.

    Args:
        arguments: those of the command.
        root: of a checkout.
        study: relative to `root`.
        environment: variables of the process; ours for MLflow and all of git's are left out of it.

    Raises:
        UserError: the command failed; it has said why.
    """
    ours = ("MLFLOW_", "DEEPNETS_CHECKOUT", "DVC_ROOT")
    kept = {key: value for key, value in environment.items() if not key.startswith(ours)}
    kept = git.strip_variables(kept) | git.NO_SETTINGS
    mirror = kept.get(mirrors.VARIABLE, "").strip()
    if mirror and Path(mirror).is_dir():
        kept[mirrors.VARIABLE] = str(Path(mirror).resolve())
    kept |= _code_of(root, kept) | lifeline.environment() | runtime.compiled()
    process = subprocess.Popen(
        [sys.executable, "-c", UNTRACKED, *arguments],
        cwd=root / study,
        env=kept,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if not line.startswith(_UNTRACKED_SAYS):
                print(f"    {line}", end="", flush=True)
        status = process.wait()
    finally:
        process.terminate()
        process.wait()
    if status:
        raise UserError(
            f"the rerun failed (exit status {status}), see above; it ran "
            f"`deepnets {' '.join(arguments)}` in {study}"
        )


def ask_environment(root: Path, environment: Mapping[str, str]) -> Asked | None:
    """Environment and libraries that a training with the code below `root` would record here.

    None where that code cannot say so: an old version, or one that does not run here.
    """
    # Before the folders of the package, all of it was in one module.
    code = (
        "import json\n"
        "try:\n"
        "    from deepnets.networks import runtime\n"
        "    from deepnets.records import machine\n"
        "except ImportError:\n"
        "    from deepnets import runtime\n"
        "    machine = runtime\n"
        "runtime.prepare()\n"
        "print(json.dumps([machine.describe(), machine.training_versions()]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **_code_of(root, environment)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        return None
    described, versions = json.loads(ended.stdout)
    return described, versions


def _code_of(root: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variable by which a process with `environment` uses the code below `root`."""
    path = [str(root / "src"), environment.get("PYTHONPATH")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, path))}


@contextmanager
def _orderly() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the block as Ctrl-C does, so that it cleans up."""
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # nohup asks for some to be ignored.
    heard = [which for which in signals if signal.getsignal(which) is not signal.SIG_IGN]
    before = {which: signal.signal(which, signal.default_int_handler) for which in heard}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
