"""The study's stored trainings beside made-up ones of ours, which are theirs moved by a little."""

from collections.abc import Sequence

import pytest

from deepnets.config.params import FILE, load
from deepnets.records.results import Outcome, TrainingRecord
from deepnets.reporting import histories, published_histories
from deepnets.reporting.histories import Conjecture
from project import ROOT

STUDY = load(ROOT / FILE)
STORED = {history.file: history for history in published_histories.load()}
ADAM, SGD = "vgg16-adam-random", "vgg16-sgd-random"


def training(
    name: str,
    rows: Sequence[dict[str, float]],
    seed: int = 0,
    outcome: Outcome = "completed",
    images: int = 50_000,
) -> TrainingRecord:
    """A training of the row `name` of the study's grid."""
    return TrainingRecord(
        run=name,
        seed=seed,
        history=[*rows],
        timing=[],
        outcome=outcome,
        provenance={"images": {"train": images}},
        row=STUDY.run_params(name, seed),
    )


def moved(file: str, accuracy: float, val_accuracy: float) -> list[dict[str, float]]:
    """The rows of a stored history with so much more accuracy, as fractions."""
    return [
        row
        | {
            "accuracy": row["accuracy"] + accuracy,
            "val_accuracy": row["val_accuracy"] + val_accuracy,
        }
        for row in STORED[file].rows
    ]


def stuck(name: str, count: int) -> list[TrainingRecord]:
    row = {"loss": 2.3, "accuracy": 0.1136, "val_loss": 2.3, "val_accuracy": 0.1064}
    rows = [{"epoch": epoch, **row} for epoch in range(1, 16)]
    return [training(name, rows, seed, "collapsed") for seed in range(count)]


# 1 and 3 points more, 1 and 1 less: 2 and 1 points away, 1.5 on average; 2 and 4 from each other.
OF_SGD = [
    training(SGD, moved("hist.p", 0.01, 0.03), 0),
    training(SGD, moved("hist.p", -0.01, -0.01), 1),
]
WEIGHTED = "hist_res_sgd_weighted.p"
OF_RESNET50 = [training("resnet50-sgd-random", moved(WEIGHTED, 0.02, 0.01))]


def test_rows_are_ordered_by_their_seeds_mean_distance() -> None:
    rows = {
        ADAM: stuck(ADAM, 1),
        SGD: OF_SGD,
        "resnet50-sgd-random": [training("resnet50-sgd-random", moved("hist.p", 0, 0))],
    }
    (first, distance), (second, its) = histories.nearest_rows(STORED["hist.p"], rows)
    assert (first, second) == (SGD, ADAM)
    assert distance == pytest.approx(0.015)
    assert 0.7 < its < 0.8


def test_scale_is_the_mean_over_pairs_of_seeds() -> None:
    third = training(SGD, moved("hist.p", 0, 0), 2)
    assert histories.seed_distance(OF_SGD) == pytest.approx(0.03)
    assert histories.seed_distance([*OF_SGD, third]) == pytest.approx((0.03 + 0.02 + 0.01) / 3)
    assert histories.seed_distance([third]) is None


def test_only_whole_trainings_of_the_studys_scale_are_compared() -> None:
    rows = STORED["hist.p"].rows
    whole = training(SGD, rows)
    trained = {
        SGD: [whole, training(SGD, rows, images=10_000), training(SGD, rows[:14], 1, "diverged")],
        ADAM: stuck(ADAM, 1),
        "resnet50-sgd-random-long": [training("resnet50-sgd-random-long", rows)],
    }
    assert histories.comparable_rows(trained) == {SGD: [whole], ADAM: trained[ADAM]}
    assert [history.file for history in histories.histories_beside({SGD: [whole]})] == [
        "hist.p",
        "hist_vgg_sgd.p",
    ]
    assert histories.histories_beside({}) == histories.sections({}) == []


def cells(text: str, file: str) -> list[str]:
    """A row of the table, without the name of the file."""
    row = next(line for line in text.splitlines() if line.startswith(f"| `{file}`"))
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def test_table_names_the_nearest_rows_and_the_scale() -> None:
    (table, _) = histories.sections({ADAM: stuck(ADAM, 2), SGD: OF_SGD})
    text = "\n".join(table)
    *named, far, scale = cells(text, "hist.p")
    assert named == ["VGG-16", "VGG-16, Adam, random weights", SGD, "1.50", ADAM]
    assert 70 < float(far) < 80
    assert scale == "3.00"


def test_a_single_seed_takes_its_scale_from_rows_that_learned() -> None:
    code = [training(SGD, moved("hist.p", 0.001, 0.001))]
    rows = {ADAM: stuck(ADAM, 2), SGD: OF_SGD, "code": code}
    text = "\n".join(histories.sections(rows)[0])
    assert cells(text, "hist.p")[2:6] == ["code", "0.10", SGD, "1.50"]
    assert cells(text, "hist.p")[6] == f"one seed ({SGD} 3.00)"
    alone = "\n".join(histories.sections({"code": code, ADAM: stuck(ADAM, 2)})[0])
    assert cells(alone, "hist.p")[6] == "one seed"


def made(**rows: list[TrainingRecord]) -> list[Conjecture]:
    named = {name.replace("_", "-"): trainings for name, trainings in rows.items() if trainings}
    return histories.conjectures(named)


def test_conjecture_that_the_row_of_adam_is_one_of_sgd() -> None:
    adam = stuck(ADAM, 3)
    (conjecture,) = made(vgg16_sgd_random=OF_SGD, vgg16_adam_random=adam)
    assert "`hist.p`" in conjecture.heading
    assert "VGG-16, Adam, random weights (0.9872, 0.0399)" in conjecture.text
    for words in (
        "0.1131, 0.1296, 0.6517, 0.9225, 0.9563",
        f"1.50 ({SGD}, 2 seeds); two seeds of {SGD} are 3.00 apart, as much or more",
        "Adam at rate 0.001",
        "3 of our 3 trainings collapsed",
        "after any epoch was 0.1136",
    ):
        assert words in conjecture.evidence
    assert f"as {SGD} does (1.50 points)" in conjecture.refuted_by
    # 1.96**2 / (3 + 1.96**2)
    assert "up to 56 %" in conjecture.refuted_by


@pytest.mark.parametrize(
    ("sgd", "adam"),
    [
        (OF_SGD, []),
        ([], stuck(ADAM, 3)),
        # One that rose, however far from the study's.
        (OF_SGD, [*stuck(ADAM, 2), training(ADAM, moved("hist.p", -0.1, -0.1), 2)]),
    ],
)
def test_conjecture_of_sgd_needs_rows_that_speak_for_it(
    sgd: list[TrainingRecord], adam: list[TrainingRecord]
) -> None:
    assert made(vgg16_sgd_random=sgd, vgg16_adam_random=adam) == []


def test_conjecture_that_a_history_named_for_imagenet_weights_is_of_random_ones() -> None:
    (conjecture,) = made(resnet50_sgd_random=OF_RESNET50)
    assert f"`{WEIGHTED}`" in conjecture.heading
    assert "ResNet50, SGD, random weights (0.9335, 0.3346)" in conjecture.text
    for words in (
        "(0.9247, 0.3370)",
        "0.2602 accurate in training and 0.2274 in validation",
        "0.2802 in training and 0.2374 in validation (resnet50-sgd-random)",
        "1.50 (resnet50-sgd-random, one seed).",
        "None of ours from ImageNet weights",
    ):
        assert words in conjecture.evidence
    pretrained = [training("resnet50-sgd-imagenet", moved(WEIGHTED, 0.3, 0.3))]
    (conjecture,) = made(resnet50_sgd_random=OF_RESNET50, resnet50_sgd_imagenet=pretrained)
    assert "From ImageNet weights ours are 0.5602 in training" in conjecture.evidence


def test_conjecture_of_random_weights_needs_them_to_be_nearest() -> None:
    pretrained = [training("resnet50-sgd-imagenet", moved(WEIGHTED, 0, 0.01))]
    assert made(resnet50_sgd_random=OF_RESNET50, resnet50_sgd_imagenet=pretrained) == []
    assert made(resnet50_sgd_imagenet=pretrained) == []


def test_conjectures_are_called_so() -> None:
    text = "\n\n".join(
        part
        for section in histories.sections({ADAM: stuck(ADAM, 3), SGD: OF_SGD})
        for part in section
    )
    assert text.count("### Conjecture") == 1
    assert text.index("**Conjecture.**") < text.index("**Evidence.**")
    assert text.index("**Evidence.**") < text.index("**What would refute it.**")
    assert "do not prove it" in text


def test_a_row_that_is_otherwise_is_no_evidence() -> None:
    rows = STORED["hist.p"].rows
    plain = training(SGD, rows)
    normalised = plain.params.model_copy(update={"batch_norm": True})
    other = TrainingRecord(**{**vars(plain), "row": normalised})
    assert histories.conjectures({"bn": [other], ADAM: stuck(ADAM, 3)}) == []
