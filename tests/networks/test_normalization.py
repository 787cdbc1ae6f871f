"""Fused batch normalisation is that of Keras: outputs, gradients, moving averages."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deepnets.networks import layers, normalization

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="other backends use Keras' own layer"
)


def built(**options: object) -> keras.layers.BatchNormalization:
    layer = keras.layers.BatchNormalization(momentum=0.9, epsilon=1.001e-5, **options)
    layer(keras.Input((3, 2, 6)))
    generator = np.random.default_rng(0)
    layer.set_weights([generator.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize("training", [True, False])
def test_it_computes_what_keras_computes(training: bool) -> None:
    generator = np.random.default_rng(1)
    images = tf.constant(generator.normal(3, 2, (5, 3, 2, 6)), tf.float32)
    weight = tf.constant(generator.normal(size=images.shape), tf.float32)
    results = []
    for fused in (False, True):
        layer = built()
        normalise = normalization.Fused(layer) if fused else layer
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = normalise(images, training=training)
            total = tf.reduce_sum(weight * outputs)
        wanted = [images, layer.gamma.value, layer.beta.value]
        results.append([outputs, *tape.gradient(total, wanted), *layer.get_weights()])
    for plain, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)
    changed = not np.allclose(built().moving_variance, results[1][-1])
    assert changed == training


def test_a_frozen_layer_keeps_its_averages() -> None:
    layer = built()
    layer.trainable = False
    before = layer.get_weights()
    normalization.Fused(layer)(tf.ones((5, 3, 2, 6)), training=True)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_only_layers_that_it_computes_are_replaced() -> None:
    assert layers.normalises_channels(built())
    for options in ({"axis": 1}, {"scale": False}, {"center": False}, {"renorm": True}):
        assert not layers.normalises_channels(built(**options)), options
    relu = keras.layers.ReLU()
    relu(keras.Input((3, 2, 6)))
    assert not layers.normalises_channels(relu)
