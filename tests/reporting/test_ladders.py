"""The fewest epochs that beat the study's best results, chosen by validation accuracy alone."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from deepnets.config import params
from deepnets.records.results import TrainingRecord
from deepnets.reporting import accuracies, drawing, ladders, published
from project import ROOT

STUDY = params.load(ROOT / "params.yaml")
RUN = STUDY.run_params("vgg16-sgd-random", 0)
LABELS = np.zeros(10_000, np.uint8)

# 5,000 validation images: a standard error of 0.0012 at 0.9924 and of 0.0008 at 0.9969.
JUST_BELOW, JUST_ABOVE = 0.9934, 0.9938


def row(epochs: int, *validation: float, test: float | None = None) -> list[TrainingRecord]:
    return [
        TrainingRecord(
            run=f"vgg16-{epochs}",
            seed=seed,
            history=[{"val_accuracy": 0.1}, {"val_accuracy": accuracy}],
            timing=[],
            outcome="completed",
            provenance={"images": {"validation": 5000}, "test_data": published.TEST_DATA},
            test=None if test is None else {"accuracy": test},
            labels=None if test is None else LABELS,
            row=RUN.model_copy(update={"epochs": epochs}),
        )
        for seed, accuracy in enumerate(validation)
    ]


def climb(*rows: list[TrainingRecord]) -> list[ladders.Climb]:
    found = {of[0].run: of for of in rows}
    return ladders.climb([*found, "not-run"], found)


def test_goals_are_the_best_results_that_the_study_published() -> None:
    assert published.best_test_accuracy("random") == 0.9924
    assert published.best_test_accuracy("imagenet") == 0.9969


def test_rows_that_differ_in_nothing_but_epochs_are_a_ladder() -> None:
    runs = {
        "four": RUN.model_copy(update={"epochs": 4}),
        "other": RUN.model_copy(update={"epochs": 4, "dropout": 0.25}),
        "two": RUN.model_copy(update={"epochs": 2}),
    }
    assert ladders.ladders(runs) == [["two", "four"]]
    assert ladders.ladders({name: STUDY.run_params(name, 0) for name in STUDY.runs}) == []


@pytest.mark.parametrize(
    ("validations", "chosen"),
    [
        ([(JUST_BELOW,), (JUST_ABOVE,), (0.999,)], 2),
        ([(JUST_ABOVE,), (JUST_ABOVE,)], 1),
        ([(JUST_BELOW,), (JUST_BELOW,)], None),
        # Each seed has to be above.
        ([(0.999, JUST_BELOW), (JUST_ABOVE, JUST_ABOVE)], 2),
    ],
)
def test_lowest_rung_above_by_a_standard_error_is_chosen(
    validations: list[tuple[float, ...]], chosen: int | None
) -> None:
    random, imagenet = climb(*(row(2**i, *of) for i, of in enumerate(validations)))
    assert (random.chosen and random.chosen.epochs) == chosen
    assert (imagenet.chosen and imagenet.chosen.epochs) == (
        4 if validations[-1] == (0.999,) else None
    )


def test_test_accuracy_chooses_nothing() -> None:
    (random, _) = climb(row(1, JUST_BELOW, test=0.9999), row(2, JUST_ABOVE, test=0.95))
    assert random.chosen is not None
    assert random.chosen.row == "vgg16-2"
    assert random.chosen.test == 0.95
    low, high = random.chosen.interval or (0, 0)
    assert low < 0.95 < high


def test_rows_that_were_not_run_or_diverged_are_no_rungs() -> None:
    diverged = row(1, 0.999)
    diverged[0].history.clear()
    assert climb(diverged) == []
    (random, _) = climb(diverged, row(2, JUST_ABOVE))
    assert [rung.epochs for rung in random.rungs] == [2]


def test_figure_shows_every_rung_both_goals_and_the_test_of_the_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved: list[Any] = []
    monkeypatch.setattr(drawing, "save", lambda figure, *_: saved.append(figure))
    accuracies.climbs(
        [("VGG-16", climb(row(1, JUST_BELOW, test=0.98), row(2, JUST_ABOVE, test=0.99)))], Path("x")
    )
    (figure,) = saved
    (axis,) = figure.axes
    shown = [[round(float(y), 2) for y in line.get_ydata()] for line in axis.get_lines()]
    assert [99.34, 99.38] in shown
    assert [99.24, 99.24] in shown
    assert [99.69, 99.69] in shown
    assert [99.0] in shown
    assert [98.0] not in shown
    plt.close(figure)
