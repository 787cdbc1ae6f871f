"""The models that MLflow keeps of runs ("logged models"): found, begun once, written, looked at."""

import json
import shutil
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
from deepnets.tracking.trainings import BEST, MODEL, TrackedModel, TrackedTraining

# Where in a logged model's artifacts the model is.
FILE = "data/model.keras"

# Of metrics that a run has at its model's epoch, those that are of that model alone.
_OF_RUN = ("test_", "best_")

# What a served model is loaded by; it goes along.
_LOADER = Path(__file__).parent / "raw_pixels.py"


def has_model(client: MlflowClient, run: Run, model: TrackedModel) -> bool:
    """Whether `model` has been logged as the run's, and is there still."""
    # Of its own one the run says when all of it had been sent.
    if model.name == MODEL and run.data.tags.get(tags.MODEL_DIGEST) != model.digest:
        return False
    return any(
        entry.path == FILE and entry.file_size == model.path.stat().st_size
        for logged in _search(client, run, model.digest, model.name)
        if logged.model_id in _ids(run)
        for entry in client.list_logged_model_artifacts(logged.model_id, "data")
    )


def log_model(
    client: MlflowClient, run: Run, training: TrackedTraining, model: TrackedModel
) -> None:
    """What `mlflow.keras.log_model` does, in steps that may each be interrupted and repeated."""
    logged = find_or_create(client, run, model.digest, model.name)
    if logged.model_id not in _ids(run):
        client.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, model.epoch)])
    with TemporaryDirectory() as folder:
        described = Model(
            artifact_path=logged.artifact_location,
            run_id=run.info.run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        )
        _write(Path(folder), described, model.path, training.provenance)
        client.log_model_artifacts(logged.model_id, folder)
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)


def log_metrics(
    client: MlflowClient, run: Run, training: TrackedTraining, model: TrackedModel
) -> None:
    """Give `model`, which was logged of `training`, the metrics of its epoch and its tests."""
    wanted = _metrics_at(client, run, model.epoch)
    if model.name == BEST:
        ended = int(training.timing[model.epoch - 1]["finished_ms"])
        # Of the tests that MLflow has, the last epoch's alone are known by then.
        wanted = [metric for metric in wanted if not metric.key.startswith(_OF_RUN)]
        wanted += [
            Metric(f"test_{key}", training.tested[f"best_{key}"], ended, model.epoch)
            for key in ("accuracy", "loss")
            if f"best_{key}" in training.tested
        ]
    for logged in _search(client, run, model.digest, model.name):
        there = {(metric.key, metric.step, metric.value) for metric in logged.metrics or ()}
        lacking = [
            Metric(
                metric.key, metric.value, metric.timestamp, metric.step, model_id=logged.model_id
            )
            for metric in wanted
            if (metric.key, metric.step, metric.value) not in there
        ]
        client.log_batch(run.info.run_id, metrics=lacking)


def find_or_create(client: MlflowClient, run: Run, digest: str, name: str = MODEL) -> LoggedModel:
    """The run's logged model with that digest, which may be one that an earlier try began.

    Args:
        client: from `connection.connect`.
        run: as it is in the store.
        digest: of the model's file.
        name: of a `TrackedModel`.
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


def _metrics_at(client: MlflowClient, run: Run, epoch: int) -> list[Metric]:
    """The metrics that the store has of the run's `epoch`."""
    return [
        metric
        for key in client.get_run(run.info.run_id).data.metrics
        if not key.startswith("system/")
        for metric in client.get_metric_history(run.info.run_id, key)
        if metric.step == epoch
    ]


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
