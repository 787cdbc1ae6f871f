"""Several devices are asked for by variables; what cannot be is refused before anything is done."""

import pytest

from deepnets.base.errors import UserError
from deepnets.training import devices
from deepnets.training.devices import Devices

TWO_PROCESSES = {
    "DEEPNETS_DEVICES": "4",
    "JAX_COORDINATOR_ADDRESS": "first:1234",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}


@pytest.fixture(autouse=True)
def _on_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    for variable in TWO_PROCESSES:
        monkeypatch.delenv(variable, raising=False)


def test_it_is_one_device_unless_the_variable_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")  # somebody else's
    for text in ("", " ", "1"):
        monkeypatch.setenv("DEEPNETS_DEVICES", text)
        assert devices.check(7) == Devices()
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert devices.check(7) == Devices()
    assert Devices().shape is None
    assert devices.mesh(Devices()) is None


def test_devices_of_one_process_and_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPNETS_DEVICES", "4")
    alone = devices.check(32)
    assert alone == Devices(4)
    assert alone.is_first
    assert alone.shape == {"devices": 4, "processes": 1}
    for variable, value in TWO_PROCESSES.items():
        monkeypatch.setenv(variable, value)
    second = devices.check(32)
    assert second == Devices(4, 2, 1, "first:1234")
    assert not second.is_first
    assert second.shape == {"devices": 4, "processes": 2}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"DEEPNETS_DEVICES": "two"}, "DEEPNETS_DEVICES: expected a whole number from 1; received"),
        ({"DEEPNETS_DEVICES": "0"}, "received '0'"),
        ({"DEEPNETS_DEVICES": "-2"}, "received '-2'"),
        ({"DEEPNETS_DEVICES": "5", "JAX_NUM_PROCESSES": ""}, "received a batch size of 32"),
        ({"KERAS_BACKEND": "tensorflow"}, "expected JAX, .*; received tensorflow"),
        ({"JAX_NUM_PROCESSES": "3"}, "expected a multiple of JAX_NUM_PROCESSES=3"),
        ({"JAX_NUM_PROCESSES": "5"}, "JAX_NUM_PROCESSES: expected a whole number from 1 to 4"),
        ({"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID: expected a whole number from 0 to 1"),
        ({"JAX_PROCESS_ID": ""}, "JAX_PROCESS_ID: expected 0 to 1; it is not set"),
        ({"JAX_COORDINATOR_ADDRESS": ""}, "JAX_COORDINATOR_ADDRESS: expected HOST:PORT"),
        ({"JAX_COORDINATOR_ADDRESS": "first"}, "expected HOST:PORT of process 0; received 'first'"),
    ],
)
def test_a_wrong_request_is_refused(
    changes: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in (TWO_PROCESSES | changes).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=said) as refusal:
        devices.check(32)
    assert "\n" not in str(refusal.value)


def test_processes_that_would_not_train_the_same_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = Devices(2, 2, 0, "first:1234")
    monkeypatch.setattr(devices, "_gather", lambda said: [said, said])
    devices.agree(two, "a fingerprint")
    monkeypatch.setattr(devices, "_gather", lambda said: [said, "another"])
    with pytest.raises(UserError, match="the 2 processes would not train the same"):
        devices.agree(two, "a fingerprint")
    devices.agree(Devices(2), "a fingerprint")
