"""The only importer of Matplotlib. Every figure is drawn off screen and written whole.

The same optimizer has the same colour everywhere (Okabe and Ito's palette, which colour-blind
readers can tell apart), the same weights the same marker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from deepnets import files

OPTIMIZER_COLOURS = {"adam": "#D55E00", "sgd": "#0072B2"}
WEIGHTS_MARKERS = {"random": "o", "imagenet": "s", "he": "^"}

mpl.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "savefig.dpi": 150,
        "figure.constrained_layout.use": True,
    }
)


def contact_sheet(
    splits: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]], path: Path
) -> None:
    """The first images of each split with their labels, as the networks will see them.

    Args:
        splits: name -> images uint8 (n, size, size, 3) and labels uint8 (n,).
        path: the PNG to write.
    """
    columns = 15
    rows = [-(-len(images) // columns) for images, _ in splits.values()]
    figure = plt.figure(figsize=(columns * 0.62, sum(rows) * 0.85 + 0.35 * len(splits)))
    parts = figure.subfigures(len(splits), 1, height_ratios=rows, squeeze=False)[:, 0]
    for part, (name, (images, labels)) in zip(parts, splits.items(), strict=True):
        size = images.shape[1]
        part.suptitle(f"{name}: first {len(images)}, {size}x{size}x3", fontsize=9)
        axes = part.subplots(-(-len(images) // columns), columns, squeeze=False).ravel()
        for axis, image, label in zip(axes, images, labels, strict=False):
            axis.imshow(image)
            axis.set_title(str(label), fontsize=8, pad=2)
        for axis in axes:
            axis.axis("off")
    _save(figure, path)


@dataclass(frozen=True)
class Curve:
    """A run's rows (epoch, loss, accuracy, val_loss, val_accuracy) and what sets its style."""

    name: str
    optimizer: str
    weights: str
    rows: Sequence[Mapping[str, float]]


def curves(panels: Mapping[str, Sequence[Curve]], path: Path) -> None:
    """Accuracy and loss by epoch, one column a panel, all in the same range.

    Args:
        panels: heading -> the runs drawn under it.
        path: the figure to write.
    """
    figure, axes = plt.subplots(
        2,
        len(panels),
        figsize=(max(5.0, 4.2 * len(panels)), 5.6),
        sharex="col",
        sharey="row",
        squeeze=False,
    )
    for column, (title, runs) in enumerate(panels.items()):
        for curve in runs:
            epochs = [row["epoch"] for row in curve.rows]
            style: dict[str, Any] = {
                "color": OPTIMIZER_COLOURS[curve.optimizer],
                "marker": WEIGHTS_MARKERS[curve.weights],
                "markersize": 4,
            }
            for axis, key in zip(axes[:, column], ("accuracy", "loss"), strict=True):
                axis.plot(
                    epochs, [row[f"val_{key}"] for row in curve.rows], label=curve.name, **style
                )
                axis.plot(
                    epochs, [row[key] for row in curve.rows], linestyle="--", alpha=0.55, **style
                )
        axes[0, column].set_title(title, fontsize=10)
        axes[0, column].legend(fontsize=7)
        axes[1, column].set_xlabel("epoch")
        axes[1, column].xaxis.set_major_locator(MaxNLocator(integer=True))
        last = max(row["epoch"] for curve in runs for row in curve.rows)
        axes[1, column].set_xlim(0.5, last + 0.5)
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("loss (nats)")
    axes[1, 0].set_ylim(bottom=0)
    figure.suptitle(
        "solid: validation; dashed: training, dropout and augmentation as set", fontsize=8
    )
    _save(figure, path)


def confusion(matrix: NDArray[np.int64], name: str, path: Path) -> None:
    """Confusion counts (10, 10), rows true and columns predicted; shading shows the mistakes."""
    figure, axis = plt.subplots(figsize=(5.2, 5))
    off_diagonal = matrix * (1 - np.eye(len(matrix), dtype=int))
    axis.imshow(off_diagonal, cmap="Oranges", vmin=0, vmax=max(1, int(off_diagonal.max()) * 1.4))
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            axis.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                fontsize=8,
                color="grey" if row == column else "black",
            )
    axis.set(
        xlabel="predicted digit",
        ylabel="true digit",
        xticks=range(len(matrix)),
        yticks=range(len(matrix)),
    )
    right = int(np.trace(matrix))
    axis.set_title(f"{name}: {matrix.sum() - right:,} of {matrix.sum():,} wrong", fontsize=9)
    axis.grid(visible=False)
    _save(figure, path)


def mistakes(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    name: str,
    path: Path,
) -> None:
    """The given images (n, size, size, 3) with true digit, prediction and its probability."""
    columns = 8
    rows = max(1, -(-len(images) // columns))
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * 1.1, rows * 1.45 + 0.4), squeeze=False
    )
    for axis in axes.ravel():
        axis.axis("off")
    for axis, image, label, row in zip(axes.ravel(), images, labels, probabilities, strict=False):
        guess = int(row.argmax())
        axis.imshow(image)
        axis.set_title(f"{label}, seen as {guess}\np = {row[guess]:.3f}", fontsize=7, pad=2)
    shown = "the most confident mistakes" if len(images) else "no mistakes"
    figure.suptitle(f"{name}: {shown}", fontsize=9)
    _save(figure, path)


def grid_confusion(matrices: Mapping[str, NDArray[np.int64]], path: Path) -> None:
    """Row-normalised confusion matrices of all runs side by side, on one colour scale."""
    columns = min(4, len(matrices))
    rows = -(-len(matrices) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * 2.6, rows * 2.9), squeeze=False, sharex=True, sharey=True
    )
    for axis in axes.ravel():
        axis.axis("off")
    for axis, (name, matrix) in zip(axes.ravel(), matrices.items(), strict=False):
        axis.axis("on")
        errors = matrix / matrix.sum(axis=1, keepdims=True).clip(1)
        errors = errors * (1 - np.eye(len(matrix)))
        picture = axis.imshow(100 * errors, cmap="Oranges", vmin=0, vmax=10)
        axis.set(xticks=range(0, 10, 3), yticks=range(0, 10, 3))
        axis.set_title(f"{name}\n{matrix.sum() - np.trace(matrix):,} wrong", fontsize=8)
        axis.grid(visible=False)
    figure.supxlabel("predicted digit", fontsize=8)
    figure.supylabel("true digit", fontsize=8)
    figure.colorbar(picture, ax=axes, label="% of the true digit, wrong ones only", shrink=0.8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with files.replacing(path) as partial:
        # Without the version of Matplotlib in it, the same data gives the same bytes.
        figure.savefig(partial, metadata={"Software": None} if path.suffix == ".png" else None)
    plt.close(figure)
