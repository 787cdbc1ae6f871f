"""Whether finished runs bear out what the study claimed, by rules that are fixed beforehand.

`RULES` states them for readers of the report, and `SCOPE` what a verdict says where rows are
missing. Four consequences are easy to miss:

- Claims 1 and 2 say opposite things about the same rows of ResNet50 (the study means the second
  as an exception to the first): at most one of them can be supported.
- One counterexample is enough to contradict, and among several comparisons chance finds one more
  easily; so its level is divided by their number (Bonferroni). Support needs no correction, since
  there every comparison has to count.
- That number is the whole claim's, also where only part of its rows were run: what is decided for
  some starting weights alone is decided as it would be within the whole.
- "Undecided" is not "no difference": it is what the rules say when they can say nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from deepnets.config.fields import Arch, OptimizerName, Weights
from deepnets.records.results import TrainingRecord
from deepnets.reporting import published
from deepnets.reporting.comparisons import (
    THRESHOLDS,
    Comparison,
    Group,
    RowKey,
    Scale,
    compare,
    groups,
    race,
)

STUDY_SCALE = Scale(published.EPOCHS, published.TRAIN_IMAGES)
STUDY_WEIGHTS = tuple(published.WEIGHTS)
_ARCHS: tuple[Arch, ...] = ("vgg16", "resnet50")
_OPTIMIZERS: tuple[OptimizerName, ...] = ("adam", "sgd")

LEVEL = 0.05

# When `RULES` were fixed; what they say of a race that nobody finishes was computed so from that
# day on, and put into words on the next. `SCOPE` is of a later day.
FIXED = "23 November 2026"
RESCOPED = "27 November 2026"

# A paragraph each, for the report.
RULES = (
    "Two rows are compared if they trained for the same number of epochs on the same number of "
    "images, were tested on the same images and share a seed. Of several rows with the same "
    "architecture, optimizer and weights, the grid's first stands for them. Collapsed and diverged "
    "runs are compared as they are.",
    "A difference in test accuracy counts if it has the same sign with every seed that both rows "
    f"have, and a p-value below {LEVEL} in the exact McNemar test, where an image counts once, for "
    "the side that more seeds get it right with. The p-value covers the chance in the choice of "
    "test images, not the chance in training: with one seed, a verdict is about the networks that "
    "were trained, not yet about what trained them.",
    "A claim is supported if all the rows that the study based it on were run and every comparison "
    "counts in its favour. The first claim also needs Adam to be faster in every comparison: in "
    f"fewer epochs, with every seed, at a validation accuracy of {THRESHOLDS[0]} or else the "
    f"highest of {', '.join(map(str, THRESHOLDS[1:]))} that both reach; where they do not even "
    "reach the last, who gets there wins.",
    "A claim is contradicted if one comparison counts against it, with a p-value below "
    f"{LEVEL} divided by the number of comparisons that the claim needs. A network's best row, the "
    "one with the highest validation accuracy after the last epoch, is known once all its rows "
    "were run; the claim about the best rows is not decided before.",
    f"Only runs of {STUDY_SCALE} from random or ImageNet weights, as in the study, can support or "
    "contradict. Everything else is undecided.",
)

# Not one of `RULES`, since it came after the numbers.
SCOPE = (
    f"The form of the verdicts was changed on {RESCOPED}, after the full-scale numbers were known. "
    "Before, a claim of which rows are missing was undecided, unless one comparison contradicted "
    "it; now it is decided, by the same rules, for the starting weights from which all its rows "
    "were run. These weights stand beside the verdict and the missing rows in its evidence; a "
    "network's best row is then the best from these weights. This decides no comparison "
    "differently: pairs, tests and levels are the same, and the level is still divided by the "
    "number of comparisons that the whole claim needs."
)

Word = Literal["supported", "contradicted", "undecided", "not run"]


@dataclass(frozen=True)
class Verdict:
    """A claim of the study in one sentence, what the runs say about it, and their numbers.

    `scope` is the starting weights that it was decided for, as in "from random weights"; empty
    where it is about all that the study based the claim on. `missing` are those rows of the study
    that the claim needs and that were not run at its scale; empty too where nothing was.
    """

    claim: str
    verdict: Word
    evidence: str
    scope: str = ""
    missing: list[RowKey] = field(default_factory=list)


def judge(results: Mapping[str, Sequence[TrainingRecord]]) -> list[Verdict]:
    """The study's five claims in its order, judged by `RULES`.

    Args:
        results: by the name of the row, in the order of the grid, a result for each seed that
            was run; those without predictions are left out.
    """
    all_groups = sorted(groups(results), key=_weight, reverse=True)
    highway = Verdict(
        "Highway connections would help VGG-16 (named as future work).",
        "not run",
        "No row of this grid has highway connections.",
    )
    return [*(_judge(claim, all_groups) for claim in _CLAIMS), highway]


Pairs = list[tuple[RowKey, RowKey]]
Compared = dict[tuple[RowKey, RowKey], Comparison]


def _sgd_over_adam(_: Group, weights: Collection[Weights]) -> Pairs:
    return [(RowKey(a, "sgd", w), RowKey(a, "adam", w)) for a in _ARCHS for w in weights]


def _adam_over_sgd_in_resnet50(_: Group, weights: Collection[Weights]) -> Pairs:
    return [(RowKey("resnet50", "adam", w), RowKey("resnet50", "sgd", w)) for w in weights]


def _random_over_imagenet_in_resnet50(_: Group, weights: Collection[Weights]) -> Pairs:
    if not {"random", "imagenet"} <= set(weights):
        return []
    return [
        (RowKey("resnet50", o, "random"), RowKey("resnet50", o, "imagenet")) for o in _OPTIMIZERS
    ]


def _best_vgg16_over_best_resnet50(group: Group, weights: Collection[Weights]) -> Pairs:
    best = {
        arch: max(
            (row for row in group.rows if row.arch == arch and row.weights in weights),
            key=lambda row: group.rows[row].validation_accuracy,
            default=None,
        )
        for arch in _ARCHS
    }
    vgg16, resnet50 = best.values()
    return [(vgg16, resnet50)] if vgg16 and resnet50 else []


@dataclass(frozen=True)
class _Claim:
    """A claim that some rows are more accurate than others.

    Args:
        text: the claim.
        archs: their rows, with both optimizers and the study's weights, are what it is based on.
        pairs: what to compare, given the weights that count; the row that it favours comes first.
        general: it is about all pairs alike, so that one counterexample contradicts it, whatever
            else was run.
        race: it also says that the second row of a pair is the faster one.
    """

    text: str
    archs: tuple[Arch, ...]
    pairs: Callable[[Group, Collection[Weights]], Pairs]
    general: bool = True
    race: bool = False

    def missing_rows(self, run: Collection[RowKey], weights: Collection[Weights]) -> list[RowKey]:
        """What the study based the claim on, from these weights, and was not `run`."""
        based_on = [RowKey(a, o, w) for a in self.archs for o in _OPTIMIZERS for w in weights]
        return [row for row in based_on if row not in run]


_CLAIMS = (
    _Claim(
        "SGD ends more accurate than Adam, and Adam converges faster.",
        _ARCHS,
        _sgd_over_adam,
        race=True,
    ),
    _Claim(
        "Within 15 epochs, ResNet50 is more accurate with Adam than with SGD.",
        ("resnet50",),
        _adam_over_sgd_in_resnet50,
    ),
    _Claim(
        "ResNet50 is more accurate from random weights than from ImageNet weights.",
        ("resnet50",),
        _random_over_imagenet_in_resnet50,
    ),
    _Claim(
        "ResNet50 does not reach the accuracy of VGG-16.",
        _ARCHS,
        _best_vgg16_over_best_resnet50,
        general=False,
    ),
)


def _weight(group: Group) -> tuple[bool, int]:
    """The study's scale weighs most, then what saw most images."""
    return group.scale == STUDY_SCALE, group.scale.epochs * group.scale.images


def _judge(claim: _Claim, all_groups: Sequence[Group]) -> Verdict:
    """The verdict on `claim` from the weightiest of the groups that can say anything."""
    for group in all_groups:
        if group.scale == STUDY_SCALE and (verdict := _decide(claim, group)):
            return verdict
        weights = tuple(dict.fromkeys(row.weights for row in group.rows))
        compared = _compare(group, claim.pairs(group, weights))
        if compared:
            limit = f"Only {STUDY_SCALE} from the study's weights decide"
            evidence = _undecided_evidence(claim, group, compared, limit)
            return _verdict(claim, "undecided", evidence, _missing_rows(claim, all_groups))
    nothing = "No two finished runs that differ in this share epochs, images and a seed."
    return _verdict(claim, "not run", nothing, _missing_rows(claim, all_groups))


def _missing_rows(claim: _Claim, all_groups: Sequence[Group]) -> list[RowKey]:
    """What `claim` needs and was not run at the study's scale; empty too where nothing was."""
    run = {
        row
        for group in all_groups
        if group.scale == STUDY_SCALE
        for row in group.rows
        if row.weights in STUDY_WEIGHTS
    }
    return claim.missing_rows(run, STUDY_WEIGHTS) if run else []


def _decide(claim: _Claim, group: Group) -> Verdict | None:
    """The verdict at the study's scale; None where none of the comparisons could be made.

    Where rows are missing, it is that from the weights from which none is. The level is the whole
    claim's there too.
    """
    needed = claim.pairs(group, STUDY_WEIGHTS)
    missing = claim.missing_rows(group.rows, STUDY_WEIGHTS)
    weights = _decidable_weights(claim, group)
    pairs = claim.pairs(group, weights)
    within = _compare(group, pairs)
    complete = 0 < len(pairs) == len(within)
    # A claim about all pairs alike is up against every one of them, wherever it is decided.
    compared = _compare(group, needed) if claim.general or not within else within
    if not compared:
        return None
    against = {pair: c for pair, c in compared.items() if c.counts(-1, LEVEL / len(needed))}
    if against and (claim.general or complete):
        names = ", ".join(f"{c.b.name} over {c.a.name}" for c in against.values())
        evidence = f"{_numbers(claim, group, compared)} Against it: {names}."
        return _verdict(claim, "contradicted", evidence, missing, _scope(missing, against))
    scope = _scope(missing, within)
    counted = all(c.counts(1, LEVEL) for c in within.values())
    faster = not claim.race or all(race(c).b_wins for c in within.values())
    if complete and counted and faster:
        return _verdict(claim, "supported", _numbers(claim, group, compared), missing, scope)
    if not within:
        reason = "Not all of its rows were run"
    elif not complete:
        reason = "Some rows share no seed"
    elif counted:
        reason = "Adam is not faster everywhere"
    else:
        reason = "Not every difference counts"
    evidence = _undecided_evidence(claim, group, compared, reason)
    return _verdict(claim, "undecided", evidence, missing, scope)


def _decidable_weights(claim: _Claim, group: Group) -> tuple[Weights, ...]:
    """The weights that `claim` can be decided for: the study's, one of them, or none.

    One of them, if not all rows were run, but all from these weights, and some can be compared.
    """
    if not claim.missing_rows(group.rows, STUDY_WEIGHTS):
        return STUDY_WEIGHTS
    for weights in STUDY_WEIGHTS:
        alone = (weights,)
        pairs = claim.pairs(group, alone)
        if not claim.missing_rows(group.rows, alone) and _compare(group, pairs):
            return alone
    return ()


def _scope(missing: Collection[RowKey], pairs: Collection[tuple[RowKey, RowKey]]) -> str:
    """The weights that all these pairs start from, if they are not the whole claim's."""
    weights = {row.weights for pair in pairs for row in pair}
    return f"from {published.WEIGHTS[weights.pop()]}" if missing and len(weights) == 1 else ""


def _verdict(
    claim: _Claim, word: Word, evidence: str, missing: list[RowKey], scope: str = ""
) -> Verdict:
    """The verdict, with the missing rows in its evidence."""
    if missing:
        evidence += f" Not run at the study's scale: {', '.join(map(str, missing))}."
    return Verdict(claim.text, word, evidence, scope, missing)


def _undecided_evidence(claim: _Claim, group: Group, compared: Compared, reason: str) -> str:
    """The evidence where nothing was decided: the numbers, why, and which way they point."""
    ahead = {sign for c in compared.values() for sign in (1, -1) if c.counts(sign, LEVEL)}
    points = "both ways" if ahead else "neither way"
    if len(ahead) == 1:
        points = "to the claim" if ahead.pop() > 0 else "against it"
    return (
        f"{_numbers(claim, group, compared)} {reason}; the differences that count point {points}."
    )


def _numbers(claim: _Claim, group: Group, compared: Compared) -> str:
    """A sentence with every comparison."""
    text = f"Test accuracy after {group.scale}: {'; '.join(map(str, compared.values()))}"
    if claim.race:
        races = "; ".join(str(race(c)) for c in compared.values())
        text += f"; epochs to a validation accuracy: {races}"
    return f"{text}."


def _compare(group: Group, pairs: Pairs) -> Compared:
    return {(a, b): c for a, b in pairs if (c := compare(group, a, b)) is not None}
