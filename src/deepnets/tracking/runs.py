"""The run of a training in MLflow, brought level with the training's files.

Files are the truth, MLflow is the view. `sync` sends whatever the store lacks and nothing twice, so
it serves a training that is still running, a finished one, and one that was restored from DVC's
cache.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepnets.tracking import connection

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Experiment, Param, Run, RunTag, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from deepnets.base import files, processes, project
from deepnets.tracking import contents, logged_models, tags
from deepnets.tracking.contents import Artifacts
from deepnets.tracking.trainings import MODEL, TrackedModel, TrackedTraining


def sync(client: MlflowClient, training: TrackedTraining, status: str = "FINISHED") -> str:
    """Send what the store lacks of the run of `training`; returns the MLflow run's id.

    Args:
        client: from `connection.connect`.
        training: with `live` and the status RUNNING, KILLED or FAILED the files of the epochs so
            far are sent, else those of the finished training.
        status: what the MLflow run is to be when this is done.
    """
    finished = status == "FINISHED"
    if finished:
        training = replace(training, live=None)
    run = _find_or_create(client, training)
    run_id = str(run.info.run_id)
    models = training.read_models() if finished else []
    marks = {tags.PUBLISHED: _digest(training, finished, models)}
    if finished:
        marks[tags.MODEL] = _where_model_is(run, training)
    if status == "RUNNING":
        marks[tags.PROCESS] = training.process
    wanted = contents.artifacts(training) if finished else {}
    whole = (
        run.info.status == status
        and run.data.tags.get(tags.PUBLISHED) == marks[tags.PUBLISHED]
        and (not finished or _has_files(client, run, training, models, wanted))
    )
    if not whole:
        contents.log_params(client, run, training)
        contents.log_inputs(client, run, training)
        contents.log_epochs(client, run_id, training)
        contents.log_images(client, run_id, training)
        if finished:
            contents.log_results(client, run_id, training)
            marks |= _send_models(client, run, training, models)
            contents.log_artifacts(client, run_id, wanted)
            if training.seeds > 1:
                contents.log_means(client, run.data.tags[MLFLOW_PARENT_RUN_ID], training)
    # Then, as some of them say that all of it is there.
    _set_tags(client, run, marks | tags.lacking_tags(training, run_id, run.data.tags))
    if not whole:
        _set_status(client, run_id, status, training)
    return run_id


def end_abandoned(client: MlflowClient, experiment: Experiment) -> None:
    """Set to KILLED what is still RUNNING in `experiment` though its process has ended.

    That is what stays when a training and its tracking process are killed together. Processes of
    other machines are theirs to look after. Runs that `mlflow run` has made are known by the
    processes that work for them; those of a server may do so elsewhere.
    """
    for run in client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'"):
        process = run.data.tags.get(tags.PROCESS)
        if process:
            abandoned = processes.has_ended(process)
        else:
            local = project.tracking_uri().startswith("sqlite:")
            abandoned = local and not processes.is_worked_for(run.info.run_id)
        if abandoned:
            ended = contents.last_epoch_ended(client, run)
            client.set_terminated(run.info.run_id, "KILLED", ended)


def _find_or_create(client: MlflowClient, training: TrackedTraining) -> Run:
    if training.mlflow_run_id:
        return client.get_run(training.mlflow_run_id)
    experiment = connection.experiment_id(client, training.experiment)
    found_by = {
        tags.FINGERPRINT: training.provenance["fingerprint"],
        tags.PROCESS: training.process,
    }
    if training.seeds > 1:
        found_by[MLFLOW_PARENT_RUN_ID] = _parent(client, experiment, training)
    return _find_or_create_run(client, experiment, training.run_name, found_by, training.started_ms)


def _find_or_create_run(
    client: MlflowClient,
    experiment: str,
    name: str,
    first_tags: Mapping[str, str],
    started: int | None = None,
) -> Run:
    """The run of that name with that fingerprint; created with all `first_tags` if there is none.

    One that is created has `started`, milliseconds since the epoch; None for now. `mlflow run` has
    a run for each time that it takes a training up again: the one that is finished counts.

    A request to create one may have been carried out after we had stopped waiting for its answer,
    and two seeds that begin at the same moment may each create their parent: of several that are
    there, all take the same, and empty ones beside it are deleted.
    """
    fingerprint = first_tags[tags.FINGERPRINT]

    def find() -> list[Run]:
        matching = client.search_runs(
            [experiment],
            f"tags.{tags.FINGERPRINT} = '{fingerprint}' and attributes.run_name = '{name}'",
            run_view_type=ViewType.ACTIVE_ONLY,
        )
        return sorted(matching, key=_rank)

    runs = find()
    if not runs:
        run = client.create_run(experiment, started, dict(first_tags), name)
        runs = find() or [client.get_run(run.info.run_id)]
    used, *others = runs
    for other in filter(_is_empty, others):
        client.delete_run(other.info.run_id)
    return used


def _rank(run: Run) -> tuple[Any, ...]:
    # One that is running, or was when its last word was lost, goes on where others were killed.
    ended = {"FINISHED": 0, "RUNNING": 1}.get(run.info.status, 2)
    return (_is_empty(run), ended, run.info.start_time, run.info.run_id)


def _is_empty(run: Run) -> bool:
    return not (run.data.params or run.data.metrics)


def _parent(client: MlflowClient, experiment: str, training: TrackedTraining) -> str:
    """Id of the run that the seeds of the run of `training` are grouped under.

    It trains nothing itself, so it is never left running.
    """
    provenance = training.provenance
    shared = {
        "parameters": {k: v for k, v in provenance["parameters"].items() if k != "seed"},
        "data": provenance["data"],
        "code": provenance["code"],
        "libraries": provenance["libraries"],
    }
    fingerprint = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()
    found_by = {tags.FINGERPRINT: fingerprint, tags.PROCESS: training.process}
    run = _find_or_create_run(client, experiment, training.files.name, found_by)
    run_id = str(run.info.run_id)
    if run.info.status == "RUNNING":
        params = [Param(key, str(value)) for key, value in shared["parameters"].items()]
        client.log_batch(run_id, params=params)
        said = {"mlflow.source.name": provenance["stage"], "mlflow.user": tags.user() or ""}
        _set_tags(client, run, said)
        client.set_terminated(run_id)
    if tags.NOTE not in run.data.tags:
        client.set_tag(run_id, tags.NOTE, tags.note_of_seeds(training.files.name))
    return run_id


def _digest(training: TrackedTraining, finished: bool, models: Sequence[TrackedModel]) -> str:
    """A digest of everything that is published, so that a second time costs one look.

    Images of epochs apart: who lacks them has the same training, and says so.
    """
    numbers = [training.folder / name for name in ("provenance.json", "history.csv", "timing.csv")]
    figures: list[Path] = []
    if finished:
        numbers += [training.files.train, training.files.test]
        figures += sorted(training.files.figures(training.seed).glob("*"))
    digests = [
        *(files.file_digest(path) for path in numbers if path.is_file()),
        *(model.digest for model in models),
        *(files.file_digest(path) for path in figures if path.is_file()),
    ]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _has_files(
    client: MlflowClient,
    run: Run,
    training: TrackedTraining,
    models: Sequence[TrackedModel],
    wanted: Artifacts,
) -> bool:
    """Whether the store has all artifacts of a run, and its models as far as they are here."""
    if not all(logged_models.has_model(client, run, model) for model in models):
        return False
    if contents.lacking_images(client, run.info.run_id, training):
        return False
    return contents.has_artifacts(client, run.info.run_id, wanted)


def _where_model_is(run: Run, training: TrackedTraining) -> str:
    # It may have stayed where the run was trained.
    known = training.model.is_file() or tags.MODEL_DIGEST in run.data.tags
    return "logged" if known else "not at hand when this was published"


def _send_models(
    client: MlflowClient, run: Run, training: TrackedTraining, models: Sequence[TrackedModel]
) -> dict[str, str]:
    """Send the models that are not there; returns the tag that says so of the run's own."""
    for model in models:
        if not logged_models.has_model(client, run, model):
            logged_models.log_model(client, run, training, model)
        logged_models.log_metrics(client, run, training, model)
    own = next((model for model in models if model.name == MODEL), None)
    return {tags.MODEL_DIGEST: own.digest} if own else {}


def _set_tags(client: MlflowClient, run: Run, values: Mapping[str, str]) -> None:
    """Set those of `values` that the run has not."""
    known = run.data.tags
    changed = [RunTag(key, value) for key, value in values.items() if known.get(key) != value]
    if changed:
        client.log_batch(run.info.run_id, tags=changed)


def _set_status(client: MlflowClient, run_id: str, status: str, training: TrackedTraining) -> None:
    if status == "RUNNING":
        client.update_run(run_id, status=status)
        return
    timing = training.timing
    ended = int(timing[-1]["finished_ms"]) if timing else None
    client.set_terminated(run_id, status, ended)
