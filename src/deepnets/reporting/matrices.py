"""Which digit was taken for which: counts in shaded tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from deepnets.base.project import CLASSES
from deepnets.reporting import drawing

# Errors that are told apart by shade, in percent.
_PERCENT = (0.1, 100.0)

_CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": drawing.SMALL}


def confusion(matrix: NDArray[np.int64], name: str, stem: Path) -> None:
    """Confusion counts (10, 10), rows true and columns predicted; shading shows the mistakes."""
    figure, axis = plt.subplots(layout="constrained", figsize=(5.2, 5))
    off_diagonal = matrix * (1 - np.eye(len(matrix), dtype=int))
    axis.imshow(
        off_diagonal,
        cmap="Oranges",
        vmin=0,
        vmax=max(1, int(off_diagonal.max()) * 1.4),
        interpolation="none",
    )
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = drawing.GREY if row == column else "black"
            axis.text(column, row, str(count), color=colour, **_CENTRED | {"fontsize": 8})
    axis.set(
        xlabel="predicted digit",
        ylabel="true digit",
        xticks=range(len(matrix)),
        yticks=range(len(matrix)),
    )
    right = int(np.trace(matrix))
    axis.set_title(f"{name}: {matrix.sum() - right:,} of {matrix.sum():,} wrong", fontsize=9)
    axis.grid(visible=False)
    drawing.save(figure, stem)


def grid_confusion(matrices: Mapping[str, NDArray[np.int64]], stem: Path) -> None:
    """Row-normalised confusion matrices of all runs side by side, on one colour scale."""
    columns = min(3, len(matrices))
    rows = -(-len(matrices) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        layout="constrained",
        figsize=(columns * (drawing.WIDTH - 0.7) / 3 + 0.7, 1.95 * rows + 0.4),
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    for axis in axes.ravel():
        axis.axis("off")
    for index, (name, matrix) in enumerate(matrices.items()):
        axis = axes.flat[index]
        axis.axis("on")
        errors = matrix / matrix.sum(axis=1, keepdims=True).clip(1)
        errors = errors * (1 - np.eye(len(matrix)))
        picture = axis.imshow(
            np.ma.masked_equal(100 * errors, 0),
            cmap="Oranges",
            norm=LogNorm(*_PERCENT),
            interpolation="none",
        )
        axis.set(xticks=range(10), yticks=range(10))
        axis.set_title(f"{name}\n{matrix.sum() - np.trace(matrix):,} wrong", fontsize=drawing.SMALL)
        axis.grid(visible=False)
        axis.tick_params(labelbottom=index + columns >= len(matrices))
    figure.supxlabel("predicted digit", fontsize=8)
    figure.supylabel("true digit", fontsize=8)
    bar = figure.colorbar(picture, ax=axes, label="of the true digit's images", shrink=0.6)
    _percent_ticks(bar)
    drawing.save(figure, stem)


def class_accuracy(matrices: Mapping[str, NDArray[np.int64]], stem: Path) -> None:
    """Which part of each digit every run gets wrong, in percent, as a table that is shaded.

    Args:
        matrices: name -> confusion counts (10, 10), rows true; several seeds' may be summed.
        stem: see `drawing.save`.
    """
    wrong = []
    for matrix in matrices.values():
        totals, right = matrix.sum(axis=1), np.diag(matrix)
        totals, right = np.append(totals, totals.sum()), np.append(right, right.sum())
        with np.errstate(invalid="ignore"):
            wrong.append(100 * (totals - right) / totals)
    percent = np.array(wrong)
    figure, axis = plt.subplots(
        layout="constrained", figsize=(drawing.WIDTH, 0.24 * len(matrices) + 1.25)
    )
    picture = axis.imshow(
        percent.clip(_PERCENT[0]),
        cmap="Oranges",
        norm=LogNorm(*_PERCENT),
        aspect="auto",
        interpolation="none",
    )
    for (row, column), value in np.ndenumerate(percent):
        # Two digits that count: 0.31, 4.2, 90.
        shown = (
            f"{value:.2f}" if value < 0.995 else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
        )
        shown = "none" if np.isnan(value) else "0" if value == 0 else shown
        axis.text(column, row, shown, color="white" if value > 20 else "black", **_CENTRED)
    axis.axvline(percent.shape[1] - 1.5, color="white", linewidth=4)
    digits = [str(digit) for digit in range(percent.shape[1] - 1)]
    axis.set_xticks(range(percent.shape[1]), [*digits, "all"])
    axis.set_yticks(range(len(matrices)), [*matrices])
    axis.set_xlabel("true digit")
    axis.set_title("% of each digit's test images that are classified wrongly")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.grid(visible=False)
    bar = figure.colorbar(picture, ax=axis, pad=0.01, aspect=12)
    _percent_ticks(bar)
    drawing.save(figure, stem)


def draw_disagreement(
    axis: Axes, names: Sequence[str], a: NDArray[np.int64], b: NDArray[np.int64]
) -> None:
    """How often the first training says each digit where the second says another one."""
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(counts, (a, b), 1)
    axis.imshow(np.where(counts, counts, np.nan), cmap="Blues", vmin=0)
    for row, column in zip(*counts.nonzero(), strict=True):
        colour = "white" if counts[row, column] > 0.6 * counts.max() else "black"
        axis.text(column, row, str(counts[row, column]), color=colour, **_CENTRED)
    axis.set_title(f"{len(a):,} disagreements")
    axis.set_xticks(range(CLASSES))
    axis.set_yticks(range(CLASSES))
    axis.set_ylabel(f"digit of {names[0]}")
    axis.set_xlabel(f"digit of {names[1]}")
    axis.grid(visible=False)


def _percent_ticks(bar: Colorbar) -> None:
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    bar.ax.minorticks_off()
