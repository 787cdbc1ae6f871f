"""Tests over seeds are exact, with ties and without, and a list of them keeps its level."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import PermutationMethod, mannwhitneyu, ttest_ind

from deepnets.records import significance


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("seeds_a", "seeds_b"), [(3, 3), (5, 5), (4, 6), (6, 3)])
def test_rank_sum_is_scipys_with_all_permutations(seeds_a: int, seeds_b: int, ties: bool) -> None:
    rng = np.random.default_rng(seeds_a)
    every = PermutationMethod(n_resamples=math.comb(seeds_a + seeds_b, seeds_a) + 1)
    for _ in range(3):
        values = rng.integers(0, 4, seeds_a + seeds_b) if ties else rng.random(seeds_a + seeds_b)
        a, b = values[:seeds_a], values[seeds_a:]
        theirs = mannwhitneyu(a, b, alternative="greater", method=every).pvalue
        assert significance.rank_sum(a.tolist(), b.tolist()) == pytest.approx(theirs)


def test_rank_sum_of_rows_that_are_apart_is_the_chance_of_one_order() -> None:
    assert significance.rank_sum([0.97] * 10, [0.1135] * 10) == pytest.approx(1 / math.comb(20, 10))
    assert significance.rank_sum([0.1135] * 10, [0.97] * 10) == 1
    assert significance.rank_sum([0.1135] * 10, [0.1135] * 10) == 1


def test_fisher_is_the_chance_to_draw_as_many_that_learned() -> None:
    assert significance.fisher(3, 3, 0, 3) == pytest.approx(1 / math.comb(6, 3))
    # Of seven that learned among twenty: six or seven of them among the first ten.
    ways = sum(math.comb(10, k) * math.comb(10, 7 - k) for k in (6, 7))
    assert significance.fisher(6, 10, 1, 10) == pytest.approx(ways / math.comb(20, 7))
    assert significance.fisher(0, 10, 0, 10) == 1


@pytest.mark.parametrize(
    ("p_values", "count", "limits"),
    [
        ([0.01, 0.04, 0.02], None, [0.05 / 3, 0.05, 0.05 / 2]),
        # The second is too large for its step, and so what comes after it is not looked at.
        ([0.01, 0.045, 0.03], None, [0.05 / 3, 0, 0]),
        # Two that are missing make the others no easier.
        ([0.01, 0.02], 4, [0.05 / 4, 0]),
        ([], 3, []),
    ],
)
def test_holm_steps_down(p_values: list[float], count: int | None, limits: list[float]) -> None:
    assert significance.holm(p_values, 0.05, count) == pytest.approx(limits)


def test_holm_is_wrong_in_no_more_lists_than_its_level() -> None:
    """Of p-values that are uniform, as those of true hypotheses are."""
    rng = np.random.default_rng(0)
    wrong = sum(any(significance.holm(rng.random(5).tolist(), 0.05)) for _ in range(4000))
    assert 0.035 < wrong / 4000 < 0.06


def test_share_interval_is_exact() -> None:
    assert significance.share_interval(0, 10) == pytest.approx((0, 1 - 0.025 ** (1 / 10)))
    low, high = significance.share_interval(7, 10)
    assert 0.34 < low < 0.35
    assert 0.93 < high < 0.94


def test_welch_interval_is_scipys() -> None:
    a, b = [0.97, 0.98, 0.96, 0.99], [0.95, 0.951, 0.952]
    theirs = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert significance.welch_interval(a, b) == pytest.approx(tuple(theirs))
    # A row all of whose seeds say the same digit has no spread, and the other's is enough.
    low, high = significance.welch_interval(a, [0.1135] * 4) or (0, 0)
    assert low < 0.975 - 0.1135 < high
    assert significance.welch_interval([0.1135] * 3, [0.1135] * 3) is None
    assert significance.welch_interval([0.97], b) is None


def test_bounds_of_a_mean_are_one_sided() -> None:
    values = [0.9970, 0.9972, 0.9974]
    low, high = significance.mean_bounds(values) or (0, 0)
    # Student's t of 2 degrees of freedom: 2.920 at 95 %, one-sided.
    assert (0.9972 - low, high - 0.9972) == pytest.approx((2.92 * 0.0002 / 3**0.5,) * 2, rel=1e-3)
    assert significance.mean_bounds([0.997]) is None


def test_rank_sum_keeps_its_level_for_every_order_of_two_rows_that_are_alike() -> None:
    """Of all ways to divide six values, at most so many are as rare as they claim to be."""
    values = [1.0, 2.0, 2.0, 3.0, 4.0, 4.0]
    p_values = []
    for chosen in itertools.combinations(range(6), 3):
        rest = [values[at] for at in range(6) if at not in chosen]
        p_values.append(significance.rank_sum([values[at] for at in chosen], rest))
    for level in p_values:
        assert np.mean([p <= level for p in p_values]) <= level + 1e-12


def test_welch_is_scipys() -> None:
    a, b = [0.97, 0.98, 0.96, 0.99], [0.95, 0.961, 0.952]
    theirs = ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
    assert significance.welch(a, b) == pytest.approx(theirs)
    assert significance.welch(b, a) == pytest.approx(1 - theirs)


@pytest.mark.parametrize("low", [0.1135, 0.1])
def test_welch_of_rows_without_spread_is_certain(low: float) -> None:
    assert significance.welch([low + 0.005] * 10, [low] * 10) == 0
    assert significance.welch([low] * 10, [low] * 10) == 1
    assert significance.welch([low] * 10, [low + 0.005] * 10) == 1
