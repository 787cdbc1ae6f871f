"""The networks: backbones (architectures/) with the study's top, and what is done with them.

The model that is saved takes raw uint8 RGB images and is made of Keras' own layers only, so that
`keras.models.load_model` needs nothing from this package. Training looks at the same layers
through `training_view`, which warps the images first.
"""

from pathlib import Path
from typing import Any

import keras

from deepnets.base import project
from deepnets.base.errors import UserError, one_line
from deepnets.config import registry
from deepnets.config.fields import DRAWN_WEIGHTS, Arch, Variant, Weights
from deepnets.config.sections import RunParams
from deepnets.networks import initializers, saving, variants


def build(
    arch: Arch,
    image_size: int,
    dropout: float,
    batch_norm_momentum: float = 0.99,
    variant: Variant | None = None,
) -> keras.Model:
    """The classifier: uint8 (n, size, size, 3) -> probabilities float32 (n, 10).

    Scaling, backbone without its top, global average pooling, dropout, dense, softmax. The
    momentum of batch normalisation's moving statistics is Keras' own by default, and the network
    the study's.
    """
    variant = variant or Variant()
    shape = (image_size, image_size, 3)
    # Keras would number the name of an input that it makes itself, differently in each build.
    pixels = keras.Input(shape, name="pixels")
    backbone = registry.architectures()[arch].build(
        include_top=False, weights=None, input_tensor=pixels, pooling="avg", name=arch
    )
    # VGG16 leaves this name to Keras as well.
    backbone.layers[-1].name = "avg_pool"
    backbone = variants.rebuild(backbone, variant)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = batch_norm_momentum
    images = keras.Input(shape, dtype="uint8", name="images")
    x = keras.layers.Rescaling(**variants.rescaling(arch, variant), name="scale")(images)
    x = backbone(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Dense(project.CLASSES, name="logits")(x)
    probabilities = keras.layers.Softmax(name="probabilities")(x)
    return keras.Model(images, probabilities, name=f"{arch}_classifier")


def start(run: RunParams, image_size: int, path: Path) -> keras.Model:
    """The classifier of `run` with its starting weights.

    Args:
        run: resolved parameters.
        image_size: side of the images in pixels.
        path: what `save_start` wrote of the network and weights that the run names.
    """
    own = variants.has_own_layers(run)
    with initializers.nothing_drawn():
        classifier = build(run.arch, image_size, run.dropout, run.batch_norm_momentum, run)
        plain = build(run.arch, image_size, run.dropout) if own else classifier
    saving.load_start(plain, path)
    variants.start(classifier, plain, run)
    return classifier


def restart(classifier: keras.Model, run: RunParams, image_size: int, path: Path) -> None:
    """Give `classifier`, which `start` has made of the run with another seed, what it starts from.

    Args:
        classifier: trained or not.
        run: resolved parameters.
        image_size: side of the images in pixels.
        path: see `start`.
    """
    if variants.has_own_layers(run):
        fresh = start(run, image_size, path)
        for variable, value in zip(classifier.weights, fresh.weights, strict=True):
            variable.assign(value.value)
    else:
        saving.load_start(classifier, path)
        variants.start(classifier, classifier, run)


def backbone_name(classifier: keras.Model) -> str:
    """Name of the backbone's layer, which is its arch."""
    return str(classifier.name).removesuffix("_classifier")


def initialize(
    arch: Arch, weights: Weights, seed: int, image_size: int, weights_file: Path | None = None
) -> keras.Model:
    """A classifier with its starting weights.

    `random` is the distribution that Keras draws from by default (Glorot uniform). `he` draws every
    convolution from He et al. 2015 (normal, fan-in). All others load the backbone from
    `weights_file`: the no-top weights that keras.applications publishes, or a file in their layout.
    """
    with initializers.nothing_drawn():
        classifier = build(arch, image_size, dropout=0.0)
    backbone = classifier.get_layer(arch)
    for layer in [*backbone.layers, classifier.get_layer("logits")]:
        if hasattr(layer, "kernel"):
            convolution = isinstance(layer, keras.layers.Conv2D)
            drawn = initializers.CONVOLUTIONS.get(weights) if convolution else None
            kernel = initializers.draw(
                drawn or "glorot_uniform", tuple(layer.kernel.shape), seed, layer.name
            )
            layer.kernel.assign(kernel)
    if weights not in DRAWN_WEIGHTS:
        if weights_file is None:
            raise ValueError(f"{weights} weights need weights_file")
        try:
            backbone.load_weights(weights_file)
        except Exception as error:  # a parser of damaged bytes may raise anything
            raise UserError(
                f"{weights_file} does not hold the no-top weights of {arch} "
                f"({one_line(error, 120)}): delete it and run the command again"
            ) from None
    return classifier


def layers(classifier: keras.Model) -> list[dict[str, Any]]:
    """What `classifier` is made of, as diagrams.py draws it: inputs first, the backbone unpacked.

    A layer has a `name`, a `kind` (its Keras class), its `output_shape` without the batch,
    `parameters` (trainable or not) and `inputs`, the names of the layers before it; inputs of a
    model are no layers.
    """
    listed: list[dict[str, Any]] = []
    ends: dict[int, list[str]] = {}  # id of a layer or model -> names of the layers it ends with

    def unpack(model: keras.Model, before: list[str]) -> list[str]:
        for layer in model.layers:
            # A layer may be part of other models as well; its first call made this one.
            tensors = layer._inbound_nodes[0].input_tensors
            inputs = [name for t in tensors for name in ends[id(t._keras_history.operation)]]
            if isinstance(layer, keras.layers.InputLayer):
                ends[id(layer)] = before
            elif isinstance(layer, keras.Model):
                ends[id(layer)] = unpack(layer, inputs)
            else:
                ends[id(layer)] = [layer.name]
                listed.append(
                    {
                        "name": layer.name,
                        "kind": type(layer).__name__,
                        "output_shape": [int(size) for size in layer.output.shape[1:]],
                        "parameters": int(layer.count_params()),
                        "inputs": inputs,
                    }
                )
        return [name for t in model.outputs for name in ends[id(t._keras_history.operation)]]

    unpack(classifier, [])
    return listed
