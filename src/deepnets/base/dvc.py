"""DVC, as a program that this one starts."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from deepnets.base import lifeline

# `python -m dvc`, whose --quiet hides its errors as well: it is a level of its log.
_QUIET = (
    "import logging, sys; logging.CRITICAL = logging.ERROR; "
    "from dvc.cli import main; sys.exit(main())"
)


def available() -> bool:
    """Whether DVC is installed here; without it the stages are run one by one."""
    return find_spec("dvc") is not None


def run(*arguments: str, folder: Path) -> int:
    """Run DVC in `folder` so that its stages use this very Python; returns its exit status.

    Quiet or not, it says why it fails.
    """
    program = ["-c", _QUIET] if "--quiet" in arguments else ["-m", "dvc"]
    command = [sys.executable, *program, *arguments]
    return subprocess.run(command, cwd=folder, env=_environment(), check=False).returncode


def output(*arguments: str, folder: Path) -> str | None:
    """What DVC prints, run likewise; None where it fails, of which it says why."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=_environment(), check=False, stdout=subprocess.PIPE, text=True
    )
    return None if done.returncode else done.stdout


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "true"} | lifeline.environment()
