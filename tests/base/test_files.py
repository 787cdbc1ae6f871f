"""Files appear whole or not at all, and are refused by name when they are not whole."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from deepnets.base import csv_files, files
from deepnets.base.errors import UserError
from project import refuse


def names(folder: Path) -> list[str]:
    """Everything below `folder`, hidden files included."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_new_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "text.txt"
    with files.replacing(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["text.txt"]


def test_partial_file_is_hidden_beside_it_and_ends_like_it(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "model.weights.h5") as partial:
        assert partial.parent == tmp_path
        assert partial.name.startswith(".")
        assert partial.name.endswith(".weights.h5")
        partial.touch()


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, UserError])
def test_failure_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "text.txt"
    path.write_text("old")

    def write() -> None:
        with files.replacing(path) as partial:
            partial.write_text("half")
            raise failure("stop")

    with pytest.raises(failure, match="stop"):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["text.txt"]


def test_failure_before_anything_is_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "data.json", {"a": object()})
    with pytest.raises(ValueError, match="dict contains fields not in fieldnames"):
        csv_files.write_csv(tmp_path / "rows.csv", [{"a": 1}, {"a": 1, "b": 2}], ["a"])
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        files.write_array(tmp_path / "array.npy", np.array([{}], dtype=object))
    assert names(tmp_path) == []


def test_json_is_indented_and_keeps_its_order(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    files.write_json(path, {"b": 1, "a": [0.1]})
    assert path.read_text() == '{\n  "b": 1,\n  "a": [\n    0.1\n  ]\n}\n'
    assert list(files.read_json(path)) == ["b", "a"]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe"], ids=["empty", "half", "bytes"])
def test_damaged_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "test.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"test\.json is damaged \(.*\): delete it and run `dvc re"):
        files.read_json(path)


def test_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"test\.json is missing: run the stage that writes it"):
        files.read_json(tmp_path / "test.json")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_array_is_mapped_as_it_was_written(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "array.npy"
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    files.write_array(path, array)
    loaded = files.read_array(path)
    assert isinstance(loaded, np.memmap)
    assert not loaded.flags.writeable
    assert loaded.dtype == dtype
    np.testing.assert_array_equal(loaded, array)


def test_an_array_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np.lib.format, "open_memmap", refuse)
    with pytest.raises(PermissionError):
        files.read_array(tmp_path / "a.npy")


def test_array_digest_is_that_of_its_bytes() -> None:
    array = np.random.default_rng(0).integers(0, 256, (5000, 7), np.uint8)  # more than one chunk
    assert files.array_digest(array) == hashlib.sha256(array.tobytes()).hexdigest()
    assert files.array_digest(array[:, ::2]) == hashlib.sha256(array[:, ::2].tobytes()).hexdigest()


def test_file_digests(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert files.file_digest(path) == hashlib.sha256(b"abc").hexdigest()
    assert files.file_digest(path, "md5") == "900150983cd24fb0d6963f7d28e17f72"


def test_room_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    files.require_room(folder, 1, "models")
    assert folder.is_dir()
    assert names(folder) == []


def test_room_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "folder"
    with pytest.raises(UserError) as raised:
        files.require_room(folder, 1, "models")
    assert str(raised.value) == (
        f"cannot write to {folder} (Not a directory), where models go: "
        "mend that or work in another folder"
    )


def test_room_on_a_full_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        files.require_room(tmp_path, 2**60, "checkpoints")
    message = str(raised.value)
    assert message.startswith(f"{tmp_path} has ")
    assert f"MiB free, checkpoints need about {2**40:,} MiB: free some space" in message


def test_room_in_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        (tmp_path / "probe").touch()
    except PermissionError:
        with pytest.raises(UserError, match=f"cannot write to {tmp_path} .*, where models go"):
            files.require_room(tmp_path, 1, "models")
    else:
        pytest.skip("this user (root) may write anywhere")
    finally:
        tmp_path.chmod(0o700)


def test_written_json_is_json(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"title": "Tiefe Netze für Ziffern"})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"title": "Tiefe Netze für Ziffern"}
