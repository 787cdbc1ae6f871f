"""Runs many trainings, as many at a time as there are places for, and says how far they are."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from deepnets.grid.due import Training
from deepnets.grid.places import End, Places, Running

# Seconds between two looks at what runs.
_INTERVAL = 0.2


@dataclass
class Schedule:
    """What is waiting, what runs, and how the others have ended, in the order of their ends."""

    waiting: list[Training]
    running: list[Running] = field(default_factory=list)
    ended: list[tuple[Training, End]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.waiting) + len(self.running) + len(self.ended)

    @property
    def failed(self) -> list[tuple[Training, End]]:
        return [(training, end) for training, end in self.ended if end.failed]


class Watcher:
    """Hears what the schedule does."""

    def on_start(self, running: Running) -> None:
        """A training was started."""

    def on_end(self, running: Running, end: End) -> None:
        """A training has ended."""

    def on_look(self, schedule: Schedule) -> None:
        """Some time has passed."""


def run(
    trainings: Sequence[Training],
    places: Places,
    watcher: Watcher,
    on_row: Callable[[str], None],
) -> Schedule:
    """Run `trainings`, in their order as places become free; those that fail stop no others.

    Args:
        trainings: what is due.
        places: where they run.
        watcher: hears of it.
        on_row: called with the name of each row of which all trainings have ended well.

    Raises:
        KeyboardInterrupt: after everything has been stopped.
    """
    schedule = Schedule(list(trainings))
    left = {name: [t for t in trainings if t.name == name] for name in {t.name for t in trainings}}
    try:
        while schedule.waiting or schedule.running:
            ended = [(running, end) for running in schedule.running if (end := running.end())]
            for running, end in ended:
                schedule.running.remove(running)
                schedule.ended.append((running.training, end))
                watcher.on_end(running, end)
            while schedule.waiting and len(schedule.running) < places.capacity():
                running = places.start(schedule.waiting)
                schedule.running.append(running)
                watcher.on_start(running)
            # What a row comes to is written while the next trainings run already.
            for running, end in ended:
                name = running.training.name
                if not end.failed:
                    left[name].remove(running.training)
                    if not left[name]:
                        on_row(name)
            watcher.on_look(schedule)
            if schedule.running:
                time.sleep(_INTERVAL)
    except BaseException:
        for running in schedule.running:
            running.interrupt()
        for running in schedule.running:
            running.stop()
        raise
    return schedule
