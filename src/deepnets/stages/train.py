"""Train one run: from starting weights and processed data to a model and its history.

The training resumes from the last finished epoch that has the same fingerprint. Everything
random in an epoch is drawn from (seed, epoch), so a resumed run is the run that was never
interrupted.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
from numpy.typing import NDArray

from deepnets.base import dvc, files, project
from deepnets.base.errors import UserError
from deepnets.config import params
from deepnets.config.rows import check_images
from deepnets.config.sections import Publish, RunParams
from deepnets.data import splits
from deepnets.evaluation import epochs
from deepnets.networks import models, runtime, saving, views
from deepnets.records import clock, machine, results
from deepnets.records import provenance as origin
from deepnets.records.provenance import Provenance
from deepnets.records.results import TrainingRecord
from deepnets.reporting import console
from deepnets.reporting.live_curves import LiveCurve
from deepnets.tracking import live
from deepnets.tracking.trainings import TrackedTraining
from deepnets.training import checkpoints, devices, loop, scores
from deepnets.training.checkpoints import Rows
from deepnets.training.compiled import Compiled, Workbench
from deepnets.training.listener import Listener, Listeners


def main(name: str) -> None:
    """Train the grid's run `name`, once with each seed, in the folder of its study."""
    study = params.load()
    grid = {row: [study.run_params(row, seed) for seed in study.train.seeds] for row in study.runs}
    runs, entry = grid[name], study.entry(name)
    plan = clock.Plan(
        epochs=f"{f'runs.{name}' if 'epochs' in entry.own else 'train'}.epochs",
        train_images=f"{f'runs.{name}' if 'train_images' in entry.own else 'train'}.train_images",
        place=f"in {params.FILE}",
        grid=grid,
        has_tour=Path.cwd() == project.find_root(),
    )
    paths = project.grid_run(name, runs[0].start)
    train_run(runs, paths, study.publish, f"train@{name}", plan)


@devices.ending_together()
def train_run(
    runs: Sequence[RunParams],
    paths: project.RunFiles,
    publish: Publish,
    stage: str,
    plan: clock.Plan,
    mlflow_run_id: str | None = None,
    of_seeds: int | None = None,
    listener: Listener | None = None,
    workbench: Workbench | None = None,
    in_report: bool = True,
) -> list[TrainingRecord]:
    """Train a run with each of its seeds; write models, history, timing and provenance.

    Of several processes the first writes and tells, the others only compute with it.

    Args:
        runs: the run's parameters, resolved for each seed.
        paths: where its files go.
        publish: how MLflow follows the files.
        stage: how the provenance names what was run.
        plan: what the run is a part of, for the clock.
        mlflow_run_id: the MLflow run to use (that of `mlflow run`), for a single seed.
        of_seeds: how many the run has in all, where `runs` are not all.
        listener: hears of the training besides the terminal.
        workbench: of other trainings of this process, if there are any.
        in_report: whether it is a row of the study, whose curves `dvc plots show` draws.

    Returns:
        What each seed has come to.
    """
    meter = clock.Meter(time.perf_counter())
    asked = devices.check(runs[0].batch_size)
    mesh = devices.mesh(asked)
    loaded = {name: splits.load(name) for name in ("train", "validation", "test")}
    seen = loaded | {"train": loaded["train"].first(runs[0].train_images)}
    check_images(runs[0], len(seen["train"].images), paths.name)
    digests = {name: split.digest for name, split in seen.items()}
    images = {name: len(split.images) for name, split in loaded.items()}

    workbench = workbench or Workbench()
    trained: dict[int, TrainingRecord] = {}
    for number, run in enumerate(runs, start=1):
        if len(runs) > 1 and asked.is_first:
            print(f"{paths.name}: seed {run.seed} ({number} of {len(runs)})", flush=True)
        files.verify(paths.start(run.seed))
        compiled = workbench.start(run, paths.start(run.seed), seen["train"], mesh)
        classifier = compiled.classifier
        provenance = _prepare(run, paths, compiled, seen, digests, stage, asked)
        folder = paths.checkpoints_of(run.seed, provenance["fingerprint"])
        devices.agree(asked, f"{provenance['fingerprint']} {checkpoints.names(folder)}")
        if not asked.is_first:
            with views.computing_in(classifier, run.precision):
                loop.fit(
                    classifier,
                    run,
                    seen["train"],
                    seen["validation"],
                    folder,
                    _no_saver,
                    stepper=compiled.stepper,
                    scorer=compiled.scorer,
                )
            continue
        if number == 1:
            _remove_earlier(paths)
            print(machine.summary_line(provenance["environment"]), flush=True)
        _explain(folder, paths.provenance.name, run.seed, provenance)
        files.write_json(folder / paths.provenance.name, {str(run.seed): provenance})
        checkpoints.drop_oldest(folder)

        tracked = TrackedTraining(
            paths,
            publish.experiment,
            run.seed,
            of_seeds or len(runs),
            live=folder,
            mlflow_run_id=mlflow_run_id,
            images=publish.images,
        )
        curve = None
        if in_report and dvc.available():
            several = (of_seeds or len(runs)) > 1
            curve = LiveCurve(f"{paths.name}, seed {run.seed}" if several else paths.name)
        told = console.Console(meter, plan, runs[number - 1 :], images, provenance)
        with live.following(tracked):
            with (
                views.computing_in(classifier, run.precision),
                loop.after_one_another(beside=runtime.on_jax_gpu()) as submit,
                closing(told),
            ):
                save = epoch_saver(folder, run, submit, curve)
                seen_by_epoch = EpochRecorder(folder, seen["validation"], submit)
                rows, diverged = loop.fit(
                    classifier,
                    run,
                    seen["train"],
                    seen["validation"],
                    folder,
                    save,
                    Listeners([told, seen_by_epoch, *([listener] if listener else [])]),
                    compiled.stepper,
                    compiled.scorer,
                )
            if curve is not None:
                curve.show(rows.history, at_once=True)
            _save_models(classifier, run, paths, folder, rows, provenance)
            trained[run.seed] = results.training_record(
                paths.name, run.seed, rows, diverged, provenance
            )
            if trained[run.seed].outcome == "collapsed":
                print(f"{paths.name} has collapsed: it ends at chance, see the report", flush=True)
            results.write(paths, trained.values())
        files.write_json(paths.architecture, models.layers(classifier))
    return list(trained.values())


def _remove_earlier(paths: project.RunFiles) -> None:
    """Remove what an earlier training has come to: it would be taken for this one's."""
    for path in (paths.train, paths.history, paths.timing, paths.provenance, paths.architecture):
        path.unlink(missing_ok=True)


def _save_models(
    classifier: keras.Model,
    run: RunParams,
    paths: project.RunFiles,
    folder: Path,
    rows: Rows,
    provenance: Provenance,
) -> None:
    """Save the run's model, and beside it that of the best epoch if it keeps both.

    `provenance` is told of their weights; those of `classifier` may be of either epoch then.
    """
    model, beside = paths.model(run.seed), paths.best_model(run.seed)
    beside.unlink(missing_ok=True)
    if run.keep == "best":
        _take_best(classifier, folder, rows)
    provenance["weights"] = saving.weights_digest(classifier)
    saving.save(classifier, model)
    files.seal(model)
    if run.keep == "both" and rows.history:
        _take_best(classifier, folder, rows)
        provenance["best_weights"] = saving.weights_digest(classifier)
        saving.save(classifier, beside)
        files.seal(beside)
    if run.keep != "last":
        kept = results.which_epoch(rows.history, run.keep, best=True)
        print(f"{beside if run.keep == 'both' else model}: {kept}", flush=True)


def _take_best(classifier: keras.Model, folder: Path, rows: Rows) -> None:
    """Give `classifier` the weights that it had after the best epoch, if one was finished."""
    if rows.history:
        best = checkpoints.best(folder, rows.history)
        count = len(classifier.weights)
        checkpoints.restore(replace(best, values=best.values[:count]), classifier.weights)


class EpochRecorder(Listener):
    """Writes what each epoch's validation came to, image by image, beside its checkpoint.

    Args:
        folder: of the checkpoints.
        validation: the images.
        submit: does what it is given, as with checkpoints.
    """

    def __init__(
        self, folder: Path, validation: splits.Split, submit: Callable[[Callable[[], None]], None]
    ) -> None:
        self._folder, self._validation, self._submit = folder, validation, submit

    def on_validation(self, epoch: int, probabilities: NDArray[np.float32]) -> None:
        def write() -> None:
            epochs.write(
                self._folder, epochs.summarise_validation(epoch, probabilities, self._validation)
            )

        self._submit(write)


def epoch_saver(
    folder: Path,
    run: RunParams,
    submit: Callable[[Callable[[], None]], None],
    curve: LiveCurve | None = None,
) -> Callable[[Rows, list[Any]], None]:
    """How `fit` saves an epoch in `folder`; JAX's values stay what they are while it goes on."""

    def save(rows: Rows, variables: list[Any]) -> None:
        values = [variable.value for variable in variables]

        def write() -> None:
            checkpoints.save(folder, values, rows.history, rows.timing, run.keep != "last")
            results.write_rows(folder, {run.seed: rows})
            if curve is not None:
                curve.show(rows.history)

        submit(write)

    return save


def _no_saver(rows: Rows, variables: list[Any]) -> None:
    """Of a process that writes no files."""


def _prepare(
    run: RunParams,
    paths: project.RunFiles,
    compiled: Compiled,
    seen: dict[str, splits.Split],
    digests: dict[str, str],
    stage: str,
    asked: devices.Devices,
) -> Provenance:
    """Where the training is from, which has not begun; there is room for it."""
    classifier, stepper = compiled.classifier, compiled.stepper
    if asked.is_first:
        weights = classifier.count_params()
        files.require_room(paths.checkpoints(run.seed), 12 * weights, "checkpoints")
        files.require_room(paths.model_dir, (12 if run.keep == "both" else 6) * weights, "models")
        files.require_room(paths.metrics_dir, 2**20, "metrics")
    fitted = {name: digests[name] for name in ("train", "validation")}
    with views.computing_in(classifier, run.precision):
        program = stepper.program(seen["train"], run)
        # The first line of a training says so, and its record.
        deterministic = stepper.repeats(seen["train"], run)
    shaped = origin.shape(run, fitted, saving.weights_digest(classifier), program, asked.shape)
    record = {
        "run": paths.name,
        "stage": stage,
        "fingerprint": origin.fingerprint(shaped),
        **shaped,
        "test_data": digests["test"],
        "image_size": seen["train"].images.shape[1],
        "images": {name: len(split.images) for name, split in seen.items()},
        "chance_accuracy": scores.chance_accuracy(seen["train"].labels),
        "parameter_count": {
            "total": classifier.count_params(),
            "trainable": _count(classifier.trainable_weights),
            "non_trainable": _count(classifier.non_trainable_weights),
        },
        "git": origin.git_state(),
        "environment": machine.describe(run.precision, deterministic, asked.shape),
    }
    return cast(Provenance, record)


def _explain(folder: Path, name: str, seed: int, provenance: Provenance) -> None:
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


def _count(weights: list[Any]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)
