"""The networks with something built otherwise, and the weights that such a network starts from.

Keras' own networks are taken apart and put together again, layer by layer. A variant starts from
the weights of the plain network, so that with one seed all variants share what they have in common;
what is its own is drawn from that seed as well.

Highway connections are those of Srivastava et al. 2015 ("Training Very Deep Networks", equation 3
and section 2.1): y = T(x) H(x) + (1 - T(x)) x, where H is the layer with its ReLU and T, the
transform gate, a layer of the same kernel with a sigmoid, whose bias starts negative, so that x is
carried through at first. Only a layer that has as many channels before it as after it can have one:
in VGG-16 nine of thirteen.
"""

from typing import Any

import keras
import numpy as np

from deepnets.config import registry
from deepnets.config.fields import Arch, Variant
from deepnets.config.registry import PixelRange
from deepnets.config.sections import RunParams
from deepnets.networks import initializers

# Srivastava et al. 2015, section 2.2, suggest -1 to -3, the lower the deeper the network; T is 0.12
# at first.
GATE_BIAS = -2.0

# Of pixels 0 to 255. The mean and deviation of MNIST's 60,000 training images are those that
# PyTorch's MNIST example normalises by.
_RESCALING: dict[PixelRange, dict[str, float]] = {
    "unit": {"scale": 1 / 255, "offset": 0.0},
    "symmetric": {"scale": 1 / 127.5, "offset": -1.0},
    "standardized": {"scale": 1 / 255 / 0.3081, "offset": -0.1307 / 0.3081},
}

_SMALL_STEM = "conv1_conv"
_NO_POOLING = frozenset({"conv1_pad", "pool1_pad", "pool1_pool"})
# What the names of the last stage's layers begin with.
_LAST_STAGE = "conv5_"


def rescaling(arch: Arch, variant: Variant) -> dict[str, float]:
    """What pixels are multiplied by (`scale`), and what is added then (`offset`)."""
    chosen = variant.input_range
    if chosen == "study":
        chosen = registry.architectures()[arch].input_range
    return _RESCALING[chosen]


def has_own_layers(variant: Variant) -> bool:
    """Whether the networks of `variant` have other layers than the plain ones."""
    return (
        variant.input_channels != 3
        or variant.upsampling != 1
        or variant.stem != "standard"
        or variant.stages != 4
        or variant.batch_norm
        or variant.highway
    )


def rebuild(backbone: keras.Model, variant: Variant) -> keras.Model:
    """`backbone` with other layers, where `variant` has others: float32 (n, size, size, 3) still.

    Layers keep their names. What is new is called like the layer that it belongs to, and _bn,
    _relu, _gate, _change, _share or _highway; what is done to the image has names of its own.
    """
    if not has_own_layers(variant):
        return backbone
    first = _first(backbone)

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if variant.stem == "small" and layer.name == _SMALL_STEM:
            config |= {"kernel_size": (3, 3), "strides": (1, 1), "padding": "same"}
        if variant.batch_norm and isinstance(layer, keras.layers.Conv2D):
            config |= {"activation": "linear"}
        return type(layer).from_config(config)

    def call(layer: keras.Layer, x: Any, **options: Any) -> Any:
        if layer.name == first:
            x = _image(x, variant)
        if variant.stem == "small" and layer.name in _NO_POOLING:
            return x
        if variant.stages == 3 and layer.name.startswith(_LAST_STAGE):
            return x[0] if isinstance(x, list) else x
        y = layer(x, **options)
        if isinstance(layer, keras.layers.Conv2D):
            if variant.batch_norm:
                y = keras.layers.BatchNormalization(name=f"{layer.name}_bn")(y)
                y = keras.layers.Activation("relu", name=f"{layer.name}_relu")(y)
            if variant.highway and x.shape == y.shape:
                y = _highway(layer, x, y)
        return y

    return keras.models.clone_model(backbone, clone_function=clone, call_function=call)


def start(classifier: keras.Model, plain: keras.Model, run: RunParams) -> None:
    """Give `classifier` the starting weights of `run`.

    A layer that both networks have starts as in the plain one. One input channel gets the sum of
    the kernels of three, which computes the same of the one as those of the three tiled ones. A
    small stem, the gates, and the last layer where it has other inputs are drawn from the run's
    seed: the stem as the run's `weights` say, the others as Keras draws by default (Glorot
    uniform), which is how the last layer of a plain network is drawn.

    Args:
        classifier: from `models.build` for `run`.
        plain: with starting weights; the network without its variant, `classifier` itself where
            the variant has no layers of its own.
        run: resolved parameters.
    """
    if plain is not classifier:
        _take_over(classifier, plain, run)
    for layer in classifier.get_layer(run.arch).layers:
        if run.zero_gamma and layer.name.endswith("_3_bn"):
            layer.gamma.assign(np.zeros(layer.gamma.shape, np.float32))


def _take_over(classifier: keras.Model, plain: keras.Model, run: RunParams) -> None:
    for own, theirs in _shared_layers(classifier, plain):
        values = theirs.get_weights()
        if isinstance(own, keras.layers.Dense) and own.kernel.shape != values[0].shape:
            shape = tuple(own.kernel.shape)
            values[0] = initializers.draw("glorot_uniform", shape, run.seed, own.name)
        if not isinstance(own, keras.layers.Conv2D):
            own.set_weights(values)
            continue
        kernel, *bias = values
        if own.kernel.shape[:2] != kernel.shape[:2]:
            channels, filters = kernel.shape[2:]
            shape = (*own.kernel.shape[:2], channels, filters)
            drawn = initializers.CONVOLUTIONS[run.weights]
            kernel = initializers.draw(drawn, shape, run.seed, own.name)
        if own.kernel.shape[2] != kernel.shape[2]:
            kernel = kernel.sum(axis=2, keepdims=True)
        own.set_weights([kernel, *bias])
    for layer in classifier.get_layer(run.arch).layers:
        if layer.name.endswith("_gate"):
            shape = layer.kernel.shape
            layer.kernel.assign(initializers.draw("glorot_uniform", shape, run.seed, layer.name))


def _first(backbone: keras.Model) -> str:
    return str(next(x for x in backbone.layers if not isinstance(x, keras.layers.InputLayer)).name)


def _image(images: Any, variant: Variant) -> Any:
    """What the first layer sees of `images`, float32 (n, size, size, 3)."""
    x = _one_channel(images) if variant.input_channels == 1 else images
    if variant.upsampling != 1:
        size = variant.upsampling
        x = keras.layers.UpSampling2D(size, interpolation="bilinear", name="upsampling")(x)
    return x


def _one_channel(images: Any) -> Any:
    """The first of the three channels, float32 (n, size, size, 1).

    By layers that every Keras can load; it has none that takes a slice of the last axis.
    """
    size = images.shape[1]
    x = keras.layers.Reshape((size, size, 3, 1), name="channels")(images)
    x = keras.layers.Cropping3D(((0, 0), (0, 0), (0, 2)), name="first_channel")(x)
    return keras.layers.Reshape((size, size, 1), name="grey")(x)


def _highway(layer: keras.layers.Conv2D, x: Any, y: Any) -> Any:
    """T y + (1 - T) x, as x + T (y - x)."""
    gate = keras.layers.Conv2D(
        layer.filters,
        layer.kernel_size,
        padding="same",
        activation="sigmoid",
        bias_initializer=keras.initializers.Constant(GATE_BIAS),
        name=f"{layer.name}_gate",
    )
    change = keras.layers.Subtract(name=f"{layer.name}_change")([y, x])
    share = keras.layers.Multiply(name=f"{layer.name}_share")([gate(x), change])
    return keras.layers.Add(name=f"{layer.name}_highway")([x, share])


def _shared_layers(
    classifier: keras.Model, plain: keras.Model
) -> list[tuple[keras.Layer, keras.Layer]]:
    """Layers of both networks that have one name, and weights."""
    plain_layers = {layer.name: layer for layer in _flat(plain)}
    return [
        (layer, plain_layers[layer.name])
        for layer in _flat(classifier)
        if layer.weights and layer.name in plain_layers
    ]


def _flat(classifier: keras.Model) -> list[keras.Layer]:
    """The layers of a classifier, those of its backbone in the backbone's place."""
    return [
        inner
        for layer in classifier.layers
        for inner in (layer.layers if isinstance(layer, keras.Model) else [layer])
    ]
