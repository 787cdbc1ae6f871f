"""What steppers have in common that have the host feed and read each step; see steps.py."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import islice

import keras
import numpy as np
from numpy.typing import NDArray

from deepnets.config.sections import RunParams
from deepnets.data.splits import Split
from deepnets.training import batches
from deepnets.training.batches import Batch

# Takes a batch; returns its `loss` and `accuracy`.
Step = Callable[[Batch], dict[str, float]]


class StepByStep(ABC):
    """Feeds and reads each step; what it computes follows from code and libraries."""

    optimizer: keras.optimizers.Optimizer

    @abstractmethod
    def epoch(self) -> AbstractContextManager[Step]:
        """See `steps.Stepper`."""

    def train(
        self, training: Split, run: RunParams, epoch: int, count: int | None = None
    ) -> Iterator[dict[str, NDArray[np.float32]]]:
        """See `steps.Stepper`."""
        with self.epoch() as take:
            for batch in islice(batches.batches(training, run, epoch), count):
                yield {key: np.array([value]) for key, value in take(batch).items()}

    def program(self, training: Split, run: RunParams) -> str | None:
        """See `steps.Stepper`."""
        return None
