"""The learning curves of the report, with the study's own behind ours.

In the style of figures.py, of which this would be a part, were it not that whatever changes there
makes the evaluation of every row stale, which needs models that need not be at hand any more.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from deepnets import figures
from deepnets.figures import WIDTH, Run, Training

# The study's curves in one panel are told apart by how they are broken.
_DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))

# Thin, and behind ours.
_STUDY: dict[str, Any] = {"color": "black", "linewidth": 0.8, "zorder": 1.9}


def learning_curves(
    panels: Mapping[str, Mapping[Run, Sequence[Training]]],
    study: Mapping[str, Mapping[str, Training]],
    stem: Path,
) -> None:
    """Accuracy and loss by epoch, a column a panel, training and validation each on an axis.

    Ours as in `figures.learning_curves`; the study's are thin black lines.

    Args:
        panels: heading -> run -> its trainings, one a seed.
        study: heading -> what it is called -> a training of the study.
        stem: the path to write, without .png and .svg.
    """
    figure, axes = plt.subplots(
        len(figures._ROWS),
        len(panels),
        layout="constrained",
        figsize=(WIDTH if len(panels) > 1 else 0.7 * WIDTH, 9.2),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for column, (title, runs) in zip(axes.T, panels.items(), strict=True):
        handles = _draw_ours(column, runs) + _draw_studys(column, study.get(title, {}))
        column[0].set_title(title)
        column[-1].set_xlabel("epoch")
        column[-1].legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.22))
    ours = [trainings for runs in panels.values() for trainings in runs.values()]
    every = [training for trainings in ours for training in trainings]
    every += [training for curves in study.values() for training in curves.values()]
    _scale(list(axes[:, 0]), every)
    figure.align_ylabels()
    figures._key(figure, ours)
    figures.save(figure, stem)


def _draw_ours(column: Sequence[Axes], runs: Mapping[Run, Sequence[Training]]) -> list[Line2D]:
    """Draw them and return what the legend says of them; so `_draw_studys`."""
    handles = []
    alike: Counter[tuple[str, str]] = Counter()
    for run, trainings in runs.items():
        kind = run.optimizer, run.weights
        style = run.style | {"fillstyle": figures._FILLS[alike[kind] % len(figures._FILLS)]}
        alike[kind] += 1
        for axis, keys in zip(column, figures._ROWS.values(), strict=True):
            for key in keys:
                figures._draw_trainings(axis, key, trainings, style)
        label = figures._described(run.name, trainings)
        handles.append(Line2D([], [], label=label, **style))
    return handles


def _draw_studys(column: Sequence[Axes], curves: Mapping[str, Training]) -> list[Line2D]:
    handles = []
    for place, (name, training) in enumerate(curves.items()):
        style = _STUDY | {"linestyle": _DASHES[place % len(_DASHES)]}
        for axis, keys in zip(column, figures._ROWS.values(), strict=True):
            for key in keys:
                axis.plot(*figures._mean([training], key), **style)
        handles.append(Line2D([], [], label=name, **style))
    return handles


def _scale(axes: Sequence[Axes], trainings: Sequence[Training]) -> None:
    """Name and scale the axes of the first column, which those beside them share."""
    for axis, (name, keys) in zip(axes, figures._ROWS.items(), strict=True):
        axis.set_ylabel(name)
        kind = figures._ACCURACY if keys[0] in figures._ACCURACY else figures._LOSS
        values = [row[key] for of in trainings for row in of.rows for key in kind]
        if kind is figures._ACCURACY:
            figures._accuracy_scale(axis, "y", values)
        else:
            figures._loss_scale(axis, values)
    figures._epoch_scale(axes[0], trainings)
