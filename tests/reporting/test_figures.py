"""Figures: whole files, the same for the same data, readable in print, saying what they should."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

import architectures
from deepnets.base import colours
from deepnets.records.statistics import Calibration
from deepnets.reporting import (
    accuracies,
    curves,
    diagrams,
    drawing,
    matrices,
    reliability,
    sheets,
)
from deepnets.reporting.accuracies import AccuracyRow
from deepnets.reporting.curves import SeedCurve
from deepnets.reporting.drawing import Run
from project import environment

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (10, 32, 32, 3), np.uint8)
LABELS = np.arange(10, dtype=np.uint8)
PROBABILITIES = GENERATOR.dirichlet(np.ones(10), 10).astype(np.float32)
MATRIX = np.diag(np.full(10, 1000)).astype(np.int64)
MATRIX[4, 9] = 7
MATRIX[9, 4] = 1235

RUNS = [
    Run(f"{arch}-{optimizer}-{weights}", optimizer, weights)
    for arch in ("vgg16", "resnet50")
    for weights in ("random", "imagenet")
    for optimizer in ("adam", "sgd")
]
RUNS.append(Run("resnet50-sgd-random-long", "sgd", "random"))
ADAM, SGD = RUNS[:2]


def rows(epochs: int, factor: float = 1.0) -> list[dict[str, float]]:
    """Errors of `factor` times 0.4, 0.3, 0.2, 0.1 divided by the epoch; losses are errors."""
    errors = {"loss": 0.4, "accuracy": 0.3, "val_loss": 0.2, "val_accuracy": 0.1}
    return [
        {
            "epoch": float(epoch),
            **{
                key: 1 - factor * error / epoch if "accuracy" in key else factor * error / epoch
                for key, error in errors.items()
            },
        }
        for epoch in range(1, epochs + 1)
    ]


def chance(epochs: int) -> list[dict[str, float]]:
    row = {"loss": 2.301, "accuracy": 0.1136, "val_loss": 2.302, "val_accuracy": 0.1135}
    return [{"epoch": float(epoch), **row} for epoch in range(1, epochs + 1)]


PANELS = {
    "VGG-16": {
        RUNS[0]: [
            SeedCurve(rows(15)),
            SeedCurve(chance(15), "collapsed"),
            SeedCurve(rows(15, 0.8)),
        ],
        RUNS[1]: [SeedCurve(rows(15, 0.5)), SeedCurve(rows(15, 0.6))],
        RUNS[2]: [SeedCurve([], "diverged")],
        RUNS[3]: [SeedCurve(rows(15, 0.2))],
    },
    "ResNet50": {
        RUNS[4]: [SeedCurve(rows(4, 2), "diverged")],
        RUNS[5]: [SeedCurve(rows(15, 1.5))],
        RUNS[8]: [SeedCurve(rows(50, 1.2))],
    },
}

STUDYS = {
    "VGG-16": {"the study's hist.p": SeedCurve(rows(15, 0.9))},
    "ResNet50": {f"the study's hist_{i}.p": SeedCurve(rows(15, 1 + i / 4)) for i in range(3)},
}

CALIBRATION = Calibration(
    counts=np.array([0, 9, 0, 91, 9900]),
    confidence=np.array([np.nan, 0.3, np.nan, 0.7, 0.99]),
    accuracy=np.array([np.nan, 0.0, np.nan, 0.8, 0.98]),
    ece=0.01234,
)

REACHED = {run: {0.97: [1, None, 2], 0.98: [5, None, None], 0.99: [None]} for run in RUNS}

RESULTS = {run: AccuracyRow((0.991, 0.993), 0.992, (0.989, 0.995), 0.9914) for run in RUNS}
RESULTS[RUNS[0]] = AccuracyRow((0.1135,), 0.1135, (0.107, 0.12), 0.9924)
RESULTS[RUNS[6]] = AccuracyRow(study=0.9608)
RESULTS[RUNS[8]] = AccuracyRow((0.997,), 0.997, (0.996, 0.998))

MATRICES = {run.name: MATRIX for run in RUNS}
DIGITS = (IMAGES, LABELS, PROBABILITIES)

DRAWINGS: dict[str, Callable[[Path], None]] = {
    "contact_sheet": lambda stem: sheets.contact_sheet({"train": (IMAGES, LABELS)}, stem),
    "curves": lambda stem: curves.learning_curves(PANELS, stem),
    "curves_of_one": lambda stem: curves.learning_curves(
        {"vgg16": {SGD: [SeedCurve(rows(2))]}}, stem
    ),
    "curves_beside_the_studys": lambda stem: curves.learning_curves(PANELS, stem, STUDYS),
    "confusion": lambda stem: matrices.confusion(MATRIX, "vgg16-sgd-random", stem),
    "mistakes": lambda stem: sheets.mistakes("a", IMAGES, LABELS, PROBABILITIES, stem),
    "grid_confusion": lambda stem: matrices.grid_confusion(MATRICES, stem),
    "reliability": lambda stem: reliability.reliability(dict.fromkeys(RUNS, CALIBRATION), stem),
    "reliability_of_one": lambda stem: reliability.reliability({SGD: CALIBRATION}, stem),
    "class_accuracy": lambda stem: matrices.class_accuracy(MATRICES, stem),
    "convergence": lambda stem: accuracies.convergence(REACHED, stem),
    "convergence_of_one": lambda stem: accuracies.convergence({SGD: {0.97: [None]}}, stem),
    "comparison": lambda stem: accuracies.comparison(RESULTS, stem),
    "comparison_of_one": lambda stem: accuracies.comparison({SGD: RESULTS[SGD]}, stem),
    "vgg16": lambda stem: drawing.save(diagrams.network(architectures.vgg16(), "VGG-16"), stem),
    "resnet50": lambda stem: drawing.save(
        diagrams.network(architectures.resnet50(), "ResNet50"), stem
    ),
    "top": lambda stem: drawing.save(
        diagrams.modified_top(architectures.vgg16(), "VGG-16: its top"), stem
    ),
}
# Those that name all runs.
NAMING = {"grid_confusion", "reliability", "class_accuracy", "convergence", "comparison"}


@pytest.fixture(scope="module", params=DRAWINGS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders that the same figure was drawn into, and closed."""
    folders = [tmp_path_factory.mktemp(request.param) for _ in range(2)]
    open_before = plt.get_fignums()
    for folder in folders:
        DRAWINGS[request.param](folder / "new" / request.param)
    assert plt.get_fignums() == open_before
    return [folder / "new" / request.param for folder in folders]


def test_png_is_a_picture_that_is_not_blank(files: list[Path]) -> None:
    pixels = plt.imread(files[0].with_suffix(".png"))
    height, width = pixels.shape[:2]
    assert 100 < height < 2000
    assert 600 < width < 1000
    assert pixels[..., :3].std() > 0.01


def test_nothing_but_the_png_is_left(files: list[Path]) -> None:
    assert [file.name for file in files[0].parent.iterdir()] == [f"{files[0].name}.png"]


def test_same_data_gives_the_same_bytes(files: list[Path]) -> None:
    first, second = (stem.with_suffix(".png").read_bytes() for stem in files)
    assert first == second


def test_few_shades_are_near_those_that_were_drawn(tmp_path: Path) -> None:
    """White is white, and nobody sees a difference in a large area."""
    figure, axis = plt.subplots(figsize=(4, 3))
    shown = [*colours.OPTIMIZER_COLOURS.values(), "#595959", "black"]
    axis.bar(range(len(shown)), 1, color=shown)
    drawing.save(figure, tmp_path / "x")
    pixels = plt.imread(tmp_path / "x.png")[..., :3]
    assert pixels[0, 0].tolist() == [1, 1, 1]
    for colour in shown:
        assert np.abs(pixels - to_rgb(colour)).max(axis=2).min() < 2 / 255


def test_a_picture_is_small(files: list[Path]) -> None:
    assert files[0].with_suffix(".png").stat().st_size < 120_000


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """Figures as they are when they would be saved."""
    kept: list[Figure] = []
    monkeypatch.setattr(drawing, "save", lambda figure, *_: kept.append(figure))
    yield kept
    plt.close("all")


@pytest.mark.parametrize("name", DRAWINGS)
def test_text_can_be_read_in_print_and_names_all_runs(name: str, drawn: list[Figure]) -> None:
    DRAWINGS[name](Path("x"))
    (figure,) = drawn
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    assert min(text.get_fontsize() for text in texts) >= 7
    # 16 cm: a wider figure would be shrunk.
    assert figure.get_figwidth() <= 16 / 2.54 + 0.02
    if name in NAMING:
        words = {line for text in texts for line in text.get_text().splitlines()}
        assert {run.name for run in RUNS} <= words


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_nothing_is_cut_off_at_the_border(
    draw: Callable[[Path], None], drawn: list[Figure]
) -> None:
    draw(Path("x"))
    figure = drawn[0]
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.xmin > -0.01
    assert box.ymin > -0.01
    assert box.xmax < width + 0.01
    assert box.ymax < height + 0.01


# --- digits


def captions(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.get_axes()]


def headings(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts if text.get_text() != figure.get_suptitle()]


def test_contact_sheet_shows_the_pixels_with_their_labels(drawn: list[Figure]) -> None:
    sheets.contact_sheet({"train": (IMAGES, LABELS), "test": (IMAGES[:3], LABELS[:3])}, Path("x"))
    (figure,) = drawn
    assert captions(figure) == [str(v) for v in [*range(10), *range(3)]]
    for axis, image in zip(figure.get_axes(), [*IMAGES, *IMAGES[:3]], strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), image)
    assert headings(figure) == ["train: first 10, 32x32x3", "test: first 3, 32x32x3"]


def test_mistakes_name_truth_guess_and_probability(drawn: list[Figure]) -> None:
    certain = np.zeros((2, 10), np.float32)
    certain[[0, 1], [4, 7]] = [0.9876, 0.5]
    shown = (IMAGES[:2], np.array([9, 1], np.uint8), certain)
    sheets.mistakes("first", *shown, Path("x"))
    sheets.mistakes("second", *(array[:0] for array in shown), Path("x"))
    assert captions(drawn[0]) == ["9→4  0.988", "1→7  0.500"]
    assert headings(drawn[0]) == ["first"]
    assert captions(drawn[1]) == []
    assert headings(drawn[1]) == ["second: no mistakes"]


@pytest.mark.parametrize(("count", "columns"), [(1, 8), (10, 10), (16, 8), (21, 8)])
def test_mistakes_are_large_and_in_rows_of_equal_length(
    drawn: list[Figure], count: int, columns: int
) -> None:
    images = np.zeros((count, 32, 32, 3), np.uint8)
    probabilities = np.full((count, 10), 0.1, np.float32)
    sheets.mistakes("run", images, np.zeros(count, np.uint8), probabilities, Path("x"))
    axes = drawn[0].get_axes()
    assert len({round(axis.get_position().y0, 3) for axis in axes}) == -(-count // columns)
    assert len({round(axis.get_position().x0, 3) for axis in axes}) == min(count, columns)


# --- learning curves


def lines(axis: Axes) -> list[Line2D]:
    return [line for line in axis.get_lines() if len(line.get_xdata())]


def test_few_curves_share_an_axis_solid_for_validation_dashed_for_training(
    drawn: list[Figure],
) -> None:
    panels = {"vgg16": {ADAM: [SeedCurve(rows(3))]}, "resnet50": {SGD: [SeedCurve(rows(2))]}}
    curves.learning_curves(panels, Path("x"))
    axes = drawn[0].get_axes()
    assert [axis.get_title() for axis in axes] == ["vgg16", "resnet50", "", ""]
    assert [axis.get_ylabel() for axis in axes] == ["accuracy", "", "loss", ""]
    validation, training = lines(axes[2])
    np.testing.assert_allclose(validation.get_ydata(), [0.2, 0.1, 0.2 / 3])
    np.testing.assert_allclose(training.get_ydata(), [0.4, 0.2, 0.4 / 3])
    np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3])
    assert not validation.is_dashed()
    assert training.is_dashed()
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert axes[2].get_xlim() == axes[3].get_xlim()


def test_many_curves_are_drawn_apart(drawn: list[Figure]) -> None:
    curves.learning_curves({"VGG-16": {run: [SeedCurve(rows(3))] for run in RUNS[:3]}}, Path("x"))
    axes = drawn[0].get_axes()
    labels = ["validation accuracy", "training accuracy", "validation loss", "training loss"]
    assert [axis.get_ylabel() for axis in axes] == labels
    assert [[line.is_dashed() for line in lines(axis)] for axis in axes] == [
        [dashed] * 3 for dashed in (False, True, False, True)
    ]
    assert axes[0].get_ylim() == axes[1].get_ylim()


def test_mean_is_that_of_the_seeds_that_neither_collapsed_nor_diverged(
    drawn: list[Figure],
) -> None:
    trainings = [
        SeedCurve(rows(3)),
        SeedCurve(rows(3, 0.5)),
        SeedCurve(chance(3), "collapsed"),
        SeedCurve(rows(2, 2), "diverged"),
    ]
    curves.learning_curves({"VGG-16": dict.fromkeys(RUNS[:3], trainings)}, Path("x"))
    loss = drawn[0].get_axes()[2]
    seeds = [line for line in lines(loss) if len(line.get_xdata()) > 1]
    thick = max(seeds, key=lambda line: line.get_linewidth())
    np.testing.assert_allclose(thick.get_ydata(), 0.75 * np.array([0.2, 0.1, 0.2 / 3]))
    ends = [(*line.get_xydata()[0], line.get_marker()) for line in lines(loss)]
    assert (3, 2.302, "v") in ends
    assert (2, 0.2, "x") in ends
    legend = [text.get_text() for text in drawn[0].get_axes()[3].get_legend().get_texts()]
    assert legend[0] == f"{RUNS[0].name} (4 seeds, 1 collapsed, 1 diverged)"


def test_seeds_that_all_ended_alike_are_one_word(drawn: list[Figure]) -> None:
    trainings = [SeedCurve(chance(3), "collapsed")] * 3
    curves.learning_curves({"VGG-16": {SGD: trainings}}, Path("x"))
    texts = drawn[0].get_axes()[1].get_legend().get_texts()
    assert texts[0].get_text() == f"{SGD.name} (3 seeds, collapsed)"


def test_training_that_diverged_in_its_first_epoch_is_marked_at_the_foot(
    drawn: list[Figure],
) -> None:
    curves.learning_curves({"VGG-16": {SGD: [SeedCurve([], "diverged")]}}, Path("x"))
    figure = drawn[0]
    figure.draw_without_rendering()
    for axis in figure.get_axes():
        (mark,) = {(line.get_marker(), *line.get_xydata()[0]) for line in lines(axis)}
        assert mark == ("x", 1, 0)
        place = lines(axis)[0].get_transform().transform((1, 0))
        assert axis.transAxes.inverted().transform(place)[1] == pytest.approx(0)
    assert figure.get_axes()[1].get_legend().get_texts()[0].get_text() == f"{SGD.name} (diverged)"


def test_curves_of_one_panel_differ_by_more_than_colour(drawn: list[Figure]) -> None:
    runs = [*RUNS, Run("vgg16-sgd-he", "sgd", "he")]
    curves.learning_curves({"all": {run: [SeedCurve(rows(3))] for run in runs}}, Path("x"))
    drawn_as = dict(zip(runs, lines(drawn[0].get_axes()[0]), strict=True))
    for optimizer, colour in colours.OPTIMIZER_COLOURS.items():
        same = [line for run, line in drawn_as.items() if run.optimizer == optimizer]
        assert {line.get_color() for line in same} == {colour}
        assert len({(line.get_marker(), line.get_fillstyle()) for line in same}) == len(same)
    random, imagenet, he = drawn_as[RUNS[0]], drawn_as[RUNS[2]], drawn_as[runs[-1]]
    assert len({line.get_marker() for line in (random, imagenet, he)}) == 3


def test_legend_shows_every_run_as_it_is_drawn(drawn: list[Figure]) -> None:
    runs = [*RUNS, Run("vgg16-sgd-he", "sgd", "he")]
    panels = {
        "all": {run: [SeedCurve(rows(3))] for run in runs},
        "some": {run: [SeedCurve(rows(3))] for run in runs[3:5]},
    }
    curves.learning_curves(panels, Path("x"))
    axes = drawn[0].get_axes()
    for first, last, shown in zip(axes[:2], axes[-2:], panels.values(), strict=True):
        legend = last.get_legend()
        assert [text.get_text() for text in legend.get_texts()] == [run.name for run in shown]
        for handle, curve in zip(legend.legend_handles, lines(first), strict=True):
            assert isinstance(handle, Line2D)
            for getter in (Line2D.get_color, Line2D.get_marker, Line2D.get_fillstyle):
                assert getter(handle) == getter(curve)


def test_what_all_panels_share_is_in_the_legend_as_it_is_drawn(drawn: list[Figure]) -> None:
    curves.learning_curves({"VGG-16": PANELS["VGG-16"]}, Path("x"))
    (legend,) = drawn[0].legends
    texts = [text.get_text() for text in legend.get_texts()]
    handles = dict(zip(texts, legend.legend_handles, strict=True))
    assert not handles["validation"].is_dashed()
    assert handles["training, dropout and augmentation as set"].is_dashed()
    assert handles["one seed (thick: mean)"].get_linewidth() == 0.5
    assert {name: handles[name].get_marker() for name in texts[3:]} == {
        "collapsed": "v",
        "diverged": "x",
    }


@pytest.mark.parametrize("name", ["convergence", "comparison", "reliability"])
def test_colours_and_marks_are_explained_below_the_figure(drawn: list[Figure], name: str) -> None:
    DRAWINGS[name](Path("x"))
    (legend,) = drawn[0].legends
    texts = [text.get_text() for text in legend.get_texts()]
    handles = dict(zip(texts, legend.legend_handles, strict=True))
    for run in RUNS:
        assert handles[run.optimizer].get_color() == run.style["color"]
        assert handles[run.weights].get_marker() == run.style["marker"]


@pytest.mark.parametrize("crowded", [False, True])
def test_losses_are_on_a_logarithmic_axis_and_accuracies_on_that_of_their_error(
    drawn: list[Figure], crowded: bool
) -> None:
    count = 3 if crowded else 2
    shown = {run: [SeedCurve(rows(9))] for run in RUNS[:count]}
    curves.learning_curves({"a": shown, "b": shown}, Path("x"))
    left = drawn[0].get_axes()[::2]
    scales = {axis.get_ylabel().split()[-1]: axis.get_yscale() for axis in left}
    assert scales == {"accuracy": "function", "loss": "log"}
    for axis in drawn[0].get_axes():
        if axis.get_yscale() == "log":
            low, high = axis.get_ylim()
            values = [value for line in lines(axis) for value in line.get_ydata()]
            assert low < min(values) < max(values) < high < 2 * 0.4


@pytest.mark.parametrize(
    ("lengths", "scale"), [((15, 50), "log"), ((15, 15), "linear"), ((2, 3), "linear")]
)
def test_short_runs_are_not_squeezed(
    drawn: list[Figure], lengths: tuple[int, int], scale: str
) -> None:
    trainings = [[SeedCurve(rows(n)), SeedCurve(rows(1), "diverged")] for n in lengths]
    curves.learning_curves({"VGG-16": dict(zip((ADAM, SGD), trainings, strict=True))}, Path("x"))
    axis = drawn[0].get_axes()[0]
    assert axis.get_xscale() == scale
    left, right = axis.get_xlim()
    assert left < 1
    assert max(lengths) < right < 1.3 * max(lengths)


def test_the_studys_curves_are_thin_black_and_broken_in_ways_of_their_own(
    drawn: list[Figure],
) -> None:
    panels = {"VGG-16": {ADAM: [SeedCurve(rows(3))]}, "ResNet50": {SGD: [SeedCurve(rows(3))]}}
    curves.learning_curves(panels, Path("x"), STUDYS)
    axes = drawn[0].get_axes()
    keys = ["val_accuracy", "accuracy", "val_loss", "loss"]
    for place, key in enumerate(keys):
        for axis, name in zip(axes[2 * place : 2 * place + 2], STUDYS, strict=True):
            (ours,) = (line for line in lines(axis) if line.get_color() != "black")
            studys = [line for line in lines(axis) if line.get_color() == "black"]
            for line, training in zip(studys, STUDYS[name].values(), strict=True):
                np.testing.assert_array_equal(line.get_ydata(), [row[key] for row in training.rows])
                assert line.get_linewidth() < ours.get_linewidth()
                assert line.get_zorder() < ours.get_zorder()
            assert len({str(line._unscaled_dash_pattern) for line in studys}) == len(studys)
    for axis, run, name in zip(axes[-2:], (ADAM, SGD), STUDYS, strict=True):
        legend = [text.get_text() for text in axis.get_legend().get_texts()]
        assert legend == [run.name, *STUDYS[name]]


def test_axes_hold_the_studys_curves_as_well(drawn: list[Figure]) -> None:
    far = [{"epoch": 1.0, "loss": 50, "accuracy": 0.05, "val_loss": 0.001, "val_accuracy": 0.9989}]
    panels = {"VGG-16": {ADAM: [SeedCurve(rows(3))]}}
    curves.learning_curves(panels, Path("x"), {"VGG-16": {"the study's": SeedCurve(far)}})
    for axis in drawn[0].get_axes():
        low, high = axis.get_ylim()
        for line in lines(axis):
            assert low <= min(line.get_ydata()) <= max(line.get_ydata()) <= high


# --- accuracy on the scale of its error


@pytest.mark.parametrize(
    "values", [(0.1135, 0.997), (0.957,), (0.992, 0.9924), (0.0, 1.0), (-0.2, 1.2), (1.0,)]
)
def test_all_accuracies_are_inside_and_between_ticks(
    drawn: list[Figure], values: tuple[float, ...]
) -> None:
    accuracies.comparison({SGD: AccuracyRow(seeds=values)}, Path("x"))
    axis = drawn[0].get_axes()[0]
    left, right = axis.get_xlim()
    assert 0 <= left < right < 1
    # None below 0 or above 0.9999 is drawn where it is.
    assert left <= min(max(min(values), 0), 0.9999)
    assert right >= min(max(values), 0.9999)
    ticks = [tick for tick in axis.get_xticks() if left <= tick <= right]
    assert 2 <= len(ticks) <= 13


def test_equal_ratios_of_the_error_are_equally_far_apart(drawn: list[Figure]) -> None:
    accuracies.comparison(RESULTS, Path("x"))
    axis = drawn[0].get_axes()[0]
    places = [axis.transData.transform((value, 0))[0] for value in (0, 0.9, 0.99)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])


# --- the other figures of results


def test_comparison_shows_what_there_is(drawn: list[Figure]) -> None:
    accuracies.comparison(RESULTS, Path("x"))
    axis = drawn[0].get_axes()[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [run.name for run in RUNS]
    shown = [(line.get_marker(), *line.get_xdata()) for line in axis.get_lines()]
    # A run after the other: interval, ours, one mark a seed, the study.
    expected = [("None", 0.107, 0.12), ("o", 0.1135), ("|", 0.1135), ("D", 0.9924)]
    assert shown[:4] == expected
    assert shown[-3:] == [("None", 0.996, 0.998), ("o", 0.997), ("|", 0.997)]
    assert [text.get_text() for text in axis.texts] == ["not run yet"]


def test_convergence_shows_what_was_not_reached_apart(drawn: list[Figure]) -> None:
    accuracies.convergence({ADAM: {0.97: [3, None, 20]}, SGD: {0.97: [4], 0.99: [None]}}, Path("x"))
    axes = drawn[0].get_axes()
    titles = ["97 % validation accuracy", "99 % validation accuracy"]
    assert [axis.get_title() for axis in axes] == titles
    three, missed, twenty, four = axes[0].get_lines()
    assert [line.get_xdata()[0] for line in (three, twenty, four)] == [3, 20, 4]
    assert missed.get_xdata()[0] > 20
    assert missed.get_markerfacecolor() == "white" != three.get_markerfacecolor()
    assert three.get_ydata()[0] < missed.get_ydata()[0] < twenty.get_ydata()[0] < 0.5
    assert four.get_ydata()[0] == 1
    labels = [label.get_text() for label in axes[1].get_xticklabels()]
    assert labels == ["1", "2", "5", "10", "20", "not\nreached"]


def test_class_accuracy_counts_what_is_wrong(drawn: list[Figure]) -> None:
    few = np.zeros((10, 10), np.int64)
    few[0, 0] = 997
    few[0, 3] = 3
    few[1, 7] = 1000
    matrices.class_accuracy({"a": MATRIX, "b": few}, Path("x"))
    axis = drawn[0].get_axes()[0]
    written = {text.get_position(): text.get_text() for text in axis.texts}
    assert written[4, 0] == "0.70"  # column, row
    assert written[9, 0] == "55"
    assert written[0, 0] == "0"
    assert [written[column, 1] for column in (0, 1, 2)] == ["0.30", "100", "none"]
    assert [written[10, row] for row in (0, 1)] == ["11", "50"]
    assert [label.get_text() for label in axis.get_xticklabels()] == [*map(str, range(10)), "all"]


def test_reliability_shows_the_bins_that_hold_images(drawn: list[Figure]) -> None:
    reliability.reliability({SGD: CALIBRATION}, Path("x"))
    diagram, histogram = drawn[0].get_axes()
    assert diagram.get_title() == f"{SGD.name}\nECE 0.0123"
    _, line, many, few = diagram.get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[0.3, 0.0], [0.7, 0.8], [0.99, 0.98]])
    np.testing.assert_array_equal(many.get_xdata(), [0.7, 0.99])
    np.testing.assert_array_equal(few.get_xdata(), [0.3])
    assert few.get_markerfacecolor() == "white" != many.get_markerfacecolor()
    bars = [(bar.get_x(), bar.get_height()) for bar in histogram.patches]
    np.testing.assert_allclose(bars, [(0, 0), (0.2, 9), (0.4, 0), (0.6, 91), (0.8, 9900)])


def test_confusion_counts_the_mistakes(drawn: list[Figure]) -> None:
    matrices.confusion(MATRIX, "vgg16-sgd-he", Path("x"))
    axis = drawn[0].get_axes()[0]
    assert axis.get_title() == "vgg16-sgd-he: 1,242 of 11,242 wrong"
    written = {text.get_position(): text.get_text() for text in axis.texts}
    assert written[(9, 4)] == "7"  # column, row
    assert written[(4, 9)] == "1235"
    assert len(written) == 12


@pytest.mark.parametrize("count", [1, 4, 9])
def test_grid_has_a_panel_a_run(drawn: list[Figure], count: int) -> None:
    matrices.grid_confusion({f"run{i}": MATRIX for i in range(count)}, Path("x"))
    titles = [axis.get_title() for axis in drawn[0].get_axes() if axis.get_title()]
    assert titles == [f"run{i}\n1,242 wrong" for i in range(count)]


@pytest.mark.parametrize("draw", [matrices.grid_confusion, matrices.class_accuracy])
def test_run_that_never_met_a_digit_can_be_drawn(
    draw: Callable[[dict[str, np.ndarray], Path], None], tmp_path: Path
) -> None:
    draw({"empty": np.zeros((10, 10), np.int64)}, tmp_path / "x")
    assert plt.imread(tmp_path / "x.png").size


def test_a_users_matplotlibrc_changes_no_figure(tmp_path: Path) -> None:
    rc = tmp_path / "rc"
    rc.write_text("font.size: 30\naxes.facecolor: red\ntext.usetex: true\n")
    code = (
        "from deepnets.reporting import drawing; import matplotlib; "
        "print(dict(matplotlib.rcParams))"
    )
    ours, theirs = (
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment() | {"MATPLOTLIBRC": file},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for file in (os.devnull, str(rc))
    )
    assert theirs == ours
