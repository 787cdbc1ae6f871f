"""Figures: whole PNG files, the same for the same data, saying what they should."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from deepnets import figures

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (10, 32, 32, 3), np.uint8)
LABELS = np.arange(10, dtype=np.uint8)
PROBABILITIES = GENERATOR.dirichlet(np.ones(10), 10).astype(np.float32)
MATRIX = np.diag(np.full(10, 1000)).astype(np.int64)
MATRIX[4, 9] = 7
MATRIX[9, 4] = 1235


def curve(name: str, optimizer: str, weights: str, epochs: int = 3) -> figures.Curve:
    keys = ("loss", "accuracy", "val_loss", "val_accuracy")
    rows = [
        {"epoch": float(epoch), **{key: i + 1 / epoch for i, key in enumerate(keys)}}
        for epoch in range(1, epochs + 1)
    ]
    return figures.Curve(name, optimizer, weights, rows)


PANELS = {
    "vgg16": [curve("first", "adam", "he"), curve("second", "sgd", "random")],
    "resnet50": [curve("third", "sgd", "imagenet")],
}

DRAWINGS: dict[str, Callable[[Path], None]] = {
    "contact_sheet": lambda path: figures.contact_sheet({"train": (IMAGES, LABELS)}, path),
    "curves": lambda path: figures.curves(PANELS, path),
    "confusion": lambda path: figures.confusion(MATRIX, "run", path),
    "mistakes": lambda path: figures.mistakes(IMAGES, LABELS, PROBABILITIES, "run", path),
    "grid_confusion": lambda path: figures.grid_confusion({"a": MATRIX, "b": MATRIX}, path),
}

drawings = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)


@drawings
def test_figure_is_a_picture_that_is_not_blank(
    draw: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "new" / "figure.png"
    draw(path)
    pixels = plt.imread(path)
    height, width = pixels.shape[:2]
    assert 150 < height < 2000
    assert 400 < width < 2500
    assert pixels[..., :3].std() > 0.01
    assert [file.name for file in path.parent.iterdir()] == ["figure.png"]
    assert plt.get_fignums() == []


@drawings
def test_same_data_gives_the_same_bytes(draw: Callable[[Path], None], tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        draw(tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures as they are when they would be saved."""
    kept: list[Figure] = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: kept.append(figure))
    yield kept
    plt.close("all")


def test_contact_sheet_shows_the_pixels_with_their_labels(drawn: list[Figure]) -> None:
    figures.contact_sheet({"train": (IMAGES, LABELS), "test": (IMAGES[:3], LABELS[:3])}, Path("x"))
    (figure,) = drawn
    shown = [axis for axis in figure.get_axes() if axis.images]
    assert [axis.get_title() for axis in shown] == [str(v) for v in [*range(10), *range(3)]]
    for axis, image in zip(shown, [*IMAGES, *IMAGES[:3]], strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), image)
    headings = [part.get_suptitle() for part in figure.subfigs]
    assert headings == ["train: first 10, 32x32x3", "test: first 3, 32x32x3"]


def test_curves_are_solid_for_validation_and_dashed_for_training(drawn: list[Figure]) -> None:
    figures.curves(PANELS, Path("x"))
    (figure,) = drawn
    axes = figure.get_axes()
    assert [axis.get_title() for axis in axes] == ["vgg16", "resnet50", "", ""]
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["first", "second"]
    validation, training = axes[2].get_lines()[:2]  # loss of "first"
    assert validation.get_linestyle() == "-"
    assert training.get_linestyle() == "--"
    np.testing.assert_allclose(validation.get_ydata(), [3, 2.5, 2 + 1 / 3])
    np.testing.assert_allclose(training.get_ydata(), [1, 0.5, 1 / 3])
    np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3])


def test_optimizer_has_one_colour_and_weights_one_marker(drawn: list[Figure]) -> None:
    figures.curves(PANELS, Path("x"))
    axes = drawn[0].get_axes()
    second, third = axes[0].get_lines()[2], axes[1].get_lines()[0]  # both sgd
    assert second.get_color() == third.get_color() != axes[0].get_lines()[0].get_color()
    assert second.get_marker() != third.get_marker()


def test_confusion_counts_the_mistakes(drawn: list[Figure]) -> None:
    figures.confusion(MATRIX, "vgg16-sgd-he", Path("x"))
    axis = drawn[0].get_axes()[0]
    assert axis.get_title() == "vgg16-sgd-he: 1,242 of 11,242 wrong"
    written = {text.get_position(): text.get_text() for text in axis.texts}
    assert written[(9, 4)] == "7"  # column, row
    assert written[(4, 9)] == "1235"
    assert len(written) == 12


def test_mistakes_name_truth_guess_and_probability(drawn: list[Figure]) -> None:
    certain = np.zeros((2, 10), np.float32)
    certain[[0, 1], [4, 7]] = [0.9876, 0.5]
    figures.mistakes(IMAGES[:2], np.array([9, 1], np.uint8), certain, "run", Path("x"))
    figure = drawn[0]
    titles = [axis.get_title() for axis in figure.get_axes() if axis.images]
    assert titles == ["9, seen as 4\np = 0.988", "1, seen as 7\np = 0.500"]
    assert figure.get_suptitle() == "run: the most confident mistakes"


def test_run_without_mistakes(tmp_path: Path, drawn: list[Figure]) -> None:
    figures.mistakes(IMAGES[:0], LABELS[:0], PROBABILITIES[:0], "run", tmp_path / "x.png")
    assert drawn[0].get_suptitle() == "run: no mistakes"


@pytest.mark.parametrize("count", [1, 4, 9])
def test_grid_has_a_panel_a_run(drawn: list[Figure], count: int) -> None:
    figures.grid_confusion({f"run{i}": MATRIX for i in range(count)}, Path("x"))
    titles = [axis.get_title() for axis in drawn[0].get_axes() if axis.get_title()]
    assert titles == [f"run{i}\n1,242 wrong" for i in range(count)]


def test_run_that_never_met_a_digit_can_be_drawn(tmp_path: Path) -> None:
    figures.grid_confusion({"empty": np.zeros((10, 10), np.int64)}, tmp_path / "x.png")
    assert plt.imread(tmp_path / "x.png").size
