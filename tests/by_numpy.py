"""Dropout's mask as its module documents it, written out with NumPy alone."""

from typing import Any

import numpy as np


def finalizer(values: Any) -> Any:
    """MurmurHash3's fmix32 (Appleby 2011, github.com/aappleby/smhasher), of uint32."""
    h = np.array(values, np.uint64)
    h ^= h >> np.uint64(16)
    h = h * np.uint64(0x85EBCA6B) % 2**32
    h ^= h >> np.uint64(13)
    h = h * np.uint64(0xC2B2AE35) % 2**32
    h ^= h >> np.uint64(16)
    return h.astype(np.uint32)


def dropout_bits(keys: np.ndarray, units: int) -> np.ndarray:
    """uint32 (n, units) of keys uint32 (n,): unit i counts i + 1 golden strides on from its key."""
    strides = np.arange(1, units + 1, dtype=np.uint64) * np.uint64(0x9E3779B9)
    counters = (finalizer(keys).astype(np.uint64)[:, None] + strides) % 2**32
    return finalizer(finalizer(counters))


def dropout_factors(keys: np.ndarray, units: int, rate: float) -> np.ndarray:
    """What features (n, units) are multiplied by: 0, or what keeps the mean."""
    kept = dropout_bits(keys, units) >= int(rate * 2**32)
    return (kept / (1 - rate)).astype(np.float32)
