"""Networks in the place of VGG-16, of its kinds of layers, that train in next to no time."""

from dataclasses import replace
from typing import Any

import keras

from deepnets.config import registry


def backbone(*, input_tensor: Any, name: str, **_: Any) -> keras.Model:
    """A convolution a block."""
    x = input_tensor
    for block in (1, 2, 3, 4, 5):
        options = {"padding": "same", "activation": "relu", "name": f"block{block}_conv1"}
        x = keras.layers.Conv2D(16, 3, **options)(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return keras.Model(input_tensor, keras.layers.GlobalAveragePooling2D()(x), name=name)


def shallow_backbone(*, input_tensor: Any, name: str, **_: Any) -> keras.Model:
    """A single convolution: compiled in a moment."""
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="conv")(input_tensor)
    return keras.Model(input_tensor, keras.layers.GlobalAveragePooling2D()(x), name=name)


def normalized_backbone(*, input_tensor: Any, name: str, **_: Any) -> keras.Model:
    """Two convolutions, each with batch normalisation, and a pool between: compiled soon."""
    x = input_tensor
    for block in (1, 2):
        x = keras.layers.Conv2D(8, 3, padding="same", name=f"block{block}_conv1")(x)
        x = keras.layers.BatchNormalization(name=f"block{block}_bn")(x)
        x = keras.layers.ReLU(name=f"block{block}_relu")(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return keras.Model(input_tensor, keras.layers.GlobalAveragePooling2D()(x), name=name)


def deep_backbone(*, input_tensor: Any, name: str, **_: Any) -> keras.Model:
    """All thirteen convolutions: as deep as VGG-16, it stays at chance and diverges as it does."""
    x = input_tensor
    for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
        for number in range(1, convolutions + 1):
            options = {"padding": "same", "activation": "relu"}
            x = keras.layers.Conv2D(16, 3, **options, name=f"block{block}_conv{number}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return keras.Model(input_tensor, keras.layers.GlobalAveragePooling2D()(x), name=name)


NETWORK = replace(registry.architectures()["vgg16"], build=backbone)
SHALLOW_NETWORK = replace(NETWORK, build=shallow_backbone)
NORMALIZED_NETWORK = replace(NETWORK, build=normalized_backbone)
DEEP_NETWORK = replace(registry.architectures()["vgg16"], build=deep_backbone)
