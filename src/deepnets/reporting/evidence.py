"""Figures that answer questions: what each factor did, and what flows through the layers.

In the style of figures.py, to which it stands as questions.py to verdicts.py.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from deepnets.reporting import ladders, published
from deepnets.reporting.figures import WIDTH, save
from deepnets.reporting.questions import after_steps, path

# By moment, in their order: the start, after some steps, the end.
_MOMENTS: tuple[dict[str, Any], ...] = (
    {"color": "#E69F00", "marker": "o", "linestyle": ":"},
    {"color": "#D55E00", "marker": "^", "linestyle": "--"},
    {"color": "#0072B2", "marker": "s", "linestyle": "-"},
)

_COLOUR = "#0072B2"
_GREY = "#595959"
_SMALL = 7

# Of validation, from chance up.
_ACCURACIES = (0.1, 0.5, 0.9, 0.97, 0.99)

# Percentage points; differences below the first are drawn on a linear scale.
_POINTS = (1, 3, 10, 30, 100)


@dataclass(frozen=True)
class Effect:
    """What a row changes of another one, and how much more accurate that made it.

    `differences` are those in test accuracy by seed, fractions; `interval` is that of their mean.
    """

    row: str
    change: str
    differences: Sequence[float]
    interval: tuple[float, float] | None


def effects(panels: Mapping[str, Sequence[Effect]], stem: Path) -> None:
    """What each factor did to the test accuracy: mean, 95 % interval over the seeds, every seed.

    Args:
        panels: heading -> effects, a panel each.
        stem: the path to write, without .png; so in all functions here.
    """
    counts = [len(of) for of in panels.values()]
    figure, axes = plt.subplots(
        len(panels),
        1,
        layout="constrained",
        figsize=(WIDTH, 0.36 * sum(counts) + 0.5 * len(panels) + 0.8),
        height_ratios=counts,
        sharex=True,
        squeeze=False,
    )
    for axis, (title, shown) in zip(axes[:, 0], panels.items(), strict=True):
        for place, effect in enumerate(shown):
            points = 100 * np.array(effect.differences)
            if effect.interval is not None:
                axis.plot(100 * np.array(effect.interval), [place, place], color=_COLOUR)
            axis.plot(points, [place + 0.25] * len(points), "|", color=_GREY, markersize=6)
            axis.plot(points.mean(), place, "o", color=_COLOUR, markersize=5)
        axis.axvline(0, color="black", linewidth=0.8)
        names = [f"{of.row}\n{textwrap.shorten(of.change, 48, placeholder=' ...')}" for of in shown]
        axis.set_yticks(range(len(shown)), names)
        axis.set_ylim(len(shown) - 0.4, -0.6)
        axis.tick_params(axis="y", length=0)
        axis.set_title(title)
    axis = axes[-1, 0]
    axis.set_xscale("symlog", linthresh=_POINTS[0], linscale=0.6)
    axis.set_xlim(-_POINTS[-1], _POINTS[-1])
    axis.xaxis.set_major_locator(FixedLocator([*(-p for p in reversed(_POINTS)), 0, *_POINTS]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel(f"percentage points of test accuracy gained (linear up to {_POINTS[0]})")
    handles = [
        Line2D([], [], color=_COLOUR, marker="o", label="mean, 95 % interval over the seeds"),
        Line2D([], [], color=_GREY, marker="|", linestyle="none", label="one seed"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    save(figure, stem)


def learning(rows: Mapping[str, tuple[Sequence[Any], Sequence[Any]]], stem: Path) -> None:
    """Validation accuracy by epoch, a panel a row, each seed a line; grey: what it was made of.

    Args:
        rows: name -> its histories and those of its parent, one a seed (none for the first).
        stem: see `effects`.
    """
    columns = 4
    lines = -(-len(rows) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        layout="constrained",
        figsize=(WIDTH, 1.35 * lines + 0.5),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis in axes.flat[len(rows) :]:
        axis.axis("off")
    for place, (axis, (name, (own, before))) in enumerate(
        zip(axes.flat, rows.items(), strict=False)
    ):
        for histories, style in ((before, {"color": "0.65"}), (own, {"color": _COLOUR})):
            for rows_of_seed in histories:
                epochs = [row["epoch"] for row in rows_of_seed]
                values = [row["val_accuracy"] for row in rows_of_seed]
                axis.plot(epochs, values, marker=".", linewidth=1, **style)
        axis.set_title(name, fontsize=_SMALL)
        # 0.97 and 0.98 differ as visibly as 0.3 and 0.4.
        axis.set_yscale("logit", nonpositive="clip")
        axis.set_ylim(_ACCURACIES[0] / 2, 1 - (1 - _ACCURACIES[-1]) / 2)
        axis.yaxis.set_major_locator(FixedLocator(_ACCURACIES))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.tick_params(labelbottom=place + columns >= len(rows))
        if place + columns >= len(rows):
            axis.set_xlabel("epoch")
    figure.supylabel("validation accuracy", fontsize=8)
    handles = [
        Line2D([], [], color=_COLOUR, marker=".", label="the row, a line a seed"),
        Line2D([], [], color="0.65", marker=".", label="the row that it was made of"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    save(figure, stem)


def flow(diagnoses: Mapping[str, Mapping[str, Any]], stem: Path) -> None:
    """Activations and gradients by layer, a column a run, a line a moment of its training.

    Activations are those that go on from each layer; where a network has residual blocks, those
    after each block's sum.
    """
    figure, axes = _by_layer(diagnoses)
    for column, (name, diagnosis) in zip(axes.T, diagnoses.items(), strict=True):
        column[0].set_title(name, fontsize=_SMALL)
        for style, of in zip(_MOMENTS, diagnosis["moments"].values(), strict=False):
            kernels = path(of)
            sums = [layer for layer in of["layers"] if layer["kind"] == "Add"]
            shown = sums if of["batch_norms"] and sums else kernels
            _line(column[0], [layer["activation"] for layer in shown], style)
            _line(column[1], [layer["gradient"] for layer in kernels], style)
    axes[0, 0].set_ylabel("activation")
    axes[1, 0].set_ylabel("gradient of the kernel")
    _finish(figure, axes, diagnoses, stem)


def norms(diagnoses: Mapping[str, Mapping[str, Any]], stem: Path) -> None:
    """How far moving averages are from the batch that they normalise, by layer.

    Above, the means in the batch's standard deviations; below, the ratio of the deviations.
    """
    figure, axes = _by_layer(diagnoses)
    for column, (name, diagnosis) in zip(axes.T, diagnoses.items(), strict=True):
        after = after_steps(diagnosis)
        scored = diagnosis["moments"][after]
        column[0].set_title(
            f"{name}\n{after}: {scored['batch']['accuracy']:.2f} right by the batch,\n"
            f"{scored['moving']['accuracy']:.2f} by moving averages",
            fontsize=_SMALL,
        )
        for style, of in zip(_MOMENTS, diagnosis["moments"].values(), strict=False):
            for axis, key in zip(column, ("mean_gap", "deviation_ratio"), strict=True):
                _line(axis, [norm[key] for norm in of["batch_norms"]], style)
        column[1].axhline(1, color="black", linewidth=0.8)
    axes[0, 0].set_ylabel("distance of the means")
    axes[1, 0].set_ylabel("ratio of the deviations")
    _finish(figure, axes, diagnoses, stem)


def _by_layer(diagnoses: Mapping[str, Any]) -> tuple[Any, Any]:
    """Two rows of axes, a column a run."""
    return plt.subplots(
        2,
        len(diagnoses),
        layout="constrained",
        figsize=(max(WIDTH, 1.6 * len(diagnoses)), 4.3),
        sharey="row",
        squeeze=False,
    )


def _line(axis: Axes, values: Sequence[float | None], style: Mapping[str, Any]) -> None:
    """A value a layer on a logarithmic axis; what is no positive number is left out."""
    drawn = [value if value else np.nan for value in values]
    axis.plot(range(1, len(drawn) + 1), drawn, markersize=2, linewidth=1, **style)


def _finish(figure: Any, axes: Any, diagnoses: Mapping[str, Any], stem: Path) -> None:
    for axis in axes.flat:
        axis.set_yscale("log")
    for axis in axes[-1]:
        axis.set_xlabel("layer, from the image")
    moments = next(iter(diagnoses.values()))["moments"]
    handles = [
        Line2D([], [], label=moment, **style)
        for style, moment in zip(_MOMENTS, moments, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    save(figure, stem)


def climbs(panels: Sequence[tuple[str, Sequence[ladders.Climb]]], stem: Path) -> None:
    """Validation accuracy by epochs, and the test accuracy of the rung that it has chosen.

    Args:
        panels: a heading, and how a ladder gets to each goal, at least one; a panel each.
        stem: see `effects`.
    """
    figure, axes = plt.subplots(
        1, len(panels), layout="constrained", figsize=(WIDTH, 2.8), sharey=True, squeeze=False
    )
    for axis, (title, shown) in zip(axes[0], panels, strict=True):
        rungs = shown[0].rungs
        for seed in range(len(rungs[0].validation)):
            axis.errorbar(
                [rung.epochs for rung in rungs],
                [100 * rung.validation[seed] for rung in rungs],
                [100 * rung.error[seed] for rung in rungs],
                color=_COLOUR,
                marker="o",
                markersize=4,
                capsize=3,
                linewidth=1,
            )
        for climb in shown:
            axis.axhline(100 * climb.goal, color=_GREY, linestyle="--", linewidth=0.8)
            axis.annotate(
                f"study, {published.WEIGHTS[climb.weights]}",
                (1, 100 * climb.goal),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 2),
                textcoords="offset points",
                ha="right",
                color=_GREY,
                fontsize=_SMALL,
            )
            rung = climb.chosen
            if rung is None or rung.test is None or rung.interval is None:
                continue
            low, high = rung.interval
            axis.errorbar(
                rung.epochs,
                100 * rung.test,
                [[100 * (rung.test - low)], [100 * (high - rung.test)]],
                color="#D55E00",
                marker="s",
                markersize=4,
                capsize=3,
            )
        axis.set_xscale("log", base=2)
        axis.set_xlim(rungs[0].epochs / 1.5, rungs[-1].epochs * 1.5)
        axis.xaxis.set_major_locator(FixedLocator([rung.epochs for rung in rungs]))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_title(title)
        axis.set_xlabel("epochs")
    axes[0, 0].set_ylabel("accuracy, %")
    handles = [
        Line2D([], [], color=_COLOUR, marker="o", label="validation, ± one standard error"),
        Line2D(
            [],
            [],
            color="#D55E00",
            marker="s",
            linestyle="none",
            label="test, 95 % interval, of the rung that validation has chosen",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    save(figure, stem)
