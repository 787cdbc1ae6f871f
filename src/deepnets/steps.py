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

from deepnets import project, runtime
from deepnets.data import Batch

# Takes a batch; returns its `loss` and `accuracy`.
Step = Callable[[Batch], dict[str, float]]


class Stepper(Protocol):
    """Steps of one network with one optimizer, compiled once."""

    def epoch(self) -> AbstractContextManager[Step]:
        """The step for the batches of an epoch; the variables are up to date when it is left."""


def build(
    view: keras.Model, optimizer: keras.optimizers.Optimizer, label_smoothing: float = 0.0
) -> Stepper:
    """The stepper of Keras' backend.

    Args:
        view: from `models.training_view`.
        optimizer: is built for the view's variables.
        label_smoothing: share of a label that is spread over all digits in the loss.
    """
    optimizer.build(view.trainable_variables)
    loss = (
        _smoothed(label_smoothing)
        if label_smoothing
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    if keras.backend.backend() == "jax":
        return _JaxStepper(view, optimizer, loss)
    return _KerasStepper(view, optimizer, loss)


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


class _KerasStepper:
    """Keras' own `train_on_batch`."""

    def __init__(self, view: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Any) -> None:
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
            [batch.images, batch.transforms], batch.labels, return_dict=True
        )
        return {key: float(value) for key, value in result.items()}


class _JaxStepper:
    """A pure function of all state, compiled, that updates the state in place.

    Keras' `train_on_batch` would copy hundreds of values into its variables and out of them again
    in every step; here that happens once an epoch.
    """

    def __init__(self, view: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Any) -> None:
        import jax

        def forward(
            trainable: Any, others: Any, images: Any, transforms: Any, labels: Any
        ) -> tuple[Any, Any]:
            logits, others = view.stateless_call(
                trainable, others, [images, transforms], training=True
            )
            return loss(labels, logits), (logits, others)

        def step(state: Any, images: Any, transforms: Any, labels: Any) -> tuple[Any, Any]:
            trainable, others, slots = state
            (value, (logits, others)), gradients = jax.value_and_grad(forward, has_aux=True)(
                trainable, others, images, transforms, labels
            )
            trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
            hits = ops.equal(ops.argmax(logits, axis=-1), labels)
            return (trainable, others, slots), {"loss": value, "accuracy": ops.mean(hits)}

        self._variables = (
            view.trainable_variables,
            view.non_trainable_variables,
            optimizer.variables,
        )
        self._step = jax.jit(step, donate_argnums=0)

    @contextmanager
    def epoch(self) -> Iterator[Step]:
        state: Any = tuple([variable.value for variable in group] for group in self._variables)

        def take(batch: Batch) -> dict[str, float]:
            nonlocal state
            state, result = self._step(state, batch.images, batch.transforms, batch.labels)
            return {key: float(value) for key, value in result.items()}

        try:
            yield take
        finally:
            for group, values in zip(self._variables, state, strict=True):
                for variable, value in zip(group, values, strict=True):
                    variable.assign(value)
