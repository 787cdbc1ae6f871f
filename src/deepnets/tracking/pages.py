"""The address in MLflow's UI at which a study's runs are compared.

Publishing notes what it is made of, so that nobody who prints it imports MLflow or asks a server.
"""

import os
from pathlib import Path
from typing import TypedDict, cast
from urllib.parse import quote, urlencode

from deepnets.base import files, project
from deepnets.tracking import store

# The key of the view of an experiment's runs that views.py saves, and the tag that holds it.
_VIEW = "compare-optimizers"
VIEW_TAG = f"mlflow.sharedViewState.{_VIEW}"


class PublishedExperiment(TypedDict):
    """Where an experiment was published: the store, the experiment's id, if it has the view."""

    store: str
    id: str
    view: bool


def note(experiment: str, experiment_id: str, view: bool) -> None:
    """Note that `experiment` is in the store, and whether it has the view there."""
    published = PublishedExperiment(store=project.public_uri(), id=experiment_id, view=view)
    file = _note(experiment)
    if not (file.is_file() and files.read_json(file) == published):
        files.write_json(file, published)


def study_page(experiment: str) -> str | None:
    """The address that shows the runs of `experiment`; None where it was not published there."""
    file = _note(experiment)
    if store.is_missing() or not file.is_file():
        return None
    published = cast(PublishedExperiment, files.read_json(file))
    if published["store"] != project.public_uri():
        return None
    return address(published["id"], published["view"])


def address(experiment_id: str, view: bool) -> str:
    """The address of an experiment's curves: in the view if it has one, else among all charts.

    It has only characters that a terminal takes for part of an address.
    """
    uri = project.tracking_uri()
    # A browser asks for the name and the password itself.
    server = project.public_uri().replace("***@", "") if uri.startswith("http") else local_ui()
    query = {"viewStateShareKey": _VIEW} if view else {}
    # The UI opens for language models, and with a table: this has it show trainings, and charts.
    query |= {"compareRunsMode": "CHART", "workflowType": "machine_learning"}
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def local_ui() -> str:
    """Where `mlflow ui` shows a store that is no server."""
    return f"http://localhost:{os.environ.get('MLFLOW_PORT') or 5000}"


def overview() -> str:
    """Where in MLflow's UI the runs of each experiment are compared, an experiment a line."""
    from deepnets.tracking import connection

    try:
        if store.is_missing():
            experiments = []
        else:
            client = connection.connect(connection.PATIENCE)
            experiments = client.search_experiments(order_by=["name ASC"])
    except Exception as error:
        return connection.unreachable_warning(error)
    lines = [
        f"{experiment.name}: {address(experiment.experiment_id, VIEW_TAG in experiment.tags)}"
        for experiment in experiments
        if experiment.tags.get(store.KIND) == store.OURS
    ]
    return "\n".join(lines or [f"no runs in MLflow at {project.public_uri()} yet: see `make tour`"])


def _note(experiment: str) -> Path:
    return project.store_root() / project.PUBLISHED / f"{quote(experiment, safe=' ')}.json"
