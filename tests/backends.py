"""The same training on either backend, and what its steps were given and gave.

test_jax.py calls `record` for TensorFlow, and runs PROGRAM for JAX, in the folder of a study.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deepnets import augment, data, models, params, project
from deepnets.params import Arch
from deepnets.stages import train

RUN = "vgg16-sgd-he"
ARCHS: tuple[Arch, ...] = ("vgg16", "resnet50")

# `python -c PROGRAM OUT.npz` ends with a line of those modules that it should do without.
PROGRAM = """
from deepnets import runtime
runtime.start_framework()
import sys, numpy, backends
numpy.savez(sys.argv[1], **backends.record())
print(sorted({"tensorflow", "mlflow"} & set(sys.modules)))
"""


def record() -> dict[str, np.ndarray]:
    """Everything that is compared, by name."""
    study = params.load()
    run = study.run_params(RUN, 0)
    splits = {name: data.load(name) for name in ("train", "validation")}
    training = splits["train"].first(run.train_images)
    found: dict[str, np.ndarray] = {}

    first = next(data.batches(training, run, 1))
    found["pixels"] = np.asarray(augment.Warp()(first.images, first.transforms))
    for arch in ARCHS:
        found[f"{arch}_loss"] = _first_loss(arch, first)

    classifier = models.build(run.arch, training.images.shape[1], run.dropout)
    models.load_start(classifier, project.start_file(project.STARTS / run.start, run.seed))
    batches: list[data.Batch] = []
    with _watched(batches):
        rows, _ = train.fit(
            classifier, run, training, splits["validation"], Path("nothing"), lambda *_: None
        )
    found["images"] = np.stack([batch.images for batch in batches])
    found["labels"] = np.stack([batch.labels for batch in batches])
    found["transforms"] = np.stack([batch.transforms for batch in batches])
    for key in ("loss", "val_loss"):
        found[key] = np.array([row[key] for row in rows.history])
    return found


def _first_loss(arch: Arch, batch: data.Batch) -> np.ndarray:
    """Loss of a first step without dropout, from weights that no backend has drawn."""
    classifier = models.build(arch, batch.images.shape[1], dropout=0.0)
    generator = np.random.default_rng(0)
    for variable in classifier.weights:
        if variable.path.endswith("kernel"):
            spread = np.sqrt(2 / np.prod(variable.shape[:-1]))
            variable.assign(generator.normal(0, spread, variable.shape).astype(np.float32))
    logits = _forward(models.training_view(classifier), [batch.images, batch.transforms])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(batch.labels, logits)
    return np.asarray(keras.ops.convert_to_numpy(loss))


def _forward(view: keras.Model, inputs: list[np.ndarray]) -> Any:
    """`view` as in training; compiled on JAX, which would compile each operation otherwise."""
    if keras.backend.backend() != "jax":
        return view(inputs, training=True)
    import jax

    groups = (view.trainable_variables, view.non_trainable_variables)
    values = [[variable.value for variable in group] for group in groups]
    logits, _ = jax.jit(partial(view.stateless_call, training=True))(*values, inputs)
    return logits


@contextmanager
def _watched(batches: list[data.Batch]) -> Iterator[None]:
    """Note every batch that a step of `train.fit` takes."""
    build = train.steps.build

    def watching(*arguments: Any) -> Any:
        stepper = build(*arguments)

        class Watched:
            @contextmanager
            def epoch(self) -> Iterator[Any]:
                with stepper.epoch() as step:

                    def take(batch: data.Batch) -> dict[str, float]:
                        batches.append(batch)
                        return step(batch)

                    yield take

        return Watched()

    train.steps.build = watching
    try:
        yield
    finally:
        train.steps.build = build
