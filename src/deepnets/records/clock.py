"""When a training and the rest of its grid will be done: durations in, text out.

Nothing here prints, reads a file or looks at the time, and nothing can change what a training
computes. An estimate counts the images that go through training steps, those that are only scored
(validation and test), and the start of each training, whose first step compiles.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deepnets.base import progress
from deepnets.config.params import Arch, RunParams
from deepnets.records.results import Result

# Seconds of work in all from which on people plan around it. Below, nothing is said.
LONG = 600.0

# What is measured: at least so many steps, and for at least so many seconds.
STEPS, SECONDS = 5, 2.0


@dataclass(frozen=True)
class Pace:
    """Seconds that one image takes: `trained` in a training step, `scored` in a forward pass."""

    trained: float
    scored: float


# Paces as multiples of VGG-16's training step, for what this machine has not done yet. Medians at
# 32x32 pixels and batches of 32 (scoring: 256) on two cores of a Xeon with AVX-512: VGG-16 10.4 and
# 4.1 ms an image, ResNet50 5.3 (SGD) to 6.4 (Adam) and 1.9.
_RELATIVE: dict[Arch, Pace] = {"vgg16": Pace(1.0, 0.4), "resnet50": Pace(0.56, 0.18)}


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
    trained: Mapping[str, Sequence[Result]]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """Seconds until the run and the grid are done; for a free-form run both are the same.

    `remaining` of the grid's `rows` are still to be done, the run's own among them.
    """

    run: float
    grid: float
    remaining: int
    rows: int


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
        f"this run takes about {_until(left.run, now)}"
    ]
    if left.remaining > 1:
        said.append(
            f"{left.remaining} of {left.rows} rows of the grid remain, this one included: "
            f"about {_until(left.grid, now)}"
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
    pace = paces(situation, measured.step)

    def train(of: RunParams, epochs: int) -> float:
        trained = images_per_epoch(of, images["train"]) * pace[of.arch].trained
        return epochs * (trained + images["validation"] * pace[of.arch].scored)

    def whole(of: RunParams) -> float:
        return measured.start + train(of, of.epochs)

    def test(of: RunParams) -> float:
        return images["test"] * pace[of.arch].scored

    done = situation.step * run.batch_size * pace[run.arch].trained
    own = train(run, run.epochs - situation.epoch + 1) - done + sum(map(whole, later))
    if not plan.grid:
        return Estimate(own, own, 0, 0)
    name = situation.provenance["run"]
    others = {row: _pending(row, situation) for row in plan.grid if row != name}
    pending = [of for seeds in others.values() for of in seeds]
    grid = own + sum(map(test, situation.runs)) + sum(whole(of) + test(of) for of in pending)
    remaining = 1 + sum(bool(seeds) for seeds in others.values())
    return Estimate(own, grid, remaining, len(plan.grid))


def images_per_epoch(run: RunParams, available: int) -> int:
    """Images in the whole batches of an epoch, of `available` training images."""
    return (run.train_images or available) // run.batch_size * run.batch_size


def is_current(result: Result, provenance: Mapping[str, Any]) -> bool:
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


def paces(situation: Situation, step: float) -> dict[Arch, Pace]:
    """The pace of each network on this machine, where a step of the run's own takes `step` seconds.

    That of another network is the median of the study's own current trainings with the same batch
    size, machine, settings and libraries; where there are none, it is a constant multiple of what
    was measured (`_RELATIVE`).
    """
    run, now = situation.runs[0], situation.provenance
    measured = step / run.batch_size
    unit = measured / _RELATIVE[run.arch].trained
    known = {arch: Pace(unit * of.trained, unit * of.scored) for arch, of in _RELATIVE.items()}
    finished = [
        result
        for seeds in situation.trained.values()
        for result in seeds
        if is_current(result, now)
        and result.timing
        and result.params.batch_size == run.batch_size
        and _conditions(result.provenance) == _conditions(now)
    ]
    for arch in known:
        same = [_pace(result) for result in finished if result.params.arch == arch]
        if same:
            trained = statistics.median(of.trained for of in same)
            known[arch] = Pace(trained, statistics.median(of.scored for of in same))
    # For its own network, what has just been measured knows best how busy the machine is.
    return known | {run.arch: Pace(measured, known[run.arch].scored)}


def hints(situation: Situation) -> list[str]:
    """What would make the run shorter, as far as it applies."""
    run, plan = situation.runs[0], situation.plan
    images = images_per_epoch(run, situation.images["train"])
    less = [f"{plan.epochs} ({run.epochs})"] if run.epochs > 1 else []
    if images > run.batch_size:
        less.append(f"{plan.train_images} ({images:,})")
    if len(situation.runs) > 1:
        less.append(f"train.seed ({len(situation.runs)} to go)")
    found = [f"lower {', '.join(less)} {plan.place}"] if less else []
    if not situation.provenance["environment"]["hardware"]["devices"]:
        found.append("use a GPU")
    if plan.has_tour:
        found.append("see `make tour` (10 minutes)")
    return found


def date(when: datetime, now: datetime) -> str:
    """A time for people: `Tue 24 Nov, 07:40`; the year only where it is another one than now."""
    year = f" {when.year}" if when.year != now.year else ""
    return f"{when:%a} {when.day} {when:%b}{year}, {when:%H:%M}"


def _pending(name: str, situation: Situation) -> list[RunParams]:
    """The seeds of a row that have no current training."""
    done = {
        result.seed
        for result in situation.trained[name]
        if is_current(result, situation.provenance)
    }
    return [run for run in situation.plan.grid[name] if run.seed not in done]


def _pace(result: Result) -> Pace:
    """The pace of a finished training; its first epoch, which compiles, only where it is all."""
    epochs, images = result.timing[1:] or result.timing, result.provenance["images"]
    return Pace(
        statistics.median(row["seconds"] for row in epochs)
        / images_per_epoch(result.params, images["train"]),
        statistics.median(row["validation_seconds"] for row in epochs) / images["validation"],
    )


def _conditions(provenance: Mapping[str, Any]) -> Any:
    """What a training's pace depends on beside its parameters and its code."""
    environment = provenance["environment"]
    machine = [environment["hardware"][key] for key in ("cpu", "cores", "devices")]
    return machine, environment["settings"], provenance["libraries"]


def _until(seconds: float, now: datetime) -> str:
    # By way of the timestamp, so that a change of the local time on the way is counted.
    end = datetime.fromtimestamp(now.timestamp() + seconds)
    return f"{progress.duration(seconds)}, until {date(end, now)}"
