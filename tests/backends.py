"""The same training on either backend, and what its steps were given and gave.

test_jax.py calls `record` for TensorFlow, and runs PROGRAM for JAX, in the folder of a study. The
networks are the small ones: JAX takes half a minute for a step of the real ones on a CPU.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

import small_networks
from deepnets.base import project
from deepnets.config import params, registry
from deepnets.config.fields import Arch
from deepnets.config.sections import RunParams
from deepnets.data import splits
from deepnets.networks import models, saving, variants, views
from deepnets.training import augment, batches, loop, steps
from project import ON_JAX, ROOT, environment

RUN = "vgg16-sgd-he"
# Each network and each optimizer once: neither knows of the other.
CASES: tuple[tuple[Arch, str], ...] = (("vgg16", "adam"), ("resnet50", "sgd"))

# With the study's own rates, rounding grows from step to step. Adam divides by the gradient's size:
# with its own epsilon, the rounding errors of gradients that are zero in theory move weights as far
# as others.
STEPS, SIZE = 20, 32
RATES = {
    "sgd": {"learning_rate": 0.001},
    "adam": {
        **{"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 0.1},
        **{"momentum": None, "nesterov": None},
    },
}

# Before what a process computes: the small networks in the place of the real ones.
SMALL = """
from deepnets.networks import runtime
runtime.start_framework()
from deepnets.config import registry
from deepnets.networks import models
from small_networks import ENTRIES
registry.architectures().update(ENTRIES)
"""

# `python -c PROGRAM OUT.npz` ends with a line of those modules that it should do without. What is
# recorded after that saves and opens models, for which Keras imports TensorFlow where there is one.
PROGRAM = f"""{SMALL}
import sys, numpy, backends
found = backends.record()
imported = sorted({{"tensorflow", "mlflow"}} & set(sys.modules))
numpy.savez(sys.argv[1], **found, **backends.record_opened())
print(imported)
"""


def on_jax(code: str) -> str:
    """What `code` prints in a process that has the small networks on JAX."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    result = subprocess.run(
        [sys.executable, "-c", SMALL + code],
        env=environment() | ON_JAX | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@contextmanager
def small() -> Iterator[None]:
    """The small networks in the place of the real ones."""
    kept = dict(registry.architectures())
    registry.architectures().update(small_networks.ENTRIES)
    try:
        yield
    finally:
        registry.architectures().update(kept)


def record() -> dict[str, np.ndarray]:
    """Everything that is compared, by name."""
    study = params.load()
    run = study.run_params(RUN, 0)
    loaded = {name: splits.load(name) for name in ("train", "validation")}
    training = loaded["train"].first(run.train_images)
    arrays: dict[str, np.ndarray] = {}

    first = next(batches.batches(training, run, 1))
    arrays["pixels"] = np.asarray(augment.Warp()(first.images, first.transforms))
    for arch, optimizer in CASES:
        changes = {"arch": arch, "optimizer": optimizer, "zero_gamma": True, **RATES[optimizer]}
        arrays |= _steps(run.model_copy(update=changes))

    classifier = models.build(run.arch, training.images.shape[1], run.dropout)
    saving.load_start(classifier, project.start_file(project.STARTS / run.start, run.seed))
    seen: list[batches.Batch] = []
    with _watched(seen):
        rows, _ = loop.fit(
            classifier, run, training, loaded["validation"], Path("nothing"), lambda *_: None
        )
    for name in ("images", "labels", "transforms", "dropout_keys"):
        arrays[name] = np.stack([getattr(batch, name) for batch in seen])
    for key in ("loss", "val_loss"):
        arrays[key] = np.array([row[key] for row in rows.history])
    return arrays


def _steps(run: RunParams) -> dict[str, np.ndarray]:
    """Weights before and after an epoch of STEPS steps from the seed, and the loss of each.

    Pixels are made up: of digits, some channels are almost the same everywhere, and to normalise
    them makes rounding grow.
    """
    generator, count = np.random.default_rng(0), STEPS * run.batch_size
    images = generator.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    training = splits.Split(images, generator.integers(0, 10, count).astype(np.uint8))
    classifier = models.build(run.arch, SIZE, run.dropout, run.batch_norm_momentum)
    classifier.set_weights(models.initialize(run.arch, "he", run.seed, SIZE).get_weights())
    variants.start(classifier, classifier, run)
    stepper = steps.for_run(classifier, run, training)
    start = _flat(classifier)
    losses = [result["loss"] for result in stepper.train(training, run, 1)]
    name = f"{run.arch}_{run.optimizer}"
    return {
        f"{name}_start": start,
        f"{name}_loss": np.concatenate(losses),
        f"{name}_weights": _flat(classifier),
    }


def record_opened() -> dict[str, np.ndarray]:
    """What a variant says that this backend saves in the folder, and that which lies there."""
    run = params.load().run_params(RUN, 0)
    run = run.model_copy(update={"arch": "resnet50", "upsampling": 2, "stages": 3})
    classifier = models.build(run.arch, SIZE, run.dropout, run.batch_norm_momentum, run)
    variants.start(classifier, models.initialize(run.arch, "he", run.seed, SIZE), run)
    saving.save(classifier, Path(f"{keras.backend.backend()}.keras"))
    return {f"opened_{path.stem}": opened(path) for path in sorted(Path().glob("*.keras"))}


def opened(path: Path) -> np.ndarray:
    """What a saved model says of noise, float32 (8, 10)."""
    images = np.random.default_rng(1).integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)
    return views.predict(views.scoring_view(saving.load(path)), images)


def _flat(classifier: keras.Model) -> np.ndarray:
    return np.concatenate([np.ravel(weight) for weight in classifier.get_weights()])


@contextmanager
def _watched(seen: list[batches.Batch]) -> Iterator[None]:
    """Note every batch that a step takes."""
    make = batches.batches

    def watching(split: splits.Split, run: RunParams, epoch: int) -> Iterator[batches.Batch]:
        for batch in make(split, run, epoch):
            seen.append(batch)
            yield batch

    batches.batches = watching
    try:
        yield
    finally:
        batches.batches = make
