"""The 3x3 convolutions of training on maps of 1x1 and 2x2 pixels, without the padding.

Where a map is that small, most taps of a kernel with `same` padding only ever meet padding: at
2x2, 16 of 36 products of a tap and a pixel are real, at 1x1 one of 9. Libraries multiply them all.
Here each output pixel is one matrix product over the whole map; the sums are the same ones, in
another order. VGG-16 ends in three such layers, ResNet50 has nine.
"""

from typing import Any

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

LARGEST_MAP = 2


def applies_to(layer: keras.Layer) -> bool:
    """Whether `layer` is a convolution that `SmallMap` computes."""
    return (
        isinstance(layer, keras.layers.Conv2D)
        and layer.kernel_size == (3, 3)
        and layer.strides == (1, 1)
        and layer.dilation_rate == (1, 1)
        and layer.padding == "same"
        and layer.groups == 1
        and max(layer.output.shape[1:3]) <= LARGEST_MAP
    )


class SmallMap(keras.layers.Layer):  # type: ignore[misc]
    """A stand-in for a convolution, with its kernel, bias and activation.

    float32 (n, side, side, channels) to (n, side, side, filters).
    """

    def __init__(self, convolution: keras.layers.Conv2D) -> None:
        super().__init__(name=f"{convolution.name}_small_map")
        self.convolution = convolution

    def call(self, images: Any) -> Any:
        """The convolution of `images`, bias and activation included."""
        layer = self.convolution
        _, height, width, _ = images.shape
        outputs = _convolve(images, layer.kernel, height, width)
        if layer.use_bias:
            outputs = outputs + layer.bias
        return layer.activation(outputs)


def _convolve(images: Any, kernel: Any, height: int, width: int) -> Any:
    """The convolution as a product with one matrix, and its gradients likewise."""
    if keras.backend.backend() == "jax":
        return _compiled(images, ops.convert_to_tensor(kernel), height, width)
    kernel = tf.convert_to_tensor(kernel)
    channels, filters = kernel.shape[2:]
    pixels = height * width

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def product(images: Any, kernel: Any) -> Any:
        flat = tf.reshape(images, (-1, pixels * channels))
        matrices = [
            tf.reshape(taps, (pixels * channels, filters))
            for taps in _windows(kernel, height, width)
        ]
        outputs = [flat @ matrix for matrix in matrices]

        def gradients(upstream: Any) -> tuple[Any, Any]:
            parts = tf.unstack(tf.reshape(upstream, (-1, pixels, filters)), axis=1)
            to_images = tf.add_n(
                [
                    tf.matmul(part, m, transpose_b=True)
                    for part, m in zip(parts, matrices, strict=True)
                ]
            )
            by_tap = _by_tap(flat, upstream, height, width, channels, filters)
            return tf.reshape(to_images, tf.shape(images)), by_tap

        stacked = tf.reshape(tf.stack(outputs, axis=1), (-1, height, width, filters))
        return stacked, gradients

    return product(images, kernel)


def _compiled(images: Any, kernel: Any, height: int, width: int) -> Any:
    """The same products on JAX, whose compiler derives gradients that are as fast.

    Its own convolution takes half a second for a layer of 512 channels on a map of 2x2 (forward,
    batch 32, two cores), and this 8 milliseconds.
    """
    filters = kernel.shape[3]
    flat = ops.reshape(images, (-1, height * width * kernel.shape[2]))
    matrices = [ops.reshape(taps, (-1, filters)) for taps in _windows(kernel, height, width)]
    outputs = ops.concatenate([ops.matmul(flat, matrix) for matrix in matrices], axis=1)
    return ops.reshape(outputs, (-1, height, width, filters))


def _windows(kernel: Any, height: int, width: int) -> list[Any]:
    """For each output pixel, row by row, the taps that meet the map: (height, width, c, f)."""
    return [
        kernel[1 - row : 1 - row + height, 1 - column : 1 - column + width]
        for row in range(height)
        for column in range(width)
    ]


def _by_tap(flat: Any, upstream: Any, height: int, width: int, channels: int, filters: int) -> Any:
    """The kernel's gradient (3, 3, c, f): a product for each tap, over the pixels that it meets."""
    images = tf.reshape(flat, (-1, height, width, channels))
    taps = []
    for row in range(3):
        for column in range(3):
            up, left = row - 1, column - 1
            if abs(up) >= height or abs(left) >= width:
                taps.append(tf.zeros((channels, filters)))
                continue
            seen = images[:, max(up, 0) : height + min(up, 0), max(left, 0) : width + min(left, 0)]
            given = upstream[
                :, max(-up, 0) : height + min(-up, 0), max(-left, 0) : width + min(-left, 0)
            ]
            taps.append(
                tf.matmul(
                    tf.reshape(seen, (-1, channels)),
                    tf.reshape(given, (-1, filters)),
                    transpose_a=True,
                )
            )
    return tf.reshape(tf.stack(taps), (3, 3, channels, filters))
