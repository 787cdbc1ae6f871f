"""What a person sees of many trainings: a live table, or now and then a line in a log."""

import sys
import time
from collections.abc import Callable
from typing import Any

from deepnets.base import progress
from deepnets.grid.due import Training
from deepnets.grid.places import End, Running
from deepnets.grid.schedule import Schedule, Watcher
from deepnets.grid.training import Progress

# Seconds between two lines on each training where the output is no terminal.
_LOG_INTERVAL = 60.0

# Rows of the live table; of more trainings the rest is counted.
_SHOWN = 30

_COLUMNS = ("training", "place", "epoch", "val_accuracy", "images/s", "left")


class Table(Watcher):
    """Shows a schedule.

    Args:
        outcome: what a training has come to, in words.
        live: whether to draw a table; None for where standard output is a terminal.
    """

    def __init__(self, outcome: Callable[[Training], str], live: bool | None = None) -> None:
        self._outcome = outcome
        self._live: Any = None
        self._logged: dict[Training, float] = {}
        if sys.stdout.isatty() if live is None else live:
            from rich.live import Live

            self._live = Live(refresh_per_second=4, transient=True)
            self._live.start()

    def say(self, line: str) -> None:
        """Print a line, above the table where there is one."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def on_start(self, running: Running) -> None:
        self._logged[running.training] = time.monotonic()
        if self._live is None:
            self.say(f"{running.training}: started on {running.place}")

    def on_end(self, running: Running, end: End) -> None:
        said = f"failed: {end.why}" if end.failed else self._outcome(running.training)
        self.say(f"{running.training}: {said}")

    def on_look(self, schedule: Schedule) -> None:
        if self._live is not None:
            self._live.update(self._draw(schedule))
            return
        for running in schedule.running:
            if time.monotonic() - self._logged[running.training] >= _LOG_INTERVAL:
                self._logged[running.training] = time.monotonic()
                state, *cells = _cells(running.progress())
                named = zip(_COLUMNS[2:], cells, strict=True)
                said = ", ".join(f"{column} {cell}" for column, cell in named if cell)
                said = ", ".join(filter(None, [state, said]))
                self.say(f"{running.training}: {said} ({_describe_progress(schedule)})")

    def close(self) -> None:
        """Take the table away."""
        if self._live is not None:
            self._live.stop()

    def _draw(self, schedule: Schedule) -> Any:
        from rich.table import Table as Drawn

        table = Drawn(caption=_describe_progress(schedule), caption_justify="left")
        for number, column in enumerate(_COLUMNS):
            table.add_column(column, justify="left" if number < 2 else "right", no_wrap=number > 1)
        for running in schedule.running[:_SHOWN]:
            state, *cells = _cells(running.progress())
            place = ", ".join(filter(None, [running.place, state]))
            table.add_row(str(running.training), place, *cells)
        more = len(schedule.running) - _SHOWN
        if more > 0:
            table.add_row(f"and {more} more")
        return table


def _cells(known: Progress | None) -> list[str]:
    """State, epoch, val_accuracy, images per second and what is left, as far as they are known."""
    if known is None or not known["epoch"]:
        return ["starting", "", "", "", ""]
    at = f"{known['epoch']}/{known['epochs']}"
    if known["state"] == "training":
        at += f" {known['done']:4.0%}"
    accuracy, speed = known.get("val_accuracy"), known.get("images_per_second")
    left = known.get("seconds_left")
    return [
        "" if known["state"] == "training" else known["state"],
        at,
        "" if accuracy is None else f"{accuracy:.4f}",
        "" if speed is None else f"{speed:,.0f}",
        progress.duration(left) if left else "",
    ]


def _describe_progress(schedule: Schedule) -> str:
    """`5 of 12 trainings done, 1 failed, about 20 min left`."""
    done = len(schedule.ended) - len(schedule.failed)
    failed = f", {len(schedule.failed)} failed" if schedule.failed else ""
    left = seconds_left(schedule)
    about = f", about {progress.duration(left)} left" if left else ""
    return f"{done} of {schedule.count} trainings done{failed}{about}"


def seconds_left(schedule: Schedule) -> float | None:
    """When all will be done, at the speed of what runs; None where nothing is known yet.

    A training that waits, and of whose network none runs, is taken to be as fast as the slowest.
    """
    known = [
        (running.training, state)
        for running in schedule.running
        if (state := running.progress()) and state.get("seconds_left") is not None
    ]
    if not known:
        return None
    whole: dict[str, float] = {}
    for training, state in known:
        behind = (state["epoch"] - 1 + state["done"]) / state["epochs"]
        if behind < 1:
            estimate = state["seconds_left"] / (1 - behind) / training.run.epochs
            arch = training.run.arch
            whole[arch] = max(whole.get(arch, 0.0), estimate)
    running = [state["seconds_left"] for _, state in known]
    slowest = max(whole.values(), default=0.0)
    waiting = [whole.get(t.run.arch, slowest) * t.run.epochs for t in schedule.waiting]
    places = max(1, len(schedule.running))
    return max((sum(running) + sum(waiting)) / places, *running)
