"""What flows through the layers of networks, at some moments of their training."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from deepnets.base import colours
from deepnets.reporting import drawing
from deepnets.reporting.mechanisms import Diagnosis, middle_moment, path, share_right

# By moment, in their order: the start, after some steps, the end.
_MOMENTS: tuple[dict[str, Any], ...] = (
    {"color": colours.ORANGE, "marker": "o", "linestyle": ":"},
    {"color": colours.VERMILION, "marker": "^", "linestyle": "--"},
    {"color": colours.BLUE, "marker": "s", "linestyle": "-"},
)


def flow(diagnoses: Mapping[str, Diagnosis], stem: Path) -> None:
    """Activations and gradients by layer, a column a run, a line a seed and moment of its training.

    Activations are those that go on from each layer; where a network has residual blocks, those
    after each block's sum.
    """
    figure, axes = _make_axes(diagnoses)
    for column, (name, diagnosis) in zip(axes.T, diagnoses.items(), strict=True):
        column[0].set_title(name, fontsize=drawing.SMALL)
        for style, measured in _pair_with_styles(diagnosis):
            kernels = path(measured)
            sums = [layer for layer in measured["layers"] if layer["kind"] == "Add"]
            shown = sums if measured["batch_norms"] and sums else kernels
            _line(column[0], [layer["activation"] for layer in shown], style)
            _line(column[1], [layer["gradient"] for layer in kernels], style)
    axes[0, 0].set_ylabel("activation")
    axes[1, 0].set_ylabel("gradient of the kernel")
    _finish(figure, axes, diagnoses, stem)


def norms(diagnoses: Mapping[str, Diagnosis], stem: Path) -> None:
    """How far moving averages are from the batch that they normalise, by layer.

    Above, the means in the batch's standard deviations; below, the ratio of the deviations.
    """
    figure, axes = _make_axes(diagnoses)
    for column, (name, diagnosis) in zip(axes.T, diagnoses.items(), strict=True):
        after = middle_moment(diagnosis)
        batch, moving = (share_right(diagnosis, after, by) for by in ("batch", "moving"))
        column[0].set_title(
            f"{name}\n{after}: {batch:.2f} right by the batch,\n{moving:.2f} by moving averages",
            fontsize=drawing.SMALL,
        )
        for style, measured in _pair_with_styles(diagnosis):
            for axis, key in zip(column, ("mean_gap", "deviation_ratio"), strict=True):
                _line(axis, [norm[key] for norm in measured["batch_norms"]], style)
        column[1].axhline(1, color="black", linewidth=0.8)
    axes[0, 0].set_ylabel("distance of the means")
    axes[1, 0].set_ylabel("ratio of the deviations")
    _finish(figure, axes, diagnoses, stem)


def _pair_with_styles(diagnosis: Diagnosis) -> Iterator[tuple[dict[str, Any], Any]]:
    """What was measured of each seed, with the style of its moment."""
    for moments in diagnosis["seeds"].values():
        yield from zip(_MOMENTS, moments.values(), strict=False)


def _make_axes(diagnoses: Mapping[str, Any]) -> tuple[Any, Any]:
    """Two rows of axes, a column a run."""
    return plt.subplots(
        2,
        len(diagnoses),
        layout="constrained",
        figsize=(max(drawing.WIDTH, 1.6 * len(diagnoses)), 4.3),
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
    # Some may lack their end.
    moments = max(
        (seed for diagnosis in diagnoses.values() for seed in diagnosis["seeds"].values()), key=len
    )
    handles = [
        Line2D([], [], label=moment, **style)
        for style, moment in zip(_MOMENTS, moments, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    drawing.save(figure, stem)
