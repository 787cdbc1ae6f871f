"""How far scores can be trusted: pure functions of labels, probabilities and histories.

Nothing here knows of files, runs or claims; and nothing that
trains imports it, so that a change here makes no training stale. SciPy's tests are imported where
they are needed: that takes half a second, and most commands need none.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# The level of every interval and bound, each by itself.
CONFIDENCE = 0.95


class Calibration(NamedTuple):
    """Confidence against accuracy by bin: int64 (bins,), then float64 (bins,), nan in empty bins.

    `ece` is the mean gap between the two in the bins, weighted by their counts.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    ece: float

    @property
    def numbers(self) -> dict[str, Any]:
        """The same for JSON, which has no nan."""
        bins = {
            key: [None if math.isnan(value) else value for value in getattr(self, key).tolist()]
            for key in ("counts", "confidence", "accuracy")
        }
        return {**bins, "ece": self.ece}

    @staticmethod
    def of_numbers(numbers: Mapping[str, Any]) -> "Calibration":
        """The inverse of `numbers`."""
        return Calibration(
            np.array(numbers["counts"], np.int64),
            np.array(numbers["confidence"], np.float64),
            np.array(numbers["accuracy"], np.float64),
            float(numbers["ece"]),
        )


class McNemar(NamedTuple):
    """Images that one side gets right more often, and the two-sided p-value of that split."""

    only_a: int
    only_b: int
    p_value: float


def calibration(
    labels: NDArray[np.uint8], probabilities: NDArray[np.float32], bins: int = 15
) -> Calibration:
    """Expected calibration error and what it is made of.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, equations 2 and 3: bin m
    of M holds the images whose highest probability lies in ((m - 1) / M, m / M].

    Args:
        labels: (n,), n at least 1.
        probabilities: (n, 10).
        bins: number of bins of equal width.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    # A float32 softmax can exceed 1 in its last bit.
    index = np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side="left") - 1
    index = np.clip(index, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    confidences = np.bincount(index, confidence, bins)
    hits = np.bincount(index, right, bins)
    ece = float(np.abs(hits - confidences).sum() / count.sum())
    return Calibration(count, _ratio(confidences, count), _ratio(hits, count), ece)


def accuracy_interval(right: int, count: int, level: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval for the accuracy behind `right` of `count` images (at least 1).

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    It is about other test images from the same source, not about another training.
    """
    from scipy.stats import binomtest

    interval = binomtest(right, count).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def prediction(count: int) -> float:
    """How many root mean squares of `count` differences around 0 (at least 1) hold the next one.

    Student's t with as many degrees of freedom: the mean is known, not estimated.
    """
    from scipy.special import stdtrit

    return float(stdtrit(count, (1 + CONFIDENCE) / 2))


def mcnemar(
    labels: NDArray[np.uint8],
    predicted_a: NDArray[np.uint8],
    predicted_b: NDArray[np.uint8],
) -> McNemar:
    """Exact McNemar test of two classifiers on the same images.

    Source: McNemar, 1947, in its exact form: if neither is better, an image that only one of them
    gets right is either's with probability 1/2.

    With several seeds an image counts once, for the side that more seeds get it right with: the
    seeds meet the same hard images, so their p-values are no independent evidence that Fisher's
    method could combine. With one seed this is McNemar's test itself.

    Args:
        labels: (n,).
        predicted_a: (n,), or (seeds, n).
        predicted_b: of the same shape, seed by seed.
    """
    from scipy.stats import binomtest

    right_a, right_b = predicted_a == labels, predicted_b == labels
    lead = (right_a.astype(np.int64) - right_b).reshape(-1, len(labels)).sum(axis=0)
    only_a, only_b = int((lead > 0).sum()), int((lead < 0).sum())
    discordant = only_a + only_b
    # scipy refuses a test of no trials; nothing speaks against equality then.
    p_value = float(binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(only_a, only_b, p_value)


def epochs_to(history: Sequence[Mapping[str, float]], threshold: float) -> int | None:
    """The first epoch, from 1, whose validation accuracy is at least `threshold`; None: none is."""
    return next((int(row["epoch"]) for row in history if row["val_accuracy"] >= threshold), None)


def curve_distance(a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]]) -> float:
    """How far apart two trainings run: the mean absolute difference in their accuracy.

    Over the epochs that both have, training and validation accuracy counted alike.

    Args:
        a: rows with epoch, accuracy and val_accuracy, fractions; at least one epoch is also in `b`.
        b: such rows.

    Returns:
        A fraction, 0 for the same curves.
    """
    others = {row["epoch"]: row for row in b}
    both = [(row, others[row["epoch"]]) for row in a if row["epoch"] in others]
    keys = ("accuracy", "val_accuracy")
    return float(np.mean([abs(row[key] - other[key]) for row, other in both for key in keys]))


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1 in the denominator), which one value has not.

    Args:
        values: at least one, a seed each.
    """
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), deviation


def _ratio(part: NDArray[Any], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Part / whole by element, nan where there is no whole."""
    ratio = np.full(len(whole), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
