"""From the raw arrays of a data set to the splits that networks are trained and tested on."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from deepnets.base import project
from deepnets.base.errors import UserError
from deepnets.data import images

Array = NDArray[np.uint8]

# Images resized at a time; bounds the memory at about 100 MiB.
_CHUNK = 2048


def split_off(raw: Mapping[str, Array], validation_images: int) -> dict[str, tuple[Array, Array]]:
    """Images and labels of train, validation (the last training images) and test.

    Args:
        raw: `train_images` uint8 (n, height, width), `train_labels` uint8 (n,), and those of test.
        validation_images: how many are kept back to validate.

    Raises:
        UserError: these are other arrays, or not enough.
    """
    for split in ("train", "test"):
        _check(split, raw[f"{split}_images"], raw[f"{split}_labels"])
    pixels, labels = raw["train_images"], raw["train_labels"]
    border = len(pixels) - validation_images
    if border < 1:
        raise UserError(
            f"preprocess.validation_images: expected fewer than the {len(pixels):,} training "
            f"images in {project.RAW}; received {validation_images:,}: lower it"
        )
    return {
        "train": (pixels[:border], labels[:border]),
        "validation": (pixels[border:], labels[border:]),
        "test": (raw["test_images"], raw["test_labels"]),
    }


def class_counts(labels: Array) -> dict[str, int]:
    """How many of each class, and `all`."""
    counts = np.bincount(labels, minlength=project.CLASSES)
    return {str(digit): int(n) for digit, n in enumerate(counts)} | {"all": len(labels)}


def resize_and_tile(pixels: Array, size: int) -> Iterator[Array]:
    """Grey images as networks see them: resized to `size` and tiled, uint8 (m, size, size, 3)."""
    for start in range(0, len(pixels), _CHUNK):
        yield images.tile(images.resize(pixels[start : start + _CHUNK], size))


def _check(split: str, pixels: Array, labels: Array) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or labels.shape != pixels.shape[:1]:
        raise UserError(
            f"{project.RAW}: expected uint8 {split} images (n, height, width) and n labels; "
            f"received {pixels.dtype} {pixels.shape} and {labels.shape}: run `dvc repro download`"
        )
    if labels.dtype != np.uint8 or not len(labels) or labels.max() >= project.CLASSES:
        received = str(np.unique(labels)[-1]) if len(labels) else "none"
        raise UserError(
            f"{project.RAW}: expected uint8 {split} labels 0 to {project.CLASSES - 1}; received "
            f"{labels.dtype}, the last of them {received}: run `dvc repro download`"
        )
