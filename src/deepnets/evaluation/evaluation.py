"""What a run's predictions come to: the files of its test, numbers all of them.

Needs no model: whoever has the probabilities of a run can write them.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deepnets.base import files, project
from deepnets.records import predictions, results, statistics
from deepnets.records.results import TrainingRecord
from deepnets.training import scores


def score(
    result: TrainingRecord,
    labels: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    best: Mapping[str, float] | None = None,
) -> TrainingRecord:
    """The training with its test: on images with `labels`, uint8 (n,), given `probabilities`.

    Args:
        result: as it was read back; a test that it has is replaced.
        labels: in the order of the test split.
        probabilities: float32 (n, 10), likewise.
        best: loss and accuracy of the best epoch's model, where that is beside the run's own.
    """
    return replace(
        result,
        test=scores.score(probabilities, labels)
        | {f"best_{key}": value for key, value in (best or {}).items()},
        labels=labels,
        predicted=probabilities.argmax(axis=1).astype(np.uint8),
        probabilities=probabilities,
        calibration=statistics.calibration(labels, probabilities).numbers,
    )


def write(paths: project.RunFiles, tested: Sequence[TrainingRecord]) -> None:
    """Write what the seeds that were tested, at least one, have come to; see `results.read`."""
    # Which seed a part of it belongs to is known by the predictions, which are written before it.
    _remove_probabilities(paths)
    paths.plain_predictions.unlink(missing_ok=True)
    files.write_json(
        paths.test, results.combine_seeds({result.seed: result.test or {} for result in tested})
    )
    digits = {
        result.seed: (result.labels, result.predicted)
        for result in tested
        if result.labels is not None and result.predicted is not None
    }
    predictions.write(paths.predictions, digits)
    calibrations = {str(result.seed): result.calibration for result in tested if result.calibration}
    files.write_json(paths.calibration, calibrations)
    known = [result.probabilities for result in tested]
    present = next((probabilities for probabilities in known if probabilities is not None), None)
    if present is not None:
        lacking = np.full_like(present, np.nan)
        stack = np.stack(
            [lacking if probabilities is None else probabilities for probabilities in known]
        )
        files.write_array(paths.probabilities, stack)


def clear(paths: project.RunFiles) -> None:
    """Remove what `write` has written."""
    _remove_probabilities(paths)
    for path in (paths.test, paths.predictions, paths.plain_predictions, paths.calibration):
        path.unlink(missing_ok=True)
    # Of a free-form run, and what earlier versions drew of a row.
    shutil.rmtree(paths.metrics_dir / "figures", ignore_errors=True)


def _remove_probabilities(paths: project.RunFiles) -> None:
    # Earlier versions had them beside the numbers, where they would be read in their place.
    for folder in (paths.probabilities_dir, paths.metrics_dir):
        (folder / paths.probabilities.name).unlink(missing_ok=True)


def most_confident_mistakes(
    probabilities: NDArray[np.float32], labels: NDArray[np.uint8], count: int
) -> NDArray[np.int64]:
    """Indices of the wrongly classified images with the highest probability, worst first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst_first = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[worst_first[:count]]
