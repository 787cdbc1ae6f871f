"""Dropout whose mask is computed from keys, so that it is the same on every backend.

Backends have random numbers of their own. Here the numbers are a hash of a counter, in integer
operations that all of them compute alike: each image of an epoch has a key, drawn with NumPy from
(seed, epoch) at its position, and each unit of the layer counts on from it.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

# 2**32 over the golden ratio: spreads the counters of neighbouring units.
_STRIDE = 0x9E3779B9
# MurmurHash3's finalizer for 32 bits (Appleby 2011): shifts, and multipliers after the first two.
_SHIFTS = (16, 13, 16)
_MULTIPLIERS = (0x85EBCA6B, 0xC2B2AE35)


class Dropout(keras.layers.Layer):  # type: ignore[misc]
    """Sets a share of the units to 0, others are scaled so that the mean stays.

    Call with features (n, units) and keys, uint32 (n,); returns (n, units), the features themselves
    outside of training.
    """

    def __init__(self, rate: float, **options: Any) -> None:
        super().__init__(**options)
        self.rate = rate

    def call(self, features: Any, keys: Any, training: bool = False) -> Any:
        """`features` with those units set to 0 that `keys` say."""
        if not (training and self.rate):
            return features
        dropped = ops.less(bits(keys, features.shape[-1]), np.uint32(self.rate * 2**32))
        return ops.where(dropped, ops.zeros_like(features), features / (1 - self.rate))

    def compute_output_shape(self, features_shape: Any, keys_shape: Any) -> Any:
        """That of the features; told, since Keras would find it out with float keys."""
        return features_shape


def bits(keys: Any, units: int) -> Any:
    """32 random bits for each of `units` of each key: uint32 (n,) to uint32 (n, units)."""
    counters = np.arange(1, units + 1, dtype=np.uint32) * np.uint32(_STRIDE)
    mixed = _mix(ops.expand_dims(_mix(keys), -1) + ops.convert_to_tensor(counters))
    return _mix(mixed)


def _mix(values: Any) -> Any:
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        shifted = ops.bitwise_right_shift(values, np.uint32(shift))
        values = ops.bitwise_xor(values, shifted) * np.uint32(multiplier)
    return values
