"""What runs answer to a study's questions, by the rules that the report states."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deepnets.config import params
from deepnets.config.sections import Pair, Question, RunEntry
from deepnets.records.results import TrainingRecord
from deepnets.reporting import questions
from project import ROOT

LABELS = np.arange(1000, dtype=np.uint8) % 10
PARAMS = params.load(ROOT / "params.yaml").run_params("resnet50-sgd-random", 0)


def seeds(name: str, *missed: int) -> list[TrainingRecord]:
    """A row that misses so many of the first images, seed by seed."""
    found = []
    for seed, count in enumerate(missed):
        guesses = LABELS.copy()
        guesses[:count] = (guesses[:count] + 1) % 10
        found.append(
            TrainingRecord(
                run=name,
                seed=seed,
                history=[],
                timing=[],
                outcome="completed",
                provenance={},
                labels=LABELS,
                predicted=guesses,
                row=PARAMS,
            )
        )
    return found


def ask(
    found: dict[str, list[TrainingRecord]],
    *pairs: tuple[str, str],
    seeds: tuple[int, ...] = (0, 1, 2),
    **own: Any,
) -> questions.Answer:
    ahead = [Pair(row=row, than=than) for row, than in pairs]
    question = Question(question="Is it so?", ahead=ahead, **own)
    return questions.answer(question, found, {}, seeds)


BASE = seeds("base", 200, 210, 190)


@pytest.mark.parametrize(
    ("missed", "word"),
    [
        ((100, 90, 95), "yes"),
        ((300, 310, 305), "no"),
        # Ahead with every seed, but not always by as much.
        ((199, 150, 100), "undecided"),
        # One seed behind.
        ((100, 220, 95), "undecided"),
        # Ahead with every seed and by as much, but by less than half a point.
        ((198, 208, 188), "no"),
        # By less than half a point on average, though perhaps by more: beyond chance, and too
        # little to matter.
        ((196, 205, 185), "undecided"),
        # By more than half a point, if only just.
        ((194, 204, 183), "yes"),
        # Behind by as little.
        ((204, 215, 195), "no"),
    ],
)
def test_pair_is_judged_by_the_rules(missed: tuple[int, ...], word: str) -> None:
    found = {"base": BASE, "row": seeds("row", *missed)}
    assert ask(found, ("row", "base")).word == word


@pytest.mark.parametrize("base", [(200, 210, 190), (150, 160, 170), (300, 310, 320)])
def test_half_a_point_is_enough_whatever_the_fractions_round_to(base: tuple[int, ...]) -> None:
    row = [missed - 5 for missed in base]
    found = {"base": seeds("base", *base), "row": seeds("row", *row)}
    assert ask(found, ("row", "base")).word == "yes"


def test_gain_that_the_test_images_do_not_show_is_undecided() -> None:
    """Ahead by 0.6 points with every seed, but each time on other images than the other row."""
    row = []
    for seed, of in enumerate(BASE):
        assert of.predicted is not None
        guesses = np.roll(of.predicted, 500)
        labels = np.roll(LABELS, 500)
        right = guesses == labels
        right[np.flatnonzero(~right)[:6]] = True
        guesses = np.where(right, LABELS, (LABELS + 1) % 10).astype(np.uint8)
        row.append(replace(of, run="row", seed=seed, predicted=guesses))
    said = ask({"base": BASE, "row": row}, ("row", "base"))
    assert "+0.60 points" in said.numbers
    assert said.word == "undecided"


def test_one_seed_decides_nothing() -> None:
    found = {"base": seeds("base", 200), "row": seeds("row", 100)}
    assert ask(found, ("row", "base"), seeds=(0,)).word == "undecided"


@pytest.mark.parametrize(
    ("base", "row", "word", "said"),
    [
        ((900, 870, 999), (900, 880, 860), "no", "neither has learned"),
        ((900, 900, 900), (100, 90, 95), "yes", "learned with 3 against 0 of 3 seeds"),
        ((100, 90, 95), (900, 900, 900), "no", "learned with 0 against 3 of 3 seeds"),
        ((900, 900, 900), (100, 900, 95), "undecided", "learned with 2 against 0 of 3 seeds"),
        ((900, 90, 95), (100, 90, 95), "undecided", "learned with 3 against 2 of 3 seeds"),
        # A seed above the floor, though below every seed of the other row.
        ((900, 750, 900), (100, 90, 95), "undecided", "learned with 3 against 1 of 3 seeds"),
        ((100, 90, 95), (900, 750, 900), "undecided", "learned with 1 against 3 of 3 seeds"),
        # One above the other, but at chance both.
        ((900, 900, 900), (850, 840, 860), "no", "neither has learned"),
    ],
)
def test_where_a_network_has_not_learned_seeds_are_counted(
    base: tuple[int, ...], row: tuple[int, ...], word: str, said: str
) -> None:
    answered = ask({"base": seeds("base", *base), "row": seeds("row", *row)}, ("row", "base"))
    assert answered.word == word
    assert f"; {said}; " in answered.numbers
    assert "interval" not in answered.numbers


def test_a_seed_that_did_not_end_as_it_should_is_shown() -> None:
    row = seeds("row", 100, 90, 95)
    row[1] = replace(row[1], outcome="collapsed")
    said = ask({"base": BASE, "row": row}, ("row", "base"))
    assert said.numbers.startswith("row (seed 1 collapsed) 0.9050")
    row = [replace(of, outcome="collapsed") for of in row]
    said = ask({"base": BASE, "row": row}, ("row", "base"))
    assert said.numbers.startswith("row (collapsed) 0.9050")


def test_answer_shows_its_numbers() -> None:
    found = {"base": BASE, "row": seeds("row", 100, 90, 95)}
    said = ask(found, ("row", "base"), known="it is known")
    assert said.numbers == (
        "row 0.9050 ± 0.0050 against base 0.8000 ± 0.0100 in test accuracy (+10.50 points, "
        "95 % interval +7.21 to +13.79; ahead with 3 of 3 seeds; p < 0.0001)."
    )
    assert said.mechanism == "It is known."
    assert said.pairs == [Pair(row="row", than="base")]


def test_pairs_answer_together() -> None:
    found = {
        "base": BASE,
        "good": seeds("good", 100, 90, 95),
        "bad": seeds("bad", 300, 310, 305),
        "mixed": seeds("mixed", 100, 220, 95),
    }
    said = ask(found, ("good", "base"), ("bad", "base"))
    assert said.word == "it depends"
    assert "; p < 0.0001): yes; bad 0.69" in said.numbers
    assert said.numbers.endswith("; p < 0.0001): no.")
    assert ask(found, ("bad", "base"), ("base", "good")).word == "no"
    assert ask(found, ("good", "base"), ("base", "bad")).word == "yes"
    assert ask(found, ("good", "base"), ("mixed", "base")).word == "undecided"
    assert ask(found, ("bad", "base"), ("mixed", "base")).word == "undecided"


def test_what_was_not_run_is_named() -> None:
    found = {"base": BASE, "good": seeds("good", 100, 90, 95), "begun": seeds("begun", 100, 90)}
    said = ask(found, ("row", "base"))
    assert (said.word, said.numbers) == (
        "not run",
        "To be tested with every seed: row beside base.",
    )
    said = ask(found, ("good", "base"), ("begun", "base"))
    assert said.word == "not run"
    assert said.numbers.startswith("good 0.9050")
    assert said.numbers.endswith(": yes. To be tested with every seed: begun beside base.")
    assert said.pairs == [Pair(row="good", than="base")]


def test_other_test_images_are_not_compared() -> None:
    other = [replace(of, labels=LABELS[::-1].copy()) for of in seeds("row", 100, 90, 95)]
    assert ask({"base": BASE, "row": other}, ("row", "base")).word == "not run"


def test_only_seeds_of_both_are_compared() -> None:
    compared = questions.compare(
        Pair(row="row", than="base"), {"base": BASE, "row": seeds("row", 100)}
    )
    assert compared is not None
    assert compared.seeds == [0]
    assert compared.differences == pytest.approx([0.1])
    assert "interval" not in questions.describe(compared)


def entry(**values: Any) -> RunEntry:
    shared = {"arch": "vgg16", "optimizer": "sgd", "weights": "random"}
    return RunEntry.model_validate(shared | values)


def test_a_row_was_made_of_the_one_before_that_is_most_alike() -> None:
    entries = {
        "zero": entry(),
        "other-network": entry(arch="resnet50"),
        "one": entry(weights="he"),
        "two": entry(weights="he", decay="cosine", warmup_epochs=0.5),
        "aside": entry(highway=True),
        "last": entry(weights="he", optimizer="adam"),
    }
    made_of = {name: questions.parent(name, entries) for name in entries}
    assert made_of == {
        "zero": None,
        "other-network": None,
        "one": "zero",
        "two": "one",
        "aside": "zero",
        "last": "one",
    }
    assert questions.changes(entries["two"], entries["one"]) == {
        "decay": "cosine",
        "warmup_epochs": 0.5,
    }
    assert questions.changes(entries["zero"], entries["aside"]) == {"highway": None}


def layers(*rows: tuple[str, float, float]) -> dict[str, Any]:
    return {
        "layers": [
            {"name": name, "kind": "Conv2D", "activation": out, "gradient": gradient, "weight": 1.0}
            for name, out, gradient in rows
        ],
        "batch_norms": [],
        "batch": {"accuracy": 0.1},
        "moving": {"accuracy": 0.1},
    }


def diagnosis(start: Any, then: Any, end: Any) -> dict[str, Any]:
    moments = {"start": start, "after 100 steps": then, "end": end}
    return {"images": 128, "moments": moments}


def test_cause_of_a_network_without_norms_is_what_flows_through_it() -> None:
    start = layers(("a", 0.2, 1e-3), ("b", 0.004, 1e-4), ("b_gate", 9, 9), ("logits", 0.5, 0.1))
    then = layers(("a", 0.2, 3e-5), ("b", 0.004, 1e-4), ("logits", 0.5, 0.1))
    of = diagnosis(start, then, then)
    assert questions.diagnosed({"row": of, "other": of}) == (
        "from the first convolution to the last, activations of row go from 0.2 to 0.004 at the "
        "start, and after 100 steps the first kernel's gradient is 3e-05; other from 0.2 to 0.004, "
        "then 3e-05"
    )


def test_cause_of_a_network_with_norms_is_what_its_averages_do() -> None:
    then = layers() | {
        "batch_norms": [{"name": "x", "mean_gap": 0.5, "deviation_ratio": 1.0}],
        "batch": {"accuracy": 0.93},
        "moving": {"accuracy": 0.1},
    }
    end = then | {"batch": {"accuracy": 0.98}, "moving": {"accuracy": 0.5}}
    of = diagnosis(then, then, end)
    assert questions.diagnosed({"row": of, "other": of}) == (
        "after 100 steps, row gets 0.93 of 128 validation images right with their own statistics "
        "and 0.10 with its moving averages, at the end 0.98 and 0.50; other 0.93 and 0.10, at the "
        "end 0.98 and 0.50"
    )


def test_what_goes_on_from_a_highway_layer_is_what_its_connection_puts_out() -> None:
    moment = layers(("a", 0.2, 1e-3), ("a_gate", 9, 9), ("logits", 0.5, 0.1))
    moment["layers"].append({"name": "a_highway", "kind": "Add", "activation": 0.7})
    shown = [(of["name"], of["activation"], of["gradient"]) for of in questions.path(moment)]
    assert shown == [("a", 0.7, 1e-3), ("logits", 0.5, 0.1)]
