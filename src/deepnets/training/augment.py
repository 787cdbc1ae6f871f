"""The one random warp of the training images: rotation, shift and zoom, composed.

The study's code calls Keras' legacy `ImageDataGenerator(rotation_range=10, width_shift_range=0.1,
height_shift_range=0.1, zoom_range=0.1)`: one bilinear resampling an image, gaps filled with the
nearest pixel. Here the transforms are drawn with NumPy, so that they depend on nothing but the
generator they are given, and applied on the device.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray


def draw_transforms(
    generator: np.random.Generator,
    count: int,
    size: int,
    rotation: float,
    shift: float,
    zoom: float,
) -> NDArray[np.float32]:
    """Draw `count` transforms.

    Args:
        generator: source of randomness.
        count: how many, n.
        size: side of the images in pixels.
        rotation: largest angle in degrees, to either side.
        shift: largest shift as a fraction of the side.
        zoom: zoom factors are drawn from 1 - zoom to 1 + zoom, for height and width separately.

    Returns:
        float32 (n, 8), the rows of `compose`.
    """
    draws = generator.uniform(-1, 1, (count, 5))
    return compose(
        angle=np.deg2rad(draws[:, 0] * rotation),
        shift_x=draws[:, 1] * shift * size,
        shift_y=draws[:, 2] * shift * size,
        zoom_x=1 + draws[:, 3] * zoom,
        zoom_y=1 + draws[:, 4] * zoom,
        size=size,
    )


def compose(
    angle: NDArray[np.float64],
    shift_x: NDArray[np.float64],
    shift_y: NDArray[np.float64],
    zoom_x: NDArray[np.float64],
    zoom_y: NDArray[np.float64],
    size: int,
) -> NDArray[np.float32]:
    """Compose rotation, shift and zoom about the image's centre, as ImageDataGenerator does.

    The output pixel p = (x, y) is read at c + R (Z (p - c) + s), where c is the centre
    (size / 2 - 0.5, twice), Z scales by (zoom_x, zoom_y), s is the shift in pixels and R turns by
    `angle` in radians (`apply_affine_transform` in keras.src.legacy.preprocessing.image, its
    theta, tx, ty, zx, zy).

    Returns:
        float32 (n, 8): a0, a1, a2, b0, b1, b2, 0, 0 of `keras.ops.image.affine_transform`, which
        reads the output pixel (x, y) at (a0 x + a1 y + a2, b0 x + b1 y + b2).
    """
    cos, sin = np.cos(angle), np.sin(angle)
    centre = size / 2 - 0.5
    a0, a1 = cos * zoom_x, -sin * zoom_y
    b0, b1 = sin * zoom_x, cos * zoom_y
    a2 = cos * shift_x - sin * shift_y + centre * (1 - a0 - a1)
    b2 = sin * shift_x + cos * shift_y + centre * (1 - b0 - b1)
    nothing = np.zeros_like(angle)
    return np.stack([a0, a1, a2, b0, b1, b2, nothing, nothing], axis=1).astype(np.float32)


class Warp(keras.layers.Layer):  # type: ignore[misc]
    """Apply one given affine transform to each image, bilinearly, nearest pixel beyond the edge.

    Call with images, uint8 or float (n, h, w, 3), and transforms, float32 (n, 8); returns float32
    (n, h, w, 3) on the same scale as the images.
    """

    def call(self, images: Any, transforms: Any) -> Any:
        with _exact_products():
            return ops.image.affine_transform(
                ops.cast(images, "float32"),
                transforms,
                interpolation="bilinear",
                fill_mode="nearest",
                data_format="channels_last",
            )


def _exact_products() -> AbstractContextManager[Any]:
    """Where the backend computes a pixel's source as a product, no rounding of it to TF32.

    That is what JAX does on a GPU unless told otherwise: 10 bits would read beside the pixel.
    """
    if keras.backend.backend() != "jax":
        return nullcontext()
    import jax

    return jax.default_matmul_precision("highest")  # type: ignore[no-any-return]
