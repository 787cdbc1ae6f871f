"""Starting weights: drawn as Keras draws them, by NumPy, the same on every backend."""

from pathlib import Path

import keras
import numpy as np
import pytest

import backends
import small_networks
from deepnets.config import registry
from deepnets.networks import initializers, models, saving
from deepnets.networks.initializers import Distribution

# A convolution, one of few numbers, and a dense layer.
SHAPES = [(3, 3, 64, 128), (7, 7, 3, 64), (512, 10)]
KERAS = {
    "glorot_uniform": keras.initializers.GlorotUniform,
    "he_normal": keras.initializers.HeNormal,
}


@pytest.fixture(params=SHAPES, ids=str)
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return tuple(request.param)


@pytest.mark.parametrize("distribution", KERAS)
def test_kernels_have_the_moments_and_limits_of_keras_own(
    distribution: Distribution, shape: tuple[int, ...]
) -> None:
    ours = initializers.draw(distribution, shape, 0, "layer")
    theirs = np.asarray(KERAS[distribution](seed=0)(shape))
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    count, deviation = ours.size, float(theirs.std())
    # Standard errors of a mean, and of a deviation (less where tails are cut off): five of each.
    assert abs(ours.mean()) < 5 * deviation / np.sqrt(count)
    assert ours.std() == pytest.approx(deviation, rel=5 / np.sqrt(count))
    # Fourth moments tell the two shapes apart: 9/5 and, cut off at two deviations, 2.37.
    fourth = [np.mean(kernel**4) / kernel.var() ** 2 for kernel in (ours, theirs)]
    assert fourth[0] == pytest.approx(fourth[1], rel=15 / np.sqrt(count))
    # Both come close to the same limit, and ours does not go beyond it.
    taps = int(np.prod(shape[:-2]))
    fan_in, fan_out = taps * shape[-2], taps * shape[-1]
    limit = {
        "glorot_uniform": np.sqrt(6 / (fan_in + fan_out)),
        "he_normal": 2 * np.sqrt(2 / fan_in) / 0.8796256610342398,
    }[distribution]
    for kernel in (ours, theirs):
        assert 0.97 * limit < np.abs(kernel).max() <= 1.000001 * limit


@pytest.mark.parametrize("distribution", KERAS)
def test_kernels_differ_by_seed_and_layer(distribution: Distribution) -> None:
    shape = (3, 3, 16, 16)
    names = [(seed, layer) for seed in (0, 1, 2**32) for layer in ("a", "b", "block1_conv1")]
    drawn = [initializers.draw(distribution, shape, *name).ravel() for name in names]
    between = np.corrcoef(drawn) - np.eye(len(names))
    assert np.abs(between).max() < 5 / np.sqrt(drawn[0].size)
    again = initializers.draw(distribution, shape, *names[-1])
    np.testing.assert_array_equal(again.ravel(), drawn[-1])


DIGESTS = """
from deepnets.config import registry
from deepnets.networks import models, saving
from small_networks import ENTRIES
registry.architectures().update(ENTRIES)
for arch in ENTRIES:
    for weights in ("random", "he"):
        print(saving.weights_digest(models.initialize(arch, weights, 3, 32)))
"""


def test_starting_weights_have_one_digest_on_every_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for arch, entry in small_networks.ENTRIES.items():
        monkeypatch.setitem(registry.architectures(), arch, entry)
    here = [
        saving.weights_digest(models.initialize(arch, weights, 3, 32))
        for arch in small_networks.ENTRIES
        for weights in ("random", "he")
    ]
    assert len(set(here)) == 4
    assert backends.on_jax(DIGESTS).split() == here


def test_nothing_drawn_leaves_keras_as_it_was() -> None:
    def drawn() -> list[np.ndarray]:
        layer = keras.layers.Dense(4, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
        layer.build((None, 8))
        normalization = keras.layers.BatchNormalization()
        normalization.build((None, 8))
        return [
            np.asarray(weight) for weight in (*layer.get_weights(), *normalization.get_weights())
        ]

    before = drawn()
    assert before[0].any()
    with initializers.nothing_drawn():
        kernel, *others = drawn()
        assert not kernel.any()
        for ours, theirs in zip(others, before[1:], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ZeroDivisionError), initializers.nothing_drawn():
        raise ZeroDivisionError
    for ours, theirs in zip(drawn(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_backend_draws_where_nothing_is_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Keras' own random numbers would be compiled shape by shape on JAX."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a backend has drawn")

    monkeypatch.setitem(registry.architectures(), "vgg16", small_networks.ENTRIES["vgg16"])
    for name in ("uniform", "normal", "truncated_normal"):
        monkeypatch.setattr(keras.src.random, name, refuse)
        monkeypatch.setattr(keras.src.backend.random, name, refuse)
    models.initialize("vgg16", "he", 0, 32)
