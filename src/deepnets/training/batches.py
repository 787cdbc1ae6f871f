"""Split in, batches out. The order of an epoch depends on (seed, epoch) and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepnets.config.sections import RunParams
from deepnets.data.splits import Split
from deepnets.training.augment import draw_transforms

# Independent streams of random numbers within an epoch.
_ORDER, _AUGMENT, _DROPOUT = range(3)


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
