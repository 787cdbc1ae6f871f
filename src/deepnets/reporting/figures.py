"""Every figure of results, drawn off screen and written whole, as a small PNG.

With diagrams.py the only importer of Matplotlib; knows no stage and reads no file. The same
optimizer has the same colour everywhere (Okabe and Ito's palette, which colour-blind readers can
tell apart), the same initial weights the same marker, and no two things differ by colour alone.
Figures are at most as wide as the text of a printed page and their text is at least 7 points.
"""

import io
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from deepnets.base import files
from deepnets.base.project import CLASSES

OPTIMIZER_COLOURS = {"adam": "#D55E00", "sgd": "#0072B2"}
WEIGHTS_MARKERS = {"random": "o", "imagenet": "s", "he": "^"}
# Of weights that a study has described itself, and of optimizers that the study has not: always
# the same one for a name.
_OTHER_MARKERS = "PX*ph8"
_OTHER_COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")

# Errors that are told apart by shade, in percent.
_PERCENT = (0.1, 100.0)

# What a failed training ends with, in black.
OUTCOME_MARKERS = {"collapsed": "v", "diverged": "x"}

# 16 cm in inches, the text width of the printed report.
WIDTH = 6.3

_SMALL = 7
_GREY = "#595959"

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

# Where an axis of accuracies has ticks: equal steps for equal ratios of the error.
_ACCURACIES: tuple[float, ...] = (
    0,
    0.5,
    0.8,
    0.9,
    0.95,
    0.98,
    0.99,
    0.995,
    0.998,
    0.999,
    0.9995,
    0.9998,
    0.9999,
)
_FINE_ERRORS = (1, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2)

_STUDY: dict[str, Any] = {
    "color": "black",
    "marker": "D",
    "markerfacecolor": "white",
    "linestyle": "none",
    "markersize": 4.5,
}

# Its curves are thin and behind ours; those of one panel differ in how they are broken.
_STUDY_LINE: dict[str, Any] = {"color": "black", "linewidth": 0.8, "zorder": 1.9}
_STUDY_DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))

# Two runs beside each other, whatever they are.
_PAIR = ("#0072B2", "#D55E00")

# Shades that a picture has; more cannot be told from these, and git keeps every picture.
_SHADES = 64

# A user's matplotlibrc has no say in it.
mpl.rcdefaults()
mpl.rcParams.update(
    {
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "xtick.labelsize": _SMALL,
        "ytick.labelsize": _SMALL,
        "legend.fontsize": _SMALL,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "savefig.dpi": 150,
    }
)


@dataclass(frozen=True)
class Run:
    """What a row of the grid is called, and what sets its style in every figure."""

    name: str
    optimizer: str
    weights: str

    @property
    def style(self) -> dict[str, Any]:
        """Matplotlib's colour and marker of it."""
        return {
            "color": optimizer_colour(self.optimizer),
            "marker": weights_marker(self.weights),
        }


def optimizer_colour(optimizer: str) -> str:
    """The colour of runs with `optimizer`."""
    return OPTIMIZER_COLOURS.get(optimizer, _chosen(optimizer, _OTHER_COLOURS))


def weights_marker(weights: str) -> str:
    """Matplotlib's marker of runs that start from `weights`."""
    return WEIGHTS_MARKERS.get(weights, _chosen(weights, _OTHER_MARKERS))


def _chosen(name: str, styles: Sequence[str]) -> str:
    """Always the same one of `styles` for a name."""
    return styles[zlib.crc32(name.encode()) % len(styles)]


@dataclass(frozen=True)
class Training:
    """One seed's rows (epoch, loss, accuracy, val_loss, val_accuracy) and how it ended.

    `outcome` is completed, collapsed or diverged; a training that diverged in its first epoch
    has no rows.
    """

    rows: Sequence[Mapping[str, float]]
    outcome: str = "completed"


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram: bins of equal width over confidences 0 to 1, and the ECE.

    `counts` (bins,) images in each, `confidence` (bins,) their mean highest probability,
    `accuracy` (bins,) the fraction of them that is right; what stands in empty bins is ignored.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    ece: float


@dataclass(frozen=True)
class Comparison:
    """Test accuracies: one a seed, their summary with its 95 % interval, and the study's.

    All may be missing: no seeds and no `accuracy` for a run that has not been tested yet.
    """

    seeds: Sequence[float] = ()
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    study: float | None = None


def contact_sheet(
    splits: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]], stem: Path
) -> None:
    """The first images of each split with their labels, as the networks will see them.

    Args:
        splits: name -> images uint8 (n, size, size, 3) and labels uint8 (n,).
        stem: the path to write, without .png; so in all functions here.
    """
    groups = {}
    for name, (images, labels) in splits.items():
        size = images.shape[1]
        heading = f"{name}: first {len(images)}, {size}x{size}x3"
        groups[heading] = images, [str(label) for label in labels]
    _sheet(groups, "", 15, stem)


def learning_curves(
    panels: Mapping[str, Mapping[Run, Sequence[Training]]],
    stem: Path,
    study: Mapping[str, Mapping[str, Training]] | None = None,
) -> None:
    """Accuracy and loss by epoch, one column a panel, all in the same range.

    The thick line of a run is the mean of its completed trainings, the thin ones are its seeds.
    One that collapsed or diverged is left out of the mean and marked where it ends. Validation
    (solid) and training (dashed) share an axis where no panel holds more than two runs. The study's
    own are thin black lines behind ours.

    Args:
        panels: heading -> run -> its trainings, one a seed.
        stem: see `contact_sheet`.
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
            WIDTH if len(panels) > 1 else 0.7 * WIDTH,
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
            handles.append(Line2D([], [], label=_described(run.name, trainings), **style))
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
            _accuracy_scale(axis, "y", values[_ACCURACY])
        else:
            _loss_scale(axis, values[_LOSS])
    _epoch_scale(axes[0, 0], every)
    figure.align_ylabels()
    _key(figure, everything)
    save(figure, stem)


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
            axis.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                fontsize=8,
                color=_GREY if row == column else "black",
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
    save(figure, stem)


def mistakes(
    groups: Mapping[
        str, tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32] | NDArray[np.float64]]
    ],
    stem: Path,
    noted: Mapping[str, str] | None = None,
) -> None:
    """The most confident mistakes, a heading a run: true and predicted digit, its probability.

    Args:
        groups: name -> images uint8 (n, size, size, 3), labels uint8 (n,) and
            probabilities (n, 10), in the order in which they are drawn; n may be 0.
        stem: see `contact_sheet`.
        noted: what the file says of itself, by keywords that PNG has.
    """
    sheets = {}
    for name, (images, labels, probabilities) in groups.items():
        guesses = probabilities.argmax(axis=1)
        sheets[name if len(images) else f"{name}: no mistakes"] = (
            images,
            [
                f"{label}→{guess}  {row[guess]:.3f}"
                for label, guess, row in zip(labels, guesses, probabilities, strict=True)
            ],
        )
    # Up to ten in a row; more in rows of equal length.
    lengths = [len(images) for images, _ in sheets.values() if len(images)]
    columns = max([8, *(-(-length // -(-length // 10)) for length in lengths)])
    _sheet(
        sheets,
        "the most confident mistakes: true → predicted digit, its probability",
        columns,
        stem,
        noted,
    )


def grid_confusion(matrices: Mapping[str, NDArray[np.int64]], stem: Path) -> None:
    """Row-normalised confusion matrices of all runs side by side, on one colour scale."""
    columns = min(3, len(matrices))
    rows = -(-len(matrices) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        layout="constrained",
        figsize=(columns * (WIDTH - 0.7) / 3 + 0.7, 1.95 * rows + 0.4),
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
        axis.set_title(f"{name}\n{matrix.sum() - np.trace(matrix):,} wrong", fontsize=_SMALL)
        axis.grid(visible=False)
        axis.tick_params(labelbottom=index + columns >= len(matrices))
    figure.supxlabel("predicted digit", fontsize=8)
    figure.supylabel("true digit", fontsize=8)
    bar = figure.colorbar(picture, ax=axes, label="of the true digit's images", shrink=0.6)
    _percent_ticks(bar)
    save(figure, stem)


def reliability(calibrations: Mapping[Run, Calibration], stem: Path) -> None:
    """Accuracy against confidence, one panel a run, over the number of images in each bin."""
    columns = min(3, len(calibrations))
    blocks = -(-len(calibrations) // columns)
    most = max(int(calibration.counts.max()) for calibration in calibrations.values())
    panel, gap, left, block, foot = 1.62, 0.25, 0.7, 2.35, 0.85
    width = max(left + columns * (panel + gap), 0.7 * WIDTH)
    figure = plt.figure(figsize=(width, blocks * block + foot))
    for index, (run, calibration) in enumerate(calibrations.items()):
        x = left + index % columns * (panel + gap)
        bottom = foot + (blocks - 1 - index // columns) * block
        axis = _add_axes(figure, x, bottom + 0.5, panel, 1.4)
        below = _add_axes(figure, x, bottom, panel, 0.4)
        _draw_reliability(axis, run, calibration)
        axis.set_title(f"{run.name}\nECE {calibration.ece:.4f}", fontsize=_SMALL)
        bins = len(calibration.counts)
        edges = np.arange(bins) / bins
        below.bar(edges, calibration.counts, width=1 / bins, align="edge", color="0.6", ec="white")
        below.set(yscale="log", ylim=(0.7, 3 * max(most, 1)), xlim=(0, 1), xticks=[0, 0.5, 1])
        below.yaxis.set_major_locator(FixedLocator([1, 100, 10_000]))
        below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        below.yaxis.set_minor_locator(NullLocator())
        axis.tick_params(labelbottom=False, labelleft=index % columns == 0)
        below.tick_params(labelleft=index % columns == 0)
        if index % columns == 0:
            axis.set_ylabel("accuracy")
            below.set_ylabel("images")
            for labelled in (axis, below):
                labelled.yaxis.set_label_coords(-0.5 / panel, 0.5)
        if index + columns >= len(calibrations):
            below.set_xlabel("confidence")
        else:
            below.tick_params(labelbottom=False)
    few = Line2D([], [], color=_GREY, marker="o", markerfacecolor="white", linestyle="none")
    few.set_label("fewer than 10 images")
    _legend(figure, [*_style_key(calibrations), [few]])
    save(figure, stem)


def class_accuracy(matrices: Mapping[str, NDArray[np.int64]], stem: Path) -> None:
    """Which part of each digit every run gets wrong, in percent, as a table that is shaded.

    Args:
        matrices: name -> confusion counts (10, 10), rows true; several seeds' may be summed.
        stem: see `contact_sheet`.
    """
    wrong = []
    for matrix in matrices.values():
        totals, right = matrix.sum(axis=1), np.diag(matrix)
        totals, right = np.append(totals, totals.sum()), np.append(right, right.sum())
        with np.errstate(invalid="ignore"):
            wrong.append(100 * (totals - right) / totals)
    percent = np.array(wrong)
    figure, axis = plt.subplots(layout="constrained", figsize=(WIDTH, 0.24 * len(matrices) + 1.25))
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
        axis.text(
            column,
            row,
            "none" if np.isnan(value) else "0" if value == 0 else shown,
            ha="center",
            va="center",
            fontsize=_SMALL,
            color="white" if value > 20 else "black",
        )
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
    save(figure, stem)


def convergence(
    reached: Mapping[Run, Mapping[float, Sequence[int | None]]],
    stem: Path,
) -> None:
    """Epochs until a run reached each validation accuracy, one panel an accuracy.

    Args:
        reached: run -> accuracy -> first epoch with at least that validation accuracy, one a
            seed, None where it never came.
        stem: see `contact_sheet`.
    """
    levels = sorted({level for own in reached.values() for level in own})
    epochs = [e for own in reached.values() for seeds in own.values() for e in seeds if e]
    last = max(epochs, default=1)
    unreached = 2.0 * last
    figure, axes = plt.subplots(
        1,
        len(levels),
        layout="constrained",
        figsize=(WIDTH, 0.36 * len(reached) + 1.3),
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
        _log_epochs(axis)
        axis.set_xlim(0.75, 1.4 * unreached)
        axis.axvspan(unreached / 1.4, 1.4 * unreached, color="0.92", zorder=0)
        ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= last]
        axis.set_xticks([*ticks, unreached], [*map(str, ticks), "not\nreached"])
        axis.tick_params(axis="y", length=0)
        axis.set_title(f"{100 * level:g} % validation accuracy")
        axis.set_xlabel("epochs")
    _name_rows(axes[0, 0], reached)
    _legend(figure, _style_key(reached))
    save(figure, stem)


def comparison(results: Mapping[Run, Comparison], stem: Path) -> None:
    """Our test accuracy with its 95 % interval and every seed, beside the study's."""
    values = [
        value
        for result in results.values()
        for value in (*result.seeds, result.accuracy, result.study, *(result.interval or ()))
        if value is not None
    ]
    figure, axis = plt.subplots(layout="constrained", figsize=(WIDTH, 0.38 * len(results) + 1.2))
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
                fontsize=_SMALL,
                color=_GREY,
                bbox={"color": "white", "pad": 1},
            )
        for seed in result.seeds:
            axis.plot(seed, row + 0.26, color=run.style["color"], marker="|", markersize=6)
        if result.study is not None:
            axis.plot(result.study, row - 0.28, **_STUDY)
    _accuracy_scale(axis, "x", values)
    axis.set_xlabel("test accuracy (scale: logarithm of the error)")
    _name_rows(axis, results)
    ours = [
        Line2D([], [], color=_GREY, marker="o", label="ours, 95 % interval"),
        Line2D([], [], color=_GREY, marker="|", linestyle="none", label="one seed"),
    ]
    if any(result.study is not None for result in results.values()):
        ours.append(Line2D([], [], label="the study", **_STUDY))
    _legend(figure, [ours, *_style_key(results)])
    save(figure, stem)


def two_runs(
    runs: Mapping[str, Training],
    predicted: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    stem: Path,
) -> None:
    """Accuracy and loss of two trainings by epoch, and the test digits that they disagree on.

    Args:
        runs: name -> training, the two of them.
        predicted: the digits (n,) that each sees on the test images that they disagree on; None
            where that is not known, which leaves the panel out.
        stem: see `contact_sheet`.
    """
    count = 2 if predicted is None else 3
    figure, axes = plt.subplots(
        1, count, layout="constrained", figsize=(WIDTH, 3.0), width_ratios=[1, 1, 1.1][:count]
    )
    for (name, training), colour, marker in zip(runs.items(), _PAIR, "os", strict=True):
        style = {"color": colour, "marker": marker}
        for axis, keys in zip(axes, (_ACCURACY, _LOSS), strict=False):
            for key in keys:
                _draw_trainings(axis, key, [training], style)
        axes[0].plot([], [], label=name, **style)
    rows = [row for training in runs.values() for row in training.rows]
    _accuracy_scale(axes[0], "y", [row[key] for row in rows for key in _ACCURACY])
    _loss_scale(axes[1], [row[key] for row in rows for key in _LOSS])
    for axis, name in zip(axes, ("accuracy", "loss"), strict=False):
        axis.set_title(name)
        axis.set_xlabel("epoch")
        _epoch_scale(axis, list(runs.values()))
    if predicted is not None:
        _draw_disagreement(axes[2], list(runs), *predicted)
    _key(figure, [[training] for training in runs.values()])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    save(figure, stem)


def disagreements(
    images: NDArray[np.uint8],
    listed: NDArray[np.int64],
    names: Sequence[str],
    stem: Path,
) -> None:
    """Test images that two trainings see different digits in.

    Args:
        images: uint8 (n, size, size, 3), n at least 1.
        listed: (n, 4), the index of each, its digit, and what each training sees.
        names: of the two trainings.
        stem: see `contact_sheet`.
    """
    captions = [f"{index}: {digit}→{a}|{b}" for index, digit, a, b in listed]
    heading = "test image: true digit → " + " | ".join(names)
    _sheet({heading: (images, captions)}, "", 8, stem)


def save(figure: Figure, stem: Path, noted: Mapping[str, str] | None = None) -> None:
    """Write `figure` as STEM.png, whole or not at all, and close it: the same bytes every time."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    write(Image.open(drawn), stem.with_name(f"{stem.name}.png"), noted or {})


def write(picture: Image.Image, path: Path, noted: Mapping[str, str]) -> None:
    """Write `picture` as a PNG of few shades, with what is `noted` by keyword."""
    picture = picture.convert("RGB")
    picture = picture.quantize(_SHADES, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    # The octree makes 254 of what is 255, and white would not be white.
    picture.putpalette([255 if shade == 254 else shade for shade in picture.getpalette() or []])
    text = PngInfo()
    for keyword, said in noted.items():
        text.add_text(keyword, said)
    with files.replacing(path) as partial:
        picture.save(partial, "png", optimize=True, pnginfo=text)


def _sheet(
    groups: Mapping[str, tuple[NDArray[np.uint8], Sequence[str]]],
    note: str,
    columns: int,
    stem: Path,
    noted: Mapping[str, str] | None = None,
) -> None:
    """Images (n, size, size, 3) with a caption each, in rows of `columns` under headings."""
    image, gap, caption, heading = WIDTH / columns - 0.08, 0.08, 0.17, 0.26
    row = image + gap + caption
    rows = {name: -(-len(images) // columns) for name, (images, _) in groups.items()}
    top = sum(rows.values()) * row + len(rows) * heading + 0.2
    figure = plt.figure(figsize=(WIDTH, top))
    if note:
        figure.suptitle(note, fontsize=_SMALL, y=1 - 0.02 / top, va="top")
        top -= 0.1
    for name, (images, captions) in groups.items():
        figure.text(0.04 / WIDTH, (top - 0.1) / figure.get_figheight(), name, va="top")
        top -= heading
        for index, (pixels, text) in enumerate(zip(images, captions, strict=True)):
            left = index % columns * (image + gap) + gap / 2
            bottom = top - index // columns * row - caption - image
            axis = _add_axes(figure, left, bottom, image, image)
            axis.imshow(pixels, interpolation="none")
            axis.set_title(text, fontsize=_SMALL, pad=2)
            axis.axis("off")
        top -= rows[name] * row
    save(figure, stem, noted)


def _draw_disagreement(
    axis: Axes, names: Sequence[str], a: NDArray[np.int64], b: NDArray[np.int64]
) -> None:
    """How often the first training says each digit where the second says another one."""
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(counts, (a, b), 1)
    axis.imshow(np.where(counts, counts, np.nan), cmap="Blues", vmin=0)
    for row, column in zip(*counts.nonzero(), strict=True):
        strong = counts[row, column] > 0.6 * counts.max()
        axis.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center",
            fontsize=_SMALL,
            color="white" if strong else "black",
        )
    axis.set_title(f"{len(a):,} disagreements")
    axis.set_xticks(range(CLASSES))
    axis.set_yticks(range(CLASSES))
    axis.set_ylabel(f"digit of {names[0]}")
    axis.set_xlabel(f"digit of {names[1]}")
    axis.grid(visible=False)


def _draw_trainings(
    axis: Axes, key: str, trainings: Sequence[Training], style: Mapping[str, Any]
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


def _draw_study(column: Sequence[Axes], curves: Mapping[str, Training]) -> list[Line2D]:
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
    trainings: Sequence[Training], key: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Epochs that all trainings have rows of, and the mean of `key` in each."""
    rows = [training.rows for training in trainings]
    together = [*zip(*rows, strict=False)]
    epochs = np.array([epoch[0]["epoch"] for epoch in together])
    return epochs, np.array([np.mean([row[key] for row in epoch]) for epoch in together])


def _described(name: str, trainings: Sequence[Training]) -> str:
    outcomes = Counter(training.outcome for training in trainings)
    notes = [f"{len(trainings)} seeds"] if len(trainings) > 1 else []
    for outcome in OUTCOME_MARKERS:
        if outcomes[outcome]:
            alike = outcomes[outcome] == len(trainings)
            notes.append(outcome if alike else f"{outcomes[outcome]} {outcome}")
    return f"{name} ({', '.join(notes)})" if notes else name


def _key(figure: Figure, runs: Sequence[Sequence[Training]]) -> None:
    """What all panels of learning curves share."""
    several = any(len(trainings) > 1 for trainings in runs)
    outcomes = {training.outcome for trainings in runs for training in trainings}
    grey: dict[str, Any] = {"color": _GREY, "marker": "o"}
    as_set = "training, dropout and augmentation as set"
    handles = [
        Line2D([], [], label="validation", **grey, **_VALIDATION),
        Line2D([], [], label=as_set, **grey, **_TRAINING),
    ]
    if several:
        handles.append(Line2D([], [], color=_GREY, linewidth=0.5, label="one seed (thick: mean)"))
    handles += [
        Line2D([], [], color="black", marker=marker, linestyle="none", label=outcome)
        for outcome, marker in OUTCOME_MARKERS.items()
        if outcome in outcomes
    ]
    columns = 3 if figure.get_figwidth() == WIDTH else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _style_key(runs: Iterable[Run]) -> list[list[Line2D]]:
    """Legend entries for the optimizers and for the initial weights of `runs`."""
    runs = list(runs)
    optimizers = [
        Line2D([], [], color=optimizer_colour(name), linewidth=3, label=name)
        for name in dict.fromkeys([*OPTIMIZER_COLOURS, *(run.optimizer for run in runs)])
        if any(run.optimizer == name for run in runs)
    ]
    weights = [
        Line2D([], [], color=_GREY, marker=weights_marker(name), linestyle="none", label=name)
        for name in dict.fromkeys([*WEIGHTS_MARKERS, *(run.weights for run in runs)])
        if any(run.weights == name for run in runs)
    ]
    return [optimizers, weights]


def _legend(figure: Figure, groups: Iterable[Sequence[Line2D]]) -> None:
    """A legend of two rows below the figure, each group in columns of its own."""
    handles: list[Line2D] = []
    for group in groups:
        handles += group
        if len(group) % 2:
            handles.append(Line2D([], [], linestyle="none", label=" "))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) // 2)


def _draw_reliability(axis: Axes, run: Run, calibration: Calibration) -> None:
    some = calibration.counts > 0
    axis.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1)
    axis.plot(
        calibration.confidence[some],
        calibration.accuracy[some],
        color=run.style["color"],
        linewidth=0.8,
    )
    few = calibration.counts < 10
    for chosen, filled in ((some & ~few, {}), (some & few, {"markerfacecolor": "white"})):
        axis.plot(
            calibration.confidence[chosen],
            calibration.accuracy[chosen],
            linestyle="none",
            markersize=4,
            clip_on=False,
            zorder=3,
            **run.style | filled,
        )
    axis.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])


def _add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _percent_ticks(bar: Colorbar) -> None:
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    bar.ax.minorticks_off()


def _name_rows(axis: Axes, runs: Mapping[Run, Any]) -> None:
    axis.set_yticks(range(len(runs)), [run.name for run in runs])
    axis.set_ylim(len(runs) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)


def _offsets(count: int) -> NDArray[np.float64]:
    """Heights that keep `count` marks in one row apart."""
    return np.linspace(-0.28, 0.28, count) if count > 1 else np.zeros(count)


def _accuracy_scale(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Give the x or y axis equal steps for equal ratios of the error: 0.9, 0.99, 0.999.

    Chance and 0.997 can both be read on it. Anything above 0.9999 is drawn there.
    """
    highest = _ACCURACIES[-1]

    def forward(accuracy: NDArray[np.float64]) -> Any:
        return -np.log10(1 - np.minimum(accuracy, highest))

    def inverse(value: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 - np.power(10.0, -value)

    finite = [value for value in values if np.isfinite(value)] or [0.0, 0.9]
    low, high = max(min(finite), 0), min(max(finite), highest)
    bottom = max(tick for tick in _ACCURACIES[:-1] if tick <= low)
    top = min(tick for tick in _ACCURACIES if tick > bottom and tick >= high)
    getattr(axes, f"set_{which}scale")("function", functions=(forward, inverse))
    getattr(axes, f"set_{which}lim")(bottom, top)
    ticks = _ACCURACIES
    if sum(bottom <= tick <= top for tick in ticks) < 5:
        errors = (10.0**-decade * error for decade in range(5) for error in _FINE_ERRORS)
        ticks = tuple(round(1 - error, 6) for error in errors)
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _loss_scale(axes: Axes, values: Sequence[float]) -> None:
    finite = [value for value in values if 0 < value < np.inf]
    axes.set_yscale("log")
    axes.set_ylim(0.8 * min(finite, default=0.1), 1.25 * min(max(finite, default=1), 100))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _epoch_scale(axes: Axes, trainings: Sequence[Training]) -> None:
    """Logarithmic where runs differ so much in length that short ones would be squeezed."""
    whole = [len(t.rows) for t in trainings if t.rows and t.outcome != "diverged"]
    lengths = whole or [max((len(training.rows) for training in trainings), default=0) or 1]
    if max(lengths) > 2 * min(lengths):
        _log_epochs(axes)
        axes.set_xlim(0.9, 1.1 * max(lengths))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, max(lengths) + 0.5)


def _log_epochs(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
