"""NVIDIA's GPUs of this machine, and the control program that has processes share one: MPS."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass

from deepnets.base.errors import UserError

# What a training of the study is reckoned with of a GPU's memory, with what the library of
# convolutions works in. ResNet50 took up to 2,700 MiB of an H200, VGG-16 up to 1,700.
TRAINING_MIB = 4096

# Of a card's memory, what all trainings on it share.
_SHARED = 0.9

_CONTROL = "nvidia-cuda-mps-control"


@dataclass(frozen=True)
class Card:
    """One GPU, with its memory in MiB."""

    index: str
    name: str
    memory: int

    @property
    def trainings(self) -> int:
        """How many its memory carries."""
        return max(1, int(self.memory * _SHARED) // TRAINING_MIB)


def cards() -> list[Card]:
    """The GPUs that this process may use, as `nvidia-smi` names them.

    Raises:
        UserError: it does not answer.
    """
    query = [
        "nvidia-smi",
        "--query-gpu=index,uuid,name,memory.total",
        "--format=csv,noheader,nounits",
    ]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"nvidia-smi does not say which GPUs there are ({error}): mend that, or set "
            "CUDA_VISIBLE_DEVICES= to train without them"
        ) from None
    rows = [
        [word.strip() for word in line.split(",")] for line in said.splitlines() if line.strip()
    ]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = None if visible is None else [word.strip() for word in visible.split(",")]
    return [
        Card(index, name, int(memory))
        for index, uuid, name, memory in rows
        if wanted is None or index in wanted or any(uuid.startswith(word) for word in wanted)
    ]


def environment(card: Card, beside: int) -> dict[str, str]:
    """The variables of a process that shares `card` with others, `beside` of them in all."""
    return {"CUDA_VISIBLE_DEVICES": card.index} | share_of_memory(beside)


def share_of_memory(beside: int) -> dict[str, str]:
    """The variable by which each of `beside` processes takes no more than its part of a card."""
    return {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{_SHARED / beside:.3f}"}


def start_mps() -> dict[str, str]:
    """Start MPS for this user, where it is installed and not running; returns its variables."""
    if not shutil.which(_CONTROL) or "CUDA_MPS_PIPE_DIRECTORY" in os.environ:
        return {}
    folder = tempfile.mkdtemp(prefix="deepnets-mps-")
    variables = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
    done = subprocess.run(
        [_CONTROL, "-d"], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        print(f"without MPS, which could not be started: {said}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        return {}
    return variables


def stop_mps(variables: dict[str, str]) -> None:
    """End what `start_mps` has started."""
    subprocess.run(
        [_CONTROL],
        input="quit\n",
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(variables["CUDA_MPS_PIPE_DIRECTORY"], ignore_errors=True)
