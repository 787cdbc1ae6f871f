"""Dropout from keys: the documented hash, with the statistics of chance."""

import keras
import numpy as np
import pytest

import backends
import by_numpy
from deepnets.config import params
from deepnets.data import splits
from deepnets.networks import dropout
from deepnets.training import batches
from project import ROOT

KEYS = np.random.default_rng(0).integers(2**32, size=1000, dtype=np.uint32)
UNITS = 512


@pytest.fixture(scope="module")
def bits() -> np.ndarray:
    return np.asarray(dropout.bits(KEYS, UNITS))


def test_the_finalizer_by_hand_is_murmurhashs() -> None:
    """Against known pairs: the first of MurmurHash3's own, for 0 and its image, and two more."""
    assert by_numpy.finalizer(np.uint32(0)) == 0
    assert by_numpy.finalizer(np.uint32(1)) == 0x514E28B7
    assert by_numpy.finalizer(np.uint32(2**32 - 1)) == 0x81F16F39


def test_bits_are_the_documented_hash(bits: np.ndarray) -> None:
    assert bits.dtype == np.uint32
    np.testing.assert_array_equal(bits, by_numpy.dropout_bits(KEYS, UNITS))


BITS = """
import hashlib, jax
import numpy as np
from deepnets.networks import dropout
keys = np.random.default_rng(0).integers(2**32, size=1000, dtype=np.uint32)
for bits in (dropout.bits, jax.jit(dropout.bits, static_argnums=1)):
    found = np.asarray(bits(keys, 512))
    print(found.dtype, hashlib.sha256(found.tobytes()).hexdigest())
"""


def test_bits_are_the_same_on_jax(bits: np.ndarray) -> None:
    import hashlib

    expected = f"uint32 {hashlib.sha256(bits.tobytes()).hexdigest()}"
    assert backends.on_jax(BITS).splitlines() == [expected] * 2


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_share_is_dropped_and_the_mean_stays(rate: float) -> None:
    features = np.random.default_rng(1).uniform(1, 2, (len(KEYS), UNITS)).astype(np.float32)
    dropped = np.asarray(dropout.Dropout(rate)(features, KEYS, training=True))
    kept = dropped != 0
    error = 5 / np.sqrt(features.size)
    assert np.mean(~kept) == pytest.approx(rate, abs=error)
    np.testing.assert_allclose(dropped[kept], features[kept] / (1 - rate), rtol=1e-6)
    assert dropped.mean() == pytest.approx(features.mean(), rel=5 * error)
    # Of every unit, and of every image, some share is kept.
    for axis, count in ((0, len(KEYS)), (1, UNITS)):
        deviations = (kept.mean(axis) - (1 - rate)) / np.sqrt(rate * (1 - rate) / count)
        assert deviations.std() == pytest.approx(1, abs=0.2)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.mark.parametrize("distance", [1, 2, 3, 64])
def test_neighbours_have_nothing_to_do_with_each_other(bits: np.ndarray, distance: int) -> None:
    # Keys that follow each other are harder for a hash than those that are drawn.
    counted = np.asarray(dropout.bits(np.arange(1000, dtype=np.uint32), UNITS))
    for numbers in (bits, counted):
        bound = 5 / np.sqrt(numbers.size / 2)
        # All 32 bits as one number, and one bit at a time, the first of which decides at rate 0.5.
        for part in (
            numbers.astype(float),
            (numbers >> 31).astype(float),
            (numbers & 1).astype(float),
        ):
            assert abs(_correlation(part[:, distance:], part[:, :-distance])) < bound
            assert abs(_correlation(part[distance:], part[:-distance])) < bound


@pytest.mark.parametrize("other", [{"epoch": 2}, {"seed": 1}])
def test_keys_differ_by_seed_and_epoch(other: dict[str, int]) -> None:
    def keys(seed: int = 0, epoch: int = 1) -> np.ndarray:
        run = params.load(ROOT / "params.yaml").run_params("vgg16-sgd-random", seed)
        images = np.zeros((1000, 4, 4, 3), np.uint8)
        return batches.draw_epoch(
            splits.Split(images, np.zeros(1000, np.uint8)), run, epoch
        ).dropout_keys

    first, second = keys(), keys(**other)
    assert first.dtype == np.uint32
    assert first.shape == (1000 // 32 * 32,)
    np.testing.assert_array_equal(first, keys())
    assert len(np.unique(first)) == len(first)
    assert not set(first) & set(second)
    ours, theirs = (np.asarray(dropout.bits(drawn, UNITS)) >> 31 for drawn in (first, second))
    assert abs(_correlation(ours, theirs)) < 5 / np.sqrt(ours.size)


def test_a_rate_of_zero_or_no_training_changes_nothing() -> None:
    features = np.random.default_rng(1).normal(0, 1, (4, 8)).astype(np.float32)
    np.testing.assert_array_equal(dropout.Dropout(0.0)(features, KEYS[:4], training=True), features)
    np.testing.assert_array_equal(dropout.Dropout(0.5)(features, KEYS[:4]), features)  # no training


def test_only_the_keys_decide() -> None:
    """Neither Keras' seed, nor the other images of a batch, nor how often it was called."""
    layer, features = dropout.Dropout(0.5), np.ones((4, UNITS), np.float32)
    first = np.asarray(layer(features, KEYS[:4], training=True))
    keras.utils.set_random_seed(9)
    turned = np.asarray(layer(features, KEYS[:4][::-1].copy(), training=True))
    np.testing.assert_array_equal(turned[::-1], first)
    np.testing.assert_array_equal(
        dropout.Dropout(0.5)(features[:1], KEYS[3:4], training=True), first[3:]
    )


def test_in_half_precision_the_same_units_are_dropped() -> None:
    features = np.ones((4, UNITS), np.float32)
    half = dropout.Dropout(0.5, dtype="mixed_bfloat16")(features, KEYS[:4], training=True)
    assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"
    whole = dropout.Dropout(0.5)(features, KEYS[:4], training=True)
    np.testing.assert_array_equal(np.asarray(half).astype(np.float32), whole)
