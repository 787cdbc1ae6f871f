"""What a node of a Ray cluster does for a training: Ray sends this module there, as it is.

So it uses nothing of the package, whose code comes in the bundle: a copy of the study with all that
a training starts from. There is no shared disk: what the training writes is sent home piece by
piece, its checkpoints while it runs.
"""

import importlib.metadata
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Seconds between two looks at the training.
_INTERVAL = 0.5

# Seconds that a training is given to end when it is stopped: it waits for what it is writing.
_PATIENCE = 30.0


@dataclass(frozen=True)
class Order:
    """A training to be done in the bundle's folder `study`, and where it leaves what.

    `checkpoints` and `results` are folders below `study`. `libraries` are the versions that it
    needs, `environment` is added to that of the node. Checkpoints are sent home at most every
    `seconds`, `older` ones than the newest as well where it goes on from those too.
    """

    name: str
    seed: int
    study: str
    checkpoints: str
    results: str
    libraries: Mapping[str, str]
    environment: Mapping[str, str]
    seconds: float
    older: bool = False


@dataclass(frozen=True)
class Sent:
    """What comes home: files by their path below the study, and, at the end, the exit status."""

    host: str
    files: Mapping[str, bytes]
    status: int | None = None


def train(bundle: bytes, begun: Mapping[str, bytes], order: Order) -> Iterator[Sent]:
    """Do the training that `order` describes; what it writes comes home as `Sent`.

    Args:
        bundle: the project, packed.
        begun: files that it goes on from, by their path below the study.
        order: what to do.
    """
    host = socket.gethostname()
    lacking = _lacking_libraries(order.libraries)
    if lacking:
        said = f"{host} lacks what this training needs, {lacking}: install requirements.lock there"
        yield Sent(host, {f"{order.results}/log.txt": said.encode()}, 1)
        return
    folder = Path(tempfile.mkdtemp(prefix="deepnets-grid-"))
    process = None
    try:
        with tarfile.open(fileobj=io.BytesIO(bundle)) as packed:
            packed.extractall(folder, filter="data")
        study = folder / order.study
        for path, content in begun.items():
            (study / path).parent.mkdir(parents=True, exist_ok=True)
            (study / path).write_bytes(content)
        process = _start(folder, order)
        sent: dict[str, int] = {path: (study / path).stat().st_mtime_ns for path in begun}
        last = time.monotonic()
        while process.poll() is None:
            time.sleep(_INTERVAL)
            files = read_changed_files(study, order.results, sent, ("progress.json", "log.txt"))
            if time.monotonic() - last >= order.seconds:
                new = read_changed_files(study, order.checkpoints, sent, older=order.older)
                last = time.monotonic() if new else last
                files |= new
            if files:
                yield Sent(host, files)
        if process.returncode:
            # Where it stopped, it can go on elsewhere.
            yield Sent(host, read_changed_files(study, order.checkpoints, sent, older=order.older))
        ended = read_changed_files(study, order.results, {}) | _read_validations(study, order)
        yield Sent(host, ended, process.returncode)
    finally:
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:  # it does not listen
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _read_validations(study: Path, order: Order) -> dict[str, bytes]:
    """What a training has written of its epochs' validations, beside its checkpoints."""
    paths = sorted((study / order.checkpoints).glob("*/validated-*.npz"))
    return {path.relative_to(study).as_posix(): path.read_bytes() for path in paths}


def _lacking_libraries(libraries: Mapping[str, str]) -> str:
    """In which of `libraries` this node differs, and how; empty where it has them all."""
    differing = []
    for name, expected in libraries.items():
        try:
            there = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            there = "none"
        if there != expected:
            differing.append(f"{name} {expected}, found {there}")
    return ", ".join(differing)


def _start(folder: Path, order: Order) -> "subprocess.Popen[bytes]":
    import psutil

    log = folder / order.study / order.results / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    this = psutil.Process()
    environment = os.environ | {
        "PYTHONPATH": str(folder / "src"),
        # It ends with this process, which ends with the node.
        "DEEPNETS_STARTED_BY": f"{socket.gethostname()} {this.pid} {this.create_time():.0f}",
        **order.environment,
    }
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "deepnets", "training", order.name, str(order.seed)],
            cwd=folder / order.study,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def read_changed_files(
    study: Path,
    folder: str,
    sent: dict[str, int],
    names: tuple[str, ...] = (),
    older: bool = False,
) -> dict[str, bytes]:
    """The files below `folder` that are others than those in `sent`, which is brought up to date.

    Of a training's checkpoints, which are in a folder of their own, the newest is enough, unless
    `older` ones, of the best epochs, are needed too. Files that are being written have hidden
    names.
    """
    paths = [path for path in (study / folder).rglob("*") if path.is_file()]
    epochs = sorted(path for path in paths if path.match("epoch-*.npz"))
    newest = {path.parent: path for path in epochs}
    passed = set() if older else {*epochs} - {*newest.values()}
    files = {}
    for path in sorted(paths, key=lambda path: path.match("epoch-*.npz"), reverse=True):
        hidden = any(part.startswith(".") for part in path.relative_to(study).parts)
        if hidden or path in passed or (names and path.name not in names):
            continue
        key = path.relative_to(study).as_posix()
        try:
            written = path.stat().st_mtime_ns
            if sent.get(key) != written:
                files[key] = path.read_bytes()
                sent[key] = written
        except FileNotFoundError:  # an older checkpoint was removed meanwhile
            continue
    return files
