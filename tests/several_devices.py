"""One network on two devices of a process, beside the same network on one.

Not collected by itself: test_device_epochs.py runs these tests in a process of their own, on JAX,
which has the CPU as two devices there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np
import pytest

import tiny
from deepnets.base.errors import UserError
from deepnets.config import registry
from deepnets.networks import runtime
from deepnets.training import devices, jax_steps
from device_epochs import BATCH, STEPS, Training, run_of, training


@dataclass
class Pair:
    """A network with batch normalisation and dropout, trained for an epoch on one and on two."""

    one: Training
    two: Training
    start: dict[str, np.ndarray]
    results: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def _pair(whole: bool) -> Iterator[Pair]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "on_jax_gpu", lambda: whole)
        patch.setattr(runtime, "compiler_options", dict)
        patch.setitem(registry.architectures(), "vgg16", tiny.NORMALIZED_NETWORK)
        run = run_of()
        alone, shared = training(run), training(run, devices.mesh(devices.Devices(2)))
        start = alone.values()
        yield Pair(alone, shared, start, (alone.train(1), shared.train(1)))


@pytest.fixture(scope="module")
def whole_epochs() -> Iterator[Pair]:
    yield from _pair(True)


@pytest.fixture(scope="module")
def single_steps() -> Iterator[Pair]:
    yield from _pair(False)


@pytest.mark.parametrize("kind", ["whole_epochs", "single_steps"])
def test_two_devices_train_as_one_does(kind: str, request: pytest.FixtureRequest) -> None:
    pair: Pair = request.getfixturevalue(kind)
    kinds = {"whole_epochs": jax_steps.DeviceStepper, "single_steps": jax_steps.BatchStepper}
    assert type(pair.one.stepper) is type(pair.two.stepper) is kinds[kind]
    alone, shared = pair.results
    assert len(alone["loss"]) == STEPS
    np.testing.assert_allclose(shared["loss"], alone["loss"], rtol=1e-4)
    np.testing.assert_array_equal(shared["accuracy"], alone["accuracy"])
    after, expected = pair.two.values(), pair.one.values()
    assert after.keys() == expected.keys() == {"weights", "statistics", "slots"}
    for name, value in expected.items():
        moved = np.linalg.norm(value - pair.start[name])
        assert moved > 0.003, name
        assert np.linalg.norm(after[name] - value) < 2e-3 * moved, name
    # Where validation, and all that is saved, find them.
    places = {place for weight in pair.two.classifier.weights for place in weight.value.devices()}
    assert places == {jax.devices()[0]}


def test_each_device_computes_its_part_of_a_batch_and_no_other(whole_epochs: Pair) -> None:
    (program,) = whole_epochs.two.stepper._compiled.values()
    text = program.as_text()
    maps = re.findall(r"= f32\[(\d+),\d+,\d+,\d+\]\S* (?:convolution|reduce-window)\(", text)
    assert str(BATCH // 2) in maps
    assert str(BATCH) not in maps
    assert "all-reduce" in text
    # On a CPU it gives wrong values now and then (jax-ml/jax#40830).
    assert "reduce-scatter" not in text


def test_more_devices_than_there_are_are_refused() -> None:
    with pytest.raises(UserError, match="DEEPNETS_DEVICES=3: expected at most 2, "):
        devices.mesh(devices.Devices(3))
