"""What runs answer to a study's questions, by the rules that the report states."""

import math
from typing import Any

import numpy as np
import pytest

from deepnets.config import params
from deepnets.config.sections import Goal, Report, rows_of
from deepnets.records import significance
from deepnets.records.results import TrainingRecord
from deepnets.reporting import questions
from deepnets.reporting.questions import Sample
from project import ROOT

LABELS = np.arange(1000, dtype=np.uint8) % 10
PARAMS = params.load(ROOT / "params.yaml").run_params("resnet50-sgd-random", 0)
SEEDS = range(5)
MARGIN = 0.005

OURS = ["studies/open-questions", "studies/at-scale"]

Found = dict[str, list[TrainingRecord]]


def row(name: str, *missed: int, validation: float = 0.9, labels: Any = LABELS) -> Found:
    """A row that misses so many of the first images, seed by seed."""
    records = []
    for seed, count in enumerate(missed):
        guesses = labels.copy()
        guesses[:count] = (guesses[:count] + 1) % 10
        records.append(
            TrainingRecord(
                run=name,
                seed=seed,
                history=[{"epoch": 1, "val_accuracy": validation}],
                timing=[],
                outcome="completed",
                provenance={},
                test={"accuracy": float(np.mean(guesses == labels))},
                labels=labels,
                predicted=guesses,
                row=PARAMS,
            )
        )
    return {name: records}


def report(*questions_: list[Any], level: float = 0.05) -> Report:
    """Of questions, each a list of pairs (row, than) or (row, than, by)."""
    asked = [
        {
            "question": "Is it so?",
            "ahead": [dict(zip(("row", "than", "by"), pair, strict=False)) for pair in pairs],
        }
        for pairs in questions_
    ]
    content = {"title": "T", "level": level, "margin": MARGIN, "questions": asked}
    return Report.model_validate(content)


def ask(trained: Found, *pairs: Any, **own: Any) -> questions.Answer:
    (answered,) = questions.answer(report(list(pairs), **own), trained, SEEDS)
    return answered


BASE = row("base", 200, 210, 190, 205, 195)


@pytest.mark.parametrize(
    ("missed", "word"),
    [
        ((100, 90, 95, 92, 97), "yes"),
        ((300, 310, 305, 301, 302), "no"),
        # Ahead with every seed, by less than half a point on average: too little to matter.
        ((186, 187, 188, 188, 189), "yes"),
        ((189, 189, 189, 189, 189), "yes"),
        # Behind with some seeds: chance may do that.
        ((199, 150, 215, 201, 180), "undecided"),
        # The same as the other row.
        ((200, 210, 190, 205, 195), "undecided"),
        # Never by half a point.
        ((199, 199, 200, 199, 200), "undecided"),
    ],
)
def test_a_pair_is_judged_by_its_seeds(missed: tuple[int, ...], word: str) -> None:
    assert ask(BASE | row("row", *missed), ("row", "base")).word == word


def judged(row_s: Any, than: Any, by: Any = "accuracy", **own: Any) -> questions.Judgement:
    (judgement,) = questions.judge([Sample(row_s, than, by)], own.pop("level", 0.05), MARGIN, **own)
    return judgement


def test_yes_takes_the_margin_to_the_image() -> None:
    """Whatever the fractions of images round to."""
    for base in range(9000, 9990, 7):
        than = [base / 10_000] * 5
        enough, less = [(base + 50) / 10_000] * 5, [(base + 49) / 10_000] * 5
        assert judged(enough, than).word == "yes"
        # Ahead with every seed, and by less than the margin with every seed.
        assert judged(less, than).word == "no"


def test_a_gain_that_is_real_and_too_small_on_average_is_no_yes() -> None:
    than = [0.900, 0.9001, 0.9002, 0.9003, 0.9004]
    ahead = [0.902, 0.9021, 0.9022, 0.9023, 0.906]
    judgement = judged(ahead, than)
    assert judgement.p_yes <= judgement.limit < judgement.p_no
    assert np.mean(ahead) - np.mean(than) < MARGIN
    assert judgement.word == "undecided"


def test_a_row_that_spreads_more_takes_more_than_the_order_of_its_seeds() -> None:
    """The rank test by itself would take two bad seeds of ten for nothing."""
    wide = [0.85, 0.86, *[0.925] * 8]
    narrow = [0.905 + 0.0001 * step for step in range(-5, 5)]
    assert np.mean(wide) - np.mean(narrow) > MARGIN
    assert significance.rank_sum(wide, narrow) < 0.025
    assert significance.welch(wide, narrow) > 0.1
    assert judged(wide, narrow, level=0.025).word == "undecided"


def test_ties_are_ties_whatever_fractions_round_to() -> None:
    counts = [0, 10, 20, 30, 40]
    tied = significance.rank_sum(counts, counts)
    for base in range(8000, 9900, 7):
        row, than = ([(base + more + count) / 10_000 for count in counts] for more in (50, 0))
        # As many images more as the margin is, seed by seed.
        assert judged(row, than).p_no == pytest.approx(tied)


@pytest.mark.parametrize(
    ("row_learned", "than_learned", "word"),
    [(5, 0, "yes"), (0, 5, "no"), (5, 4, "undecided"), (5, 5, "undecided"), (0, 0, "undecided")],
)
def test_learning_is_judged_by_counts(row_learned: int, than_learned: int, word: str) -> None:
    sides = [[0.97] * learned + [0.1135] * (5 - learned) for learned in (row_learned, than_learned)]
    assert judged(*sides, "learning").word == word


def test_a_network_learns_above_what_one_digit_gets() -> None:
    assert judged([0.201] * 5, [0.2] * 5, "learning").word == "yes"


def test_rows_that_learn_equally_often_are_wrong_either_way_within_the_level() -> None:
    """Both of a pair's hypotheses are true then, and each has half of the level."""
    seeds = 10
    sides = [[0.97] * learned + [0.1135] * (seeds - learned) for learned in range(seeds + 1)]
    words = np.array([[judged(a, b, "learning").word for b in sides] for a in sides])
    for chance in (0.1, 0.3, 0.5):
        weight = [
            math.comb(seeds, k) * chance**k * (1 - chance) ** (seeds - k) for k in range(seeds + 1)
        ]
        assert np.outer(weight, weight)[words != "undecided"].sum() < 0.05


def test_the_level_is_divided_among_all_pairs_of_all_questions() -> None:
    """Five seeds against five, apart, come to p = 1/252: enough for six pairs, not for seven."""
    trained = BASE | row("row", 100, 90, 95, 92, 97)
    six = questions.answer(report(*[[("row", "base")]] * 6, level=0.025), trained, SEEDS)
    assert {answer.word for answer in six} == {"yes"}
    seven = questions.answer(report(*[[("row", "base")]] * 7, level=0.025), trained, SEEDS)
    assert {answer.word for answer in seven} == {"undecided"}


def test_a_pair_that_was_not_run_makes_the_others_no_easier() -> None:
    trained = BASE | row("row", 100, 90, 95, 92, 97)
    asked = report([("row", "base")], *[[("absent", "base")]] * 6, level=0.025)
    first, *others = questions.answer(asked, trained, SEEDS)
    assert first.word == "undecided"
    assert {answer.word for answer in others} == {"not run"}


@pytest.mark.parametrize("study", OURS)
def test_every_pair_of_our_studies_is_decided_if_all_its_seeds_are_apart(study: str) -> None:
    content = params.load(ROOT / study / params.FILE)
    pairs = [pair for question in content.report.questions for pair in question.ahead]
    seeds = len(content.train.seeds)
    samples = [Sample([0.98] * seeds, [0.1135] * seeds, pair.by) for pair in pairs]
    for place, sample in enumerate(samples):
        # Even if nothing else of the list is decided.
        others = [Sample([0.5, 0.9] * seeds, [0.5, 0.9] * seeds)] * (len(samples) - 1)
        judgements = questions.judge(
            [*others[:place], sample, *others[place:]],
            content.report.level,
            content.report.margin,
        )
        assert judgements[place].word == "yes"
    used = {name for pair in pairs for side in (pair.row, pair.than) for name in rows_of(side)}
    used |= set(content.report.goal.rows if content.report.goal else ())
    assert used == set(content.runs)


def test_our_studies_share_one_level_and_use_new_seeds() -> None:
    studies = [params.load(ROOT / study / params.FILE) for study in OURS]
    assert sum(content.report.level for content in studies) == 0.05
    full = params.load(ROOT / "studies/full/params.yaml").train.seeds
    for content in studies:
        assert not set(content.train.seeds) & {0, 1, 2, *full}


def test_validation_chooses_the_row_that_stands_for_several() -> None:
    trained = (
        BASE
        | row("lucky", 50, 51, 52, 53, 54, validation=0.8)
        | row("chosen", 100, 90, 95, 92, 97, validation=0.95)
    )
    answered = ask(trained, (["lucky", "chosen"], "base"))
    (pair,) = answered.compared
    assert pair.row.runs.name == "chosen"
    chosen = "chosen was chosen by validation accuracy (lucky 0.8000, chosen 0.9500)"
    assert answered.numbers[0].endswith(f"; {chosen}.")
    del trained["lucky"]
    assert ask(trained, (["lucky", "chosen"], "base")).word == "not run"


def test_answer_shows_its_numbers() -> None:
    answered = ask(BASE | row("row", 100, 90, 95, 92, 97), ("row", "base"))
    assert answered.numbers == [
        "row 0.9052 ± 0.0040 against base 0.8000 ± 0.0079 in test accuracy, +10.52 points (95 % "
        "interval +9.55 to +11.49), p = 0.0040."
    ]
    stuck = row("row", 900, 90, 95, 92, 97)
    assert (
        ", learned with 4 and 5 of 5 seeds, p = " in ask(BASE | stuck, ("row", "base")).numbers[0]
    )


def test_answer_about_learning_counts_seeds() -> None:
    trained = BASE | row("row", 900, 900, 900, 900, 900)
    answered = ask(trained, ("base", "row", "learning"))
    # Two in ten right is no more than one digit may get.
    trained |= row("two", *[800] * 5)
    assert "row learned with 0 of 5" in ask(trained, ("base", "row", "learning")).numbers[0]
    assert "two learned with 0 of 5" in ask(trained, ("base", "two", "learning")).numbers[0]
    assert answered.numbers == [
        "base learned with 5 of 5 seeds (0.48 to 1.00) and row learned with 0 of 5 seeds (0.00 to "
        "0.52), p = 0.0079."
    ]


def test_pairs_answer_together() -> None:
    trained = (
        BASE
        | row("good", 100, 90, 95, 92, 97)
        | row("bad", 300, 310, 305, 301, 302)
        | row("mixed", 199, 150, 215, 201, 180)
    )
    answered = ask(trained, ("good", "base"), ("bad", "base"))
    assert answered.word == "it depends"
    assert [text.split(" 0.")[0] for text in answered.numbers] == ["yes: good", "no: bad"]
    assert ask(trained, ("bad", "base"), ("base", "good")).word == "no"
    assert ask(trained, ("good", "base"), ("base", "bad")).word == "yes"
    assert ask(trained, ("good", "base"), ("mixed", "base")).word == "undecided"
    assert ask(trained, ("bad", "base"), ("mixed", "base")).word == "undecided"


def test_what_was_not_run_is_named() -> None:
    trained = BASE | row("good", 100, 90, 95, 92, 97) | row("begun", 100, 90)
    answered = ask(trained, ("row", "base"))
    assert (answered.word, answered.numbers) == (
        "not run",
        ["To be tested with every seed: row beside base."],
    )
    answered = ask(trained, ("good", "base"), ("begun", "base"))
    assert answered.word == "not run"
    assert answered.numbers[0].startswith("yes: good 0.9052")
    assert answered.numbers[1:] == ["To be tested with every seed: begun beside base."]
    assert [pair.row for pair in answered.missing] == ["begun"]


def test_other_test_images_are_not_compared() -> None:
    other = row("row", 100, 90, 95, 92, 97, labels=LABELS[::-1].copy())
    assert ask(BASE | other, ("row", "base")).word == "not run"


GOAL = Goal(question="Is it above?", rows=["one", "two"], above=0.9)


@pytest.mark.parametrize(
    ("missed", "word"),
    [
        ((90, 91, 92, 93, 94), "yes"),
        ((106, 107, 108, 109, 110), "no"),
        ((90, 91, 92, 93, 140), "undecided"),
    ],
)
def test_a_goal_is_reached_by_the_row_that_validation_chooses(
    missed: tuple[int, ...], word: str
) -> None:
    trained = row("one", *missed, validation=0.95) | row("two", 1, 1, 1, 1, 2, validation=0.94)
    answered = questions.answer_goal(GOAL, trained, SEEDS)
    assert answered.word == word
    assert answered.numbers.startswith(f"one {1 - np.mean(missed) / 1000:.4f} ± ")
    assert f"({1 - missed[0] / 1000:.4f}, " in answered.numbers


def test_a_goal_takes_what_has_every_seed_and_names_the_rest() -> None:
    trained = row("one", 90, 91, validation=0.99) | row("two", 90, 91, 92, 93, 94)
    answered = questions.answer_goal(GOAL, trained, SEEDS)
    assert answered.chosen is not None
    assert answered.chosen.runs.name == "two"
    assert answered.numbers.endswith(" To be tested with every seed: one.")
    assert answered.word == "yes"
    # What is missing may be better.
    low = row("two", 106, 107, 108, 109, 110)
    assert questions.answer_goal(GOAL, low, SEEDS).word == "undecided"
    assert questions.answer_goal(GOAL, low | row("one", *[120] * 5), SEEDS).word == "no"
    assert questions.answer_goal(GOAL, {}, SEEDS).word == "not run"


def test_the_rules_name_the_numbers_that_they_are_applied_with() -> None:
    told = " ".join(questions.rules(report([("a", "b")], level=0.025), 30))
    for said in ("0.025/30", "0.5 percentage points", "above 0.2", "rank-sum test"):
        assert said in told
    assert "lower 95 % bound" not in told
    with_goal = report([("a", "b")]).model_copy(update={"goal": GOAL})
    assert "lower 95 % bound" in " ".join(questions.rules(with_goal, 1))
