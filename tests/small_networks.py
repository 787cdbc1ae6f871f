"""Small networks for a clone of the project: the same kinds of layers, far fewer weights."""

from typing import Any

import keras


def _small_vgg16(*, input_tensor: Any, name: str, **_: Any) -> keras.Model:
    """VGG-16 with an eighth of its filters in blocks of one convolution."""
    x = input_tensor
    for block, filters in enumerate((8, 16, 32, 64, 256), start=1):
        x = keras.layers.Conv2D(
            filters, 3, activation="relu", padding="same", name=f"block{block}_conv1"
        )(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return keras.Model(input_tensor, keras.layers.GlobalAveragePooling2D()(x), name=name)


def _small_resnet50(**arguments: Any) -> keras.Model:
    """ResNet with one residual block a stage and a sixteenth of ResNet50's filters."""
    from keras.src.applications import resnet

    def stages(x: Any) -> Any:
        for stage, filters in enumerate((4, 8, 16, 32), start=2):
            x = resnet.stack_residual_blocks_v1(x, filters, 1, name=f"conv{stage}")
        return x

    return resnet.ResNet(stages, False, True, weights_name="small", **arguments)


BACKBONES = {"vgg16": _small_vgg16, "resnet50": _small_resnet50}
