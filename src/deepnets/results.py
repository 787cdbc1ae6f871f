"""What finished runs left behind, as the report reads it."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepnets.params import RunParams

# completed: all epochs ran. collapsed: they did, at chance. diverged: the loss became NaN or
# infinite, and the epochs before are what there is.
Outcome = Literal["completed", "collapsed", "diverged"]


@dataclass(frozen=True)
class Result:
    """One training of a row of the grid with one seed, read back from its files.

    `history` has a row an epoch (epoch, loss, accuracy, val_loss, val_accuracy, learning_rate),
    `timing` as well (epoch, seconds, validation_seconds, images_per_second). `test` holds loss
    and accuracy on the test images, `labels` uint8 (n,) and `probabilities` float32 (n, 10) are
    theirs, in the order of the test split; all three are None for a run not evaluated yet.
    """

    run: str
    seed: int
    params: RunParams
    history: list[dict[str, float]]
    timing: list[dict[str, float]]
    outcome: Outcome
    provenance: dict[str, Any]
    test: dict[str, float] | None = None
    labels: NDArray[np.uint8] | None = None
    probabilities: NDArray[np.float32] | None = None
