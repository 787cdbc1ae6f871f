"""Addresses in MLflow's UI at which a study's runs and curves are."""

import json
import re
from collections.abc import Sequence
from urllib.parse import quote, urlencode

from deepnets.tracking import connection

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Run

from deepnets.base import project
from deepnets.tracking import store

# Where `mlflow ui` shows a store that is no server.
_UI = "http://localhost:5000"
# The UI opens for language models, and so does an experiment that is chosen there: this has it show
# trainings.
_OF_TRAININGS = {"workflowType": "machine_learning"}


def study_pages(experiment: str, rows: Sequence[str]) -> dict[str, str]:
    """Addresses in MLflow's UI that show a study.

    Args:
        experiment: its name.
        rows: names of the study's runs, in their order.

    Returns:
        What there is to see, and where: the runs and their curves, and the validation accuracy of
        one optimizer beside the other if the rows have both. Nothing at all where the store cannot
        be reached or lacks the experiment.
    """
    try:
        if store.is_missing():
            return {}
        client = connection.connect(connection.PATIENCE)
        known = client.get_experiment_by_name(experiment)
        if known is None or known.lifecycle_stage != "active":
            return {}
        runs = _newest(client, known.experiment_id, rows)
    except Exception:
        return {}
    shown = {"runs and curves": _charts(known.experiment_id)}
    optimizers = sorted({run.data.params["optimizer"] for run in runs})
    if len(optimizers) > 1:
        shown[" and ".join(optimizers)] = _curves(known.experiment_id, "val_accuracy", runs)
    return shown


def overview() -> str:
    """Where in MLflow's UI the runs of each experiment are, an experiment a line."""
    try:
        if store.is_missing():
            experiments = []
        else:
            client = connection.connect(connection.PATIENCE)
            experiments = client.search_experiments(order_by=["name ASC"])
    except Exception as error:
        return connection.unreachable(error)
    lines = [
        f"{experiment.name}: {_charts(experiment.experiment_id)}"
        for experiment in experiments
        if experiment.tags.get(store.KIND) == store.OURS
    ]
    return "\n".join(lines or [f"no runs in MLflow at {project.public_uri()} yet: see `make tour`"])


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
    """The name of the row, of `rows`, that a run is a training of, with one seed of several."""
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
