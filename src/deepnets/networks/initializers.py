"""Kernels drawn with NumPy from a seed and a layer's name: the same bits on every backend.

The distributions are those of Keras' initializers of the same names.
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

Distribution = Literal["glorot_uniform", "he_normal"]

# What the starting weights of a convolution are called in params.yaml.
CONVOLUTIONS: dict[str, Distribution] = {"random": "glorot_uniform", "he": "he_normal"}

# Standard deviation of a standard normal distribution that is cut off at -2 and 2, which Keras'
# `variance_scaling` divides by.
_CUT_OFF_DEVIATION = 0.87962566103423978


def draw(
    distribution: Distribution, shape: tuple[int, ...], seed: int, layer: str
) -> NDArray[np.float32]:
    """A kernel for `layer`.

    Args:
        distribution: `glorot_uniform` (Glorot and Bengio 2010), or `he_normal` (He et al. 2015,
            fan-in), a normal distribution without what lies beyond two deviations.
        shape: (height, width, channels, filters) of a convolution, (inputs, units) of a dense
            layer.
        seed: of the run.
        layer: its name; layers of one seed draw independently.

    Returns:
        float32 of that shape.
    """
    generator = np.random.default_rng([seed, zlib.crc32(layer.encode())])
    taps = int(np.prod(shape[:-2]))
    fan_in, fan_out = taps * shape[-2], taps * shape[-1]
    if distribution == "he_normal":
        deviation = np.sqrt(2 / fan_in) / _CUT_OFF_DEVIATION
        values = deviation * _cut_off_normal(generator, shape)
    else:
        limit = np.sqrt(6 / (fan_in + fan_out))
        values = generator.uniform(-limit, limit, shape)
    kernel: NDArray[np.float32] = values.astype(np.float32)
    return kernel


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Have what Keras makes in the block start from NumPy's zeros and ones.

    For weights that are set afterwards. Drawn by Keras, each shape would be compiled for itself:
    seconds on JAX.
    """

    def filled(fill: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, shape: Any, dtype: Any = None, **_: Any) -> Any:
            return fill(shape, dtype or keras.config.floatx())

        return call

    of = keras.initializers
    fills = {of.GlorotUniform: np.zeros, of.Zeros: np.zeros, of.Ones: np.ones}
    kept = {kind: vars(kind).get("__call__") for kind in fills}
    for kind, fill in fills.items():
        kind.__call__ = filled(fill)
    try:
        yield
    finally:
        for kind, call in kept.items():
            if call is None:
                del kind.__call__  # which it has from what it is a kind of
            else:
                kind.__call__ = call


def _cut_off_normal(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal numbers; those beyond -2 and 2 are drawn again."""
    drawn = generator.standard_normal(shape)
    while (beyond := np.abs(drawn) > 2).any():
        drawn[beyond] = generator.standard_normal(int(beyond.sum()))
    return drawn
