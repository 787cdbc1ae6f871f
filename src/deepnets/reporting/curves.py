"""Trainings by epoch: learning curves of rows, of seeds, and of two runs beside each other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator
from numpy.typing import NDArray

from deepnets.base import colours
from deepnets.reporting import drawing, matrices

# What a failed training ends with, in black.
OUTCOME_MARKERS = {"collapsed": "v", "diverged": "x"}

# Runs of one panel that agree in optimizer and weights differ in how their markers are filled.
_FILLS = ("full", "none", "left", "top")

_ACCURACY = ("val_accuracy", "accuracy")

_LOSS = ("val_loss", "loss")

_ROWS = {
    "validation accuracy": ("val_accuracy",),
    "training accuracy": ("accuracy",),
    "validation loss": ("val_loss",),
    "training loss": ("loss",),
}

# Only a mark tells them apart after one epoch.
_VALIDATION: dict[str, Any] = {"markersize": 4.5}

_TRAINING: dict[str, Any] = {"markersize": 2.5, "dashes": (3, 1.5)}

# Its curves are thin and behind ours; those of one panel differ in how they are broken.
_STUDY_LINE: dict[str, Any] = {"color": "black", "linewidth": 0.8, "zorder": 1.9}

_STUDY_DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))

# Two runs beside each other, whatever they are.
_PAIR = (colours.BLUE, colours.VERMILION)

# Of validation, from chance up.
_LEVELS = (0.1, 0.5, 0.9, 0.97, 0.99)


@dataclass(frozen=True)
class SeedCurve:
    """One seed's rows (epoch, loss, accuracy, val_loss, val_accuracy) and how it ended.

    `outcome` is completed, collapsed or diverged; a training that diverged in its first epoch
    has no rows.
    """

    rows: Sequence[Mapping[str, float]]
    outcome: str = "completed"


def learning_curves(
    panels: Mapping[str, Mapping[drawing.Run, Sequence[SeedCurve]]],
    stem: Path,
    study: Mapping[str, Mapping[str, SeedCurve]] | None = None,
) -> None:
    """Accuracy and loss by epoch, one column a panel, all in the same range.

    The thick line of a run is the mean of its completed trainings, the thin ones are its seeds.
    One that collapsed or diverged is left out of the mean and marked where it ends. Validation
    (solid) and training (dashed) share an axis where no panel holds more than two runs. The study's
    own are thin black lines behind ours.

    Args:
        panels: heading -> run -> its trainings, one a seed.
        stem: see `drawing.save`.
        study: heading -> what it is called -> a training of the study.
    """
    study = study or {}
    crowded = bool(study) or max(len(runs) for runs in panels.values()) > 2
    rows = _ROWS if crowded else {"accuracy": _ACCURACY, "loss": _LOSS}
    figure, axes = plt.subplots(
        len(rows),
        len(panels),
        layout="constrained",
        figsize=(
            drawing.WIDTH if len(panels) > 1 else 0.7 * drawing.WIDTH,
            9.2 if study else 8.6 if crowded else 5.6,
        ),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for column, (title, runs) in zip(axes.T, panels.items(), strict=True):
        handles = []
        alike: Counter[tuple[str, str]] = Counter()
        for run, trainings in runs.items():
            fill = _FILLS[alike[run.optimizer, run.weights] % len(_FILLS)]
            alike[run.optimizer, run.weights] += 1
            style = run.style | {"fillstyle": fill}
            for axis, keys in zip(column, rows.values(), strict=True):
                for key in keys:
                    _draw_trainings(axis, key, trainings, style)
            handles.append(Line2D([], [], label=_run_label(run.name, trainings), **style))
        handles += _draw_study(column, study.get(title, {}))
        column[0].set_title(title)
        column[-1].set_xlabel("epoch")
        column[-1].legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.22))
    everything = [trainings for runs in panels.values() for trainings in runs.values()]
    every = [training for trainings in everything for training in trainings]
    every += [training for curves in study.values() for training in curves.values()]
    values = {
        keys: [row[key] for training in every for row in training.rows for key in keys]
        for keys in (_ACCURACY, _LOSS)
    }
    for axis, (name, keys) in zip(axes[:, 0], rows.items(), strict=True):
        axis.set_ylabel(name)
        if keys[0] in _ACCURACY:
            drawing.accuracy_scale(axis, "y", values[_ACCURACY])
        else:
            _loss_scale(axis, values[_LOSS])
    _epoch_scale(axes[0, 0], every)
    figure.align_ylabels()
    _key(figure, everything)
    drawing.save(figure, stem)


def seed_curves(rows: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], stem: Path) -> None:
    """Validation accuracy by epoch, a panel a row, each seed a line.

    Args:
        rows: name -> its histories, one a seed.
        stem: see `drawing.save`.
    """
    columns = 4
    lines = -(-len(rows) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        layout="constrained",
        figsize=(drawing.WIDTH, 1.35 * lines + 0.5),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis in axes.flat[len(rows) :]:
        axis.axis("off")
    for place, (axis, (name, histories)) in enumerate(zip(axes.flat, rows.items(), strict=False)):
        for history in histories:
            epochs = [row["epoch"] for row in history]
            values = [row["val_accuracy"] for row in history]
            axis.plot(epochs, values, marker=".", linewidth=0.8, alpha=0.7, color=colours.BLUE)
        axis.set_title(name, fontsize=drawing.SMALL)
        # 0.97 and 0.98 differ as visibly as 0.3 and 0.4.
        axis.set_yscale("logit", nonpositive="clip")
        axis.set_ylim(_LEVELS[0] / 2, 1 - (1 - _LEVELS[-1]) / 2)
        drawing.ticks(axis.yaxis, FixedLocator(_LEVELS))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.tick_params(labelbottom=place + columns >= len(rows))
        if place + columns >= len(rows):
            axis.set_xlabel("epoch")
    figure.supylabel("validation accuracy", fontsize=8)
    drawing.save(figure, stem)


def two_runs(
    runs: Mapping[str, SeedCurve],
    predicted: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    stem: Path,
) -> None:
    """Accuracy and loss of two trainings by epoch, and the test digits that they disagree on.

    Args:
        runs: name -> training, the two of them.
        predicted: the digits (n,) that each sees on the test images that they disagree on; None
            where that is not known, which leaves the panel out.
        stem: see `drawing.save`.
    """
    count = 2 if predicted is None else 3
    figure, axes = plt.subplots(
        1,
        count,
        layout="constrained",
        figsize=(drawing.WIDTH, 3.0),
        width_ratios=[1, 1, 1.1][:count],
    )
    for (name, training), colour, marker in zip(runs.items(), _PAIR, "os", strict=True):
        style = {"color": colour, "marker": marker}
        for axis, keys in zip(axes, (_ACCURACY, _LOSS), strict=False):
            for key in keys:
                _draw_trainings(axis, key, [training], style)
        axes[0].plot([], [], label=name, **style)
    rows = [row for training in runs.values() for row in training.rows]
    drawing.accuracy_scale(axes[0], "y", [row[key] for row in rows for key in _ACCURACY])
    _loss_scale(axes[1], [row[key] for row in rows for key in _LOSS])
    for axis, name in zip(axes, ("accuracy", "loss"), strict=False):
        axis.set_title(name)
        axis.set_xlabel("epoch")
        _epoch_scale(axis, list(runs.values()))
    if predicted is not None:
        matrices.draw_disagreement(axes[2], list(runs), *predicted)
    _key(figure, [[training] for training in runs.values()])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    drawing.save(figure, stem)


def _draw_trainings(
    axis: Axes, key: str, trainings: Sequence[SeedCurve], style: Mapping[str, Any]
) -> None:
    line = _VALIDATION if key.startswith("val_") else _TRAINING
    completed = [training for training in trainings if training.outcome == "completed"]
    failed = [training for training in trainings if training.outcome != "completed"]
    for training in completed if len(completed) > 1 else []:
        thin = {"color": style["color"], "linewidth": 0.5, "alpha": 0.6}
        axis.plot(*_mean([training], key), **line | thin)
    for group, width in [(completed, 1.4), *(([training], 0.7) for training in failed)]:
        epochs, mean = _mean(group, key)
        # A mark an epoch, or one each tenth of the picture.
        every = 1 if len(epochs) <= 5 else 0.1
        axis.plot(epochs, mean, linewidth=width, markevery=every, **style, **line)
    for training in failed:
        end: dict[str, Any] = {"marker": OUTCOME_MARKERS[training.outcome], "color": "black"}
        if training.rows:
            place = training.rows[-1]["epoch"], training.rows[-1][key]
        else:
            place = 1, 0  # at the foot of the axis
            end["transform"] = axis.get_xaxis_transform()
        axis.plot(*place, zorder=4, clip_on=False, **end)


def _draw_study(column: Sequence[Axes], curves: Mapping[str, SeedCurve]) -> list[Line2D]:
    """Draw the study's own trainings; returns what the legend says of them."""
    handles = []
    for place, (name, training) in enumerate(curves.items()):
        style = _STUDY_LINE | {"linestyle": _STUDY_DASHES[place % len(_STUDY_DASHES)]}
        for axis, keys in zip(column, _ROWS.values(), strict=True):
            for key in keys:
                axis.plot(*_mean([training], key), **style)
        handles.append(Line2D([], [], label=name, **style))
    return handles


def _mean(
    trainings: Sequence[SeedCurve], key: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Epochs that all trainings have rows of, and the mean of `key` in each."""
    rows = [training.rows for training in trainings]
    together = [*zip(*rows, strict=False)]
    epochs = np.array([epoch[0]["epoch"] for epoch in together])
    return epochs, np.array([np.mean([row[key] for row in epoch]) for epoch in together])


def _run_label(name: str, trainings: Sequence[SeedCurve]) -> str:
    outcomes = Counter(training.outcome for training in trainings)
    notes = [f"{len(trainings)} seeds"] if len(trainings) > 1 else []
    for outcome in OUTCOME_MARKERS:
        if outcomes[outcome]:
            alike = outcomes[outcome] == len(trainings)
            notes.append(outcome if alike else f"{outcomes[outcome]} {outcome}")
    return f"{name} ({', '.join(notes)})" if notes else name


def _key(figure: Figure, runs: Sequence[Sequence[SeedCurve]]) -> None:
    """What all panels of learning curves share."""
    several = any(len(trainings) > 1 for trainings in runs)
    outcomes = {training.outcome for trainings in runs for training in trainings}
    grey: dict[str, Any] = {"color": drawing.GREY, "marker": "o"}
    as_set = "training, dropout and augmentation as set"
    handles = [
        Line2D([], [], label="validation", **grey, **_VALIDATION),
        Line2D([], [], label=as_set, **grey, **_TRAINING),
    ]
    if several:
        handles.append(
            Line2D([], [], color=drawing.GREY, linewidth=0.5, label="one seed (thick: mean)")
        )
    handles += [
        Line2D([], [], color="black", marker=marker, linestyle="none", label=outcome)
        for outcome, marker in OUTCOME_MARKERS.items()
        if outcome in outcomes
    ]
    columns = 3 if figure.get_figwidth() == drawing.WIDTH else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _loss_scale(axes: Axes, values: Sequence[float]) -> None:
    finite = [value for value in values if 0 < value < np.inf]
    axes.set_yscale("log")
    axes.set_ylim(0.8 * min(finite, default=0.1), 1.25 * min(max(finite, default=1), 100))
    drawing.ticks(axes.yaxis, LogLocator(subs=(1, 2, 5)))


def _epoch_scale(axes: Axes, trainings: Sequence[SeedCurve]) -> None:
    """Logarithmic where runs differ so much in length that short ones would be squeezed."""
    whole = [len(t.rows) for t in trainings if t.rows and t.outcome != "diverged"]
    lengths = whole or [max((len(training.rows) for training in trainings), default=0) or 1]
    if max(lengths) > 2 * min(lengths):
        drawing.log_epochs(axes)
        axes.set_xlim(0.9, 1.1 * max(lengths))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, max(lengths) + 0.5)
