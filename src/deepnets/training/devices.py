"""Over how many devices a training splits each batch, and which of its processes this one is.

Asked for by variables, not by params.yaml, since it belongs to the machines at hand; it decides how
sums are rounded, so it is part of a training's fingerprint. Imports JAX only where it is asked for.
"""

import atexit
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

from deepnets.base.errors import UserError, one_line
from deepnets.networks import runtime

VARIABLE = "DEEPNETS_DEVICES"
COORDINATOR = "JAX_COORDINATOR_ADDRESS"
PROCESSES = "JAX_NUM_PROCESSES"
PROCESS = "JAX_PROCESS_ID"

# The axis of the mesh, and of every batch that is split.
_AXIS = "batch"

# A process that has not been heard of for so long counts as dead, and the others end.
_HEARTBEAT_SECONDS = 60
# In which all have to be there.
_START_SECONDS = 120
# In which the first, after the others, has written the model and brought MLflow level.
_END_SECONDS = 3600


class Count(TypedDict):
    """Over how many devices each batch is split, and in how many processes they are."""

    devices: int
    processes: int


@dataclass(frozen=True)
class Devices:
    """How many devices a batch is split over, in how many processes; this is number `process`."""

    devices: int = 1
    processes: int = 1
    process: int = 0
    coordinator: str | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files, and tells people and MLflow of the training."""
        return self.process == 0

    @property
    def shape(self) -> Count | None:
        """What of it decides about the numbers; None for one device."""
        if self.devices == 1:
            return None
        return {"devices": self.devices, "processes": self.processes}


def asked() -> Devices:
    """What the variables ask for: one device, unless DEEPNETS_DEVICES says otherwise.

    Raises:
        UserError: one of them is no number, or does not fit the others or the backend.
    """
    devices = _number(VARIABLE, 1, None)
    if devices == 1:
        return Devices()
    if runtime.chosen_backend() != "jax":
        raise UserError(
            f"{VARIABLE}={devices}: expected JAX, which alone trains on several devices here; "
            f"received {runtime.chosen_backend()}: set KERAS_BACKEND=jax, or unset {VARIABLE}"
        )
    processes = _number(PROCESSES, 1, devices)
    if processes == 1:
        return Devices(devices)
    if devices % processes:
        raise UserError(
            f"{VARIABLE}={devices}: expected a multiple of {PROCESSES}={processes}, all devices of "
            "all processes: correct one of them"
        )
    coordinator = os.environ.get(COORDINATOR, "")
    if not coordinator.rpartition(":")[2].isdigit():
        raise UserError(
            f"{COORDINATOR}: expected HOST:PORT of process 0; received {coordinator!r}: set it to "
            "the same in every process"
        )
    if not os.environ.get(PROCESS, "").strip():
        raise UserError(f"{PROCESS}: expected 0 to {processes - 1}; it is not set: set it")
    return Devices(devices, processes, _number(PROCESS, 0, processes - 1), coordinator)


def check(batch_size: int) -> Devices:
    """What is `asked`, if batches of `batch_size` images can be split like that; else UserError."""
    request = asked()
    if batch_size % request.devices:
        raise UserError(
            f"{VARIABLE}={request.devices}: expected a divisor of the batch size; received a batch "
            f"size of {batch_size}: choose another number of devices, or another batch_size"
        )
    return request


def mesh(request: Devices) -> Any:
    """The mesh of the devices that are asked for, once all processes have met; None for one.

    To be called before anything is computed.

    Raises:
        UserError: there are fewer devices, or the other processes cannot be met.
    """
    if request.devices == 1:
        return None
    import jax
    import numpy as np

    if request.processes > 1:
        _meet(request)
    there = jax.devices()
    kind = there[0].device_kind
    if request.devices > len(there):
        raise UserError(
            f"{VARIABLE}={request.devices}: expected at most {len(there)}, all devices that JAX "
            f"sees ({kind}); received more: correct it, or have JAX see others"
        )
    if request.processes > 1 and request.devices < len(there):
        # A process without a device in the mesh would have nothing to wait for.
        raise UserError(
            f"{VARIABLE}={request.devices}: expected {len(there)}, all devices of all processes "
            f"({kind}); received fewer: correct it in each of them"
        )
    return jax.sharding.Mesh(np.array(there[: request.devices]), (_AXIS,))


@contextmanager
def ending_together() -> Iterator[None]:
    """Where all processes of a training end together; one that fails in the block ends alone.

    The others learn of it as soon as they wait for it.

    Raises:
        UserError: another process has ended.
    """
    try:
        yield
    except BaseException as error:
        request = asked()
        if request.processes == 1:
            raise
        # JAX would wait for the others here, which wait for this one to compute.
        atexit.register(_leave)
        if "Gloo " not in str(error):
            raise
        raise UserError(
            f"process {request.process} of {request.processes} has lost another one "
            f"({one_line(error, 120)}): start all of them again, they go on after the last "
            "finished epoch"
        ) from None


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def agree(request: Devices, said: str) -> None:
    """Make sure that all processes say the same: what they train, and where they begin.

    With other kernels in one of them, its weights would drift away from those of the others.

    Raises:
        UserError: they do not.
    """
    if request.processes > 1 and len(set(_gather(said))) > 1:
        raise UserError(
            f"the {request.processes} processes would not train the same: expected one checkout, "
            "one study's folder, the same variables and libraries for all; correct that and start "
            "all of them again"
        )


def _gather(said: str) -> list[str]:
    """sha256 of what each process says, in their order."""
    import numpy as np
    from jax.experimental import multihost_utils

    mine = np.frombuffer(bytes.fromhex(_digest(said)), np.uint8)
    return [bytes(row).hex() for row in multihost_utils.process_allgather(mine)]


def _meet(request: Devices) -> None:
    import jax

    # Should they not come, JAX ends this process, in many lines of its own.
    print(
        f"process {request.process} of {request.processes}: all have to meet at "
        f"{request.coordinator} within {_START_SECONDS} s",
        flush=True,
    )
    try:
        jax.distributed.initialize(
            request.coordinator,
            request.processes,
            request.process,
            initialization_timeout=_START_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_END_SECONDS,
        )
    except RuntimeError as error:
        raise UserError(
            f"process {request.process} of {request.processes} cannot meet the others at "
            f"{request.coordinator} ({one_line(error, 120)}): name a free port of process 0's "
            f"machine in {COORDINATOR}"
        ) from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _number(variable: str, least: int, most: int | None) -> int:
    """The whole number that `variable` has; `least` where it is not set."""
    text = os.environ.get(variable, "").strip() or str(least)
    number = int(text) if text.isdecimal() else -1
    if number < least or (most is not None and number > most):
        limits = f"from {least}" + ("" if most is None else f" to {most}")
        raise UserError(
            f"{variable}: expected a whole number {limits}; received {text!r}: correct or unset it"
        )
    return number
