"""A training that breaks keeps what it had."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepnets.config import params
from deepnets.data import splits
from deepnets.networks import models, saving
from deepnets.records import results
from deepnets.training import checkpoints, loop
from deepnets.training.checkpoints import Rows
from project import ROOT

DIGITS = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), np.uint8)
SPLIT = splits.Split(DIGITS, np.arange(32, dtype=np.uint8) % 10)
RUN = (
    params.load(ROOT / "params.yaml")
    .run_params("vgg16-sgd-random", 0)
    .model_copy(update={"epochs": 3, "batch_size": 16})
)


def test_a_run_that_diverges_ends_with_the_model_of_its_last_finished_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    whole = loop._train_epoch

    def breaks_in_the_second(view: Any, run: Any, training: Any, epoch: int, watch: Any) -> Any:
        result = whole(view, run, training, epoch, watch)
        return result if epoch < 2 else None

    def save(rows: Rows, variables: list[Any]) -> None:
        digests.append(saving.weights_digest(classifier))
        checkpoints.save(tmp_path, variables, rows.history, rows.timing)

    monkeypatch.setattr(loop, "_train_epoch", breaks_in_the_second)
    classifier = models.build("vgg16", 32, RUN.dropout)
    rows, diverged = loop.fit(classifier, RUN, SPLIT, SPLIT, tmp_path, save)
    assert diverged
    assert [row["epoch"] for row in rows.history] == [1]
    assert saving.weights_digest(classifier) == digests[0]


def test_numbers_of_a_run_that_diverged_later_are_those_of_its_last_epoch() -> None:
    row = {"epoch": 1, "loss": 1.5, "accuracy": 0.5, "val_loss": 1.4, "val_accuracy": 0.6}
    assert results.summary([row], 0.1, diverged=True) == {
        "epochs": 1,
        "loss": 1.5,
        "accuracy": 0.5,
        "val_loss": 1.4,
        "val_accuracy": 0.6,
        "best_epoch": 1,
        "best_val_accuracy": 0.6,
        "collapsed": 0,
        "diverged": 1,
    }


def _epoch(number: int, accuracy: float, loss: float) -> dict[str, float]:
    validated = {"val_loss": loss, "val_accuracy": accuracy}
    return {"epoch": number, "loss": 1 / number, "accuracy": 0.1 * number, **validated}


def test_best_epoch_is_the_first_of_the_highest_validation_accuracy() -> None:
    # The loss is lowest in the fourth, the accuracy highest in the second and third.
    validated = [(0.7, 0.9), (0.8, 0.8), (0.8, 0.7), (0.6, 0.5)]
    history = [_epoch(number, *scores) for number, scores in enumerate(validated, start=1)]
    assert results.summary(history, 0.1, diverged=False) == {
        "epochs": 4,
        "loss": 0.25,
        "accuracy": 0.4,
        "val_loss": 0.5,
        "val_accuracy": 0.6,
        "best_epoch": 2,
        "best_val_accuracy": 0.8,
        "collapsed": 0,
        "diverged": 0,
    }
