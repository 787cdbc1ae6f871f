"""Training steps of a network: the only part of the training loop that backends do differently.

A step takes one batch, updates weights, moving statistics and optimizer, and returns the batch's
own loss and accuracy.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from deepnets.base import project
from deepnets.config.sections import RunParams
from deepnets.data.splits import Split
from deepnets.networks import initializers, runtime, views
from deepnets.training import augment, batches, optimization
from deepnets.training.batches import Batch
from deepnets.training.step_by_step import Step, StepByStep


class Stepper(Protocol):
    """Steps of one network with one optimizer, compiled once."""

    optimizer: keras.optimizers.Optimizer

    def epoch(self) -> AbstractContextManager[Step]:
        """The step for batches of one's own; the variables are up to date when it is left."""

    def train(
        self, training: Split, run: RunParams, epoch: int, count: int | None = None
    ) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Train for an epoch, or its first `count` steps.

        Yields:
            `loss` and `accuracy` of the next steps, float32 (steps,); the variables are up to date
            when there are no more.
        """

    def program(self, training: Split, run: RunParams) -> str | None:
        """sha256 of the compiled program, where measurements have a part in what it computes.

        None where code and libraries say it all.
        """

    def repeats(self, training: Split, run: RunParams) -> bool:
        """Whether steps from one state give the same bits each time, tried where it is in doubt."""


def for_run(classifier: keras.Model, run: RunParams, training: Split, mesh: Any = None) -> Stepper:
    """What trains `classifier`; where `views.computing_in` says so, in the run's precision.

    On one device, or JAX's `mesh` of several (`devices.mesh`).
    """
    count = batches.steps_per_epoch(run, len(training.images))
    view = training_view(classifier)
    return build(view, lambda: optimization.build(run, count), run.label_smoothing, mesh)


def training_view(classifier: keras.Model) -> keras.Model:
    """The same layers and weights from (images, transforms, keys) to logits float32 (n, 10).

    The images, uint8 (n, size, size, 3), are warped by the transforms, float32 (n, 8); the keys,
    uint32 (n,), are those of dropout.
    """
    images = keras.Input(classifier.input_shape[1:], dtype="uint8", name="images")
    transforms = keras.Input((8,), dtype="float32", name="transforms")
    keys = keras.Input((), dtype="uint32", name="dropout_keys")
    logits = views.warped_view(classifier)([augment.Warp(name="warp")(images, transforms), keys])
    return keras.Model([images, transforms, keys], logits, name="training_view")


def build(
    view: keras.Model,
    optimizer: Callable[[], keras.optimizers.Optimizer],
    label_smoothing: float = 0.0,
    mesh: Any = None,
) -> Stepper:
    """The stepper of Keras' backend.

    Args:
        view: from `training_view`.
        optimizer: makes one, each time it is called.
        label_smoothing: share of a label that is spread over all digits in the loss.
        mesh: of several devices, on JAX; None for one.
    """
    loss = (
        _smoothed(label_smoothing)
        if label_smoothing
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    if keras.backend.backend() == "jax":
        from deepnets.training import jax_steps
        from deepnets.training.placement import Placement

        kind = jax_steps.DeviceStepper if runtime.on_jax_gpu() else jax_steps.BatchStepper
        with initializers.nothing_drawn():
            return kind(view, optimizer, loss, Placement(mesh))
    return _KerasStepper(view, optimizer(), loss)


def _smoothed(label_smoothing: float) -> Callable[[Any, Any], Any]:
    """Mean cross-entropy with smoothed labels: of labels (n,) and logits float32 (n, 10)."""

    def loss(labels: Any, logits: Any) -> Any:
        shares = ops.one_hot(ops.reshape(labels, [-1]), project.CLASSES)
        return ops.mean(
            keras.losses.categorical_crossentropy(
                shares, logits, from_logits=True, label_smoothing=label_smoothing
            )
        )

    return loss


class _KerasStepper(StepByStep):
    """Keras' own `train_on_batch`."""

    def __init__(self, view: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Any) -> None:
        self.optimizer = optimizer
        optimizer.build(view.trainable_variables)
        # XLA's convolutions are the slower ones on a CPU; elsewhere Keras decides.
        compiler = False if runtime.on_tensorflow_cpu() else "auto"
        view.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"], jit_compile=compiler)
        # Variables created inside the first step would have it traced twice.
        view.compute_metrics(None, np.zeros(1), np.zeros((1, project.CLASSES), np.float32), None)
        self._view = view

    @contextmanager
    def epoch(self) -> Iterator[Step]:
        yield self._step

    def _step(self, batch: Batch) -> dict[str, float]:
        # Keras resets its metrics before every batch: these are the batch's own values.
        result = self._view.train_on_batch(
            [batch.images, batch.transforms, batch.dropout_keys], batch.labels, return_dict=True
        )
        return {key: float(value) for key, value in result.items()}

    def repeats(self, training: Split, run: RunParams) -> bool:
        from tensorflow.python.framework.config import is_op_determinism_enabled

        return bool(is_op_determinism_enabled())
