"""The two networks: Keras' backbones with the study's top, and what is done with them whole.

The model that is saved takes raw uint8 RGB images and is made of Keras' own layers only, so that
`keras.models.load_model` needs nothing from this package. Training looks at the same layers
through `training_view`, which warps the images first.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from deepnets import files, foreign, initializers, project, runtime, variants
from deepnets.augment import Warp
from deepnets.dropout import Dropout
from deepnets.errors import UserError
from deepnets.params import DRAWN_WEIGHTS, Arch, Precision, RunParams, Variant, Weights

# Images a forward pass outside training takes; the fastest of 32 to 1024 on two cores.
PREDICTION_BATCH = 256

_BACKBONES: dict[Arch, Callable[..., keras.Model]] = {
    "vgg16": keras.applications.VGG16,
    "resnet50": keras.applications.ResNet50,
}


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
    backbone = _BACKBONES[arch](
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
    load_start(plain, path)
    variants.start(classifier, plain, run)
    return classifier


def training_view(classifier: keras.Model) -> keras.Model:
    """The same layers and weights from (images, transforms, keys) to logits float32 (n, 10).

    The images, uint8 (n, size, size, 3), are warped by the transforms, float32 (n, 8); the keys,
    uint32 (n,), are those of dropout.
    """
    images = keras.Input(classifier.input_shape[1:], dtype="uint8", name="images")
    transforms = keras.Input((8,), dtype="float32", name="transforms")
    keys = keras.Input((), dtype="uint32", name="dropout_keys")
    logits = warped_view(classifier)([Warp(name="warp")(images, transforms), keys])
    return keras.Model([images, transforms, keys], logits, name="training_view")


def warped_view(classifier: keras.Model) -> keras.Model:
    """As `training_view` without the warp: from (images, keys) to logits float32 (n, 10).

    Args:
        classifier: takes images float32 (n, size, size, 3) here, pixels from 0 to 255.
    """
    images = keras.Input(classifier.input_shape[1:], dtype="float32", name="warped")
    keys = keras.Input((), dtype="uint32", name="dropout_keys")
    x = classifier.get_layer("scale")(images)
    plain = classifier.get_layer(backbone_name(classifier))
    backbone = _fast(plain)
    # Where operations run on one core each, two halves of a batch keep two cores busy. Only batch
    # normalisation needs a batch whole.
    halved = runtime.one_core_an_operation() and not _normalises_batches(plain)
    parts = [backbone(part) for part in (Halve(name="halve")(x) if halved else [x])]
    x = keras.layers.Concatenate(axis=0, name="whole")(parts) if halved else parts[0]
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
        from deepnets import gpu_layers, small_maps

        return gpu_layers.stand_in if runtime.on_jax_gpu() else small_maps.stand_in
    if not runtime.on_tensorflow_cpu():
        return None
    from deepnets import convolutions, layers, normalization

    def stand_in(layer: keras.Layer) -> keras.Layer | None:
        if convolutions.applies_to(layer):
            return convolutions.AsProducts(layer)
        return normalization.Fused(layer) if layers.normalises_channels(layer) else None

    return stand_in


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
                f"({' '.join(str(error).split())[:120]}): delete it and run the command again"
            ) from None
    return classifier


class _Memory(io.BytesIO):
    """A file in memory that Keras saves to as it would to a path that ends like `name`.

    HDF5 crashes the process some time after it has met a full disk, so it never writes to one.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __str__(self) -> str:
        return self._name


def save_start(classifier: keras.Model, path: Path) -> None:
    """Save the weights of `classifier` for `load_start`; `path` ends with .weights.h5."""
    saved = _Memory(path.name)
    classifier.save_weights(saved)
    files.write_bytes(path, saved.getvalue())


def load_start(classifier: keras.Model, path: Path) -> None:
    """Load starting weights that `save_start` wrote into `classifier`."""
    try:
        foreign.check_weights(path)
        classifier.load_weights(path)
    except Exception as error:  # a parser of damaged bytes may raise anything
        raise UserError(
            f"{path} is not a whole file of {classifier.name} weights "
            f"({' '.join(str(error).split())[:120]}): delete it and run `dvc repro` again"
        ) from None


def load(path: Path) -> keras.Model:
    """Load a saved classifier in Keras' safe mode; no code from the file or named in it is run."""
    try:
        foreign.check_model(path)
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a parser of damaged bytes may raise anything
        raise UserError(
            f"{path} is not a whole Keras model ({' '.join(str(error).split())[:120]}): "
            "run the training again (`dvc repro`)"
        ) from None


def save(classifier: keras.Model, path: Path) -> None:
    """Save the classifier so that the same weights always give the same file.

    Keras stamps its archive with the time of saving and numbers shared objects by their addresses
    in memory; the stamps are taken out again and the numbers counted from 1.
    """
    saved, stable = _Memory(path.name), io.BytesIO()
    classifier.save(saved)
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members["metadata.json"])
    metadata.pop("date_saved", None)
    members["metadata.json"] = json.dumps(metadata).encode()
    members["config.json"] = _count_shared_objects(members["config.json"])
    with zipfile.ZipFile(stable, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    files.write_bytes(path, stable.getvalue())


def _count_shared_objects(config: bytes) -> bytes:
    numbers: dict[bytes, int] = {}
    return re.sub(
        rb'("shared_object_id": )(\d+)',
        lambda found: found[1] + str(numbers.setdefault(found[2], len(numbers) + 1)).encode(),
        config,
    )


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


def weights_digest(model: keras.Model) -> str:
    """sha256 over all weights in the model's order: name, shape and bytes, as hex."""
    digest = hashlib.sha256()
    for variable in model.weights:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{variable.path} {value.dtype} {value.shape}\n".encode())
        digest.update(value.data)
    return digest.hexdigest()


def predict(classifier: keras.Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities float32 (n, 10) of images uint8 (n, size, size, 3), in order.

    All batches have one shape (the last is padded), so that nothing is compiled twice and a
    digit's probabilities do not depend on how many others are asked for.
    """
    if runtime.on_jax_gpu() and len(images):
        from deepnets import jax_steps

        return jax_steps.predict(classifier, images, PREDICTION_BATCH)
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
