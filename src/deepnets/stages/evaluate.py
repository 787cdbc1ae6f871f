"""Test one run: reload its saved model and score the test split. Nothing is drawn here."""

from collections.abc import Callable, Sequence

from deepnets.base import files, project
from deepnets.base.errors import UserError
from deepnets.config import params
from deepnets.config.sections import Publish
from deepnets.data import splits
from deepnets.evaluation import evaluation
from deepnets.networks import runtime, saving, views
from deepnets.records import results
from deepnets.records.results import TrainingRecord
from deepnets.tracking import live
from deepnets.tracking.trainings import TrackedTraining
from deepnets.training import scores


def main(name: str) -> None:
    """Evaluate the grid's run `name`, with each seed, in the folder of its study."""
    study = params.load()
    paths = project.grid_run(name, study.entry(name).start)
    evaluate_run(paths, study.train.seeds, study.publish)


def evaluate_run(
    paths: project.RunFiles,
    seeds: Sequence[int],
    publish: Publish,
    mlflow_run_id: str | None = None,
    draw: Callable[[TrainingRecord], None] | None = None,
    of_seeds: int | None = None,
) -> None:
    """Write the test metrics and every prediction of the run in `paths`.

    Args:
        paths: of the run.
        seeds: all that the files in `paths` are about.
        publish: how MLflow follows the run.
        mlflow_run_id: see `TrackedTraining`.
        draw: for a run that no report shows, what makes each seed's figures for MLflow.
        of_seeds: how many the run has in all, where `seeds` are not all.
    """
    test = splits.load("test")
    trained = {record.seed: record for record in results.read(paths)}
    for seed in seeds:
        results.require_model(paths, seed)
        if seed not in trained:
            raise UserError(
                f"{paths.metrics_dir} does not hold what the training of {paths.name} with seed "
                f"{seed} came to: run it again (`dvc repro train@{paths.name}`)"
            )
    # What an earlier model came to would be taken for this one's if what follows fails.
    evaluation.clear(paths)
    tested: list[TrainingRecord] = []
    for seed in seeds:
        tracked = TrackedTraining(
            paths,
            publish.experiment,
            seed,
            of_seeds or len(seeds),
            mlflow_run_id=mlflow_run_id,
            images=publish.images,
        )
        with live.following(tracked):
            classifier = saving.load(paths.model(seed))
            precision = trained[seed].provenance["parameters"].get("precision", "float32")
            with runtime.products_in(precision):
                probabilities = views.predict(views.scoring_view(classifier), test.images)
                best = _best_scores(paths, seed, trained[seed], test)
            result = evaluation.score(trained[seed], test.labels, probabilities, best)
            tested.append(result)
            evaluation.write(paths, tested)
            if draw is not None:
                draw(result)
        _say(result, f"{paths.name}{f', seed {seed}' if len(seeds) > 1 else ''}")


def _best_scores(
    paths: project.RunFiles, seed: int, trained: TrainingRecord, test: splits.Split
) -> dict[str, float] | None:
    """Loss and accuracy of the best epoch's model, where a run has it beside that of the last."""
    if trained.keep != "both" or not trained.history:
        return None
    files.verify(paths.best_model(seed))
    classifier = saving.load(paths.best_model(seed))
    return scores.score(views.predict(views.scoring_view(classifier), test.images), test.labels)


def _say(result: TrainingRecord, name: str) -> None:
    """Print what a test has come to, and of which epochs' models if that is not clear."""
    numbers = result.test or {}
    said = f"{name}: test accuracy {numbers['accuracy']:.4f}, test loss {numbers['loss']:.4f}"
    if result.keep != "last":
        said += f" ({results.which_epoch(result.history, result.keep)})"
    if "best_accuracy" in numbers:
        said += (
            f"; {numbers['best_accuracy']:.4f}, {numbers['best_loss']:.4f} "
            f"({results.which_epoch(result.history, result.keep, best=True)})"
        )
    print(said)
