"""MLflow's registered models: the champion of a study, and versions by their number or alias."""

import json
from contextlib import suppress

from deepnets.tracking import connection  # noqa: F401

# isort: split
import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from deepnets.base import files, project
from deepnets.base.errors import UserError
from deepnets.tracking import logged_models, runs, tags
from deepnets.tracking.champion import ALIAS, Contender, card

# What to do where there is no model.
NO_MODEL = (
    "train the study (`make tour`, `dvc repro`), which registers its best run, or name a .keras "
    "file with --model"
)

# The tags of a registered model that say what ranked it.
_RANKED_BY = ("val_accuracy", "val_loss", "validation_digest")


def register_champion(client: MlflowClient, name: str, contender: Contender) -> ModelVersion:
    """Have the alias `champion` of the registered model `name` stand for `contender`.

    A champion that ranks as high or higher, on the same validation images, keeps the alias. The
    same model is registered once, however often this is repeated or interrupted.

    Args:
        client: from `connection.connect`.
        name: of the registered model, created if need be.
        contender: a training that the store has been brought level with.

    Returns:
        The version that has the alias now.
    """
    registered = _find_registered_model(client, name) or _create_registered_model(client, name)
    run_id = runs.sync(client, contender.training)
    digest = files.file_digest(contender.training.model)
    version = _version_of(client, name, run_id, digest)
    alias = registered.aliases.get(ALIAS)
    if alias is not None and (version is None or str(alias) != str(version.version)):
        reigning = client.get_model_version(name, alias)
        if _keeps(client, reigning, contender):
            return reigning
    description = card(contender, contender.training.run_name, name)
    if version is None:
        version = _create_version(client, name, run_id, contender, digest, description)
    elif version.description != description:
        client.update_model_version(name, version.version, description)
    if str(alias) != str(version.version):
        client.set_registered_model_alias(name, ALIAS, str(version.version))
    with suppress(mlflow.MlflowException):  # somebody may have deleted it
        _tell_its_model(client, version)
    return version


def find_version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    """The version of the registered model `name` with that number or alias.

    Raises:
        UserError: there is none; the message says what is.
    """
    registered = _find_registered_model(client, name)
    if registered is None:
        others = [model.name for model in client.search_registered_models()]
        there = " or ".join(f"'models:/{other}@{ALIAS}'" for other in sorted(others)[:3])
        raise UserError(
            f"no model is registered as {name!r} in MLflow at {project.public_uri()}: "
            + (f"take another study's by {there}; or " if others else "")
            + NO_MODEL
        )
    number = version if version.isdecimal() else registered.aliases.get(version)
    known = {str(each.version): each for each in _versions(client, name)}
    if str(number) not in known:
        kept = ", ".join(sorted(known, key=int)) or "none"
        aliases = ", ".join(sorted(registered.aliases)) or "none"
        raise UserError(
            f"{name!r} has no {version}: expected one of its versions ({kept}) or aliases "
            f"({aliases}): correct it or publish one (`deepnets publish`)"
        )
    return known[str(number)]


def _find_registered_model(client: MlflowClient, name: str) -> RegisteredModel | None:
    known = client.search_registered_models(f"name = '{name}'")
    return client.get_registered_model(name) if known else None


def _create_registered_model(client: MlflowClient, name: str) -> RegisteredModel:
    try:
        client.create_registered_model(
            name,
            description="The best run of the study by validation accuracy has the alias "
            f"`{ALIAS}`; its model card is the description of that version.",
        )
    except mlflow.MlflowException:
        # Somebody else may have done so meanwhile.
        if _find_registered_model(client, name) is None:
            raise
    return client.get_registered_model(name)


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    return list(client.search_model_versions(f"name = '{name}'"))


def _version_of(client: MlflowClient, name: str, run_id: str, digest: str) -> ModelVersion | None:
    """The version that holds the run's model with that digest; None if it was never registered.

    Two publishers at once may have registered it twice: the later version is deleted.
    """
    versions = [
        version
        for version in _versions(client, name)
        if version.run_id == run_id and version.tags.get(tags.MODEL_DIGEST) == digest
    ]
    used, *others = sorted(versions, key=lambda version: int(version.version)) or [None]
    for other in others:
        client.delete_model_version(name, other.version)
    return used


def _create_version(
    client: MlflowClient,
    name: str,
    run_id: str,
    contender: Contender,
    digest: str,
    description: str,
) -> ModelVersion:
    model = logged_models.find_or_create(client, client.get_run(run_id), digest)
    ranked_by = (contender.val_accuracy, contender.val_loss, contender.validation)
    return client.create_model_version(
        name,
        f"models:/{model.model_id}",
        run_id,
        {
            tags.MODEL_DIGEST: digest,
            tags.EPOCH: contender.training.which_epoch(),
            **dict(zip(_RANKED_BY, map(str, ranked_by), strict=True)),
        },
        description=description,
        model_id=model.model_id,
    )


def _tell_its_model(client: MlflowClient, version: ModelVersion) -> None:
    """Have the page of the logged model name `version`, as `mlflow.register_model` does."""
    model_id = version.source.removeprefix("models:/")
    said = client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]")
    versions = json.loads(said)
    own = {"name": version.name, "version": str(version.version)}
    if own not in versions:
        told = {MLFLOW_MODEL_VERSIONS: json.dumps([*versions, own])}
        client.set_logged_model_tags(model_id, told)


def _keeps(client: MlflowClient, reigning: ModelVersion, contender: Contender) -> bool:
    """Whether `reigning` is a model of ours that is there still, and not worse than `contender`."""
    if not {*_RANKED_BY, tags.MODEL_DIGEST} <= set(reigning.tags):
        return False
    accuracy, loss, validation = (reigning.tags[key] for key in _RANKED_BY)
    if validation != contender.validation or (-float(accuracy), float(loss)) > contender.rank:
        return False
    try:
        active = client.get_run(reigning.run_id).info.lifecycle_stage == "active"
        # `model_id` is not given back.
        model_id = reigning.source.removeprefix("models:/")
        there = client.list_logged_model_artifacts(model_id, "data")
    except mlflow.MlflowException:
        return False
    return active and logged_models.FILE in [entry.path for entry in there]
