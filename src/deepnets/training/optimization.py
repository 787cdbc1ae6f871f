"""The optimizer that a run names (`optimizers/`), and how its learning rate changes."""

from typing import Any

import keras

from deepnets.config import registry
from deepnets.config.fields import Settings
from deepnets.config.sections import RunParams
from deepnets.networks import runtime


def build(run: RunParams, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer that `run` names, with its settings."""
    optimizer = registry.optimizers()[run.optimizer]
    own = {
        name: getattr(run, name)
        for name in optimizer.settings.model_fields
        if name not in Settings.model_fields
    }
    return optimizer.build(learning_rate=schedule(run, steps_per_epoch), **own)


def family() -> Any:
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
