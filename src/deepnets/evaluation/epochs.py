"""What an epoch's validation came to, image by image: a small file beside the checkpoints.

It holds the digits themselves, so that whoever draws it needs no data.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepnets.base import files
from deepnets.base.errors import UserError, one_line
from deepnets.data.splits import Split
from deepnets.evaluation import evaluation
from deepnets.training import scores

# The worst mistakes that are kept.
MISTAKES = 16

_NAME = "validated-{:05d}.npz"


@dataclass(frozen=True)
class Validated:
    """The validation images as an epoch's model saw them.

    `confusion` is int64 (10, 10), true digits in rows. The others are of the mistakes with the
    highest probability, worst first, at most MISTAKES: `images` uint8 (k, side, side), `labels` and
    `predicted` uint8 (k,), and `probabilities` float32 (k,), of the predicted digit.
    """

    epoch: int
    confusion: NDArray[np.int64]
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    probabilities: NDArray[np.float32]

    @property
    def accuracy(self) -> float:
        """The share of all validation images that it named rightly."""
        return float(np.trace(self.confusion) / self.confusion.sum())


def summarise_validation(
    epoch: int, probabilities: NDArray[np.float32], validation: Split
) -> Validated:
    """What `probabilities`, float32 (n, 10), say of the images of `validation` after `epoch`."""
    predicted = probabilities.argmax(axis=1).astype(np.uint8)
    worst = evaluation.most_confident_mistakes(probabilities, validation.labels, MISTAKES)
    return Validated(
        epoch,
        scores.confusion_matrix(validation.labels, predicted),
        # The channels of a digit are alike.
        validation.images[worst][..., 0],
        validation.labels[worst],
        predicted[worst],
        probabilities[worst, predicted[worst]],
    )


def write(folder: Path, result: Validated) -> None:
    """Write `result` to its file in `folder`."""
    with (
        files.replacing(folder / _NAME.format(result.epoch)) as partial,
        partial.open("wb") as file,
    ):
        np.savez_compressed(file, allow_pickle=False, **asdict(result))


def paths(folder: Path) -> list[Path]:
    """The files that `write` has written to `folder`, by epoch."""
    return sorted(folder.glob("validated-*.npz"))


def epoch_of(path: Path) -> int:
    """The epoch that the file at `path` is about."""
    return int(path.stem.rpartition("-")[2])


def read(path: Path) -> Validated:
    """What `write` has written to `path`.

    Raises:
        UserError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            values = {name: archive[name] for name in archive.files}
        return Validated(epoch=int(values.pop("epoch")), **values)
    except PermissionError:
        raise
    except Exception as error:  # a parser of damaged bytes may raise anything
        raise UserError(
            f"{path} is damaged ({one_line(error, 80)}): without it MLflow gets no images of that "
            "epoch; delete it"
        ) from None
