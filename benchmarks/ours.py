"""This project's training: `training.loop.fit` with checkpoints, and MLflow following.

    python benchmarks/ours.py ARCH OPTIMIZER

BENCHMARK_DETERMINISTIC=0 in the environment lets TensorFlow's operations sum in any order.

Besides the seconds of the steps it answers where an epoch's time goes outside its compiled steps.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any

from common import answers, digits, recipe
from deepnets.networks import runtime

runtime.start_framework()

import keras  # noqa: E402

from deepnets.base import files, project  # noqa: E402
from deepnets.data import splits  # noqa: E402
from deepnets.networks import models, views  # noqa: E402
from deepnets.records import results  # noqa: E402
from deepnets.tracking import live  # noqa: E402
from deepnets.tracking.trainings import TrackedTraining  # noqa: E402
from deepnets.training import checkpoints, loop  # noqa: E402
from deepnets.training.checkpoints import Rows  # noqa: E402

if os.environ.get("BENCHMARK_DETERMINISTIC") == "0":
    from tensorflow.python.framework.config import disable_op_determinism

    disable_op_determinism()

_TOUR = Path(__file__).parent.parent / "studies" / "tour"

# Enough for the batches of validation to be whole ones.
_VALIDATION = 2 * views.PREDICTION_BATCH


class _Clock:
    """Counts the seconds inside a compiled function of Keras.

    Args:
        name: train_function or predict_function.
    """

    def __init__(self, name: str) -> None:
        self._seconds = 0.0
        self._name = name
        make = getattr(keras.Model, f"make_{name}")

        def make_timed(model: keras.Model, *arguments: Any, **options: Any) -> None:
            if getattr(model, name) is None:
                make(model, *arguments, **options)
                setattr(model, name, self._count_seconds(getattr(model, name)))

        setattr(keras.Model, f"make_{name}", make_timed)

    def _count_seconds(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*inputs: Any) -> Any:
            started = time.perf_counter()
            outputs = function(*inputs)
            self._seconds += time.perf_counter() - started
            return outputs

        return call

    def take(self) -> float:
        """The seconds since the last call of this."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class _Kept:
    """Counts the seconds in which `fit` keeps an epoch's weights: once an epoch, not a step."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._keep = loop._weights
        loop._weights = self._count_seconds

    def _count_seconds(self, classifier: keras.Model) -> list[Any]:
        started = time.perf_counter()
        weights = self._keep(classifier)
        self.seconds = time.perf_counter() - started
        return weights


def main(arch: str, optimizer: str) -> None:
    """Train `arch` with `optimizer`, an epoch a line of standard input, all of one length."""
    send = answers()
    training_clock, prediction_clock = _Clock("train_function"), _Clock("predict_function")
    kept = _Kept()
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd() / 'mlflow.db'}")
    run = recipe(arch, optimizer).model_copy(update={"epochs": sys.maxsize})
    images, labels = digits(5000)
    keras.utils.set_random_seed(run.seed)
    classifier = models.build(run.arch, images.shape[1], run.dropout, run.batch_norm_momentum)
    paths = project.single_run(f"{arch}-{optimizer}")
    # What MLflow is told: it takes the record of the tour for that of any other training.
    record = files.read_json(_TOUR / "metrics" / f"{arch}-{optimizer}-he" / paths.provenance.name)
    folder = paths.checkpoints_of(run.seed, record[str(run.seed)]["fingerprint"])
    files.write_json(folder / paths.provenance.name, record)

    def save(rows: Rows, variables: list[Any]) -> None:
        started = time.perf_counter()
        checkpoints.save(folder, variables, rows.history, rows.timing)
        results.write_rows(folder, {run.seed: rows})
        send(
            {
                "seconds": rows.timing[-1]["seconds"] - kept.seconds,
                "in_steps": training_clock.take(),
                "validation": rows.timing[-1]["validation_seconds"],
                "in_predictions": prediction_clock.take(),
                "saving": kept.seconds + time.perf_counter() - started,
            }
        )
        if not sys.stdin.readline():
            raise EOFError

    count = int(sys.stdin.readline()) * run.batch_size
    training = splits.Split(images[:count], labels[:count])
    validation = splits.Split(images[-_VALIDATION:], labels[-_VALIDATION:])
    with (
        suppress(EOFError),
        live.following(TrackedTraining(paths, "benchmark", run.seed, 1, folder)),
    ):
        loop.fit(classifier, run, training, validation, folder, save)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="deepnets-benchmark-") as empty, chdir(empty):
        main(*sys.argv[1:])
