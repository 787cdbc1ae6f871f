"""Resume state: one file an epoch, with all variables and the history so far.

A folder of checkpoints belongs to one fingerprint and is named after it; beside it stand those of
other trainings of the same run and seed. The files are plain .npz archives (never pickles); their
members carry checksums and say where they belong, so a truncated, damaged or displaced file is
noticed and the one before it is used.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepnets.base import files
from deepnets.training import scores

# The newest may be damaged by a crash of the machine; the one before it then still counts.
_KEPT = 2

# Of other trainings of a run, for whoever goes back to their parameters or code.
_KEPT_TRAININGS = 2


# Of an epoch: its results, or its times.
Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """A row an epoch: `history` holds results, `timing` the clock."""

    history: list[Row]
    timing: list[Row]


@dataclass(frozen=True)
class Checkpoint:
    """State after `epoch` epochs: values of all variables in their order, and the rows so far."""

    epoch: int
    values: list[NDArray[Any]]
    history: list[dict[str, Any]]
    timing: list[dict[str, Any]]


def save(
    folder: Path,
    variables: Sequence[Any],
    history: list[dict[str, Any]],
    timing: list[dict[str, Any]],
    keep_best: bool = False,
) -> None:
    """Write the state after the last row of `history`, then drop all but the newest two.

    What is there of later epochs cannot be gone on from, or this one would not be trained: it goes.
    With `keep_best` those of the best epochs stay as well, that of `history` and that of the
    history before, which counts again where the newest turns out to be damaged.
    """
    arrays = {f"v{i:05d}": np.asarray(variable) for i, variable in enumerate(variables)}
    path = _path(folder, len(history))
    said = {
        "training": folder.name,
        "history": history,
        "timing": timing,
        "variables": len(arrays),
    }
    with files.replacing(path) as partial, partial.open("wb") as file:
        packed = np.frombuffer(json.dumps(said).encode(), np.uint8)
        np.savez(file, allow_pickle=False, rows=packed, **arrays)
    counting = [history, history[:-1]] if keep_best else []
    best = {_path(folder, scores.best_epoch(rows)) for rows in counting if rows}
    there = _newest_first(folder)
    newest = [other for other in there if other <= path][:_KEPT]
    for other in there:
        if other not in newest and other not in best:
            other.unlink()


def latest(folder: Path, with_best: bool = False) -> Checkpoint | None:
    """The newest whole checkpoint in `folder`; damaged ones are reported and passed over.

    With `with_best` so are those whose best epoch has no whole checkpoint any more.

    Raises:
        PermissionError: one may not be read, which says nothing of what it holds.
    """
    paths = _newest_first(folder)
    for path, before in zip_longest(paths, paths[1:]):
        why = f"{path} is damaged"
        try:
            checkpoint = _read(path)
            why = f"{path} lacks its best epoch"
            if with_best:
                best(folder, checkpoint.history)
            return checkpoint
        except PermissionError:
            raise
        except Exception as error:  # a parser of damaged bytes may raise anything
            then = "going back to the checkpoint before it" if before else "starting afresh"
            print(f"{why} ({error}): {then}", flush=True)
    return None


def best(folder: Path, history: Sequence[Row]) -> Checkpoint:
    """The checkpoint of the best epoch of `history`, of a training that keeps it.

    Raises:
        Exception: of any kind where it is not there, damaged, or of another course of the training.
    """
    epoch = scores.best_epoch(history)
    checkpoint = _read(_path(folder, epoch))
    if checkpoint.history != list(history[:epoch]):
        raise ValueError(f"{_path(folder, epoch).name} has other epochs before it")
    return checkpoint


def drop_older(folder: Path, history: Sequence[Row], keep_best: bool = False) -> None:
    """Remove all but the newest in `folder`, and with `keep_best` but that of the best epoch.

    `history` is that of the training, which has ended.
    """
    kept = _newest_first(folder)[:1]
    if keep_best and history:
        kept.append(_path(folder, scores.best_epoch(history)))
    for path in _newest_first(folder):
        if path not in kept:
            path.unlink()


def exist(folder: Path) -> bool:
    """Whether `folder` holds any checkpoint, be it damaged."""
    return bool(names(folder))


def names(folder: Path) -> list[str]:
    """Those of the checkpoints in `folder`, the newest first."""
    return [path.name for path in _newest_first(folder)]


def restore(checkpoint: Checkpoint, variables: Sequence[Any]) -> None:
    """Assign the checkpoint's values to `variables`, which must be those that were saved."""
    if [v.shape for v in variables] != [v.shape for v in checkpoint.values]:
        raise ValueError("the checkpoint's variables are not those of this training")
    for variable, value in zip(variables, checkpoint.values, strict=True):
        variable.assign(value)


def others(folder: Path) -> list[Path]:
    """The folders beside `folder` that hold checkpoints of other trainings, the newest first."""
    if not folder.parent.is_dir():
        return []
    found = [other for other in folder.parent.iterdir() if other != folder and exist(other)]
    return sorted(found, key=lambda other: other.stat().st_mtime, reverse=True)


def drop_oldest(folder: Path) -> None:
    """Remove what other trainings beside `folder` have left, but for the latest of them."""
    kept = others(folder)[:_KEPT_TRAININGS]
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder and other not in kept:
            shutil.rmtree(other)


def _read(path: Path) -> Checkpoint:
    with np.load(path, allow_pickle=False) as archive:
        rows = json.loads(archive["rows"].tobytes())
        names = sorted(name for name in archive.files if name != "rows")
        values = [archive[name] for name in names]
    belongs = _path(path.parent.with_name(rows["training"]), len(rows["history"]))
    if path != belongs:
        raise ValueError(f"it is {belongs.parent.name}/{belongs.name}, put in another's place")
    if len(values) != rows["variables"]:
        raise ValueError(f"{len(values)} of {rows['variables']} variables are there")
    return Checkpoint(len(rows["history"]), values, rows["history"], rows["timing"])


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:05d}.npz"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.npz"), reverse=True)
