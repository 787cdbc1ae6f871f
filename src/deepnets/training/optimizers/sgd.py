"""Stochastic gradient descent with momentum, as Keras has it."""

from typing import Any

from pydantic import Field

from deepnets.config.fields import Fraction, Settings
from deepnets.config.registry import Optimizer


class Sgd(Settings):
    """Arguments of `keras.optimizers.SGD`."""

    momentum: Fraction = Field(description="share of the last step that the next one keeps")
    nesterov: bool = Field(description="true takes the gradient where the momentum leads")


def build(**arguments: Any) -> Any:
    """The fastest there is here."""
    from deepnets.training import optimization

    return optimization.family().SGD(**arguments)


OPTIMIZER = Optimizer(title="SGD", settings=Sgd, build=build)
