"""Rows below each other with every seed as a point: the figure that goes with an answer."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from deepnets.records.results import TrainingRecord
from deepnets.reporting import drawing


@dataclass(frozen=True)
class Line:
    """A row's test accuracies, fractions, one a seed; those of the pilot; and whether it stands.

    `stands` is False for a row that another one was chosen over.
    """

    row: str
    style: drawing.Run
    accuracies: Sequence[float]
    pilot: Sequence[float]
    stands: bool = True


def lines(
    rows: Sequence[str],
    standing: Collection[str],
    trained: Mapping[str, Sequence[TrainingRecord]],
    styles: Mapping[str, drawing.Run],
    pilot: Mapping[str, Sequence[float]],
) -> list[Line]:
    """Of each of `rows` what was tested; where some are `standing`, the others are not."""
    return [
        Line(
            row,
            styles[row],
            [result.test["accuracy"] for result in trained.get(row, []) if result.test is not None],
            pilot.get(row, ()),
            row in standing or not standing,
        )
        for row in rows
    ]


def draw(shown: Sequence[Line], stem: Path, goal: float | None = None) -> None:
    """Every seed of every row as a point, the pilot's hollow, and the mean as a line.

    Args:
        shown: from above.
        stem: the path to write, without .png.
        goal: a test accuracy to be above, if there is one.
    """
    figure, axis = plt.subplots(
        layout="constrained", figsize=(drawing.WIDTH, 0.36 * len(shown) + 0.9)
    )
    values = [value for line in shown for value in (*line.accuracies, *line.pilot)]
    for place, line in enumerate(shown):
        style = line.style.style | {"linestyle": "none", "markersize": 4}
        for points, offset, reach, filled in (
            (line.accuracies, -0.12, 0.18, {"alpha": 0.7}),
            (line.pilot, 0.27, 0.1, {"markerfacecolor": "white"}),
        ):
            heights = place + offset + drawing.offsets(len(points), reach)
            axis.plot(points, heights, **style | filled)
        if line.accuracies:
            axis.plot(
                [np.mean(line.accuracies)] * 2,
                [place - 0.36, place + 0.12],
                color=line.style.style["color"],
                linewidth=1.5,
            )
        elif not line.pilot:
            drawing.say_not_run(axis, place)
    if goal is not None:
        axis.axvline(goal, color="black", linestyle="--", linewidth=0.8)
        values.append(goal)
    drawing.accuracy_scale(axis, "x", values)
    names = [line.row if line.stands else f"({line.row})" for line in shown]
    drawing.name_rows(axis, names, margin=0.5)
    axis.set_xlabel("test accuracy (scale: logarithm of the error)")
    grey: dict[str, Any] = {
        "color": drawing.GREY,
        "marker": "o",
        "linestyle": "none",
        "markersize": 4,
    }
    handles = [
        Line2D([], [], label="a seed", **grey),
        Line2D([], [], label="a seed of the pilot", markerfacecolor="white", **grey),
    ]
    if goal is not None:
        label = f"to be above: {goal:g}"
        handles.append(Line2D([], [], color="black", linestyle="--", linewidth=0.8, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    drawing.save(figure, stem)
