"""Train one run: from starting weights and processed data to a model and its history.

The training resumes from the last finished epoch that has the same fingerprint. Everything
random in an epoch is drawn from (seed, epoch), so a resumed run is the run that was never
interrupted.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deepnets import (
    checkpoints,
    data,
    files,
    live,
    models,
    optimizers,
    params,
    progress,
    project,
    runtime,
    scores,
)
from deepnets import provenance as origin
from deepnets.errors import UserError
from deepnets.params import RunParams

Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows of the epochs finished so far; `history` holds results, `timing` the clock."""

    history: list[Row]
    timing: list[Row]


def main(name: str) -> None:
    """Train the grid's run `name`, in the folder of its study."""
    study = params.load()
    run = study.run_params(name)
    train_run(run, project.grid_run(name, run.start), study.publish.experiment, f"train@{name}")


def train_run(
    run: RunParams,
    paths: project.RunFiles,
    experiment: str,
    stage: str,
    mlflow_run_id: str | None = None,
) -> None:
    """Train `run` and write model, history, timing and provenance; MLflow follows the files."""
    splits = {name: data.load(name) for name in ("train", "validation", "test")}
    training = splits["train"].first(run.train_images)
    params.check_images(run, len(training.images), paths.name)
    seen = splits | {"train": training}
    size = training.images.shape[1]

    classifier = models.build(run.arch, size, run.dropout, run.batch_norm_momentum)
    files.require_room(paths.checkpoints, 12 * classifier.count_params(), "checkpoints")
    files.require_room(paths.model_dir, 6 * classifier.count_params(), "models")
    files.require_room(paths.metrics_dir, 2**20, "metrics")
    models.load_start(classifier, paths.start)

    digests = {name: split.digest for name, split in seen.items()}
    fitted = {name: digests[name] for name in ("train", "validation")}
    shaped = origin.shape(run, fitted, models.weights_digest(classifier))
    fingerprint = origin.fingerprint(shaped)
    folder = paths.checkpoints / fingerprint[:16]
    provenance = {
        "run": paths.name,
        "stage": stage,
        "fingerprint": fingerprint,
        **shaped,
        "test_data": digests["test"],
        "image_size": size,
        "images": {name: len(split.images) for name, split in seen.items()},
        "parameter_count": {
            "total": classifier.count_params(),
            "trainable": _count(classifier.trainable_weights),
            "non_trainable": _count(classifier.non_trainable_weights),
        },
        "git": origin.git_state(),
        "environment": runtime.describe(),
    }
    now = replace(paths, metrics_dir=folder)
    files.write_json(now.provenance, provenance)

    def save(rows: Rows, variables: list[Any]) -> None:
        checkpoints.save(folder, variables, rows.history, rows.timing)
        files.write_csv(now.history, rows.history)
        files.write_csv(now.timing, rows.timing)

    record = live.Record(paths, experiment, folder, mlflow_run_id)
    with live.following(record):
        rows = fit(classifier, run, training, splits["validation"], folder, save)
        models.save(classifier, paths.model)
        files.write_csv(paths.history, rows.history)
        files.write_csv(paths.timing, rows.timing)
        files.write_json(paths.train, summary(rows.history))
        files.write_json(paths.provenance, provenance)
    checkpoints.drop_others(folder)


def fit(
    classifier: keras.Model,
    run: RunParams,
    training: data.Split,
    validation: data.Split,
    folder: Path,
    save: Callable[[Rows, list[Any]], None],
) -> Rows:
    """Train `classifier` in place for the epochs that `folder` holds no checkpoint of.

    Args:
        classifier: with its starting weights.
        run: resolved parameters.
        training: augmented, shuffled every epoch, whole batches only.
        validation: scored after every epoch, as it is.
        folder: checkpoints of this very training.
        save: called after every epoch with the rows so far and all variables.

    Raises:
        UserError: the loss is no longer a finite number.
    """
    view = models.training_view(classifier)
    optimizer = optimizers.build(run)
    view.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    optimizer.build(view.trainable_variables)
    # Variables created inside the first step would have it traced twice.
    view.compute_metrics(None, np.zeros(1), np.zeros((1, project.CLASSES), np.float32), None)
    variables = [*classifier.weights, *optimizer.variables]

    rows = Rows([], [])
    checkpoint = checkpoints.latest(folder)
    if checkpoint is not None:
        checkpoints.restore(checkpoint, variables)
        rows = Rows(checkpoint.history, checkpoint.timing)
        print(f"continuing after epoch {checkpoint.epoch} of {run.epochs}", flush=True)

    for epoch in range(len(rows.history) + 1, run.epochs + 1):
        models.dropout_seed(classifier).assign(data.dropout_state(run.seed, epoch))
        started = time.perf_counter()
        result = _train_epoch(view, run, training, epoch)
        trained = time.perf_counter()
        validated = scores.score(models.predict(classifier, validation.images), validation.labels)
        row = {
            "epoch": epoch,
            **result,
            "val_loss": validated["loss"],
            "val_accuracy": validated["accuracy"],
            "learning_rate": _shortest(keras.ops.convert_to_numpy(optimizer.learning_rate)),
        }
        images = data.steps_per_epoch(run, len(training.images)) * run.batch_size
        clock = {
            "epoch": epoch,
            "seconds": round(trained - started, 3),
            "validation_seconds": round(time.perf_counter() - trained, 3),
            "images_per_second": round(images / (trained - started), 1),
            "finished_ms": time.time_ns() // 1_000_000,
        }
        rows = Rows([*rows.history, row], [*rows.timing, clock])
        save(rows, variables)
        print(_line(row, clock, run.epochs), flush=True)
    return rows


def summary(history: list[Row]) -> dict[str, float]:
    """The last epoch's scores, and the epoch with the best validation accuracy (the first such)."""
    last = history[-1]
    best = max(history, key=lambda row: row["val_accuracy"])
    return {
        "epochs": last["epoch"],
        **{key: last[key] for key in ("loss", "accuracy", "val_loss", "val_accuracy")},
        "best_epoch": best["epoch"],
        "best_val_accuracy": best["val_accuracy"],
    }


def _train_epoch(
    view: keras.Model, run: RunParams, training: data.Split, epoch: int
) -> dict[str, float]:
    """One pass over the training images; returns the mean loss and accuracy of its batches."""
    steps = data.steps_per_epoch(run, len(training.images))
    totals = {"loss": 0.0, "accuracy": 0.0}
    means = dict(totals)
    with progress.bar(steps * run.batch_size, f"epoch {epoch}/{run.epochs}", " images") as bar:
        for step, batch in enumerate(data.batches(training, run, epoch), start=1):
            # Keras resets its metrics before every batch: these are the batch's own values.
            result = view.train_on_batch(
                [batch.images, batch.transforms], batch.labels, return_dict=True
            )
            if not math.isfinite(result["loss"]):
                raise UserError(
                    f"the loss became {result['loss']} in epoch {epoch}: expected a finite number; "
                    f"lower learning_rate (now {run.learning_rate}). The epochs before are kept in "
                    "checkpoints/"
                )
            for key in totals:
                totals[key] += float(result[key])
                means[key] = totals[key] / step
            bar.set_postfix({key: f"{mean:.4f}" for key, mean in means.items()}, refresh=False)
            bar.update(run.batch_size)
    return means


def _line(row: Row, clock: Row, epochs: int) -> str:
    left = (epochs - row["epoch"]) * (clock["seconds"] + clock["validation_seconds"])
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}, "
        f"val_loss {row['val_loss']:.4f}, val_accuracy {row['val_accuracy']:.4f}, "
        f"{clock['images_per_second']:.0f} images/s, {clock['seconds']:.0f} s"
        + (f", about {progress.duration(left)} left" if left else "")
    )


def _shortest(value: Any) -> float:
    """The float32 `value` as the shortest decimal that means it: 0.0002, not 0.00019999999495."""
    return float(str(np.float32(value)))


def _count(weights: list[Any]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)
