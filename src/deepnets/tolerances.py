"""How far a rerun may be from its run and still be called equal: the only place that says so.

A difference has causes. Some only round otherwise: other numbers of threads, another processor,
oneDNN on or off. For these a tolerance can be known; for all others (code, parameters, data,
versions, backend) there is none, and a rerun that is not bit-identical is different.

**What stands here is provisional.** How far runs drift for such causes has not been measured yet.
Until it is, the tolerance is what the number of test images allows anyway: the test accuracy of
the rerun lies within the 95 % interval (Wilson's) of the run's. That is wide: with 1,000 images
about two percentage points.
"""

from collections.abc import Collection
from typing import Literal, NamedTuple

from deepnets import statistics

# What may make a training compute otherwise. training: what its fingerprint holds. other: what is
# recorded for people and is not known to change a bit.
Cause = Literal["training", "threads", "processor", "oneDNN", "backend", "other"]

_ROUNDING: frozenset[Cause] = frozenset({"threads", "processor", "oneDNN"})


class Tolerance(NamedTuple):
    """Test accuracies from `low` to `high` are equal; `basis` says in words why."""

    low: float
    high: float
    basis: str


def known(causes: Collection[Cause], accuracy: float, images: int) -> Tolerance | None:
    """What a rerun may differ by for `causes`; None where no tolerance is known.

    Args:
        causes: those that there are, `other` apart.
        accuracy: of the run on its test images.
        images: how many these are.
    """
    if not causes or not _ROUNDING.issuperset(causes):
        return None
    low, high = statistics.accuracy_interval(round(accuracy * images), images)
    return Tolerance(
        low,
        high,
        f"provisional, not measured for other {', '.join(sorted(causes))}: test accuracy within "
        f"the 95 % interval that {images:,} test images allow, {low:.4f} to {high:.4f}",
    )
