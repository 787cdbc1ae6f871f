"""The figures of one training, drawn from its files alone: for a legend no model is asked again."""

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepnets.base import files, project
from deepnets.evaluation import evaluation
from deepnets.records.results import SeedResult
from deepnets.reporting import curves, drawing, matrices, sheets
from deepnets.training import scores

# What a picture says of the predictions that it shows.
_ABOUT = "Source"


def draw(run: drawing.Run, paths: project.RunFiles, result: SeedResult, mistakes: int) -> None:
    """Draw the curves of one seed and, of one that was tested, what it gets wrong.

    The mistakes need the test images and the probabilities, which git does not keep: where these
    are not at hand, a picture of the same predictions stays.

    Args:
        run: the run's name and style.
        paths: where the figures go.
        result: of the seed.
        mistakes: how many of the most confident mistakes are drawn.
    """
    folder = paths.figures(result.seed)
    training = curves.Training(result.history, result.outcome)
    heading = result.provenance["parameters"]["arch"]
    curves.learning_curves({heading: {run: [training]}}, folder / "curves")
    if result.labels is None or result.predicted is None:
        for name in ("confusion", "mistakes"):
            (folder / f"{name}.png").unlink(missing_ok=True)
        return
    matrix = scores.confusion_matrix(result.labels, result.predicted)
    matrices.confusion(matrix, paths.name, folder / "confusion")
    picture, about = folder / "mistakes.png", _digest(result)
    images = test_images(Path(), result)
    if result.probabilities is not None and images is not None:
        worst = evaluation.most_confident_mistakes(result.probabilities, result.labels, mistakes)
        sheet = images[worst], result.labels[worst], result.probabilities[worst]
        sheets.mistakes({paths.name: sheet}, picture.with_suffix(""), {_ABOUT: about})
    elif picture.is_file() and _about(picture) != about:
        picture.unlink()


def take_over(there: Path, paths: project.RunFiles, result: SeedResult) -> None:
    """Copy the picture of the mistakes from the folder `there`, where `result` was drawn before."""
    picture = there / "mistakes.png"
    if picture.is_file() and result.predicted is not None:
        target = paths.figures(result.seed) / picture.name
        with suppress(Exception), Image.open(picture) as opened:  # a damaged one may raise any
            drawing.write(opened, target, {_ABOUT: _digest(result)})


def remove_all_but(kept: Iterable[Path]) -> None:
    """Remove the folders of trainings that the study has no more."""
    shown = set(kept)
    for folder in project.RUN_FIGURES.glob("*/*"):
        if folder not in shown:
            shutil.rmtree(folder)


def test_images(study: Path, result: SeedResult) -> NDArray[np.uint8] | None:
    """The images uint8 (n, size, size, 3) that `result` was tested on, if `study` has them here."""
    paths = [study / path for path in project.split_files("test")]
    if not all(path.is_file() for path in paths):
        return None
    images, labels = map(files.read_array, paths)
    return images if np.array_equal(labels, result.labels) else None  # type: ignore[arg-type]


def _digest(result: SeedResult) -> str:
    """What tells the predictions of one test from those of another."""
    return files.array_digest(np.stack([result.labels, result.predicted]))[:16]  # type: ignore[list-item]


def _about(picture: Path) -> str | None:
    """The predictions that a picture is of; None where it does not say so."""
    try:
        with Image.open(picture) as opened:
            return str(opened.info.get(_ABOUT))
    except Exception:  # a reader of damaged bytes may raise anything
        return None
