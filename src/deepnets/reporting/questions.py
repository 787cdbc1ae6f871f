"""What finished runs answer to the questions of a study, by rules that are fixed beforehand.

`RULES` states them for readers of the report.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from deepnets.config.sections import Pair, Question, RunEntry
from deepnets.records.results import TrainingRecord
from deepnets.records.statistics import mean_interval, spread
from deepnets.reporting.comparisons import Comparison, Runs, compare_runs, evaluated, p_text

LEVEL = 0.05

# In test accuracy: a mean difference below this answers no question.
MARGIN = 0.005

# The test accuracy that a network has to exceed to count as one that learns at all: one that
# always says the same digit has up to 0.1135.
FLOOR = 0.2

# A paragraph each, for the report.
RULES = (
    "A pair of rows differs in what the question asks about. It says yes if its first row is more "
    "accurate with every seed, the 95 % interval of the mean difference over the seeds (Student's "
    f"t) lies above 0, the mean is {100 * MARGIN:g} percentage points or more, and the exact "
    f"McNemar test on the same test images says p < {LEVEL}. It says no if that interval lies "
    f"below {100 * MARGIN:g} percentage points.",
    f"A network that gets at most {FLOOR} of the test images right has not learned. Where one seed "
    "of a pair ends so, seeds are counted in place of an interval: yes, if the first row learned "
    "with every seed and the second with none; no, if it is the other way round or neither learned "
    "with any.",
    "Yes and no: all pairs of the question say so. It depends: some say yes and all others no. "
    "Undecided: anything else, and whatever has one seed only; it does not mean that the rows are "
    "alike. Not run: a row lacks a seed.",
    "An answer holds for this scale and these rates. Every question stands at 95 % by itself: of "
    "many, chance alone may answer one.",
)

Word = Literal["yes", "no", "it depends", "undecided", "not run"]


@dataclass(frozen=True)
class Answer:
    """What is known of a question: a word, a sentence with the numbers, and one on the mechanism.

    `pairs` are those of its rows that were compared.
    """

    question: str
    word: Word
    numbers: str
    mechanism: str
    pairs: list[Pair]


def answer(
    question: Question,
    found: Mapping[str, Sequence[TrainingRecord]],
    diagnoses: Mapping[str, dict[str, Any]],
    seeds: Sequence[int],
) -> Answer:
    """The answer that the runs in `found` give.

    Args:
        question: as params.yaml has it.
        found: the seeds of each row that have been trained.
        diagnoses: what `diagnose` wrote, by row.
        seeds: all that a row has to have been tested with.
    """
    compared = {pair: compare(pair, found) for pair in question.ahead}
    complete = {
        pair: of for pair, of in compared.items() if of is not None and set(of.seeds) == set(seeds)
    }
    words = {pair: judge(of) for pair, of in complete.items()}
    missing = [f"{pair.row} beside {pair.than}" for pair in compared if pair not in complete]
    several = len(compared) > 1
    sentences = [
        "; ".join(describe(of) + f": {words[pair]}" * several for pair, of in complete.items()),
        "To be tested with every seed: " * bool(missing) + ", ".join(missing),
    ]
    shown = {name: diagnoses[name] for name in question.diagnosed if name in diagnoses}
    return Answer(
        question.question,
        "not run" if missing else _together(set(words.values())),
        " ".join(f"{sentence}." for sentence in sentences if sentence),
        _sentence("; ".join(filter(None, [diagnosed(shown), question.known]))),
        list(complete),
    )


def compare(pair: Pair, found: Mapping[str, Sequence[TrainingRecord]]) -> Comparison | None:
    """The two rows side by side; None where they share no seed and test images."""
    row, than = (evaluated(name, found.get(name, [])) for name in (pair.row, pair.than))
    return compare_runs(row, than)


def judge(comparison: Comparison) -> Literal["yes", "no", "undecided"]:
    """What a pair says, by `RULES`."""
    every = len(comparison.seeds)
    low_high = interval(comparison)
    if low_high is None and every > 1:
        learned = _learned(comparison.accuracies_a), _learned(comparison.accuracies_b)
        if learned == (every, 0):
            return "yes"
        return "no" if learned in ((0, every), (0, 0)) else "undecided"
    if low_high is None:
        return "undecided"
    # Accuracies are fractions: what is MARGIN to the image must not fall short by their rounding.
    low, high, mean = (round(of, 9) for of in (*low_high, float(np.mean(comparison.differences))))
    if high < MARGIN:
        return "no"
    gains = low > 0 and mean >= MARGIN
    return "yes" if gains and comparison.counts(1, LEVEL) else "undecided"


def interval(comparison: Comparison) -> tuple[float, float] | None:
    """Of the mean difference, 95 %; None for one seed, and where one has not learned."""
    every = len(comparison.seeds)
    if _learned(comparison.accuracies_a) < every or _learned(comparison.accuracies_b) < every:
        return None
    return mean_interval(comparison.differences)


def describe(comparison: Comparison) -> str:
    """A comparison with its spread: `a 0.97 ± 0.01 against b 0.95 ± 0.02 (+2.0 points, ...)`."""
    low_high = interval(comparison)
    every = len(comparison.seeds)
    learned = _learned(comparison.accuracies_a), _learned(comparison.accuracies_b)
    numbers = [points([float(np.mean(comparison.differences))]) + " points"]
    if low_high:
        numbers[0] += f", 95 % interval {points(low_high)}"
    if learned == (0, 0):
        numbers.append("neither has learned")
    elif learned != (every, every):
        numbers.append(f"learned with {learned[0]} against {learned[1]} of {every} seeds")
    numbers.append(f"ahead with {comparison.seeds_ahead} of {every} seeds")
    numbers.append(f"p {p_text(comparison.p_value, '= ')}")
    return (
        f"{_mean(comparison.a, comparison.accuracies_a)} against "
        f"{_mean(comparison.b, comparison.accuracies_b)} in test accuracy ({'; '.join(numbers)})"
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


def after_steps(diagnosis: Mapping[str, Any]) -> str:
    """The moment between the start and the end, by its name."""
    return next(name for name in map(str, diagnosis["moments"]) if name.startswith("after"))


def diagnosed(diagnoses: Mapping[str, Mapping[str, Any]]) -> str:
    """The numbers of one seed's diagnoses that bear on whether a network learns, row by row.

    Of networks with batch normalisation these are accuracies, of others what flows through the
    layers. The first row of each kind says what its numbers are, those after it follow suit.
    """
    said = []
    explained: set[bool] = set()
    for name, of in diagnoses.items():
        normalised = bool(of["moments"]["start"]["batch_norms"])
        tell = _told_by_norms if normalised else _told_by_flow
        said.append(tell(name, of, normalised not in explained))
        explained.add(normalised)
    return "; ".join(said)


def _told_by_norms(name: str, diagnosis: Mapping[str, Any], explain: bool) -> str:
    moment = after_steps(diagnosis)
    then, end = (
        {by: f"{diagnosis['moments'][key][by]['accuracy']:.2f}" for by in ("batch", "moving")}
        for key in (moment, "end")
    )
    if not explain:
        return (
            f"{name} {then['batch']} and {then['moving']}, at the end {end['batch']} and "
            f"{end['moving']}"
        )
    return (
        f"{moment}, {name} gets {then['batch']} of {diagnosis['images']} validation images right "
        f"with their own statistics and {then['moving']} with its moving averages, at the end "
        f"{end['batch']} and {end['moving']}"
    )


def _told_by_flow(name: str, diagnosis: Mapping[str, Any], explain: bool) -> str:
    moment = after_steps(diagnosis)
    convolutions = path(diagnosis["moments"]["start"])[:-1]
    first, last = (f"{convolutions[at]['activation']:.2g}" for at in (0, -1))
    gradient = f"{path(diagnosis['moments'][moment])[0]['gradient']:.2g}"
    if not explain:
        return f"{name} from {first} to {last}, then {gradient}"
    return (
        f"from the first convolution to the last, activations of {name} go from {first} to {last} "
        f"at the start, and {moment} the first kernel's gradient is {gradient}"
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


def _together(words: Collection[str]) -> Word:
    """What pairs that say `words` answer together."""
    if set(words) == {"yes", "no"}:
        return "it depends"
    return "yes" if set(words) == {"yes"} else "no" if set(words) == {"no"} else "undecided"


def _learned(accuracies: Sequence[float]) -> int:
    return sum(accuracy > FLOOR for accuracy in accuracies)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""


def _mean(runs: Runs, accuracies: Sequence[float]) -> str:
    mean, deviation = spread(accuracies)
    return f"{runs} {mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
