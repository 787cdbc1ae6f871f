"""Where a batch goes through a network in halves, and from which layer on as a whole."""

from typing import Any

import keras
import numpy as np
import pytest

from deepnets.config.fields import Variant
from deepnets.networks import models, runtime, views

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="other backends take batches whole"
)


@pytest.fixture(autouse=True)
def one_core_an_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "one_core_an_operation", lambda: True)


@pytest.mark.parametrize("highway", [False, True])
@pytest.mark.parametrize(
    ("size", "first_whole"), [(32, "block4_conv1"), (64, "block5_conv1"), (150, "avg_pool")]
)
def test_vgg16_is_whole_from_maps_of_4x4_on(size: int, first_whole: str, highway: bool) -> None:
    view = views.warped_view(
        models.build("vgg16", size, dropout=0.5, variant=Variant(highway=highway))
    )
    own = [layer.name for layer in view.get_layer("small_maps").layers]
    assert own[1].startswith(first_whole)  # after the input
    wide = [layer.name for layer in view.get_layer("wide_maps").layers]
    assert not {name for name in own[1:] if name in wide}


def test_without_small_maps_all_of_it_is_in_halves() -> None:
    view = views.warped_view(models.build("vgg16", 224, dropout=0.5))
    assert {layer.name for layer in view.layers} >= {"halve", "vgg16", "whole"}
    assert "small_maps" not in {layer.name for layer in view.layers}


def test_batch_normalisation_needs_a_batch_whole() -> None:
    view = views.warped_view(models.build("vgg16", 32, 0.5, variant=Variant(batch_norm=True)))
    assert "halve" not in {layer.name for layer in view.layers}


def test_no_connection_is_cut() -> None:
    """Maps are small after the pooling already, but a shortcut goes round it."""
    images = keras.Input((8, 8, 3), name="pixels")
    wide = keras.layers.Conv2D(4, 3, padding="same", name="wide")(images)
    pooled = keras.layers.MaxPooling2D(name="pooled")(wide)
    around = keras.layers.AveragePooling2D(2, name="around")(wide)
    joined = keras.layers.Add(name="joined")([pooled, around])
    last = keras.layers.Conv2D(5, 3, padding="same", name="last")(joined)
    features = keras.layers.GlobalAveragePooling2D(name="avg_pool")(last)
    classifier = _classifier(keras.Model(images, features, name="shortcut"))

    view = views.warped_view(classifier)
    small = view.get_layer("small_maps").layers
    assert [layer.name.removesuffix("_winograd") for layer in small[1:]] == ["last", "avg_pool"]
    _assert_same_logits(view, classifier)


def test_a_model_within_the_network_is_no_place_to_cut() -> None:
    """Keras does not say there which tensors of the network around it are its own."""
    images = keras.Input((8, 8, 3), name="pixels")
    inner = keras.Input((4, 4, 4))
    twice = keras.layers.Conv2D(4, 3, padding="same", name="twice")
    block = keras.Model(inner, twice(twice(inner)), name="block")
    x = keras.layers.MaxPooling2D(name="pooled")(
        keras.layers.Conv2D(4, 3, padding="same", name="wide")(images)
    )
    x = keras.layers.Conv2D(5, 3, padding="same", name="last")(block(x))
    features = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    classifier = _classifier(keras.Model(images, features, name="nested"))

    _assert_same_logits(views.warped_view(classifier), classifier)


def _classifier(backbone: keras.Model) -> keras.Model:
    images = keras.Input(backbone.input_shape[1:], dtype="uint8", name="images")
    x: Any = keras.layers.Rescaling(1 / 255, name="scale")(images)
    x = keras.layers.Dropout(0.5, name="dropout")(backbone(x))
    x = keras.layers.Dense(10, name="logits")(x)
    probabilities = keras.layers.Softmax(name="probabilities")(x)
    return keras.Model(images, probabilities, name=f"{backbone.name}_classifier")


def _assert_same_logits(view: keras.Model, classifier: keras.Model) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    logits = keras.Model(classifier.inputs[0], classifier.get_layer("logits").output)
    outputs = view([images.astype(np.float32), np.zeros(5, np.uint32)], training=False)
    np.testing.assert_allclose(outputs, logits(images), rtol=1e-4, atol=1e-5)
