"""Trainings that arrive from elsewhere: whether they are of the study and agree with themselves."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from deepnets.base import files, project
from deepnets.base.errors import UserError
from deepnets.config import words
from deepnets.config.params import Params
from deepnets.config.sections import RunParams
from deepnets.data import splits
from deepnets.networks import saving
from deepnets.records import provenance, results, statistics
from deepnets.records.results import TrainingRecord
from deepnets.training import scores

# Another processor may sum the same losses in another order.
_ROUNDING = 1e-9


class ForeignTrainingError(Exception):
    """A training is none of this study's, or has not ended; its message says why."""


class RefusedError(Exception):
    """A training belongs to the study, but not all of it can be right, or another one is there."""


@dataclass(frozen=True)
class Arrival:
    """A training somewhere else: what it came to, the folder with its numbers, and its model."""

    result: TrainingRecord
    folder: Path
    model: Path | None

    @property
    def best_model(self) -> Path | None:
        """That of its best epoch, where it lies beside the model of its last one."""
        if self.model is None:
            return None
        name = project.run_at(self.folder).best_model(self.result.seed).name
        beside = self.model.with_name(name)
        return beside if beside.is_file() else None

    def __str__(self) -> str:
        return f"{self.folder}, seed {self.result.seed}"


class Check:
    """What trainings are held against: the study's rows and its data."""

    def __init__(self, study: Params) -> None:
        self.study = study
        self.test = splits.load("test")
        self._splits = {"train": splits.load("train"), "validation": splits.load("validation")}
        self._digest = cache(lambda name, count: self._splits[name].first(count).digest)

    def row(self, training: Arrival) -> str:
        """The row that `training` is one of.

        Raises:
            ForeignTrainingError: of none; the message names the nearest and what differs.
            RefusedError: something about it is not as it says.
        """
        result, origin = training.result, training.result.provenance
        try:
            self._check_fingerprint(origin)
            name, run = self._find_row(origin["parameters"], result.seed)
            self._check_data(origin, run)
            _check_history(training, run)
            self._check_test(result)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RefusedError(f"its files are damaged ({type(error).__name__}: {error})") from None
        if training.model is not None:
            _check_model(training.model, origin.get("weights"))
            if training.best_model is not None:
                _check_model(training.best_model, origin.get("best_weights"))
        elif result.test is None:
            raise RefusedError("it was not tested, and its model is not with it")
        return name

    def _check_fingerprint(self, origin: Mapping[str, Any]) -> None:
        if provenance.fingerprint_of(origin) != origin["fingerprint"]:
            raise RefusedError(
                "its provenance.json was changed: the fingerprint there is not that of its "
                "parameters, data, starting weights, code and libraries"
            )

    def _find_row(self, parameters: dict[str, Any], seed: int) -> tuple[str, RunParams]:
        try:
            run = RunParams.model_validate({"train_images": None} | parameters)
        except ValidationError as error:
            said = words.describe(error, RunParams).removesuffix(": correct it and run again")
            raise ForeignTrainingError(f"this version knows no such parameters ({said})") from None
        rows = {name: self.study.run_params(name, seed) for name in self.study.runs}
        name = next((name for name, row in rows.items() if row == run), None)
        if name is None:
            raise ForeignTrainingError(_describe_nearest(run, rows))
        if seed not in self.study.train.seeds:
            raise ForeignTrainingError(
                f"it is of {name}, with a seed that this study has not: expected one of "
                f"{', '.join(map(str, self.study.train.seeds))}: add it to train.seed"
            )
        return name, run

    def _check_data(self, origin: Mapping[str, Any], run: RunParams) -> None:
        expected = {
            "training": (origin["data"]["train"], self._digest("train", run.train_images)),
            "validation": (origin["data"]["validation"], self._digest("validation", None)),
            "test": (origin["test_data"], self.test.digest),
        }
        for name, (received, ours) in expected.items():
            if received != ours:
                raise RefusedError(
                    f"it has other {name} images: expected sha256 {ours[:12]}..., received "
                    f"{received[:12]}..."
                )

    def _check_test(self, result: TrainingRecord) -> None:
        """Compute the metrics of the test again, as far as what they come from is there."""
        if result.test is None:
            return
        if result.labels is None or result.predicted is None:
            raise RefusedError("its predictions do not hold what test.json is about")
        if not np.array_equal(result.labels, self.test.labels):
            raise RefusedError("its predictions are about other test images")
        again = {"accuracy": float((result.predicted == result.labels).mean())}
        if result.probabilities is not None:
            again = scores.score(result.probabilities, result.labels)
            if (result.probabilities.argmax(axis=1) != result.predicted).any():
                raise RefusedError("its predictions do not follow from probabilities.npy")
        elif result.calibration is not None:
            kept = statistics.Calibration.of_numbers(result.calibration)
            right = round(float(np.nansum(kept.counts * kept.accuracy)))
            if (int(kept.counts.sum()), right) != (
                len(result.labels),
                int((result.predicted == result.labels).sum()),
            ):
                raise RefusedError("calibration.json is not about its predictions")
        for key, value in again.items():
            if not math.isclose(value, result.test[key], rel_tol=_ROUNDING):
                raise RefusedError(
                    f"test.json says {key} {result.test[key]!r}; its predictions come to {value!r}"
                )


def _describe_nearest(run: RunParams, rows: Mapping[str, RunParams]) -> str:
    """That no row is `run`, and what it would take to be the one that is most like it."""
    own = run.flat
    differing = {
        name: [key for key in {**own, **row.flat} if own.get(key) != row.flat.get(key)]
        for name, row in rows.items()
    }
    name = min(differing, key=lambda name: len(differing[name]))
    theirs = rows[name].flat
    said = [f"{key} {own.get(key)}, not {theirs.get(key)}" for key in differing[name]]
    more = f" and {len(said) - 3} more" if len(said) > 3 else ""
    return f"no row has its parameters; from {name} it differs in {'; '.join(said[:3])}{more}"


def _check_history(training: Arrival, run: RunParams) -> None:
    result = training.result
    epochs = [int(row["epoch"]) for row in result.history]
    diverged = result.outcome == "diverged"
    if (
        epochs != list(range(1, len(epochs) + 1))
        or [int(r["epoch"]) for r in result.timing] != epochs
    ):
        raise RefusedError("history.csv and timing.csv do not hold the same epochs from 1 on")
    if len(epochs) != run.epochs and not (diverged and len(epochs) < run.epochs):
        raise RefusedError(f"history.csv holds {len(epochs)} epochs, expected {run.epochs}")
    if not all({"seed", *row} >= set(results.TIMING) for row in result.timing):
        raise RefusedError(f"timing.csv lacks a column: expected {', '.join(results.TIMING)}")
    numbers = results.numbers_of_seed(files.read_json(training.folder / "train.json"), result.seed)
    if not _equal(numbers, result.numbers):
        raise RefusedError("train.json does not follow from history.csv")


def _check_model(path: Path, weights: str | None) -> None:
    """Check that the model at `path` is the one that was sealed, with the recorded weights."""
    noted = files.noted_digest(path)
    if noted is not None and noted != files.file_digest(path):
        raise RefusedError(f"{path.name} is not the file that {files.SUMS} beside it names")
    try:
        received = saving.weights_digest(saving.load(path))
    except UserError as error:
        raise RefusedError(str(error)) from None
    if weights is not None and received != weights:
        raise RefusedError(
            f"{path.name} has other weights than its record says: expected sha256 "
            f"{weights[:12]}..., received {received[:12]}..."
        )


def is_same_training(a: TrainingRecord, b: TrainingRecord) -> bool:
    """Whether both are the same training, though one may lack its test or probabilities."""
    tests = a.test is None or b.test is None or _equal(a.test, b.test)
    return _equal(a.provenance, b.provenance) and _equal(a.history, b.history) and tests


def _equal(a: Any, b: Any) -> bool:
    """Whether two readings of files are the same; a loss that is no number equals itself here."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
