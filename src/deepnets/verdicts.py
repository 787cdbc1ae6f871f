"""Whether finished runs bear out what the study claimed, by rules that are fixed beforehand.

`RULES` states them for readers of the report. Three consequences are easy to miss:

- Claims 1 and 2 say opposite things about the same rows of ResNet50 (the study means the second
  as an exception to the first): at most one of them can be supported.
- One counterexample is enough to contradict, and among several comparisons chance finds one more
  easily; so its level is divided by their number (Bonferroni). Support needs no correction, since
  there every comparison has to count.
- "Undecided" is not "no difference": it is what the rules say when they can say nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from deepnets.comparisons import THRESHOLDS, Comparison, Group, Row, Scale, compare, groups, race
from deepnets.params import Arch, OptimizerName, Weights
from deepnets.results import Result

STUDY_SCALE = Scale(epochs=15, images=50_000)
STUDY_WEIGHTS: tuple[Weights, ...] = ("random", "imagenet")
_ARCHS: tuple[Arch, ...] = ("vgg16", "resnet50")
_OPTIMIZERS: tuple[OptimizerName, ...] = ("adam", "sgd")

LEVEL = 0.05

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


@dataclass(frozen=True)
class Verdict:
    """A claim of the study in one sentence, what the runs say about it, and their numbers."""

    claim: str
    verdict: Literal["supported", "contradicted", "undecided", "not run"]
    evidence: str


def judge(results: Mapping[str, Sequence[Result]]) -> list[Verdict]:
    """The study's five claims in its order, judged by `RULES`.

    Args:
        results: by the name of the row, in the order of the grid, a result for each seed that
            was run; those without predictions are left out.
    """
    found = sorted(groups(results), key=_weight, reverse=True)
    highway = Verdict(
        "Highway connections would help VGG-16 (named as future work).",
        "not run",
        "No row of this grid has highway connections.",
    )
    return [*(_judge(claim, found) for claim in _CLAIMS), highway]


Pairs = list[tuple[Row, Row]]


def _sgd_over_adam(_: Group, weights: Collection[Weights]) -> Pairs:
    return [(Row(a, "sgd", w), Row(a, "adam", w)) for a in _ARCHS for w in weights]


def _adam_over_sgd_in_resnet50(_: Group, weights: Collection[Weights]) -> Pairs:
    return [(Row("resnet50", "adam", w), Row("resnet50", "sgd", w)) for w in weights]


def _random_over_imagenet_in_resnet50(_: Group, __: Collection[Weights]) -> Pairs:
    return [(Row("resnet50", o, "random"), Row("resnet50", o, "imagenet")) for o in _OPTIMIZERS]


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

    def missing(self, group: Group) -> list[Row]:
        """What the study based the claim on and `group` lacks."""
        based_on = [Row(a, o, w) for a in self.archs for o in _OPTIMIZERS for w in STUDY_WEIGHTS]
        return [row for row in based_on if row not in group.rows]


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


def _judge(claim: _Claim, found: Sequence[Group]) -> Verdict:
    """The verdict on `claim` from the weightiest of the groups that can say anything."""
    for group in found:
        pairs = claim.pairs(group, STUDY_WEIGHTS)
        comparisons = _compare(group, pairs)
        if comparisons and group.scale == STUDY_SCALE:
            return _decide(claim, group, comparisons, len(pairs))
        every = tuple(dict.fromkeys(row.weights for row in group.rows))
        comparisons = _compare(group, claim.pairs(group, every))
        if comparisons:
            limit = f"Only {STUDY_SCALE} from the study's weights decide"
            return _undecided(claim, group, comparisons, limit)
    return Verdict(
        claim.text,
        "not run",
        "No two finished runs that differ in this share epochs, images and a seed.",
    )


def _decide(claim: _Claim, group: Group, comparisons: list[Comparison], needed: int) -> Verdict:
    """The verdict at the study's scale, on those of the `needed` comparisons that could be made."""
    missing = claim.missing(group)
    complete = not missing and len(comparisons) == needed
    against = [c for c in comparisons if c.counts(-1, LEVEL / needed)]
    if against and (claim.general or complete):
        names = ", ".join(f"{c.b.name} over {c.a.name}" for c in against)
        return Verdict(
            claim.text,
            "contradicted",
            f"{_numbers(claim, group, comparisons)} Against it: {names}.",
        )
    counted = all(c.counts(1, LEVEL) for c in comparisons)
    if complete and counted and (not claim.race or all(race(c).b_wins for c in comparisons)):
        return Verdict(claim.text, "supported", _numbers(claim, group, comparisons))
    if missing:
        reason = f"Not run at this scale: {', '.join(map(str, missing))}"
    elif not complete:
        reason = "Some rows share no seed"
    elif counted:
        reason = "Adam is not faster everywhere"
    else:
        reason = "Not every difference counts"
    return _undecided(claim, group, comparisons, reason)


def _undecided(claim: _Claim, group: Group, comparisons: list[Comparison], reason: str) -> Verdict:
    ahead = {sign for c in comparisons for sign in (1, -1) if c.counts(sign, LEVEL)}
    points = "both ways" if ahead else "neither way"
    if len(ahead) == 1:
        points = "to the claim" if ahead.pop() > 0 else "against it"
    return Verdict(
        claim.text,
        "undecided",
        f"{_numbers(claim, group, comparisons)} {reason}; "
        f"the differences that count point {points}.",
    )


def _numbers(claim: _Claim, group: Group, comparisons: list[Comparison]) -> str:
    """A sentence with every comparison."""
    text = f"Test accuracy after {group.scale}: {'; '.join(map(str, comparisons))}"
    if claim.race:
        races = "; ".join(str(race(c)) for c in comparisons)
        text += f"; epochs to a validation accuracy: {races}"
    return f"{text}."


def _compare(group: Group, pairs: Pairs) -> list[Comparison]:
    return [c for a, b in pairs if (c := compare(group, a, b)) is not None]
