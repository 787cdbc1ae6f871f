"""`make verify`: is what is installed here what requirements.lock says, and is it unchanged?

`pip check` compares packages with each other, not with a lock, and no installer looks at the files
of what is there already. Here names and versions are compared with the lock, and files with the
digests that the installer has noted (RECORD). It finds upgrades, leftovers, edits and rot; who can
write a file can write its RECORD too.
"""

import base64
import csv
import hashlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from deepnets.base import project

LOCK = "requirements.lock"
# Additions that the project itself makes, when asked: `make gpu`, `make ray`, `make bench`.
ADDITIONS = ("requirements-gpu.lock", "requirements-ray.lock", "benchmarks/requirements.txt")
# The project itself, and what every new environment has.
_NOT_LOCKED = {"deepnets", "pip"}


def main() -> int:
    """Print a line for every difference; returns the exit status: 0 for none, else 1."""
    root = project.root()
    try:
        lines = differences(
            pinned_versions((root / LOCK).read_text()),
            [
                pinned_versions((root / name).read_text())
                for name in ADDITIONS
                if (root / name).is_file()
            ],
            distributions(),
        )
    except (ImportError, OSError) as error:
        print(f"verify: {error}: run `make setup` in the project's root", file=sys.stderr)
        return 1
    if not lines:
        print(f"{sys.prefix} is what {LOCK} says, every file as it was installed")
        return 0
    print(*lines, sep="\n")
    print(
        f"verify: {len(lines)} difference{'s' * (len(lines) > 1)} from {LOCK} in {sys.prefix}: "
        "`rm -rf .venv` and `make setup` make it anew",
        file=sys.stderr,
    )
    return 1


def pinned_versions(lock: str) -> dict[str, str]:
    """Version by normalised name of what the text of a lock file has installed on this machine."""
    from packaging.requirements import Requirement

    pins = map(Requirement, re.findall(r"^[\w.-]+==[^\\\n]+", lock, re.M))
    return {
        _normalise_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
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
    there: dict[str, list[Distribution]] = {}
    for distribution in installed:
        there.setdefault(_normalise_name(distribution.metadata["Name"] or "?"), []).append(
            distribution
        )
    may_be = {name: version for pins in additions for name, version in pins.items()} | dict(locked)
    lines = []
    for name in (locked.keys() | there.keys()) - _NOT_LOCKED:
        versions = sorted({package.version for package in there.get(name, [])})
        received, expected = " and ".join(versions) or "none", may_be.get(name, "none")
        # The archives of other indices may add a label: 2.13.0+cpu.
        if expected not in (received, received.partition("+")[0]):
            lines.append(f"{name}: expected {expected}, received {received}")
        for distribution in there.get(name, []):
            changed = _changed_files(distribution)
            if changed:
                more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
                lines.append(
                    f"{name}: expected its files as installed, changed or missing: "
                    f"{', '.join(changed[:3])}{more}"
                )
    return sorted(lines)


def _changed_files(distribution: Distribution) -> list[str]:
    """The files of a package that are not as its RECORD has them, or RECORD where it has none."""
    # `distribution.files` leaves out what is missing, from Python 3.12 on.
    record = distribution.read_text("RECORD")
    if record is None:
        return ["RECORD"]
    return [
        path
        for path, digest, _ in csv.reader(record.splitlines())
        if digest and digest != _digest(Path(str(distribution.locate_file(path))))
    ]


def _digest(path: Path) -> str | None:
    """The digest of a file as RECORD has it, None where it cannot be read."""
    try:
        digest = hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _normalise_name(name: str) -> str:
    """The one spelling of a package's name that all others count as."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
