"""Train one run: from starting weights and processed data to a model and its history.

The training resumes from the last finished epoch that has the same fingerprint. Everything
random in an epoch is drawn from (seed, epoch), so a resumed run is the run that was never
interrupted.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deepnets import (
    checkpoints,
    clock,
    data,
    files,
    live,
    models,
    params,
    progress,
    project,
    results,
    runtime,
    scores,
    steps,
)
from deepnets import provenance as origin
from deepnets.errors import UserError
from deepnets.params import RunParams
from deepnets.results import Numbers, Row, Rows


@dataclass(frozen=True)
class Trained:
    """What one training came to: its rows, its numbers for train.json, and where it comes from."""

    rows: Rows
    numbers: Numbers
    provenance: dict[str, Any]


def main(name: str) -> None:
    """Train the grid's run `name`, once with each seed, in the folder of its study."""
    study = params.load()
    grid = {row: [study.run_params(row, seed) for seed in study.train.seeds] for row in study.runs}
    runs, entry = grid[name], study.entry(name)
    plan = clock.Plan(
        epochs=f"{'train' if entry.epochs is None else f'runs.{name}'}.epochs",
        train_images=f"{'train' if entry.train_images is None else f'runs.{name}'}.train_images",
        place=f"in {params.FILE}",
        grid=grid,
        has_tour=Path.cwd() == project.find_root(),
    )
    paths = project.grid_run(name, runs[0].start)
    train_run(runs, paths, study.publish.experiment, f"train@{name}", plan)


def train_run(
    runs: Sequence[RunParams],
    paths: project.RunFiles,
    experiment: str,
    stage: str,
    plan: clock.Plan,
    mlflow_run_id: str | None = None,
) -> None:
    """Train a run with each of its seeds; write models, history, timing and provenance.

    Args:
        runs: the run's parameters, resolved for each seed.
        paths: where its files go.
        experiment: of MLflow, which follows the files.
        stage: how the provenance names what was run.
        plan: what the run is a part of, for the clock.
        mlflow_run_id: the MLflow run to use (that of `mlflow run`), for a single seed.
    """
    meter = clock.Meter(time.perf_counter())
    splits = {name: data.load(name) for name in ("train", "validation", "test")}
    seen = splits | {"train": splits["train"].first(runs[0].train_images)}
    params.check_images(runs[0], len(seen["train"].images), paths.name)
    digests = {name: split.digest for name, split in seen.items()}
    images = {name: len(split.images) for name, split in splits.items()}

    trained: dict[int, Trained] = {}
    for number, run in enumerate(runs, start=1):
        if len(runs) > 1:
            print(f"{paths.name}: seed {run.seed} ({number} of {len(runs)})", flush=True)
        classifier, stepper, provenance = _prepare(run, paths, seen, digests, stage)
        if number == 1:
            print(runtime.in_one_line(provenance["environment"]), flush=True)
        folder = paths.checkpoints(run.seed) / provenance["fingerprint"][:16]
        _explain(folder, paths.provenance.name, run.seed, provenance)
        files.write_json(folder / paths.provenance.name, {str(run.seed): provenance})
        checkpoints.drop_oldest(folder)

        record = live.Record(paths, experiment, run.seed, len(runs), folder, mlflow_run_id)
        watch = _clock(meter, plan, runs[number - 1 :], images, provenance)
        with live.following(record):
            with (
                models.computing_in(classifier, run.precision),
                after_one_another(beside=runtime.on_jax_gpu()) as submit,
            ):
                save = saving(folder, run.seed, submit)
                rows, diverged = fit(
                    *(classifier, run, seen["train"], seen["validation"], folder, save, watch),
                    stepper,
                )
            numbers = results.summary(rows.history, provenance["chance_accuracy"], diverged)
            if numbers["collapsed"]:
                print(f"{paths.name} has collapsed: it ends at chance, see the report", flush=True)
            weights = {"weights": models.weights_digest(classifier)}
            trained[run.seed] = Trained(rows, numbers, provenance | weights)
            models.save(classifier, paths.model(run.seed))
            files.seal(paths.model(run.seed))
            _write(paths, trained)
        files.write_json(paths.architecture, models.layers(classifier))


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


def saving(
    folder: Path, seed: int, submit: Callable[[Callable[[], None]], None]
) -> Callable[[Rows, list[Any]], None]:
    """How `fit` saves an epoch in `folder`; JAX's values stay what they are while it goes on."""

    def save(rows: Rows, variables: list[Any]) -> None:
        values = [variable.value for variable in variables]

        def write() -> None:
            checkpoints.save(folder, values, rows.history, rows.timing)
            results.write_rows(folder, {seed: rows})

        submit(write)

    return save


def _prepare(
    run: RunParams,
    paths: project.RunFiles,
    seen: dict[str, data.Split],
    digests: dict[str, str],
    stage: str,
) -> tuple[keras.Model, steps.Stepper, dict[str, Any]]:
    """The classifier with its starting weights, what trains it, and where the training is from."""
    size = seen["train"].images.shape[1]
    files.verify(paths.start(run.seed))
    classifier = models.start(run, size, paths.start(run.seed))
    files.require_room(paths.checkpoints(run.seed), 12 * classifier.count_params(), "checkpoints")
    files.require_room(paths.model_dir, 6 * classifier.count_params(), "models")
    files.require_room(paths.metrics_dir, 2**20, "metrics")
    fitted = {name: digests[name] for name in ("train", "validation")}
    with models.computing_in(classifier, run.precision):
        stepper = steps.for_run(classifier, run, seen["train"])
        program = stepper.program(seen["train"], run)
        # The first line of a training says so, and its record.
        deterministic = stepper.repeats(seen["train"], run)
    shaped = origin.shape(run, fitted, models.weights_digest(classifier), program)
    record = {
        "run": paths.name,
        "stage": stage,
        "fingerprint": origin.fingerprint(shaped),
        **shaped,
        "test_data": digests["test"],
        "image_size": size,
        "images": {name: len(split.images) for name, split in seen.items()},
        "chance_accuracy": scores.chance_accuracy(seen["train"].labels),
        "parameter_count": {
            "total": classifier.count_params(),
            "trainable": _count(classifier.trainable_weights),
            "non_trainable": _count(classifier.non_trainable_weights),
        },
        "git": origin.git_state(),
        "environment": runtime.describe(run.precision, deterministic),
    }
    return classifier, stepper, record


def _explain(folder: Path, name: str, seed: int, provenance: dict[str, Any]) -> None:
    """Say why a training that would start in `folder` does not continue what is beside it.

    Args:
        folder: of its checkpoints.
        name: of the file in such a folder that says what its training was.
        seed: whose training it is.
        provenance: of this training.
    """
    others = checkpoints.others(folder)
    if not others or checkpoints.exist(folder):
        return
    try:
        before = files.read_json(others[0] / name)[str(seed)]
        why = "; ".join(origin.differences(before, provenance)[:4])
    except (UserError, KeyError, TypeError, AttributeError):
        why = "it does not say of which training"
    print(
        f"starting afresh: the checkpoint in {others[0]} is of another training ({why})", flush=True
    )


def _clock(
    meter: clock.Meter,
    plan: clock.Plan,
    runs: Sequence[RunParams],
    images: Mapping[str, int],
    provenance: dict[str, Any],
) -> Callable[[int, int], None]:
    """What `fit` calls after each step, to say once when this training and its grid will be done.

    Args:
        meter: that of all seeds.
        plan: what the run is a part of.
        runs: the seed that is being trained, and those that come after it.
        images: how many the splits train, validation and test hold.
        provenance: of this training.
    """

    def watch(epoch: int, step: int) -> None:
        measured = meter.tick(step, time.perf_counter())
        if measured is None:
            return
        trained = {name: _trained(name, seeds) for name, seeds in plan.grid.items()}
        now = clock.Situation(runs, epoch, step, images, plan, trained, provenance)
        for line in clock.lines(now, measured, datetime.now()):
            progress.say(line)

    return watch


def _trained(name: str, runs: Sequence[RunParams]) -> list[results.Result]:
    """The seeds of a row that have been trained and whose models are there.

    None of them where a file is damaged: the stage that needs it will say so.
    """
    paths = project.grid_run(name, runs[0].start)
    try:
        found = results.load(paths, runs)
    except Exception:  # a parser of damaged bytes may raise anything
        return []
    return [of for of in found if paths.model(of.seed).is_file()]


def _write(paths: project.RunFiles, trained: dict[int, Trained]) -> None:
    """Write what the seeds trained so far have come to."""
    results.write_rows(paths.metrics_dir, {seed: of.rows for seed, of in trained.items()})
    numbers = {seed: of.numbers for seed, of in trained.items()}
    files.write_json(paths.train, results.together(numbers))
    files.write_json(paths.provenance, {str(seed): of.provenance for seed, of in trained.items()})


def fit(
    classifier: keras.Model,
    run: RunParams,
    training: data.Split,
    validation: data.Split,
    folder: Path,
    save: Callable[[Rows, list[Any]], None],
    watch: Callable[[int, int], None] = lambda epoch, step: None,
    stepper: steps.Stepper | None = None,
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
        watch: called after every step, or some of them, with its epoch and its number there, both
            from 1.
        stepper: what trains it, if it has been built.

    Returns:
        The rows of all finished epochs, and whether the training diverged after them.
    """
    stepper = stepper or steps.for_run(classifier, run, training)
    optimizer = stepper.optimizer
    scorer = models.scoring_view(classifier)
    variables = [*classifier.weights, *optimizer.variables]

    rows = Rows([], [])
    chance = scores.chance_accuracy(training.labels)
    checkpoint = checkpoints.latest(folder)
    if checkpoint is not None:
        checkpoints.restore(checkpoint, variables)
        rows = Rows(checkpoint.history, checkpoint.timing)
        print(f"continuing after epoch {checkpoint.epoch} of {run.epochs}", flush=True)
    finished = _weights(classifier)

    for epoch in range(len(rows.history) + 1, run.epochs + 1):
        started = time.perf_counter()
        result = _train_epoch(stepper, run, training, epoch, watch)
        if result is None:
            for variable, value in zip(classifier.weights, finished, strict=True):
                variable.assign(value)
            return rows, True
        finished = _weights(classifier)
        trained = time.perf_counter()
        validated = scores.score(models.predict(scorer, validation.images), validation.labels)
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
        if scores.at_chance(row, chance):
            print(
                f"epoch {epoch}: at chance, loss {row['loss']:.4f} of ln 10 = {math.log(10):.4f}: "
                "this network has not begun to learn",
                flush=True,
            )
    return rows, False


def _weights(classifier: keras.Model) -> list[Any]:
    """Its weights as they are now. JAX's arrays never change, so there they are no copies."""
    if keras.backend.backend() == "jax":
        return [variable.value for variable in classifier.weights]
    return [variable.numpy().copy() for variable in classifier.weights]


def _train_epoch(
    stepper: steps.Stepper,
    run: RunParams,
    training: data.Split,
    epoch: int,
    watch: Callable[[int, int], None],
) -> dict[str, float] | None:
    """One pass over the training images; returns the mean loss and accuracy of its batches.

    None, with a line that says so, as soon as the loss is no finite number.
    """
    images = data.steps_per_epoch(run, len(training.images)) * run.batch_size
    totals = {"loss": 0.0, "accuracy": 0.0}
    means = dict(totals)
    step = 0
    with progress.bar(images, f"epoch {epoch}/{run.epochs}", " images") as bar:
        for results in stepper.train(training, run, epoch):
            wrong = np.flatnonzero(~np.isfinite(results["loss"]))
            if len(wrong):
                print(
                    f"the loss became {results['loss'][wrong[0]]} in step {step + wrong[0] + 1:,} "
                    f"of epoch {epoch}: the run has diverged and ends with the {epoch - 1} epochs "
                    f"before; lower its learning_rate (now {run.learning_rate})",
                    flush=True,
                )
                return None
            step += len(results["loss"])
            for key in totals:
                totals[key] += float(np.sum(results[key], dtype=np.float64))
                means[key] = totals[key] / step
            bar.set_postfix({key: f"{mean:.4f}" for key, mean in means.items()}, refresh=False)
            bar.update(len(results["loss"]) * run.batch_size)
            watch(epoch, step)
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
