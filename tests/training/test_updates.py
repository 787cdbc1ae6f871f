"""The fused updates are those of Keras' optimizers."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from deepnets.training import updates

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="other backends use Keras' own optimizers"
)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"momentum": 0.9}),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("SGD", {"momentum": 0.0}),
        ("Adam", {}),
        ("Adam", {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 0.01}),
    ],
)
@pytest.mark.parametrize("decay", [0, 0.5])
def test_steps_are_those_of_keras(name: str, options: dict[str, Any], decay: float) -> None:
    (plain_names, plain), (names, ours) = (
        stepped(family, name, options, decay) for family in (keras.optimizers, updates)
    )
    assert names == plain_names
    for expected, received in zip(plain, ours, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)


def stepped(
    family: Any, name: str, options: dict[str, Any], decay: float
) -> tuple[list[str], list[Any]]:
    """Names of an optimizer's variables, and all values after five steps."""
    rate = keras.optimizers.schedules.InverseTimeDecay(0.1, 1, decay) if decay else 0.1
    optimizer = getattr(family, name)(learning_rate=rate, **options)
    generator = np.random.default_rng(0)
    variables = [
        keras.Variable(generator.normal(size=s), dtype="float32", name="v")
        for s in [(3, 3, 4, 5), (7,)]
    ]
    optimizer.build(variables)

    @tf.function
    def step(gradients: Any) -> None:
        optimizer.apply(gradients, variables)

    for _ in range(5):
        step([tf.constant(generator.normal(size=v.shape), tf.float32) for v in variables])
    names = [variable.name for variable in optimizer.variables]
    return names, [np.asarray(variable) for variable in [*variables, *optimizer.variables]]
