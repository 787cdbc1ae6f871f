"""How far confidence can be trusted: reliability diagrams."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from deepnets.records.statistics import Calibration
from deepnets.reporting import drawing


def reliability(calibrations: Mapping[drawing.Run, Calibration], stem: Path) -> None:
    """Accuracy against confidence, one panel a run, over the number of images in each bin."""
    columns = min(3, len(calibrations))
    blocks = -(-len(calibrations) // columns)
    most = max(int(calibration.counts.max()) for calibration in calibrations.values())
    panel, gap, left, block, foot = 1.62, 0.25, 0.7, 2.35, 0.85
    width = max(left + columns * (panel + gap), 0.7 * drawing.WIDTH)
    figure = plt.figure(figsize=(width, blocks * block + foot))
    for index, (run, calibration) in enumerate(calibrations.items()):
        x = left + index % columns * (panel + gap)
        bottom = foot + (blocks - 1 - index // columns) * block
        axis = drawing.add_axes(figure, x, bottom + 0.5, panel, 1.4)
        below = drawing.add_axes(figure, x, bottom, panel, 0.4)
        _draw_reliability(axis, run, calibration)
        axis.set_title(f"{run.name}\nECE {calibration.ece:.4f}", fontsize=drawing.SMALL)
        bins = len(calibration.counts)
        edges = np.arange(bins) / bins
        below.bar(edges, calibration.counts, width=1 / bins, align="edge", color="0.6", ec="white")
        below.set(yscale="log", ylim=(0.7, 3 * max(most, 1)), xlim=(0, 1), xticks=[0, 0.5, 1])
        drawing.ticks(below.yaxis, FixedLocator([1, 100, 10_000]), "{:,.0f}".format)
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
    few = Line2D([], [], color=drawing.GREY, marker="o", markerfacecolor="white", linestyle="none")
    few.set_label("fewer than 10 images")
    drawing.add_legend(figure, [*drawing.style_key(calibrations), [few]])
    drawing.save(figure, stem)


def _draw_reliability(axis: Axes, run: drawing.Run, calibration: Calibration) -> None:
    some = calibration.counts > 0
    axis.plot([0, 1], [0, 1], color=drawing.GREY, linestyle=":", linewidth=1)
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
