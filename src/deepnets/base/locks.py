"""One process a run: whoever works on a run's files holds a lock that ends with the process.

Its trainings, a seed each, have locks of their own, so that several can be worked on at a time.
Whoever holds the run holds them all.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from deepnets.base import files
from deepnets.base.errors import UserError

# A process whose dvc has just been killed needs a moment to notice it and to end.
_PATIENCE_SECONDS = 3.0


@contextmanager
def held(name: str) -> Iterator[None]:
    """Hold the run `name` of the study at hand, with all its seeds, during the block.

    The lock is the operating system's, so that it ends with its process, however that ends. What
    stands in `holder.json` beside it is only for people.

    Raises:
        UserError: another process holds it; the message says which one.
    """
    with ExitStack() as stack:
        stack.enter_context(_locked(_folder(name), name))
        for folder in sorted(_folder(name).glob("seed-*")):
            stack.enter_context(_locked(folder, f"{name}, {folder.name.replace('-', ' ')},"))
        yield


@contextmanager
def held_seed(name: str, seed: int) -> Iterator[None]:
    """Hold one training of the run `name` during the block, as `held`."""
    with ExitStack() as stack:
        # Who holds all of the run has looked for trainings before this one.
        with _locked(_folder(name), name):
            folder = _folder(name) / f"seed-{seed}"
            stack.enter_context(_locked(folder, f"{name}, seed {seed},"))
        yield


@contextmanager
def _locked(folder: Path, what: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS)
    except Timeout:
        raise UserError(f"{what} is being worked on by {_holder(folder)}") from None
    holder = folder / "holder.json"
    try:
        files.write_json(
            holder,
            {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "command": " ".join(["deepnets", *sys.argv[1:]]),
                "started": datetime.now().isoformat(timespec="seconds"),
            },
        )
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _folder(name: str) -> Path:
    return Path("checkpoints") / name


def _holder(folder: Path) -> str:
    """Who holds the lock in `folder`, and what to do about it."""
    try:
        owner: dict[str, Any] = json.loads((folder / "holder.json").read_text())
        started = owner["started"].replace("T", " ")
        who = f"`{owner['command']}` (process {owner['pid']} on {owner['host']}, since {started})"
        pid = int(owner["pid"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "another process: wait until it ends, or end it"
    return (
        f"{who}: wait until it ends, or end it with `kill {pid}`, which loses at most the "
        "epoch at hand"
    )
