"""This machine: trainings as processes of their own, on its cores or its GPUs."""

import os
import signal
import subprocess
import sys

import psutil

from deepnets.base import lifeline
from deepnets.base.errors import UserError
from deepnets.config.params import Params
from deepnets.grid import gpus, training
from deepnets.grid.due import Training
from deepnets.grid.places import End
from deepnets.grid.training import Progress
from deepnets.networks import runtime

# What a training is reckoned with: its data, the libraries, and several times the weights.
CPU_TRAINING_BYTES = int(2.5 * 2**30)

# Seconds that a process is given to end after Ctrl-C: it waits for what it is writing.
_PATIENCE = 30.0


class Local:
    """The cores of this machine, or its GPUs where trainings use them.

    Args:
        study: the one at hand.
        jobs: how many trainings at a time; None for as many as gains something.
        due: how many there are to do.
    """

    def __init__(self, study: Params, jobs: int | None, due: int) -> None:
        self._study = study
        self._cards = gpus.cards() if runtime.has_gpu_for_jax() else []
        most = self._most()
        self._jobs = max(1, min(jobs or most, due))
        self._free = list(range(self._jobs))
        self._mps: dict[str, str] = gpus.start_mps() if self._cards and self._jobs > 1 else {}

    def _most(self) -> int:
        """How many trainings at a time gain something here.

        A core each: waking others for every small operation takes longer than it saves (see
        `runtime`), and on a GPU each keeps about a core busy.
        """
        if self._cards:
            return min(runtime.cores(), sum(card.trainings for card in self._cards))
        memory = psutil.virtual_memory().available
        return max(1, min(runtime.cores(), memory // CPU_TRAINING_BYTES))

    def describe(self) -> str:
        each = f"{self._jobs} at a time" if self._jobs > 1 else "one at a time"
        if self._cards:
            cards = f"{len(self._cards)} GPUs" if len(self._cards) > 1 else self._cards[0].name
            return f"{each} on {cards}" + (", under NVIDIA's MPS" if self._mps else "")
        cores = max(1, runtime.cores() // self._jobs)
        return f"{each}, {cores} core{'s' if cores > 1 else ''} each"

    def capacity(self) -> int:
        return self._jobs

    def start(self, training: Training) -> "Process":
        slot = self._free.pop(0)
        return Process(
            self._study, training, self._environment(slot), self._place(slot), self, slot
        )

    def free(self, slot: int) -> None:
        """Take a place back."""
        self._free.append(slot)

    def close(self) -> None:
        if self._mps:
            gpus.stop_mps(self._mps)

    def _place(self, slot: int) -> str:
        if len(self._cards) > 1:
            return f"GPU {self._cards[slot % len(self._cards)].index}"
        return "GPU" if self._cards else "this machine"

    def _environment(self, slot: int) -> dict[str, str]:
        """What the process in a place is given, of which variables that the user has set win."""
        if self._jobs == 1:
            return {}
        if self._cards:
            card = self._cards[slot % len(self._cards)]
            beside = -(-self._jobs // len(self._cards))
            chosen = gpus.environment(card, beside) | self._mps
        else:
            chosen = {runtime.CORES: str(max(1, runtime.cores() // self._jobs))}
        chosen = {key: value for key, value in chosen.items() if key not in os.environ}
        return chosen | {runtime.SET_BY_GRID: ",".join(chosen)}


class Process:
    """A training in a process of its own, which writes to its log."""

    def __init__(
        self,
        study: Params,
        training_: Training,
        environment: dict[str, str],
        place: str,
        places: Local,
        slot: int,
    ) -> None:
        self.training, self.place = training_, place
        self._places, self._slot = places, slot
        self._paths = training.files_of(study, training_.name, training_.seed)
        self._process = self._start(environment)
        self._ended: End | None = None

    def _start(self, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        """Start the process; all that it says goes to the end of its log."""
        log = training.log_of(self._paths)
        log.parent.mkdir(parents=True, exist_ok=True)
        training.progress_of(self._paths).unlink(missing_ok=True)
        command = ["-m", "deepnets", "training", self.training.name, str(self.training.seed)]
        try:
            with log.open("ab") as output:
                # Ctrl-C reaches what stops it, and that stops it.
                return subprocess.Popen(
                    [sys.executable, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=os.environ | lifeline.environment() | environment,
                    start_new_session=True,
                )
        except BlockingIOError:
            raise UserError(
                f"{self.training} could not be started, there are too many processes: give a "
                "smaller --jobs"
            ) from None

    def end(self) -> End | None:
        status = self._process.poll()
        if status is not None and self._ended is None:
            self._ended = End(status != 0, training.last_words(self._paths, status))
            self._places.free(self._slot)
        return self._ended

    def progress(self) -> Progress | None:
        return training.read_progress(self._paths)

    def interrupt(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def stop(self) -> None:
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:  # it does not listen
            self._process.kill()
            self._process.wait()
        self.end()
