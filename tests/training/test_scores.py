"""Scores against Keras' own and against counts made by hand."""

import keras
import numpy as np
import pytest

from deepnets.evaluation import evaluation
from deepnets.training import scores


def probabilities_of(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random probabilities float32 (count, 10) and labels uint8 (count,)."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(10, 0.3), count).astype(np.float32)
    return probabilities, generator.integers(0, 10, count, np.uint8)


def test_score_is_that_of_keras() -> None:
    probabilities, labels = probabilities_of(500)
    loss = keras.losses.SparseCategoricalCrossentropy()(labels, probabilities)
    accuracy = keras.metrics.sparse_categorical_accuracy(labels, probabilities)
    result = scores.score(probabilities, labels)
    assert result["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert result["accuracy"] == pytest.approx(float(np.mean(np.asarray(accuracy))))


def test_score_by_hand() -> None:
    probabilities = np.full((4, 10), 0.05, np.float32)
    probabilities[[0, 1, 2, 3], [0, 1, 2, 3]] = 0.55
    result = scores.score(probabilities, np.array([0, 1, 2, 9], np.uint8))
    assert result["accuracy"] == 0.75
    assert result["loss"] == pytest.approx(-(3 * np.log(0.55) + np.log(0.05)) / 4, rel=1e-6)
    assert {type(value) for value in result.values()} == {float}


def test_certain_and_wrong_costs_a_finite_loss() -> None:
    certain = np.eye(10, dtype=np.float32)
    labels = np.arange(10, dtype=np.uint8)
    assert scores.score(certain, labels) == {"loss": 0.0, "accuracy": 1.0}
    wrong = scores.score(certain, np.roll(labels, 1))
    assert wrong == {"loss": pytest.approx(-np.log(1e-7)), "accuracy": 0.0}


def test_chance_is_the_studys_2_30() -> None:
    even = np.full((10, 10), 0.1, np.float32)
    assert scores.score(even, np.arange(10, dtype=np.uint8))["loss"] == pytest.approx(np.log(10))


def test_confusion_counts_rows_by_truth() -> None:
    labels = np.array([0, 0, 0, 7, 9], np.uint8)
    predicted = np.array([0, 1, 1, 7, 4])
    matrix = scores.confusion_matrix(labels, predicted)
    assert matrix.shape == (10, 10)
    assert {tuple(map(int, at)): int(matrix[tuple(at)]) for at in np.argwhere(matrix)} == {
        (0, 0): 1,
        (0, 1): 2,
        (7, 7): 1,
        (9, 4): 1,
    }


def test_confusion_agrees_with_the_accuracy() -> None:
    probabilities, labels = probabilities_of(500)
    matrix = scores.confusion_matrix(labels, probabilities.argmax(axis=1))
    assert matrix.sum() == 500
    assert np.trace(matrix) / 500 == scores.score(probabilities, labels)["accuracy"]
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(labels, minlength=10))


def test_most_confident_mistakes_come_first() -> None:
    probabilities = np.full((5, 10), 0.01, np.float32)
    probabilities[range(5), [1, 2, 3, 4, 5]] = [0.5, 0.9, 0.99, 0.7, 0.9]
    labels = np.array([0, 0, 3, 0, 0], np.uint8)  # the third is right
    wrong = evaluation.most_confident_mistakes
    assert wrong(probabilities, labels, 10).tolist() == [1, 4, 3, 0]
    assert wrong(probabilities, labels, 2).tolist() == [1, 4]
    assert wrong(probabilities[2:3], labels[2:3], 10).tolist() == []


# The most frequent digit's share of MNIST's first 50,000 training labels: 5,678 ones.
LARGEST_SHARE = 0.11356
CHANCE = LARGEST_SHARE + 0.02

STUCK = (2.301, 0.1136)  # the study's figure 10
SLOW = (2.25, 0.15)
LEARNING = (0.9, 0.7)


def history_of(*epochs: tuple[float, float]) -> list[dict[str, float]]:
    """Rows with (training loss, training accuracy), and a validation that says the opposite."""
    return [
        {"epoch": i, "loss": loss, "accuracy": accuracy, "val_loss": 0.1, "val_accuracy": 0.99}
        for i, (loss, accuracy) in enumerate(epochs, start=1)
    ]


@pytest.mark.parametrize(
    ("loss", "accuracy", "expected"),
    [
        (*STUCK, True),
        (*SLOW, False),
        (*LEARNING, False),
        # ln 10 = 2.302585: from 2.279559 to 2.325611.
        (2.2796, 0.1, True),
        (2.2795, 0.1, False),
        (2.3256, 0.1, True),
        (2.3257, 0.1, False),
        (2.3, 0.1335, True),
        (2.3, 0.1336, False),
        (2.3, 0.0, True),
        (float("nan"), 0.1, False),
        (float("inf"), 0.1, False),
    ],
)
def test_at_chance_needs_both_loss_and_accuracy(
    loss: float, accuracy: float, expected: bool
) -> None:
    assert scores.at_chance(history_of((loss, accuracy))[0], CHANCE) is expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([5678, *[44322 // 9] * 9], 5678 / (5678 + 44322 // 9 * 9) + 0.02),
        # Of 100 labels with a share of 0.2 the standard error is 0.04.
        ([20, *[10] * 8, 0], 0.2 + 3 * 0.04),
    ],
)
def test_chance_accuracy_allows_for_few_images(counts: list[int], expected: float) -> None:
    labels = np.repeat(np.arange(10, dtype=np.uint8), counts)
    assert scores.chance_accuracy(labels) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([STUCK] * 5, True),
        ([STUCK] * 2, True),
        ([LEARNING, STUCK, STUCK], True),
        ([LEARNING, LEARNING, STUCK], False),
        ([STUCK, STUCK, LEARNING], False),
        ([STUCK, LEARNING, STUCK], False),
        ([STUCK], False),
        ([], False),
    ],
)
def test_collapsed_means_the_last_two_epochs(
    epochs: list[tuple[float, float]], expected: bool
) -> None:
    assert scores.collapsed(history_of(*epochs), CHANCE) is expected
