"""The tags of a training's run in MLflow: one more is one line more in `TAGS`.

`deepnets publish` brings it to the runs that were published before as well. A tag that is not named
here is somebody's own and is left alone.
"""

import getpass
from collections.abc import Callable, Mapping
from typing import cast

from deepnets.base import colours
from deepnets.base.errors import UserError
from deepnets.records.differences import ENVIRONMENT_GROUPS
from deepnets.tracking.trainings import TrackedTraining

FINGERPRINT = "fingerprint"
# What says which of a run has been sent: they are no facts of the training, so not in `TAGS`.
PUBLISHED = "published"
MODEL = "model"
MODEL_DIGEST = "model_digest"
# Of a registered version: in words, which epoch's model it is. Earlier ones are the last epoch's.
EPOCH = "epoch"
# Whose run it is, from `processes.identity`.
PROCESS = "process"
# The text at the head of a run's page.
NOTE = "mlflow.note.content"
# That of its curves and its mark in the UI.
COLOUR = "mlflow.runColor"

# Where in a run's artifacts the uncommitted changes are that it was trained with.
PATCH = "sources.patch"

# The value of each tag, given the training: any fact of its files, such as
# `training.provenance["git"]["commit"]` or `training.trained["val_accuracy"]`. A training for which
# it is None, or that was recorded before there was such a fact, has no such tag.
TAGS: dict[str, Callable[[TrackedTraining], object]] = {
    "mlflow.runName": lambda training: training.run_name,
    "mlflow.source.name": lambda training: training.provenance["stage"],
    "mlflow.source.git.commit": lambda training: training.provenance["git"]["commit"],
    FINGERPRINT: lambda training: training.provenance["fingerprint"],
    "dvc.stage": lambda training: training.provenance["stage"],
    "git.commit": lambda training: training.provenance["git"]["commit"],
    "git.dirty": lambda training: training.provenance["git"]["dirty"],
    "start_digest": lambda training: training.provenance["start"],
    "outcome": lambda training: training.outcome,
}


def tags_of(training: TrackedTraining) -> dict[str, str]:
    """All tags that `training` has by `TAGS` and by the environment that it recorded.

    Every entry of the environment is one, as `versions.keras`.

    Raises:
        UserError: a line of `TAGS` is wrong.
    """
    values: dict[str, object] = {}
    for key, value_of in TAGS.items():
        try:
            values[key] = value_of(training)
        except KeyError:
            # Records of earlier versions lack what is recorded since.
            continue
        except (AttributeError, TypeError, ValueError, LookupError) as error:
            raise UserError(
                f"the tag {key!r} of {training.run_name} has no value ({error}): correct its line "
                "in src/deepnets/tracking/tags.py, then run `deepnets publish`"
            ) from error
    environment = dict(training.provenance["environment"])
    for group in ENVIRONMENT_GROUPS:
        entries = cast(dict[str, object], environment.get(group, {}))
        values |= {f"{group}.{key}": value for key, value in entries.items()}
    return {key: str(value) for key, value in values.items() if value not in (None, "", [])}


def lacking_tags(
    training: TrackedTraining, run_id: str, known: Mapping[str, str]
) -> dict[str, str]:
    """What of the tags of `training` its run lacks, or has with another value.

    The note on its page and its colour, which people edit, and who has sent it stay as they are
    once they are there.

    Args:
        training: what the tags are about.
        run_id: of its run in MLflow.
        known: the tags that the run has.
    """
    changed = {key: value for key, value in tags_of(training).items() if known.get(key) != value}
    kept = {NOTE: note(training, run_id), COLOUR: _colour(training), "mlflow.user": user()}
    return changed | {key: value for key, value in kept.items() if value and key not in known}


def _colour(training: TrackedTraining) -> str:
    """That of its optimizer, as in the figures of the report."""
    return colours.optimizer_colour(str(training.provenance["parameters"]["optimizer"]))


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
