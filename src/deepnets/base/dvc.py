"""DVC, as a program that this one starts."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from deepnets.base import lifeline

# `python -m dvc`, after what it has no option for.
_MAIN = "import sys; from dvc.cli import main; sys.exit(main())"
# Its --quiet hides its errors as well: it is a level of its log.
_SAY_ERRORS = "import logging; logging.CRITICAL = logging.ERROR; "
_BOOK_NOTHING = "from dvc.dvcfile import Lockfile; Lockfile.dump_stages = lambda *_, **__: None; "


def available() -> bool:
    """Whether DVC is installed here; without it the stages are run one by one."""
    return find_spec("dvc") is not None


def run(*arguments: str, folder: Path, books: bool = True) -> int:
    """Run DVC in `folder` so that its stages use this very Python; returns its exit status.

    Quiet or not, it says why it fails. Unless it `books`, it leaves dvc.lock alone: to put back
    what was there before would take away what another DVC has booked meanwhile.
    """
    before = (_SAY_ERRORS if "--quiet" in arguments else "") + ("" if books else _BOOK_NOTHING)
    program = ["-c", before + _MAIN] if before else ["-m", "dvc"]
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
