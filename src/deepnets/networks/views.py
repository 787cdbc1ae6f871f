"""The layers of a classifier by the ways that are fastest here, to train and to score.

A view has the classifier's own layers and weights; what is saved stays made of Keras' layers only.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from deepnets.base import project
from deepnets.config.fields import Precision
from deepnets.networks import runtime
from deepnets.networks.dropout import Dropout
from deepnets.networks.models import backbone_name

# Images a forward pass outside training takes; the fastest of 32 to 1024 on two cores.
PREDICTION_BATCH = 256

# A batch goes through layers whole where a map has at most so many pixels a side. Of 2, 4 and 8 the
# fastest on two cores of an AMD EPYC.
_SMALL_MAP = 4


def warped_view(classifier: keras.Model) -> keras.Model:
    """As `training_view` without the warp: from (images, keys) to logits float32 (n, 10).

    Args:
        classifier: takes images float32 (n, size, size, 3) here, pixels from 0 to 255.
    """
    images = keras.Input(classifier.input_shape[1:], dtype="float32", name="warped")
    keys = keras.Input((), dtype="uint32", name="dropout_keys")
    x = classifier.get_layer("scale")(images)
    backbone = classifier.get_layer(backbone_name(classifier))
    # Where operations run on one core each, two halves of a batch keep two cores busy. Only batch
    # normalisation needs a batch whole.
    if runtime.one_core_an_operation() and not _normalises_batches(backbone):
        wide, small = _parted(backbone)
        halves = map(_fast(wide), Halve(name="halve")(x))
        x = keras.layers.Concatenate(axis=0, name="whole")(list(halves))
        x = _fast(small)(x) if small else x
    else:
        x = _fast(backbone)(x)
    dropout = classifier.get_layer("dropout")
    x = Dropout(dropout.rate, dtype=dropout.dtype_policy, name="counted_dropout")(x, keys)
    x = classifier.get_layer("logits")(x)
    x = keras.layers.Activation("linear", dtype="float32", name="float32_logits")(x)
    return keras.Model([images, keys], x, name="warped_view")


@contextmanager
def computing_in(classifier: keras.Model, precision: Precision) -> Iterator[None]:
    """Have views that are made and used in the block compute in `precision`; weights stay float32.

    Scaling and probabilities stay float32, and so does what is saved after the block.
    """
    layers = [*classifier.get_layer(backbone_name(classifier)).layers]
    layers += [classifier.get_layer(name) for name in ("dropout", "logits")]
    for layer in layers:
        layer.dtype_policy = precision.removeprefix("exact_")
    try:
        with runtime.products_in(precision):
            yield
    finally:
        for layer in layers:
            layer.dtype_policy = "float32"


class Halve(keras.layers.Layer):  # type: ignore[misc]
    """A batch in two parts of the same size, the second an image larger if need be."""

    def call(self, images: Any) -> list[Any]:
        middle = keras.ops.shape(images)[0] // 2
        return [images[:middle], images[middle:]]


def _normalises_batches(backbone: keras.Model) -> bool:
    return any(isinstance(layer, keras.layers.BatchNormalization) for layer in backbone.layers)


def _parted(backbone: keras.Model) -> tuple[keras.Model, keras.Model | None]:
    """The layers of `backbone` up to where its maps are small, and the others, if there are any.

    There kernels are larger than maps, so that half a batch takes more than half as long as a whole
    one; and what stands in for a convolution has several products to share out between cores.
    """
    layers = backbone.layers
    made = [keras.tree.flatten(layer.output) for layer in layers]
    made_by = {id(tensor): number for number, own in enumerate(made) for tensor in own}

    def is_seam(number: int) -> bool:
        small = [max(tensor.shape[1:-1], default=1) <= _SMALL_MAP for tensor in made[number]]
        read = keras.tree.flatten([layer.input for layer in layers[number + 1 :]])
        # What a model within the model makes, or a second call of a layer, is made by none here.
        return small == [True] and all(made_by.get(id(tensor), -1) >= number for tensor in read)

    seam = next((layers[number] for number in range(len(layers) - 1) if is_seam(number)), None)
    if seam is None:
        return backbone, None
    wide = keras.Model(backbone.inputs[0], seam.output, name="wide_maps")
    return wide, keras.Model(seam.output, backbone.outputs[0], name="small_maps")


def scoring_view(classifier: keras.Model) -> keras.Model:
    """The same layers and weights as in `classifier`, by the way that is fastest for `predict`.

    On TensorFlow that is the classifier itself, so that whoever loads the saved model gets the
    evaluated numbers to the last digit.
    """
    if keras.backend.backend() != "jax":
        return classifier
    images = keras.Input(classifier.input_shape[1:], dtype="uint8", name="images")
    x = classifier.get_layer("scale")(images)
    x = _fast(classifier.get_layer(backbone_name(classifier)))(x)
    for name in ("dropout", "logits", "probabilities"):
        x = classifier.get_layer(name)(x)
    return keras.Model(images, x, name="scoring_view")


def _fast(backbone: keras.Model) -> keras.Model:
    """`backbone` with the same layers, some computed in a way that is faster here."""
    stand_in = _stand_in()
    if stand_in is None or any(layer.compute_dtype != "float32" for layer in backbone.layers):
        return backbone

    def call(layer: keras.Layer, *arguments: Any, **options: Any) -> Any:
        faster = stand_in(layer)
        return layer(*arguments, **options) if faster is None else faster(*arguments)

    return keras.models.clone_model(
        backbone, clone_function=lambda layer: layer, call_function=call
    )


def _stand_in() -> Callable[[keras.Layer], keras.Layer | None] | None:
    """What gives for a layer that which computes it faster on this backend, None for itself."""
    if keras.backend.backend() == "jax":
        from deepnets.networks import gpu_layers, small_maps

        return gpu_layers.stand_in if runtime.on_jax_gpu() else small_maps.stand_in
    if not runtime.on_tensorflow_cpu():
        return None
    from deepnets.networks import convolutions, layers, normalization, winograd

    def stand_in(layer: keras.Layer) -> keras.Layer | None:
        if winograd.applies_to(layer):
            return winograd.Winograd(layer)
        if convolutions.applies_to(layer):
            return convolutions.AsProducts(layer)
        return normalization.Fused(layer) if layers.normalises_channels(layer) else None

    return stand_in


def predict(classifier: keras.Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities float32 (n, 10) of images uint8 (n, size, size, 3), in order.

    All batches have one shape (the last is padded), so that nothing is compiled twice and a
    digit's probabilities do not depend on how many others are asked for.
    """
    if runtime.on_jax_gpu() and len(images):
        from deepnets.networks import on_device

        return on_device.predict(classifier, images, PREDICTION_BATCH)
    starts = range(0, len(images), PREDICTION_BATCH)
    with ThreadPoolExecutor(runtime.prediction_threads()) as pool:
        parts = list(pool.map(lambda start: _predict_batch(classifier, images, start), starts))
    empty = np.empty((0, project.CLASSES), np.float32)
    return np.concatenate([empty, *parts])


def _predict_batch(
    classifier: keras.Model, images: NDArray[np.uint8], start: int
) -> NDArray[np.float32]:
    """Probabilities of the images from `start` on, PREDICTION_BATCH of them or what there is."""
    batch = images[start : start + PREDICTION_BATCH]
    count = len(batch)
    if count < PREDICTION_BATCH:
        padding = np.zeros((PREDICTION_BATCH - count, *batch.shape[1:]), np.uint8)
        batch = np.concatenate([batch, padding])
    return np.asarray(classifier.predict_on_batch(batch)[:count])
