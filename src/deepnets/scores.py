"""What predictions and epochs are worth: pure functions of probabilities, labels and histories."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepnets.project import CLASSES

# A network that gives every digit the same probability has a loss of ln 10 nats. One that has
# learned how frequent the digits are, and nothing else, has their entropy: in MNIST's first
# 50,000 labels that is 2.301, the loss at which a run of the study stayed.
_CHANCE_LOSS = math.log(CLASSES)
_LOSS_TOLERANCE = 0.01
_ACCURACY_TOLERANCE = 0.02


def score(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> dict[str, float]:
    """Mean categorical cross-entropy in nats and accuracy.

    As in Keras, probabilities are clipped to at least 1e-7 before the logarithm.
    """
    truth = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "loss": float(-np.log(np.clip(truth, 1e-7, 1)).mean()),
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
    }


def confusion_matrix(labels: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.int64]:
    """Counts (10, 10): rows are true digits, columns predicted ones."""
    matrix = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def at_chance(row: Mapping[str, float], largest_share: float) -> bool:
    """Whether an epoch's training did no better than guessing the most frequent digit.

    That is: its mean loss is within 1 % of ln 10, and its accuracy is at most 0.02 above what that
    guess scores.

    Args:
        row: an epoch of a history; `loss` in nats and `accuracy` as a fraction, in training.
        largest_share: fraction of the training labels that the most frequent digit has.
    """
    return (
        abs(row["loss"] - _CHANCE_LOSS) <= _LOSS_TOLERANCE * _CHANCE_LOSS
        and row["accuracy"] <= largest_share + _ACCURACY_TOLERANCE
    )


def collapsed(history: Sequence[Mapping[str, float]], largest_share: float) -> bool:
    """Whether a training ended at chance: its last two epochs are `at_chance`.

    One epoch may be a slow start: a run that has no second one is never called collapsed.

    Args:
        history: a row an epoch, in order; see `at_chance`.
        largest_share: see `at_chance`.
    """
    return len(history) >= 2 and all(at_chance(row, largest_share) for row in history[-2:])
