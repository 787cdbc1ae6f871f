"""How often the rules of a study with questions err, and how many seeds they need: a simulation.

    python benchmarks/power.py studies/open-questions

writes metrics/power.csv of the study from its level, margin and pairs (params.yaml) and the spread
of the seeds that were known before (metrics/pilot.csv): a line a scenario and number of seeds, with
the share of `yes` and `no` (what is left is undecided) and of wrong ones. A pair is judged at the
first, hardest step of Holm's; `needed` is the least number of seeds with which four in five are
decided rightly. Pairs that ask for learning are computed, not simulated. In a `list` all pairs are
judged together; `wrong` is the share of lists with any wrong answer. The draws have a fixed seed.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.stats import binom

from deepnets.base import csv_files
from deepnets.config import params
from deepnets.config.sections import Report
from deepnets.reporting.questions import FLOOR, Sample, judge

COLUMNS = ["asks", "scenario", "right", "seeds", "yes", "no", "wrong", "needed"]
SEEDS = (3, 5, 10, 20)
TRIED = (*range(3, 11), 12, 14, 16, 18, 20)
POWER = 0.8
TEST_IMAGES = 10_000
# Whatever it is, as long as nothing comes near 1: differences and spreads are what counts.
BASE = 0.8
CHANCE = 0.1135

# Of the margin.
DIFFERENCES = (0, 0.5, 1, 2, 4, 20)
# With which a seed of the row, and of the other, learns.
CHANCES = ((0, 0), (0.3, 0.3), (1, 1), (0.3, 0), (0.5, 0), (0.9, 0.3), (1, 0.5), (1, 0.3), (1, 0))

Draw = Callable[[int], list[float]]


@dataclass(frozen=True)
class Pair:
    """Two rows with a known truth: what draws so many seeds of each, and what may be said."""

    scenario: str
    row: Draw
    than: Draw
    right: str
    wrong: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="its folder")
    parser.add_argument(
        "--draws", type=int, default=500, help="of each pair; four times as many lists"
    )
    arguments = parser.parse_args()
    study = params.load(arguments.study / params.FILE)
    count = sum(len(question.ahead) for question in study.report.questions)
    spreads = pilot_spreads(arguments.study / "metrics" / "pilot.csv")
    rows = table(study.report, count, len(study.train.seeds), spreads, arguments.draws)
    path = arguments.study / "metrics" / "power.csv"
    csv_files.write_csv(path, rows, COLUMNS)
    print(path)


def pilot_spreads(path: Path) -> tuple[float, ...]:
    """The smallest, middle and largest standard deviation over seeds of rows that learned."""
    by_row: dict[str, list[float]] = {}
    with path.open(newline="") as file:
        for record in csv.DictReader(file):
            by_row.setdefault(record["row"], []).append(float(record["test_accuracy"]))
    spreads = sorted(
        float(np.std(accuracies, ddof=1))
        for accuracies in by_row.values()
        if len(accuracies) > 1 and min(accuracies) > 0.9
    )
    return tuple(
        round(spread, 4) for spread in (spreads[0], float(np.median(spreads)), spreads[-1])
    )


def table(
    report: Report, count: int, seeds: int, spreads: tuple[float, ...], draws: int
) -> list[dict[str, Any]]:
    """All lines, for a list of `count` pairs of rows with so many `seeds`."""
    rng = np.random.default_rng(0)
    lines: list[dict[str, Any]] = []
    for pair in accuracy_pairs(rng, report.margin, spreads):
        simulate = partial(_simulate, pair, report=report, count=count, draws=draws)
        lines += _lines("accuracy", pair, simulate)
    for row, than in CHANCES:
        compute = partial(_compute, row, than, report=report, count=count)
        lines += _lines("learning", learning_pair(row, than), compute)
    for scenario, pairs in lists(rng, report.margin, spreads, count):
        yes, no, wrong = _judge_lists(pairs, seeds, report, 4 * draws)
        line = ("list", scenario, "", seeds, yes, no, wrong, "")
        lines.append(dict(zip(COLUMNS, line, strict=True)))
    return lines


def accuracy_pairs(
    rng: np.random.Generator, margin: float, spreads: tuple[float, ...]
) -> Iterator[Pair]:
    small, _, large = spreads
    for own, other in [*((spread, spread) for spread in spreads), (small, large), (large, small)]:
        for share in DIFFERENCES:
            yield normal_pair(rng, share * margin, margin, own, other)


def normal_pair(
    rng: np.random.Generator, difference: float, margin: float, own: float, other: float
) -> Pair:
    """Both learn; accuracies vary with the standard deviations `own` and `other`."""

    def draw(mean: float, spread: float) -> Draw:
        return lambda n: (
            (np.rint(TEST_IMAGES * rng.normal(mean, spread, n)).clip(0, TEST_IMAGES)) / TEST_IMAGES
        ).tolist()

    right = "no" if difference == 0 else "yes" if difference >= margin else "either"
    return Pair(
        f"ahead by {100 * difference:g} points; spread {100 * own:g} and {100 * other:g} points",
        draw(BASE + difference, own),
        draw(BASE, other),
        right,
        {"no": "yes", "yes": "no", "either": ""}[right],
    )


def learning_pair(row: float, than: float) -> Pair:
    """Seeds learn with these chances; what is right needs no more than that."""
    right = "yes" if row > than else "undecided"
    scenario = f"a seed learns with {row:g} and {than:g}"
    none: Draw = lambda n: []  # noqa: E731
    return Pair(scenario, none, none, right, "no" if row > than else "yes or no")


def stuck_pair(rng: np.random.Generator, chance: float, spread: float) -> Pair:
    """Rows that are alike: each seed learns with `chance`, or always says one digit."""

    def draw(n: int) -> list[float]:
        learned = rng.random(n) < chance
        normal = rng.normal(BASE, spread, n).round(4)
        accuracies: list[float] = np.where(learned, normal, CHANCE).tolist()
        return accuracies

    return Pair("", draw, draw, "no", "yes")


def lists(
    rng: np.random.Generator, margin: float, spreads: tuple[float, ...], count: int
) -> Iterator[tuple[str, list[Pair]]]:
    small, middle, large = spreads
    half = count // 2
    alike = normal_pair(rng, 0, margin, middle, middle)
    unlike = normal_pair(rng, 0, margin, small, large)
    edge = normal_pair(rng, margin, margin, middle, middle)
    edge_unlike = normal_pair(rng, margin, margin, large, small)
    clear = normal_pair(rng, max(10 * margin, 5 * middle), margin, middle, middle)
    stuck = stuck_pair(rng, 0.5, middle)
    yield "all alike", [alike] * count
    yield "all alike on average, one row spreads more", [unlike] * count
    yield "all alike, half of the seeds stay at chance", [stuck] * count
    yield "all ahead by just the margin", [edge] * count
    yield "all ahead by just the margin, one row spreads more", [edge_unlike] * count
    yield "half far ahead, half alike", [clear] * half + [alike] * (count - half)
    yield (
        "half far ahead, half alike on average, one row spreads more",
        [clear] * half + [unlike] * (count - half),
    )
    yield "half far ahead, half by just the margin", [clear] * half + [edge] * (count - half)


Shares = tuple[float, float]


def _lines(asks: str, pair: Pair, shares: Callable[[int], Shares]) -> Iterator[dict[str, Any]]:
    by_seeds = {n: shares(n) for n in SEEDS}
    needed: int | str = ""
    if pair.right in ("yes", "no"):
        place = ("yes", "no").index(pair.right)
        needed = next((n for n in TRIED if (by_seeds.get(n) or shares(n))[place] >= POWER), "")
    for n, (yes, no) in by_seeds.items():
        wrong = yes * ("yes" in pair.wrong) + no * ("no" in pair.wrong)
        line = (asks, pair.scenario, pair.right, n, *map(_round, (yes, no, wrong)), needed)
        yield dict(zip(COLUMNS, line, strict=True))


def _simulate(pair: Pair, n: int, report: Report, count: int, draws: int) -> Shares:
    words = [
        judge([Sample(pair.row(n), pair.than(n))], report.level, report.margin, count)[0].word
        for _ in range(draws)
    ]
    return words.count("yes") / draws, words.count("no") / draws


def _compute(row: float, than: float, n: int, report: Report, count: int) -> Shares:
    words = _learning_words(n, report.level, report.margin, count)
    weights = np.outer(binom.pmf(range(n + 1), n, row), binom.pmf(range(n + 1), n, than))
    yes, no = (float(weights[words == word].sum()) for word in ("yes", "no"))
    return yes, no


@cache
def _learning_words(n: int, level: float, margin: float, count: int) -> Any:
    """What is said by how many seeds of the row (down) and of the other (across) learned."""
    good, bad = FLOOR + 0.1, FLOOR - 0.1
    sides = [[good] * k + [bad] * (n - k) for k in range(n + 1)]
    return np.array(
        [
            [judge([Sample(a, b, "learning")], level, margin, count)[0].word for b in sides]
            for a in sides
        ]
    )


def _judge_lists(pairs: list[Pair], n: int, report: Report, draws: int) -> tuple[float, ...]:
    said: dict[Literal["yes", "no"], int] = {"yes": 0, "no": 0}
    lists_wrong = 0
    for _ in range(draws):
        samples = [Sample(pair.row(n), pair.than(n)) for pair in pairs]
        words = [judgement.word for judgement in judge(samples, report.level, report.margin)]
        for word in said:
            said[word] += words.count(word)
        lists_wrong += any(word == pair.wrong for word, pair in zip(words, pairs, strict=True))
    every = draws * len(pairs)
    return tuple(map(_round, (said["yes"] / every, said["no"] / every, lists_wrong / draws)))


def _round(share: float) -> float:
    return round(share, 4)


if __name__ == "__main__":
    main()
