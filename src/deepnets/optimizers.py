"""Names to optimizers, with the study's learning-rate decay."""

from typing import Any

import keras

from deepnets import runtime
from deepnets.params import RunParams


def build(run: RunParams) -> keras.optimizers.Optimizer:
    """The optimizer that `run` names, with its settings."""
    family = _family()
    if run.optimizer == "adam":
        return family.Adam(
            learning_rate=inverse_time(run),
            beta_1=run.beta_1,
            beta_2=run.beta_2,
            epsilon=run.epsilon,
        )
    return family.SGD(learning_rate=inverse_time(run), momentum=run.momentum, nesterov=run.nesterov)


def _family() -> Any:
    """The module whose SGD and Adam are known to be the fastest here."""
    if not runtime.on_tensorflow_cpu():
        return keras.optimizers
    from deepnets import updates

    return updates


def inverse_time(run: RunParams) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Keras 2's `decay` argument: lr_t = lr_0 / (1 + decay * t), t counted in optimizer steps."""
    if not run.decay:
        return run.learning_rate
    return keras.optimizers.schedules.InverseTimeDecay(
        run.learning_rate, decay_steps=1, decay_rate=run.decay
    )
