"""Look into one run where it starts, after its first steps, and where it ended."""

from collections.abc import Iterator

import keras

from deepnets import (
    data,
    files,
    models,
    optimizers,
    params,
    progress,
    project,
    results,
    steps,
)
from deepnets.diagnosis import Probe
from deepnets.params import RunParams

# Of the validation split, the first so many, which a network was not trained on.
IMAGES = 128


def main(name: str) -> None:
    """Write metrics/RUN/diagnosis.json of the grid's run `name`, for the first of its seeds."""
    study = params.load()
    run = study.run_params(name, study.train.seeds[0])
    paths = project.grid_run(name, run.start)
    training, validation = data.load("train").first(run.train_images), data.load("validation")
    files.verify(paths.start(run.seed))
    results.require_model(paths, run.seed)

    size = training.images.shape[1]
    classifier = models.start(run, size, paths.start(run.seed))
    weights = {"start": classifier.get_weights()}
    _train(classifier, run, training, study.diagnose.steps)
    weights[f"after {study.diagnose.steps} steps"] = classifier.get_weights()
    weights["end"] = models.load(paths.model(run.seed)).get_weights()

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


def _train(classifier: keras.Model, run: RunParams, training: data.Split, count: int) -> None:
    """Take the first `count` steps of the run's training, with its precision."""
    with models.computing_in(classifier, run.precision):
        view = models.training_view(classifier)
        optimizer = optimizers.build(run, data.steps_per_epoch(run, len(training.images)))
        stepper = steps.build(view, optimizer, run.label_smoothing)
        with progress.bar(count, f"the first {count} steps", " steps") as bar:
            for epoch, batches in _epochs(run, training, count):
                models.seed_dropout(classifier, data.dropout_state(run.seed, epoch))
                with stepper.epoch() as take_step:
                    for batch in batches:
                        take_step(batch)
                        bar.update()


def _epochs(
    run: RunParams, training: data.Split, count: int
) -> Iterator[tuple[int, Iterator[data.Batch]]]:
    """The epochs, and the batches of each, that `count` steps from the start take."""
    each = data.steps_per_epoch(run, len(training.images))
    for place, first in enumerate(range(0, count, each)):
        epoch = place + 1
        wanted = min(each, count - first)
        batches = data.batches(training, run, epoch)
        yield epoch, (batch for _, batch in zip(range(wanted), batches, strict=False))
