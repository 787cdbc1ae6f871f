"""What a layer of a backbone is, for those that compute it in another way. Knows no backend."""

import keras


def is_plain_3x3(layer: keras.Layer) -> bool:
    """Whether `layer` is a 3x3 convolution that keeps the size of its map."""
    return (
        isinstance(layer, keras.layers.Conv2D)
        and layer.kernel_size == (3, 3)
        and layer.strides == (1, 1)
        and layer.dilation_rate == (1, 1)
        and layer.padding == "same"
        and layer.groups == 1
    )


def normalises_channels(layer: keras.Layer) -> bool:
    """Whether `layer` is a batch normalisation over the channels of maps, scaled and centred."""
    return (
        isinstance(layer, keras.layers.BatchNormalization)
        and len(layer.output.shape) == 4
        and layer.axis in (-1, 3)
        and layer.scale
        and layer.center
        and not layer.renorm
    )
