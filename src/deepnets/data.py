"""Arrays in, batches out. The order of an epoch depends on (seed, epoch) and nothing else."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepnets import files, project
from deepnets.augment import draw_transforms
from deepnets.errors import UserError
from deepnets.params import RunParams

# Independent streams of random numbers within an epoch.
_ORDER, _AUGMENT, _DROPOUT = range(3)


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


@dataclass(frozen=True)
class Epoch:
    """What is random in an epoch: row i of each belongs to the image at position i.

    order int64 (n,), transforms float32 (n, 8), dropout_keys uint32 (n,); n are whole batches.
    """

    order: NDArray[np.int64]
    transforms: NDArray[np.float32]
    dropout_keys: NDArray[np.uint32]


@dataclass(frozen=True)
class Batch:
    """What one training step takes: images, labels as in a split, the others as in an epoch."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    transforms: NDArray[np.float32]
    dropout_keys: NDArray[np.uint32]


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


def steps_per_epoch(run: RunParams, images: int) -> int:
    """Whole batches in an epoch; like the study's log (1,562 = 50,000 // 32) it drops the rest."""
    return images // run.batch_size


def draw_epoch(split: Split, run: RunParams, epoch: int) -> Epoch:
    """The order, transforms and keys of `epoch`, drawn from (seed, epoch)."""
    count = steps_per_epoch(run, len(split.images)) * run.batch_size
    return Epoch(
        order=_generator(run.seed, epoch, _ORDER).permutation(len(split.images))[:count],
        transforms=draw_transforms(
            _generator(run.seed, epoch, _AUGMENT),
            count,
            split.images.shape[1],
            run.augment_rotation,
            run.augment_shift,
            run.augment_zoom,
        ),
        dropout_keys=_generator(run.seed, epoch, _DROPOUT).integers(
            2**32, size=count, dtype=np.uint32
        ),
    )


def batches(split: Split, run: RunParams, epoch: int) -> Iterator[Batch]:
    """The batches of `epoch`, as `draw_epoch` has drawn it."""
    drawn = draw_epoch(split, run, epoch)
    for start in range(0, len(drawn.order), run.batch_size):
        place = slice(start, start + run.batch_size)
        chosen = drawn.order[place]
        yield Batch(
            split.images[chosen],
            split.labels[chosen],
            drawn.transforms[place],
            drawn.dropout_keys[place],
        )


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, epoch, stream])
