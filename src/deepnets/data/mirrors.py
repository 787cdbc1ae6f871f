"""Fetching pinned files: first where the user says, then the public mirrors, each with retries.

A file counts only if its content has the pinned digest. MNIST is pinned by its pixels and labels
alone, so that the container it comes in (Keras' mnist.npz, or the four IDX files, packed or
not) does not matter. Containers are unpacked in memory, no further than what is pinned is long,
and never unpickled.
"""

import gzip
import hashlib
import io
import math
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import unquote_to_bytes

import numpy as np
import requests
from numpy.typing import NDArray
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3.util.retry import Retry

from deepnets.base import files, progress
from deepnets.base.errors import UserError

# A directory or a base URL that is tried before the public mirrors.
VARIABLE = "DEEPNETS_MIRROR"

# sha256 of the pixels and labels alone (an IDX file without its header).
MNIST_DIGESTS = {
    "train_images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "train_labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}

_IDX_NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
_NPZ_MEMBERS = {
    "train_images": "x_train",
    "train_labels": "y_train",
    "test_images": "x_test",
    "test_labels": "y_test",
}
_SHAPES = {
    "train_images": (60_000, 28, 28),
    "train_labels": (60_000,),
    "test_images": (10_000, 28, 28),
    "test_labels": (10_000,),
}

# The mirrors that Keras, TensorFlow Datasets and torchvision use.
MNIST_MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist",
)


@dataclass(frozen=True)
class PinnedFile:
    """A file with its pinned digest (Keras pins md5), and the mirrors, or folders, that hold it."""

    name: str
    digest: str
    mirrors: tuple[str, ...]
    algorithm: str = "md5"

    @staticmethod
    def at(source: str, sha256: str) -> "PinnedFile":
        """The file at `source`: an address, a path, or a bare name, which no mirror holds."""
        address, mark, query = source.partition("?") if _is_url(source) else (source, "", "")
        folder, slash, name = address.rpartition("/")
        place = f"{folder or slash}{mark}{query}"
        return PinnedFile(name, sha256, (place,) if slash else (), "sha256")


# keras/src/applications/vgg16.py and resnet.py
IMAGENET = {
    "vgg16": PinnedFile(
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "6d6bbae143d832006294945121d1f1fc",
        ("https://storage.googleapis.com/tensorflow/keras-applications/vgg16",),
    ),
    "resnet50": PinnedFile(
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "4d473c1dd8becc155b73f8504c6f6626",
        ("https://storage.googleapis.com/tensorflow/keras-applications/resnet",),
    ),
}

_TIMEOUT = (10, 60)
# Waits of 1, 2 and 4 seconds between tries, also for the server errors that pass.
_RETRIES = Retry(
    total=3,
    backoff_factor=1,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=["GET"],
    # A mirror may ask for hours; the next one is a better answer.
    respect_retry_after_header=False,
)
# What is counted is what is sent, without a compression that the length does not describe.
_HEADERS = {"Accept-Encoding": "identity"}
# Nearly three times the largest file, ResNet50's weights: who sends more is not sending what we
# asked for.
_LARGEST = 1 << 28
# More than the header of an array takes, in IDX or in .npy.
_HEADER = 1 << 10

Arrays = dict[str, NDArray[np.uint8]]
T = TypeVar("T")


class _UnusableError(Exception):
    """What a source offers is damaged or not what is pinned."""


class _AbsentError(_UnusableError):
    """The source does not have the file at all."""


class _DamagedError(_UnusableError):
    """The source has the file, but not with the content that is pinned."""


def mnist(nearby: Sequence[Path] = (), mirrors: Sequence[str] = MNIST_MIRRORS) -> Arrays:
    """Fetch MNIST from the first source that has it whole.

    Args:
        nearby: folders of .npy arrays, as download writes them, that are looked at before all.
        mirrors: base URLs, tried in this order after DEEPNETS_MIRROR.

    Returns:
        train_images uint8 (60000, 28, 28), train_labels uint8 (60000,), test_images and
        test_labels likewise with 10000.

    Raises:
        UserError: no source has it; the message lists what was tried and how each failed.
    """
    return _first(_sources(nearby, mirrors), _mnist_from, "MNIST")


def weights(pinned: PinnedFile, target: Path, what: str) -> None:
    """Fetch the no-top weights `pinned`, for messages `what`, to `target`, unless they are there.

    Raises:
        UserError: no source has them; the message lists what was tried and how each failed.
    """
    if target.is_file() and files.file_digest(target, pinned.algorithm) == pinned.digest:
        return
    files.require_room(target.parent, 100 * 2**20, what)

    def fetch(source: str) -> bytes:
        content = _read(source, pinned.name)
        received = hashlib.new(pinned.algorithm, content, usedforsecurity=False).hexdigest()
        if received != pinned.digest:
            raise _DamagedError(
                f"{pinned.name} has {pinned.algorithm} {received}, expected {pinned.digest}"
            )
        return content

    sources = _sources([], pinned.mirrors)
    files.write_bytes(target, _first(sources, fetch, what))


def check(name: str, array: NDArray[Any]) -> None:
    """Refuse an array that is not MNIST's `name`, by its digest."""
    received = files.array_digest(np.atleast_1d(array))
    if array.dtype != np.uint8 or array.shape != _SHAPES[name] or received != MNIST_DIGESTS[name]:
        raise _DamagedError(
            f"{name} {array.dtype} {array.shape} has sha256 {received[:12]}..., "
            f"expected uint8 {_SHAPES[name]} with {MNIST_DIGESTS[name][:12]}..."
        )


def _sources(nearby: Sequence[Path], mirrors: Sequence[str]) -> list[str]:
    chosen = os.environ.get(VARIABLE, "").strip()
    return [
        *(str(folder) for folder in nearby if any(folder.glob("*.npy"))),
        *([chosen] if chosen else []),
        *mirrors,
    ]


def _first(sources: Sequence[str], fetch: Callable[[str], T], what: str) -> T:
    failures = []
    for source in sources:
        try:
            return fetch(source)
        except _UnusableError as error:
            failures.append(f"{_shown(source)}: {error}")
            print(f"{what}: not from {failures[-1]}", flush=True)
    raise UserError(
        f"{what} could not be fetched ({'; '.join(failures) or 'no source is named'}): on a "
        f"machine without internet, set {VARIABLE} to a directory or URL that holds the files"
    )


def _mnist_from(source: str) -> Arrays:
    damaged = []
    for container in (_mnist_from_npz, _mnist_from_idx, _mnist_from_npy):
        try:
            arrays = container(source)
            for name, array in arrays.items():
                check(name, array)
        except _AbsentError:
            continue
        except _DamagedError as error:
            damaged.append(error)
            continue
        return arrays
    if damaged:
        raise damaged[0]
    raise _AbsentError(f"neither mnist.npz nor {_IDX_NAMES['train_images']}(.gz) there")


def _mnist_from_npz(source: str) -> Arrays:
    content = _read(source, "mnist.npz")
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name, member in _NPZ_MEMBERS.items():
                with archive.open(f"{member}.npy") as packed:
                    arrays[name] = _load_npy(_unpack(packed))
    except Exception as error:  # a parser of damaged bytes may raise anything
        raise _DamagedError(f"mnist.npz is damaged ({_one_line(error)})") from None
    return arrays


def _mnist_from_idx(source: str) -> Arrays:
    return {
        name: _parse_idx(content, name)
        for name, content in _together(_IDX_NAMES, lambda name: _read_idx(source, name)).items()
    }


def _mnist_from_npy(source: str) -> Arrays:
    names = {name: f"{name}.npy" for name in MNIST_DIGESTS}
    return {
        name: _parse_npy(content, names[name])
        for name, content in _together(names, lambda name: _read(source, names[name])).items()
    }


def _together(names: Iterable[str], read: Callable[[str], bytes]) -> dict[str, bytes]:
    """Read files that belong together: once the first is there, the others must be too."""
    contents: dict[str, bytes] = {}
    for name in names:
        try:
            contents[name] = read(name)
        except _AbsentError as error:
            if not contents:
                raise
            raise _DamagedError(str(error)) from None
    return contents


def _read_idx(source: str, name: str) -> bytes:
    file = _IDX_NAMES[name]
    try:
        packed = _read(source, f"{file}.gz")
    except _AbsentError:
        return _read(source, file)
    try:
        with gzip.open(io.BytesIO(packed)) as stream:
            return _unpack(stream)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _DamagedError(f"{file}.gz is damaged ({_one_line(error)})") from None


def _unpack(stream: gzip.GzipFile | IO[bytes]) -> bytes:
    """What `stream` holds, which may be no longer than the largest array."""
    limit = max(math.prod(shape) for shape in _SHAPES.values()) + _HEADER
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"unpacked it has more than {limit:,} bytes")
    return content


def _parse_idx(content: bytes, name: str) -> NDArray[np.uint8]:
    shape = _SHAPES[name]
    pixels = np.frombuffer(content, np.uint8, offset=min(4 + 4 * len(shape), len(content)))
    if pixels.size != math.prod(shape):
        raise _DamagedError(
            f"{_IDX_NAMES[name]} holds {pixels.size:,} bytes after its header, "
            f"expected {math.prod(shape):,}"
        )
    return pixels.reshape(shape)


def _parse_npy(content: bytes, file: str) -> NDArray[Any]:
    try:
        return _load_npy(content)
    except Exception as error:  # a parser of damaged bytes may raise anything
        raise _DamagedError(f"{file} is damaged ({_one_line(error)})") from None


def _load_npy(content: bytes) -> NDArray[Any]:
    """The array in a .npy file. Unlike `np.load` it makes no room for what is not there."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"expected version 1.0 of .npy, received {version}")
    shape, in_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError("it holds objects, expected numbers")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"its header says {dtype} {shape}, which is not what follows")
    array = np.frombuffer(content, dtype, offset=stream.tell())
    return array.reshape(shape, order="F" if in_columns else "C")


def _read(source: str, name: str) -> bytes:
    """The bytes of `name` at `source`, a directory or a base URL."""
    if _is_url(source):
        return _download(source, name)
    # Unlike Path.expanduser, this leaves the home of an unknown user as it stands.
    path = Path(os.path.expanduser(source.removeprefix("file://"))) / name  # noqa: PTH111
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _UnusableError(f"{name} cannot be read (not a file)")
        if found.st_size > _LARGEST:
            raise _UnusableError(f"{name} is larger than {_LARGEST:,} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise _AbsentError(f"no {name} there") from None
    except OSError as error:
        raise _UnusableError(f"{name} cannot be read ({error.strerror})") from None


def _download(source: str, name: str) -> bytes:
    url, auth = _address(source, name)
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=_RETRIES))
    content = bytearray()
    try:
        with session.get(
            url, stream=True, timeout=_TIMEOUT, headers=_HEADERS, auth=auth
        ) as response:
            if response.status_code in (403, 404):
                raise _AbsentError(f"no {name} there (HTTP {response.status_code})")
            response.raise_for_status()
            size = _announced(response)
            with progress.bar(size, name, "B") as bar:
                for chunk in response.iter_content(1 << 18):
                    content += chunk
                    bar.update(len(chunk))
                    if len(content) > _LARGEST:
                        raise _UnusableError(f"{name} is larger than {_LARGEST:,} bytes")
            if size and len(content) != size:
                raise _UnusableError(f"{name} broke off after {len(content):,} of {size:,} bytes")
    # Not every odd address ends as an exception of requests' own.
    except (requests.RequestException, ValueError) as error:
        noise = r"\(?Caused by |0x[0-9a-f]+|https?://\S+|with url: \S+"
        reason = re.sub(noise, "", _one_line(error))
        raise _UnusableError(f"{name}: {type(error).__name__} {reason[:100]}".strip()) from None
    return bytes(content)


def _is_url(source: str) -> bool:
    return re.match("https?://", source, re.IGNORECASE) is not None


def _address(source: str, name: str) -> tuple[str, HTTPBasicAuth | None]:
    """The URL of `name` below the base URL `source`, and the user's name and password for it.

    The URL is without them, so that no library can show them in a message. A query (some stores
    take a signature so) stays at the end.
    """
    scheme, _, rest = source.partition("://")
    host, _, path = rest.partition("/")
    user, at, host = host.rpartition("@")
    if "@" in path:
        raise _UnusableError(
            "the URL has an @ after the host: write / and @ in a name, a password or a path as "
            "%2F and %40"
        )
    path, _, query = path.partition("?")
    folder = f"{host}/{path}".rstrip("/")
    url = f"{scheme}://{folder}/{name}{f'?{query}' if query else ''}"
    key, _, password = user.partition(":")
    auth = HTTPBasicAuth(unquote_to_bytes(key), unquote_to_bytes(password))
    return url, auth if at else None


def _shown(source: str) -> str:
    """`source` for messages: without a user's name, a password, or what may be a signature."""
    scheme, mark, rest = source.partition("://") if "://" in source else ("", "", source)
    hidden, at, open_part = rest.rpartition("@")
    if at and (mark or ":" in hidden):
        rest = f"***@{open_part}"
    return _one_line(f"{scheme}{mark}{rest.partition('?')[0] if mark else rest}", 1000)


def _one_line(text: object, length: int = 120) -> str:
    return " ".join(str(text).split())[:length]


def _announced(response: requests.Response) -> int:
    """Bytes to expect; 0 where the mirror does not say or compresses all the same."""
    length = response.headers.get("Content-Length", "")
    compressed = response.headers.get("Content-Encoding", "identity") != "identity"
    return int(length) if length.isdecimal() and not compressed else 0
