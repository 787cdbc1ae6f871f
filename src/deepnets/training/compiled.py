"""A network and what trains it, built and compiled once for all seeds of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from deepnets.config.sections import RunParams
from deepnets.data.splits import Split
from deepnets.networks import models, views
from deepnets.training import steps


@dataclass(frozen=True)
class Compiled:
    """A classifier with its stepper, and the view of it that is scored.

    Attributes:
        of: the run whose seed was the first, and the shape of its training images.
        initial: values of the optimizer's variables before the first step.
    """

    of: tuple[RunParams, tuple[int, ...]]
    classifier: keras.Model
    stepper: steps.Stepper
    scorer: keras.Model
    initial: list[NDArray[Any]]


class Workbench:
    """Has the network that was trained last at hand: another seed of its run trains it again."""

    def __init__(self) -> None:
        self._latest: Compiled | None = None

    def start(self, run: RunParams, path: Path, training: Split, mesh: Any = None) -> Compiled:
        """The network of `run` with its starting weights, and a stepper that has taken no step.

        What an earlier call has given is not to be used any more.

        Args:
            run: resolved parameters.
            path: of its starting weights, see `models.start`.
            training: the images that it is to be trained on.
            mesh: of several devices, see `steps.for_run`; the same in all calls.
        """
        size = training.images.shape[1]
        of = run.model_copy(update={"seed": 0}), training.images.shape
        latest, self._latest = self._latest, None
        if latest is not None and latest.of == of:
            models.restart(latest.classifier, run, size, path)
            variables = latest.stepper.optimizer.variables
            for variable, value in zip(variables, latest.initial, strict=True):
                variable.assign(value)
        else:
            latest = None  # its memory is needed
            classifier = models.start(run, size, path)
            with views.computing_in(classifier, run.precision):
                stepper = steps.for_run(classifier, run, training, mesh)
                scorer = views.scoring_view(classifier)
            initial = [np.array(variable.numpy()) for variable in stepper.optimizer.variables]
            latest = Compiled(of, classifier, stepper, scorer, initial)
        self._latest = latest
        return latest
