"""What is drawn of one training: from its files alone, and no picture of what is so no more."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import made_up
from deepnets.base import files, project
from deepnets.records import results
from deepnets.records.results import TrainingRecord
from deepnets.reporting import run_figures
from deepnets.reporting.drawing import Run

NAME = "vgg16-sgd-random"
PATHS = project.grid_run(NAME, "vgg16-random")
MISTAKES = PATHS.figures(1) / "mistakes.png"


@pytest.fixture
def tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingRecord:
    """The second seed of a row of a study, which is the current folder, with all that it needs."""
    made_up.write(tmp_path, made_up.small, {})
    monkeypatch.chdir(tmp_path)
    return results.read(PATHS)[1]


def draw(result: TrainingRecord) -> set[str]:
    run_figures.draw(Run(NAME, "sgd", "random"), PATHS, result, 4)
    return {path.stem for path in PATHS.figures(result.seed).iterdir()}


def test_a_training_has_its_curves_and_what_it_gets_wrong(tested: TrainingRecord) -> None:
    assert draw(tested) == {"curves", "confusion", "mistakes"}


@pytest.mark.parametrize("lost", ["images", "probabilities"])
def test_mistakes_that_cannot_be_drawn_again_stay(tested: TrainingRecord, lost: str) -> None:
    draw(tested)
    before = MISTAKES.read_bytes()
    if lost == "images":
        project.split_files("test")[0].unlink()
    else:
        tested = replace(tested, probabilities=None)
    assert draw(tested) == {"curves", "confusion", "mistakes"}
    assert MISTAKES.read_bytes() == before


@pytest.mark.parametrize("other", ["predictions", "test", "damaged", "unknown"])
def test_mistakes_of_other_predictions_go(tested: TrainingRecord, other: str) -> None:
    draw(tested)
    later: dict[str, Any] = {"probabilities": None}
    if other == "predictions":
        later["predicted"] = np.roll(made_up.LABELS, 1)
    elif other == "test":
        later |= {"test": None, "labels": None, "predicted": None}
    elif other == "damaged":
        MISTAKES.write_bytes(MISTAKES.read_bytes()[:10])
    else:
        Image.new("L", (8, 8)).save(MISTAKES)
    shown = {"curves"} if other == "test" else {"curves", "confusion"}
    assert draw(replace(tested, **later)) == shown


def test_mistakes_of_images_of_another_test_are_not_drawn(tested: TrainingRecord) -> None:
    files.write_array(project.split_files("test")[1], np.roll(made_up.LABELS, 1))
    assert draw(tested) == {"curves", "confusion"}


def test_a_picture_from_where_the_training_was_is_that_of_its_predictions(
    tested: TrainingRecord, tmp_path: Path
) -> None:
    """As it is where an earlier version has drawn it, which did not say what it is of."""
    Image.new("L", (8, 8), 200).save(tmp_path / "mistakes.png")
    run_figures.take_over(tmp_path, PATHS, tested)
    assert draw(replace(tested, probabilities=None)) == {"curves", "confusion", "mistakes"}
    with Image.open(MISTAKES) as taken:
        assert taken.size == (8, 8)
    (tmp_path / "mistakes.png").write_bytes(b"damaged")
    run_figures.take_over(tmp_path, PATHS, tested)  # is left alone


def test_figures_of_trainings_that_are_no_more_go(tested: TrainingRecord) -> None:
    draw(tested)
    gone = project.RUN_FIGURES / "other" / "seed-0"
    files.write_bytes(gone / "curves.png", b"")
    run_figures.remove_all_but([PATHS.figures(1)])
    assert not gone.exists()
    assert MISTAKES.is_file()


def test_a_wording_of_a_figure_needs_no_model(tested: TrainingRecord) -> None:
    """All that the figures are drawn from are the files of the training and the test images."""
    assert not PATHS.model_dir.exists()
    assert draw(tested) == {"curves", "confusion", "mistakes"}
