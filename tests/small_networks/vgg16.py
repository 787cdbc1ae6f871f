"""VGG-16 with an eighth of its filters in blocks of one convolution."""

from typing import Any

from deepnets.config.registry import Architecture, PublishedWeights


def build(*, input_tensor: Any, name: str, **_: Any) -> Any:
    import keras

    x = input_tensor
    for block, filters in enumerate((8, 16, 32, 64, 256), start=1):
        x = keras.layers.Conv2D(
            filters, 3, activation="relu", padding="same", name=f"block{block}_conv1"
        )(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return keras.Model(input_tensor, keras.layers.GlobalAveragePooling2D()(x), name=name)


ARCHITECTURE = Architecture(
    title="VGG-16",
    build=build,
    input_range="symmetric",
    imagenet=PublishedWeights(url="nowhere.h5", md5=32 * "0"),
    variants=frozenset({"batch_norm", "highway"}),
)
