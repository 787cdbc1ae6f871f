"""The tags of a training's run in MLflow. A tag more is a line more in `TAGS`.

`deepnets publish` brings it to the runs that were published before as well.
"""

import getpass
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from deepnets.tracking.trainings import TrackedTraining

# Tags that runs are found by, and that say what of a run has been sent. They are not in `TAGS`.
FINGERPRINT = "fingerprint"
PUBLISHED = "published"
MODEL_DIGEST = "model_digest"
# Whose run it is, from `processes.identity`.
PROCESS = "process"
# The text at the head of a run's page. It is the user's once it is there.
NOTE = "mlflow.note.content"

# Where in a run's artifacts the uncommitted changes are that it was trained with.
PATCH = "sources.patch"

# By its name each tag of a training, for its value; a training for which that is None has none.
TAGS: dict[str, Callable[[TrackedTraining], object]] = {
    "mlflow.runName": lambda training: training.run_name,
    "mlflow.source.name": lambda training: training.provenance["stage"],
    "mlflow.source.git.commit": lambda training: training.provenance["git"]["commit"],
    "mlflow.user": lambda training: user(),
    FINGERPRINT: lambda training: training.provenance["fingerprint"],
    "dvc.stage": lambda training: training.provenance["stage"],
    "git.commit": lambda training: training.provenance["git"]["commit"],
    "git.dirty": lambda training: training.provenance["git"]["dirty"],
    "start_digest": lambda training: training.provenance["start"],
    "outcome": lambda training: training.outcome,
}

# Parts of the recorded environment, of which every entry is a tag, as `versions.keras`.
_GROUPS = ("hardware", "settings", "runtime", "versions")


def tags_of(training: TrackedTraining) -> dict[str, str]:
    """All tags that `training` has by `TAGS` and by the environment that it recorded."""
    values: dict[str, object] = {}
    for key, value_of in TAGS.items():
        # Records of earlier versions lack what is recorded since.
        with suppress(KeyError):
            values[key] = value_of(training)
    environment = dict(training.provenance["environment"])
    for group in _GROUPS:
        entries = cast(dict[str, object], environment.get(group, {}))
        values |= {f"{group}.{key}": value for key, value in entries.items()}
    return {key: str(value) for key, value in values.items() if value not in (None, "", [])}


def note(training: TrackedTraining, run_id: str) -> str:
    """How the run is rebuilt, for its page."""
    provenance = training.provenance
    commit = provenance["git"]["commit"]
    if not commit:
        return "Its record names no commit, since git told none: it cannot be rebuilt from that."
    dirty = ""
    if provenance["git"]["dirty"]:
        recorded = provenance["git"].get("patch")
        dirty = " with changes that nobody recorded"
        if recorded:
            dirty = f" with the changes in the artifact `{PATCH}`"
    return (
        f"Trained by `{provenance['stage']}` at commit `{commit[:12]}`{dirty}. To rebuild it and "
        f"compare every bit, in a clone of the project: `deepnets reproduce {run_id}`"
        + (f" (seed {training.seed} of {training.seeds})." if training.seeds > 1 else ".")
    )


def note_of_seeds(name: str) -> str:
    """How the runs are rebuilt that have the run `name` for their parent, for its page."""
    return (
        f"The seeds of `{name}`. All: `deepnets reproduce {name}` in the folder of its study; "
        "one: see its page."
    )


def user() -> str | None:
    """Who runs this process, if that is known."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
