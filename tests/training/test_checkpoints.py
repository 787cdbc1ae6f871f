"""Checkpoints: what was saved comes back, and what is damaged is passed over."""

import io
import json
import os
import struct
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from deepnets.training import checkpoints
from project import refuse


def variables(value: float) -> list[keras.Variable]:
    """What a training saves: weights, a counter, a random state."""
    weights = np.linspace(value, value + 1, 600, dtype=np.float32).reshape(20, 30)
    return [
        keras.Variable(weights),
        keras.Variable(int(value), dtype="int64"),
        keras.Variable(np.array([value, 7], np.uint32), dtype="uint32"),
    ]


def rows(epochs: int) -> list[dict[str, float]]:
    return [{"epoch": epoch, "loss": 1 / 3 / epoch} for epoch in range(1, epochs + 1)]


def clock(epochs: int) -> list[dict[str, float]]:
    return [{"epoch": epoch, "seconds": 0.1 * epoch} for epoch in range(1, epochs + 1)]


def save(folder: Path, epoch: int) -> Path:
    """Save the state after `epoch`, whose variables have the epoch's value."""
    checkpoints.save(folder, variables(epoch), rows(epoch), clock(epoch))
    return folder / f"epoch-{epoch:05d}.npz"


def assert_epoch(checkpoint: checkpoints.Checkpoint | None, epoch: int) -> None:
    assert checkpoint is not None
    assert checkpoint.epoch == epoch
    assert checkpoint.history == rows(epoch)
    assert checkpoint.timing == clock(epoch)
    for value, variable in zip(checkpoint.values, variables(epoch), strict=True):
        assert value.dtype == np.asarray(variable).dtype
        np.testing.assert_array_equal(value, np.asarray(variable))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The checkpoints of a run after its second epoch."""
    folder = tmp_path / "checkpoints" / "run" / "0123456789abcdef"
    save(folder, 1)
    save(folder, 2)
    return folder


def test_state_comes_back_bit_for_bit(folder: Path) -> None:
    checkpoint = checkpoints.latest(folder)
    assert_epoch(checkpoint, 2)
    fresh = variables(9)
    checkpoints.restore(checkpoint, fresh)
    for restored, saved in zip(fresh, variables(2), strict=True):
        np.testing.assert_array_equal(np.asarray(restored), np.asarray(saved))


def test_more_than_ten_variables_keep_their_order(tmp_path: Path) -> None:
    many = [keras.Variable(float(i)) for i in range(120)]
    checkpoints.save(tmp_path, many, rows(1), clock(1))
    checkpoint = checkpoints.latest(tmp_path)
    assert checkpoint is not None
    assert [float(value) for value in checkpoint.values] == list(range(120))


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path) is None
    assert checkpoints.latest(tmp_path / "never") is None


def test_newest_two_are_kept(folder: Path) -> None:
    for epoch in range(3, 13):
        save(folder, epoch)
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-00011.npz", "epoch-00012.npz"]
    assert_epoch(checkpoints.latest(folder), 12)


def test_other_files_of_the_run_are_kept(folder: Path) -> None:
    (folder / "history.csv").touch()
    save(folder, 3)
    save(folder, 4)
    assert (folder / "history.csv").is_file()


def test_one_that_may_not_be_read_is_not_called_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(np, "load", refuse)
    # Starting afresh would remove it in the end.
    with pytest.raises(PermissionError):
        checkpoints.latest(folder)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_truncated_newest_is_passed_over(
    folder: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    newest = save(folder, 3)
    content = newest.read_bytes()
    newest.write_bytes(content[: int(share * len(content))])
    assert_epoch(checkpoints.latest(folder), 2)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1
    assert printed[0].startswith(f"{newest} is damaged (")
    assert printed[0].endswith("): going back to the checkpoint before it")


def test_one_flipped_bit_is_noticed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = save(folder, 3)
    content = bytearray(newest.read_bytes())
    place = content.index(np.asarray(variables(3)[0]).tobytes()[:40])
    content[place + 1000] ^= 1
    newest.write_bytes(content)
    assert_epoch(checkpoints.latest(folder), 2)
    assert f"{newest} is damaged (Bad CRC-32" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "bit"), [(8, 0), (10, 6), (33, 0)], ids=["encrypted", "method", "comment"]
)
def test_flipped_bit_in_the_list_of_members_is_noticed(folder: Path, place: int, bit: int) -> None:
    newest = save(folder, 3)
    content = bytearray(newest.read_bytes())
    content[content.index(b"PK\x01\x02") + place] ^= 1 << bit
    newest.write_bytes(content)
    assert_epoch(checkpoints.latest(folder), 2)


def test_both_damaged_starts_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"PK")
    assert checkpoints.latest(folder) is None
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("going back to the checkpoint before it")
    assert second.endswith("starting afresh")


def test_checkpoint_without_rows_is_passed_over(folder: Path) -> None:
    np.savez(folder / "epoch-00003.npz", v00000=np.zeros(3))
    assert_epoch(checkpoints.latest(folder), 2)


class _Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_pickles_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trap = tmp_path / "sprung"
    history = np.frombuffer(json.dumps({"history": rows(3), "timing": []}).encode(), np.uint8)
    np.savez(folder / "epoch-00003.npz", rows=history, v00000=np.array([_Trap(trap)], dtype=object))
    assert_epoch(checkpoints.latest(folder), 2)
    assert "epoch-00003.npz is damaged (Object arrays cannot be loaded" in capsys.readouterr().out
    assert not trap.exists()


def test_objects_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        checkpoints.save(tmp_path, [np.array([{}], dtype=object)], rows(1), clock(1))
    assert list(tmp_path.iterdir()) == []


def test_failed_save_keeps_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(folder.iterdir())
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        save(folder, 3)
    assert sorted(folder.iterdir()) == before
    assert_epoch(checkpoints.latest(folder), 2)


@pytest.mark.parametrize("kind", ["too-few", "reshaped"])
def test_variables_of_another_training_are_not_overwritten(folder: Path, kind: str) -> None:
    checkpoint = checkpoints.latest(folder)
    assert checkpoint is not None
    first, *others = variables(9)
    transposed = keras.Variable(np.asarray(first).T)
    wrong = {"too-few": [first], "reshaped": [transposed, *others]}[kind]
    before = [np.asarray(variable).copy() for variable in wrong]
    with pytest.raises(ValueError, match="not those of this training"):
        checkpoints.restore(checkpoint, wrong)
    for variable, value in zip(wrong, before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), value)


@pytest.mark.parametrize("place", ["0123456789abcdef/epoch-00003.npz", "fedcba98/epoch-00002.npz"])
def test_one_in_anothers_place_is_passed_over(
    folder: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    target = folder.parent / place
    target.parent.mkdir(exist_ok=True)
    (folder / "epoch-00002.npz").replace(target)
    checkpoint = checkpoints.latest(target.parent)
    assert (checkpoint.epoch if checkpoint else None) == (1 if target.parent == folder else None)
    assert "it is 0123456789abcdef/epoch-00002.npz, put in another's place" in (
        capsys.readouterr().out
    )


def test_the_latest_two_other_trainings_are_kept(folder: Path) -> None:
    for age, name in enumerate(["b", "c", "d"]):
        save(folder.with_name(name), 1)
        os.utime(folder.with_name(name), (age, age))
    beside = folder.parent.with_name("another-run") / "0123"
    save(beside, 1)
    checkpoints.drop_oldest(folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name, "c", "d"]
    assert [path.name for path in checkpoints.others(folder)] == ["d", "c"]
    assert_epoch(checkpoints.latest(folder), 2)
    assert_epoch(checkpoints.latest(beside), 1)


def test_file_is_a_plain_archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / "epoch-00002.npz") as archive:
        names = archive.namelist()
        assert names == ["rows.npy", "v00000.npy", "v00001.npy", "v00002.npy"]
        for name in names:
            magic, _ = struct.unpack("<6sH", archive.read(name)[:8])
            assert magic == b"\x93NUMPY"
            np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
