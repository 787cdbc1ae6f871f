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
from deepnets.tracking.trainings import TrackedTraining

# Where in a logged model's artifacts the model is.
FILE = "data/model.keras"

# What a served model is loaded by; it goes along.
_LOADER = Path(__file__).parent / "raw_pixels.py"


def has_model(client: MlflowClient, run: Run, source: Path) -> bool:
    """Whether the model `source` has been logged as the run's, and is there still."""
    digest = files.file_digest(source)
    if run.data.tags.get(tags.MODEL_DIGEST) != digest:
        return False
    return any(
        entry.path == FILE and entry.file_size == source.stat().st_size
        for model in _search(client, run, digest)
        if model.model_id in _ids(run)
        for entry in client.list_logged_model_artifacts(model.model_id, "data")
    )


def log_model(client: MlflowClient, run: Run, training: TrackedTraining) -> None:
    """What `mlflow.keras.log_model` does, in steps that may each be interrupted and repeated."""
    run_id, epochs = run.info.run_id, len(training.history)
    model = find_or_create(client, run, files.file_digest(training.model))
    if model.model_id not in _ids(run):
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
        _write(Path(folder), described, training.model, training.provenance)
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def find_or_create(client: MlflowClient, run: Run, digest: str) -> LoggedModel:
    """The run's logged model with that digest, which may be one that an earlier try began."""
    models = _search(client, run, digest)
    if not models:
        return client.create_logged_model(
            run.info.experiment_id,
            "model",
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


def _search(client: MlflowClient, run: Run, digest: str) -> list[LoggedModel]:
    return list(
        client.search_logged_models(
            [run.info.experiment_id],
            f"source_run_id = '{run.info.run_id}' AND tags.{tags.MODEL_DIGEST} = '{digest}'",
        )
    )


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
