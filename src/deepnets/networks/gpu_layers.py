"""Layers of a backbone on a GPU, by JAX, in fewer and larger kernels than Keras' own.

A step of a small network is many short kernels, and each costs microseconds whatever it computes.
Same mathematics; sums are in another order.

- A 1x1 convolution, and a 3x3 one of a map of up to 4x4 pixels, is one matrix product: the library
  for convolutions is slow at them (at 2x2, 20 of 36 products of a tap and a pixel meet padding).
- Batch normalisation reads its input once for both moments, and once for both sums of its
  gradient. The bias of a convolution before it shifts the mean and nothing else, so it is added to
  the moving mean alone, and its gradient is the exact zero instead of what rounding leaves of one.
- Max pooling's gradient compares instead of searching each window again; the first of equal pixels
  gets it, as in Keras.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import keras
from jax import lax
from keras import ops

from deepnets.networks import layers, small_maps

# The largest map whose 3x3 convolutions are a product of patches.
_LARGEST_OF_PATCHES = 4


def stand_in(layer: keras.Layer) -> keras.Layer | None:
    """What computes `layer` of a backbone here; None where that is `layer` itself."""
    if isinstance(layer, keras.layers.Conv2D):
        alone = _normalization_after(layer) is not None
        if _as_product(layer) is not None or alone:
            return Convolution(layer, with_bias=layer.use_bias and not alone)
    if layers.normalises_channels(layer):
        return Normalization(layer, _convolution_before(layer))
    if isinstance(layer, keras.layers.MaxPooling2D) and layer.padding == "valid":
        return MaxPooling(layer)
    return None


class Convolution(keras.layers.Layer):  # type: ignore[misc]
    """A stand-in for a convolution, with its kernel, activation and, where wanted, bias.

    float32 (n, height, width, channels) to (n, new height, new width, filters).
    """

    def __init__(self, convolution: keras.layers.Conv2D, with_bias: bool) -> None:
        super().__init__(name=f"{convolution.name}_on_gpu")
        self.convolution = convolution
        self._with_bias = with_bias
        self._product = _as_product(convolution) or _by_library

    def call(self, images: Any) -> Any:
        """The convolution of `images`."""
        layer = self.convolution
        outputs = self._product(layer, images, ops.convert_to_tensor(layer.kernel))
        if self._with_bias:
            outputs = outputs + ops.convert_to_tensor(layer.bias)
        return layer.activation(outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """As the convolution's; told rather than found out, which would trace `call` once more."""
        return self.convolution.compute_output_shape(input_shape)


def _as_product(layer: keras.layers.Conv2D) -> Callable[..., Any] | None:
    """How `layer` is computed as one product, if it can be, and should."""
    plain = layer.dilation_rate == (1, 1) and layer.groups == 1
    if plain and layer.kernel_size == (1, 1) and layer.strides[0] == layer.strides[1]:
        return _pixel_by_pixel
    if small_maps.is_small(layer):
        return _map_by_map
    small = layers.is_plain_3x3(layer) and max(layer.output.shape[1:3]) <= _LARGEST_OF_PATCHES
    return _patch_by_patch if small else None


def _pixel_by_pixel(layer: keras.layers.Conv2D, images: Any, kernel: Any) -> Any:
    stride = layer.strides[0]
    met = images[:, ::stride, ::stride] if stride > 1 else images
    return lax.dot_general(met, kernel[0, 0], (((3,), (0,)), ((), ())))


def _map_by_map(layer: keras.layers.Conv2D, images: Any, kernel: Any) -> Any:
    """All pixels of a map times one matrix, which holds for each output pixel the taps it meets."""
    _, height, width, channels = images.shape
    # (height, width, channels, output pixels, filters)
    matrix = jnp.stack(small_maps.windows(kernel, height, width), axis=3)
    sides = (height * width * channels, height * width * layer.filters)
    outputs = images.reshape(-1, sides[0]) @ matrix.reshape(sides)
    return outputs.reshape(-1, height, width, layer.filters)


def _patch_by_patch(layer: keras.layers.Conv2D, images: Any, kernel: Any) -> Any:
    """The nine pixels around each, side by side, times one matrix."""
    _, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, row : row + height, at : at + width] for row in range(3) for at in range(3)]
    patches = jnp.concatenate(taps, axis=3).reshape(-1, 9 * channels)
    outputs = patches @ kernel.reshape(9 * channels, layer.filters)
    return outputs.reshape(-1, height, width, layer.filters)


def _by_library(layer: keras.layers.Conv2D, images: Any, kernel: Any) -> Any:
    return lax.conv_general_dilated(
        images,
        kernel,
        layer.strides,
        layer.padding.upper(),
        rhs_dilation=layer.dilation_rate,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=layer.groups,
    )


def _normalization_after(layer: keras.layers.Conv2D) -> keras.Layer | None:
    """The batch normalisation that all of the linear convolution's output goes to, if any."""
    # A layer's first call is the one in the backbone; other views call it again.
    output = layer._inbound_nodes[0].output_tensors[0]
    users = [
        node.operation
        for node in layer._outbound_nodes
        if any(tensor is output for tensor in node.input_tensors)
    ]
    linear = layer.activation is keras.activations.linear
    return users[0] if linear and len(users) == 1 and layers.normalises_channels(users[0]) else None


def _convolution_before(layer: keras.layers.BatchNormalization) -> keras.layers.Conv2D | None:
    """The convolution whose output goes to `layer` alone, if there is one."""
    before = layer._inbound_nodes[0].input_tensors[0]._keras_history.operation
    is_convolution = isinstance(before, keras.layers.Conv2D)
    return before if is_convolution and _normalization_after(before) is layer else None


class Normalization(keras.layers.Layer):  # type: ignore[misc]
    """A stand-in for a batch normalisation, with its weights; float32 (n, height, width, c).

    Args:
        normalization: over the channels.
        convolution: whose bias the images still lack; None if they lack none.
    """

    def __init__(
        self,
        normalization: keras.layers.BatchNormalization,
        convolution: keras.layers.Conv2D | None,
    ) -> None:
        super().__init__(name=f"{normalization.name}_on_gpu")
        self.normalization = normalization
        self.convolution = convolution

    def call(self, images: Any, training: bool = False) -> Any:
        """`images` normalised; in training with the batch's moments, which the averages follow."""
        layer, bias = self.normalization, 0.0
        if self.convolution is not None and self.convolution.use_bias:
            bias = ops.convert_to_tensor(self.convolution.bias)
        if not (training and layer.trainable):
            return layer(images + bias, training=False)
        bias = lax.stop_gradient(bias)
        gamma, beta, average, average_variance = (
            ops.convert_to_tensor(of)
            for of in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
        )
        shift = average - bias
        outputs, total, squares = _normalise(images, gamma, beta, shift, layer.epsilon)
        sums = lax.stop_gradient(total), lax.stop_gradient(squares)
        mean, variance = _moments(sums, shift, _values(images))
        keep = layer.momentum
        layer.moving_mean.assign(average * keep + (mean + bias) * (1 - keep))
        layer.moving_variance.assign(average_variance * keep + variance * (1 - keep))
        return outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input; told rather than found out, which would trace `call` once more."""
        return input_shape


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _normalise(images: Any, gamma: Any, beta: Any, shift: Any, epsilon: float) -> Any:
    """`images` normalised, and two sums for their moments.

    Args:
        images: float32 (n, height, width, c); the others are (c,).
        gamma: what they are multiplied by.
        beta: what is added then.
        shift: near their means, so that the squares of what is left keep the variance's digits.
        epsilon: added to the variance.

    Returns:
        The images, and the sums of images - shift and of its squares.
    """
    return _normalise_forward(images, gamma, beta, shift, epsilon)[0]


# Sums, not moments, go from here to there: so every kernel makes of them what it needs, and none
# runs for a few hundred means.
def _normalise_forward(images: Any, gamma: Any, beta: Any, shift: Any, epsilon: float) -> Any:
    shifted = images - shift
    sums = _two_sums(shifted, shifted * shifted)
    mean, variance = _moments(sums, shift, _values(images))
    outputs = (images - mean) * (lax.rsqrt(variance + epsilon) * gamma) + beta
    return (outputs, *sums), (images, gamma, shift, sums)


def _normalise_backward(epsilon: float, kept: Any, gradients: Any) -> Any:
    images, gamma, shift, sums = kept
    gradient = gradients[0]
    count = _values(images)
    mean, variance = _moments(sums, shift, count)
    scale = lax.rsqrt(variance + epsilon)
    normalised = (images - mean) * scale
    to_beta, to_gamma = _two_sums(gradient, gradient * normalised)
    inner = gradient - to_beta * (1 / count) - normalised * (to_gamma * (1 / count))
    return inner * (scale * gamma), to_gamma, to_beta, jnp.zeros_like(shift)


_normalise.defvjp(_normalise_forward, _normalise_backward)


def _moments(sums: tuple[Any, Any], shift: Any, count: int) -> tuple[Any, Any]:
    """Mean and variance of values, given the sums of values - shift and of its squares."""
    total, squares = sums
    mean = total * (1 / count)
    return mean + shift, jnp.maximum(squares * (1 / count) - mean * mean, 0)


def _two_sums(first: Any, second: Any) -> tuple[Any, Any]:
    """The sums over all but the last axis, in one pass."""
    axes = tuple(range(first.ndim - 1))
    zero = jnp.zeros((), first.dtype)
    sums: tuple[Any, Any] = lax.reduce(
        (first, second), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), axes
    )
    return sums


def _values(images: Any) -> int:
    """How many values of a channel there are."""
    return int(images.size // images.shape[-1])


class MaxPooling(keras.layers.Layer):  # type: ignore[misc]
    """A stand-in for a max pooling without padding; float32 (n, height, width, c)."""

    def __init__(self, pooling: keras.layers.MaxPooling2D) -> None:
        super().__init__(name=f"{pooling.name}_on_gpu")
        self.pooling = pooling

    def call(self, images: Any) -> Any:
        """The largest pixel of each window."""
        return _pool(images, tuple(self.pooling.pool_size), tuple(self.pooling.strides))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """As the pooling's; told rather than found out, which would trace `call` once more."""
        return self.pooling.compute_output_shape(input_shape)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _pool(images: Any, window: tuple[int, int], strides: tuple[int, int]) -> Any:
    return lax.reduce_window(images, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), "VALID")


def _pool_forward(images: Any, window: tuple[int, int], strides: tuple[int, int]) -> Any:
    outputs = _pool(images, window, strides)
    return outputs, (images, outputs)


def _pool_backward(window: tuple[int, int], strides: tuple[int, int], kept: Any, grad: Any) -> Any:
    images, outputs = kept
    count, height, width, channels = images.shape
    rows, columns = (
        (size - 1) * stride for size, stride in zip(outputs.shape[1:3], strides, strict=True)
    )
    given = jnp.zeros(outputs.shape, bool)
    total = jnp.zeros_like(images)
    for row in range(window[0]):
        for column in range(window[1]):
            # The pixels at this place of all windows.
            pixels = lax.slice(
                images,
                (0, row, column, 0),
                (count, row + rows + 1, column + columns + 1, channels),
                (1, *strides, 1),
            )
            equal = pixels == outputs
            part = jnp.where(equal & ~given, grad, 0)
            given |= equal
            edges = (
                (0, 0, 0),
                (row, height - row - rows - 1, strides[0] - 1),
                (column, width - column - columns - 1, strides[1] - 1),
                (0, 0, 0),
            )
            total += lax.pad(part, jnp.zeros((), part.dtype), edges)
    return (total,)


_pool.defvjp(_pool_forward, _pool_backward)
