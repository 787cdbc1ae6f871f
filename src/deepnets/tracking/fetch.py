"""What is taken out of MLflow: the record that a run is rebuilt by, and a registered model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from deepnets.tracking import connection

# isort: split
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from deepnets.base import files, project
from deepnets.base.errors import UserError
from deepnets.tracking import logged_models, registry, store, tags
from deepnets.tracking.champion import ALIAS, MODEL_URI
from deepnets.tracking.contents import PROVENANCE, RECORD


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
    if store.is_missing():
        raise UserError(
            f"{name} is looked for in MLflow, but there is no store at {project.public_uri()}: "
            f"set MLFLOW_TRACKING_URI to the one that has it, or fill this one (`deepnets publish`)"
        )
    try:
        client = connection.connect()
        run = client.get_run(_run_id(client, name))
        artifacts = {entry.path for entry in client.list_artifacts(run.info.run_id, RECORD)}
        if f"{RECORD}/{PROVENANCE}" in artifacts:
            record = Path(client.download_artifacts(run.info.run_id, RECORD, str(folder)))
            for path in record.iterdir():
                path.replace(folder / path.name)
        experiment = client.get_experiment(run.info.experiment_id).name
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{place} does not give {name} ({connection.describe_error(error)}): see `mlflow ui` "
            "for its runs"
        ) from None
    if not (folder / PROVENANCE).is_file():
        state = run.info.status.lower()
        raise UserError(
            f"{place}: the run {run.info.run_name!r} ({name}, {state}) holds no "
            f"{RECORD}/{PROVENANCE}: expected a training of this project that has ended; a "
            "parent of several seeds is rebuilt by the ids of its children"
        )
    _check_patch(client, run, folder)
    return experiment, int(run.data.params["seed"])


@contextmanager
def fetch_model(name: str, version: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """The .keras file of a registered model, for the block, and what the model is called.

    Args:
        name: of the registered model.
        version: its number, or an alias.

    Raises:
        UserError: there is no such version, it is not one of ours, or the store cannot be reached.
    """
    if store.is_missing():
        raise UserError(
            f"there is no MLflow store yet at {project.public_uri()}: {registry.NO_MODEL}"
        )
    with TemporaryDirectory() as folder:
        try:
            # A server fetches the whole file from its bucket before it answers.
            client = connection.connect()
            known = registry.find_version(client, name, version)
            if tags.MODEL_DIGEST not in known.tags:
                raise UserError(
                    f"version {known.version} of {name!r} was not registered by `deepnets "
                    f"publish`: name another version, or the alias {ALIAS} once that has been run"
                )
            source = f"models:/{name}/{known.version}"
            path = Path(
                mlflow.artifacts.download_artifacts(
                    f"{source}/{logged_models.FILE}", dst_path=folder
                )
            )
            run = client.get_run(known.run_id).info.run_name
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"the model {name!r} ({version}) cannot be fetched from MLflow at "
                f"{project.public_uri()} ({connection.describe_error(error)}): mend that, or name "
                "a .keras file with --model"
            ) from None
        expected, received = known.tags[tags.MODEL_DIGEST], files.file_digest(path)
        if expected != received:
            raise UserError(
                f"version {known.version} of {name!r} is not the model that was registered: "
                f"expected sha256 {expected[:12]}..., received {received[:12]}...: delete the "
                "run in MLflow and `deepnets publish` it again"
            )
        epoch = known.tags.get(tags.EPOCH, "the last epoch")
        yield path, {"name": run, "source": source, "sha256": received, "epoch": epoch}


def _check_patch(client: MlflowClient, run: Run, folder: Path) -> None:
    """Refuse a record whose changes are not those that its page shows: they will be run."""
    records = files.read_json(folder / PROVENANCE).values()
    shown = None
    if any(entry.path == tags.PATCH for entry in client.list_artifacts(run.info.run_id)):
        path = Path(client.download_artifacts(run.info.run_id, tags.PATCH, str(folder)))
        shown = path.read_bytes().decode(errors="surrogateescape")
    patches = [record["git"].get("patch") for record in records]
    if any(patch and patch != shown for patch in patches):
        raise UserError(
            f"the changes in the record of {run.info.run_name!r} are not those of its artifact "
            f"{tags.PATCH}: nobody can have read what would be run; ask who trained it"
        )


def _run_id(client: MlflowClient, name: str) -> str:
    """Id of the run that `name` stands for, or that its registered model comes from."""
    if not name.startswith("models:/"):
        return name.removeprefix("runs:/")
    parts = MODEL_URI.fullmatch(name)
    if parts is None:
        raise ValueError("expected models:/NAME/VERSION or models:/NAME@ALIAS")
    known = registry.find_version(client, parts["name"], parts["alias"] or parts["version"])
    return str(known.run_id or client.get_logged_model(known.model_id).source_run_id)
