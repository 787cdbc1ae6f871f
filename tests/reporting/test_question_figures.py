"""The figures that answer questions show the numbers that they were given."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from deepnets.reporting import accuracies, curves, drawing, layers
from deepnets.reporting.accuracies import Effect


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


def test_effects_show_mean_interval_and_every_seed(drawn: list[Figure]) -> None:
    effects = [
        Effect("one", "weights he", [0.5, 0.7], (0.1, 1.1)),
        Effect("two", "a_very_long_change " * 5, [-0.02], None),
    ]
    accuracies.effects({"VGG-16": effects, "ResNet50": effects[:1]}, Path("x"))
    (figure,) = drawn
    upper, lower = figure.axes
    names = [label.get_text() for label in upper.get_yticklabels()]
    assert names[0] == "one\nweights he"
    assert names[1].startswith("two\na_very_long_change")
    assert len(names[1].splitlines()[1]) <= 48
    shown = [[float(x) for x in line.get_xdata()] for line in upper.get_lines()]
    assert [10.0, 110.00000000000001] in shown
    assert [50.0, 70.0] in shown
    assert [60.0] in shown
    assert [-2.0] in shown
    assert len(lower.get_yticklabels()) == 1


def test_learning_shows_a_row_over_the_one_that_it_was_made_of(drawn: list[Figure]) -> None:
    own = [[{"epoch": 1, "val_accuracy": 0.5}, {"epoch": 2, "val_accuracy": 0.9}]]
    before = [[{"epoch": 1, "val_accuracy": 0.1}, {"epoch": 2, "val_accuracy": 0.2}]]
    curves.learning({"first": (before, []), "second": (own, before)}, Path("x"))
    (figure,) = drawn
    assert [axis.get_title() for axis in figure.axes[:2]] == ["first", "second"]
    assert lines(figure.axes[0]) == [[0.1, 0.2]]
    assert lines(figure.axes[1]) == [[0.1, 0.2], [0.5, 0.9]]


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


DIAGNOSIS = {"moments": {"start": moment(1, 0.0), "after 100 steps": moment(2, 0.5)}}


def test_flow_shows_sums_and_kernels_without_gates(drawn: list[Figure]) -> None:
    layers.flow({"row": DIAGNOSIS}, Path("x"))
    (figure,) = drawn
    activations, gradients = figure.axes
    assert lines(activations) == [[3.0], [6.0]]
    first, then = lines(gradients)
    # A gradient of nothing has no place on a logarithmic axis.
    assert np.isnan(first).all()
    assert then == [0.5, 0.5]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*DIAGNOSIS["moments"]]


def test_norms_show_what_the_averages_cost(drawn: list[Figure]) -> None:
    layers.norms({"row": DIAGNOSIS}, Path("x"))
    (figure,) = drawn
    above, below = figure.axes
    assert above.get_title() == (
        "row\nafter 100 steps: 0.93 right by the batch,\n0.10 by moving averages"
    )
    assert lines(above) == [[1.0], [2.0]]
    assert np.isnan(lines(below)[0]).all()
