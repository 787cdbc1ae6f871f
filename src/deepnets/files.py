"""Writing files whole or not at all, checking that they can be written, and digesting them."""

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepnets.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` if the block succeeds.

    The temporary name ends like `path` (Keras and Matplotlib choose a format by it) and starts
    with a dot. A block that fails leaves `path` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON with a closing newline; keys keep their order."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or damaged one is a `UserError` that names it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the stage that writes it (`dvc repro`)") from None
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}): delete it and run `dvc repro` again"
        ) from None


def write_csv(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write `rows` (all with the keys `columns`) with a header line.

    Floats are written with `repr`, so that reading them back gives the same bits.
    """
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, float]]:
    """The rows of a file that `write_csv` wrote, all values as floats."""
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write `array` as .npy, whole or not at all, without pickling."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path) -> NDArray[Any]:
    """Map the .npy file at `path` into memory, read-only; never unpickles.

    Raises:
        UserError: the file is missing, damaged or truncated.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro preprocess` to make it") from None
    except Exception as error:  # a parser of damaged bytes may raise anything
        raise UserError(
            f"{path} is not a whole .npy array ({error}): delete it and run `dvc repro` again"
        ) from None
    return array


def array_digest(array: NDArray[Any]) -> str:
    """sha256 of the array's raw bytes in C order, as hex."""
    digest = hashlib.sha256()
    for start in range(0, len(array), 4096):
        digest.update(np.ascontiguousarray(array[start : start + 4096]).data)
    return digest.hexdigest()


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()


def require_room(folder: Path, size: int, purpose: str) -> None:
    """Check, before long work, that `folder` can be written and has `size` bytes free.

    Raises:
        UserError: it is read-only, not a folder, or too full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror}), where {purpose} go: "
            "make it writable or work in another folder"
        ) from None
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(
            f"{folder} has {free / 2**20:,.0f} MiB free, {purpose} need about "
            f"{size / 2**20:,.0f} MiB: free some space and run the same command again"
        )


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
