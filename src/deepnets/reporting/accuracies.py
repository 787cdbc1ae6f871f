"""Rows below each other, by what they have reached: test accuracies, epochs, gains, ladders."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator
from numpy.typing import NDArray

from deepnets.reporting import drawing, ladders, published

_STUDY: dict[str, Any] = {
    "color": "black",
    "marker": "D",
    "markerfacecolor": "white",
    "linestyle": "none",
    "markersize": 4.5,
}

# Percentage points; differences below the first are drawn on a linear scale.
_POINTS = (1, 3, 10, 30, 100)


@dataclass(frozen=True)
class AccuracyRow:
    """Test accuracies: one a seed, their summary with its 95 % interval, and the study's.

    All may be missing: no seeds and no `accuracy` for a run that has not been tested yet.
    """

    seeds: Sequence[float] = ()
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    study: float | None = None


@dataclass(frozen=True)
class Effect:
    """What a row changes of another one, and how much more accurate that made it.

    `differences` are those in test accuracy by seed, fractions; `interval` is that of their mean.
    """

    row: str
    change: str
    differences: Sequence[float]
    interval: tuple[float, float] | None


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
            axis.text(
                0.02,
                row,
                "not run yet",
                transform=axis.get_yaxis_transform(),
                va="center",
                fontsize=drawing.SMALL,
                color=drawing.GREY,
                bbox={"color": "white", "pad": 1},
            )
        for seed in result.seeds:
            axis.plot(seed, row + 0.26, color=run.style["color"], marker="|", markersize=6)
        if result.study is not None:
            axis.plot(result.study, row - 0.28, **_STUDY)
    drawing.accuracy_scale(axis, "x", values)
    axis.set_xlabel("test accuracy (scale: logarithm of the error)")
    _name_rows(axis, results)
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
            for offset, epoch in zip(_offsets(len(seeds)), seeds, strict=True):
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
    _name_rows(axes[0, 0], reached)
    drawing.add_legend(figure, drawing.style_key(reached))
    drawing.save(figure, stem)


def effects(panels: Mapping[str, Sequence[Effect]], stem: Path) -> None:
    """What each factor did to the test accuracy: mean, 95 % interval over the seeds, every seed.

    Args:
        panels: heading -> effects, a panel each.
        stem: the path to drawing.write, without .png; so in all functions here.
    """
    counts = [len(of) for of in panels.values()]
    figure, axes = plt.subplots(
        len(panels),
        1,
        layout="constrained",
        figsize=(drawing.WIDTH, 0.36 * sum(counts) + 0.5 * len(panels) + 0.8),
        height_ratios=counts,
        sharex=True,
        squeeze=False,
    )
    for axis, (title, shown) in zip(axes[:, 0], panels.items(), strict=True):
        for place, effect in enumerate(shown):
            points = 100 * np.array(effect.differences)
            if effect.interval is not None:
                axis.plot(100 * np.array(effect.interval), [place, place], color=drawing.BLUE)
            axis.plot(points, [place + 0.25] * len(points), "|", color=drawing.GREY, markersize=6)
            axis.plot(points.mean(), place, "o", color=drawing.BLUE, markersize=5)
        axis.axvline(0, color="black", linewidth=0.8)
        names = [f"{of.row}\n{textwrap.shorten(of.change, 48, placeholder=' ...')}" for of in shown]
        axis.set_yticks(range(len(shown)), names)
        axis.set_ylim(len(shown) - 0.4, -0.6)
        axis.tick_params(axis="y", length=0)
        axis.set_title(title)
    axis = axes[-1, 0]
    axis.set_xscale("symlog", linthresh=_POINTS[0], linscale=0.6)
    axis.set_xlim(-_POINTS[-1], _POINTS[-1])
    places = FixedLocator([*(-p for p in reversed(_POINTS)), 0, *_POINTS])
    drawing.ticks(axis.xaxis, places, lambda value: f"{value:+g}" if value else "0")
    axis.set_xlabel(f"percentage points of test accuracy gained (linear up to {_POINTS[0]})")
    handles = [
        Line2D([], [], color=drawing.BLUE, marker="o", label="mean, 95 % interval over the seeds"),
        Line2D([], [], color=drawing.GREY, marker="|", linestyle="none", label="one seed"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    drawing.save(figure, stem)


def climbs(panels: Sequence[tuple[str, Sequence[ladders.Climb]]], stem: Path) -> None:
    """Validation accuracy by epochs, and the test accuracy of the rung that it has chosen.

    Args:
        panels: a heading, and how a ladder gets to each goal, at least one; a panel each.
        stem: see `drawing.save`.
    """
    figure, axes = plt.subplots(
        1,
        len(panels),
        layout="constrained",
        figsize=(drawing.WIDTH, 2.8),
        sharey=True,
        squeeze=False,
    )
    for axis, (title, shown) in zip(axes[0], panels, strict=True):
        rungs = shown[0].rungs
        for seed in range(len(rungs[0].validation)):
            axis.errorbar(
                [rung.epochs for rung in rungs],
                [100 * rung.validation[seed] for rung in rungs],
                [100 * rung.error[seed] for rung in rungs],
                color=drawing.BLUE,
                marker="o",
                markersize=4,
                capsize=3,
                linewidth=1,
            )
        for climb in shown:
            axis.axhline(100 * climb.goal, color=drawing.GREY, linestyle="--", linewidth=0.8)
            axis.annotate(
                f"study, {published.WEIGHTS[climb.weights]}",
                (1, 100 * climb.goal),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 2),
                textcoords="offset points",
                ha="right",
                color=drawing.GREY,
                fontsize=drawing.SMALL,
            )
            rung = climb.chosen
            if rung is None or rung.test is None or rung.interval is None:
                continue
            low, high = rung.interval
            axis.errorbar(
                rung.epochs,
                100 * rung.test,
                [[100 * (rung.test - low)], [100 * (high - rung.test)]],
                color=drawing.VERMILION,
                marker="s",
                markersize=4,
                capsize=3,
            )
        axis.set_xscale("log", base=2)
        axis.set_xlim(rungs[0].epochs / 1.5, rungs[-1].epochs * 1.5)
        drawing.ticks(axis.xaxis, FixedLocator([rung.epochs for rung in rungs]))
        axis.set_title(title)
        axis.set_xlabel("epochs")
    axes[0, 0].set_ylabel("accuracy, %")
    handles = [
        Line2D([], [], color=drawing.BLUE, marker="o", label="validation, ± one standard error"),
        Line2D(
            [],
            [],
            color=drawing.VERMILION,
            marker="s",
            linestyle="none",
            label="test, 95 % interval, of the rung that validation has chosen",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    drawing.save(figure, stem)


def _offsets(count: int) -> NDArray[np.float64]:
    """Heights that keep `count` marks in one row apart."""
    return np.linspace(-0.28, 0.28, count) if count > 1 else np.zeros(count)


def _name_rows(axis: Axes, runs: Mapping[drawing.Run, Any]) -> None:
    axis.set_yticks(range(len(runs)), [run.name for run in runs])
    axis.set_ylim(len(runs) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
