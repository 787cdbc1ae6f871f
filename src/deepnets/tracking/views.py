"""The view of an experiment's runs that compares optimizers, as MLflow's UI keeps it.

A saved view is a tag of the experiment: its name, when it was made and changed, and the state of
the page, in the words of the UI (`ExperimentPageUIState` and `RunsChartsCardConfig` in MLflow's
sources). MLflow has such views since 3.15: what older ones take for one opens as an error there.
"""

import json
import re
import time
from typing import Any, TypedDict

from deepnets.tracking import connection  # noqa: F401

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from deepnets.base import project
from deepnets.tracking import epoch_images, pages

NAME = "Compare optimizers"

_FIRST_WITH_VIEWS = (3, 15)


class View(TypedDict):
    """What the tag of a view holds, as JSON; `state` is JSON once more."""

    name: str
    createdAt: int
    updatedAt: int
    state: str


def show(client: MlflowClient, experiment: Experiment) -> None:
    """Give `experiment` the view, and note where it is seen.

    Raises:
        MlflowException: among others, the store does not take the view; its address is noted.
    """
    has_view = pages.VIEW_TAG in experiment.tags
    try:
        has_view = sync(client, experiment)
    finally:
        pages.note(experiment.name, experiment.experiment_id, has_view)


def sync(client: MlflowClient, experiment: Experiment) -> bool:
    """Give `experiment` the view, as this version of the project has it; returns if it has it now.

    It has not where the server is of an older MLflow. Asks for nothing where there is nothing to
    change. A view that somebody has renamed or saved anew in the UI is theirs, and stays.
    """
    there = _read(experiment.tags.get(pages.VIEW_TAG))
    if there is None:
        if not _knows_views():
            return False
    elif there["name"] != NAME or there["updatedAt"] != there["createdAt"]:
        return True
    state = json.dumps(_state(), separators=(",", ":"))
    if there is None or there["state"] != state:
        now = time.time_ns() // 1_000_000
        view = View(name=NAME, createdAt=now, updatedAt=now, state=state)
        client.set_experiment_tag(experiment.experiment_id, pages.VIEW_TAG, json.dumps(view))
    return True


def _read(value: str | None) -> View | None:
    """The view that a tag holds; None where it holds none that the UI would open."""
    try:
        view = json.loads(value or "")
        made = view["createdAt"]
        return View(
            name=view["name"],
            createdAt=made,
            updatedAt=view.get("updatedAt", made),
            state=view["state"],
        )
    except (ValueError, TypeError, KeyError):
        return None


def _knows_views() -> bool:
    """Whether the MLflow that shows the store has saved views."""
    uri = project.tracking_uri()
    if not uri.startswith("http"):
        # Shown by the one that is installed here, which is not older.
        return True
    answer = http_request(get_default_host_creds(uri), "/version", "GET", raise_on_status=False)
    version = re.match(r"(\d+)\.(\d+)", answer.text if answer.status_code == 200 else "")
    return version is not None and tuple(map(int, version.groups())) >= _FIRST_WITH_VIEWS


def _state() -> dict[str, Any]:
    """The page: a table by optimizer, curves by epoch, and what led to which accuracy.

    Runs are the trainings, each seed for itself. What groups the seeds of a row has no curves: it
    is left out by what it lacks, the tag of the stage.
    """
    settings = ["arch", "optimizer", "weights"]
    results = ["val_accuracy", "test_accuracy"]
    # Their widths in pixels: all of them are seen in a window of 1600.
    columns = {
        **{_key("params", name): 80 for name in settings},
        **{_key("metrics", name): 110 for name in results},
        _key("tags", "outcome"): 95,
    }
    name, created = _key("attributes", "Run Name"), "runDateAndNestInfo"
    return {
        "searchFilter": "tags.`dvc.stage` LIKE '%'",
        "orderByKey": _key("metrics", "val_accuracy"),
        "orderByAsc": False,
        "selectedColumns": list(columns),
        "columnOrder": [name, created, *columns],
        "columnWidths": {name: 200, created: 105} | columns,
        # Grouped in the table, with the mean of each group, and drawn run by run.
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "param", "groupByData": "optimizer"}],
        },
        "useGroupedValuesInCharts": False,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [
            *(_curve(metric) for metric in ("val_accuracy", "val_loss")),
            _chart("PARALLEL", "settings")
            | {"selectedParams": settings, "selectedMetrics": results, "showAllRuns": True},
            *(_images(key) for key in epoch_images.DRAWN),
        ],
        # MLflow adds a chart of every other metric, to sections of these two names.
        "compareRunSections": [
            _section("curves", "Curves by epoch", columns=2, cardHeight=360),
            _section("settings", "Settings and results", columns=1, cardHeight=300),
            _section("images", "Validation images by epoch", columns=2, cardHeight=420),
            _section("others", "Model metrics", display=False),
            _section("system", "System metrics", display=False),
        ],
        # Leaves the sections in this order.
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }


def _key(kind: str, name: str) -> str:
    """How the UI names a column or an order."""
    return f"{kind}.`{name}`"


def _curve(metric: str) -> dict[str, Any]:
    """A chart of `metric` by epoch, as it was measured: the UI's own default smooths."""
    return _chart("LINE", "curves", metric) | {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "useGlobalXaxisKey": False,
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": False,
        "displayPoints": True,
    }


def _images(key: str) -> dict[str, Any]:
    """The images of that key, with a slider over the epochs; the UI shows those of ten runs."""
    return _chart("IMAGE", "images", key) | {"imageKeys": [key], "step": 1, "showRunParams": False}


def _chart(kind: str, section: str, name: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": f"{section}-{name}",
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
    }


def _section(uuid: str, name: str, display: bool = True, **size: int) -> dict[str, Any]:
    shown = {"uuid": uuid, "name": name, "display": display, "isReordered": display}
    return {**shown, **size}
