"""Starts the process that carries a run's files to MLflow while they are being written.

The process is a separate one so that neither MLflow's start-up, nor its memory, nor a slow or
dead tracking server can touch the training: it only ever reads files. See follower.py.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec

from deepnets.base import project
from deepnets.tracking.trainings import TrackedTraining

# The last transfer, of a model to a server that does answer, may take a hundredth of the time of
# what was followed, and this long after something short. (A silent server is given up much
# earlier, by the tracking process itself.)
PATIENCE_SECONDS = 60
_SHARE = 0.01

# Exit status of a tracking process that has printed its warning.
WARNED = 3

# Set where trainings run that the store cannot be reached from, and somebody else will publish.
UNFOLLOWED = "DEEPNETS_UNFOLLOWED"

# What this process has said, and says once only.
_said: set[str] = set()
_UNREACHABLE = "MLflow cannot be reached"


def available() -> bool:
    """Whether MLflow is installed here; without it a run has its files only."""
    return find_spec("mlflow") is not None


def warning(why: str) -> str:
    """The one line that says that MLflow lacks something, and what to do about it."""
    return (
        f"MLflow at {project.public_uri()} {why}: nothing is lost; mend that, then run "
        "`deepnets publish`"
    )


@contextmanager
def following(training: TrackedTraining) -> Iterator[None]:
    """Keep MLflow level with `training` during the block, and once more when it has succeeded.

    The process learns of the end through its standard input: the word `finished` or `failed`, or
    nothing at all if this process was killed.
    """
    if UNFOLLOWED in os.environ:
        yield
        return
    if not available():
        missing = (
            "mlflow is not installed here: nothing is logged, all results are in files; "
            "`deepnets publish` on a machine that has it sends the runs later"
        )
        if missing not in _said:
            print(missing, flush=True)
        _said.add(missing)
        yield
        return
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "deepnets.tracking.follower"],
        stdin=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    _tell(process, replace(training, warned=_UNREACHABLE in _said).to_json())
    try:
        yield
    except BaseException:
        _tell(process, "failed")
        raise
    else:
        _tell(process, "finished")
    finally:
        _close(process, max(PATIENCE_SECONDS, _SHARE * (time.monotonic() - started)))


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except OSError:
        # It has ended early; `_close` sees how.
        return


def _close(process: "subprocess.Popen[str]", patience: float) -> None:
    """Wait for the process, at most `patience` seconds; say so if MLflow is not level now."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()
    try:
        status = process.wait(patience)
        why = f"was not brought level (its process ended with {status})"
    except subprocess.TimeoutExpired:
        process.kill()
        status, why = None, f"did not take everything within {patience:.0f} s"
    if status not in (0, WARNED) and _UNREACHABLE not in _said:
        print(warning(why), file=sys.stderr, flush=True)
    if status != 0:
        _said.add(_UNREACHABLE)
