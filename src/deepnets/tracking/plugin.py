"""What MLflow's own commands find out about this project when they run inside it.

MLflow loads this module through its plugin interface. It makes four things work that MLflow's
defaults do not:

- `mlflow run .` files its run in the project's experiment for free-form runs;
- a bare `mlflow run .`, on a machine without conda, uses the environment that it was started
  from. MLproject names conda.yaml, so MLflow would stop and ask for conda; instead it is
  pointed to conda/, which knows this one environment. Where conda is installed, or an
  --env-manager is named, MLflow does what it always does;
- of the parameters that MLproject declares, it files those that it was given; by itself it files
  empty defaults of the others too, which nothing can replace by what params.yaml says;
- `mlflow ui` and its like find the artifacts of a project that has been moved or copied.
"""

import os
import shutil
import sqlite3
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking.default_experiment.abstract_context import DefaultExperimentProvider

from deepnets.base import project
from deepnets.tracking import store

_CONDA_HOME = Path(__file__).parent / "conda"

# What `python -m mlflow` runs.
_MAIN = Path(mlflow.__file__).with_name("__main__.py")


class ProjectExperiment(DefaultExperimentProvider):  # type: ignore[misc]
    """The experiment of a `mlflow run` that names none."""

    def in_context(self) -> bool:
        """Whether this is `mlflow run` inside the project."""
        return _is_mlflow_run(sys.argv) and project.find_root() is not None

    def get_experiment_id(self) -> str:
        """Id of the experiment for free-form runs, created if need be."""
        from deepnets.config import params
        from deepnets.tracking import connection

        _file_given_parameters()
        folder = project.root()
        study = params.load(folder / params.FILE)
        try:
            client = connection.connect()
            return connection.experiment_id(client, f"{study.publish.experiment}-single")
        except MlflowException as error:
            # MLflow would print a traceback, with the credentials in the tracking URI.
            sys.exit(
                f"mlflow run: MLflow at {project.public_uri()} cannot be reached or refuses "
                f"({connection.describe_error(error)}): `deepnets run` trains without it"
            )


def use_this_environment(argv: list[str], environment: MutableMapping[str, str]) -> None:
    """Stand in for conda if `argv` is a bare `mlflow run` and there is no conda."""
    named = any(word.split("=")[0] == "--env-manager" for word in argv)
    has_conda = "MLFLOW_CONDA_HOME" in environment or "CONDA_EXE" in environment
    if _is_mlflow_run(argv) and not named and not has_conda and not shutil.which("conda"):
        environment["MLFLOW_CONDA_HOME"] = str(_CONDA_HOME)
        environment["DEEPNETS_ENVIRONMENT"] = sys.prefix


def bring_store_home(argv: list[str]) -> None:
    """Have MLflow's own commands find the artifacts; see store.py."""
    if _is_mlflow(argv) and project.find_root() is not None:
        # A store that cannot be read or written is MLflow's to complain of.
        with suppress(sqlite3.Error):
            store.bring_home()


def _is_mlflow(argv: list[str]) -> bool:
    """Whether `argv` is that of `mlflow ...` or `python -m mlflow ...`."""
    if len(argv) < 2:
        return False
    if argv[0] == "-m":  # Python has imported the package, and not found its __main__.py yet
        return sys.orig_argv[-len(argv) :][0] == "mlflow"
    return Path(argv[0]).name == "mlflow" or Path(argv[0]) == _MAIN


def _is_mlflow_run(argv: list[str]) -> bool:
    return _is_mlflow(argv) and argv[1] == "run"


def _file_given_parameters() -> None:
    """Have `mlflow run` file no parameter that it was not given."""
    # Not before it is asked for an experiment: MLflow loads this module from the middle of its own.
    from mlflow.projects._project_spec import EntryPoint

    compute = EntryPoint.compute_parameters

    def compute_parameters(self: Any, given: Any, storage_dir: Any) -> Any:
        declared, others = compute(self, given, storage_dir)
        if storage_dir is None:  # this is how MLflow asks for what it files
            declared = {key: value for key, value in declared.items() if key in (given or {})}
        return declared, others

    EntryPoint.compute_parameters = compute_parameters


use_this_environment(sys.argv, os.environ)
bring_store_home(sys.argv)
