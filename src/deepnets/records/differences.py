"""What differs between two trainings: in what went into them, and in what came out of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepnets.records import provenance
from deepnets.records.results import EPOCH_METRICS, TrainingRecord
from deepnets.records.tolerances import Cause

# The parts of the environment that a run records.
ENVIRONMENT_GROUPS = ("hardware", "settings", "runtime", "versions")

# By group and key of a run's recorded environment; None: says nothing about the numbers. What is
# not named here belongs to the backend.
_CAUSES: dict[tuple[str, str], Cause | None] = {
    ("hardware", "cpu"): "processor",
    ("hardware", "vector_instructions"): "processor",
    ("hardware", "cores"): "threads",
    ("hardware", "memory_gib"): None,
    ("hardware", "platform"): "other",
    ("settings", "TF_NUM_INTRAOP_THREADS"): "threads",
    ("settings", "TF_NUM_INTEROP_THREADS"): "threads",
    ("settings", "OMP_NUM_THREADS"): "threads",
    ("settings", "TF_ENABLE_ONEDNN_OPTS"): "oneDNN",
    ("settings", "ONEDNN_MAX_CPU_ISA"): "processor",
    ("settings", "TF_CPP_MIN_LOG_LEVEL"): None,
    # Which card, how much of it, and with whom: the card's name is among the hardware.
    ("settings", "CUDA_VISIBLE_DEVICES"): None,
    ("settings", "CUDA_MPS_PIPE_DIRECTORY"): None,
    ("settings", "XLA_PYTHON_CLIENT_MEM_FRACTION"): None,
    ("settings", "XLA_PYTHON_CLIENT_PREALLOCATE"): None,
    ("settings", "TF_FORCE_GPU_ALLOW_GROWTH"): None,
    ("runtime", "onednn"): "oneDNN",
    ("runtime", "one_core_an_operation"): "threads",
    ("runtime", "set_by_user"): None,
    # These are among what the fingerprint holds.
    ("runtime", "devices"): None,
    ("runtime", "processes"): None,
}


class Difference(NamedTuple):
    """Something that two trainings have not alike, and what it may do."""

    cause: Cause
    text: str


class Parting(NamedTuple):
    """The first value that two histories have not alike; None where one of them has ended."""

    epoch: int
    metric: str
    a: float | None
    b: float | None

    def __str__(self) -> str:
        return f"epoch {self.epoch}, {self.metric} ({_describe(self.a)}, now {_describe(self.b)})"


@dataclass(frozen=True)
class OutcomeComparison:
    """How what came out of training `b` compares with training `a`.

    Attributes:
        start: whether both started from the same weights, to the bit.
        weights: whether both ended with the same; None where one has not recorded them.
        epochs: how many each has finished.
        parting: where their histories part; None where they never do.
        furthest: by metric, the largest absolute difference of all epochs that both have.
        disagree: indices of the test images that they give another digit; None where one was not
            evaluated or they were tested on other images.
        images: how many test images there are.
        other_images: whether both were tested, on images that are not the same.
        probability: the largest absolute difference of all probabilities; None where only one has
            them at hand.
        test: by metric, the values of both.
    """

    start: bool
    weights: bool | None
    epochs: tuple[int, int]
    parting: Parting | None
    furthest: Mapping[str, float]
    disagree: NDArray[np.int64] | None
    images: int
    other_images: bool
    probability: float | None
    test: Mapping[str, tuple[float, float]]

    @property
    def alike(self) -> bool:
        """Whether everything that can be compared is the same to the last bit."""
        return bool(
            self.start
            and self.weights is not False
            and self.parting is None
            and not self.other_images
            and (self.disagree is None or not len(self.disagree))
            and not self.probability
            and all(_equal(a, b) for a, b in self.test.values())
        )

    @property
    def enough(self) -> bool:
        """Whether what can be compared tells two trainings apart: final weights or predictions."""
        return self.weights is not None or self.disagree is not None

    @property
    def identical(self) -> bool:
        """Whether they are the same to the last bit, as far as anybody can tell."""
        return self.alike and self.enough


def changes_results(setting: str) -> bool:
    """Whether the environment variable may change what a training computes."""
    return _CAUSES.get(("settings", setting), "backend") is not None


def inputs(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """What went into `b` otherwise than into `a`, in words; both are a run's provenance.

    Starting weights are not among it: they come out of code, parameters and seed. A part that one
    of them lacks, since it was not asked for or by an older version, is left out.
    """
    alike = {**a, "start": b["start"]}
    differences = [Difference("training", text) for text in provenance.differences(alike, b)]
    if a["test_data"] != b["test_data"]:
        differences.append(Difference("training", "other test images"))
    for group in ENVIRONMENT_GROUPS:
        before, now = (origin["environment"].get(group, {}) for origin in (a, b))
        for key in {**before, **now}:
            cause = _cause(group, key, b)
            asked = group == "settings" or (key in before and key in now)
            if cause and asked and before.get(key) != now.get(key):
                values = (_describe(environment.get(key)) for environment in (before, now))
                differences.append(Difference(cause, f"{key} {', now '.join(values)}"))
    return differences


def outcomes(a: TrainingRecord, b: TrainingRecord) -> OutcomeComparison:
    """How what came out of `b` compares with `a`."""
    ends = [record.provenance for record in (a, b)]
    kept = ["weights"]
    if all("best_weights" in end for end in ends):
        kept.append("best_weights")
    weights = [end.get("weights") and tuple(end.get(name) for name in kept) for end in ends]
    disagree = None
    if a.predicted is not None and b.predicted is not None and _same_images(a, b):
        disagree = np.flatnonzero(a.predicted != b.predicted)
    probability = None
    if disagree is not None and a.probabilities is not None and b.probabilities is not None:
        same = np.array_equal(a.probabilities, b.probabilities, equal_nan=True)
        probability = 0.0 if same else float(np.abs(a.probabilities - b.probabilities).max())
    tests = a.test or {}, b.test or {}
    return OutcomeComparison(
        start=a.provenance["start"] == b.provenance["start"],
        weights=None if None in weights else weights[0] == weights[1],
        epochs=(len(a.history), len(b.history)),
        parting=_find_parting(a.history, b.history),
        furthest=_largest_differences(a.history, b.history),
        disagree=disagree,
        images=0 if a.predicted is None else len(a.predicted),
        other_images=bool(a.test and b.test and not _same_images(a, b)),
        probability=probability,
        test={key: (tests[0][key], tests[1][key]) for key in tests[0] if key in tests[1]},
    )


def _cause(group: str, key: str, origin: Mapping[str, Any]) -> Cause | None:
    if group == "versions":
        # Those that shape a training are among what the fingerprint holds.
        return None if key in origin["libraries"] else "other"
    return _CAUSES.get((group, key), "backend")


def _same_images(a: TrainingRecord, b: TrainingRecord) -> bool:
    return bool(a.provenance["test_data"] == b.provenance["test_data"])


def _find_parting(
    a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]]
) -> Parting | None:
    for row_a, row_b in zip(a, b, strict=False):
        for metric in EPOCH_METRICS:
            if not _equal(row_a[metric], row_b[metric]):
                return Parting(int(row_a["epoch"]), metric, row_a[metric], row_b[metric])
    if len(a) == len(b):
        return None
    shorter = min(len(a), len(b))
    ends = [history[shorter]["loss"] if len(history) > shorter else None for history in (a, b)]
    return Parting(shorter + 1, "loss", *ends)


def _largest_differences(
    a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """See `OutcomeComparison`; empty where they have no epoch in common."""
    both = list(zip(a, b, strict=False))
    if not both:
        return {}
    return {
        metric: max(abs(row_a[metric] - row_b[metric]) for row_a, row_b in both)
        for metric in EPOCH_METRICS
    }


def _equal(a: float, b: float) -> bool:
    """Whether they are the same value; no number is the same as no number."""
    return bool(a == b or (a != a and b != b))


def _describe(value: Any) -> str:
    if value is None:
        return "not there"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value) or "unknown"
