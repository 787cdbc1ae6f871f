"""Optimizers against their closed forms, and the study's learning-rate decay."""

from typing import Any

import keras
import numpy as np
import pytest

from deepnets.config import params
from deepnets.config.sections import RunParams
from deepnets.training import optimization
from project import ROOT

# In an epoch; only a cosine asks.
STEPS = 10

GRADIENTS = [0.5, -1.0, 2.0, 0.25, -0.125]


def run_of(optimizer: str, **changes: Any) -> RunParams:
    """The study's VGG-16 with `optimizer`, changed."""
    run = params.load(ROOT / "params.yaml").run_params(f"vgg16-{optimizer}-random", 0)
    return run.model_copy(update=changes)


def steps(run: RunParams, gradients: list[float]) -> list[float]:
    """A variable's value after each step with the given gradients, starting from 1."""
    optimizer = optimization.build(run, STEPS)
    variable = keras.Variable(1.0)
    optimizer.build([variable])
    values = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        values.append(float(variable.numpy()))
    return values


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("step", [0, 1, 10, 1000, 23_430])
def test_learning_rate_decays_per_step(optimizer: str, step: int) -> None:
    run = run_of(optimizer, learning_rate=0.01, decay=0.001)
    built = optimization.build(run, STEPS)
    built.iterations.assign(step)
    expected = 0.01 / (1 + 0.001 * step)
    assert float(built.learning_rate) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_learning_rate_stays_without_decay(optimizer: str) -> None:
    built = optimization.build(run_of(optimizer, learning_rate=0.25, decay=0.0), STEPS)
    built.iterations.assign(1000)
    assert float(built.learning_rate) == 0.25


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("gradients", [5 * [0.5], GRADIENTS], ids=["constant", "varied"])
def test_sgd_takes_the_steps_of_the_formula(nesterov: bool, gradients: list[float]) -> None:
    # A decay this strong would show at once if it were counted in epochs, or from one.
    run = run_of("sgd", learning_rate=0.1, decay=0.5, momentum=0.9, nesterov=nesterov)
    value, velocity, expected = 1.0, 0.0, []
    for step, gradient in enumerate(gradients):
        rate = 0.1 / (1 + 0.5 * step)
        velocity = 0.9 * velocity - rate * gradient
        value += 0.9 * velocity - rate * gradient if nesterov else velocity
        expected.append(value)
    assert steps(run, gradients) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("gradients", [5 * [0.5], GRADIENTS], ids=["constant", "varied"])
def test_adam_takes_the_steps_of_the_formula(decay: float, gradients: list[float]) -> None:
    run = run_of("adam", learning_rate=0.1, decay=decay, beta_1=0.8, beta_2=0.9, epsilon=0.01)
    value, mean, square, expected = 1.0, 0.0, 0.0, []
    for step, gradient in enumerate(gradients):
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.9 * square + 0.1 * gradient**2
        # Kingma and Ba 2015, end of section 2: the form with epsilon-hat, which Keras takes.
        rate = 0.1 / (1 + decay * step) * np.sqrt(1 - 0.9 ** (step + 1)) / (1 - 0.8 ** (step + 1))
        value -= rate * mean / (np.sqrt(square) + 0.01)
        expected.append(value)
    assert steps(run, gradients) == pytest.approx(expected, rel=1e-5)


def test_adam_of_the_study_is_keras_default() -> None:
    ours = optimization.build(run_of("adam"), STEPS).get_config()
    default = keras.optimizers.Adam(name=ours["name"]).get_config()
    assert ours == {**default, "learning_rate": pytest.approx(0.001)}
    assert (ours["beta_1"], ours["beta_2"], ours["epsilon"]) == (0.9, 0.999, 1e-7)


def test_sgd_of_the_study_decays_its_rate_not_its_weights() -> None:
    config = optimization.build(run_of("sgd"), STEPS).get_config()
    assert config["momentum"] == 0.9
    assert config["nesterov"] is False
    assert config["weight_decay"] is None
    assert config["clipnorm"] is None


def test_long_run_of_the_study_uses_nesterov() -> None:
    run = params.load(ROOT / "params.yaml").run_params("resnet50-sgd-random-long", 0)
    built = optimization.build(run, STEPS)
    assert built.nesterov is True
    assert float(built.learning_rate) == pytest.approx(0.005)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_cosine_rises_from_nothing_and_falls_to_nothing(optimizer: str) -> None:
    run = run_of(optimizer, learning_rate=0.02, decay="cosine", warmup_epochs=1.5, epochs=4)
    built = optimization.build(run, STEPS)
    rates = {}
    for step in (0, 3, 15, 20, 35, 40, 60):
        built.iterations.assign(step)
        rates[step] = float(built.learning_rate)
    fallen = {s: 0.01 * (1 + np.cos(np.pi * (s - 15) / 25)) for s in (15, 20, 35, 40)}
    assert rates == pytest.approx({0: 0.0, 3: 0.004, **fallen, 60: 0.0}, rel=1e-5, abs=1e-9)


def test_cosine_without_warmup_starts_at_its_rate() -> None:
    built = optimization.build(run_of("sgd", learning_rate=0.02, decay="cosine", epochs=4), STEPS)
    assert float(built.learning_rate) == pytest.approx(0.02)
    built.iterations.assign(20)
    assert float(built.learning_rate) == pytest.approx(0.01, rel=1e-5)
