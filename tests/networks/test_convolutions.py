"""What computes convolutions in their place are those of Keras, gradients included."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deepnets.config.fields import Arch
from deepnets.networks import convolutions, models, runtime, winograd
from deepnets.training import steps

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="other backends use Keras' own convolutions"
)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "kernel", "stride"),
    [
        *(((height, width), 3, 1) for height, width in [(1, 1), (2, 2), (1, 2), (2, 1), (4, 3)]),
        *(((4, 4), 1, stride) for stride in (1, 2, 4)),
        ((1, 1), 1, 1),
        ((6, 4), 1, 2),
    ],
)
def test_outputs_and_gradients_are_those_of_keras(
    shape: tuple[int, int], kernel: int, stride: int, use_bias: bool, activation: str | None
) -> None:
    layer = _convolution(shape, kernel, stride, use_bias, activation)
    assert convolutions.can_be_products(layer)
    _assert_alike(layer, convolutions.AsProducts(layer))


@pytest.mark.parametrize("one_core", [True, False])
@pytest.mark.parametrize("channels", [127, 128, 129, 130])
def test_long_sums_are_those_of_keras(
    channels: int, one_core: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where operations have one core each, those of an even number of channels are two."""
    monkeypatch.setattr(runtime, "one_core_an_operation", lambda: one_core)
    layer = _convolution((2, 2), 1, 1, True, "relu", channels)
    fast = convolutions.AsProducts(layer)
    _assert_alike(layer, fast)
    images = tf.zeros((7, *layer.input.shape[1:]))
    products = [
        op.type for op in tf.function(fast).get_concrete_function(images).graph.get_operations()
    ]
    assert products.count("MatMul") == (2 if one_core and channels in (128, 130) else 1)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 2), (2, 6), (8, 4)])
def test_winograds_outputs_and_gradients_are_those_of_keras(
    shape: tuple[int, int], use_bias: bool, activation: str | None
) -> None:
    layer = _convolution(shape, 3, 1, use_bias, activation)
    assert winograd.can_be_filtered(layer)
    _assert_alike(layer, winograd.Winograd(layer))


def _convolution(
    shape: tuple[int, int],
    kernel: int,
    stride: int,
    use_bias: bool,
    activation: str | None,
    channels: int = 4,
) -> keras.layers.Conv2D:
    keras.utils.set_random_seed(3)
    layer = keras.layers.Conv2D(
        *(5, kernel, stride),
        padding="same",
        use_bias=use_bias,
        activation=activation,
        bias_initializer="normal",
    )
    layer(keras.Input((*shape, channels)))
    return layer


def _assert_alike(layer: keras.layers.Conv2D, fast: keras.Layer) -> None:
    images = tf.constant(
        np.random.default_rng(0).normal(size=(7, *layer.input.shape[1:])), tf.float32
    )
    weight = tf.constant(
        np.random.default_rng(1).normal(size=(7, *layer.output.shape[1:])), tf.float32
    )
    results = []
    for convolve in (layer, fast):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = convolve(images)
            total = tf.reduce_sum(weight * outputs)
        variables = [v.value for v in layer.trainable_variables]
        results.append([outputs, *tape.gradient(total, [images, *variables])])
    for plain, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(5, 3, padding="valid"),
        keras.layers.Conv2D(5, 3, padding="same", strides=2),
        keras.layers.Conv2D(4, 3, padding="same", groups=2),
        keras.layers.Conv2D(5, 3, padding="same", dilation_rate=2),
        keras.layers.Conv2D(5, 5, padding="same"),
        keras.layers.Conv2D(5, 1, strides=3),
        keras.layers.ReLU(),
    ],
)
def test_other_layers_are_left_alone(layer: keras.Layer) -> None:
    layer(keras.Input((4, 4, 4)))
    assert not convolutions.can_be_products(layer)
    assert not convolutions.applies_to(layer)
    assert not winograd.can_be_filtered(layer)
    assert not winograd.applies_to(layer)


def test_winograd_needs_whole_tiles() -> None:
    assert not winograd.can_be_filtered(_convolution((4, 3), 3, 1, use_bias=True, activation=None))


@pytest.mark.parametrize(
    ("arch", "size", "products", "filtered"),
    # VGG-16: products on 2x2 maps, Winograd's on those of the three blocks before. ResNet50:
    # 3x3 of the last two stages, 1x1 of the last three; at 64x64 pixels products of the last stage
    # and 1x1 of the last two, Winograd's on the two before it.
    [
        ("vgg16", 32, 3, 8),
        ("vgg16", 64, 0, 11),
        ("resnet50", 32, 9 + 29, 0),
        ("resnet50", 64, 3 + 20, 10),
    ],
)
def test_the_networks_have_so_many_of_them(
    arch: Arch, size: int, products: int, filtered: int
) -> None:
    view = steps.training_view(models.build(arch, size, dropout=0.5))
    of_kind = {
        kind: {
            layer.name
            for model in view.get_layer("warped_view").layers
            for layer in getattr(model, "layers", [])
            if isinstance(layer, kind)
        }
        for kind in (convolutions.AsProducts, winograd.Winograd)
    }
    assert [len(names) for names in of_kind.values()] == [products, filtered]
