"""The figures of one training, drawn from its files alone: for a legend no model is asked again."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepnets.base import files, project
from deepnets.evaluation import evaluation
from deepnets.records.results import TrainingRecord
from deepnets.reporting import curves, drawing, matrices, sheets
from deepnets.training import scores


def draw(run: drawing.Run, paths: project.RunFiles, result: TrainingRecord, mistakes: int) -> None:
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
    training = curves.SeedCurve(result.history, result.outcome)
    heading = result.provenance["parameters"]["arch"]
    curves.learning_curves({heading: {run: [training]}}, folder / "curves")
    if result.labels is None or result.predicted is None:
        for name in ("confusion", "mistakes"):
            (folder / f"{name}.png").unlink(missing_ok=True)
        return
    matrix = scores.confusion_matrix(result.labels, result.predicted)
    matrices.confusion(matrix, paths.name, folder / "confusion")
    picture = folder / "mistakes.png"
    images = test_images(Path(), result)
    if result.probabilities is not None and images is not None:
        worst = evaluation.most_confident_mistakes(result.probabilities, result.labels, mistakes)
        sheets.mistakes(
            paths.name,
            images[worst],
            result.labels[worst],
            result.probabilities[worst],
            picture.with_suffix(""),
            _picture_note(result),
        )
    elif not is_of(picture, result):
        picture.unlink(missing_ok=True)


def take_over(there: Path, paths: project.RunFiles, result: TrainingRecord) -> None:
    """Copy the picture of the mistakes of `result` from the folder `there`, if there is one."""
    if result.predicted is None:
        return
    try:
        with Image.open(there / "mistakes.png") as opened:
            picture = opened.convert("RGB")
    except Exception:  # a reader of damaged bytes may raise anything
        return
    drawing.write(picture, paths.figures(result.seed) / "mistakes.png", _picture_note(result))


def remove_all_but(kept: Iterable[Path]) -> None:
    """Remove the folders of trainings that the study has no more."""
    shown = set(kept)
    for folder in project.RUN_FIGURES.glob("*/*"):
        if folder not in shown:
            shutil.rmtree(folder)


def test_images(study: Path, result: TrainingRecord) -> NDArray[np.uint8] | None:
    """The images uint8 (n, size, size, 3) that `result` was tested on, if `study` has them here."""
    paths = [study / path for path in project.split_files("test")]
    if not all(path.is_file() for path in paths):
        return None
    images, labels = map(files.read_array, paths)
    return images if np.array_equal(labels, result.labels) else None  # type: ignore[arg-type]


def is_of(picture: Path, result: TrainingRecord) -> bool:
    """Whether a picture that was drawn before is of the predictions that `result` has."""
    try:
        with Image.open(picture) as opened:
            return _picture_note(result).items() <= opened.info.items()
    except Exception:  # a reader of damaged bytes may raise anything
        return False


def _picture_note(result: TrainingRecord) -> dict[str, str]:
    """What a picture says of the predictions that it is of."""
    both = np.stack([result.labels, result.predicted])  # type: ignore[list-item]
    return {"Source": files.array_digest(both)[:16]}
