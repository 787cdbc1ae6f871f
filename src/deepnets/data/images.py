"""Pure functions from grey digits to what the networks see. Knows NumPy only."""

import numpy as np
from numpy.typing import NDArray


def bilinear_matrix(source: int, target: int) -> NDArray[np.float32]:
    """Weights of a one-dimensional bilinear resize, half-pixel centres, edges clamped.

    This is the sampling of `tf.image.resize(method="bilinear", antialias=False)`, which the study
    used: output pixel i looks at source position (i + 0.5) * source / target - 0.5.

    Returns:
        float32 (target, source); each row sums to 1.
    """
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, source - 1)
    fraction = position - low
    weights = np.zeros((target, source))
    np.add.at(weights, (np.arange(target), low), 1 - fraction)
    np.add.at(weights, (np.arange(target), high), fraction)
    return weights.astype(np.float32)


def resize(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize grey images bilinearly, rounded to the nearest grey level.

    Args:
        images: uint8 (n, height, width).
        size: side of the square result in pixels.

    Returns:
        uint8 (n, size, size).
    """
    rows = bilinear_matrix(images.shape[1], size)
    columns = bilinear_matrix(images.shape[2], size)
    resized = rows @ images.astype(np.float32) @ columns.T
    rounded: NDArray[np.uint8] = np.rint(resized).astype(np.uint8)
    return rounded


def tile(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the one grey channel three times: uint8 (n, h, w) -> uint8 (n, h, w, 3)."""
    return np.repeat(images[..., np.newaxis], 3, axis=-1)
