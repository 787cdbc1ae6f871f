"""Convolutions on the smallest maps are those of Keras, gradients included."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from deepnets import convolutions, data, models, params
from deepnets.params import Arch
from deepnets.results import Rows
from deepnets.stages import train
from project import ROOT

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="other backends use Keras' own convolutions"
)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 2), (2, 1)])
def test_outputs_and_gradients_are_those_of_keras(
    shape: tuple[int, int], use_bias: bool, activation: str | None
) -> None:
    keras.utils.set_random_seed(3)
    layer = keras.layers.Conv2D(
        5, 3, padding="same", use_bias=use_bias, activation=activation, bias_initializer="normal"
    )
    layer(keras.Input((*shape, 4)))
    assert convolutions.applies_to(layer)
    fast = convolutions.SmallMap(layer)
    images = tf.constant(np.random.default_rng(0).normal(size=(7, *shape, 4)), tf.float32)
    weight = tf.constant(np.random.default_rng(1).normal(size=(7, *shape, 5)), tf.float32)
    found = []
    for convolve in (layer, fast):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = convolve(images)
            total = tf.reduce_sum(weight * outputs)
        variables = [v.value for v in layer.trainable_variables]
        found.append([outputs, *tape.gradient(total, [images, *variables])])
    for plain, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(5, 1, padding="same"),
        keras.layers.Conv2D(5, 3, padding="valid"),
        keras.layers.Conv2D(5, 3, padding="same", strides=2),
        keras.layers.Conv2D(4, 3, padding="same", groups=2),
        keras.layers.Conv2D(5, 3, padding="same", dilation_rate=2),
        keras.layers.ReLU(),
    ],
)
def test_other_layers_are_left_alone(layer: keras.Layer) -> None:
    layer(keras.Input((4 if getattr(layer, "padding", "") == "valid" else 2, 4, 4)))
    assert not convolutions.applies_to(layer)


@pytest.mark.parametrize(
    ("arch", "size", "count"),
    [("vgg16", 32, 3), ("vgg16", 64, 0), ("resnet50", 32, 9), ("resnet50", 64, 3)],
)
def test_the_networks_have_so_many_of_them(arch: Arch, size: int, count: int) -> None:
    view = models.training_view(models.build(arch, size, dropout=0.5))
    small = [
        layer
        for model in view.layers
        for layer in getattr(model, "layers", [])
        if isinstance(layer, convolutions.SmallMap)
    ]
    assert len(small) == count


@pytest.mark.parametrize("arch", ["vgg16", "resnet50"])
def test_training_steps_differ_by_rounding_only(
    arch: Arch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    split = data.Split(digits, np.arange(16, dtype=np.uint8) % 10)
    run = params.load(ROOT / "params.yaml").run_params(f"{arch}-sgd-random", 0)
    run = run.model_copy(update={"epochs": 1, "batch_size": 4})

    def save(rows: Rows, variables: list[Any]) -> None:
        pass

    start = models.initialize(arch, "he", 0, 32).get_weights()
    trained = []
    for fast in (False, True):
        if not fast:
            monkeypatch.setattr(convolutions, "applies_to", lambda layer: False)
        classifier = models.build(arch, 32, run.dropout)
        classifier.set_weights(start)
        train.fit(classifier, run, split, split, tmp_path / str(fast), save)
        trained.append(classifier.get_weights())
        monkeypatch.undo()
    plain, fast_ones = (np.concatenate([w.ravel() for w in of]) for of in trained)
    moved = np.linalg.norm(plain - np.concatenate([w.ravel() for w in start]))
    assert moved > 0.01
    assert np.linalg.norm(plain - fast_ones) < 1e-4 * moved
