"""What finished runs answer to the questions of a study, by rules that are fixed beforehand.

`RULES` states them for readers of the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from deepnets.comparisons import Comparison, Runs, compare_runs, evaluated, p_text
from deepnets.params import Pair, Question, RunEntry
from deepnets.results import Result
from deepnets.statistics import mean_interval, spread

LEVEL = 0.05

# In accuracy. Less than this is no answer to "why does it lag".
MARGIN = 0.01

# The mean test accuracy that a network has to exceed to count as one that learns at all: one that
# always says the same digit has up to 0.1135.
FLOOR = 0.2

# A paragraph each, for the report.
RULES = (
    "A pair of rows differs in what the question asks about. Its first row is ahead if it is more "
    "accurate with every seed that both have, the 95 % interval of the mean difference over the "
    "seeds (Student's t) lies above 0, and the exact McNemar test on the same test images says "
    f"p < {LEVEL}.",
    "Yes: the first row of every pair is ahead, by however little.",
    "No: not so, and in every pair the second row is ahead, or the first gains too little, that "
    f"interval lying below {100 * MARGIN:g} percentage point.",
    f"Undecided: anything else. That is so as well where both rows of a pair are at {FLOOR} or "
    "below: networks that have not learned can not be compared.",
)


@dataclass(frozen=True)
class Answer:
    """What is known of a question: a word, a sentence with the numbers, and one with the cause.

    `pairs` are those of its rows that were compared.
    """

    question: str
    word: Literal["yes", "no", "undecided", "not run"]
    numbers: str
    cause: str
    pairs: list[Pair]


def answer(
    question: Question,
    found: Mapping[str, Sequence[Result]],
    diagnoses: Mapping[str, dict[str, Any]],
) -> Answer:
    """The answer that the runs in `found` give.

    Args:
        question: as params.yaml has it.
        found: the seeds of each row that have been trained.
        diagnoses: what `diagnose` wrote, by row.
    """
    compared = {pair: compare(pair, found) for pair in question.ahead}
    comparisons = [of for of in compared.values() if of is not None]
    missing = [pair for pair, of in compared.items() if of is None]
    if missing:
        word: Literal["yes", "no", "undecided", "not run"] = "not run"
        numbers = "To be tested on the same images: " + ", ".join(
            f"{pair.row} beside {pair.than}" for pair in missing
        )
    else:
        word, numbers = _word(comparisons), "; ".join(map(describe, comparisons))
        if any(map(_at_the_floor, comparisons)):
            numbers += ": neither has learned"
    causes = "; ".join(
        cause(name, diagnoses[name]) for name in question.diagnosed if name in diagnoses
    )
    sentences = [f"{causes[0].upper()}{causes[1:]}."] if causes else []
    if question.known:
        sentences.append(question.known)
    pairs = [pair for pair in question.ahead if pair not in missing]
    return Answer(question.question, word, f"{numbers}.", " ".join(sentences), pairs)


def compare(pair: Pair, found: Mapping[str, Sequence[Result]]) -> Comparison | None:
    """The two rows side by side; None where they share no seed and test images."""
    row, than = (evaluated(name, found.get(name, [])) for name in (pair.row, pair.than))
    return compare_runs(row, than)


def describe(comparison: Comparison) -> str:
    """A comparison with its spread: `a 0.97 ± 0.01, b 0.95 ± 0.02 (+2.0 points, ...)`."""
    low_high = mean_interval(comparison.differences)
    interval = f", 95 % interval {points(low_high)}" if low_high else ""
    return (
        f"{_mean(comparison.a, comparison.accuracies_a)} against "
        f"{_mean(comparison.b, comparison.accuracies_b)} in test accuracy "
        f"({points([float(np.mean(comparison.differences))])} points{interval}; ahead with "
        f"{comparison.seeds_ahead} of {len(comparison.seeds)} seeds; "
        f"p {p_text(comparison.p_value, '= ')})"
    )


def points(differences: Sequence[float]) -> str:
    """A difference of accuracies, or the two ends of an interval of them, in percentage points."""
    return " to ".join(f"{100 * difference:+.2f}" for difference in differences)


def parent(name: str, entries: Mapping[str, RunEntry]) -> str | None:
    """The row that `name` was made of: of those before it, for the same network, the most alike.

    None for the first row of a network.
    """
    own, best, fewest = entries[name], None, 0
    for other, entry in entries.items():
        if other == name:
            break
        if entry.arch == own.arch:
            count = len(changes(own, entry))
            if best is None or count < fewest:
                best, fewest = other, count
    return best


def changes(own: RunEntry, other: RunEntry) -> dict[str, Any]:
    """The values of `own` that `other` has not; None for one that is left out."""
    ours, theirs = own.model_dump(), other.model_dump()
    return {key: ours[key] for key in ours if ours[key] != theirs[key]}


def cause(name: str, diagnosis: Mapping[str, Any]) -> str:
    """The numbers of a diagnosis that say why a network learns, or does not."""
    moment = next(key for key in diagnosis["moments"] if key.startswith("after"))
    start, then, end = (diagnosis["moments"][key] for key in ("start", moment, "end"))
    if then["batch_norms"]:
        gaps = [of["mean_gap"] for of in then["batch_norms"] if of["mean_gap"] is not None]
        return (
            f"{moment}, {name} gets {then['batch']['accuracy']:.2f} of {diagnosis['images']} "
            "validation images right with their own batch's statistics and "
            f"{then['moving']['accuracy']:.2f} with its moving averages, which lie "
            f"{np.median(gaps):.2g} standard deviations beside the batch's (median layer); at the "
            f"end {end['batch']['accuracy']:.2f} and {end['moving']['accuracy']:.2f}"
        )
    *_, last, _ = path(start)
    return (
        f"at the start of {name}, activations go from {_said(path(start)[0]['activation'])} after "
        f"the first convolution to {_said(last['activation'])} after the last, and {moment} the "
        f"gradient in the first kernel is {_said(path(then)[0]['gradient'])} (root mean squares)"
    )


def path(moment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layers with a kernel, without gates, each with the activation that goes on from it.

    For a layer with a highway connection that is what the connection puts out.
    """
    found = {of["name"]: of for of in moment["layers"]}
    return [
        of | {"activation": found.get(f"{of['name']}_highway", of)["activation"]}
        for of in moment["layers"]
        if "gradient" in of and not of["name"].endswith("_gate")
    ]


def _word(comparisons: Sequence[Comparison]) -> Literal["yes", "no", "undecided"]:
    if any(map(_at_the_floor, comparisons)):
        return "undecided"
    if all(_is_ahead(of, 1) for of in comparisons):
        return "yes"
    if all(_is_ahead(of, -1) or _gains_little(of) for of in comparisons):
        return "no"
    return "undecided"


def _is_ahead(comparison: Comparison, sign: int) -> bool:
    """Whether the first row (1) or the second (-1) is ahead, by `RULES`."""
    interval = mean_interval([sign * difference for difference in comparison.differences])
    return comparison.counts(sign, LEVEL) and interval is not None and interval[0] > 0


def _gains_little(comparison: Comparison) -> bool:
    interval = mean_interval(comparison.differences)
    return interval is not None and interval[1] < MARGIN


def _at_the_floor(comparison: Comparison) -> bool:
    return max(comparison.accuracy_a, comparison.accuracy_b) <= FLOOR


def _said(value: float | None) -> str:
    return "no number" if value is None else f"{value:.2g}"


def _mean(runs: Runs, accuracies: Sequence[float]) -> str:
    mean, deviation = spread(accuracies)
    return f"{runs} {mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
