"""The figures that answer questions show the numbers that they were given."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from deepnets.reporting import curves, drawing, layers, seeds


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """The figures that were saved, still open during the test."""
    saved: list[Figure] = []
    monkeypatch.setattr(drawing, "save", lambda figure, *_: saved.append(figure))
    yield saved
    for figure in saved:
        plt.close(figure)


def lines(axis: Any) -> list[list[float]]:
    return [[float(y) for y in line.get_ydata()] for line in axis.get_lines()]


def test_every_seed_is_a_point_and_the_pilots_are_hollow(drawn: list[Figure]) -> None:
    style = drawing.Run("row", "sgd", "he")
    shown = [
        seeds.Line("row", style, [0.97, 0.98, 0.97], [0.95, 0.96]),
        seeds.Line("other", style, [0.1135], (), stands=False),
        seeds.Line("absent", style, [], ()),
    ]
    seeds.draw(shown, Path("x"), goal=0.99)
    (figure,) = drawn
    (axis,) = figure.axes
    points = {
        (line.get_markerfacecolor() == "white", tuple(map(float, line.get_xdata())))
        for line in axis.get_lines()
        if line.get_linestyle() == "None"
    }
    assert points >= {
        (False, (0.97, 0.98, 0.97)),
        (True, (0.95, 0.96)),
        (False, (0.1135,)),
    }
    # None hides another, whatever their values.
    heights = next(line.get_ydata() for line in axis.get_lines() if len(line.get_xdata()) == 3)
    assert len(set(map(float, heights))) == 3
    means = [list(map(float, line.get_xdata())) for line in axis.get_lines()]
    assert [pytest.approx(0.9733, abs=1e-4)] * 2 in means
    assert [0.99, 0.99] in means
    assert [label.get_text() for label in axis.get_yticklabels()] == ["row", "(other)", "absent"]
    assert [text.get_text() for text in axis.texts] == ["not run yet"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["a seed", "a seed of the pilot", "to be above: 0.99"]


def test_a_row_that_another_was_chosen_over_does_not_stand() -> None:
    styles = {name: drawing.Run(name, "sgd", "he") for name in ("one", "two")}
    chosen = seeds.lines(["one", "two"], ["two"], {}, styles, {"one": [0.9]})
    assert [(line.row, line.stands, list(line.pilot)) for line in chosen] == [
        ("one", False, [0.9]),
        ("two", True, []),
    ]
    assert all(line.stands for line in seeds.lines(["one", "two"], [], {}, styles, {}))


def test_learning_shows_a_line_a_seed(drawn: list[Figure]) -> None:
    rising = [{"epoch": 1, "val_accuracy": 0.5}, {"epoch": 2, "val_accuracy": 0.9}]
    flat = [{"epoch": 1, "val_accuracy": 0.1}, {"epoch": 2, "val_accuracy": 0.2}]
    curves.seed_curves({"first": [rising, flat], "second": [flat]}, Path("x"))
    (figure,) = drawn
    assert [axis.get_title() for axis in figure.axes[:2]] == ["first", "second"]
    assert lines(figure.axes[0]) == [[0.5, 0.9], [0.1, 0.2]]
    assert lines(figure.axes[1]) == [[0.1, 0.2]]


def moment(scale: float, gradient: float) -> dict[str, Any]:
    kinds = [("a", "Conv2D"), ("a_gate", "Conv2D"), ("sum", "Add"), ("logits", "Dense")]
    rows: list[dict[str, Any]] = [
        {"name": name, "kind": kind, "activation": scale * place}
        for place, (name, kind) in enumerate(kinds, start=1)
    ]
    for row in rows:
        if row["kind"] != "Add":
            row["gradient"] = gradient
    return {
        "layers": rows,
        "batch_norms": [{"name": "n", "mean_gap": scale, "deviation_ratio": None}],
        "batch": {"accuracy": 0.93},
        "moving": {"accuracy": 0.1},
    }


MOMENTS = {"start": moment(1, 0.0), "after 100 steps": moment(2, 0.5)}
DIAGNOSIS = {"seeds": {"100": MOMENTS}}


def test_flow_shows_sums_and_kernels_without_gates(drawn: list[Figure]) -> None:
    layers.flow({"row": DIAGNOSIS}, Path("x"))
    (figure,) = drawn
    activations, gradients = figure.axes
    assert lines(activations) == [[3.0], [6.0]]
    first, then = lines(gradients)
    # A gradient of nothing has no place on a logarithmic axis.
    assert np.isnan(first).all()
    assert then == [0.5, 0.5]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*MOMENTS]


def test_flow_shows_a_line_a_seed(drawn: list[Figure]) -> None:
    other = {name: moment(3, 0.5) for name in MOMENTS}
    layers.flow({"row": {"seeds": {"100": MOMENTS, "101": other}}}, Path("x"))
    (figure,) = drawn
    assert lines(figure.axes[0]) == [[3.0], [6.0], [9.0], [9.0]]
    assert len(figure.legends[0].get_texts()) == len(MOMENTS)


def test_norms_show_what_the_averages_cost(drawn: list[Figure]) -> None:
    layers.norms({"row": DIAGNOSIS}, Path("x"))
    (figure,) = drawn
    above, below = figure.axes
    assert above.get_title() == (
        "row\nafter 100 steps: 0.93 right by the batch,\n0.10 by moving averages"
    )
    assert lines(above) == [[1.0], [2.0]]
    assert np.isnan(lines(below)[0]).all()
