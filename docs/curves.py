"""Draws curves.svg, the picture of README.md, from committed results: `python docs/curves.py`.

It reads the histories in `studies/full/metrics/` and those that the study stored beside its code.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

ROOT = Path(__file__).resolve().parents[1]
METRICS = ROOT / "studies" / "full" / "metrics"
EPOCHS = range(1, 16)

# Of the files that the study stored, those that end with the numbers it printed for these rows.
STORED = {
    ("vgg16", "adam"): "hist.p",
    ("vgg16", "sgd"): "hist_vgg_sgd.p",
    ("resnet50", "adam"): "hist_res_adam.p",
    ("resnet50", "sgd"): "hist_res_sgd_weighted.p",
}
OURS: dict[str, dict[str, Any]] = {
    "adam": {"color": "#D55E00", "marker": "o", "markersize": 4.5, "linewidth": 2.4},
    "sgd": {"color": "#0072B2", "marker": "s", "markersize": 4.5, "linewidth": 2.4},
}
THEIRS: dict[str, dict[str, Any]] = {
    "adam": {"color": "black", "linewidth": 1.1},
    "sgd": {"color": "black", "linewidth": 1.1, "linestyle": (0, (4, 1.5))},
}
SEED: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.5}
TICKS = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)


def read_ours(arch: str, optimizer: str) -> pd.DataFrame:
    """Validation accuracy by epoch, a column a seed."""
    history = pd.read_csv(METRICS / f"{arch}-{optimizer}-random" / "history.csv")
    return history.pivot(index="epoch", columns="seed", values="val_accuracy")


def read_theirs(arch: str, optimizer: str) -> list[float]:
    """Validation accuracy by epoch of the training that the study stored."""
    (path,) = (ROOT / "src" / "deepnets").rglob("published_histories.json")
    stored: list[float] = json.loads(path.read_text())[STORED[arch, optimizer]]["val_accuracy"]
    return stored


def draw(axes: Axes, arch: str, title: str, note: str) -> None:
    """One network: every seed thin, their mean thick, the study's two trainings in black."""
    for optimizer, style in OURS.items():
        axes.plot(EPOCHS, read_theirs(arch, optimizer), **THEIRS[optimizer])
        seeds = read_ours(arch, optimizer)
        axes.plot(seeds.index, seeds, color=style["color"], **SEED)
        axes.plot(seeds.index, seeds.mean(axis=1), **style)
    axes.set_title(title, fontweight="bold")
    axes.set_xlabel("epoch")
    axes.set_xticks(EPOCHS[::2])
    # Equal steps for equal ratios of the error.
    axes.set_yscale(
        "function",
        functions=(lambda y: -np.log10(1 - np.minimum(y, 0.9999)), lambda place: 1 - 10.0**-place),
    )
    axes.set_ylim(0, 0.9962)
    axes.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.minorticks_off()
    axes.text(15, 0.38, note, ha="right", va="center", fontsize=9)


STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.hashsalt": "deepnets",
}


def main(path: Path) -> None:
    """Draw both networks beside each other into `path`."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        draw_both(path)


def draw_both(path: Path) -> None:
    """The figure, in the style that is set."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.9), sharey=True, layout="constrained")
    draw(left, "vgg16", "VGG-16", "Adam stays at chance, with each of three seeds")
    draw(right, "resnet50", "ResNet50", "Adam: one seed, SGD: three")
    left.set_ylabel("validation accuracy")
    entries = {
        "Adam, ours": Line2D([], [], **OURS["adam"]),
        "Adam, the study's": Line2D([], [], **THEIRS["adam"]),
        "SGD, ours (thick: mean)": Line2D([], [], **OURS["sgd"]),
        "SGD, the study's": Line2D([], [], **THEIRS["sgd"]),
    }
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4)
    figure.savefig(path, metadata={"Date": None, "Creator": None} if path.suffix == ".svg" else {})
    plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg"))
