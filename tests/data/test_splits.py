"""Batches that depend on (seed, epoch) alone, and arrays that are checked when they are read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepnets.base import files
from deepnets.base.errors import UserError
from deepnets.config import params
from deepnets.config.sections import RunParams
from deepnets.data import splits
from deepnets.training import batches
from project import ROOT

TRAIN_IMAGES = Path("data/processed/train_images.npy")
TRAIN_LABELS = Path("data/processed/train_labels.npy")

# 6 batches of 32 and 8 images over; image i has the grey level i, and so has its label.
COUNT = 200


def run_of(**changes: Any) -> RunParams:
    """The study's VGG-16 with SGD, changed."""
    run = params.load(ROOT / "params.yaml").run_params("vgg16-sgd-random", 0)
    return run.model_copy(update=changes)


@pytest.fixture(scope="module")
def split() -> splits.Split:
    identity = np.arange(COUNT, dtype=np.uint8)
    images = np.broadcast_to(identity[:, None, None, None], (COUNT, 4, 4, 3))
    return splits.Split(np.ascontiguousarray(images), identity)


def order(split: splits.Split, epoch: int, **changes: Any) -> list[int]:
    """Which images an epoch shows, in order."""
    drawn = batches.batches(split, run_of(**changes), epoch)
    return [int(label) for batch in drawn for label in batch.labels]


def transforms(split: splits.Split, epoch: int, **changes: Any) -> np.ndarray:
    drawn = batches.batches(split, run_of(**changes), epoch)
    return np.concatenate([batch.transforms for batch in drawn])


def test_study_has_1562_steps_an_epoch() -> None:
    assert batches.steps_per_epoch(run_of(), 50_000) == 1562


def test_epoch_is_whole_batches_without_repeats(split: splits.Split) -> None:
    sizes = [batch.images.shape for batch in batches.batches(split, run_of(), 1)]
    assert sizes == 6 * [(32, 4, 4, 3)]
    shown = order(split, 1)
    assert len(shown) == len(set(shown)) == 192
    assert set(shown) <= set(range(COUNT))
    assert shown != sorted(shown)


def test_every_image_has_its_turn(split: splits.Split) -> None:
    assert set().union(*(order(split, epoch) for epoch in range(1, 6))) == set(range(COUNT))


def test_images_come_with_their_labels(split: splits.Split) -> None:
    for batch in batches.batches(split, run_of(), 1):
        np.testing.assert_array_equal(batch.images[:, 0, 0, 0], batch.labels)
        assert (batch.images == batch.labels[:, None, None, None]).all()
        assert batch.transforms.shape == (32, 8)


def test_order_depends_on_seed_and_epoch_only(split: splits.Split) -> None:
    first = order(split, 3)
    np.random.seed(5)
    order(split, 1)
    assert order(split, 3) == first
    assert order(split, 3, augment_rotation=0, augment_zoom=0.0, dropout=0.1, epochs=99) == first
    assert order(split, 3, optimizer="adam", arch="resnet50", learning_rate=1.0) == first


def test_order_differs_between_epochs_and_seeds(split: splits.Split) -> None:
    orders = [order(split, epoch, seed=seed) for epoch in (1, 2, 3) for seed in (0, 1, 2)]
    assert len({tuple(shown) for shown in orders}) == 9


def test_batch_size_does_not_change_the_order(split: splits.Split) -> None:
    assert order(split, 1, batch_size=50)[:192] == order(split, 1)


def test_transforms_depend_on_seed_and_epoch(split: splits.Split) -> None:
    first = transforms(split, 1)
    np.testing.assert_array_equal(first, transforms(split, 1))
    assert len(np.unique(first, axis=0)) == 192
    assert not np.array_equal(first, transforms(split, 2))
    assert not np.array_equal(first, transforms(split, 1, seed=1))


def test_transforms_are_as_strong_as_the_run_says(split: splits.Split) -> None:
    still = transforms(split, 1, augment_rotation=0, augment_shift=0.0, augment_zoom=0.0)
    np.testing.assert_array_equal(still, np.tile([1, 0, 0, 0, 1, 0, 0, 0], (192, 1)))
    shifted = transforms(split, 1, augment_rotation=0, augment_shift=0.25, augment_zoom=0.0)
    assert 0.9 < np.abs(shifted[:, [2, 5]]).max() <= 1  # a quarter of 4 pixels


def test_dropout_keys_follow_their_images_through_the_batches(split: splits.Split) -> None:
    run = run_of()
    drawn = batches.draw_epoch(split, run, 1)
    keys = np.concatenate([batch.dropout_keys for batch in batches.batches(split, run, 1)])
    np.testing.assert_array_equal(keys, drawn.dropout_keys)
    assert len(keys) == len(drawn.order)


def test_first_images_of_a_split(split: splits.Split) -> None:
    assert split.first(None) is split
    few = split.first(5)
    np.testing.assert_array_equal(few.labels, range(5))
    np.testing.assert_array_equal(few.images, split.images[:5])


def test_digest_sees_pixels_labels_and_order(split: splits.Split) -> None:
    pixels = split.images.copy()
    pixels[-1, -1, -1, -1] ^= 1
    labels = split.labels.copy()
    labels[-1] = 0
    backwards = splits.Split(split.images[::-1], split.labels[::-1])
    others = [splits.Split(pixels, split.labels), splits.Split(split.images, labels), backwards]
    assert len({split.digest, *(other.digest for other in others)}) == 4
    assert splits.Split(split.images.copy(), split.labels.copy()).digest == split.digest


@pytest.fixture
def processed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: splits.Split) -> Path:
    """A folder with a whole train split in it; the test works there."""
    monkeypatch.chdir(tmp_path)
    files.write_array(TRAIN_IMAGES, split.images)
    files.write_array(TRAIN_LABELS, split.labels)
    files.seal(TRAIN_IMAGES, TRAIN_LABELS)
    return tmp_path


def refusal() -> str:
    """The one line that loading the train split fails with, whoever wrote and sealed it."""
    files.seal(*(path for path in (TRAIN_IMAGES, TRAIN_LABELS) if path.is_file()))
    with pytest.raises(UserError) as raised:
        splits.load("train")
    message = str(raised.value)
    assert message.splitlines() == [message]
    return message


@pytest.mark.usefixtures("processed")
def test_load_maps_what_was_written(split: splits.Split) -> None:
    loaded = splits.load("train")
    assert isinstance(loaded.images, np.memmap)
    assert not loaded.images.flags.writeable
    np.testing.assert_array_equal(loaded.images, split.images)
    np.testing.assert_array_equal(loaded.labels, split.labels)
    assert loaded.digest == split.digest


@pytest.mark.usefixtures("processed")
@pytest.mark.parametrize("path", [TRAIN_IMAGES, TRAIN_LABELS])
def test_missing_file_is_named(path: Path) -> None:
    path.unlink()
    assert refusal() == f"{path} is missing: run the stage that writes it (`dvc repro`)"


@pytest.mark.usefixtures("processed")
@pytest.mark.parametrize("path", [TRAIN_IMAGES, TRAIN_LABELS])
@pytest.mark.parametrize("kept", [0, 5, 60, -1], ids=["empty", "magic", "header", "last-byte"])
def test_truncated_file_is_named(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    message = refusal()
    assert message.startswith(f"{path} is not a whole .npy array (")
    assert f"): delete {path}, then `dvc checkout {path}`" in message


@pytest.mark.usefixtures("processed")
def test_file_of_something_else_is_named() -> None:
    TRAIN_IMAGES.write_text("<html>not found</html>")
    assert refusal().startswith(f"{TRAIN_IMAGES} is not a whole .npy array (")


@pytest.mark.usefixtures("processed")
def test_pickle_is_never_read() -> None:
    np.save(TRAIN_LABELS, np.array([{"a": 1}] * COUNT, dtype=object), allow_pickle=True)
    assert refusal().startswith(f"{TRAIN_LABELS} is not a whole .npy array (")


@pytest.mark.usefixtures("processed")
@pytest.mark.parametrize(
    ("array", "received"),
    [
        (np.zeros((COUNT, 4, 4, 3), np.float32), "float32 (200, 4, 4, 3)"),
        (np.zeros((COUNT, 4, 4), np.uint8), "uint8 (200, 4, 4)"),
        (np.zeros((COUNT, 4, 4, 1), np.uint8), "uint8 (200, 4, 4, 1)"),
    ],
)
def test_images_of_the_wrong_kind_are_refused(array: np.ndarray, received: str) -> None:
    files.write_array(TRAIN_IMAGES, array)
    assert refusal() == (
        f"{TRAIN_IMAGES}: expected uint8 images (n, size, size, 3), received {received}: "
        "delete it and run `dvc repro preprocess`"
    )


@pytest.mark.usefixtures("processed")
@pytest.mark.parametrize(
    ("array", "received"),
    [
        (np.zeros(COUNT, np.int64), "int64 (200,)"),
        (np.zeros(COUNT - 1, np.uint8), "uint8 (199,)"),
        (np.zeros((COUNT, 10), np.uint8), "uint8 (200, 10)"),
    ],
)
def test_labels_of_the_wrong_kind_are_refused(array: np.ndarray, received: str) -> None:
    files.write_array(TRAIN_LABELS, array)
    assert refusal() == (
        f"{TRAIN_LABELS}: expected uint8 labels (200,), received {received}: "
        "delete it and run `dvc repro preprocess`"
    )


@pytest.mark.usefixtures("processed")
def test_damaged_header_is_named() -> None:
    content = bytearray(TRAIN_LABELS.read_bytes())
    content[8] ^= 64  # the header's length
    TRAIN_LABELS.write_bytes(content)
    assert refusal().startswith(f"{TRAIN_LABELS} is not a whole .npy array (")
