"""The only importer of MLflow: brings the tracking store level with a run's files.

Files are the truth, MLflow is the view. `level` sends whatever the store lacks and nothing
twice, so it serves a training that is still running, a finished one, and one that was restored
from DVC's cache. As a program (`python -m deepnets.tracking`) it is the process that live.py
starts. It imports no TensorFlow.
"""

import getpass
import hashlib
import json
import logging
import math
import os
import queue
import re
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, urlencode

from filelock import FileLock

from deepnets.base import files, processes, project
from deepnets.base.errors import UserError
from deepnets.records import results
from deepnets.tracking import live, store
from deepnets.tracking.champion import ALIAS, MODEL_URI, Contender, card
from deepnets.tracking.live import Record

# Quiet and private: no usage telemetry, no hints about other products.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# It would print the address of every run that it ends, credentials included.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# MLflow would repeat a request whose answer was lost, and create a second run. `level` is repeated
# instead: it looks at what is there before it sends anything.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.models import Model, ModelSignature
from mlflow.system_metrics.metrics import gpu_monitor
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

# A stage below `mlflow run` inherits the first three, and all stages would write into that one run.
# Where it is meant, it is named explicitly (Record.mlflow_run_id). By the next two every metric
# would be that of a model which is not ours, by the last one be taken for sent before it is.
_INHERITED = (
    *("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"),
    *("MLFLOW_ACTIVE_MODEL_ID", "_MLFLOW_ACTIVE_MODEL_ID"),
    "MLFLOW_ENABLE_ASYNC_LOGGING",
)

# Tags that this module finds its own work by.
_FINGERPRINT = "fingerprint"
_PUBLISHED = "published"
_MODEL = "model_digest"
# Whose run it is, from `processes.identity`.
_PROCESS = "process"
# Where in a run's artifacts the files are that it is rebuilt and compared by.
_RECORD = "metrics"
_PROVENANCE = "provenance.json"
# The uncommitted changes that it was trained with, where people see them.
_PATCH = "sources.patch"
# Where in a logged model's artifacts the model is.
_MODEL_FILE = "data/model.keras"
# The text at the head of a run's page. It is the user's once it is there.
_NOTE = "mlflow.note.content"

# The tags of a registered model that say what ranked it.
_RANKED_BY = ("val_accuracy", "val_loss", "validation_digest")
# What to do where there is none.
_NO_MODEL = (
    "train the study (`make tour`, `dvc repro`), which registers its best run, or name a .keras "
    "file with --model"
)

# Seconds between two looks at the files of a running training; twice as many after every failure.
_INTERVAL = 2.0
_LONGEST_INTERVAL = 60.0
# Seconds that a server may leave a request of this process unanswered: the longest that it can
# hold a training at its end. `publish`, for which nothing waits, gives it a minute.
_PATIENCE = 10
# Seconds between two samples of CPU, memory and GPU use.
_SYSTEM_INTERVAL = 5.0

_EPOCH_METRICS = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
_CLOCK_METRICS = ("seconds", "images_per_second")

_EXPERIMENT_TAGS = {
    store.KIND: store.OURS,
    "mlflow.note.content": (
        "One run a row of the study. To compare optimizers: press the icon of a chart, then "
        "**Group by** the parameter `optimizer`, for the mean of each; or tick runs, press "
        "**Compare**, then `val_accuracy` below **Metrics**, for the curve of each run."
    ),
}

# Where `mlflow ui` shows a store that is no server.
_UI = "http://localhost:5000"
# The UI opens for language models, and so does an experiment that is chosen there: this has it show
# trainings.
_OF_TRAININGS = {"workflowType": "machine_learning"}


def connect() -> MlflowClient:
    """A client for the project's store, which is created first if it is a new SQLite file.

    MLflow makes such a file in a hundred steps. Several processes at once destroy each other's work
    on it, and one that is killed leaves a file that nobody can open: so it is made under a lock and
    in another place. One that has been moved or copied is made to lead to its own artifacts.

    Raises:
        MlflowException: the store is one that can never hold anything.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    for name in ("mlflow", "alembic", "urllib3"):
        # What goes wrong is said once, by `unreachable`, and without credentials.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="mlflow")
    for variable in _INHERITED:
        os.environ.pop(variable, None)
    uri = project.tracking_uri()
    _refuse_useless(uri)
    mlflow.set_tracking_uri(uri)
    registry = os.environ.get("MLFLOW_REGISTRY_URI", "").strip()
    if registry:
        os.environ["MLFLOW_REGISTRY_URI"] = project.store_uri(registry)
    database = store.database()
    if database is None:
        return MlflowClient()
    with FileLock(database.with_name(f".{database.name}.lock")):
        if not database.exists():
            # The artifacts of MLflow's own experiment will be below the folder we are in.
            with files.replacing(database) as partial, chdir(database.parent):
                MlflowClient(f"sqlite:///{partial}").search_experiments(max_results=1)
        store.bring_home()
        return MlflowClient()


def _refuse_useless(uri: str) -> None:
    """Refuse a folder, which MLflow does in too many words, and a database that no file holds."""
    if uri.startswith(("/", "file:")) and not MLFLOW_ALLOW_FILE_STORE.get():
        raise mlflow.MlflowException(
            f"MLflow {mlflow.__version__} takes no folder: set MLFLOW_TRACKING_URI=sqlite:///FILE "
            "(`mlflow migrate-filestore` brings a folder's runs there) or "
            "MLFLOW_ALLOW_FILE_STORE=true"
        )
    if uri.startswith("sqlite:") and not uri.startswith("sqlite:///"):
        raise mlflow.MlflowException("expected sqlite:///FILE: correct MLFLOW_TRACKING_URI")


def experiment_id(client: MlflowClient, name: str) -> str:
    """Id of the experiment `name`, created if need be; safe when several processes ask at once.

    Raises:
        MlflowException: among others, its artifacts would be written into another copy of the
            project.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            address = store.new_address(name)
            return str(client.create_experiment(name, address, tags=_EXPERIMENT_TAGS))
        except mlflow.MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    other = store.other_copy(name, found.artifact_location, found.tags.get(store.KIND))
    if other is not None:
        raise mlflow.MlflowException(
            "choose another publish.experiment or MLFLOW_TRACKING_URI, since the artifacts of "
            f"{name!r} are in another copy of the project, {other}"
        )
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def pages(experiment: str, rows: Sequence[str]) -> dict[str, str]:
    """Addresses in MLflow's UI that show a study.

    Args:
        experiment: its name.
        rows: names of the study's runs, in their order.

    Returns:
        What there is to see, and where: the runs and their curves, and the validation accuracy of
        one optimizer beside the other if the rows have both. Nothing at all where the store cannot
        be reached or lacks the experiment.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(_PATIENCE))
    try:
        if _lacks_store():
            return {}
        client = connect()
        found = client.get_experiment_by_name(experiment)
        if found is None or found.lifecycle_stage != "active":
            return {}
        runs = _newest(client, found.experiment_id, rows)
    except Exception:
        return {}
    shown = {"runs and curves": _charts(found.experiment_id)}
    optimizers = sorted({run.data.params["optimizer"] for run in runs})
    if len(optimizers) > 1:
        shown[" and ".join(optimizers)] = _curves(found.experiment_id, "val_accuracy", runs)
    return shown


def overview() -> str:
    """Where in MLflow's UI the runs of each experiment are, an experiment a line."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(_PATIENCE))
    try:
        found = [] if _lacks_store() else connect().search_experiments(order_by=["name ASC"])
    except Exception as error:
        return unreachable(error)
    lines = [
        f"{experiment.name}: {_charts(experiment.experiment_id)}"
        for experiment in found
        if experiment.tags.get(store.KIND) == store.OURS
    ]
    return "\n".join(lines or [f"no runs in MLflow at {project.public_uri()} yet: see `make tour`"])


def _lacks_store() -> bool:
    """Whether the store is an SQLite file that nobody has made yet."""
    database = store.database()
    return database is not None and not database.is_file()


def _newest(client: MlflowClient, experiment: str, rows: Sequence[str]) -> list[Run]:
    """The finished trainings of `rows`, the last of each name, ordered by optimizer, then by row.

    One of earlier parameters has the same name. The parent of several seeds has no curves, and no
    stage either.
    """
    newest: dict[str, Run] = {}
    for run in client.search_runs(
        [experiment], "attributes.status = 'FINISHED'", order_by=["attributes.start_time DESC"]
    ):
        trained = "dvc.stage" in run.data.tags and "optimizer" in run.data.params
        if trained and _row_of(run, rows) in rows:
            newest.setdefault(run.info.run_name, run)
    return sorted(
        newest.values(),
        key=lambda run: (
            run.data.params["optimizer"],
            rows.index(_row_of(run, rows)),
            run.info.run_name,
        ),
    )


def _row_of(run: Run, rows: Sequence[str]) -> str:
    """The name of the row, of `rows`, that a run is a training of; see `_run_name`."""
    name = str(run.info.run_name)
    return name if name in rows else re.sub(r"-seed-\d+$", "", name)


def _charts(experiment: str) -> str:
    """Address of the list of an experiment's runs, beside a chart of each metric."""
    return _page(f"experiments/{experiment}/runs", {"compareRunsMode": "CHART"})


def _curves(experiment: str, metric: str, runs: Sequence[Run]) -> str:
    """Address of one chart of `metric` by epoch, above a table of its values in `runs`."""
    wanted = {
        "runs": [run.info.run_id for run in runs],
        "metric": metric,
        "experiments": [experiment],
        "plot_metric_keys": [metric],
    }
    query = {key: json.dumps(value, separators=(",", ":")) for key, value in wanted.items()}
    return _page("metric", query | {"x_axis": "step", "show_point": "true"})


def _page(path: str, query: dict[str, str]) -> str:
    """Address of a page of the UI, in characters that a terminal takes for an address."""
    uri = project.tracking_uri()
    # A browser asks for the name and the password itself.
    server = project.public_uri().replace("***@", "") if uri.startswith("http") else _UI
    said = urlencode(query | _OF_TRAININGS, safe=",", quote_via=quote)
    return f"{server.rstrip('/')}/#/{path}?{said}"


def level(client: MlflowClient, record: Record, status: str = "FINISHED") -> str:
    """Send what the store lacks of the run in `record`; returns the MLflow run's id.

    Args:
        client: from `connect`.
        record: a run's files; with `live` set and the status RUNNING, KILLED or FAILED, the
            files of the epochs so far.
        status: what the MLflow run is to be when this is done.
    """
    paths = record.files
    finished = status == "FINISHED"
    metrics_dir = paths.metrics_dir if finished or record.live is None else record.live
    provenance = files.read_json(metrics_dir / paths.provenance.name)[str(record.seed)]
    run = _find_or_create(client, record, provenance)
    run_id = str(run.info.run_id)
    state = _state(record, metrics_dir, finished)
    marks = {_PUBLISHED: state} | ({_PROCESS: record.process} if status == "RUNNING" else {})
    noted = _NOTE in run.data.tags
    artifacts = _artifacts(paths, record.seed, provenance) if finished else {}
    if (
        noted
        and run.info.status == status
        and marks.items() <= run.data.tags.items()
        and (not finished or _has(client, run, paths.model(record.seed), artifacts))
    ):
        return run_id

    history = _rows(metrics_dir / paths.history.name, record.seed)
    timing = _rows(metrics_dir / paths.timing.name, record.seed)
    _log_params(client, run, provenance)
    _log_inputs(client, run, provenance)
    _log_epochs(client, run_id, history, timing)
    tags = _tags(record, provenance) | marks
    if not noted:
        tags[_NOTE] = _note(run_id, record, provenance)
    if finished:
        trained = results.of_seed(files.read_json(paths.train), record.seed) or {}
        tags["outcome"] = results.outcome(trained)
        _log_results(client, run_id, record, trained, len(timing))
        model = paths.model(record.seed)
        digest = _digest(model)
        # It may have stayed where the run was trained.
        if digest is not None or _MODEL in run.data.tags:
            tags["model"] = "logged"
        else:
            tags["model"] = "not at hand when this was published"
        if digest is not None:
            tags[_MODEL] = digest
            if not _has_model(client, run, model):
                _log_model(client, run, model, provenance, len(history))
        _log_artifacts(client, run_id, artifacts)
    client.log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])
    if status == "RUNNING":
        client.update_run(run_id, status=status)
    else:
        ended = int(timing[-1]["finished_ms"]) if timing else None
        client.set_terminated(run_id, status, ended)
    if finished and record.seeds > 1:
        _level_parent(client, record, run.data.tags[MLFLOW_PARENT_RUN_ID])
    return run_id


def _find_or_create(client: MlflowClient, record: Record, provenance: dict[str, Any]) -> Run:
    if record.mlflow_run_id:
        return client.get_run(record.mlflow_run_id)
    experiment = experiment_id(client, record.experiment)
    tags = {_FINGERPRINT: str(provenance["fingerprint"]), _PROCESS: record.process}
    if record.seeds > 1:
        tags[MLFLOW_PARENT_RUN_ID] = _parent(client, experiment, record, provenance)
    return _run_with(client, experiment, _run_name(record), tags)


def _run_name(record: Record) -> str:
    name = record.files.name
    return name if record.seeds == 1 else f"{name}-seed-{record.seed}"


def _run_with(client: MlflowClient, experiment: str, name: str, tags: dict[str, str]) -> Run:
    """The run of that name with that fingerprint; created with all `tags` if there is none.

    A request to create one may have been carried out after we had stopped waiting for its answer:
    empty runs beside the one that is used are deleted.
    """
    found = client.search_runs(
        [experiment],
        f"tags.{_FINGERPRINT} = '{tags[_FINGERPRINT]}' and attributes.run_name = '{name}'",
        run_view_type=ViewType.ACTIVE_ONLY,
        order_by=["attributes.start_time ASC"],
    )
    if not found:
        run = client.create_run(experiment, run_name=name, tags=tags)
        return client.get_run(run.info.run_id)
    used, *others = sorted(found, key=_is_empty)
    for other in filter(_is_empty, others):
        client.delete_run(other.info.run_id)
    return used


def _is_empty(run: Run) -> bool:
    return not (run.data.params or run.data.metrics)


def _parent(
    client: MlflowClient, experiment: str, record: Record, provenance: dict[str, Any]
) -> str:
    """Id of the run that the seeds of `record`'s run are grouped under.

    It trains nothing itself, so it is never left running.
    """
    of_all = {
        "parameters": {k: v for k, v in provenance["parameters"].items() if k != "seed"},
        **{key: provenance[key] for key in ("data", "code", "libraries")},
    }
    fingerprint = hashlib.sha256(json.dumps(of_all, sort_keys=True).encode()).hexdigest()
    tags = {_FINGERPRINT: fingerprint, _PROCESS: record.process}
    run = _run_with(client, experiment, record.files.name, tags)
    if run.info.status == "RUNNING":
        params = [Param(key, str(value)) for key, value in of_all["parameters"].items()]
        said = {
            "mlflow.source.name": provenance["stage"],
            "mlflow.user": _user(),
        }
        logged = [RunTag(key, value) for key, value in said.items()]
        client.log_batch(run.info.run_id, params=params, tags=logged)
        client.set_terminated(run.info.run_id)
    if _NOTE not in run.data.tags:
        note = (
            f"The seeds of `{record.files.name}`. All: `deepnets reproduce {record.files.name}` in "
            "the folder of its study; one: see its page."
        )
        client.set_tag(run.info.run_id, _NOTE, note)
    return str(run.info.run_id)


def end_abandoned(client: MlflowClient, experiment: str) -> None:
    """Set to KILLED what is still RUNNING in `experiment` though its process has ended.

    That is what stays when a training and its tracking process are killed together. Processes of
    other machines are theirs to look after. Runs that `mlflow run` has made are known by the
    processes that work for them; those of a server may do so elsewhere.
    """
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return
    for run in client.search_runs([found.experiment_id], "attributes.status = 'RUNNING'"):
        process = run.data.tags.get(_PROCESS)
        if process:
            abandoned = processes.has_ended(process)
        else:
            local = project.tracking_uri().startswith("sqlite:")
            abandoned = local and not processes.is_worked_for(run.info.run_id)
        if abandoned:
            epochs = client.get_metric_history(run.info.run_id, _EPOCH_METRICS[0])
            ended = max((epoch.timestamp for epoch in epochs), default=run.info.start_time)
            client.set_terminated(run.info.run_id, "KILLED", ended)


def _level_parent(client: MlflowClient, record: Record, parent: str) -> None:
    """Give the parent the means over the seeds that are there, and their standard deviations."""
    trained = files.read_json(record.files.train)
    tested = files.read_json(record.files.test) if record.files.test.is_file() else {}
    values: dict[str, float] = {}
    for prefix, numbers in (("", trained), ("test_", tested)):
        seeds = numbers.pop("seeds", {}).values()
        for key, mean in numbers.items() if seeds else ():
            values[f"{prefix}{key}"] = mean
            of_seeds = [of[key] for of in seeds if key in of]
            if len(of_seeds) > 1 and key.endswith(("accuracy", "loss")):
                values[f"{prefix}{key}_std"] = float(np.std(of_seeds, ddof=1))
    _log_values(client, parent, values, _written(record.files), 0)


def _log_values(
    client: MlflowClient, run_id: str, values: dict[str, float], timestamp: int, step: int
) -> None:
    """Log those of `values` that the run does not have; the same request twice is one."""
    known = client.get_run(run_id).data.metrics
    lacking = [
        Metric(key, value, timestamp, step)
        for key, value in values.items()
        if known.get(key) != value
    ]
    if lacking:
        client.log_batch(run_id, metrics=lacking)


def _written(paths: project.RunFiles) -> int:
    """When the results of a run were last written, in milliseconds since 1970."""
    times = [path.stat().st_mtime_ns for path in (paths.train, paths.test) if path.is_file()]
    return max(times) // 1_000_000


def _state(record: Record, metrics_dir: Path, finished: bool) -> str:
    """A digest of everything that is published, so that a second time costs one look."""
    parts = [metrics_dir / name for name in ("provenance.json", "history.csv", "timing.csv")]
    if finished:
        paths = record.files
        parts += [paths.train, paths.test, paths.model(record.seed)]
        parts += sorted(paths.figures(record.seed).glob("*"))
    digests = "".join(files.file_digest(path) for path in parts if path.is_file())
    return hashlib.sha256(digests.encode()).hexdigest()


def _rows(path: Path, seed: int) -> list[dict[str, float]]:
    return results.rows_of_seed(files.read_csv(path), seed) if path.is_file() else []


def _log_params(client: MlflowClient, run: Run, provenance: dict[str, Any]) -> None:
    params = {
        **provenance["parameters"],
        **{f"{split}_images": count for split, count in provenance["images"].items()},
        "trainable_parameters": provenance["parameter_count"]["trainable"],
    }
    lacking = [
        Param(key, str(value)) for key, value in params.items() if key not in run.data.params
    ]
    if lacking:
        client.log_batch(run.info.run_id, params=lacking)


def _log_inputs(client: MlflowClient, run: Run, provenance: dict[str, Any]) -> None:
    if run.inputs and run.inputs.dataset_inputs:
        return
    digests = {**provenance["data"], "test": provenance["test_data"]}
    contexts = {"train": "training", "validation": "validation", "test": "testing"}
    inputs = [
        DatasetInput(
            Dataset(
                name=f"mnist-{split}",
                # MLflow keeps 36 characters of a digest.
                digest=digests[split][:36],
                source_type="local",
                source=str(project.PROCESSED),
                profile=f'{{"images": {provenance["images"][split]}}}',
            ),
            [InputTag("mlflow.data.context", context)],
        )
        for split, context in contexts.items()
    ]
    client.log_inputs(run.info.run_id, inputs)


def _log_epochs(
    client: MlflowClient,
    run_id: str,
    history: list[dict[str, float]],
    timing: list[dict[str, float]],
) -> None:
    known: dict[str, set[int]] = {
        key: {metric.step for metric in client.get_metric_history(run_id, key)}
        for key in (*_EPOCH_METRICS, *_CLOCK_METRICS)
    }
    lacking = []
    for row, clock in zip(history, timing, strict=True):
        step, finished = int(row["epoch"]), int(clock["finished_ms"])
        values = {key: row[key] for key in _EPOCH_METRICS} | {
            key: clock[key] for key in _CLOCK_METRICS
        }
        lacking += [
            Metric(key, value, finished, step)
            for key, value in values.items()
            if step not in known[key]
        ]
    # MLflow takes at most 1,000 metrics at a time.
    for start in range(0, len(lacking), 1000):
        client.log_batch(run_id, metrics=lacking[start : start + 1000])


def _log_results(
    client: MlflowClient,
    run_id: str,
    record: Record,
    trained: dict[str, Any],
    epochs: int,
) -> None:
    values = {key: value for key, value in trained.items() if key.startswith("best_")}
    if record.files.test.is_file():
        tested = results.of_seed(files.read_json(record.files.test), record.seed) or {}
        values |= {f"test_{key}": value for key, value in tested.items()}
    values = {key: float(value) for key, value in values.items()}
    _log_values(client, run_id, values, _written(record.files), epochs)


def _artifacts(
    paths: project.RunFiles, seed: int, provenance: dict[str, Any]
) -> dict[str, Path | bytes]:
    """By their places among a run's artifacts the files and the texts that belong there."""
    numbers = (paths.history, paths.train, paths.test, paths.predictions, paths.probabilities)
    found: dict[str, Path | bytes] = {
        f"figures/{path.name}": path for path in sorted(paths.figures(seed).glob("*.png"))
    }
    for path in (*numbers, paths.provenance):
        if path.is_file():
            found[f"{_RECORD}/{path.name}"] = path
    # Runs of earlier versions have none.
    patch = provenance["git"].get("patch")
    if patch:
        found[_PATCH] = patch.encode(errors="surrogateescape")
    return found


def _log_artifacts(client: MlflowClient, run_id: str, artifacts: dict[str, Path | bytes]) -> None:
    for place, content in artifacts.items():
        folder, _, name = place.rpartition("/")
        if isinstance(content, Path):
            client.log_artifact(run_id, str(content), folder or None)
            continue
        with TemporaryDirectory() as temporary:
            target = Path(temporary) / name
            target.write_bytes(content)
            client.log_artifact(run_id, str(target), folder or None)


def _has(client: MlflowClient, run: Run, model: Path, artifacts: dict[str, Path | bytes]) -> bool:
    """Whether the store has all `artifacts` of a run, and its model as far as that is here.

    What MLflow notes of them does not say so: they lie in another place, from which they may have
    been removed.
    """
    if model.is_file() and not _has_model(client, run, model):
        return False
    folders = {place.rpartition("/")[0] for place in artifacts}
    there = {
        entry.path: entry.file_size
        for folder in folders
        for entry in client.list_artifacts(run.info.run_id, folder or None)
    }
    sizes = {
        place: content.stat().st_size if isinstance(content, Path) else len(content)
        for place, content in artifacts.items()
    }
    return sizes.items() <= there.items()


def _has_model(client: MlflowClient, run: Run, source: Path) -> bool:
    """Whether the model `source` has been logged as the run's, and is there still."""
    if run.data.tags.get(_MODEL) != _digest(source):
        return False
    found = _logged_models(client, run, run.data.tags[_MODEL])
    return any(
        entry.path == _MODEL_FILE and entry.file_size == source.stat().st_size
        for model in found
        if model.model_id in _model_ids(run)
        for entry in client.list_logged_model_artifacts(model.model_id, "data")
    )


def _tags(record: Record, provenance: dict[str, Any]) -> dict[str, Any]:
    environment = provenance["environment"]
    tags = {
        "mlflow.runName": _run_name(record),
        "mlflow.source.name": provenance["stage"],
        "mlflow.user": _user(),
        _FINGERPRINT: provenance["fingerprint"],
        "dvc.stage": provenance["stage"],
        "git.dirty": provenance["git"]["dirty"],
        "start_digest": provenance["start"],
    }
    if provenance["git"]["commit"]:
        tags["mlflow.source.git.commit"] = tags["git.commit"] = provenance["git"]["commit"]
    for group in ("hardware", "settings", "runtime", "versions"):
        # Runs of earlier versions have no `runtime`.
        tags |= {f"{group}.{key}": value for key, value in environment.get(group, {}).items()}
    return {key: value for key, value in tags.items() if value not in (None, "", [])}


def _note(run_id: str, record: Record, provenance: dict[str, Any]) -> str:
    """How the run is rebuilt, for its page."""
    commit = provenance["git"]["commit"]
    if not commit:
        return "Its record names no commit, since git told none: it cannot be rebuilt from that."
    dirty = ""
    if provenance["git"]["dirty"]:
        recorded = provenance["git"].get("patch")
        dirty = " with changes that nobody recorded"
        if recorded:
            dirty = f" with the changes in the artifact `{_PATCH}`"
    return (
        f"Trained by `{provenance['stage']}` at commit `{commit[:12]}`{dirty}. To rebuild it and "
        f"compare every bit, in a clone of the project: `deepnets reproduce {run_id}`"
        + (f" (seed {record.seed} of {record.seeds})." if record.seeds > 1 else ".")
    )


def fetch_record(name: str, folder: Path) -> tuple[str, int]:
    """Download what one run is rebuilt and compared by, named as in its `metrics_dir`, to `folder`.

    Args:
        name: a run's id, `runs:/ID`, `models:/NAME/VERSION`, or `models:/NAME@ALIAS`.
        folder: exists.

    Returns:
        The run's experiment, and the seed that it was trained with; the files may hold more seeds.

    Raises:
        UserError: MLflow cannot be reached, has no such run, or has not all of it.
    """
    place = f"MLflow at {project.public_uri()}"
    if _lacks_store():
        raise UserError(
            f"{name} is looked for in MLflow, but there is no store at {project.public_uri()}: "
            f"set MLFLOW_TRACKING_URI to the one that has it, or fill this one (`deepnets publish`)"
        )
    try:
        client = connect()
        run = client.get_run(_run_id(client, name))
        artifacts = {entry.path for entry in client.list_artifacts(run.info.run_id, _RECORD)}
        if f"{_RECORD}/{_PROVENANCE}" in artifacts:
            found = Path(client.download_artifacts(run.info.run_id, _RECORD, str(folder)))
            for path in found.iterdir():
                path.replace(folder / path.name)
        experiment = client.get_experiment(run.info.experiment_id).name
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{place} does not give {name} ({in_brief(error)}): see `mlflow ui` for its runs"
        ) from None
    if not (folder / _PROVENANCE).is_file():
        state = run.info.status.lower()
        raise UserError(
            f"{place}: the run {run.info.run_name!r} ({name}, {state}) holds no "
            f"{_RECORD}/{_PROVENANCE}: expected a training of this project that has ended; a "
            "parent of several seeds is rebuilt by the ids of its children"
        )
    _check_patch(client, run, folder)
    return experiment, int(run.data.params["seed"])


def _check_patch(client: MlflowClient, run: Run, folder: Path) -> None:
    """Refuse a record whose changes are not those that its page shows: they will be run."""
    recorded = [of["git"].get("patch") for of in files.read_json(folder / _PROVENANCE).values()]
    shown = None
    if any(entry.path == _PATCH for entry in client.list_artifacts(run.info.run_id)):
        path = Path(client.download_artifacts(run.info.run_id, _PATCH, str(folder)))
        shown = path.read_bytes().decode(errors="surrogateescape")
    if any(patch and patch != shown for patch in recorded):
        raise UserError(
            f"the changes in the record of {run.info.run_name!r} are not those of its artifact "
            f"{_PATCH}: nobody can have read what would be run; ask who trained it"
        )


def _run_id(client: MlflowClient, name: str) -> str:
    """Id of the run that `name` stands for, or that its registered model comes from."""
    if not name.startswith("models:/"):
        return name.removeprefix("runs:/")
    parts = MODEL_URI.fullmatch(name)
    if parts is None:
        raise ValueError("expected models:/NAME/VERSION or models:/NAME@ALIAS")
    found = _version_named(client, parts["name"], parts["alias"] or parts["version"])
    return str(found.run_id or client.get_logged_model(found.model_id).source_run_id)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _log_model(
    client: MlflowClient, run: Run, source: Path, provenance: dict[str, Any], epochs: int
) -> None:
    """What `mlflow.keras.log_model` does, in steps that may each be interrupted and repeated."""
    run_id = run.info.run_id
    model = _find_or_create_model(client, run, str(_digest(source)))
    if model.model_id not in _model_ids(run):
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, epochs)])
    last = [
        Metric(key, metric.value, metric.timestamp, metric.step, model_id=model.model_id)
        for key in client.get_run(run_id).data.metrics
        if not key.startswith("system/")
        for metric in client.get_metric_history(run_id, key)
        if metric.step == epochs
    ]
    client.log_batch(run_id, metrics=last)
    with TemporaryDirectory() as folder:
        described = Model(
            artifact_path=model.artifact_location,
            run_id=run_id,
            model_uuid=model.model_id,
            model_id=model.model_id,
        )
        _save_model(Path(folder), described, source, provenance)
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _find_or_create_model(client: MlflowClient, run: Run, digest: str) -> LoggedModel:
    """The run's logged model with that digest, which may be one that an earlier try began."""
    found = _logged_models(client, run, digest)
    if not found:
        return client.create_logged_model(
            *(run.info.experiment_id, "model", run.info.run_id, {_MODEL: digest}, run.data.params)
        )
    known = _model_ids(run)
    used, *others = sorted(found, key=lambda model: model.model_id not in known)
    for other in others:
        # The server carried out two requests, see `_run_with`.
        if other.model_id not in known:
            client.delete_logged_model(other.model_id)
    return used


def _logged_models(client: MlflowClient, run: Run, digest: str) -> list[LoggedModel]:
    return list(
        client.search_logged_models(
            [run.info.experiment_id],
            f"source_run_id = '{run.info.run_id}' AND tags.{_MODEL} = '{digest}'",
        )
    )


def _model_ids(run: Run) -> set[str]:
    return {model.model_id for model in run.outputs.model_outputs} if run.outputs else set()


def _save_model(folder: Path, described: Model, source: Path, provenance: dict[str, Any]) -> None:
    """What `mlflow.keras.save_model` writes, made from a .keras file without loading it.

    MLflow's own function wants the model in memory, hence TensorFlow, which publish does without.
    """
    environment, size = provenance["environment"], provenance["image_size"]
    backend = environment["settings"]["KERAS_BACKEND"]
    # Training may have run without MLflow; serving needs it.
    versions = {"mlflow": mlflow.__version__} | environment["versions"]
    (folder / "data").mkdir()
    shutil.copyfile(source, folder / _MODEL_FILE)
    files.write_text(folder / "data" / "keras_module.txt", "keras")
    described.signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, size, size, 3), "images")]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, 10), "probabilities")]),
    )
    described.add_flavor(
        "keras",
        data="data",
        keras_version=versions["keras"],
        keras_backend=backend,
        save_exported_model=False,
    )
    mlflow.pyfunc.add_to_model(
        described,
        loader_module="mlflow.keras",
        conda_env="conda.yaml",
        python_env="python_env.yaml",
    )
    described.save(str(folder / "MLmodel"))
    needed = [f"{name}=={versions[name]}" for name in ("mlflow", "keras", backend, "numpy")]
    python = f"python={versions['python']}"
    files.write_text(folder / "requirements.txt", "\n".join(needed) + "\n")
    files.write_text(
        folder / "python_env.yaml",
        f"python: {versions['python']}\ndependencies:\n- -r requirements.txt\n",
    )
    conda = ["name: deepnets", "channels: [conda-forge]", "dependencies:", f"- {python}"]
    conda += ["- pip", "- pip:", *(f"  - {name}" for name in needed)]
    files.write_text(folder / "conda.yaml", "\n".join(conda) + "\n")


def _digest(path: Path) -> str | None:
    return files.file_digest(path) if path.is_file() else None


def crown(client: MlflowClient, name: str, contender: Contender) -> ModelVersion:
    """Have the alias `champion` of the registered model `name` stand for `contender`.

    A champion that ranks as high or higher, on the same validation images, keeps the alias. The
    same model is registered once, however often this is repeated or interrupted.

    Args:
        client: from `connect`.
        name: of the registered model, created if need be.
        contender: a training that the store has been brought level with.

    Returns:
        The version that has the alias now.
    """
    registered = _registered(client, name) or _create_registered(client, name)
    run_id = level(client, contender.record)
    version = _version(client, name, run_id, contender)
    alias = registered.aliases.get(ALIAS)
    if alias is not None and (version is None or str(alias) != str(version.version)):
        reigning = client.get_model_version(name, alias)
        if _keeps(client, reigning, contender):
            return reigning
    description = card(contender, _run_name(contender.record), name)
    if version is None:
        version = _create_version(client, name, run_id, contender, description)
    elif version.description != description:
        client.update_model_version(name, version.version, description)
    if str(alias) != str(version.version):
        client.set_registered_model_alias(name, ALIAS, str(version.version))
    return version


def _registered(client: MlflowClient, name: str) -> RegisteredModel | None:
    found = client.search_registered_models(f"name = '{name}'")
    return client.get_registered_model(name) if found else None


def _create_registered(client: MlflowClient, name: str) -> RegisteredModel:
    try:
        client.create_registered_model(
            name,
            description="The best run of the study by validation accuracy has the alias "
            f"`{ALIAS}`; its model card is the description of that version.",
        )
    except mlflow.MlflowException:
        # Somebody else may have done so meanwhile.
        if _registered(client, name) is None:
            raise
    return client.get_registered_model(name)


def _version(
    client: MlflowClient, name: str, run_id: str, contender: Contender
) -> ModelVersion | None:
    """The version that holds the model of `contender`; None if it was never registered.

    Two publishers at once may have registered it twice: the later version is deleted.
    """
    digest = _digest(contender.record.files.model(contender.record.seed))
    found = [
        version
        for version in client.search_model_versions(f"name = '{name}'")
        if version.run_id == run_id and version.tags.get(_MODEL) == digest
    ]
    used, *others = sorted(found, key=lambda version: int(version.version)) or [None]
    for other in others:
        client.delete_model_version(name, other.version)
    return used


def _create_version(
    client: MlflowClient, name: str, run_id: str, contender: Contender, description: str
) -> ModelVersion:
    digest = _digest(contender.record.files.model(contender.record.seed))
    run = client.get_run(run_id)
    model = _find_or_create_model(client, run, str(digest))
    ranked_by = (contender.val_accuracy, contender.val_loss, contender.validation)
    return client.create_model_version(
        name,
        f"models:/{model.model_id}",
        run_id,
        {_MODEL: str(digest), **dict(zip(_RANKED_BY, map(str, ranked_by), strict=True))},
        description=description,
        model_id=model.model_id,
    )


def _keeps(client: MlflowClient, reigning: ModelVersion, contender: Contender) -> bool:
    """Whether `reigning` is a model of ours that is there still, and not worse than `contender`."""
    if not {*_RANKED_BY, _MODEL} <= set(reigning.tags):
        return False
    accuracy, loss, validation = (reigning.tags[key] for key in _RANKED_BY)
    if validation != contender.validation or (-float(accuracy), float(loss)) > contender.rank:
        return False
    try:
        active = client.get_run(reigning.run_id).info.lifecycle_stage == "active"
        # `model_id` is not given back.
        model_id = reigning.source.removeprefix("models:/")
        there = client.list_logged_model_artifacts(model_id, "data")
    except mlflow.MlflowException:
        return False
    return active and _MODEL_FILE in [entry.path for entry in there]


@contextmanager
def fetched(name: str, version: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The .keras file of a registered model, for the block, and what the model is called.

    Args:
        name: of the registered model.
        version: its number, or an alias.

    Raises:
        UserError: there is no such version, it is not one of ours, or the store cannot be reached.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(_PATIENCE))
    if _lacks_store():
        raise UserError(f"there is no MLflow store yet at {project.public_uri()}: {_NO_MODEL}")
    with TemporaryDirectory() as folder:
        try:
            client = connect()
            found = _ours(client, name, version)
            path = Path(
                mlflow.artifacts.download_artifacts(
                    f"models:/{name}/{found.version}/{_MODEL_FILE}", dst_path=folder
                )
            )
            run = client.get_run(found.run_id).info.run_name
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"the model {name!r} ({version}) cannot be fetched from MLflow at "
                f"{project.public_uri()} ({in_brief(error)}): mend that, or name a .keras file "
                "with --model"
            ) from None
        expected, received = found.tags[_MODEL], files.file_digest(path)
        if expected != received:
            raise UserError(
                f"version {found.version} of {name!r} is not the model that was registered: "
                f"expected sha256 {expected[:12]}..., received {received[:12]}...: delete the "
                "run in MLflow and `deepnets publish` it again"
            )
        described = {"name": run, "source": f"models:/{name}/{found.version}", "sha256": received}
        yield path, described


def _ours(client: MlflowClient, name: str, version: str) -> ModelVersion:
    """The version of a registered model with that number or alias; it must be one of ours."""
    found = _version_named(client, name, version)
    if _MODEL not in found.tags:
        raise UserError(
            f"version {found.version} of {name!r} was not registered by `deepnets publish`: "
            f"name another version, or the alias {ALIAS} once that has been run"
        )
    return found


def _version_named(client: MlflowClient, name: str, version: str) -> ModelVersion:
    """The version of a registered model with that number or alias."""
    registered = _registered(client, name)
    if registered is None:
        others = [model.name for model in client.search_registered_models()]
        there = " or ".join(f"'models:/{other}@{ALIAS}'" for other in sorted(others)[:3])
        raise UserError(
            f"no model is registered as {name!r} in MLflow at {project.public_uri()}: "
            + (f"take another study's by {there}; or " if others else "")
            + _NO_MODEL
        )
    number = version if version.isdecimal() else registered.aliases.get(version)
    known = {str(of.version): of for of in client.search_model_versions(f"name = '{name}'")}
    found = known.get(str(number))
    if found is None:
        kept = ", ".join(sorted(known, key=int)) or "none"
        aliases = ", ".join(sorted(registered.aliases)) or "none"
        raise UserError(
            f"{name!r} has no {version}: expected one of its versions ({kept}) or aliases "
            f"({aliases}): correct it or publish one (`deepnets publish`)"
        )
    return found


def unreachable(error: BaseException) -> str:
    """The one line that says that MLflow could not be brought level, and what to do."""
    return live.warning(f"cannot be reached or refuses ({in_brief(error)})")


def in_brief(error: BaseException) -> str:
    """The beginning of what `error` says, in one line and without credentials."""
    text = str(error).replace(project.tracking_uri(), project.public_uri())
    text = project.without_credentials(" ".join(text.split()))
    return text if len(text) <= 300 else text[:297] + "..."


def main() -> int:
    """Follow the run that the first line of standard input describes, until it ends.

    Returns:
        The exit status: 0, or `live.WARNED`.
    """
    # Whatever stops the training, this process ends by itself once it has said so in MLflow.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # The training that it follows needs the processor more.
    if hasattr(os, "nice"):
        os.nice(10)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(_PATIENCE))
    first = sys.stdin.readline()
    return _Follower(Record.from_json(first)).follow() if first else 0


class _Follower:
    """Keeps the store level with one record. The store may go and come back at any time."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._words: queue.Queue[str] = queue.Queue()
        self._client: MlflowClient | None = None
        self._system: SystemMetricsMonitor | None = None
        self._patience = math.inf
        self._sending = False
        self._failures = 0  # since it was level last
        self._failure: Exception | None = None  # the last one
        self._sign = time.monotonic()  # of life, the last one
        self._warned = record.warned
        self._printing = threading.Lock()

    def follow(self) -> int:
        """Send what there is until what is followed has ended; returns the exit status."""
        if project.tracking_uri().startswith("http"):
            # What is no number, the first request refuses.
            with suppress(ValueError):
                self._patience = float(MLFLOW_HTTP_REQUEST_TIMEOUT.get())
            sys.addaudithook(self._notice)
        threading.Thread(target=self._listen, daemon=True).start()
        word = None if self._record.live else self._words.get()
        while word is None:
            # One failure may be a connection that broke at the wrong moment.
            if not self._send("RUNNING") and self._failures > 1:
                self._warn()
            wait = min(_INTERVAL * 2 ** min(self._failures, 10), _LONGEST_INTERVAL)
            with suppress(queue.Empty):
                word = self._words.get(timeout=wait)
        if word == "finished" or self._record.live:
            self._send_last({"finished": "FINISHED", "failed": "FAILED"}.get(word, "KILLED"))
        return live.WARNED if self._warned else 0

    def _send(self, status: str) -> bool:
        self._sending = True
        try:
            if self._client is None:
                client = connect()
                end_abandoned(client, self._record.experiment)
                self._client = client
            run_id = level(self._client, self._record, status)
            if status == "RUNNING":
                self._sample_system(run_id)
        except Exception as error:
            self._failures += 1
            self._failure = error
        else:
            self._failures, self._failure = 0, None
            self._sign = time.monotonic()
        self._sending = False
        return not self._failures

    def _send_last(self, status: str) -> None:
        # Twice, since an answer may be lost on its way.
        if not self._is_silent() and not self._send(status) and not self._is_silent():
            self._send(status)
        if self._failures:
            self._warn()
        elif self._system:
            self._system.finish()

    def _sample_system(self, run_id: str) -> None:
        """Have the use of CPU, memory and GPU sampled. MLflow's thread ends when it cannot log."""
        if all(thread.name != "SystemMetricsMonitor" for thread in threading.enumerate()):
            self._system = SystemMetricsMonitor(
                run_id, sampling_interval=_SYSTEM_INTERVAL, resume_logging=True
            )
            for monitor in self._system.monitors:
                if isinstance(monitor, gpu_monitor.GPUMonitor):
                    monitor.gpu_handles = _own_card(monitor.gpu_handles)
            self._system.start()

    def _listen(self) -> None:
        """Pass on the last word. Nobody waits for a store that is known to be silent by then."""
        self._words.put(sys.stdin.readline().strip() or "killed")
        if self._is_silent():
            self._warn()
            os._exit(live.WARNED)

    def _notice(self, event: str, _: object) -> None:
        """What is sent follows an answer, or continues what is being taken."""
        if event == "http.client.send" and not self._failures:
            self._sign = time.monotonic()

    def _is_silent(self) -> bool:
        waiting = self._sending or self._failures > 0
        return waiting and time.monotonic() - self._sign > self._patience

    def _warn(self) -> None:
        with self._printing:
            if not self._warned:
                silence = TimeoutError(f"no answer for {self._patience:.0f} s")
                print(unreachable(self._failure or silence), file=sys.stderr, flush=True)
            self._warned = True


def _own_card(cards: list[Any]) -> list[Any]:
    """Of NVML's handles of all cards, that of the training's: others may train on the rest.

    The first that CUDA_VISIBLE_DEVICES names, by its place or by the beginning of its UUID, else
    the first of all. None where it names none that is known here.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    if first.isdecimal():
        return cards[int(first) :][:1]
    if not first.startswith("GPU-"):
        return []
    # A card that falls off the bus says no more who it is, and stops no training.
    with suppress(gpu_monitor.pynvml.NVMLError):
        uuids = [gpu_monitor.pynvml.nvmlDeviceGetUUID(card) for card in cards]
        return [card for card, uuid in zip(cards, uuids, strict=True) if uuid.startswith(first)][:1]
    return []


if __name__ == "__main__":
    sys.exit(main())
