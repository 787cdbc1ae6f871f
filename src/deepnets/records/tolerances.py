"""How far a rerun may be from its run and still be called equal: the only place that says so.

A difference has causes. Some only round otherwise: other numbers of threads, another processor,
oneDNN on or off. For these a tolerance can be known; for all others (code, parameters, data,
versions, backend) there is none, and a rerun that is not bit-identical is different.

The tolerance is one of test accuracy p: that of the rerun lies within so many times sqrt(p (1 - p))
of the run's, times what was measured by `benchmarks/drift.py` on trainings of 150 steps and 1,000
test images (a 95 % prediction interval by Student's t, differences of several causes added as
their squares). "Another processor" was measured as oneDNN without AVX-512 on one that has it. There
is none for a run that has not learned: while VGG-16 leaves chance, other rounding moves it as far
as another seed does. Longer trainings have more time to part, but less room at the end: whether the
same tolerance fits the study's full scale has not been measured.
"""

import math
from collections.abc import Collection
from typing import Literal, NamedTuple

from deepnets.records import statistics

# What may make a training compute otherwise. training: what its fingerprint holds. other: what is
# recorded for people and is not known to change a bit.
Cause = Literal["training", "threads", "processor", "oneDNN", "backend", "other"]


class Deviation(NamedTuple):
    """Root mean square of the differences in test accuracy over `unit`, and of how many runs."""

    deviation: float
    runs: int


# benchmarks/results/drift-*.json; a test compares them.
MEASURED: dict[Cause, Deviation] = {
    "threads": Deviation(0.0444, 6),
    "processor": Deviation(0.0625, 6),
    "oneDNN": Deviation(0.0524, 6),
}


# The test accuracy from which on a network counts as one that has learned.
LEARNED = 0.9


class Tolerance(NamedTuple):
    """Test accuracies from `low` to `high` are equal; `basis` says in words why."""

    low: float
    high: float
    basis: str


def unit(accuracy: float, images: int) -> float:
    """What differences of an accuracy on so many `images` are measured in: sqrt(p (1 - p)).

    p is the accuracy of two more right and two more wrong ones (Agresti and Coull 1998), so that
    there is room beside an accuracy of 1.
    """
    p = (accuracy * images + 2) / (images + 4)
    return math.sqrt(p * (1 - p))


def find_tolerance(causes: Collection[Cause], accuracy: float, images: int) -> Tolerance | None:
    """What a rerun may differ by for `causes`; None where no tolerance is known.

    That is so for other causes than those measured, and for a run that is not `LEARNED`.

    Args:
        causes: those that there are, `other` apart.
        accuracy: of the run on its test images.
        images: how many these are.
    """
    if not causes or not MEASURED.keys() >= set(causes) or accuracy < LEARNED:
        return None
    measured = [MEASURED[cause] for cause in causes]
    squares = (
        (statistics.prediction(deviation.runs) * deviation.deviation) ** 2 for deviation in measured
    )
    size = math.sqrt(sum(squares)) * unit(accuracy, images)
    return Tolerance(
        accuracy - size,
        accuracy + size,
        f"for other {', '.join(sorted(causes))}: test accuracy within {size:.4f}, as measured "
        "on small trainings",
    )
