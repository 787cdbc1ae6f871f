"""What finished runs answer to the questions of a study, by rules that are fixed beforehand.

`rules` states them for readers of the report. What a list of pairs says is decided together
(`judge`), since its level is divided among them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from deepnets.config.sections import Goal, Pair, Question, Report, rows_of
from deepnets.records.results import TrainingRecord
from deepnets.records.significance import (
    fisher,
    holm,
    mean_bounds,
    rank_sum,
    share_interval,
    welch,
    welch_interval,
)
from deepnets.records.statistics import spread
from deepnets.reporting.comparisons import Runs, evaluated_runs, p_text

# The test accuracy that a network has to exceed to count as one that learns at all: one that
# always says the same digit has up to 0.1135.
FLOOR = 0.2

By = Literal["accuracy", "learning"]
Word = Literal["yes", "no", "it depends", "undecided", "not run"]


class Sample(NamedTuple):
    """The test accuracies of a pair's two rows, one a seed, and what is asked of them."""

    row: Sequence[float]
    than: Sequence[float]
    by: By = "accuracy"


class Judgement(NamedTuple):
    """What a pair says, by `rules`.

    `p_yes` is the p-value of the hypothesis that a yes rejects, `p_no` that of the one that a no
    rejects; `limit` what they may be at most (0: nothing would do).
    """

    word: Literal["yes", "no", "undecided"]
    p_yes: float
    p_no: float
    limit: float


@dataclass(frozen=True)
class Candidate:
    """A row that may stand for a side of a pair, by its mean validation accuracy."""

    row: str
    validation: float


@dataclass(frozen=True)
class Side:
    """The row that stands for a side, what it was chosen from, and its tests: a value a seed."""

    runs: Runs
    accuracies: list[float]
    candidates: list[Candidate]

    @property
    def learned(self) -> int:
        """With how many seeds."""
        return sum(accuracy > FLOOR for accuracy in self.accuracies)


@dataclass(frozen=True)
class Compared:
    """A pair of which both rows have every seed, and what it says."""

    pair: Pair
    row: Side
    than: Side
    judgement: Judgement

    @property
    def difference(self) -> float:
        """Of the mean test accuracies."""
        return float(np.mean(self.row.accuracies) - np.mean(self.than.accuracies))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Welch's 95 % interval of it; it decides nothing."""
        return welch_interval(self.row.accuracies, self.than.accuracies)


@dataclass(frozen=True)
class Answer:
    """What is known of a question: a word, a sentence a pair with its numbers, and the pairs.

    `missing` are the pairs that lack a seed.
    """

    question: Question
    word: Word
    numbers: list[str]
    compared: list[Compared]
    missing: list[Pair] = field(default_factory=list)


@dataclass(frozen=True)
class GoalAnswer:
    """What is known of a goal, and the row that validation has chosen, if there is one."""

    goal: Goal
    word: Word
    numbers: str
    chosen: Side | None


def rules(report: Report, count: int) -> list[str]:
    """A paragraph each, for the report of a study with so many pairs."""
    return [
        "The unit is the seed, not the image. Seeds of two rows are not paired: a row's test "
        "accuracies, one a seed, stand against another's. Where a side names several rows, the "
        "one with the highest mean validation accuracy stands for it.",
        "A pair asks for accuracy or for learning, fixed beforehand. Accuracy: two one-sided tests "
        "have to agree, the exact rank-sum test over seeds, by permutation, and Welch's t test; "
        "the first assumes no distribution, the second no equal spread, and the larger p-value "
        "counts. A yes has to reject that the first row is not more accurate, and its mean has to "
        f"be ahead by {_margin(report)} or more, the smallest difference that matters here; a no "
        f"has to reject that it is more accurate by {_margin(report)} or more.",
        f"Learning: a test accuracy above {FLOOR} (always the same digit gets at most 0.1135). "
        "Fisher's exact test on how many seeds learned; a yes has to reject that the first row "
        "learns no more often, a no that it learns no less often. Rows that learn equally often "
        "fit both, so that each p-value counts twice.",
        f"The list has {count} pairs and one level, {report.level:g}, for any wrong yes or no in "
        "it. It is divided by Holm's step-down method: the smaller p-value of each pair in turn, "
        f"the smallest of all against {report.level:g}/{count}, and so on. Pairs that lack a seed "
        "are not run, and count as well, so that what is missing makes nothing easier.",
        "A question with several pairs: yes or no, if all say so; it depends, if some say yes and "
        "all others no. Undecided is everything else: it does not mean that the rows are alike. "
        "Intervals (Welch's t of the difference of means; Clopper and Pearson's of how often a row "
        "learns; 95 %, each by itself) are shown and decide nothing.",
        *(
            [
                "Whether a row is above a given test accuracy: of the rows that have every seed, "
                "the one with the highest mean validation accuracy is taken. Yes, if the lower 95 "
                "% bound of its mean test accuracy over seeds (Student's t, one-sided) is above; "
                "no, if the upper one is below and no row lacks a seed; its level is its own. The "
                "test images are given, as they were for the number that it is compared with."
            ]
            if report.goal
            else []
        ),
        "An answer holds for this scale, these rates and these test images.",
    ]


def judge(
    samples: Sequence[Sample], level: float, margin: float, count: int | None = None
) -> list[Judgement]:
    """What the pairs of a list say.

    A pair counts once in Holm's method, by the smaller of its two p-values, since at most one of
    its hypotheses is true (of learning, both may be, and each p-value is doubled). What is proven
    for one hypothesis a pair is simulated for two in benchmarks/power.py.

    Args:
        samples: of the pairs that were run.
        level: the chance of any wrong yes or no in the list.
        margin: the smallest difference in test accuracy that matters.
        count: of all pairs of the list (None: all were run).
    """
    p_values = [p_values_of(sample, margin) for sample in samples]
    limits = holm([min(p_yes_no) for p_yes_no in p_values], level, count)
    return [
        Judgement(_word(sample, margin, *p_yes_no, limit), *p_yes_no, limit)
        for sample, p_yes_no, limit in zip(samples, p_values, limits, strict=True)
    ]


def p_values_of(sample: Sample, margin: float) -> tuple[float, float]:
    """Of the hypothesis that a yes rejects, and of the one that a no rejects."""
    if sample.by == "learning":
        row, than = (
            sum(accuracy > FLOOR for accuracy in side) for side in (sample.row, sample.than)
        )
        seeds = len(sample.row), len(sample.than)
        more = fisher(row, seeds[0], than, seeds[1])
        less = fisher(than, seeds[1], row, seeds[0])
        return min(1.0, 2 * more), min(1.0, 2 * less)
    row_s, than_s = _round_off(sample.row), _round_off(sample.than)
    return _p_value_ahead(row_s, than_s), _p_value_ahead(
        than_s, _round_off([accuracy - margin for accuracy in row_s])
    )


def answer(
    report: Report, trained: Mapping[str, Sequence[TrainingRecord]], seeds: Sequence[int]
) -> list[Answer]:
    """The answers that the runs in `trained` give, a question each.

    Args:
        report: the section of params.yaml.
        trained: the seeds of each row that have been trained.
        seeds: all that a row has to have been tested with.
    """
    pairs = [pair for question in report.questions for pair in question.ahead]
    sides = [(_side(pair.row, trained, seeds), _side(pair.than, trained, seeds)) for pair in pairs]
    run = [
        (place, row, than)
        for place, (row, than) in enumerate(sides)
        if row is not None and than is not None and _share_test_images(row, than)
    ]
    samples = [Sample(row.accuracies, than.accuracies, pairs[at].by) for at, row, than in run]
    judged = judge(samples, report.level, report.margin, len(pairs))
    compared = {
        at: Compared(pairs[at], row, than, judgement)
        for (at, row, than), judgement in zip(run, judged, strict=True)
    }
    answers, first = [], 0
    for question in report.questions:
        places = range(first, first + len(question.ahead))
        first += len(question.ahead)
        known = [compared[at] for at in places if at in compared]
        missing = [pairs[at] for at in places if at not in compared]
        word = "not run" if missing else _combine_words({pair.judgement.word for pair in known})
        answers.append(Answer(question, word, _numbers(known, missing), known, missing))
    return answers


def answer_goal(
    goal: Goal, trained: Mapping[str, Sequence[TrainingRecord]], seeds: Sequence[int]
) -> GoalAnswer:
    """The answer to `goal`, likewise."""
    complete = [name for name in goal.rows if _is_complete(name, trained, seeds)]
    missing = [name for name in goal.rows if name not in complete]
    lacking = f" To be tested with every seed: {', '.join(missing)}." if missing else ""
    chosen = _side(complete, trained, seeds) if complete else None
    if chosen is None:
        return GoalAnswer(goal, "not run", lacking.strip(), None)
    bounds = mean_bounds(chosen.accuracies)
    word: Word = "undecided"
    if bounds:
        below = bounds[1] < goal.above and not missing
        word = "yes" if bounds[0] > goal.above else "no" if below else "undecided"
    accuracies = ", ".join(f"{accuracy:.4f}" for accuracy in chosen.accuracies)
    text = f"{_mean(chosen)} in test accuracy ({accuracies}) beside {goal.above:.4f}"
    if bounds:
        text += f"; one-sided 95 % bounds of the mean {bounds[0]:.4f} and {bounds[1]:.4f}"
    return GoalAnswer(goal, word, f"{text}{_describe_choice(chosen)}.{lacking}", chosen)


def points(differences: Sequence[float]) -> str:
    """A difference of accuracies, or the two ends of an interval of them, in percentage points."""
    return " to ".join(f"{100 * difference:+.2f}" for difference in differences)


def name(side: str | list[str]) -> str:
    """A side of a pair, for people."""
    return " or ".join(rows_of(side))


def _word(
    sample: Sample, margin: float, p_yes: float, p_no: float, limit: float
) -> Literal["yes", "no", "undecided"]:
    if p_no <= limit:
        return "no"
    # Accuracies are fractions: what is the margin to the image must not fall short by rounding.
    mean = round(float(np.mean(sample.row) - np.mean(sample.than)), 9)
    if p_yes <= limit and (sample.by == "learning" or mean >= margin):
        return "yes"
    return "undecided"


def _p_value_ahead(a: Sequence[float], b: Sequence[float]) -> float:
    """The larger p-value of two tests that `a` is not ahead, each right where the other errs.

    The rank test assumes no distribution, but takes rows that spread differently for different,
    also where they are alike on average; Welch's test assumes no equal spread.
    """
    return max(rank_sum(a, b), welch(a, b)) if min(len(a), len(b)) > 1 else 1.0


def _round_off(accuracies: Sequence[float]) -> list[float]:
    """Without what the fractions of images are off by in floating point, which would break ties."""
    return [round(accuracy, 9) for accuracy in accuracies]


def _side(
    rows: str | list[str], trained: Mapping[str, Sequence[TrainingRecord]], seeds: Sequence[int]
) -> Side | None:
    """The row of `rows` that validation has chosen; None where one of them lacks a seed."""
    names = rows_of(rows)
    if not all(_is_complete(row, trained, seeds) for row in names):
        return None
    tested = [evaluated_runs(row, trained[row]) for row in names]
    best = max(tested, key=lambda runs: runs.validation_accuracy)
    accuracies = [
        float(np.mean(result.predicted == result.labels)) for result in best.results.values()
    ]
    return Side(
        best, accuracies, [Candidate(runs.name, runs.validation_accuracy) for runs in tested]
    )


def _is_complete(
    row: str, trained: Mapping[str, Sequence[TrainingRecord]], seeds: Sequence[int]
) -> bool:
    return set(seeds) <= set(evaluated_runs(row, trained.get(row, [])).results)


def _share_test_images(*sides: Side) -> bool:
    """Whether all were tested on the same images."""
    labels = [result.labels for side in sides for result in side.runs.results.values()]
    return all(np.array_equal(labels[0], other) for other in labels[1:])  # type: ignore[arg-type]


def _numbers(known: Sequence[Compared], missing: Sequence[Pair]) -> list[str]:
    several = len(known) + len(missing) > 1
    sentences = [
        f"{pair.judgement.word}: {_describe(pair)}." if several else f"{_describe(pair)}."
        for pair in known
    ]
    lacking = ", ".join(f"{name(pair.row)} beside {name(pair.than)}" for pair in missing)
    return sentences + ([f"To be tested with every seed: {lacking}."] if missing else [])


def _describe(compared: Compared) -> str:
    row, than, judgement = compared.row, compared.than, compared.judgement
    seeds = len(row.accuracies)
    p_value = p_text(min(judgement.p_yes, judgement.p_no), "= ")
    if compared.pair.by == "learning":
        shares = [
            f"{side.runs} learned with {side.learned} of {seeds} seeds "
            f"({' to '.join(f'{end:.2f}' for end in share_interval(side.learned, seeds))})"
            for side in (row, than)
        ]
        text = f"{' and '.join(shares)}, p {p_value}"
    else:
        interval = compared.interval
        text = (
            f"{_mean(row)} against {_mean(than)} in test accuracy, "
            f"{points([compared.difference])} points"
            + (f" (95 % interval {points(interval)})" if interval else "")
            + (
                f", learned with {row.learned} and {than.learned} of {seeds} seeds"
                if (row.learned, than.learned) != (seeds, seeds)
                else ""
            )
            + f", p {p_value}"
        )
    return text + _describe_choice(row) + _describe_choice(than)


def _describe_choice(side: Side) -> str:
    """What a row was chosen from, with the validation accuracies that chose it."""
    if len(side.candidates) < 2:
        return ""
    others = ", ".join(
        f"{candidate.row} {candidate.validation:.4f}" for candidate in side.candidates
    )
    return f"; {side.runs.name} was chosen by validation accuracy ({others})"


def _combine_words(words: set[Literal["yes", "no", "undecided"]]) -> Word:
    """What pairs that say `words` answer together."""
    if words == {"yes", "no"}:
        return "it depends"
    return "yes" if words == {"yes"} else "no" if words == {"no"} else "undecided"


def _margin(report: Report) -> str:
    return f"{100 * report.margin:g} percentage points"


def _mean(side: Side) -> str:
    mean, deviation = spread(side.accuracies)
    return f"{side.runs} {mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
