"""Curves of trainings that are still going on, where `dvc plots show` draws those of the report."""

import csv
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from deepnets.base import files, project
from deepnets.training.checkpoints import Row

TABLE = project.REPORTS / "history.csv"
COLUMNS = ("run", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")

# Seconds between two writings of a training: epochs on a GPU are shorter, and many run at a time.
_INTERVAL = 2.0
_LOCK = Path("checkpoints") / ".curves.lock"


class LiveCurve:
    """One training's curve in the table, which the report at the end writes anew.

    Args:
        run: what the curve is called there.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._written = -math.inf

    def show(self, history: Sequence[Row]) -> None:
        """Have the epochs so far stand in the table, in the place of what it has of this run."""
        if time.monotonic() - self._written < _INTERVAL:
            return
        rows = [{"run": self._run} | {key: row[key] for key in COLUMNS[1:]} for row in history]
        # No picture is worth a training: who has no right to write there, or no room, sees none.
        with suppress(OSError, Timeout):
            _LOCK.parent.mkdir(exist_ok=True)
            with FileLock(_LOCK, timeout=1):
                files.write_csv(TABLE, [*self._others(), *rows], COLUMNS)
            self._written = time.monotonic()

    def _others(self) -> list[dict[str, str]]:
        if not TABLE.is_file():
            return []
        with TABLE.open(newline="") as file:
            table = csv.DictReader(file)
            if tuple(table.fieldnames or ()) != COLUMNS:
                return []
            return [row for row in table if row["run"] != self._run]
