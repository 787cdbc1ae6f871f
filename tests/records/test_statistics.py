"""Statistics against closed forms and counts made by hand."""

import math
from collections.abc import Collection

import numpy as np
import pytest

from deepnets.records import statistics
from project import ROOT, Clone

LABELS = np.arange(20, dtype=np.uint8) % 10


def digits(wrong: Collection[int]) -> np.ndarray:
    """uint8 (20,): the right digit of LABELS but for the images in `wrong`."""
    guesses = LABELS.copy()
    guesses[list(wrong)] = (guesses[list(wrong)] + 1) % 10
    return guesses


def predictions(wrong: Collection[int], confidence: float = 1.0) -> np.ndarray:
    """float32 (20, 10): those digits, each with `confidence`."""
    guesses = digits(wrong)
    probabilities = np.full((20, 10), (1 - confidence) / 9, np.float32)
    probabilities[np.arange(20), guesses] = confidence
    return probabilities


def test_calibration_by_hand() -> None:
    """Bins of 0.2: three images at 0.5 of which one is right, one at 0.7, right."""
    labels = np.array([0, 0, 0, 0], np.uint8)
    probabilities = np.zeros((4, 10), np.float32)
    probabilities[range(4), [0, 1, 2, 0]] = [0.5, 0.5, 0.5, 0.75]
    result = statistics.calibration(labels, probabilities, bins=5)
    assert result.counts.tolist() == [0, 0, 3, 1, 0]
    np.testing.assert_array_equal(result.confidence, [np.nan, np.nan, 0.5, 0.75, np.nan])
    np.testing.assert_allclose(result.accuracy, [np.nan, np.nan, 1 / 3, 1, np.nan])
    assert result.ece == pytest.approx(3 / 4 * (0.5 - 1 / 3) + 1 / 4 * (1 - 0.75))


@pytest.mark.parametrize(
    ("confidence", "bin_"),
    [(0.5, 1), (np.nextafter(np.float32(0.5), np.float32(1)), 2), (1, 3), (1.0000001, 3)],
)
def test_a_bin_holds_its_upper_edge(confidence: float, bin_: int) -> None:
    probabilities = np.zeros((1, 10), np.float32)
    probabilities[0, 4] = confidence
    result = statistics.calibration(np.array([4], np.uint8), probabilities, bins=4)
    assert np.flatnonzero(result.counts).tolist() == [bin_]


@pytest.mark.parametrize(
    ("confidence", "wrong", "ece"),
    [(1.0, range(0), 0), (1.0, range(20), 1), (0.75, range(5), 0), (0.9, range(10), 0.4)],
)
def test_calibration_error_is_confidence_beyond_accuracy(
    confidence: float, wrong: range, ece: float
) -> None:
    result = statistics.calibration(LABELS, predictions(wrong, confidence))
    assert result.counts.shape == (15,)
    assert result.ece == pytest.approx(ece, abs=1e-6)


def test_calibration_of_no_numbers_is_no_number() -> None:
    result = statistics.calibration(LABELS, np.full((20, 10), np.nan, np.float32))
    assert result.counts.sum() == 20
    assert math.isnan(result.ece)


@pytest.mark.parametrize("right", [0, 1, 9_924, 10_000])
@pytest.mark.parametrize(("level", "z"), [(0.95, 1.959963984540054), (0.99, 2.5758293035489004)])
def test_interval_is_wilsons(right: int, level: float, z: float) -> None:
    n = 10_000
    share = right / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    interval = statistics.accuracy_interval(right, n, level)
    assert interval == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_interval_of_the_tours_thousand_digits() -> None:
    assert statistics.accuracy_interval(957, 1000) == pytest.approx((0.9426, 0.9679), abs=1e-4)


@pytest.mark.parametrize(
    ("wrong_a", "wrong_b", "only_a", "only_b", "p_value"),
    [
        (range(5), range(5), 0, 0, 1),
        (range(0), range(1), 1, 0, 1),
        (range(0), range(10), 10, 0, 2 / 2**10),
        (range(10), range(0), 0, 10, 2 / 2**10),
        # Images 0 and 1 are wrong for both. 2 * (1 + 8 + 28) / 2**8 with two of eight.
        (range(4), [0, 1, *range(10, 16)], 6, 2, 2 * 37 / 256),
    ],
)
def test_mcnemar_is_the_binomial_of_the_discordant_pairs(
    wrong_a: Collection[int], wrong_b: Collection[int], only_a: int, only_b: int, p_value: float
) -> None:
    result = statistics.mcnemar(LABELS, digits(wrong_a), digits(wrong_b))
    assert (result.only_a, result.only_b) == (only_a, only_b)
    assert result.p_value == pytest.approx(p_value)


def test_mcnemar_counts_an_image_once_however_many_seeds_miss_it() -> None:
    perfect = digits(range(0))
    a = np.stack([perfect, perfect, digits(range(10, 12))])
    same = statistics.mcnemar(LABELS, a, np.stack([digits(range(4))] * 3))
    # Images 10 and 11: b is right with one seed more.
    assert same == (4, 2, pytest.approx(2 * (1 + 6 + 15) / 2**6))
    others = np.stack([digits(range(s, s + 3)) for s in (0, 3, 6)])
    assert statistics.mcnemar(LABELS, np.stack([perfect] * 3), others) == (9, 0, 2 / 2**9)


def test_mcnemar_sets_a_seeds_win_off_against_a_loss() -> None:
    perfect, missed = digits(range(0)), digits(range(7))
    result = statistics.mcnemar(LABELS, np.stack([perfect, missed]), np.stack([missed, perfect]))
    assert result == (0, 0, 1)


@pytest.mark.parametrize(
    ("threshold", "epoch"), [(0.8, 1), (0.9, 2), (0.95, 4), (0.97, 4), (0.98, None)]
)
def test_epochs_to_is_the_first_epoch_at_or_above(threshold: float, epoch: int | None) -> None:
    history = [
        {"epoch": float(i), "accuracy": 1.0, "val_accuracy": value}
        for i, value in enumerate([0.85, 0.9, 0.6, 0.97], start=1)
    ]
    assert statistics.epochs_to(history, threshold) == epoch
    assert statistics.epochs_to([], threshold) is None


@pytest.mark.parametrize(
    ("values", "mean", "deviation"),
    [([0.5], 0.5, None), ([0.25, 0.75], 0.5, math.sqrt(0.125)), ([1, 2, 6], 3, math.sqrt(7))],
)
def test_spread_divides_by_one_less(
    values: list[float], mean: float, deviation: float | None
) -> None:
    result = statistics.spread(values)
    assert result == (pytest.approx(mean), deviation and pytest.approx(deviation))


def curve(*accuracies: tuple[int, float, float]) -> list[dict[str, float]]:
    """Rows of (epoch, training accuracy, validation accuracy)."""
    return [{"epoch": e, "accuracy": a, "val_accuracy": v} for e, a, v in accuracies]


@pytest.mark.parametrize(
    ("other", "distance"),
    [
        (curve((1, 0.1, 0.2), (2, 0.5, 0.9)), 0),
        # 0.1, 0.3, 0 and 0.4 of four.
        (curve((1, 0.2, 0.5), (2, 0.5, 0.5)), 0.2),
        # Only the second epoch is in both: 0.2 and 0.1 of two.
        (curve((2, 0.3, 0.8), (3, 1, 1)), 0.15),
    ],
)
def test_distance_of_curves_is_their_mean_difference_in_accuracy(
    other: list[dict[str, float]], distance: float
) -> None:
    history = curve((1, 0.1, 0.2), (2, 0.5, 0.9))
    assert statistics.curve_distance(history, other) == pytest.approx(distance)
    assert statistics.curve_distance(other, history) == pytest.approx(distance)


def test_scipys_tests_are_imported_by_who_needs_them() -> None:
    """Half a second of every `evaluate` and `grid`."""
    code = "import sys, deepnets.commands.grid; print('scipy.stats' in sys.modules)"
    assert Clone(ROOT).run("python", "-c", code).stdout == "False\n"
