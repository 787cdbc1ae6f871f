"""Where trainings can run: what every kind of place does for the schedule."""

from dataclasses import dataclass
from typing import Protocol

from deepnets.grid.due import Training
from deepnets.grid.training import Progress


@dataclass(frozen=True)
class End:
    """How a training's process ended; `why` is the last that it said, where it failed."""

    failed: bool
    why: str = ""


class Running(Protocol):
    """A training that has been started somewhere."""

    training: Training
    place: str

    def end(self) -> End | None:
        """How it ended; None while it runs. What it has come to is then in its folder."""

    def progress(self) -> Progress | None:
        """How far it is, as far as that is known."""

    def interrupt(self) -> None:
        """Have it stop soon; it loses at most the epoch at hand."""

    def stop(self) -> None:
        """Return when it has stopped, which it was asked for before."""


class Places(Protocol):
    """All that trainings can run on."""

    def describe(self) -> str:
        """What they are, in a line."""

    def capacity(self) -> int:
        """How many trainings they carry at once; it may change."""

    def start(self, waiting: list[Training]) -> Running:
        """Take one of `waiting` out, the first as a rule, and start it; there is room for it."""

    def close(self) -> None:
        """Give back what was taken."""
