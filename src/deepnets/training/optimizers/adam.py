"""Adam of Kingma and Ba 2015, as Keras has it."""

from typing import Any

from pydantic import Field

from deepnets.config.fields import Fraction, Rate, Settings
from deepnets.config.registry import Optimizer


class Adam(Settings):
    """Arguments of `keras.optimizers.Adam`."""

    beta_1: Fraction = Field(description="decay of the gradient's average")
    beta_2: Fraction = Field(description="decay of the squared gradient's average")
    epsilon: Rate = Field(description="added to the root of that average")


def build(**arguments: Any) -> Any:
    """The fastest there is here."""
    from deepnets.training import optimization

    return optimization.family().Adam(**arguments)


OPTIMIZER = Optimizer(title="Adam", settings=Adam, build=build)
