"""Goes along with each model in MLflow, which loads it by this: refuses what are no pixels.

MLflow casts a request's numbers to uint8 before anyone sees them, so that images that were scaled
arrive black. It needs what every server of a Keras model has, and nothing of ours.
"""

from typing import Any

import mlflow.keras
import numpy as np
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException
from numpy.typing import NDArray


class RawPixels:
    """A model of MLflow's that takes uint8 (n, height, width, 3) alone."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def get_raw_model(self) -> Any:
        """The Keras model."""
        return self._model.get_raw_model()

    def predict(self, data: Any, params: Any = None) -> Any:
        """float32 (n, 10) of `data`, an array or a dictionary of one."""
        for images in data.values() if isinstance(data, dict) else [data]:
            require_raw_pixels(np.asarray(images))
        return self._model.predict(data)


def require_raw_pixels(images: NDArray[Any]) -> None:
    """Raise an MlflowException if an image is black, as one from 0 to 1 is when it was cast."""
    for place, image in enumerate(images):
        if image.max(initial=0) <= 1:
            raise MlflowException(
                f"image {place} is black: expected raw pixels, whole numbers from 0 to 255; "
                f"received none above {image.max(initial=0)}: multiply by 255 what was scaled to "
                "0 to 1",
                INVALID_PARAMETER_VALUE,
            )


def _load_pyfunc(path: str) -> RawPixels:
    """What MLflow calls to load a model."""
    return RawPixels(mlflow.keras._load_pyfunc(path))
