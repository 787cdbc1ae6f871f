"""NVIDIA's GPUs of this machine, and the control program that has processes share one: MPS."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

from deepnets.base.errors import UserError

# What a training of the study is reckoned with of a GPU's memory, with what the library of
# convolutions works in. ResNet50 took up to 2,700 MiB of an H200, VGG-16 up to 1,700.
TRAINING_MIB = 4096

# Of a card's memory, what all trainings on it share.
_SHARED = 0.9

_CONTROL = "nvidia-cuda-mps-control"

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Card:
    """One GPU, with its memory in MiB, 0 where that is not known; `word` names it in `VISIBLE`."""

    index: str
    uuid: str
    name: str
    memory: int
    word: str

    @property
    def trainings(self) -> int:
        """How many its memory carries."""
        return max(1, int(self.memory * _SHARED) // TRAINING_MIB)


def cards() -> list[Card]:
    """The GPUs that this process may use, as `nvidia-smi` names them, in the order of `VISIBLE`.

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
            f"{VISIBLE}= to train without them"
        ) from None
    rows = [
        [word.strip() for word in line.split(",")] for line in said.splitlines() if line.strip()
    ]
    there = [
        # Of a card that shares the host's memory it says [N/A].
        Card(index, uuid, name, int(memory) if memory.isdecimal() else 0, word=index)
        for index, uuid, name, memory in rows
    ]
    visible = os.environ.get(VISIBLE)
    return there if visible is None else _visible_cards(visible, there)


def _visible_cards(visible: str, there: Sequence[Card]) -> list[Card]:
    """Those that `visible` names by their numbers or the beginnings of their UUIDs, as CUDA does.

    What names none, or not one alone, hides all after it: `-1`, and what SLURM sets for none.
    """
    named: list[Card] = []
    for word in map(str.strip, visible.split(",")):
        meant = [
            card for card in there if card.index == word or (word and card.uuid.startswith(word))
        ]
        if len(meant) != 1 or any(meant[0].uuid == card.uuid for card in named):
            break
        named.append(replace(meant[0], word=word))
    return named


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
