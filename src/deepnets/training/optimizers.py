"""Names to optimizers, and how their learning rate changes."""

from typing import Any

import keras

from deepnets.config.params import RunParams
from deepnets.networks import runtime


def build(run: RunParams, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer that `run` names, with its settings."""
    family = _family()
    learning_rate = schedule(run, steps_per_epoch)
    if run.optimizer == "adam":
        return family.Adam(
            learning_rate=learning_rate,
            beta_1=run.beta_1,
            beta_2=run.beta_2,
            epsilon=run.epsilon,
        )
    return family.SGD(learning_rate=learning_rate, momentum=run.momentum, nesterov=run.nesterov)


def _family() -> Any:
    """The module whose SGD and Adam are known to be the fastest here."""
    if not runtime.on_tensorflow_cpu():
        return keras.optimizers
    from deepnets.training import updates

    return updates


def schedule(
    run: RunParams, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate by optimizer step t, from 0.

    A number for `decay` is Keras 2's argument: lr_t = lr_0 / (1 + decay * t). `cosine` rises
    linearly from 0 to lr_0 for `warmup_epochs`, and falls to 0 at the end of the last epoch as
    half a cosine.
    """
    if run.decay == "cosine":
        warmup = round(run.warmup_epochs * steps_per_epoch)
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else run.learning_rate,
            decay_steps=max(1, run.epochs * steps_per_epoch - warmup),
            warmup_target=run.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    if not run.decay:
        return run.learning_rate
    return keras.optimizers.schedules.InverseTimeDecay(
        run.learning_rate, decay_steps=1, decay_rate=run.decay
    )
