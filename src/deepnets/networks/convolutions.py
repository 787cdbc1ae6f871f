"""Convolutions as plain matrix products, where the library's kernels waste most of their time.

On maps of 1x1 and 2x2 pixels most taps of a 3x3 kernel with `same` padding only ever meet padding:
at 2x2, 16 of 36 products of a tap and a pixel are real, at 1x1 one of 9. Libraries multiply them
all. And where the maps are small and the kernels large, oneDNN spends longer rearranging a kernel
than multiplying by it. The products here are the same ones, summed in another order; that they are
faster on a CPU is shown by benchmarks/layers.py.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from deepnets.networks import layers, runtime

# Where a product beats the library's convolution: the largest side of the map, and for 3x3 kernels
# the side up to which it does with this many channels (from 4x4 on winograd.py beats both, where
# sides are even).
_LARGEST_MAP = {(1, 1): 4, (3, 3): 2}
_LARGEST_MAP_OF_WIDE, _WIDE = 4, 256

# From so many channels on, the sum over them is worth two operations.
_LONG_SUM = 128


def applies_to(layer: keras.Layer) -> bool:
    """Whether `layer` is a convolution that `AsProducts` computes, and faster than the library."""
    if not can_be_products(layer):
        return False
    largest = _LARGEST_MAP[layer.kernel_size]
    if layer.kernel_size == (3, 3) and layer.kernel.shape[2] >= _WIDE:
        largest = _LARGEST_MAP_OF_WIDE
    return bool(max(layer.output.shape[1:3]) <= largest)


def can_be_products(layer: keras.Layer) -> bool:
    """Whether `AsProducts` knows how to compute `layer`."""
    if layers.is_plain_3x3(layer):
        return True
    if not isinstance(layer, keras.layers.Conv2D) or layer.kernel_size != (1, 1):
        return False
    whole = all(side % layer.strides[0] == 0 for side in layer.input.shape[1:3])
    alike = layer.strides[0] == layer.strides[1] and layer.dilation_rate == (1, 1)
    return whole and alike and layer.groups == 1


class StandIn(keras.layers.Layer):  # type: ignore[misc]
    """A stand-in for a convolution, with its kernel, bias and activation.

    float32 (n, height, width, channels) to (n, new height, new width, filters).
    """

    def __init__(self, convolution: keras.layers.Conv2D, way: str) -> None:
        super().__init__(name=f"{convolution.name}_{way}")
        self.convolution = convolution

    def convolve(self, images: Any, kernel: Any) -> Any:
        """The convolution of `images` by the kernel alone."""
        raise NotImplementedError

    def call(self, images: Any) -> Any:
        """The convolution of `images`, bias and activation included."""
        layer = self.convolution
        outputs = self.convolve(images, tf.convert_to_tensor(layer.kernel))
        if layer.use_bias:
            outputs = tf.nn.bias_add(outputs, layer.bias)
        return layer.activation(outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """As the convolution's; told rather than found out, which would trace `call` once more."""
        return self.convolution.compute_output_shape(input_shape)


class AsProducts(StandIn):
    """A convolution as plain matrix products."""

    def __init__(self, convolution: keras.layers.Conv2D) -> None:
        super().__init__(convolution, "as_products")

    def convolve(self, images: Any, kernel: Any) -> Any:
        layer = self.convolution
        if layer.kernel_size == (1, 1):
            matrix = tf.reshape(kernel, kernel.shape[2:])
            long = matrix.shape[0] >= _LONG_SUM and matrix.shape[0] % 2 == 0
            multiply = _in_two if long and runtime.one_core_an_operation() else tf.matmul
            return _product(_every(images, layer.strides[0]), matrix, multiply)
        return _three_by_three(images, kernel)


def _three_by_three(images: Any, kernel: Any) -> Any:
    """3x3 convolution with `same` padding: each tap times the pixels that it meets, then the sum.

    Args:
        images: float32 (n, height, width, channels).
        kernel: float32 (3, 3, channels, filters).
    """
    _, height, width, channels = images.shape
    # Cut along the first axis, a tensor gives up its parts without copying them.
    taps = tf.unstack(tf.reshape(kernel, (9, channels, kernel.shape[3])))
    parts = []
    for number, tap in enumerate(taps):
        down, right = number // 3 - 1, number % 3 - 1
        if abs(down) >= height or abs(right) >= width:
            continue
        if not down and not right:
            parts.append(_product(images, tap))
            continue
        # tf.slice, since the gradient of Python's slices is a slow operation.
        met = tf.slice(
            images,
            [0, max(down, 0), max(right, 0), 0],
            [-1, height - abs(down), width - abs(right), channels],
        )
        place = [[0, 0], [max(-down, 0), max(down, 0)], [max(-right, 0), max(right, 0)], [0, 0]]
        parts.append(tf.pad(_product(met, tap), place))
    return tf.add_n(parts)


def _every(images: Any, stride: int) -> Any:
    """The pixels of `images`, (n, height, width, channels), at every multiple of `stride`."""
    if stride == 1:
        return images
    _, height, width, channels = images.shape
    height, width = height // stride, width // stride
    folded = tf.reshape(images, (-1, stride, width, stride * channels))
    first = tf.slice(folded, [0, 0, 0, 0], [-1, 1, width, channels])
    return tf.reshape(first, (-1, height, width, channels))


def _product(images: Any, matrix: Any, multiply: Callable[[Any, Any], Any] = tf.matmul) -> Any:
    """Each pixel of `images`, (n, height, width, channels), times `matrix`, (channels, filters)."""
    _, height, width, channels = images.shape
    flat = multiply(tf.reshape(images, (-1, channels)), matrix)
    return tf.reshape(flat, (-1, height, width, matrix.shape[1]))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _in_two(rows: Any, matrix: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
    """`rows`, (n, channels), times `matrix`, (channels, filters), as the sum of two products.

    Forwards each layer waits for the one before, which would leave a second core nothing to do. Of
    the channels each core takes half: rows would have both read all of the matrix. Backwards there
    are two products anyway.
    """

    def gradient(upstream: Any) -> tuple[Any, Any]:
        return (
            tf.matmul(upstream, matrix, transpose_b=True),
            tf.matmul(rows, upstream, transpose_a=True),
        )

    halves = zip(tf.split(rows, 2, axis=1), tf.split(matrix, 2, axis=0), strict=True)
    first, second = (tf.matmul(part, own) for part, own in halves)
    return first + second, gradient
