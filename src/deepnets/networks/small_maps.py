"""The 3x3 convolutions of maps of 1x1 and 2x2 pixels on JAX, as products without the padding.

Of 36 products of a tap and a pixel 16 are real at 2x2, and one of 9 at 1x1. JAX's own convolution
on a CPU takes half a second for a layer of 512 channels at 2x2 (forward, batch 32, two cores), and
this 8 milliseconds; its compiler derives gradients that are as fast.
"""

from typing import Any

import jax
import keras
from keras import ops

from deepnets.networks import layers

_LARGEST_MAP = 2


def is_small(layer: keras.Layer) -> bool:
    """Whether `layer` is a 3x3 convolution of maps so small that most of its taps meet padding."""
    return layers.is_plain_3x3(layer) and max(layer.output.shape[1:3]) <= _LARGEST_MAP


def stand_in(layer: keras.Layer) -> "SmallMap | None":
    """What computes `layer` faster than the library on a CPU; None where nothing does."""
    return SmallMap(layer) if jax.default_backend() == "cpu" and is_small(layer) else None


class SmallMap(keras.layers.Layer):  # type: ignore[misc]
    """A stand-in for a convolution, with its kernel, bias and activation.

    float32 (n, height, width, channels) to (n, height, width, filters).
    """

    def __init__(self, convolution: keras.layers.Conv2D) -> None:
        super().__init__(name=f"{convolution.name}_small_map")
        self.convolution = convolution

    def call(self, images: Any) -> Any:
        """The convolution of `images`, bias and activation included."""
        layer = self.convolution
        _, height, width, channels = images.shape
        flat = ops.reshape(images, (-1, height * width * channels))
        outputs = [
            ops.matmul(flat, ops.reshape(taps, (-1, layer.filters)))
            for taps in windows(ops.convert_to_tensor(layer.kernel), height, width)
        ]
        stacked = ops.reshape(ops.stack(outputs, axis=1), (-1, height, width, layer.filters))
        if layer.use_bias:
            stacked = stacked + layer.bias
        return layer.activation(stacked)


def windows(kernel: Any, height: int, width: int) -> list[Any]:
    """For each output pixel, row by row, the taps that meet the map: (height, width, c, f)."""
    return [
        kernel[1 - row : 1 - row + height, 1 - column : 1 - column + width]
        for row in range(height)
        for column in range(width)
    ]
