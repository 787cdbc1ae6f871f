"""A look into a network: how large what flows through its layers is, forwards and backwards.

Dropout, augmentation and smoothed labels are left out, so that what is seen is the network.
"""

import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from deepnets.config.sections import RunParams
from deepnets.networks import models
from deepnets.training import scores, steps
from deepnets.training.batches import Batch

# Of the step that gradients are read from: large, so that float32 keeps what a gradient adds to a
# weight; a power of 2, so that dividing by it is exact.
_RATE = 2.0**20


class Probe:
    """Measures networks of one run, whatever weights they have.

    The numbers of `measure`:

    - `layers`, in the order of the network: `name`, `kind` (Conv2D, Dense, Add), `activation` (root
      mean square of what it puts out, batch normalisation with the batch's own statistics) and, if
      it has a kernel, `gradient` (root mean square of the loss's gradient in it) and `weight`
      (root mean square of the kernel).
    - `batch_norms`: `name`, `mean_gap` (root mean square over channels of the moving mean less that
      of the batch, in the batch's standard deviations) and `deviation_ratio` (median over channels
      of the moving standard deviation over the batch's).
    - `loss` and `accuracy` with the batch's statistics (`batch`) and with the moving averages
      (`moving`); the same where the network has no batch normalisation.

    What is no finite number is None.
    """

    def __init__(self, run: RunParams, image_size: int) -> None:
        self._classifier = models.build(run.arch, image_size, 0.0, run.batch_norm_momentum, run)
        backbone = self._classifier.get_layer(run.arch)
        self._norms = [
            layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)
        ]
        watched = (keras.layers.Conv2D, keras.layers.Dense, keras.layers.Add)
        self._watched = [layer for layer in backbone.layers if isinstance(layer, watched)]
        # A layer's first call is the one in the backbone; faster stand-ins may call it again.
        nodes = {layer.name: layer._inbound_nodes[0] for layer in backbone.layers}
        self._scale = self._classifier.get_layer("scale")
        self._inside = keras.Model(
            backbone.inputs,
            [
                [_rms(nodes[layer.name].output_tensors[0]) for layer in self._watched],
                [_moments(nodes[norm.name].input_tensors[0]) for norm in self._norms],
            ],
        )
        self._view = steps.training_view(self._classifier)
        self._stepper = steps.build(self._view, lambda: keras.optimizers.SGD(_RATE))

    def measure(
        self, weights: list[NDArray[Any]], images: NDArray[np.uint8], labels: NDArray[np.uint8]
    ) -> dict[str, Any]:
        """See the class.

        Args:
            weights: all of the classifier's, in its order.
            images: uint8 (n, size, size, 3).
            labels: uint8 (n,).
        """
        self._classifier.set_weights(weights)
        transforms = np.tile(np.array([1, 0, 0, 0, 1, 0, 0, 0], np.float32), (len(images), 1))
        # By the moving averages before they move, which they do in training.
        keys = np.zeros(len(images), np.uint32)  # that nothing is drawn by: no dropout
        moving = self._logits([images, transforms, keys], training=False)
        batch = self._logits([images, transforms, keys], training=True)
        self._classifier.set_weights(weights)
        activations, moments = self._inside([self._scale(images)], training=True)
        self._classifier.set_weights(weights)
        norms = [
            _norm(layer, *map(keras.ops.convert_to_numpy, pair))
            for layer, pair in zip(self._norms, moments, strict=True)
        ]
        gradients = self._gradients(Batch(images, labels, transforms, keys))
        self._classifier.set_weights(weights)
        sizes = [*map(float, activations), _size(batch)]
        layers = [*self._watched, self._classifier.get_layer("logits")]
        return {
            "layers": [
                self._layer(layer, size, gradients)
                for layer, size in zip(layers, sizes, strict=True)
            ],
            "batch_norms": norms,
            "moving": _score(moving, labels),
            "batch": _score(batch, labels),
        }

    def _logits(self, inputs: list[NDArray[Any]], training: bool) -> NDArray[np.float32]:
        logits = self._view(inputs, training=training)
        return np.asarray(keras.ops.convert_to_numpy(logits))

    def _gradients(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """By the path of each trainable weight, the loss's gradient: what a plain step takes off.

        So it is computed by the very code that trains, on any backend.
        """
        before = {variable.path: variable.numpy() for variable in self._view.trainable_variables}
        with self._stepper.epoch() as take_step:
            take_step(batch)
        after = {variable.path: variable.numpy() for variable in self._view.trainable_variables}
        return {path: (before[path] - after[path]) / np.float32(_RATE) for path in before}

    def _layer(
        self, layer: keras.Layer, activation: float, gradients: dict[str, NDArray[np.float32]]
    ) -> dict[str, Any]:
        row = {
            "name": layer.name,
            "kind": type(layer).__name__,
            "activation": _finite_or_none(activation),
        }
        if layer.weights:
            row["gradient"] = _finite_or_none(_size(gradients[layer.kernel.path]))
            row["weight"] = _finite_or_none(_size(layer.kernel.numpy()))
        return row


def _score(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> dict[str, Any]:
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    return {
        key: _finite_or_none(value) for key, value in scores.score(probabilities, labels).items()
    }


def _norm(
    layer: keras.layers.BatchNormalization, mean: NDArray[Any], variance: NDArray[Any]
) -> dict[str, Any]:
    deviation = np.sqrt(variance.astype(np.float64) + layer.epsilon)
    moving = np.sqrt(layer.moving_variance.numpy().astype(np.float64) + layer.epsilon)
    return {
        "name": layer.name,
        "mean_gap": _finite_or_none(_size((layer.moving_mean.numpy() - mean) / deviation)),
        "deviation_ratio": _finite_or_none(float(np.median(moving / deviation))),
    }


def _rms(tensor: Any) -> Any:
    return keras.ops.sqrt(keras.ops.mean(keras.ops.square(tensor)))


def _moments(tensor: Any) -> Any:
    """Mean and variance of each channel."""
    return list(keras.ops.moments(tensor, axes=[0, 1, 2]))


def _size(values: NDArray[Any]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values.astype(np.float64)))))


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
