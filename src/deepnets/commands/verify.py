"""`make verify`: is what is installed here what requirements.lock says, and is it unchanged?

pip and uv check the hash of every archive that they install, and note that of every file in it
(RECORD, https://packaging.python.org/specifications/recording-installed-packages/). Here both are
compared again: names and versions with the lock, files with their RECORD. It finds upgrades,
leftovers, edits and rot; who can write a file can write its RECORD too. It needs little more than
Python, since what it looks at may be broken.
"""

import base64
import csv
import hashlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import Distribution, distributions
from pathlib import Path

from deepnets.base import project

LOCK = "requirements.lock"
# Additions that the project itself makes, when asked: `make gpu` and `make bench`.
ADDITIONS = ("requirements-gpu.lock", "benchmarks/requirements.txt")
# The project itself, and what every new environment has.
_NOT_LOCKED = {"deepnets", "pip"}

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)(?: ; ([^\\\n]+?))? ?\\?$", re.M)


def main() -> int:
    """Print a line for every difference; returns the exit status: 0 for none, else 1."""
    root = project.root()
    try:
        found = differences(
            pinned((root / LOCK).read_text()),
            [pinned((root / name).read_text()) for name in ADDITIONS if (root / name).is_file()],
            list(distributions()),
        )
    except (ImportError, OSError) as error:
        print(f"verify: {error}: run `make setup` in the project's root", file=sys.stderr)
        return 1
    for line in found:
        print(line)
    if found:
        said = f"{len(found)} differences" if len(found) > 1 else "1 difference"
        print(
            f"verify: {said} from {LOCK} in {sys.prefix}: "
            "`rm -rf .venv` and `make setup` make it anew",
            file=sys.stderr,
        )
        return 1
    print(f"{sys.prefix} is what {LOCK} says, every file as it was installed")
    return 0


def pinned(lock: str) -> dict[str, str]:
    """Version by normalised name of what the text of a lock file has installed on this machine."""
    from packaging.markers import Marker

    return {
        _normal(name): version
        for name, version, marker in _PINNED.findall(lock)
        if not marker or Marker(marker).evaluate()
    }


def differences(
    locked: Mapping[str, str],
    additions: Sequence[Mapping[str, str]],
    installed: Iterable[Distribution],
) -> list[str]:
    """What is otherwise than it should be, a line each, by name.

    Args:
        locked: version by name of what has to be there.
        additions: the same of what may be there as well.
        installed: what is there.
    """
    by_name: dict[str, list[Distribution]] = {}
    for distribution in installed:
        by_name.setdefault(_normal(distribution.metadata["Name"] or "?"), []).append(distribution)
    may_be = {name: version for pins in additions for name, version in pins.items()} | dict(locked)
    lines = [
        f"{name}: expected {version}, received none"
        for name, version in locked.items()
        if name not in by_name
    ]
    known = {name: there for name, there in by_name.items() if name not in _NOT_LOCKED}
    for name, there in known.items():
        received = " and ".join(sorted({str(one.version) for one in there}))
        if name not in may_be:
            lines.append(f"{name}: expected none, received {received}")
        # The archives of other indices may add a label: 2.13.0+cpu.
        elif may_be[name] not in (received, received.partition("+")[0]):
            lines.append(f"{name}: expected {may_be[name]}, received {received}")
    whole = [one for there in known.values() for one in there]
    with ThreadPoolExecutor() as pool:
        lines += [line for line in pool.map(_changed, whole) if line]
    return sorted(lines)


def _changed(distribution: Distribution) -> str | None:
    """A line that names the files of a package that are not as they were installed."""
    name = _normal(distribution.metadata["Name"] or "?")
    record = distribution.read_text("RECORD")
    if record is None:
        return f"{name}: expected a RECORD of its files, received none"
    # `distribution.files` leaves out what is missing, from Python 3.12 on.
    rows = [row for row in csv.reader(record.splitlines()) if len(row) == 3 and row[1]]
    bad = [
        path
        for path, digest, _ in rows
        if not _is_as_recorded(Path(str(distribution.locate_file(path))), digest)
    ]
    if not bad:
        return None
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return (
        f"{name}: expected its files as installed, changed or missing: {', '.join(bad[:3])}{more}"
    )


def _is_as_recorded(path: Path, recorded: str) -> bool:
    """Whether the file is there with the digest `recorded`, which is ALGORITHM=DIGEST."""
    algorithm, _, expected = recorded.partition("=")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, algorithm).digest()
    except (OSError, ValueError):
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == expected


def _normal(name: str) -> str:
    """The one spelling of a package's name that all others count as."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
