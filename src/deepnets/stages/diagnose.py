"""Look into a run where it starts, after its first steps, and where it ended."""

from typing import Any

import keras

from deepnets.base import files, progress, project
from deepnets.config import params
from deepnets.config.sections import RunParams
from deepnets.data import splits
from deepnets.evaluation.diagnosis import Probe
from deepnets.networks import models, saving, views
from deepnets.records import results
from deepnets.training import batches, steps

# Of the validation split, the first so many, which a network was not trained on.
IMAGES = 128

# Of a row, the first so many: what holds for one may be chance.
SEEDS = 3


def main(name: str) -> None:
    """Write metrics/RUN/diagnosis.json of the grid's run `name`, for its first seeds."""
    study = params.load()
    seeds = study.train.seeds[:SEEDS]
    start = study.run_params(name, seeds[0]).start
    paths = project.grid_run(name, start)
    training, validation = splits.load("train"), splits.load("validation")
    for seed in seeds:
        files.verify(paths.start(seed))
        if not results.lacks_only_model(paths, seed):
            files.verify(paths.model(seed))
    # It would be taken for that of these models if what follows fails.
    paths.diagnosis.unlink(missing_ok=True)

    batch = validation.first(IMAGES)
    by_seed = {}
    for seed in seeds:
        run = study.run_params(name, seed)
        by_seed[str(seed)] = _moments(run, paths, training.first(run.train_images), batch, study)
    content = {"run": name, "images": len(batch.images), "seeds": by_seed}
    files.write_json(paths.diagnosis, content)


def _moments(
    run: RunParams,
    paths: project.RunFiles,
    training: splits.Split,
    batch: splits.Split,
    study: params.Params,
) -> dict[str, Any]:
    """What the probe says of a seed at the start, after its first steps, and at the end.

    Without the end where git alone has its training: the first two are made here.
    """
    size = training.images.shape[1]
    classifier = models.start(run, size, paths.start(run.seed))
    weights = {"start": classifier.get_weights()}
    _train(classifier, run, training, study.diagnose.steps)
    weights[f"after {study.diagnose.steps} steps"] = classifier.get_weights()
    if results.lacks_only_model(paths, run.seed):
        print(f"{paths.name}, seed {run.seed}: without its end, since its model is not here")
    else:
        weights["end"] = saving.load(paths.model(run.seed)).get_weights()

    probe = Probe(run, size)
    answers = {
        moment: probe.measure(values, batch.images, batch.labels)
        for moment, values in weights.items()
    }
    for moment, answer in answers.items():
        print(
            f"{paths.name}, seed {run.seed}, {moment}: accuracy "
            f"{answer['batch']['accuracy']:.3f} with the batch's statistics, "
            f"{answer['moving']['accuracy']:.3f} with moving averages"
            if answer["batch_norms"]
            else f"{paths.name}, seed {run.seed}, {moment}: accuracy "
            f"{answer['moving']['accuracy']:.3f}"
        )
    return answers


def _train(classifier: keras.Model, run: RunParams, training: splits.Split, count: int) -> None:
    """Take the first `count` steps of the run's training, with its precision."""
    with views.computing_in(classifier, run.precision):
        stepper = steps.for_run(classifier, run, training)
        with progress.bar(count, f"the first {count} steps", " steps") as bar:
            each = batches.steps_per_epoch(run, len(training.images))
            for epoch, first in enumerate(range(0, count, each), start=1):
                for results in stepper.train(training, run, epoch, count - first):
                    bar.update(len(results["loss"]))
