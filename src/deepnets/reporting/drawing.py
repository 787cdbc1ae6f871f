"""What all figures share: their style, their scales and legends, and how they are written.

The same optimizer has the same colour everywhere (Okabe and Ito's palette, which colour-blind
readers can tell apart), the same initial weights the same marker, and no two things differ by
colour alone. Figures are at most as wide as the text of a printed page and their text is at least
7 points. Figures are drawn off screen from plain values: nothing that draws knows of a stage.
"""

import io
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, LogLocator, NullLocator
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from deepnets.base import colours, files

WEIGHTS_MARKERS = {"random": "o", "imagenet": "s", "he": "^"}

# Of weights that a study has described itself.
_OTHER_MARKERS = "PX*ph8"

# 16 cm in inches, the text width of the printed report.
WIDTH = 6.3

SMALL = 7

GREY = "#595959"

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

# Shades that a picture has; more cannot be told from these, and git keeps every picture.
_SHADES = 64

# A user's matplotlibrc has no say in it.
mpl.rcdefaults()

mpl.rcParams.update(
    {
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "legend.fontsize": SMALL,
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
            "color": colours.optimizer_colour(self.optimizer),
            "marker": weights_marker(self.weights),
        }


def weights_marker(weights: str) -> str:
    """Matplotlib's marker of runs that start from `weights`."""
    chosen = zlib.crc32(weights.encode()) % len(_OTHER_MARKERS)
    return WEIGHTS_MARKERS.get(weights, _OTHER_MARKERS[chosen])


def save(figure: Figure, stem: Path, noted: Mapping[str, str] | None = None) -> None:
    """Write `figure` as STEM.png, whole or not at all, and close it: the same bytes every time.

    Args:
        figure: any of Matplotlib's.
        stem: the path to write, without .png.
        noted: see `write`.
    """
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


def style_key(runs: Iterable[Run]) -> list[list[Line2D]]:
    """Legend entries for the optimizers and for the initial weights of `runs`."""
    runs = list(runs)
    optimizers = [
        Line2D([], [], color=colours.optimizer_colour(name), linewidth=3, label=name)
        for name in dict.fromkeys([*colours.OPTIMIZER_COLOURS, *(run.optimizer for run in runs)])
        if any(run.optimizer == name for run in runs)
    ]
    weights = [
        Line2D([], [], color=GREY, marker=weights_marker(name), linestyle="none", label=name)
        for name in dict.fromkeys([*WEIGHTS_MARKERS, *(run.weights for run in runs)])
        if any(run.weights == name for run in runs)
    ]
    return [optimizers, weights]


def add_legend(figure: Figure, groups: Iterable[Sequence[Line2D]]) -> None:
    """A legend of two rows below the figure, each group in columns of its own."""
    handles: list[Line2D] = []
    for group in groups:
        handles += group
        if len(group) % 2:
            handles.append(Line2D([], [], linestyle="none", label=" "))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) // 2)


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def accuracy_scale(axes: Axes, which: str, values: Sequence[float]) -> None:
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
    places = _ACCURACIES
    if sum(bottom <= tick <= top for tick in places) < 5:
        errors = (10.0**-decade * error for decade in range(5) for error in _FINE_ERRORS)
        places = tuple(round(1 - error, 6) for error in errors)
    axis = getattr(axes, f"{which}axis")
    ticks(axis, FixedLocator(places))


def name_rows(axis: Axes, names: Sequence[str], margin: float) -> None:
    """Name the rows of a figure that has them below each other, the first at the top, at y = 0.

    Args:
        axis: what they are drawn in.
        names: from above.
        margin: above the first row and below the last one, in rows.
    """
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 1 + margin, -margin)
    axis.tick_params(axis="y", length=0)


def say_not_run(axis: Axes, row: int, **style: Any) -> None:
    """Write into a row of such a figure that it has not been run yet."""
    axis.text(
        0.02,
        row,
        "not run yet",
        transform=axis.get_yaxis_transform(),
        va="center",
        fontsize=SMALL,
        color=GREY,
        **style,
    )


def offsets(count: int, reach: float) -> NDArray[np.float64]:
    """Heights that keep `count` marks in one row apart, up to `reach` either way."""
    return np.linspace(-reach, reach, count) if count > 1 else np.zeros(count)


def log_epochs(axes: Axes) -> None:
    axes.set_xscale("log")
    ticks(axes.xaxis, LogLocator(subs=(1, 2, 5)))


def ticks(axis: Axis, places: Locator, label: Callable[[float], str] = "{:g}".format) -> None:
    """Ticks at `places` alone, labelled as plain numbers."""
    axis.set_major_locator(places)
    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
    axis.set_minor_locator(NullLocator())
