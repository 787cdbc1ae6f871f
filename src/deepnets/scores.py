"""What predictions are worth: pure functions of probabilities and labels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepnets.project import CLASSES


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
