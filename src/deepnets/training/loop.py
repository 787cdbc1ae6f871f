"""The training loop: epochs of steps, each validated, until the last or a loss that is no number.

It says nothing: a `Listener` hears what goes on, and cannot change what is computed.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deepnets.config.sections import RunParams
from deepnets.data.splits import Split
from deepnets.networks import views
from deepnets.training import batches, checkpoints, scores, steps
from deepnets.training.checkpoints import Rows
from deepnets.training.listener import Listener


def fit(
    classifier: keras.Model,
    run: RunParams,
    training: Split,
    validation: Split,
    folder: Path,
    save: Callable[[Rows, list[Any]], None],
    listener: Listener | None = None,
    stepper: steps.Stepper | None = None,
    scorer: keras.Model | None = None,
) -> tuple[Rows, bool]:
    """Train `classifier` in place for the epochs that `folder` holds no checkpoint of.

    A loss that is no finite number any more ends the training with the weights of the last
    finished epoch.

    Args:
        classifier: with its starting weights.
        run: resolved parameters.
        training: augmented, shuffled every epoch, whole batches only.
        validation: scored after every epoch, as it is.
        folder: checkpoints of this very training.
        save: called after every epoch with the rows so far and all variables.
        listener: hears what goes on.
        stepper: what trains it, if it has been built.
        scorer: its `views.scoring_view`, if it has been built.

    Returns:
        The rows of all finished epochs, and whether the training diverged after them.
    """
    listener = listener or Listener()
    stepper = stepper or steps.for_run(classifier, run, training)
    optimizer = stepper.optimizer
    scorer = scorer or views.scoring_view(classifier)
    variables = [*classifier.weights, *optimizer.variables]

    rows = Rows([], [])
    checkpoint = checkpoints.latest(folder, with_best=run.keep != "last")
    if checkpoint is not None:
        checkpoints.restore(checkpoint, variables)
        rows = Rows(checkpoint.history, checkpoint.timing)
        listener.on_resume(checkpoint.epoch)
    finished = _weights(classifier)

    for epoch in range(len(rows.history) + 1, run.epochs + 1):
        started = time.perf_counter()
        images = batches.steps_per_epoch(run, len(training.images)) * run.batch_size
        listener.on_epoch_begin(epoch, images)
        result = _train_epoch(stepper, run, training, epoch, listener)
        if result is None:
            for variable, value in zip(classifier.weights, finished, strict=True):
                variable.assign(value)
            return rows, True
        finished = _weights(classifier)
        trained = time.perf_counter()
        probabilities = views.predict(scorer, validation.images)
        validated = scores.score(probabilities, validation.labels)
        ended = time.perf_counter()
        listener.on_validation(epoch, probabilities)
        row = {
            "epoch": epoch,
            **result,
            "val_loss": validated["loss"],
            "val_accuracy": validated["accuracy"],
            "learning_rate": _shortest(keras.ops.convert_to_numpy(optimizer.learning_rate)),
        }
        timing = {
            "epoch": epoch,
            "seconds": round(trained - started, 3),
            "validation_seconds": round(ended - trained, 3),
            "images_per_second": round(images / (trained - started), 1),
            "finished_ms": time.time_ns() // 1_000_000,
        }
        rows = Rows([*rows.history, row], [*rows.timing, timing])
        save(rows, variables)
        listener.on_epoch_end(row, timing)
    return rows, False


def _train_epoch(
    stepper: steps.Stepper, run: RunParams, training: Split, epoch: int, listener: Listener
) -> dict[str, float] | None:
    """One pass over the training images; returns the mean loss and accuracy of its batches.

    None as soon as the loss is no finite number.
    """
    totals = {"loss": 0.0, "accuracy": 0.0}
    means = dict(totals)
    step = 0
    for results in stepper.train(training, run, epoch):
        wrong = np.flatnonzero(~np.isfinite(results["loss"]))
        if len(wrong):
            first = int(wrong[0])
            listener.on_divergence(epoch, step + first + 1, float(results["loss"][first]))
            return None
        step += len(results["loss"])
        for key in totals:
            totals[key] += float(np.sum(results[key], dtype=np.float64))
            means[key] = totals[key] / step
        listener.on_step(epoch, step, means)
    return means


@contextmanager
def after_one_another(beside: bool) -> Iterator[Callable[[Callable[[], None]], None]]:
    """What is submitted is done in its order, if `beside` the training; all of it at the end.

    What one raises is raised by the next, or by the end.
    """
    if not beside:
        yield lambda work: work()
        return
    pending: list[Future[None]] = []
    with ThreadPoolExecutor(1) as pool:

        def submit(work: Callable[[], None]) -> None:
            while pending:
                pending.pop().result()
            pending.append(pool.submit(work))

        yield submit
        while pending:
            pending.pop().result()


def _weights(classifier: keras.Model) -> list[Any]:
    """Its weights as they are now. JAX's arrays never change, so there they are no copies."""
    if keras.backend.backend() == "jax":
        return [variable.value for variable in classifier.weights]
    return [variable.numpy().copy() for variable in classifier.weights]


def _shortest(value: Any) -> float:
    """The float32 `value` as the shortest decimal that means it: 0.0002, not 0.00019999999495."""
    return float(str(np.float32(value)))
