"""Keras' optimizers, each variable's update as one pass over it with TensorFlow's own kernels.

Keras writes an update as several elementwise operations, each a pass over all weights. The kernels
compute the same formulas: the settings, the variables and their names stay those of Keras.
"""

from typing import Any

import keras
import tensorflow as tf


class SGD(keras.optimizers.SGD):  # type: ignore[misc]
    """Stochastic gradient descent with momentum."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move `variable` by `gradient` (both of one shape, float32)."""
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=gradient,
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )


class Adam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam, without AMSGrad."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move `variable` by `gradient` (both of one shape, float32)."""
        step = tf.cast(self.iterations + 1, variable.dtype)
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
