"""The connection to the project's store: how it is opened, its experiments, its refusals.

Whatever else imports MLflow imports this module first: MLflow is told here how to behave.
"""

import logging
import os
import re
import warnings
from contextlib import chdir

from filelock import FileLock

from deepnets.base import files, project
from deepnets.tracking import live, store

# Quiet and private: no usage telemetry, no hints about other products.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# It would print the address of every run that it ends, credentials included.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# MLflow would repeat a request whose answer was lost, and create a second run. `runs.sync` is
# repeated instead: it looks at what is there before it sends anything.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

import mlflow
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE

# Seconds that a server may leave a request unanswered that somebody waits for: the longest that it
# can hold a training at its end. `publish`, for which nothing waits, gives it a minute.
PATIENCE = 10

# A stage below `mlflow run` inherits the first three, and all stages would write into that one run.
# Where it is meant, it is named explicitly (TrackedTraining.mlflow_run_id). By the next two every
# metric would be that of a model which is not ours, by the last one be taken for sent before it is.
_INHERITED = (
    *("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"),
    *("MLFLOW_ACTIVE_MODEL_ID", "_MLFLOW_ACTIVE_MODEL_ID"),
    "MLFLOW_ENABLE_ASYNC_LOGGING",
)

# What stands between an address and what went wrong there: the address, once more.
_REPEATED = re.compile(r"HTTPS?ConnectionPool\([^)]*\): (Max retries exceeded with url: \S+ )?")

_EXPERIMENT_TAGS = {
    store.KIND: store.OURS,
    "mlflow.note.content": (
        "One run a row of the study, and one a seed. To compare optimizers: choose "
        "**Compare optimizers** among the views, then the icon of a chart for curves, or that of a "
        "list for a table."
    ),
}


def connect(patience: int = 60) -> MlflowClient:
    """A client for the project's store, which is created first if it is a new SQLite file.

    MLflow makes such a file in a hundred steps. Several processes at once destroy each other's work
    on it, and one that is killed leaves a file that nobody can open: so it is made under a lock and
    in another place. One that has been moved or copied is made to lead to its own artifacts.

    Args:
        patience: seconds that a server has for an answer, where the user has not set them.

    Raises:
        MlflowException: the store is one that can never hold anything.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(patience))
    for name in ("mlflow", "alembic", "urllib3"):
        # What goes wrong is said once, by `unreachable_warning`, and without credentials.
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


def experiment_id(client: MlflowClient, name: str) -> str:
    """Id of the experiment `name`, created if need be; safe when several processes ask at once.

    Raises:
        MlflowException: among others, its artifacts would be written into another copy of the
            project.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            address = store.new_address(name)
            return str(client.create_experiment(name, address, tags=_EXPERIMENT_TAGS))
        except mlflow.MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    kind = experiment.tags.get(store.KIND)
    other = store.other_copy(name, experiment.artifact_location, kind)
    if other is not None:
        raise mlflow.MlflowException(
            "choose another publish.experiment or MLFLOW_TRACKING_URI, since the artifacts of "
            f"{name!r} are in another copy of the project, {other}"
        )
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def unreachable_warning(error: BaseException) -> str:
    """The one line that says that MLflow could not be brought level, and what to do."""
    return live.warning(f"cannot be reached or refuses ({describe_error(error)})")


def describe_error(error: BaseException) -> str:
    """The beginning of what `error` says, in one line and without credentials, and what may help.

    A server that has its artifacts in a bucket says that it failed, and not that the bucket did.
    """
    text = str(error).replace(project.tracking_uri(), project.public_uri())
    text = project.hide_credentials(" ".join(text.split()))
    text = _REPEATED.sub("", text)
    brief = text if len(text) <= 300 else text[:297] + "..."
    if "timed out" in text:
        brief += "; MLFLOW_HTTP_REQUEST_TIMEOUT=600 (seconds) waits longer"
    elif "/mlflow-artifacts/" in text:
        brief += "; the server's log says what is wrong with the bucket or disk behind it"
    return brief


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
