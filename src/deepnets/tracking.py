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
import os
import queue
import shutil
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from filelock import FileLock

from deepnets import files, project, results
from deepnets.live import Record

# Quiet and private: no usage telemetry, no hints about other products.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# MLflow's own defaults retry a dead server for minutes in every call.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.models import Model, ModelSignature
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

# A stage below `mlflow run` inherits these, and all stages would write into that one run. Where it
# is meant, it is named explicitly (Record.mlflow_run_id).
_INHERITED = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")

# Tags that this module finds its own work by.
_FINGERPRINT = "fingerprint"
_PUBLISHED = "published"
_MODEL = "model_digest"

# Seconds between two looks at the files of a running training.
_INTERVAL = 2.0
# Seconds between two samples of CPU, memory and GPU use.
_SYSTEM_INTERVAL = 5.0

_EPOCH_METRICS = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
_CLOCK_METRICS = ("seconds", "images_per_second")

# The UI shows an experiment of this kind as a table of training runs.
_EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": (
        "One run a row of the study. To compare optimizers: tick the runs (or group them by the "
        "parameter `optimizer`), press **Compare**, and look at `val_accuracy` and `val_loss`."
    ),
}


def connect() -> MlflowClient:
    """A client for the project's store, which is created first if it is a new SQLite file.

    Several processes that migrate one fresh SQLite file at once destroy each other's work, so
    that happens under a lock.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="mlflow")
    for variable in _INHERITED:
        os.environ.pop(variable, None)
    uri = project.tracking_uri()
    mlflow.set_tracking_uri(uri)
    if not uri.startswith("sqlite:"):
        return MlflowClient()
    database = Path(uri.removeprefix("sqlite:///"))
    with FileLock(database.with_name(f".{database.name}.lock")):
        client = MlflowClient()
        client.search_experiments(max_results=1)
    return client


def experiment_id(client: MlflowClient, name: str) -> str:
    """Id of the experiment `name`, created if need be; safe when several processes ask at once."""
    found = client.get_experiment_by_name(name)
    if found is None:
        artifacts = None
        if project.tracking_uri().startswith("sqlite:"):
            artifacts = (project.store_root() / "mlruns").as_uri() + "/" + name.replace(" ", "-")
        try:
            return str(client.create_experiment(name, artifacts, tags=_EXPERIMENT_TAGS))
        except mlflow.MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


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
    if run.data.tags.get(_PUBLISHED) == state and run.info.status == status:
        return run_id

    history = _rows(metrics_dir / paths.history.name, record.seed)
    timing = _rows(metrics_dir / paths.timing.name, record.seed)
    _log_params(client, run, provenance)
    _log_inputs(client, run, provenance)
    _log_epochs(client, run_id, history, timing)
    tags = _tags(record, provenance)
    if finished:
        trained = results.of_seed(files.read_json(paths.train), record.seed) or {}
        tags["outcome"] = results.outcome(trained)
        _log_results(client, run_id, record, trained, timing)
        model = paths.model(record.seed)
        if run.data.tags.get(_MODEL) != _digest(model):
            _log_model(run, model, provenance, len(history))
            tags[_MODEL] = _digest(model)
        _log_artifacts(client, run_id, paths, record.seed)
    tags[_PUBLISHED] = state
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
    tags = {_FINGERPRINT: str(provenance["fingerprint"])}
    if record.seeds > 1:
        tags[MLFLOW_PARENT_RUN_ID] = _parent(client, experiment, record, provenance)
    return _run_with(client, experiment, _run_name(record), tags)


def _run_name(record: Record) -> str:
    name = record.files.name
    return name if record.seeds == 1 else f"{name}-seed-{record.seed}"


def _run_with(client: MlflowClient, experiment: str, name: str, tags: dict[str, str]) -> Run:
    """The run of that name with that fingerprint; created with all `tags` if there is none."""
    found = client.search_runs(
        [experiment],
        f"tags.{_FINGERPRINT} = '{tags[_FINGERPRINT]}' and attributes.run_name = '{name}'",
        run_view_type=ViewType.ACTIVE_ONLY,
        max_results=1,
    )
    if found:
        return found[0]
    run = client.create_run(experiment, run_name=name, tags=tags)
    return client.get_run(run.info.run_id)


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
    run = _run_with(client, experiment, record.files.name, {_FINGERPRINT: fingerprint})
    if not run.data.params:
        params = [Param(key, str(value)) for key, value in of_all["parameters"].items()]
        tags = [RunTag("mlflow.source.name", provenance["stage"]), RunTag("mlflow.user", _user())]
        client.log_batch(run.info.run_id, params=params, tags=tags)
        client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


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
    known = client.get_run(parent).data.metrics
    now = time.time_ns() // 1_000_000
    lacking = [Metric(key, v, now, 0) for key, v in values.items() if known.get(key) != v]
    if lacking:
        client.log_batch(parent, metrics=lacking)


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
    timing: list[dict[str, float]],
) -> None:
    values = {key: value for key, value in trained.items() if key.startswith("best_")}
    if record.files.test.is_file():
        tested = results.of_seed(files.read_json(record.files.test), record.seed) or {}
        values |= {f"test_{key}": value for key, value in tested.items()}
    known = client.get_run(run_id).data.metrics
    finished = int(timing[-1]["finished_ms"]) if timing else time.time_ns() // 1_000_000
    lacking = [
        Metric(key, float(value), finished, len(timing))
        for key, value in values.items()
        if known.get(key) != float(value)
    ]
    if lacking:
        client.log_batch(run_id, metrics=lacking)


def _log_artifacts(client: MlflowClient, run_id: str, paths: project.RunFiles, seed: int) -> None:
    for path in sorted(paths.figures(seed).glob("*.png")):
        client.log_artifact(run_id, str(path), "figures")
    for path in (paths.history, paths.train, paths.test, paths.predictions, paths.provenance):
        if path.is_file():
            client.log_artifact(run_id, str(path), "metrics")


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


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _log_model(run: Run, model: Path, provenance: dict[str, Any], epochs: int) -> None:
    size = provenance["image_size"]
    # MLflow files a model in the current experiment, whatever that of its run is.
    mlflow.set_experiment(experiment_id=run.info.experiment_id)
    Model.log(
        artifact_path=None,
        name="model",
        flavor=_SavedKerasModel,
        run_id=run.info.run_id,
        step=epochs,
        source=model,
        environment=provenance["environment"],
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype(np.uint8), (-1, size, size, 3), "images")]),
            Schema([TensorSpec(np.dtype(np.float32), (-1, 10), "probabilities")]),
        ),
    )


class _SavedKerasModel:
    """What `mlflow.keras.save_model` writes, made from a .keras file without loading it.

    MLflow's own function wants the model in memory, hence TensorFlow, which publish does without.
    """

    @staticmethod
    def save_model(
        path: str,
        mlflow_model: Model,
        source: Path,
        environment: dict[str, Any],
        signature: ModelSignature,
    ) -> None:
        backend = environment["settings"]["KERAS_BACKEND"]
        # Training may have run without MLflow; serving needs it.
        versions = {"mlflow": mlflow.__version__} | environment["versions"]
        folder = Path(path)
        (folder / "data").mkdir(parents=True)
        shutil.copyfile(source, folder / "data" / "model.keras")
        files.write_text(folder / "data" / "keras_module.txt", "keras")
        mlflow_model.signature = signature
        mlflow_model.add_flavor(
            "keras",
            data="data",
            keras_version=versions["keras"],
            keras_backend=backend,
            save_exported_model=False,
        )
        mlflow.pyfunc.add_to_model(
            mlflow_model,
            loader_module="mlflow.keras",
            conda_env="conda.yaml",
            python_env="python_env.yaml",
        )
        mlflow_model.save(str(folder / "MLmodel"))
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


def main() -> None:
    """Follow the run that the first line of standard input describes, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The training that it follows needs the processor more.
    if hasattr(os, "nice"):
        os.nice(10)
    words: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=[words], daemon=True).start()
    try:
        _follow(Record.from_json(words.get()), words)
    except Exception as error:
        print(unreachable(error), file=sys.stderr, flush=True)


def unreachable(error: BaseException) -> str:
    """The one line that says that MLflow could not be brought level, and what to do."""
    text = project.without_credentials(" ".join(str(error).split()))
    return (
        f"MLflow at {project.public_uri()} cannot be reached or refuses "
        f"({text if len(text) <= 160 else text[:157] + '...'}): nothing is lost, "
        "`deepnets publish` sends what it lacks later"
    )


def _listen(words: "queue.Queue[str]") -> None:
    """Put each line of standard input on `words`, and `killed` when it ends without a last one."""
    for line in sys.stdin:
        words.put(line.strip())
    words.put("killed")


def _follow(record: Record, words: "queue.Queue[str]") -> None:
    client = connect()
    word = None
    if record.live is None:
        word = words.get()
    else:
        run_id = level(client, record, "RUNNING")
        system = SystemMetricsMonitor(
            run_id, sampling_interval=_SYSTEM_INTERVAL, resume_logging=True
        )
        system.start()
        while word is None:
            try:
                word = words.get(timeout=_INTERVAL)
            except queue.Empty:
                level(client, record, "RUNNING")
        system.finish()
    if word == "finished":
        level(client, record)
    elif record.live is not None:
        level(client, record, "FAILED" if word == "failed" else "KILLED")


if __name__ == "__main__":
    main()
