"""Rows below each other, by what they have reached: test accuracies, epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from deepnets.reporting import drawing

_STUDY: dict[str, Any] = {
    "color": "black",
    "marker": "D",
    "markerfacecolor": "white",
    "linestyle": "none",
    "markersize": 4.5,
}


# See `drawing.name_rows`.
_MARGIN = 0.6


@dataclass(frozen=True)
class AccuracyRow:
    """Test accuracies: one a seed, their summary with its 95 % interval, and the study's.

    All may be missing: no seeds and no `accuracy` for a run that has not been tested yet.
    """

    seeds: Sequence[float] = ()
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    study: float | None = None


def comparison(results: Mapping[drawing.Run, AccuracyRow], stem: Path) -> None:
    """Our test accuracy with its 95 % interval and every seed, beside the study's."""
    values = [
        value
        for result in results.values()
        for value in (*result.seeds, result.accuracy, result.study, *(result.interval or ()))
        if value is not None
    ]
    figure, axis = plt.subplots(
        layout="constrained", figsize=(drawing.WIDTH, 0.38 * len(results) + 1.2)
    )
    for row, (run, result) in enumerate(results.items()):
        if result.interval is not None:
            axis.plot(result.interval, [row, row], color=run.style["color"], linewidth=1.5)
        if result.accuracy is not None:
            axis.plot(result.accuracy, row, markersize=6, zorder=3, **run.style)
        elif not result.seeds:
            drawing.say_not_run(axis, row, bbox={"color": "white", "pad": 1})
        for seed in result.seeds:
            axis.plot(seed, row + 0.26, color=run.style["color"], marker="|", markersize=6)
        if result.study is not None:
            axis.plot(result.study, row - 0.28, **_STUDY)
    drawing.accuracy_scale(axis, "x", values)
    axis.set_xlabel("test accuracy (scale: logarithm of the error)")
    drawing.name_rows(axis, [run.name for run in results], _MARGIN)
    ours = [
        Line2D([], [], color=drawing.GREY, marker="o", label="ours, 95 % interval"),
        Line2D([], [], color=drawing.GREY, marker="|", linestyle="none", label="one seed"),
    ]
    if any(result.study is not None for result in results.values()):
        ours.append(Line2D([], [], label="the study", **_STUDY))
    drawing.add_legend(figure, [ours, *drawing.style_key(results)])
    drawing.save(figure, stem)


def convergence(
    reached: Mapping[drawing.Run, Mapping[float, Sequence[int | None]]],
    stem: Path,
) -> None:
    """Epochs until a run reached each validation accuracy, one panel an accuracy.

    Args:
        reached: run -> accuracy -> first epoch with at least that validation accuracy, one a
            seed, None where it never came.
        stem: see `drawing.save`.
    """
    levels = sorted({level for own in reached.values() for level in own})
    epochs = [e for own in reached.values() for seeds in own.values() for e in seeds if e]
    last = max(epochs, default=1)
    unreached = 2.0 * last
    figure, axes = plt.subplots(
        1,
        len(levels),
        layout="constrained",
        figsize=(drawing.WIDTH, 0.36 * len(reached) + 1.3),
        sharey=True,
        squeeze=False,
    )
    for axis, level in zip(axes[0], levels, strict=True):
        for row, (run, own) in enumerate(reached.items()):
            seeds = own.get(level, ())
            for offset, epoch in zip(drawing.offsets(len(seeds), 0.28), seeds, strict=True):
                filled = {} if epoch else {"markerfacecolor": "white"}
                axis.plot(
                    epoch or unreached,
                    row + offset,
                    linestyle="none",
                    markersize=5,
                    **run.style | filled,
                )
        drawing.log_epochs(axis)
        axis.set_xlim(0.75, 1.4 * unreached)
        axis.axvspan(unreached / 1.4, 1.4 * unreached, color="0.92", zorder=0)
        ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= last]
        axis.set_xticks([*ticks, unreached], [*map(str, ticks), "not\nreached"])
        axis.tick_params(axis="y", length=0)
        axis.set_title(f"{100 * level:g} % validation accuracy")
        axis.set_xlabel("epochs")
    drawing.name_rows(axes[0, 0], [run.name for run in reached], _MARGIN)
    drawing.add_legend(figure, drawing.style_key(reached))
    drawing.save(figure, stem)
