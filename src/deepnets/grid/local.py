"""This machine: trainings in processes of their own, on its cores or its GPUs.

A process does one training after another, all of one row, whose programs it has compiled once.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from deepnets.base import lifeline, project
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
        most = self._useful_jobs()
        self._jobs = max(1, min(jobs or most, due))
        self._free = list(range(self._jobs))
        # They wait for another training of their row, or are about to end.
        self._idle: list[Process] = []
        self._leaving: list[Process] = []
        self._mps: dict[str, str] = gpus.start_mps() if self._cards and self._jobs > 1 else {}

    def _useful_jobs(self) -> int:
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

    def start(self, waiting: list[Training]) -> "Started":
        """See `Places`: of a row that a process is there for, else the first."""
        for ended in [process for process in self._idle if process.status() is not None]:
            self._idle.remove(ended)
            self._free.append(ended.slot)
        due = next((t for t in waiting if any(p.name == t.name for p in self._idle)), waiting[0])
        waiting.remove(due)
        paths = training.files_of(self._study, due.name, due.seed)
        process = next((p for p in self._idle if p.name == due.name), None)
        if process is not None:
            self._idle.remove(process)
        else:
            # Nothing waits for those that are idle.
            for other in self._idle:
                other.leave()
                self._free.append(other.slot)
            self._leaving += self._idle
            self._idle.clear()
        return Started(self, process, due, paths)

    def process(self, due: Training, paths: project.RunFiles, slot: int | None = None) -> "Process":
        """A new one for `due`, in a place that is free, or in `slot`, whose process has ended."""
        slot = self._free.pop(0) if slot is None else slot
        environment, place = self._environment(slot), self._place(slot)
        return Process(due, slot, training.log_of(paths), environment, place)

    def take_back(self, process: "Process") -> None:
        """Take a process back."""
        if process.status() is None:
            self._idle.append(process)
        else:
            self._free.append(process.slot)

    def close(self) -> None:
        for process in self._idle:
            process.leave()
        for process in self._idle + self._leaving:
            process.wait()
        if self._mps:
            gpus.stop_mps(self._mps)

    def _place(self, slot: int) -> str:
        if len(self._cards) > 1:
            return f"GPU {self._cards[slot % len(self._cards)].index}"
        return "GPU" if self._cards else "this machine"

    def _environment(self, slot: int) -> dict[str, str]:
        """What the process in a place is given.

        Its cores or its card are a share of what the user has left to the grid by the same
        variable; of all others those that the user has set win.
        """
        if self._jobs == 1:
            return {}
        if self._cards:
            turn = slot % len(self._cards)
            # MPS counts anew those that it was started with.
            share = {gpus.VISIBLE: str(turn) if self._mps else self._cards[turn].word}
            beside = -(-self._jobs // len(self._cards))
            others = gpus.share_of_memory(beside) | self._mps
        else:
            share = {runtime.CORES: str(max(1, runtime.cores() // self._jobs))}
            others = {}
        chosen = share | {key: value for key, value in others.items() if key not in os.environ}
        return chosen | {runtime.SET_BY_GRID: ",".join(chosen)}


class Process:
    """A process for trainings of the row of `due`, its first, one at a time.

    Args:
        due: its first training.
        slot: the place that it has.
        log: where it writes to until it knows better.
        environment: variables of its own.
        place: what its place is called.
    """

    def __init__(
        self, due: Training, slot: int, log: Path, environment: dict[str, str], place: str
    ) -> None:
        self.name, self.slot, self.place = due.name, slot, place
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("ab") as output:
                # Ctrl-C reaches what stops it, and that stops it.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "deepnets", "training", due.name],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=os.environ | lifeline.environment() | environment,
                    start_new_session=True,
                )
        except BlockingIOError:
            raise UserError(
                f"{due} could not be started, there are too many processes: give a smaller --jobs"
            ) from None

    def train(self, seed: int) -> None:
        """Have it do the training with `seed`, when it is done with the one before."""
        assert self._process.stdin
        with suppress(BrokenPipeError):  # where it has ended, its status says so
            self._process.stdin.write(b"%d\n" % seed)
            self._process.stdin.flush()

    def status(self) -> int | None:
        """The exit status; None while it is there."""
        return self._process.poll()

    def interrupt(self) -> None:
        if self.status() is None:
            self._process.send_signal(signal.SIGINT)

    def leave(self) -> None:
        """Have it end when it has nothing to do."""
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self) -> None:
        """Return when it has ended, which it was asked for before."""
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:  # it does not listen
            self._process.kill()
            self._process.wait()


class Started:
    """A training that a process is at, which goes back to `places` afterwards.

    `process` is one that has done another; None for a new one.
    """

    def __init__(
        self, places: Local, process: Process | None, due: Training, paths: project.RunFiles
    ) -> None:
        self._may_have_left = process is not None
        self._process = process or places.process(due, paths)
        self.training, self.place = due, self._process.place
        self._places, self._paths = places, paths
        self._ended: End | None = None
        training.progress_of(paths).unlink(missing_ok=True)
        log = training.log_of(paths)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        self._process.train(due.seed)

    def end(self) -> End | None:
        if self._ended is None:
            status = self._process.status()
            known = self.progress()
            if known and known["state"] == "done":
                self._ended = End(False)
            elif status is not None and known is None and self._may_have_left:
                # It ended after the training before, and has not begun with this one.
                self._may_have_left = False
                self._process = self._places.process(self.training, self._paths, self._process.slot)
                self._process.train(self.training.seed)
            elif status is not None:
                self._ended = End(True, training.last_words(self._paths, status))
            if self._ended:
                self._places.take_back(self._process)
        return self._ended

    def progress(self) -> Progress | None:
        return training.read_progress(self._paths)

    def interrupt(self) -> None:
        self._may_have_left = False  # no new process for what is to stop
        self._process.interrupt()

    def stop(self) -> None:
        self._process.wait()
        self.end()
