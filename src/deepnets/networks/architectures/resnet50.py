"""ResNet50 of He et al. 2016, as Keras has it."""

from typing import Any

from deepnets.config.registry import Architecture, PublishedWeights


def build(**options: Any) -> Any:
    """The backbone."""
    import keras

    return keras.applications.ResNet50(**options)


ARCHITECTURE = Architecture(
    title="ResNet50",
    build=build,
    input_range="unit",
    # keras/src/applications/resnet.py
    imagenet=PublishedWeights(
        url="https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="4d473c1dd8becc155b73f8504c6f6626",
    ),
    variants=frozenset({"stem", "stages", "zero_gamma"}),
)
