"""The results that the study published, as it printed them.

Source: A. Hasan, "Deeper Networks For Image Classification", 2020, its two result tables. Train
is the last epoch, with dropout and augmentation on; test is MNIST's 10,000 test images.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from deepnets.config import registry
from deepnets.config.fields import Arch, OptimizerName, Variant, Weights
from deepnets.config.sections import RunParams
from deepnets.records.results import TrainingRecord

# The rows that its tables have; the ninth, longer experiment is the one with nesterov.
EPOCHS, LONG_EPOCHS = 15, 50
# 60,000 less the 10,000 that it validates on.
TRAIN_IMAGES = 50_000
# What it trained, validated and tested on, by the digests that a record has (`Split.digest`):
# MNIST in 32x32x3, of whose 60,000 training images the last 10,000 validate.
_DATA = {
    "train": "de8fb88b341775843f020d59e3ae80ed61b54f0fb0756234832f1adb1d5cb479",
    "validation": "5c8dbfd1154761d12f30a4ad16379fe777e49a46ea2d36223d8dbd6edf371166",
}
TEST_DATA = "8b496a0ebb9dc4b0780042d0cbf9dddbb0c6879e0b83d1532127e5a92359d29a"
# The starting weights that it used, in words.
WEIGHTS: dict[Weights, str] = {"random": "random weights", "imagenet": "ImageNet weights"}
# Keras' default, which it did not change.
BATCH_NORM_MOMENTUM = 0.99

# What they are called; the study's as it writes them.
_NETWORKS = {name: entry.title for name, entry in registry.architectures().items()}
OPTIMIZERS = {name: entry.title for name, entry in registry.optimizers().items()}


class Published(NamedTuple):
    """A row of the study's tables; None where it gives no number."""

    epochs: int
    accuracy: float
    loss: float
    test_accuracy: float | None
    test_loss: float | None


# What tells the rows of its tables apart.
Key = tuple[Arch, OptimizerName, Weights]

_RESULTS: dict[Key, Published] = {
    ("vgg16", "adam", "random"): Published(EPOCHS, 0.9872, 0.0399, 0.9924, 0.0243),
    ("vgg16", "sgd", "random"): Published(EPOCHS, 0.9884, 0.0371, 0.9914, 0.0258),
    ("vgg16", "adam", "imagenet"): Published(EPOCHS, 0.9857, 0.0658, 0.9807, 0.1523),
    ("vgg16", "sgd", "imagenet"): Published(EPOCHS, 0.9977, 0.0076, 0.9969, 0.0116),
    ("resnet50", "adam", "random"): Published(EPOCHS, 0.9669, 0.1272, 0.9840, 0.0501),
    ("resnet50", "sgd", "random"): Published(EPOCHS, 0.9335, 0.3346, 0.9711, 0.0945),
    ("resnet50", "adam", "imagenet"): Published(EPOCHS, 0.9688, 0.1466, 0.9608, 0.6885),
    ("resnet50", "sgd", "imagenet"): Published(EPOCHS, 0.9247, 0.3370, 0.9692, 0.1058),
}
# Of the numbers that it printed.
_LAST_DECIMAL = 0.0001
_LONG = Published(LONG_EPOCHS, 0.9739, 0.0835, None, None)


def find_row(run: RunParams) -> Published | None:
    """The study's row that `run` is meant to be, at whatever scale it is run; None for no such."""
    if _is_otherwise(run):
        return None
    if run.arch == "resnet50" and run.optimizer == "sgd" and run.flat["nesterov"]:
        return _LONG
    return _RESULTS.get((run.arch, run.optimizer, run.weights))


def is_tested_on_its_images(result: TrainingRecord) -> bool:
    """Whether a training was tested on the images that the study tested on."""
    return bool(result.provenance.get("test_data") == TEST_DATA)


def is_on_its_data(result: TrainingRecord) -> bool:
    """Whether a training saw the study's images, split as there, or fewer of them."""
    record: Mapping[str, Any] = result.provenance
    if not is_tested_on_its_images(result):
        return False
    return bool(record["images"]["train"] < TRAIN_IMAGES or record["data"] == _DATA)


def rows_on_its_data(
    trained: Mapping[str, Sequence[TrainingRecord]],
) -> dict[str, Sequence[TrainingRecord]]:
    """Of the rows that have been `trained`, those on the study's data with every seed."""
    return {name: seeds for name, seeds in trained.items() if all(map(is_on_its_data, seeds))}


def rows_beside(
    runs: Mapping[str, Sequence[RunParams]], trained: Mapping[str, Sequence[TrainingRecord]]
) -> dict[str, Published]:
    """By the names of ours the study's rows to show beside them: of rows on its data alone.

    What a row is called does not matter. One that was not trained yet goes with the others.
    """
    own = rows_on_its_data(trained)
    waiting = runs.keys() - trained.keys() if len(own) == len(trained) else set()
    meant = {name: find_row(runs[name][0]) for name in runs if name in own or name in waiting}
    return {name: study for name, study in meant.items() if study is not None}


def row(key: Key) -> Published:
    """The row of its tables with this architecture, optimizer and initial weights."""
    return _RESULTS[key]


def network(arch: str) -> str:
    """The title of an architecture, the study's as it writes them."""
    return _NETWORKS[arch]


def describe(key: Key) -> str:
    """`key` for people to read."""
    arch, optimizer, weights = key
    return f"{network(arch)}, {OPTIMIZERS[optimizer]}, {WEIGHTS[weights]}"


def find_key(arch: Arch, accuracy: float, loss: float) -> Key | None:
    """The row of `arch` whose training ends with these two, as the study printed them.

    To less than one unit of the fourth decimal: not all that it printed is what it stored, rounded.
    """
    for key, printed in _RESULTS.items():
        off = max(abs(printed.accuracy - accuracy), abs(printed.loss - loss))
        if key[0] == arch and off < _LAST_DECIMAL:
            return key
    return None


def _is_otherwise(run: RunParams) -> bool:
    """Whether `run` has a network or a training that the study had not."""
    return (
        any(getattr(run, key) != field.default for key, field in Variant.model_fields.items())
        or run.zero_gamma
        or run.label_smoothing > 0
        or run.decay == "cosine"
        or run.batch_norm_momentum != BATCH_NORM_MOMENTUM
    )
