"""Fetching pinned files: first where the user says, then from the places that are known for them.

pooch downloads, tries again and compares digests. What it does not know is here: folders beside
addresses, which place comes next, and that no message may show a password or a signature.
"""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

import pooch
import requests
from requests.auth import HTTPBasicAuth

from deepnets.base import files, progress
from deepnets.base.errors import UserError

# A folder or a base URL that is tried before all others.
VARIABLE = "DEEPNETS_MIRROR"

# Waits of 1, 2 and 3 seconds between tries.
_RETRIES = 3
# Seconds to connect, and between two pieces of an answer.
_TIMEOUT = (10, 60)

# It would tell whole addresses, with what may be a signature.
pooch.get_logger().setLevel("WARNING")

T = TypeVar("T")
# Writes what is at an address or a path to a file; pooch passes itself as well.
Read = Callable[[str, str, Any], None]


class UnusableError(Exception):
    """What a place offers cannot be read, or is not what is pinned."""


class AbsentError(UnusableError):
    """The place does not have the file at all."""


def _is_url(place: str) -> bool:
    return re.match("https?://", place, re.IGNORECASE) is not None


@dataclass(frozen=True)
class PinnedFile:
    """A file, its digest (ALGORITHM:HEX; Keras pins md5), and the base URLs or folders it is at."""

    name: str
    digest: str
    places: tuple[str, ...] = ()

    @staticmethod
    def at(source: str, digest: str) -> "PinnedFile":
        """The file at `source`: an address, a path, or a bare name, which is at no known place."""
        address, mark, query = source.partition("?") if _is_url(source) else (source, "", "")
        folder, slash, name = address.rpartition("/")
        place = f"{folder or slash}{mark}{query}"
        return PinnedFile(name, digest, (place,) if slash else ())


def weights(pinned: PinnedFile, target: Path, what: str) -> None:
    """Fetch the weights `pinned`, for messages `what`, to `target`, unless they are there.

    Raises:
        UserError: no place has them; the message lists what was tried and how each failed.
    """
    algorithm, _, digest = pinned.digest.partition(":")
    if target.is_file() and files.file_digest(target, algorithm) == digest:
        return
    files.require_room(target.parent, 100 * 2**20, what)
    with TemporaryDirectory() as folder:

        def fetch(place: str) -> Path:
            return copy(place, pinned.name, Path(folder), pinned.digest)

        files.write_bytes(target, fetch_from_first(pinned.places, fetch, what).read_bytes())


def fetch_from_first(
    places: Sequence[str], fetch: Callable[[str], T], what: str, nearby: Sequence[str] = ()
) -> T:
    """What `fetch` has from the first that has it: `nearby`, the user's choice, `places`.

    Raises:
        UserError: none has it; the message lists what was tried and how each failed.
    """
    chosen = os.environ.get(VARIABLE, "").strip()
    failures = []
    for place in (*nearby, *([chosen] if chosen else []), *places):
        try:
            return fetch(place)
        except UnusableError as error:
            failures.append(f"{_hide_secrets(place)}: {error}")
            print(f"{what}: not from {failures[-1]}", flush=True)
    raise UserError(
        f"{what} could not be fetched ({'; '.join(failures) or 'no source is named'}): on a "
        f"machine without internet, set {VARIABLE} to a directory or URL that holds the files"
    )


def copy(place: str, name: str, folder: Path, digest: str | None = None) -> Path:
    """Copy or download `name` from `place` into `folder`, unless it is there.

    Args:
        place: a folder or a base URL.
        name: of the file.
        folder: where it goes, whole or not at all.
        digest: what it must have, `ALGORITHM:HEX`.

    Raises:
        UnusableError: it cannot be had from there.
    """
    is_url = _is_url(place)
    try:
        address, read = _http_reader(place, name) if is_url else _local_reader(place, name)
        bank = pooch.Pooch(folder, "", {name: digest}, {name: address}, _RETRIES if is_url else 0)
        return Path(bank.fetch(name, downloader=read))
    except (OSError, ValueError) as error:
        raise UnusableError(f"{name}: {_reason(error, digest)}") from None


def _local_reader(place: str, name: str) -> tuple[str, Read]:
    def read(path: str, target: str, _: Any) -> None:
        if not Path(path).is_file():
            raise AbsentError(f"no {name} there")
        shutil.copyfile(path, target)

    # Unlike Path.expanduser, this leaves the home of an unknown user as it stands.
    folder = os.path.expanduser(place.removeprefix("file://"))  # noqa: PTH111
    return str(Path(folder) / name), read


def _http_reader(place: str, name: str) -> tuple[str, Read]:
    url, auth = _address(place, name)

    def read(url: str, target: str, bank: Any) -> None:
        with progress.bar(0, name, "B") as bar:
            http = pooch.HTTPDownloader(progressbar=bar, timeout=_TIMEOUT, auth=auth)
            try:
                http(url, target, bank)
            except requests.HTTPError as error:
                # S3 answers 403 where the caller may not list.
                if error.response.status_code in (403, 404, 410):
                    raise AbsentError(f"no {name} there") from None
                raise

    return url, read


def _reason(error: Exception, digest: str | None) -> str:
    """What went wrong, without the text of `error`: it may hold an address, and so a secret."""
    if isinstance(error, requests.HTTPError):
        return f"HTTP {error.response.status_code}"
    if digest and type(error) is ValueError:
        return f"its digest is not {digest}"
    return getattr(error, "strerror", None) or type(error).__name__


def _address(place: str, name: str) -> tuple[str, HTTPBasicAuth | None]:
    """The URL of `name` below the base URL `place`, and the user's name and password for it.

    The URL is without them, so that no library can show them in a message. A query (some stores
    take a signature so) stays at the end.
    """
    parts = urlsplit(place)
    if "@" in parts.path + parts.query + parts.fragment:
        raise UnusableError("write / ? # and @ in a name or a password as %2F %3F %23 and %40")
    user, at, host = parts.netloc.rpartition("@")
    key, _, password = user.partition(":")
    auth = HTTPBasicAuth(unquote_to_bytes(key), unquote_to_bytes(password)) if at else None
    return parts._replace(netloc=host, path=f"{parts.path.rstrip('/')}/{name}").geturl(), auth


def _hide_secrets(place: str) -> str:
    """`place` for messages: without a user's name, a password, or what may be a signature."""
    scheme, mark, rest = place.partition("://") if "://" in place else ("", "", place)
    hidden, at, open_part = rest.rpartition("@")
    if at and (mark or ":" in hidden):
        rest = f"***@{open_part}"
    return " ".join(f"{scheme}{mark}{rest.partition('?')[0] if mark else rest}".split())
