"""3x3 convolutions by Winograd's minimal filtering, F(2x2, 3x3).

Two outputs of a filter of three taps are two sums of four products instead of six products, in
both directions: 16 products for four pixels instead of 36. What is added before and after grows
with the channels, and the products with their square, so that it pays where channels are many.
That it is faster on a CPU is shown by benchmarks/layers.py.

A. Lavin and S. Gray, *Fast Algorithms for Convolutional Neural Networks* (CVPR 2016,
https://arxiv.org/abs/1509.09308), equations 4 to 8. The third row and column of its B and A have
the opposite sign here, which spares a negation.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepnets.networks import convolutions, layers

# Fewer filters have too few products to spare. A map's side, and the fewest from there on.
_FEWEST_FILTERS = ((4, 256), (8, 128))

_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
# Of a kernel's nine values the sixteen of a tile, column by column.
_BOTH_WAYS = np.kron(_KERNEL, _KERNEL).reshape(4, 4, 9).swapaxes(0, 1).reshape(16, 9)


def applies_to(layer: keras.Layer) -> bool:
    """Whether `layer` is a convolution that `Winograd` computes, and faster than the library."""
    return can_be_filtered(layer) and any(
        min(layer.output.shape[1:3]) >= side and layer.filters >= filters
        for side, filters in _FEWEST_FILTERS
    )


def can_be_filtered(layer: keras.Layer) -> bool:
    """Whether `Winograd` knows how to compute `layer`: maps are whole tiles of 2x2 pixels."""
    return layers.is_plain_3x3(layer) and all(side % 2 == 0 for side in layer.output.shape[1:3])


class Winograd(convolutions.StandIn):
    """A 3x3 convolution with `same` padding, by fewer products."""

    def __init__(self, convolution: keras.layers.Conv2D) -> None:
        super().__init__(convolution, "winograd")

    def convolve(self, images: Any, kernel: Any) -> Any:
        _, height, width, channels = images.shape
        filters = kernel.shape[3]
        spread = tf.matmul(tf.constant(_BOTH_WAYS), tf.reshape(kernel, (9, channels * filters)))
        # The four sums of rows lie one after the other, so that those of columns are taken at once.
        columns = _four(tf.concat(_four(images, 1), axis=0), 2)
        matrices = tf.unstack(tf.reshape(spread, (4, 4, channels, filters)))
        products = [
            tf.reshape(
                tf.matmul(tf.reshape(column, (4, -1, channels)), matrix),
                (-1, height // 2, width // 2, filters),
            )
            for column, matrix in zip(columns, matrices, strict=True)
        ]
        rows = tf.unstack(tf.reshape(_two(products, 2), (4, -1, height // 2, width, filters)))
        return _two(rows, 1)


def _four(maps: Any, axis: int) -> list[Any]:
    """Of each two pixels along `axis`, with the one before and the one after, four sums."""
    even, odd = _parted(maps, axis)
    return [_moved(odd, axis, 1) - odd, even + odd, odd - even, _moved(even, axis, -1) - even]


def _two(sums: list[Any], axis: int) -> Any:
    """Of four products along `axis` the two pixels that they come to."""
    return _joined(sums[0] + sums[1] + sums[2], sums[1] - sums[2] + sums[3], axis)


def _parted(maps: Any, axis: int) -> list[Any]:
    """The pixels at even and those at odd places along `axis` of (n, height, width, channels)."""
    _, height, width, channels = maps.shape
    # The size of what one place holds; parts of a second axis are cut by one fast kernel.
    inner = width * channels if axis == 1 else channels
    shape = [-1, height, width, channels]
    shape[axis] //= 2
    return [
        tf.reshape(part, shape) for part in tf.unstack(tf.reshape(maps, (-1, 2, inner)), axis=1)
    ]


def _joined(even: Any, odd: Any, axis: int) -> Any:
    """What `_parted` takes apart."""
    _, height, width, channels = even.shape
    inner = width * channels if axis == 1 else channels
    shape = [-1, height, width, channels]
    shape[axis] *= 2
    flat = [tf.reshape(part, (-1, inner)) for part in (even, odd)]
    return tf.reshape(tf.stack(flat, axis=1), shape)


def _moved(maps: Any, axis: int, places: int) -> Any:
    """`maps` a place (1) further or (-1) nearer along `axis`; zeros come in, the last goes."""
    size, begin, padding = [-1, *maps.shape[1:]], [0] * 4, [[0, 0] for _ in range(4)]
    size[axis] -= 1
    begin[axis] = max(-places, 0)
    padding[axis] = [max(places, 0), max(-places, 0)]
    # tf.slice, since the gradient of Python's slices is a slow operation.
    return tf.pad(tf.slice(maps, begin, size), padding)
