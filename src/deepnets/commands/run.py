"""One free-form run: train and evaluate outside the grid, with the grid's own code and checks.

Its files are in single/NAME, its MLflow run is that of `mlflow run` or one of its own, and
dvc.lock stays as it is.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from deepnets.base import dvc, files, locks, project
from deepnets.base.errors import UserError
from deepnets.config import params, reader, rows, words
from deepnets.config.sections import RunEntry, RunParams, Train
from deepnets.networks import runtime
from deepnets.records import clock, provenance
from deepnets.tracking import live, pages
from deepnets.training import devices

Section = TypeVar("Section", bound=BaseModel)


def main(options: Mapping[str, str | None]) -> None:
    """Train and evaluate the run that `options` (key -> text, None or empty for unset) describe."""
    study = params.load()
    run = resolve(study, options)
    if devices.check(run.batch_size).processes > 1:
        raise UserError(
            f"{devices.PROCESSES}: expected one process for a run outside the grid; several train "
            "a row of params.yaml, by `deepnets train RUN` in each of them"
        )
    name = f"{run.start}-{run.optimizer}-{_short_hash(run)}"
    paths = project.single_run(name)
    mlflow_run_id = os.environ.get("MLFLOW_RUN_ID")
    single = f"{study.publish.experiment}-single"
    publish = study.publish.model_copy(update={"experiment": single})
    files.require_room(paths.model_dir, 2**20, "results")
    provenance.warn()
    print(f"{name}: " + ", ".join(f"{key}={value}" for key, value in run.flat.items()), flush=True)
    with locks.held(name):
        prepare_data()
        runtime.start_framework()
        from deepnets.reporting import drawing, run_figures
        from deepnets.stages import evaluate, initialize, train

        initialize.write(
            *(run.arch, run.weights, run.seed, study.preprocess.image_size),
            paths.start(run.seed),
            study.starting_weights.get(run.weights),
        )
        prefix = "-P " if mlflow_run_id else "--"
        plan = clock.Plan(f"{prefix}epochs", f"{prefix}train_images", "on the command line")
        stage = f"run {name}"
        train.train_run([run], paths, publish, stage, plan, mlflow_run_id, in_report=False)
        style, count = drawing.Run(name, run.optimizer, run.weights), study.evaluate.mistakes
        evaluate.evaluate_run(
            paths,
            [run.seed],
            publish,
            mlflow_run_id,
            lambda result: run_figures.draw(style, paths, result, count),
        )
    print(f"files: {paths.model_dir}" + (f"   MLflow: {_page(single)}" if live.available() else ""))


def _page(experiment: str) -> str:
    """Where the run is seen; `mlflow run` may have been told another experiment."""
    page = pages.study_page(experiment)
    told = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if page is None or (told and f"/experiments/{told}/" not in page):
        return project.public_uri()
    return page


def resolve(study: params.Params, options: Mapping[str, str | None]) -> RunParams:
    """The run that `options` make of the `run` section; a wrong option is a `UserError`."""
    given = {key: _value(key, text) for key, text in options.items() if text}
    shared = {"seed": given.pop("seed")} if "seed" in given else {}
    train = _validate(Train, study.train.model_dump() | shared)
    if len(train.seeds) > 1:
        raise UserError(
            f"seed: expected one for a single run; received {train.seeds}: give one with -P seed=N"
        )
    entry = _validate(RunEntry, study.run.model_dump() | given)
    try:
        run = rows.resolve(train, study.recipes, entry, train.seeds[0])
    except ValueError as error:
        raise UserError(str(error)) from None
    study.check(run, "this run")
    return run


def prepare_data() -> None:
    """Have DVC fetch and preprocess the data if need be, leaving dvc.lock as it is."""
    if dvc.run("repro", "--quiet", "preprocess", folder=Path(), books=False):
        raise UserError("the data could not be prepared, see above; mend that and run again")


def _value(key: str, text: str) -> Any:
    """The value that the text would have in params.yaml."""
    try:
        return reader.parse_yaml(text)
    except ValueError:
        raise UserError(
            f"{key}: expected a plain value; received {words.quote(text)}: correct it"
        ) from None


def _validate(model: type[Section], values: dict[str, Any]) -> Section:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(words.describe(error, model)) from None


def _short_hash(run: RunParams) -> str:
    return hashlib.sha256(json.dumps(run.flat, sort_keys=True).encode()).hexdigest()[:8]
