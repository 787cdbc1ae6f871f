"""When a training and the rest of its grid will be done: durations in, text out.

Nothing here prints, reads a file or looks at the time, and nothing can change what a training
computes. An estimate counts the images that go through training steps, those that are only scored
(validation and test), and the start of each training, whose first step compiles. It knows no
network: what has not been timed on this machine is taken to be as fast as the training at hand.
A variant, whose maps may be four times as large, is a network of its own.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deepnets.base import progress
from deepnets.config.fields import Variant
from deepnets.config.sections import RunParams
from deepnets.records import machine
from deepnets.records.results import TrainingRecord

# Seconds of work in all from which on people plan around it. Below, nothing is said.
LONG = 600.0

# What is measured: at least so many steps, and for at least so many seconds.
STEPS, SECONDS = 5, 2.0

# Of the time that an image takes in a training step, what it takes to score it: the forward pass.
SCORED = 0.4


@dataclass(frozen=True)
class Measured:
    """Seconds of one step (the median), and seconds until the very first one was done."""

    step: float
    start: float


class Meter:
    """Measures a training's steps as they are done, and tells once what it has found.

    A step is done when its loss is known. The first of an epoch is not counted: it may compile.

    Args:
        started: when the training began, in seconds of the clock that `tick` is given.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._start: float | None = None
        self._last: tuple[int, float] | None = None
        self._measured: list[tuple[int, float]] = []  # steps, and the seconds they took
        self._told = False

    def tick(self, step: int, now: float) -> Measured | None:
        """Note that `step` (counted from 1 in each epoch) was done at `now`, in seconds."""
        if self._told:
            return None
        if self._start is None:
            self._start = now - self._started
        if self._last is not None and step > self._last[0]:
            self._measured.append((step - self._last[0], now - self._last[1]))
        self._last = step, now
        steps = sum(steps for steps, _ in self._measured)
        if steps < STEPS or sum(seconds for _, seconds in self._measured) < SECONDS:
            return None
        self._told = True
        each = (seconds / steps for steps, seconds in self._measured)
        return Measured(statistics.median(each), self._start)


@dataclass(frozen=True)
class Plan:
    """What a run is a part of, and how its user changes it.

    `epochs` and `train_images` are the names by which these parameters are set, in `place`. `grid`
    has every row of the study, resolved for each seed; that of a free-form run is empty. `has_tour`
    says whether `make tour` works where the user is.
    """

    epochs: str
    train_images: str
    place: str
    grid: Mapping[str, Sequence[RunParams]] = field(default_factory=dict)
    has_tour: bool = False


@dataclass(frozen=True)
class Situation:
    """A training some steps after its start, and what is known around it.

    `runs` holds its resolved parameters and, after them, those of the seeds that come later; `step`
    steps of `epoch` are done, both counted from 1. `images` says how many the splits train,
    validation and test hold, `trained` which trainings each row of the grid has left behind, and
    `provenance` is that of this training.
    """

    runs: Sequence[RunParams]
    epoch: int
    step: int
    images: Mapping[str, int]
    plan: Plan
    trained: Mapping[str, Sequence[TrainingRecord]]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """Seconds until the run and the grid are done; for a free-form run both are the same.

    `remaining` of the grid's `rows` are still to be done, the run's own among them. `untimed` are
    the networks of these that this machine has not trained yet.
    """

    run: float
    grid: float
    remaining: int = 0
    rows: int = 0
    untimed: Sequence[str] = ()


def lines(situation: Situation, measured: Measured, now: datetime) -> list[str]:
    """What people are told: the pace, the end of the run, that of the grid, how to be done sooner.

    Nothing where all of it takes less than ten minutes. `now` is local time.
    """
    left = estimate(situation, measured)
    if left.grid < LONG:
        return []
    run, milliseconds = situation.runs[0], 1000 * measured.step
    said = [
        f"{milliseconds:.{0 if milliseconds >= 10 else 1}f} ms a step, "
        f"{run.batch_size / measured.step:,.0f} images/s on this machine; "
        f"this run takes about {_describe_end(left.run, now)}"
    ]
    if left.remaining > 1:
        others = f", if {' and '.join(left.untimed)} is as fast" if left.untimed else ""
        said.append(
            f"{left.remaining} of {left.rows} rows of the grid remain, this one included: "
            f"about {_describe_end(left.grid, now)}{others}"
        )
    elif left.rows:
        said.append("no other row of the grid remains")
    shorter = hints(situation)
    if shorter:
        said.append(f"sooner: {', or '.join(shorter)}")
    return [f"clock: {line}" for line in said]


def estimate(situation: Situation, measured: Measured) -> Estimate:
    """How long it takes to do what remains, one training after the other, at the pace measured.

    A row of the grid remains where one of its seeds has no current training; what it may have in
    checkpoints is not known here, and counts as to be done.
    """
    run, *later = situation.runs
    images, plan = situation.images, situation.plan
    measured_pace = measured.step / run.batch_size
    # For its own network, what has just been measured knows best how busy the machine is.
    pace = pace_by_network(situation) | {_network(run): measured_pace}

    def train(params: RunParams, epochs: int) -> float:
        trained = images_per_epoch(params, images["train"]) + SCORED * images["validation"]
        return epochs * trained * pace.get(_network(params), measured_pace)

    def start_and_train(params: RunParams) -> float:
        return measured.start + train(params, params.epochs)

    def test(params: RunParams) -> float:
        return SCORED * images["test"] * pace.get(_network(params), measured_pace)

    done = situation.step * run.batch_size * measured_pace
    own = train(run, run.epochs - situation.epoch + 1) - done + sum(map(start_and_train, later))
    if not plan.grid:
        return Estimate(own, own)
    others = {row for row in plan.grid if row != situation.provenance["run"]}
    pending = {row: seeds for row in others if (seeds := _pending_seeds(row, situation))}
    todo = [params for seeds in pending.values() for params in seeds]
    grid = (
        own
        + sum(map(test, situation.runs))
        + sum(start_and_train(params) + test(params) for params in todo)
    )
    untimed = sorted(set(map(_network, todo)) - set(pace))
    return Estimate(own, grid, 1 + len(pending), len(plan.grid), untimed)


def images_per_epoch(run: RunParams, available: int) -> int:
    """Images in the whole batches of an epoch, of `available` training images."""
    return (run.train_images or available) // run.batch_size * run.batch_size


def is_current(result: TrainingRecord, provenance: Mapping[str, Any]) -> bool:
    """Whether a training that has ended is the one that would be done now.

    Its parameters are those that params.yaml gives it now, and its code and its validation images
    those of `provenance`, that of the training at hand.
    """
    then = result.provenance
    # The code comes first: with this one, the rest of the record has today's form.
    return bool(
        then.get("code") == provenance["code"]
        and then["parameters"] == result.params.flat
        and then["data"]["validation"] == provenance["data"]["validation"]
    )


def pace_by_network(situation: Situation) -> dict[str, float]:
    """Seconds that an image takes in a training step, by network, as far as this machine knows.

    The median of the study's own current trainings with the same batch size, machine, settings and
    libraries. The first epoch, which compiles, counts only where it is all.
    """
    run, now = situation.runs[0], situation.provenance
    known: dict[str, list[float]] = {}
    for result in (record for seeds in situation.trained.values() for record in seeds):
        if (
            is_current(result, now)
            and result.timing
            and result.params.batch_size == run.batch_size
            and _conditions(result.provenance) == _conditions(now)
        ):
            seconds = [row["seconds"] for row in result.timing[1:] or result.timing]
            images = images_per_epoch(result.params, result.provenance["images"]["train"])
            known.setdefault(_network(result.params), []).append(
                statistics.median(seconds) / images
            )
    return {network: statistics.median(each) for network, each in known.items()}


def hints(situation: Situation) -> list[str]:
    """What would make the run shorter, as far as it applies."""
    run, plan = situation.runs[0], situation.plan
    images = images_per_epoch(run, situation.images["train"])
    less = [f"{plan.epochs} ({run.epochs})"] if run.epochs > 1 else []
    if images > run.batch_size:
        less.append(f"{plan.train_images} ({images:,})")
    if len(situation.runs) > 1:
        less.append(f"train.seed ({len(situation.runs)} to go)")
    advice = [f"lower {', '.join(less)} {plan.place}"] if less else []
    if not situation.provenance["environment"]["hardware"]["devices"]:
        advice.append("use a GPU")
    if plan.has_tour:
        advice.append("see `make tour` (10 minutes)")
    return advice


def date(when: datetime, now: datetime) -> str:
    """A time for people: `Tue 24 Nov, 07:40`; the year only where it is another one than now."""
    year = f" {when.year}" if when.year != now.year else ""
    return f"{when:%a} {when.day} {when:%b}{year}, {when:%H:%M}"


def _pending_seeds(name: str, situation: Situation) -> list[RunParams]:
    """The seeds of a row that have no current training."""
    done = {
        result.seed
        for result in situation.trained[name]
        if is_current(result, situation.provenance)
    }
    return [run for run in situation.plan.grid[name] if run.seed not in done]


def _network(run: RunParams) -> str:
    """The network of `run` in words: its arch, and what it has built otherwise."""
    fields = Variant.model_fields.items()
    own = {key: getattr(run, key) for key, field in fields if getattr(run, key) != field.default}
    own.pop("input_range", None)  # the same arithmetic
    return " ".join([run.arch, *(f"{key} {value}" for key, value in own.items())])


def _conditions(provenance: Mapping[str, Any]) -> Any:
    """What a training's pace depends on beside its parameters and its code."""
    environment = provenance["environment"]
    hardware = environment["hardware"]
    computes = [machine.processor(hardware), hardware["cores"], hardware["devices"]]
    return computes, environment["settings"], provenance["libraries"]


def _describe_end(seconds: float, now: datetime) -> str:
    # By way of the timestamp, so that a change of the local time on the way is counted.
    end = datetime.fromtimestamp(now.timestamp() + seconds)
    return f"{progress.duration(seconds)}, until {date(end, now)}"
