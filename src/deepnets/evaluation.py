"""What a run's predictions come to: the files of its test, and the figures of each seed.

Needs no model: whoever has the probabilities of a run can write them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepnets import data, figures, files, project, results, scores, statistics
from deepnets.results import Numbers, SeedResult


@dataclass(frozen=True)
class Tested:
    """The test of one seed: loss and accuracy, and what they come from.

    `predicted` is uint8 (n,), `probabilities` float32 (n, 10), in the order of the test split;
    `calibration` is what `statistics.calibration` makes of them, for JSON. The last two are None
    where only what git keeps is at hand.
    """

    test: Numbers
    predicted: NDArray[np.uint8]
    calibration: Numbers | None
    probabilities: NDArray[np.float32] | None


def score(labels: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> Tested:
    """The test on images with `labels`, uint8 (n,), that were given `probabilities` (n, 10)."""
    return Tested(
        scores.score(probabilities, labels),
        probabilities.argmax(axis=1).astype(np.uint8),
        statistics.calibration(labels, probabilities).numbers,
        probabilities,
    )


def read(result: SeedResult) -> Tested | None:
    """The test that was read back; None for a training that was not tested."""
    if result.test is None or result.predicted is None:
        return None
    return Tested(result.test, result.predicted, result.calibration, result.probabilities)


def write(paths: project.RunFiles, labels: NDArray[np.uint8], tests: Mapping[int, Tested]) -> None:
    """Write what the seeds that were tested have come to; see `results.read`."""
    # Which seed a part of it belongs to is known by the predictions, which are written before it.
    paths.probabilities.unlink(missing_ok=True)
    files.write_json(paths.test, results.together({seed: of.test for seed, of in tests.items()}))
    rows = [
        {"seed": seed, "actual": int(label), "predicted": int(guess)}
        for seed, of in tests.items()
        for label, guess in zip(labels, of.predicted, strict=True)
    ]
    files.write_csv(paths.predictions, rows, ["seed", "actual", "predicted"])
    calibrations = {str(seed): of.calibration for seed, of in tests.items() if of.calibration}
    files.write_json(paths.calibration, calibrations)
    known = [of.probabilities for of in tests.values()]
    if all(of is None for of in known):
        return
    lacking = np.full((len(labels), project.CLASSES), np.nan, np.float32)
    stack = np.stack([lacking if of is None else of for of in known])
    files.write_array(paths.probabilities, stack)


def draw(
    arch: str,
    run: figures.Run,
    paths: project.RunFiles,
    result: SeedResult,
    test: data.Split,
    mistakes: int,
) -> None:
    """Draw the curves of one seed and, of one that was tested, what it gets wrong.

    Args:
        arch: what the curves are headed.
        run: the run's name and style.
        paths: where the figures go.
        result: of the seed.
        test: the images that it was tested on.
        mistakes: how many of the most confident mistakes are drawn, where probabilities are there.
    """
    folder = paths.figures(result.seed)
    training = figures.Training(result.history, result.outcome)
    figures.learning_curves({arch: {run: [training]}}, folder / "curves")
    if result.predicted is not None:
        matrix = scores.confusion_matrix(test.labels, result.predicted)
        figures.confusion(matrix, paths.name, folder / "confusion")
    if result.probabilities is not None:
        worst = most_confident_mistakes(result.probabilities, test.labels, mistakes)
        sheet = test.images[worst], test.labels[worst], result.probabilities[worst]
        figures.mistakes({paths.name: sheet}, folder / "mistakes")


def most_confident_mistakes(
    probabilities: NDArray[np.float32], labels: NDArray[np.uint8], count: int
) -> NDArray[np.int64]:
    """Indices of the wrongly classified images with the highest probability, worst first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst_first = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[worst_first[:count]]
