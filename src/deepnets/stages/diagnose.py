"""Look into one run where it starts, after its first steps, and where it ended."""

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


def main(name: str) -> None:
    """Write metrics/RUN/diagnosis.json of the grid's run `name`, for the first of its seeds."""
    study = params.load()
    run = study.run_params(name, study.train.seeds[0])
    paths = project.grid_run(name, run.start)
    training, validation = splits.load("train").first(run.train_images), splits.load("validation")
    files.verify(paths.start(run.seed))
    results.require_model(paths, run.seed)
    # It would be taken for that of this model if what follows fails.
    paths.diagnosis.unlink(missing_ok=True)

    size = training.images.shape[1]
    classifier = models.start(run, size, paths.start(run.seed))
    weights = {"start": classifier.get_weights()}
    _train(classifier, run, training, study.diagnose.steps)
    weights[f"after {study.diagnose.steps} steps"] = classifier.get_weights()
    weights["end"] = saving.load(paths.model(run.seed)).get_weights()

    probe = Probe(run, size)
    batch = validation.first(IMAGES)
    found = {
        moment: probe.measure(values, batch.images, batch.labels)
        for moment, values in weights.items()
    }
    content = {"run": name, "seed": run.seed, "images": len(batch.images), "moments": found}
    files.write_json(paths.diagnosis, content)
    for moment, of in found.items():
        print(
            f"{name}, {moment}: accuracy {of['batch']['accuracy']:.3f} with the batch's "
            f"statistics, {of['moving']['accuracy']:.3f} with moving averages"
            if of["batch_norms"]
            else f"{name}, {moment}: accuracy {of['moving']['accuracy']:.3f}"
        )


def _train(classifier: keras.Model, run: RunParams, training: splits.Split, count: int) -> None:
    """Take the first `count` steps of the run's training, with its precision."""
    with views.computing_in(classifier, run.precision):
        stepper = steps.for_run(classifier, run, training)
        with progress.bar(count, f"the first {count} steps", " steps") as bar:
            each = batches.steps_per_epoch(run, len(training.images))
            for epoch, first in enumerate(range(0, count, each), start=1):
                for results in stepper.train(training, run, epoch, count - first):
                    bar.update(len(results["loss"]))
