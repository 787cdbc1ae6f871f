"""The arrays of a data set, from whatever container they come in.

A container is a header and the pixels or labels, packed or not: Keras' .npz, an IDX file, or a .npy
file. The digest of the pixels decides, so no header is believed, and nothing is ever unpickled.
"""

import gzip
import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import numpy as np
from numpy.typing import NDArray

from deepnets.base import files
from deepnets.base.errors import UserError, one_line
from deepnets.config import registry
from deepnets.config.registry import DataSet
from deepnets.data import mirrors

Arrays = dict[str, NDArray[np.uint8]]

# By array: its member in Keras' .npz, and its IDX file.
NAMES = {
    "train_images": ("x_train.npy", "train-images-idx3-ubyte"),
    "train_labels": ("y_train.npy", "train-labels-idx1-ubyte"),
    "test_images": ("x_test.npy", "t10k-images-idx3-ubyte"),
    "test_labels": ("y_test.npy", "t10k-labels-idx1-ubyte"),
}

# More than the header of an array takes, in IDX or in .npy.
_HEADER = 1 << 10


def load(name: str, nearby: Sequence[Path] = ()) -> Arrays:
    """The arrays of the data set `name`, images uint8 (n, 28, 28) and labels uint8 (n,).

    Args:
        name: as in `download.source`.
        nearby: folders of .npy files, as download writes them, that are looked at first.

    Raises:
        UserError: no place has them, or what has been found is not what is pinned.
    """
    data = registry.data_sets()[name]
    if data.made_by is None:
        return _fetch(name, data, nearby)
    arrays: Arrays = data.made_by()
    for array, expected in data.sha256.items():
        if files.array_digest(arrays[array]) != expected:
            raise UserError(
                f"{name}'s {array} are not those that this project knows: expected sha256 "
                f"{expected[:12]}...; install the version in requirements.lock (`make setup`)"
            )
    return arrays


def _fetch(name: str, data: DataSet, nearby: Sequence[Path]) -> Arrays:
    def fetch(place: str) -> Arrays:
        with TemporaryDirectory() as folder:
            return {array: _read(place, name, data, array, Path(folder)) for array in NAMES}

    known = [str(folder) for folder in nearby if any(folder.glob("*.npy"))]
    return mirrors.fetch_from_first(data.addresses, fetch, data.title, known)


def _read(place: str, name: str, data: DataSet, array: str, folder: Path) -> NDArray[np.uint8]:
    """One array, from the first container at `place` that holds it; `folder` gets their files."""
    size, expected = data.size(array), data.sha256[array]
    wrong = []
    for file in (f"{name}.npz", f"{NAMES[array][1]}.gz", NAMES[array][1], f"{array}.npy"):
        try:
            path = mirrors.copy(place, file, folder)
        except mirrors.AbsentError:
            continue
        try:
            with _open(path, array) as stream:
                content = stream.read(size + _HEADER)[-size:]
        except Exception as error:  # a parser of damaged bytes may raise anything
            wrong.append(f"{file} is damaged ({one_line(error, 100)})")
            continue
        received = hashlib.sha256(content).hexdigest()
        if received == expected:
            return np.frombuffer(content, np.uint8).reshape(data.shape(array))
        wrong.append(
            f"{file} holds other {array}: expected {size:,} bytes with sha256 {expected[:12]}..., "
            f"received {len(content):,} with {received[:12]}..."
        )
    if wrong:
        raise mirrors.UnusableError(wrong[0])
    raise mirrors.AbsentError(f"neither {name}.npz nor {NAMES[array][1]}(.gz) there")


@contextmanager
def _open(path: Path, array: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """What the container at `path` holds of the array, unpacked as it is read."""
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive, archive.open(NAMES[array][0]) as member:
            yield member
    else:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
