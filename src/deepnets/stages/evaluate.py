"""Test one run: reload its saved model, score the test split, draw what it gets wrong."""

from collections.abc import Sequence

from deepnets import data, evaluation, figures, live, models, params, project, results
from deepnets.evaluation import Tested
from deepnets.params import RunEntry


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
    style = figures.Run(paths.name, entry.optimizer, entry.weights)
    tests: dict[int, Tested] = {}
    for seed in seeds:
        results.require_model(paths, seed)
        record = live.Record(paths, experiment, seed, len(seeds), mlflow_run_id=mlflow_run_id)
        with live.following(record):
            classifier = models.load(paths.model(seed))
            probabilities = models.predict(models.scoring_view(classifier), test.images)
            tests[seed] = evaluation.score(test.labels, probabilities)
            evaluation.write(paths, test.labels, tests)
            result = next(of for of in results.read(paths) if of.seed == seed)
            evaluation.draw(entry.arch, style, paths, result, test, mistakes)
        print(
            f"{paths.name}{f', seed {seed}' if len(seeds) > 1 else ''}: "
            f"test accuracy {tests[seed].test['accuracy']:.4f}, "
            f"test loss {tests[seed].test['loss']:.4f}"
        )
