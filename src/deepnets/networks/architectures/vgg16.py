"""VGG-16, configuration D of Simonyan and Zisserman 2015, as Keras has it."""

from typing import Any

from deepnets.config.registry import Architecture, PublishedWeights


def build(**options: Any) -> Any:
    """The backbone."""
    import keras

    return keras.applications.VGG16(**options)


ARCHITECTURE = Architecture(
    title="VGG-16",
    build=build,
    input_range="symmetric",
    # keras/src/applications/vgg16.py
    imagenet=PublishedWeights(
        url="https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="6d6bbae143d832006294945121d1f1fc",
    ),
    variants=frozenset({"batch_norm", "highway"}),
)
