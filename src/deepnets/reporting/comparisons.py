"""Which rows of a grid may be set against each other, and how they compare.

Rows of a `Group` share scale and test images; seeds are paired. Knows of no claim.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepnets.config.fields import Arch, OptimizerName, Weights
from deepnets.records.results import TrainingRecord
from deepnets.records.statistics import epochs_to, mcnemar, spread

# Validation accuracies to race for, the one that is meant first.
THRESHOLDS = (0.97, 0.95, 0.9, 0.8)


class Scale(NamedTuple):
    """How many epochs a run trained for, and on how many images."""

    epochs: int
    images: int

    def __str__(self) -> str:
        return f"{self.epochs} epoch{'s' * (self.epochs != 1)} on {self.images:,} images"


class RowKey(NamedTuple):
    """What tells rows of one scale apart."""

    arch: Arch
    optimizer: OptimizerName
    weights: Weights

    def __str__(self) -> str:
        return " ".join(self)


# Of a row, so many seeds that did not end as they should are named; of more the number is said.
_NAMED = 2


@dataclass(frozen=True)
class Runs:
    """The evaluated runs of the row called `name`, by seed."""

    name: str
    results: dict[int, TrainingRecord] = field(default_factory=dict)

    def __str__(self) -> str:
        """The name, and which seeds did not end as they should, or how many; one word if all."""
        odd = [f"seed {s} {r.outcome}" for s, r in self.results.items() if r.outcome != "completed"]
        outcomes = [result.outcome for result in self.results.values()]
        if len(odd) > _NAMED:
            odd = [
                f"{count} of {len(outcomes)} {outcome}"
                for outcome, count in Counter(outcomes).items()
                if outcome != "completed"
            ]
        if odd and len(set(outcomes)) == 1:
            odd = [outcomes[0]]
        return f"{self.name} ({', '.join(odd)})" if odd else self.name

    @property
    def validation_accuracy(self) -> float:
        """Of the models, mean over the seeds; 0 for one that diverged in its first epoch."""
        runs = self.results.values()
        return spread([run.model_row["val_accuracy"] if run.history else 0.0 for run in runs])[0]


@dataclass(frozen=True)
class Group:
    """The rows of one scale, all tested on the images that have `labels`, uint8 (n,)."""

    scale: Scale
    labels: NDArray[np.uint8]
    rows: dict[RowKey, Runs] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Test accuracy of `a` against that of `b`: fractions, one for each of the `seeds` of both.

    `sign` is 1 where `a` is ahead with every seed, -1 where `b` is, and 0 otherwise. `p_value` is
    that of `mcnemar`; where it would favour the other side than the seeds do, `sign` is 0.
    """

    a: Runs
    b: Runs
    seeds: list[int]
    accuracies_a: list[float]
    accuracies_b: list[float]
    sign: int
    p_value: float

    def __str__(self) -> str:
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"
        accuracies = f"{self.a} {self.accuracy_a:.4f}, {self.b} {self.accuracy_b:.4f}"
        return f"{accuracies} ({seeds}; p {p_text(self.p_value, '= ')})"

    @property
    def accuracy_a(self) -> float:
        """Mean over the seeds; so `accuracy_b`."""
        return spread(self.accuracies_a)[0]

    @property
    def accuracy_b(self) -> float:
        return spread(self.accuracies_b)[0]

    def counts(self, sign: int, level: float) -> bool:
        """Whether there is a difference of that sign, significant at `level`."""
        return self.sign == sign and self.p_value < level


class Race(NamedTuple):
    """The epochs that two rows needed to a validation accuracy, by seed; None: never got there."""

    a: Runs
    b: Runs
    threshold: float
    epochs_a: list[int | None]
    epochs_b: list[int | None]

    def __str__(self) -> str:
        a, b = (
            f"{runs.name} {', '.join('never' if e is None else str(e) for e in epochs)}"
            for runs, epochs in ((self.a, self.epochs_a), (self.b, self.epochs_b))
        )
        return f"{a} and {b} for {self.threshold}"

    @property
    def b_wins(self) -> bool:
        """Whether `b` gets there, and in fewer epochs, with every seed."""
        return all(
            b is not None and (a is None or b < a)
            for a, b in zip(self.epochs_a, self.epochs_b, strict=True)
        )


def groups(results: Mapping[str, Sequence[TrainingRecord]]) -> list[Group]:
    """What may be compared with each other: a group for each scale and set of test images.

    Results without predictions are left out. Where a group has several rows with the same `RowKey`,
    which then differ in a rate or another setting, the first in `results` stands for them.
    """
    by_scale: dict[tuple[Scale, bytes], Group] = {}
    for name, seeds in results.items():
        for result in seeds:
            if result.labels is None:
                continue
            run = result.params
            scale = Scale(run.epochs, result.provenance["images"]["train"])
            group = by_scale.setdefault(
                (scale, result.labels.tobytes()), Group(scale, result.labels)
            )
            runs = group.rows.setdefault(RowKey(run.arch, run.optimizer, run.weights), Runs(name))
            if runs.name == name:
                runs.results[result.seed] = result
    return list(by_scale.values())


def evaluated_runs(name: str, seeds: Sequence[TrainingRecord]) -> Runs:
    """The row `name`, with those of its `seeds` that have been tested."""
    return Runs(name, {result.seed: result for result in seeds if result.labels is not None})


def compare(group: Group, row_a: RowKey, row_b: RowKey) -> Comparison | None:
    """The comparison of two rows; None if one was not run or they share no seed."""
    if row_a not in group.rows or row_b not in group.rows:
        return None
    return compare_runs(group.rows[row_a], group.rows[row_b])


def compare_runs(a: Runs, b: Runs) -> Comparison | None:
    """The comparison of two rows; None if they share no seed with the same test images."""
    seeds = sorted(
        seed
        for seed in a.results.keys() & b.results.keys()
        if _label_bytes(a, seed) == _label_bytes(b, seed)
    )
    if not seeds:
        return None
    labels = a.results[seeds[0]].labels
    assert labels is not None
    predicted_a = np.stack([_predicted_digits(a, seed) for seed in seeds])
    predicted_b = np.stack([_predicted_digits(b, seed) for seed in seeds])
    right_a = (predicted_a == labels).sum(axis=1)
    right_b = (predicted_b == labels).sum(axis=1)
    test = mcnemar(labels, predicted_a, predicted_b)
    signs = set(np.sign([*(right_a - right_b), test.only_a - test.only_b]).tolist())
    return Comparison(
        a,
        b,
        seeds,
        (right_a / len(labels)).tolist(),
        (right_b / len(labels)).tolist(),
        signs.pop() if len(signs) == 1 else 0,
        test.p_value,
    )


def race(comparison: Comparison) -> Race:
    """Who of the two learns faster, to the highest of `THRESHOLDS` that all their seeds reach.

    If there is no such, it is the lowest: there, who gets anywhere at all wins.
    """
    a, b = comparison.a, comparison.b
    for threshold in THRESHOLDS:
        epochs_a, epochs_b = (
            [epochs_to(runs.results[seed].history, threshold) for seed in comparison.seeds]
            for runs in (a, b)
        )
        if None not in epochs_a and None not in epochs_b:
            break
    return Race(a, b, threshold, epochs_a, epochs_b)


def p_text(value: float, equals: str = "") -> str:
    """For a table; `equals` stands before a number that is not too small to be shown."""
    return f"{equals}{value:.4f}" if value >= 0.0001 else "< 0.0001"


def _label_bytes(runs: Runs, seed: int) -> bytes:
    """The labels of the test images of one seed."""
    labels = runs.results[seed].labels
    assert labels is not None
    return labels.tobytes()


def _predicted_digits(runs: Runs, seed: int) -> NDArray[np.uint8]:
    predicted = runs.results[seed].predicted
    assert predicted is not None
    return predicted
