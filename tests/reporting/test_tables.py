"""The table of results, number by number: no two of a training's numbers are the same."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from deepnets.config import params
from deepnets.config.sections import RunParams
from deepnets.records import statistics
from deepnets.records.results import TrainingRecord
from deepnets.reporting import published, tables
from deepnets.reporting.sections import results as sections
from project import ROOT

NAME = "vgg16-adam-random"
RUN = params.load(ROOT / "params.yaml").run_params(NAME, 0)
LABELS = np.arange(400, dtype=np.uint8) % 10

# By seed: validation accuracy and loss, training accuracy and loss of each epoch; seconds of each;
# accuracy and loss on the test images. The accuracy is best before the loss is, and twice.
SEEDS: dict[int, dict[str, Any]] = {
    4: {
        "epochs": [(0.91, 0.5, 0.61, 1.1), (0.95, 0.4, 0.62, 1.2), (0.95, 0.3, 0.63, 1.3)],
        "seconds": [11.0, 90.0, 13.0],
        "test": (0.9, 0.35),
    },
    2: {
        "epochs": [(0.97, 0.9, 0.71, 1.4), (0.92, 0.8, 0.72, 1.5), (0.93, 0.7, 0.74, 1.6)],
        "seconds": [12.0, 14.0, 15.0],
        "test": (0.88, 0.45),
    },
}


def _result(seed: int, **own: Any) -> TrainingRecord:
    numbers = SEEDS[seed]
    keys = ("val_accuracy", "val_loss", "accuracy", "loss")
    accuracy, loss = numbers["test"]
    guesses = LABELS.copy()
    missed = round((1 - accuracy) * len(LABELS))
    guesses[:missed] = (guesses[:missed] + 1) % 10
    known: dict[str, Any] = {
        "run": NAME,
        "seed": seed,
        "row": RUN.model_copy(update={"seed": seed}),
        "history": [
            {"epoch": epoch, **dict(zip(keys, row, strict=True)), "learning_rate": 0.1 / epoch}
            for epoch, row in enumerate(numbers["epochs"], start=1)
        ],
        "timing": [
            {"epoch": epoch, "seconds": seconds, "validation_seconds": 3 * seconds}
            for epoch, seconds in enumerate(numbers["seconds"], start=1)
        ],
        "outcome": "completed",
        "provenance": {
            "parameter_count": {"total": 12, "trainable": 10, "non_trainable": 2},
            "test_data": published.TEST_DATA,
            "images": {"train": 400},
        },
        "test": {"accuracy": accuracy, "loss": loss},
        "labels": LABELS,
        "predicted": guesses,
        # As sure as 0.8 of every guess.
        "probabilities": (0.7777778 * np.eye(10)[guesses] + 0.0222222).astype(np.float32),
    }
    return TrainingRecord(**(known | own))


def _row(*seeds: TrainingRecord) -> dict[str, Any]:
    runs: dict[str, list[RunParams]] = {NAME: [record.params for record in seeds] or [RUN]}
    (row,) = tables.results(runs, {NAME: seeds} if seeds else {}).to_dict("records")
    return row


def _spread(a: float, b: float) -> tuple[float, float]:
    """Mean, and standard deviation of two (n - 1)."""
    return (a + b) / 2, abs(a - b) / 2**0.5


def test_every_number_of_a_row_is_its_own() -> None:
    row = _row(_result(4), _result(2))
    words = {
        "run": NAME,
        "arch": "vgg16",
        "optimizer": "adam",
        "weights": "random",
        "state": "",
        "rebuilt_by": f"deepnets reproduce {NAME}",
    }
    expected = {
        "epochs": 15,
        "seeds": 2,
        "seconds": 13.5,
        "parameters": 12,
        # What the study printed.
        "study_epochs": 15,
        "study_accuracy": 0.9872,
        "study_loss": 0.0399,
        "study_test_accuracy": 0.9924,
        "study_test_loss": 0.0243,
    }
    for key, a, b in (
        ("accuracy", 0.63, 0.74),
        ("loss", 1.3, 1.6),
        ("val_accuracy", 0.95, 0.93),
        ("val_loss", 0.3, 0.7),
        ("test_accuracy", 0.9, 0.88),
        ("test_loss", 0.35, 0.45),
        ("best_epoch", 2, 1),
        # Right less often than it is sure.
        ("ece", 0.1, 0.08),
    ):
        expected[key], expected[f"{key}_sd"] = _spread(a, b)
    low, high = binomtest(356, 400).proportion_ci(method="wilson")
    expected |= {"test_low": low, "test_high": high}
    assert {key: row[key] for key in words} == words
    numbers = {key: value for key, value in row.items() if key not in words}
    assert numbers == pytest.approx(expected, rel=1e-5)


def test_a_seed_alone_has_no_spread() -> None:
    row = _row(_result(2))
    for key in ("accuracy", "loss", "val_accuracy", "val_loss", "test_accuracy", "test_loss"):
        assert np.isnan(row[f"{key}_sd"])
    assert (row["accuracy"], row["seconds"], row["best_epoch"]) == (0.74, 14, 1)


def test_what_was_not_tested_has_the_numbers_of_its_training() -> None:
    untested = {"test": None, "labels": None, "predicted": None, "probabilities": None}
    row = _row(_result(4, **untested))
    assert (row["accuracy"], row["val_accuracy"], row["state"]) == (0.63, 0.95, "not evaluated")
    assert all(np.isnan(row[key]) for key in ("test_accuracy", "test_low", "test_high", "ece"))


def test_what_was_not_run_has_only_the_studys_numbers() -> None:
    row = _row()
    own = ("accuracy", "val_loss", "test_low", "best_epoch", "seconds", "parameters", "ece")
    assert all(np.isnan(row[key]) for key in own)
    assert (row["state"], row["study_test_accuracy"], row["rebuilt_by"]) == ("not run", 0.9924, "")


def test_history_has_the_means_of_each_epoch() -> None:
    shown = tables.history({NAME: [_result(4), _result(2)]}).to_dict("list")
    assert shown["epoch"] == [1, 2, 3]
    assert shown["val_accuracy"] == pytest.approx([0.94, 0.935, 0.94])
    assert shown["val_loss"] == pytest.approx([0.7, 0.6, 0.5])
    assert shown["accuracy"] == pytest.approx([0.66, 0.67, 0.685])
    assert shown["loss"] == pytest.approx([1.25, 1.35, 1.45])
    assert shown["learning_rate"] == pytest.approx([0.1, 0.05, 0.1 / 3])


@pytest.mark.parametrize(("level", "epoch"), [(0.9, 1), (0.92, 2), (0.95, 2), (0.96, None)])
def test_the_first_epoch_of_a_level_is_one_of_validation(level: float, epoch: int | None) -> None:
    assert statistics.epochs_to(_result(4).history, level) == epoch


def _keeping(keep: str, **test: float) -> TrainingRecord:
    plain = _result(4)
    provenance = {**plain.provenance, "parameters": {"keep": keep}}
    return _result(4, provenance=provenance, test={**(plain.test or {}), **test})


def test_a_row_that_keeps_its_best_epoch_has_that_ones_numbers() -> None:
    row = _row(_keeping("best"))
    assert (row["val_accuracy"], row["val_loss"], row["accuracy"]) == (0.95, 0.4, 0.62)
    assert row["state"] == "the best epoch's model"
    both = _row(_keeping("both", best_accuracy=0.99, best_loss=0.1))
    assert both == pytest.approx(_row(_result(4)), nan_ok=True)


def test_the_report_says_whose_results_they_are() -> None:
    assert sections._best_epochs({NAME: [_result(4)]}) == []
    rows = {"one": [_keeping("best")], "two": [_keeping("both", best_accuracy=0.99)]}
    assert sections._best_epochs(rows)[1].splitlines() == [
        "- one, seed 4: the results are those of epoch 2 of 3, the best by val_accuracy.",
        "- two, seed 4: the results are those of epoch 3 of 3, the last epoch (test accuracy "
        "0.9000); beside it stands epoch 2 of 3, the best by val_accuracy (0.9900).",
    ]
