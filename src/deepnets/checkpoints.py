"""Resume state: one file an epoch, with all variables and the history so far.

A folder of checkpoints belongs to one fingerprint. The files are plain .npz archives (never
pickles); their members carry checksums, so a truncated or damaged file is noticed and the one
before it is used.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepnets import files

# The newest may be damaged by a crash of the machine; the one before it then still counts.
_KEPT = 2


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
) -> None:
    """Write the state after the last row of `history`, then drop all but the newest two."""
    arrays = {f"v{i:05d}": np.asarray(variable) for i, variable in enumerate(variables)}
    rows = {"history": history, "timing": timing, "variables": len(arrays)}
    path = folder / f"epoch-{len(history):05d}.npz"
    with files.replacing(path) as partial, partial.open("wb") as file:
        packed = np.frombuffer(json.dumps(rows).encode(), np.uint8)
        np.savez(file, allow_pickle=False, rows=packed, **arrays)
    for old in _newest_first(folder)[_KEPT:]:
        old.unlink()


def latest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint in `folder`; damaged ones are reported and passed over."""
    for path in _newest_first(folder):
        try:
            return _read(path)
        except Exception as error:  # a parser of damaged bytes may raise anything
            print(f"{path} is damaged ({error}): going back to the checkpoint before it")
    return None


def restore(checkpoint: Checkpoint, variables: Sequence[Any]) -> None:
    """Assign the checkpoint's values to `variables`, which must be those that were saved."""
    if [v.shape for v in variables] != [v.shape for v in checkpoint.values]:
        raise ValueError("the checkpoint's variables are not those of this training")
    for variable, value in zip(variables, checkpoint.values, strict=True):
        variable.assign(value)


def drop_others(folder: Path) -> None:
    """Remove the checkpoints of other fingerprints beside `folder`, once it is finished."""
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other)


def _read(path: Path) -> Checkpoint:
    with np.load(path, allow_pickle=False) as archive:
        rows = json.loads(archive["rows"].tobytes())
        names = sorted(name for name in archive.files if name != "rows")
        values = [archive[name] for name in names]
    if len(values) != rows["variables"]:
        raise ValueError(f"{len(values)} of {rows['variables']} variables are there")
    return Checkpoint(len(rows["history"]), values, rows["history"], rows["timing"])


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.npz"), reverse=True)
