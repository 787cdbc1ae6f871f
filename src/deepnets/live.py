"""Starts the process that carries a run's files to MLflow while they are being written.

The process is a separate one so that neither MLflow's start-up, nor its memory, nor a slow or
dead tracking server can touch the training: it only ever reads files. See tracking.py.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from deepnets.project import RunFiles

# The tracking process gets this long to finish its last transfer before it is left behind.
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Record:
    """What the tracking process is told: a run's files, and where in MLflow they belong.

    `seed` is the one that this is about, of `seeds` that the run has. `live` holds the files of
    the epochs finished so far; the final ones are in the folders of `files`. `mlflow_run_id` names
    a run to use that exists already (that of `mlflow run`).
    """

    files: RunFiles
    experiment: str
    seed: int
    seeds: int
    live: Path | None = None
    mlflow_run_id: str | None = None

    def to_json(self) -> str:
        """The record as one line."""
        return json.dumps(asdict(self), default=str)

    @staticmethod
    def from_json(line: str) -> "Record":
        """The inverse of `to_json`."""
        content = json.loads(line)
        paths = content.pop("files")
        live = content.pop("live")
        return Record(
            files=RunFiles(paths.pop("name"), **{key: Path(value) for key, value in paths.items()}),
            live=Path(live) if live else None,
            **content,
        )


def available() -> bool:
    """Whether MLflow is installed here; without it a run has its files only."""
    return find_spec("mlflow") is not None


@contextmanager
def following(record: Record) -> Iterator[None]:
    """Keep MLflow level with `record` during the block, and once more when it has succeeded.

    The process learns of the end through its standard input: the word `finished` or `failed`, or
    nothing at all if this process was killed.
    """
    if not available():
        _say_once(
            "mlflow is not installed here: nothing is logged, all results are in files; "
            "`deepnets publish` on a machine that has it sends the grid's runs later"
        )
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "deepnets.tracking"],
        stdin=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    _tell(process, record.to_json())
    try:
        yield
    except BaseException:
        _tell(process, "failed")
        raise
    else:
        _tell(process, "finished")
    finally:
        _close(process)


@cache
def _say_once(line: str) -> None:
    print(line, flush=True)


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except OSError:
        # It has ended early and has said why; `publish` brings MLflow level later.
        return


def _close(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        print("MLflow did not answer in time; `deepnets publish` sends what it lacks later")
