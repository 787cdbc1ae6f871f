"""A command ends with the dvc, mlflow or deepnets that started it.

Killed, those leave what they have started to itself: a training that nobody waits for, which the
next `dvc repro` would run into. Here it notices, and ends as if it had been killed with them; what
it has finished is in its checkpoint.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil

from deepnets.base import processes

_PROGRAMS = ("dvc", "mlflow", "deepnets")

# By which a deepnets that has started dvc makes itself known to what dvc starts in its turn. DVC
# goes on with its next stage when the one at hand has ended, whoever has been killed above it.
_VARIABLE = "DEEPNETS_STARTED_BY"

# Seconds between two looks.
_INTERVAL = 0.5


def end_with_parents() -> None:
    """Watch, in the background, the programs that this process was started by.

    If one of them has ended before, this process ends at once.
    """
    watched = _ancestors()
    started_by = os.environ.get(_VARIABLE, "")
    if started_by:
        watched.add(started_by)
    if watched:
        threading.Thread(target=_watch, args=[watched], daemon=True).start()


def end_in_order() -> None:
    """Have SIGTERM end this process as Ctrl-C does, with the status of one that it has ended.

    A cluster's scheduler sends it, and kills all that is left as soon as this process has ended:
    what follows a training in MLflow would not get to say that it has stopped.
    """
    # nohup and the like ask for signals to be ignored.
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _: object) -> None:
    sys.exit(128 + number)


def environment() -> dict[str, str]:
    """What the dvc that this process starts is to hand down to its stages."""
    return {_VARIABLE: processes.identity()}


def _ancestors() -> set[str]:
    """The processes above this one that are one of `_PROGRAMS`."""
    try:
        above = psutil.Process().parents()
        return {processes.identity(process) for process in above if _is_one(process)}
    except psutil.Error:
        return set()


def _is_one(process: psutil.Process) -> bool:
    """Whether `process` is `dvc ...`, `python -m dvc ...`, `python .../bin/dvc ...` and so on.

    Of other programs, these may be files or folders that they were given: `vim deepnets`.
    """
    try:
        program, *words = process.cmdline()[:3]
    except (psutil.Error, ValueError):  # a thread of the kernel has no words
        return False
    if Path(program).name.lower().startswith("python"):
        program = next((word for word in words if not word.startswith("-")), "")
    return Path(program).name in _PROGRAMS


def _watch(watched: set[str]) -> None:
    while not any(processes.has_ended(process) for process in watched):
        time.sleep(_INTERVAL)
    print(
        "what started this command has ended, so it ends as well; run it again, and it "
        "continues where it stopped",
        file=sys.stderr,
        flush=True,
    )
    os.kill(os.getpid(), signal.SIGTERM)
