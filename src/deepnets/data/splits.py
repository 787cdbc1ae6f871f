"""The processed images of a split: read, checked and named by their digest."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepnets.base import files, project
from deepnets.base.errors import UserError


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, size, size, 3), memory-mapped, and labels uint8 (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def first(self, count: int | None) -> "Split":
        """The first `count` images with their labels; None for all."""
        return self if count is None else Split(self.images[:count], self.labels[:count])

    @property
    def digest(self) -> str:
        """sha256 over the digests of pixels and labels, as hex."""
        return digest_of(files.array_digest(self.images), files.array_digest(self.labels))


def digest_of(*digests: str) -> str:
    """One sha256 for several, order included."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def load(split: str) -> Split:
    """Map one split of the study's processed data into memory.

    Raises:
        UserError: a file is missing, damaged, or not the one that preprocess wrote.
    """
    image_file, label_file = project.split_files(split)
    files.verify(image_file, label_file)
    images, labels = files.read_array(image_file), files.read_array(label_file)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise UserError(
            f"{image_file}: expected uint8 images (n, size, size, 3), received {images.dtype} "
            f"{images.shape}: delete it and run `dvc repro preprocess`"
        )
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise UserError(
            f"{label_file}: expected uint8 labels ({len(images)},), received {labels.dtype} "
            f"{labels.shape}: delete it and run `dvc repro preprocess`"
        )
    return Split(images, np.asarray(labels))
