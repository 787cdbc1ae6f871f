"""Test one run: reload its saved model, score the test split, draw what it gets wrong."""

import numpy as np
from numpy.typing import NDArray

from deepnets import data, figures, files, live, models, params, project, scores
from deepnets.params import RunEntry


def main(name: str) -> None:
    """Evaluate the grid's run `name`, in the folder of its study."""
    study = params.load()
    entry = study.entry(name)
    evaluate_run(
        entry,
        project.grid_run(name, entry.start),
        study.publish.experiment,
        study.evaluate.mistakes,
    )


def evaluate_run(
    entry: RunEntry,
    paths: project.RunFiles,
    experiment: str,
    mistakes: int,
    mlflow_run_id: str | None = None,
) -> None:
    """Write the test metrics, every prediction, and the figures of the run in `paths`."""
    test = data.load("test")
    with live.following(live.Record(paths, experiment, mlflow_run_id=mlflow_run_id)):
        probabilities = models.predict(models.load(paths.model), test.images)
        predicted = probabilities.argmax(axis=1)
        result = scores.score(probabilities, test.labels)
        files.write_json(paths.test, result)
        files.write_array(paths.probabilities, probabilities)
        files.write_csv(
            paths.predictions,
            [
                {"actual": int(label), "predicted": int(guess)}
                for label, guess in zip(test.labels, predicted, strict=True)
            ],
        )
        curve = figures.Curve(
            paths.name, entry.optimizer, entry.weights, files.read_csv(paths.history)
        )
        figures.curves({entry.arch: [curve]}, paths.figures / "curves.png")
        figures.confusion(
            scores.confusion_matrix(test.labels, predicted),
            paths.name,
            paths.figures / "confusion.png",
        )
        worst = most_confident_mistakes(probabilities, test.labels, mistakes)
        figures.mistakes(
            test.images[worst],
            test.labels[worst],
            probabilities[worst],
            paths.name,
            paths.figures / "mistakes.png",
        )
    wrong = int((predicted != test.labels).sum())
    print(
        f"{paths.name}: test accuracy {result['accuracy']:.4f}, test loss {result['loss']:.4f} "
        f"({wrong:,} of {len(test.labels):,} wrong)"
    )


def most_confident_mistakes(
    probabilities: NDArray[np.float32], labels: NDArray[np.uint8], count: int
) -> NDArray[np.int64]:
    """Indices of the wrongly classified images with the highest probability, worst first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst_first = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[worst_first[:count]]
