"""The models that MLflow keeps of runs ("logged models"): found, begun once, written, looked at."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from deepnets.tracking import connection  # noqa: F401

# isort: split
import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from deepnets.base import files
from deepnets.records.provenance import Provenance
from deepnets.tracking import tags
from deepnets.tracking.trainings import TrackedTraining
from deepnets.training import scores

# Where in a logged model's artifacts the model is.
FILE = "data/model.keras"

# What the models of a run are called: its own, and its best epoch's beside that of the last one.
MODEL, BEST = "model", "best-epoch"

# Of metrics that a run has at its model's epoch, those that are of that model alone.
_OF_RUN = ("test_", "best_")

# What a served model is loaded by; it goes along.
_LOADER = Path(__file__).parent / "raw_pixels.py"


def has_model(client: MlflowClient, run: Run, source: Path) -> bool:
    """Whether the model `source` has been logged as the run's, and is there still."""
    digest = files.file_digest(source)
    return run.data.tags.get(tags.MODEL_DIGEST) == digest and _is_there(client, run, source)


def has_best_model(client: MlflowClient, run: Run, source: Path) -> bool:
    """As `has_model`, of the best epoch's model beside that of the last one."""
    return _is_there(client, run, source, BEST)


def log_model(client: MlflowClient, run: Run, training: TrackedTraining) -> None:
    """What `mlflow.keras.log_model` does, in steps that may each be interrupted and repeated."""
    _log(client, run, training, training.model, training.model_epoch)


def log_best_model(client: MlflowClient, run: Run, training: TrackedTraining, source: Path) -> None:
    """As `log_model`, of the best epoch's model beside that of the last one."""
    _log(client, run, training, source, scores.best_epoch(training.history), BEST)


def log_metrics(client: MlflowClient, run: Run, training: TrackedTraining) -> None:
    """Give the models that were logged of `training` the metrics of their epochs and tests."""
    epoch = training.model_epoch
    wanted = _metrics_at(client, run, epoch)
    _link(client, run, training.model, MODEL, wanted)
    if training.best_model is None:
        return
    epoch = scores.best_epoch(training.history)
    ended = int(training.timing[epoch - 1]["finished_ms"])
    # Of the tests that MLflow has, the last epoch's alone are known by then.
    wanted = [
        metric for metric in _metrics_at(client, run, epoch) if not metric.key.startswith(_OF_RUN)
    ]
    wanted += [
        Metric(f"test_{key}", training.tested[f"best_{key}"], ended, epoch)
        for key in ("accuracy", "loss")
        if f"best_{key}" in training.tested
    ]
    _link(client, run, training.best_model, BEST, wanted)


def find_or_create(client: MlflowClient, run: Run, digest: str, name: str = MODEL) -> LoggedModel:
    """The run's logged model with that digest, which may be one that an earlier try began.

    Args:
        client: from `connection.connect`.
        run: as it is in the store.
        digest: of the model's file.
        name: MODEL, or BEST for that beside it.
    """
    models = _search(client, run, digest, name)
    if not models:
        return client.create_logged_model(
            run.info.experiment_id,
            name,
            run.info.run_id,
            tags={tags.MODEL_DIGEST: digest},
            params=run.data.params,
        )
    known = _ids(run)
    used, *others = sorted(models, key=lambda model: model.model_id not in known)
    for other in others:
        # The server carried out two requests, as it may with those for a run.
        if other.model_id not in known:
            client.delete_logged_model(other.model_id)
    return used


def _log(
    client: MlflowClient,
    run: Run,
    training: TrackedTraining,
    source: Path,
    epoch: int,
    name: str = MODEL,
) -> None:
    model = find_or_create(client, run, files.file_digest(source), name)
    if model.model_id not in _ids(run):
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, epoch)])
    with TemporaryDirectory() as folder:
        described = Model(
            artifact_path=model.artifact_location,
            run_id=run.info.run_id,
            model_uuid=model.model_id,
            model_id=model.model_id,
        )
        _write(Path(folder), described, source, training.provenance)
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _metrics_at(client: MlflowClient, run: Run, epoch: int) -> list[Metric]:
    """The metrics that the store has of the run's `epoch`."""
    return [
        metric
        for key in client.get_run(run.info.run_id).data.metrics
        if not key.startswith("system/")
        for metric in client.get_metric_history(run.info.run_id, key)
        if metric.step == epoch
    ]


def _link(
    client: MlflowClient, run: Run, source: Path, name: str, wanted: Sequence[Metric]
) -> None:
    """Log those of `wanted` that the model has not."""
    for model in _search(client, run, files.file_digest(source), name):
        there = {(metric.key, metric.step, metric.value) for metric in model.metrics or ()}
        lacking = [
            Metric(metric.key, metric.value, metric.timestamp, metric.step, model_id=model.model_id)
            for metric in wanted
            if (metric.key, metric.step, metric.value) not in there
        ]
        client.log_batch(run.info.run_id, metrics=lacking)


def _is_there(client: MlflowClient, run: Run, source: Path, name: str = MODEL) -> bool:
    return any(
        entry.path == FILE and entry.file_size == source.stat().st_size
        for model in _search(client, run, files.file_digest(source), name)
        if model.model_id in _ids(run)
        for entry in client.list_logged_model_artifacts(model.model_id, "data")
    )


def _search(client: MlflowClient, run: Run, digest: str, name: str) -> list[LoggedModel]:
    return [
        model
        for model in client.search_logged_models(
            [run.info.experiment_id],
            f"source_run_id = '{run.info.run_id}' AND tags.{tags.MODEL_DIGEST} = '{digest}'",
        )
        if model.name == name
    ]


def _ids(run: Run) -> set[str]:
    return {model.model_id for model in run.outputs.model_outputs} if run.outputs else set()


def _write(folder: Path, described: Model, source: Path, provenance: Provenance) -> None:
    """What `mlflow.keras.save_model` writes, made from a .keras file without loading it.

    MLflow's own function wants the model in memory, hence TensorFlow, which publish does without.
    """
    environment, size = provenance["environment"], provenance["image_size"]
    backend = environment["settings"]["KERAS_BACKEND"]
    # Training may have run without MLflow; serving needs it.
    versions = {"mlflow": mlflow.__version__} | environment["versions"]
    (folder / "data").mkdir()
    shutil.copyfile(source, folder / FILE)
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
    (folder / "code").mkdir()
    shutil.copyfile(_LOADER, folder / "code" / _LOADER.name)
    _write_example(folder, described, size)
    mlflow.pyfunc.add_to_model(
        described,
        loader_module=_LOADER.stem,
        code="code",
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


def _write_example(folder: Path, described: Model, size: int) -> None:
    """An input that works, in the form of MLflow's own examples: an upright stroke, a 1."""
    image = np.zeros((size, size), np.uint8)
    image[size // 5 : -size // 5, size // 2 - size // 16 : size // 2 + size // 16] = 255
    images = {"images": np.stack([image] * 3, axis=-1)[np.newaxis].tolist()}
    example, request = "input_example.json", "serving_input_example.json"
    files.write_text(folder / example, json.dumps(images))
    files.write_text(folder / request, json.dumps({"inputs": images}))
    described.saved_input_example_info = {
        "artifact_path": example,
        "serving_input_path": request,
        "type": "ndarray",
        "format": "tf-serving",
    }
