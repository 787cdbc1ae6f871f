"""What predictions and epochs are worth: pure functions of probabilities, labels and histories."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepnets.base.project import CLASSES

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


def chance_accuracy(labels: NDArray[np.uint8]) -> float:
    """The highest accuracy on images with `labels`, (n,), that may still be guessing.

    That is the share of the most frequent digit, and the larger of 0.02 and three standard errors
    above it.
    """
    share = float(np.bincount(labels).max()) / len(labels)
    margin = max(_ACCURACY_TOLERANCE, 3 * math.sqrt(share * (1 - share) / len(labels)))
    return share + margin


def best_epoch(history: Sequence[Mapping[str, Any]]) -> int:
    """The epoch with the highest validation accuracy, the first of equals.

    Args:
        history: a row an epoch, at least one; `epoch` and `val_accuracy` of each.
    """
    return int(max(history, key=lambda row: row["val_accuracy"])["epoch"])


def at_chance(row: Mapping[str, float], chance: float) -> bool:
    """Whether an epoch's training did no better than guessing.

    That is: its mean loss is within 1 % of ln 10, and its accuracy is at most `chance`.

    Args:
        row: an epoch of a history; `loss` in nats and `accuracy` as a fraction, in training.
        chance: from `chance_accuracy`, of the training labels.
    """
    return (
        abs(row["loss"] - _CHANCE_LOSS) <= _LOSS_TOLERANCE * _CHANCE_LOSS
        and row["accuracy"] <= chance
    )


def collapsed(history: Sequence[Mapping[str, float]], chance: float) -> bool:
    """Whether a training ended at chance: its last two epochs are `at_chance`.

    One epoch may be a slow start: a run that has no second one is never called collapsed.

    Args:
        history: a row an epoch, in order; see `at_chance`.
        chance: see `at_chance`.
    """
    return len(history) >= 2 and all(at_chance(row, chance) for row in history[-2:])
