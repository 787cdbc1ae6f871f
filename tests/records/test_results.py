"""What several seeds write into one file, read back seed by seed."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepnets.base import csv_files, files, project
from deepnets.base.errors import UserError
from deepnets.config import params
from deepnets.records import predictions, results
from deepnets.training import checkpoints
from project import ROOT

STUDY = params.load(ROOT / "params.yaml")
RUNS = [STUDY.run_params("vgg16-sgd-random", seed) for seed in (4, 2)]


def rows(seed: int, epochs: int) -> checkpoints.Rows:
    history = [
        {
            "epoch": epoch,
            "loss": 1 / epoch,
            "accuracy": 0.1 * seed,
            "val_loss": 2 / epoch,
            "val_accuracy": 0.2 * seed,
            "learning_rate": 0.01,
        }
        for epoch in range(1, epochs + 1)
    ]
    timing = [
        {
            "epoch": epoch,
            "seconds": 10.0 * seed,
            "validation_seconds": 1.0,
            "images_per_second": 5.0,
            "finished_ms": 1700000000000,
        }
        for epoch in range(1, epochs + 1)
    ]
    return checkpoints.Rows(history, timing)


def test_one_seed_is_written_as_it_is() -> None:
    numbers = {"accuracy": 0.75, "epochs": 3}
    assert results.combine_seeds({5: numbers}) == numbers
    assert results.numbers_of_seed(numbers, 5) == numbers


def test_several_seeds_are_written_as_means_with_their_own_below() -> None:
    seeds = {4: {"accuracy": 0.5, "diverged": 0}, 2: {"diverged": 1}, 7: {"accuracy": 1.0}}
    together = results.combine_seeds(seeds)
    assert together["accuracy"] == 0.75
    assert together["diverged"] == 0.5
    assert {seed: results.numbers_of_seed(together, seed) for seed in seeds} == seeds
    assert results.numbers_of_seed(together, 1) is None
    earlier = {**together, "seeds": {str(seed): numbers for seed, numbers in seeds.items()}}
    assert results.numbers_by_seed(earlier) == seeds


@pytest.mark.parametrize(
    ("collapsed", "diverged", "expected"),
    [(0, 0, "completed"), (1, 0, "collapsed"), (0, 1, "diverged"), (1, 1, "diverged")],
)
def test_outcome(collapsed: int, diverged: int, expected: str) -> None:
    assert results.outcome({"collapsed": collapsed, "diverged": diverged}) == expected


@pytest.fixture
def paths(tmp_path: Path) -> project.RunFiles:
    """A run of which seed 4 ended as it should and seed 2 diverged in its first epoch."""
    paths = replace(project.grid_run("r", "vgg16-random"), metrics_dir=tmp_path)
    results.write_rows(tmp_path, {4: rows(4, 3), 2: checkpoints.Rows([], [])})
    ends = {"collapsed": 0, "diverged": 0}
    numbers = {4: {"epochs": 3, **ends}, 2: {"epochs": 0, **ends, "diverged": 1}}
    files.write_json(paths.train, results.combine_seeds(numbers))
    files.write_json(paths.provenance, {"4": {"start": "a"}, "2": {"start": "b"}})
    return paths


def test_seeds_are_read_back_apart(paths: project.RunFiles) -> None:
    four, two = results.load(paths, RUNS)
    assert (four.seed, two.seed) == (4, 2)
    assert four.history == rows(4, 3).history
    assert four.timing == rows(4, 3).timing
    assert (two.history, two.timing) == ([], [])
    assert (four.outcome, two.outcome) == ("completed", "diverged")
    assert (four.provenance, two.provenance) == ({"start": "a"}, {"start": "b"})
    assert four.test is four.labels is four.probabilities is None


def test_predictions_go_to_the_seed_that_made_them(paths: project.RunFiles) -> None:
    files.write_json(
        paths.test, results.combine_seeds({4: {"accuracy": 0.5}, 2: {"accuracy": 0.0}})
    )
    predicted = [
        {"seed": seed, "actual": label, "predicted": guess}
        for seed, guesses in ((4, (1, 0)), (2, (0, 0)))
        for label, guess in zip((1, 7), guesses, strict=True)
    ]
    csv_files.write_csv(paths.predictions, predicted, ["seed", "actual", "predicted"])
    stacked = np.random.default_rng(0).dirichlet(np.ones(10), (2, 2)).astype(np.float32)
    files.write_array(paths.probabilities, stacked)
    # Whatever order the seeds are asked for in.
    two, four = results.load(paths, RUNS[::-1])
    assert four.test == {"accuracy": 0.5}
    assert two.test == {"accuracy": 0.0}
    for result, expected in ((four, stacked[0]), (two, stacked[1])):
        assert result.labels is not None
        assert result.labels.tolist() == [1, 7]
        np.testing.assert_array_equal(result.probabilities, expected)


def test_predictions_are_a_string_of_digits_a_seed_and_labels_are_there_once(
    paths: project.RunFiles,
) -> None:
    digits = np.array([1, 0, 7], np.uint8)
    trained = results.read(paths)
    tested = [replace(trained[0], labels=digits, predicted=digits)]
    tested += [replace(trained[1], labels=digits, predicted=digits[::-1])]
    predictions.write(paths.predictions, {r.seed: (r.labels, r.predicted) for r in tested})
    text = gzip.decompress(paths.predictions.read_bytes()).decode()
    assert text == "seed,actual,predicted\n4,107,107\n2,,701\n"
    for result, expected in zip(results.read(paths), tested, strict=True):
        assert result.labels is not None
        assert result.predicted is not None
        assert result.predicted.dtype == np.uint8
        assert result.labels.tolist() == [1, 0, 7]
        np.testing.assert_array_equal(result.predicted, expected.predicted)


def test_seeds_that_were_tested_on_other_images_keep_their_labels(paths: project.RunFiles) -> None:
    trained = results.read(paths)
    labels = [np.array(digits, np.uint8) for digits in ([1, 0], [0, 1, 7])]
    seeds = [result.seed for result in trained]
    predictions.write(paths.predictions, {s: (d, d) for s, d in zip(seeds, labels, strict=True)})
    for result, expected in zip(results.read(paths), labels, strict=True):
        np.testing.assert_array_equal(result.labels, expected)


def test_the_same_predictions_are_the_same_bytes(
    paths: project.RunFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"seed": 4, "actual": "107", "predicted": "107"}]
    csv_files.write_csv(paths.predictions, rows, list(rows[0]))
    before = paths.predictions.read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    csv_files.write_csv(paths.predictions, rows, list(rows[0]))
    assert paths.predictions.read_bytes() == before


def test_predictions_of_earlier_versions_were_not_compressed(paths: project.RunFiles) -> None:
    paths.plain_predictions.write_text("seed,actual,predicted\n4,107,107\n2,,701\n")
    assert [result.predicted.tolist() for result in results.read(paths)] == [[1, 0, 7], [7, 0, 1]]


def test_a_torn_file_of_predictions_is_damaged(paths: project.RunFiles) -> None:
    paths.plain_predictions.write_text("seed,actual,predicted\n4,107,107\n2,,70")
    with pytest.raises(UserError, match=r"3 labels, 2 predictions[)]: `git checkout HEAD -- "):
        results.read(paths)
    rows = [{"seed": 4, "actual": "107", "predicted": "107"}]
    csv_files.write_csv(paths.predictions, rows, list(rows[0]))
    paths.predictions.write_bytes(paths.predictions.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"predictions\.csv\.gz is damaged"):
        results.read(paths)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "seed,actual\n4,107\n",
        "seed,actual,predicted\n4,107\n",
        "seed,actual,predicted\nfour,107,107\n",
        "seed,actual,predicted\n4,107,1x7\n",
        "seed,actual,predicted\n<<<<<<< HEAD\n4,107,107\n=======\n",
    ],
)
def test_predictions_that_are_none_are_refused_by_name(
    paths: project.RunFiles, content: str
) -> None:
    paths.plain_predictions.write_text(content)
    with pytest.raises(UserError, match=r"predictions\.csv is damaged [(].*expected "):
        results.read(paths)


def test_seed_that_was_not_trained_is_left_out(paths: project.RunFiles) -> None:
    asked = [*RUNS, STUDY.run_params("vgg16-sgd-random", 9)]
    assert [result.seed for result in results.load(paths, asked)] == [4, 2]


def test_run_without_files_has_no_results(tmp_path: Path) -> None:
    paths = replace(project.grid_run("r", "vgg16-random"), metrics_dir=tmp_path)
    assert results.load(paths, RUNS) == []
