"""Test one run: reload its saved model, score the test split, draw what it gets wrong."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepnets import data, figures, files, live, models, params, project, results, scores
from deepnets.params import RunEntry
from deepnets.results import Numbers


def main(name: str) -> None:
    """Evaluate the grid's run `name`, with each seed, in the folder of its study."""
    study = params.load()
    entry = study.entry(name)
    evaluate_run(
        entry,
        project.grid_run(name, entry.start),
        study.train.seeds,
        study.publish.experiment,
        study.evaluate.mistakes,
    )


def evaluate_run(
    entry: RunEntry,
    paths: project.RunFiles,
    seeds: Sequence[int],
    experiment: str,
    mistakes: int,
    mlflow_run_id: str | None = None,
) -> None:
    """Write the test metrics, every prediction, and the figures of the run in `paths`."""
    test = data.load("test")
    by_seed: dict[int, NDArray[np.float32]] = {}
    for seed in seeds:
        record = live.Record(paths, experiment, seed, len(seeds), mlflow_run_id=mlflow_run_id)
        with live.following(record):
            files.verify(paths.model(seed))
            classifier = models.load(paths.model(seed))
            by_seed[seed] = models.predict(models.scoring_view(classifier), test.images)
            numbers = _write(paths, test.labels, by_seed)
            _draw(entry, paths, seed, test, by_seed[seed], mistakes)
        print(
            f"{paths.name}{f', seed {seed}' if len(seeds) > 1 else ''}: "
            f"test accuracy {numbers[seed]['accuracy']:.4f}, test loss {numbers[seed]['loss']:.4f}"
        )


def _write(
    paths: project.RunFiles,
    labels: NDArray[np.uint8],
    by_seed: dict[int, NDArray[np.float32]],
) -> dict[int, Numbers]:
    """Write what the seeds evaluated so far have come to; returns the test metrics of each."""
    numbers = {seed: scores.score(found, labels) for seed, found in by_seed.items()}
    files.write_json(paths.test, results.together(numbers))
    files.write_array(paths.probabilities, np.stack(list(by_seed.values())))
    rows = [
        {"seed": seed, "actual": int(label), "predicted": int(guess)}
        for seed, found in by_seed.items()
        for label, guess in zip(labels, found.argmax(axis=1), strict=True)
    ]
    files.write_csv(paths.predictions, rows, ["seed", "actual", "predicted"])
    return numbers


def _draw(
    entry: RunEntry,
    paths: project.RunFiles,
    seed: int,
    test: data.Split,
    probabilities: NDArray[np.float32],
    mistakes: int,
) -> None:
    """Draw the curves, the confusion matrix and the worst mistakes of one seed."""
    folder = paths.figures(seed)
    history = results.rows_of_seed(files.read_csv(paths.history), seed)
    drawn = figures.Run(paths.name, entry.optimizer, entry.weights)
    trained = results.of_seed(files.read_json(paths.train), seed)
    training = figures.Training(history, results.outcome(trained) if trained else "completed")
    figures.learning_curves({entry.arch: {drawn: [training]}}, folder / "curves")
    matrix = scores.confusion_matrix(test.labels, probabilities.argmax(axis=1))
    figures.confusion(matrix, paths.name, folder / "confusion")
    worst = most_confident_mistakes(probabilities, test.labels, mistakes)
    sheet = test.images[worst], test.labels[worst], probabilities[worst]
    figures.mistakes({paths.name: sheet}, folder / "mistakes")


def most_confident_mistakes(
    probabilities: NDArray[np.float32], labels: NDArray[np.uint8], count: int
) -> NDArray[np.int64]:
    """Indices of the wrongly classified images with the highest probability, worst first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst_first = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[worst_first[:count]]
