"""How few epochs beat the study's best results, decided without a look at the test set.

Rows of a grid that differ in nothing but their epochs are a ladder; `RULES` says for readers of
the report which rung is taken. Pure functions of results.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deepnets.config.fields import Arch, Weights
from deepnets.config.sections import RunParams
from deepnets.records import statistics
from deepnets.records.results import TrainingRecord
from deepnets.reporting import published

# A paragraph each, for the report.
RULES = (
    "Rows that differ in nothing but their epochs are a ladder. A rung is above a result of the "
    "study if its validation accuracy after the last epoch, less one standard error of it, is "
    "higher: sqrt(a (1 - a) / n) for an accuracy of a on n images. With several seeds, each is.",
    "The fewest epochs are those of the lowest rung that is above. They are the fewest of the "
    "rungs that were run; what lies between two rungs was not tried.",
    "The test set chooses nothing. Every rung is tested once, and the test accuracy of the one "
    "that validation has chosen is the one that counts, whichever way it falls.",
)


@dataclass(frozen=True)
class Rung:
    """A row of a ladder. `validation` and `error` have a value a seed: accuracy, standard error.

    `test` is the mean test accuracy and `interval` its 95 % interval; None before it is tested.
    """

    row: str
    epochs: int
    validation: Sequence[float]
    error: Sequence[float]
    test: float | None
    interval: tuple[float, float] | None

    def is_above(self, goal: float) -> bool:
        """Whether validation says, by `RULES`, that this rung is more accurate than `goal`."""
        return all(v - e > goal for v, e in zip(self.validation, self.error, strict=True))


@dataclass(frozen=True)
class Climb:
    """A ladder and a result of the study to get above.

    `goal` is the study's best test accuracy from `weights`; `chosen` the lowest rung above it,
    None if there is none.
    """

    arch: Arch
    weights: Weights
    goal: float
    rungs: Sequence[Rung]
    chosen: Rung | None


def ladders(runs: Mapping[str, RunParams]) -> list[list[str]]:
    """The rows that differ in nothing but their epochs, by epochs; single ones are left out."""
    groups: dict[RunParams, list[str]] = {}
    for name, run in runs.items():
        groups.setdefault(run.model_copy(update={"epochs": 1}), []).append(name)
    return [
        sorted(names, key=lambda name: runs[name].epochs)
        for names in groups.values()
        if len(names) > 1
    ]


def climb(ladder: Sequence[str], found: Mapping[str, Sequence[TrainingRecord]]) -> list[Climb]:
    """How far the rows of `ladder` that were run get, for each of the study's two best results.

    Args:
        ladder: names of rows, by epochs.
        found: the seeds of each row that were trained; rows that diverged count as not run, and
            so do those that were not tested on the study's images.
    """
    run = [
        name
        for name in ladder
        if found.get(name)
        and all(of.history and published.is_tested_on_its_images(of) for of in found[name])
    ]
    if not run:
        return []
    rungs = [_rung(found[name]) for name in run]
    arch = found[run[0]][0].params.arch
    climbs = []
    for weights in published.WEIGHTS:
        goal = published.best_test_accuracy(weights)
        chosen = next((rung for rung in rungs if rung.is_above(goal)), None)
        climbs.append(Climb(arch, weights, goal, rungs, chosen))
    return climbs


def _rung(seeds: Sequence[TrainingRecord]) -> Rung:
    validation = [of.history[-1]["val_accuracy"] for of in seeds]
    images = [of.provenance["images"]["validation"] for of in seeds]
    error = [math.sqrt(a * (1 - a) / n) for a, n in zip(validation, images, strict=True)]
    tested = [of.test["accuracy"] for of in seeds if of.test is not None]
    labels = next((of.labels for of in seeds if of.labels is not None), None)
    test, interval = None, None
    if labels is not None and len(tested) == len(seeds):
        test = float(np.mean(tested))
        interval = statistics.accuracy_interval(round(test * len(labels)), len(labels))
    return Rung(seeds[0].run, seeds[0].params.epochs, validation, error, test, interval)
