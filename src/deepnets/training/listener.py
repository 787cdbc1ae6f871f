"""Who hears what a training does, as it goes on. Imports no framework: many hear from afar."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepnets.training.checkpoints import Row


class Listener:
    """Hears what a training does. Epochs and steps are counted from 1."""

    def on_resume(self, epoch: int) -> None:
        """The training goes on after `epoch`, of which there is a checkpoint."""

    def on_epoch_begin(self, epoch: int, images: int) -> None:
        """So many images will go through the epoch's steps."""

    def on_step(self, epoch: int, step: int, means: dict[str, float]) -> None:
        """So many steps of the epoch are done; `means` are loss and accuracy over them."""

    def on_validation(self, epoch: int, probabilities: NDArray[np.float32]) -> None:
        """An epoch has been validated, and is not saved yet.

        Args:
            epoch: which.
            probabilities: float32 (n, 10), of the validation images in their order.
        """

    def on_epoch_end(self, row: Row, timing: Row) -> None:
        """An epoch is over, validated and saved."""

    def on_divergence(self, epoch: int, step: int, loss: float) -> None:
        """The loss of a step is no finite number: the training ends with the epochs before."""


class Listeners(Listener):
    """Several, each of which hears everything."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners

    def on_resume(self, epoch: int) -> None:
        for listener in self._listeners:
            listener.on_resume(epoch)

    def on_epoch_begin(self, epoch: int, images: int) -> None:
        for listener in self._listeners:
            listener.on_epoch_begin(epoch, images)

    def on_step(self, epoch: int, step: int, means: dict[str, float]) -> None:
        for listener in self._listeners:
            listener.on_step(epoch, step, means)

    def on_validation(self, epoch: int, probabilities: NDArray[np.float32]) -> None:
        for listener in self._listeners:
            listener.on_validation(epoch, probabilities)

    def on_epoch_end(self, row: Row, timing: Row) -> None:
        for listener in self._listeners:
            listener.on_epoch_end(row, timing)

    def on_divergence(self, epoch: int, step: int, loss: float) -> None:
        for listener in self._listeners:
            listener.on_divergence(epoch, step, loss)
