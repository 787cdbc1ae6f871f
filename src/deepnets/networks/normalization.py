"""Batch normalisation in one pass each way.

Keras writes it as a dozen elementwise operations on TensorFlow, each of which reads and writes the
whole map, and as many again for the gradient. TensorFlow has one kernel for it.
"""

from typing import Any

import keras
import tensorflow as tf


class Fused(keras.layers.Layer):  # type: ignore[misc]
    """A stand-in for a batch normalisation, with its weights; float32 (n, height, width, c)."""

    def __init__(self, normalization: keras.layers.BatchNormalization) -> None:
        super().__init__(name=f"{normalization.name}_fused")
        self.normalization = normalization

    def call(self, images: Any, training: bool = False) -> Any:
        """`images` normalised; in training with the batch's moments, which the averages follow."""
        layer = self.normalization
        if not (training and layer.trainable):
            return layer(images, training=training)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images,
            scale=layer.gamma.value,
            offset=layer.beta.value,
            mean=[],
            variance=[],
            epsilon=layer.epsilon,
            is_training=True,
        )
        # The kernel reports the unbiased variance; Keras averages the biased one.
        values_of_each = tf.cast(tf.size(images), tf.float32) / images.shape[-1]
        moments = (mean, variance - variance / values_of_each)
        averages = (layer.moving_mean.value, layer.moving_variance.value)
        for average, moment in zip(averages, moments, strict=True):
            average.assign_sub((average - moment) * (1 - layer.momentum), read_value=False)
        return outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input; told rather than found out, which would trace `call` once more."""
        return input_shape
