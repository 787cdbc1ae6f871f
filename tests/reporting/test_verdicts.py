"""Verdicts on small grids whose p-values can be computed by hand.

A run's predictions are right but for the images it is told to miss. If one run misses n images
that the other gets right, and no others differ, the exact McNemar p-value is 2 / 2**n.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets.config import params
from deepnets.config.fields import Weights
from deepnets.records.results import Outcome, TrainingRecord
from deepnets.reporting import published
from deepnets.reporting.comparisons import Race, RowKey, Runs, compare, groups, race
from deepnets.reporting.verdicts import STUDY_WEIGHTS, judge
from project import ROOT

STUDY = params.load(ROOT / "params.yaml")
LABELS = np.arange(1000, dtype=np.uint8) % 10

SLOW = (0.5, 0.8, 0.96, 0.98)
FAST = (0.9, 0.975, 0.98, 0.98)

# How many images, counted from the first, each row misses: the four claims' pairs all differ by
# enough. SGD beats Adam, random beats ImageNet, VGG-16 beats ResNet50.
MISSES = {
    "vgg16-adam-random": 40,
    "vgg16-sgd-random": 20,
    "vgg16-adam-imagenet": 60,
    "vgg16-sgd-imagenet": 30,
    "resnet50-adam-random": 150,
    "resnet50-sgd-random": 100,
    "resnet50-adam-imagenet": 180,
    "resnet50-sgd-imagenet": 130,
}

Results = dict[str, Sequence[TrainingRecord]]


def result(
    run: str,
    missed: Collection[int],
    *,
    seed: int = 0,
    images: int = 50_000,
    validation: Sequence[float] | None = None,
    outcome: Outcome = "completed",
    labels: np.ndarray = LABELS,
    **changes: object,
) -> TrainingRecord:
    """An evaluated run of the study's row `run`, with `changes` to its parameters."""
    resolved = STUDY.run_params(run, 0).model_copy(update={"seed": seed, **changes})
    guesses = labels.copy()
    guesses[list(missed)] = (guesses[list(missed)] + 1) % 10
    curve = validation or (FAST if resolved.optimizer == "adam" else SLOW)
    return TrainingRecord(
        run=run,
        seed=seed,
        row=resolved,
        history=[{"epoch": i, "val_accuracy": value} for i, value in enumerate(curve, start=1)],
        timing=[],
        outcome=outcome,
        provenance={"images": {"train": images}},
        test={},
        labels=labels,
        predicted=guesses,
    )


def grid(*, rows: Collection[str] = tuple(MISSES), **changes: object) -> Results:
    """Every row, with one seed, as in MISSES."""
    return {name: [result(name, range(MISSES[name]), **changes)] for name in rows}


def verdicts(results: Results) -> list[str]:
    return [verdict.verdict for verdict in judge(results)]


def claim(number: int, results: Results) -> tuple[str, str]:
    """Verdict and evidence of the claim with that number, from 1."""
    judged = judge(results)[number - 1]
    return judged.verdict, judged.evidence


def test_a_grid_that_is_clear() -> None:
    expected = ["supported", "contradicted", "supported", "supported", "not run"]
    assert verdicts(grid()) == expected
    assert len({verdict.claim for verdict in judge(grid())}) == 5


def test_evidence_names_runs_and_numbers() -> None:
    assert claim(2, grid())[1] == (
        "Test accuracy after 15 epochs on 50,000 images: "
        "resnet50-adam-random 0.8500, resnet50-sgd-random 0.9000 (seed 0; p < 0.0001); "
        "resnet50-adam-imagenet 0.8200, resnet50-sgd-imagenet 0.8700 (seed 0; p < 0.0001). "
        "Against it: resnet50-sgd-random over resnet50-adam-random, "
        "resnet50-sgd-imagenet over resnet50-adam-imagenet."
    )
    speed = "resnet50-sgd-imagenet 4 and resnet50-adam-imagenet 2 for 0.97."
    assert claim(1, grid())[1].endswith(speed)


def test_the_opposite_grid() -> None:
    """Adam beats SGD, ImageNet beats random, ResNet50 beats VGG-16."""
    opposite = {name: [result(name, range(200 - missed))] for name, missed in MISSES.items()}
    expected = ["contradicted", "supported", "contradicted", "contradicted", "not run"]
    assert verdicts(opposite) == expected


@pytest.mark.parametrize(
    ("missed_by_sgd", "expected", "reason"),
    [
        (40 - 6, "supported", ""),  # p = 0.0313
        (40 - 5, "undecided", "Not every difference counts; "),  # p = 0.0625
        (40, "undecided", "Not every difference counts; "),
        (40 + 7, "undecided", "Not every difference counts; "),  # 0.0156: more than 0.05 / 4
        (40 + 8, "contradicted", "Against it: vgg16-adam-random over vgg16-sgd-random."),
    ],
)
def test_one_pair_decides_a_claim_about_all(missed_by_sgd: int, expected: str, reason: str) -> None:
    results = grid() | {"vgg16-sgd-random": [result("vgg16-sgd-random", range(missed_by_sgd))]}
    verdict, evidence = claim(1, results)
    assert verdict == expected
    assert reason in evidence


@pytest.mark.parametrize(
    ("adam", "sgd", "expected"),
    [
        ((0.5, 0.97), (0.5, 0.9, 0.97), "supported"),
        ((0.5, 0.97), (0.5, 0.97), "undecided"),
        ((0.5, 0.5, 0.97), (0.5, 0.97), "undecided"),
        ((0.5, 0.97), (0.1, 0.1), "supported"),
        ((0.1, 0.1), (0.5, 0.97), "undecided"),
        ((0.1, 0.1), (0.1, 0.1), "undecided"),
    ],
)
def test_support_for_sgd_needs_adam_to_be_faster(
    adam: Sequence[float], sgd: Sequence[float], expected: str
) -> None:
    results = grid()
    for name, curve in (("vgg16-adam-random", adam), ("vgg16-sgd-random", sgd)):
        results[name] = [result(name, range(MISSES[name]), validation=curve)]
    verdict, evidence = claim(1, results)
    assert verdict == expected
    assert ("Adam is not faster everywhere" in evidence) == (expected == "undecided")


def raced(a: list[Sequence[float]], b: list[Sequence[float]]) -> Race:
    """The race of two rows, a validation curve a seed each."""
    results = {
        name: [result(name, [], seed=s, validation=curve) for s, curve in enumerate(curves)]
        for name, curves in (("vgg16-sgd-random", a), ("vgg16-adam-random", b))
    }
    comparison = compare(
        groups(results)[0], RowKey("vgg16", "sgd", "random"), RowKey("vgg16", "adam", "random")
    )
    assert comparison is not None
    return race(comparison)


@pytest.mark.parametrize(
    ("a", "b", "threshold", "epochs_a", "epochs_b"),
    [
        ([(0.96, 0.97)], [(0.98,)], 0.97, [2], [1]),
        ([(0.9, 0.96)], [(0.98,)], 0.95, [2], [1]),
        ([(0.1, 0.8)], [(0.85, 0.98)], 0.8, [2], [1]),
        ([(0.1, 0.2)], [(0.1, 0.98)], 0.8, [None], [2]),
        ([(0.9, 0.98), (0.9, 0.92)], [(0.98,), (0.7, 0.98)], 0.9, [1, 1], [1, 2]),
    ],
)
def test_the_race_is_to_the_highest_threshold_that_all_seeds_reach(
    a: list[Sequence[float]],
    b: list[Sequence[float]],
    threshold: float,
    epochs_a: list[int | None],
    epochs_b: list[int | None],
) -> None:
    assert raced(a, b)[2:] == (threshold, epochs_a, epochs_b)


def test_a_race_is_won_with_every_seed() -> None:
    slow, fast = (0.1, 0.1, 0.98), (0.1, 0.98)
    assert raced([slow, slow], [fast, fast]).b_wins
    assert not raced([slow, slow], [fast, slow]).b_wins
    assert str(Race(Runs("first"), Runs("second"), 0.8, [3, None], [1, 2])) == (
        "first 3, never and second 1, 2 for 0.8"
    )


@pytest.mark.parametrize(
    "results",
    [
        {},
        {name: [] for name in MISSES},
        {n: [replace(r[0], labels=None)] for n, r in grid().items()},
    ],
    ids=["no rows", "no seeds", "not evaluated"],
)
def test_nothing_run(results: Results) -> None:
    assert verdicts(results) == ["not run"] * 5


RANDOM = [name for name in MISSES if name.endswith("random")]


NO_VGG16_IMAGENET = "vgg16 adam imagenet, vgg16 sgd imagenet"
NO_RESNET50_IMAGENET = "resnet50 adam imagenet, resnet50 sgd imagenet"
NO_IMAGENET = f"{NO_VGG16_IMAGENET}, {NO_RESNET50_IMAGENET}"


def scoped(results: Results) -> list[str]:
    """Verdicts as in the report; those without a scope are a word alone."""
    return [f"{verdict.verdict} {verdict.scope}".rstrip() for verdict in judge(results)]


def test_full_scale_runs_from_random_weights_are_decided_for_these() -> None:
    """Three seeds, but for one row with one; a collapse; and rows by another recipe after them."""
    labels = np.arange(10_000, dtype=np.uint8) % 10
    full: dict[str, tuple[Sequence[int], Sequence[float], Outcome]] = {
        "vgg16-adam-random": ((8865, 8865, 8865), (0.1, 0.1), "collapsed"),
        "vgg16-sgd-random": ((54, 48, 53), (0.98, 0.994), "completed"),
        "resnet50-adam-random": ((200,), (0.96, 0.98), "completed"),
        "resnet50-sgd-random": ((669, 443, 239), (0.5, 0.955), "completed"),
    }
    results: Results = {
        name: [
            result(
                name, range(missed), seed=s, labels=labels, validation=validation, outcome=outcome
            )
            for s, missed in enumerate(misses)
        ]
        for name, (misses, validation, outcome) in full.items()
    }
    others = {
        f"{name}-code": [result(name, range(5), labels=labels, learning_rate=0.001)]
        for name in ("resnet50-sgd-random", "vgg16-adam-random")
    }
    judged = judge(results | others)
    assert scoped(results | others) == [
        "contradicted from random weights",
        "supported from random weights",
        "not run",
        "supported from random weights",
        "not run",
    ]
    numbers = "Test accuracy after 15 epochs on 50,000 images: "
    resnet50 = "resnet50-adam-random 0.9800, resnet50-sgd-random 0.9331 (seed 0; p < 0.0001)"
    assert [verdict.evidence for verdict in judged[:4]] == [
        f"{numbers}vgg16-sgd-random 0.9948, vgg16-adam-random (collapsed) 0.1135 (seeds 0, 1, 2; "
        "p < 0.0001); resnet50-sgd-random 0.9331, resnet50-adam-random 0.9800 (seed 0; p < 0.0001)"
        "; epochs to a validation accuracy: vgg16-sgd-random 1, 1, 1 and vgg16-adam-random never, "
        "never, never for 0.8; resnet50-sgd-random 2 and resnet50-adam-random 1 for 0.95. Against "
        "it: resnet50-adam-random over resnet50-sgd-random. "
        f"Not run at the study's scale: {NO_IMAGENET}.",
        f"{numbers}{resnet50}. Not run at the study's scale: {NO_RESNET50_IMAGENET}.",
        "No two finished runs that differ in this share epochs, images and a seed. "
        f"Not run at the study's scale: {NO_RESNET50_IMAGENET}.",
        f"{numbers}vgg16-sgd-random 0.9946, resnet50-adam-random 0.9800 (seed 0; p < 0.0001). "
        f"Not run at the study's scale: {NO_IMAGENET}.",
    ]
    for verdict in judged[:4]:
        assert verdict.evidence.endswith(f": {', '.join(map(str, verdict.missing))}.")
    assert judged[4].missing == []


@pytest.mark.parametrize("weights", STUDY_WEIGHTS)
def test_rows_from_one_kind_of_weights_are_decided_for_it(weights: str) -> None:
    scope = f"from {published.WEIGHTS[weights]}"
    rows = [name for name in MISSES if name.endswith(weights)]
    assert scoped(grid(rows=rows)) == [
        f"supported {scope}",
        f"contradicted {scope}",
        "not run",
        f"supported {scope}",
        "not run",
    ]


def test_a_whole_grid_has_no_scope_and_misses_nothing() -> None:
    assert all(verdict.scope == "" and verdict.missing == [] for verdict in judge(grid()))


def test_one_network_alone_decides_nothing_and_the_other_is_named() -> None:
    rows = ["vgg16-adam-random", "vgg16-sgd-random"]
    judged = judge(grid(rows=rows))
    assert scoped(grid(rows=rows)) == ["undecided", *["not run"] * 4]
    resnet50 = (
        "resnet50 adam random, resnet50 adam imagenet, resnet50 sgd random, resnet50 sgd imagenet"
    )
    assert judged[0].evidence.endswith(
        "Not all of its rows were run; the differences that count point to the claim. "
        f"Not run at the study's scale: {NO_VGG16_IMAGENET}, {resnet50}."
    )
    for verdict in judged[1:3]:
        assert verdict.evidence.endswith(f"seed. Not run at the study's scale: {resnet50}.")


def test_one_missing_row_leaves_its_weights_undecided() -> None:
    """Nor do the others decide for them: each of the weights has all its rows, or no say."""
    rows = [name for name in MISSES if name != "resnet50-adam-random"]
    assert scoped(grid(rows=rows))[:4] == [
        "supported from ImageNet weights",
        "contradicted from ImageNet weights",
        "undecided",
        "supported from ImageNet weights",
    ]
    rows.remove("resnet50-sgd-imagenet")
    assert scoped(grid(rows=rows))[:4] == ["undecided", "not run", "not run", "undecided"]
    assert claim(4, grid(rows=rows))[1].endswith(
        "Not all of its rows were run; the differences that count point to the claim. "
        "Not run at the study's scale: resnet50 adam random, resnet50 sgd imagenet."
    )


def test_a_claim_about_both_weights_is_decided_for_neither_alone() -> None:
    results = grid(rows=[*RANDOM, "resnet50-adam-imagenet"])
    assert scoped(results)[2] == "undecided"
    assert claim(3, results)[1].endswith(
        "Not all of its rows were run; the differences that count point to the claim. "
        "Not run at the study's scale: resnet50 sgd imagenet."
    )
    worse = {"resnet50-adam-random": [result("resnet50-adam-random", range(300))]}
    assert scoped(results | worse)[2] == "contradicted"


def test_a_counterexample_from_other_weights_contradicts() -> None:
    """VGG-16's rows from ImageNet weights, though ResNet50's are missing, and random ones agree."""
    rows = [*RANDOM, "vgg16-adam-imagenet", "vgg16-sgd-imagenet"]
    results = grid(rows=rows)
    assert scoped(results)[0] == "supported from random weights"
    results["vgg16-sgd-imagenet"] = [result("vgg16-sgd-imagenet", range(60 + 7))]
    assert scoped(results)[0] == "supported from random weights"
    assert "vgg16-sgd-imagenet 0.9330, vgg16-adam-imagenet 0.9400" in claim(1, results)[1]
    results["vgg16-sgd-imagenet"] = [result("vgg16-sgd-imagenet", range(60 + 8))]
    assert scoped(results)[0] == "contradicted from ImageNet weights"
    results["vgg16-sgd-random"] = [result("vgg16-sgd-random", range(40 + 8))]
    assert scoped(results)[0] == "contradicted"


def test_a_scope_can_be_undecided_and_says_why() -> None:
    def undecided(name: str, **changes: object) -> str:
        results = grid(rows=RANDOM)
        results[name] = [result(name, range(MISSES[name]), **changes)]
        assert scoped(results)[0] == "undecided from random weights"
        return claim(1, results)[1]

    assert "Adam is not faster everywhere; " in undecided("vgg16-adam-random", validation=(0.1,))
    assert "Some rows share no seed; " in undecided("vgg16-adam-random", seed=1)
    results = grid(rows=RANDOM) | {"vgg16-sgd-random": [result("vgg16-sgd-random", range(40))]}
    assert scoped(results)[0] == "undecided from random weights"
    assert claim(1, results)[1].endswith(
        "Not every difference counts; the differences that count point to the claim. "
        f"Not run at the study's scale: {NO_IMAGENET}."
    )


def test_the_best_row_from_some_weights_is_known_once_all_of_these_were_run() -> None:
    results = grid(rows=RANDOM)
    results["resnet50-adam-random"] = [result("resnet50-adam-random", [], validation=(0.99,))]
    # The best VGG-16 of all that there are is from other weights.
    results["vgg16-sgd-imagenet"] = [result("vgg16-sgd-imagenet", [], validation=(0.999,))]
    assert scoped(results)[3] == "contradicted from random weights"
    evidence = claim(4, results)[1]
    assert "vgg16-adam-random 0.9600, resnet50-adam-random 1.0000 (seed 0; p < 0.0001)" in evidence
    del results["resnet50-sgd-random"]
    assert scoped(results)[3] == "undecided"


@settings(max_examples=60, deadline=None)
@given(
    weights=st.sampled_from(STUDY_WEIGHTS),
    misses=st.lists(st.integers(90, 110), min_size=4, max_size=4),
    slower=st.integers(0, 3),
    number=st.sampled_from([1, 2, 4]),
)
def test_a_scope_says_what_the_whole_grid_would_say_of_its_rows(
    weights: Weights, misses: list[int], slower: int, number: int
) -> None:
    """Rows that bear the claim out, put where they are missing, do not change the verdict."""
    names = [name for name in MISSES if name.endswith(weights)]
    part = {name: [result(name, range(missed))] for name, missed in zip(names, misses, strict=True)}
    slow = (0.1, 0.6, 0.81)
    part[names[slower]] = [result(names[slower], range(misses[slower]), validation=slow)]
    rest: Results = {}
    for name in MISSES.keys() - part.keys():
        better = ("adam" in name) == (number == 2)
        # Adam is the faster one, and none of them is the best in the end.
        curve = (0.8, 0.0) if "adam" in name else (0.0, 0.0)
        rest[name] = [result(name, range(0 if better else 500), validation=curve)]
    scope = judge(part)[number - 1]
    whole = judge(rest | part)[number - 1]
    assert (bool(scope.scope), bool(whole.scope)) == (True, False)
    assert scope.verdict == whole.verdict


def compared(evidence: str) -> set[str]:
    """The comparisons that it names, with their numbers."""
    return set(re.findall(r"\S+ [01]\.\d{4}, \S+ [01]\.\d{4} \(seed 0; p [^)]+\)", evidence))


def against(evidence: str) -> set[str]:
    """The pairs that it says are against the claim."""
    named = re.search(r"Against it: ([^.]+)\.", evidence)
    return set(named[1].split(", ")) if named else set()


@pytest.mark.parametrize(
    "misses",
    [
        tuple(MISSES.values()),
        tuple(200 - missed for missed in MISSES.values()),
        # Per pair: 8 to 5 images apart, on either side of a level or of a level that is divided.
        (40, 33, 60, 68, 150, 143, 180, 188),
        (40, 48, 60, 53, 150, 158, 180, 175),
        (40, 47, 60, 66, 150, 157, 180, 186),
    ],
)
def test_missing_rows_change_no_comparison(misses: tuple[int, ...]) -> None:
    """Of all grids that lack some rows: the pairs, their numbers, and which are against."""
    whole = {n: [result(n, range(missed))] for n, missed in zip(MISSES, misses, strict=True)}
    everything = [verdict.evidence for verdict in judge(whole)[:3]]
    for count in range(len(whole)):
        for rows in combinations(whole, count):
            absent = whole.keys() - rows
            for complete, verdict in zip(
                everything, judge({n: whole[n] for n in rows}), strict=False
            ):
                for said in (compared, against):
                    kept = {text for text in said(complete) if not absent & set(text.split())}
                    assert said(verdict.evidence) == kept


def test_the_best_row_is_chosen_by_its_last_validation_accuracy() -> None:
    """The VGG-16 that is worst on the test images is the best on the validation images."""
    results = grid(validation=(0.999, 0.9))
    for name, missed in (("vgg16-adam-imagenet", 300), ("resnet50-sgd-imagenet", 130)):
        results[name] = [result(name, range(missed), validation=(0.5, 0.95))]
    verdict, evidence = claim(4, results)
    assert verdict == "contradicted"
    assert evidence == (
        "Test accuracy after 15 epochs on 50,000 images: vgg16-adam-imagenet 0.7000, "
        "resnet50-sgd-imagenet 0.8700 (seed 0; p < 0.0001). "
        "Against it: resnet50-sgd-imagenet over vgg16-adam-imagenet."
    )


def with_seeds(
    adam: dict[int, Collection[int]], sgd: dict[int, Collection[int]], **changes: object
) -> Results:
    """ResNet50's rows; both pairs of them miss these images with these seeds."""
    return {
        name: [
            result(name, missed, seed=seed, **changes)
            for seed, missed in (adam if "adam" in name else sgd).items()
        ]
        for name in MISSES
        if name.startswith("resnet50")
    }


@pytest.mark.parametrize(
    ("sgd", "expected", "in_evidence"),
    [
        # By itself each seed has p = 0.25.
        ([range(3), range(3, 6), range(6, 9)], "supported", "0.9970 (seeds 0, 1, 2; p = 0.0039)"),
        # Missed by all seeds: five images, not fifteen.
        ([range(5)] * 3, "undecided", "0.9950 (seeds 0, 1, 2; p = 0.0625)"),
        ([range(30), range(30, 60), []], "undecided", "0.9800 (seeds 0, 1, 2; p < 0.0001)"),
    ],
    ids=["different images", "the same images", "one seed with no difference"],
)
def test_three_seeds(sgd: list[Collection[int]], expected: str, in_evidence: str) -> None:
    results = with_seeds(dict.fromkeys(range(3), ()), dict(enumerate(sgd)))
    verdict, evidence = claim(2, results)
    assert verdict == expected
    assert in_evidence in evidence


def test_seeds_that_disagree_with_the_test_do_not_count() -> None:
    """Adam misses one image less with each seed, but more images with any seed."""
    always = range(10)
    once = [range(start, start + 9) for start in (10, 19, 28)]
    results = with_seeds(dict(enumerate(once)), dict.fromkeys(range(3), always))
    verdict, evidence = claim(2, results)
    assert verdict == "undecided"
    # Two-sided for 10 of 37.
    assert "resnet50-adam-random 0.9910, resnet50-sgd-random 0.9900" in evidence
    assert "p = 0.0076" in evidence


def test_only_seeds_that_both_have_are_compared() -> None:
    few, many = range(10), range(50)
    results = with_seeds({2: few, 1: few, 0: many}, {1: many, 2: many, 3: few})
    verdict, evidence = claim(2, results)
    assert verdict == "supported"
    assert "resnet50-adam-random 0.9900, resnet50-sgd-random 0.9500 (seeds 1, 2; p" in evidence
    assert claim(2, with_seeds({0: few}, {1: many}))[0] == "not run"
    half = with_seeds({0: few}, {0: many})
    half["resnet50-sgd-random"] = [result("resnet50-sgd-random", many, seed=1)]
    assert claim(2, half)[0] == "undecided"
    assert "Some rows share no seed; " in claim(2, half)[1]


@pytest.mark.parametrize(
    "scale",
    [{"images": 2_800, "epochs": 2}, {"images": 2_800}, {"images": 60_000}, {"epochs": 14}],
    ids=str,
)
def test_another_scale_decides_nothing(scale: dict[str, int]) -> None:
    results = grid(**scale)
    assert verdicts(results) == ["undecided"] * 4 + ["not run"]
    epochs, images = scale.get("epochs", 15), scale.get("images", 50_000)
    for number, points in ((1, "to the claim"), (2, "against it")):
        evidence = claim(number, results)[1]
        assert evidence.startswith(f"Test accuracy after {epochs} epochs on {images:,} images: ")
        assert evidence.endswith(f"decide; the differences that count point {points}.")


def test_pairs_that_differ_both_ways_point_both_ways() -> None:
    results = grid(images=2_800)
    results["resnet50-adam-random"] = [result("resnet50-adam-random", [], images=2_800)]
    assert claim(2, results)[1].endswith("point both ways.")


def test_rows_of_different_scales_are_never_compared() -> None:
    adam = [name for name in MISSES if "adam" in name]
    sgd = [name for name in MISSES if "sgd" in name]
    assert verdicts(grid(rows=adam) | grid(rows=sgd, images=2_800))[:2] == ["not run"] * 2


def test_the_studys_scale_speaks_before_any_other() -> None:
    small = {
        f"small-{name}": [replace(r[0], run=f"small-{name}")]
        for name, r in grid(images=60_000, epochs=20).items()
    }
    assert judge(small | grid()) == judge(grid())
    part = {name: grid()[name] for name in ("resnet50-adam-random", "resnet50-sgd-random")}
    assert "after 20 epochs on 60,000 images" in claim(3, small | part)[1]
    assert "after 20 epochs on 60,000 images" in claim(1, grid(images=2_800) | small)[1]


def test_the_fifty_epoch_row_never_stands_for_the_fifteen_epoch_one() -> None:
    long = {"resnet50-sgd-random-long": [result("resnet50-sgd-random-long", [])]}
    assert judge(long | grid()) == judge(grid())
    rest = grid(rows=["resnet50-adam-random"])
    assert claim(2, rest | long)[0] == "not run"


def test_the_first_of_several_rows_of_one_kind_counts() -> None:
    other = replace(result("vgg16-sgd-random", range(500), learning_rate=0.001), run="other")
    assert judge(grid() | {"other": [other]}) == judge(grid())
    verdict, evidence = claim(1, {"other": [other]} | grid())
    assert verdict == "contradicted"
    assert "other 0.5000, vgg16-adam-random 0.9600" in evidence


def test_other_weights_decide_nothing() -> None:
    he = {
        f"{name}-he": [replace(r[0], row=r[0].params.model_copy(update={"weights": "he"}))]
        for name, r in grid(rows=RANDOM).items()
    }
    assert verdicts(he)[:4] == ["undecided", "undecided", "not run", "undecided"]
    assert "from the study's weights decide; " in claim(1, he)[1]
    assert judge(he | grid()) == judge(grid())


def test_other_test_images_are_never_compared() -> None:
    sgd = [name for name in MISSES if "sgd" in name]
    results = grid() | grid(rows=sgd, labels=np.roll(LABELS, 1))
    assert verdicts(results)[:2] == ["not run"] * 2


def test_a_collapsed_run_counts_and_is_called_that() -> None:
    stuck = result("vgg16-adam-random", range(890), outcome="collapsed", validation=(0.1, 0.1))
    verdict, evidence = claim(1, grid() | {"vgg16-adam-random": [stuck]})
    assert verdict == "undecided"
    assert "vgg16-adam-random (collapsed) 0.1100 (seed 0; p < 0.0001)" in evidence
    assert "vgg16-sgd-random 2 and vgg16-adam-random never for 0.8" in evidence
    fine = result("vgg16-adam-random", range(40), seed=1)
    wild = result("vgg16-adam-random", range(500), seed=2, outcome="diverged")
    evidence = claim(1, grid() | {"vgg16-adam-random": [stuck, fine, wild]})[1]
    assert "vgg16-adam-random (seed 0 collapsed, seed 2 diverged) 0.1100 (seed 0; " in evidence


def test_a_run_that_diverged_at_once_is_never_the_best() -> None:
    results = grid()
    lost = replace(result("vgg16-sgd-imagenet", range(30)), history=[], outcome="diverged")
    results["vgg16-sgd-imagenet"] = [lost]
    assert "vgg16-sgd-imagenet" not in claim(4, results)[1]
