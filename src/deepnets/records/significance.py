"""Tests that count seeds, not images: exact, of no assumed distribution, and for a list of them.

Pure functions of numbers; `reporting.questions` says what they decide.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr
from scipy.stats import binomtest, fisher_exact, rankdata, t

from deepnets.records.statistics import CONFIDENCE


def rank_sum(a: Sequence[float], b: Sequence[float]) -> float:
    """One-sided p-value of the exact rank-sum test that `a` is no larger than `b`.

    Source: Wilcoxon, "Individual Comparisons by Ranking Methods", 1945, with the permutation
    distribution of these very ranks, so that ties (networks that say one digit) are exact too. It
    is the p-value of `scipy.stats.mannwhitneyu` with all permutations, in microseconds.

    Args:
        a: a value a seed, at least one.
        b: of other seeds or rows, as many or not.
    """
    # Twice the midranks, which are whole numbers.
    ranks = np.rint(2 * rankdata([*a, *b])).astype(int)
    chance = _chance_of_at_least(tuple(sorted(ranks.tolist())), len(a))
    return float(chance[ranks[: len(a)].sum()])


def fisher(learned_a: int, seeds_a: int, learned_b: int, seeds_b: int) -> float:
    """One-sided p-value of Fisher's exact test that `a` learns with no larger share than `b`."""
    table = [[learned_a, seeds_a - learned_a], [learned_b, seeds_b - learned_b]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def holm(p_values: Sequence[float], level: float, count: int | None = None) -> list[float]:
    """What each p-value may be at most in Holm's step-down (1979); 0 from the first that is more.

    Args:
        p_values: of the tests that were made.
        level: the chance of any error in the whole list.
        count: of all tests of the list, those that are missing included (None: none is), so that
            what is missing makes nothing easier.
    """
    limits = [0.0] * len(p_values)
    remaining = len(p_values) if count is None else count
    for place in np.argsort(p_values, kind="stable"):
        limit = level / remaining
        if p_values[place] > limit:
            break
        limits[place] = limit
        remaining -= 1
    return limits


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Clopper and Pearson's exact interval (1934) for the chance behind `count` of so many."""
    interval = binomtest(count, total).proportion_ci(confidence_level=CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def welch(a: Sequence[float], b: Sequence[float]) -> float:
    """One-sided p-value of Welch's t test (1947) that `a` is on average no larger than `b`.

    Where neither has any spread, what is seen is certain: 0 or 1.
    """
    mean, error, freedom = _welch(a, b)
    if error == 0:
        return float(mean <= 0)
    # The tail of Student's t, as `t.sf` has it, twenty times as fast.
    return float(stdtr(freedom, -mean / error))


def welch_interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float] | None:
    """Welch's t interval for the mean of `a` less that of `b`.

    None where there is none: a single value, or no spread in either.
    """
    if min(len(a), len(b)) < 2:
        return None
    mean, error, freedom = _welch(a, b)
    if error == 0:
        return None
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return mean - half, mean + half


def mean_bounds(values: Sequence[float]) -> tuple[float, float] | None:
    """Two one-sided bounds of Student's t for the mean, each at the level; None for one value.

    Together they are an interval of a lower level: twice the chance to miss.
    """
    if len(values) < 2:
        return None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(t.ppf(CONFIDENCE, len(values) - 1)) * error
    mean = float(np.mean(values))
    return mean - half, mean + half


def _welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Difference of means, its standard error, and Satterthwaite's degrees of freedom (1946)."""
    shares = [float(np.var(values, ddof=1)) / len(values) for values in (a, b)]
    mean = float(np.mean(a) - np.mean(b))
    # Of equal values, what is computed is the rounding of their mean.
    if sum(shares) < 1e-24:
        return round(mean, 12), 0.0, 1.0
    freedom = sum(shares) ** 2 / (shares[0] ** 2 / (len(a) - 1) + shares[1] ** 2 / (len(b) - 1))
    return mean, math.sqrt(sum(shares)), freedom


# Without ties there is one distribution for as many seeds; with ties, one a pattern of them.
@lru_cache(maxsize=1000)
def _chance_of_at_least(ranks: tuple[int, ...], size: int) -> NDArray[np.float64]:
    """By sum, the chance that `size` of `ranks`, drawn at random, sum to that or more."""
    # How many choices of so many ranks have each sum, a rank at a time.
    choices = np.zeros((size + 1, sum(ranks) + 1))
    choices[0, 0] = 1
    for rank in ranks:
        choices[1:, rank:] += choices[:-1, : choices.shape[1] - rank].copy()
    ways = choices[size]
    return np.asarray(ways[::-1].cumsum()[::-1] / ways.sum())
