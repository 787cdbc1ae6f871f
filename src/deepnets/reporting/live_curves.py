"""Curves of trainings that are still going on, where `dvc plots show` draws those of the report."""

import csv
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from deepnets.base import csv_files, files, project
from deepnets.records.results import EPOCH_METRICS
from deepnets.training.checkpoints import Row

TABLE = project.REPORTS / "history.csv"
COLUMNS = ("run", "epoch", *EPOCH_METRICS)

# Seconds between two writings of a training: epochs on a GPU are shorter, and many run at a time.
_INTERVAL = 2.0
_LOCK = Path("checkpoints") / ".curves.lock"


def write(table: str) -> None:
    """Write the table of a report, in the place of all that trainings have written."""
    try:
        with _locked():
            files.write_text(TABLE, table)
    except Timeout:  # a training that hangs while it writes
        files.write_text(TABLE, table)


@contextmanager
def _locked() -> Iterator[None]:
    _LOCK.parent.mkdir(exist_ok=True)
    with FileLock(_LOCK, timeout=1):
        yield


class LiveCurve:
    """One training's curve in the table, which the report at the end writes anew.

    Args:
        run: what the curve is called there.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._written = -math.inf

    def show(self, history: Sequence[Row], at_once: bool = False) -> None:
        """Have the epochs so far stand in the table, in the place of what it has of this run.

        Now and then, unless `at_once`.
        """
        if time.monotonic() - self._written < _INTERVAL and not at_once:
            return
        self._written = time.monotonic()
        rows = [{"run": self._run} | {key: row[key] for key in COLUMNS[1:]} for row in history]
        # No picture is worth a training: who has no right to write there, or no room, sees none.
        with suppress(OSError, Timeout, ValueError, csv.Error), _locked():
            csv_files.write_csv(TABLE, [*self._other_rows(), *rows], COLUMNS)

    def _other_rows(self) -> list[dict[str, str]]:
        if not TABLE.is_file():
            return []
        with TABLE.open(newline="") as file:
            table = csv.DictReader(file)
            if tuple(table.fieldnames or ()) != COLUMNS:
                return []
            return [row for row in table if row["run"] != self._run]
