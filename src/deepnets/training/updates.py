"""Keras' optimizers, each variable's update as one pass over it with TensorFlow's own kernels.

Keras writes an update as several elementwise operations, each a pass over all weights, and computes
what all variables share once for each. The kernels compute the same formulas: the settings, the
variables and their names stay those of Keras.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class SGD(keras.optimizers.SGD):  # type: ignore[misc]
    """Stochastic gradient descent with momentum."""

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        """Move each variable by its gradient (both of one shape, float32)."""
        if not self.momentum:
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.value.handle,
                accum=self.momentums[self._get_variable_index(variable)].value.handle,
                lr=learning_rate,
                grad=gradient,
                momentum=self.momentum,
                use_nesterov=self.nesterov,
            )


class Adam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam, without AMSGrad."""

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        """Move each variable by its gradient (both of one shape, float32)."""
        step = tf.cast(self.iterations + 1, tf.float32)
        beta_1_power = tf.pow(self.beta_1, step)
        beta_2_power = tf.pow(self.beta_2, step)
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            index = self._get_variable_index(variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle,
                beta1_power=beta_1_power,
                beta2_power=beta_2_power,
                lr=learning_rate,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
            )
