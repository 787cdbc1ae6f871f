"""A row of the grid laid over what it leaves out, and what no resolved run may be.

What needs no other section than the row, `train` and the recipes is refused here; the rest in
`params`.
"""

from collections.abc import Mapping
from typing import get_args

from deepnets.base.errors import UserError
from deepnets.config.fields import DRAWN_WEIGHTS, Row
from deepnets.config.registry import OwnVariant
from deepnets.config.sections import Recipe, RunEntry, RunParams, Train, owners


def resolve(train: Train, recipes: Mapping[str, Recipe], entry: RunEntry, seed: int) -> RunParams:
    """Lay a run's own values over its optimizer's settings in the recipe and the shared ones.

    Raises:
        ValueError: the entry holds a setting of another optimizer or network, or settings that
            exclude each other; or the recipe is not there, or has nothing for the entry's optimizer
            or arch. The message says so.
    """
    own = entry.own
    recipe = own.get("recipe", train.recipe)
    if recipe not in recipes:
        raise ValueError(f"no recipe is called {recipe!r}: expected {', '.join(recipes)}")
    given = getattr(recipes[recipe], entry.optimizer)
    if given is None:
        raise ValueError(f"recipe {recipe} has no settings of {entry.optimizer}: add them")
    settings = given.model_dump()
    if isinstance(settings["learning_rate"], dict):
        if entry.arch not in settings["learning_rate"]:
            raise ValueError(f"recipe {recipe} has no {entry.optimizer} rate for {entry.arch}")
        settings["learning_rate"] = settings["learning_rate"][entry.arch]
    values = train.model_dump() | settings | {"seed": seed}
    foreign = sorted(set(own) - set(values) - set(Row.model_fields))
    if foreign:
        raise ValueError(f"{foreign[0]} is not a setting of {entry.optimizer}: remove it")
    values |= own
    if values["decay"] == "learning_rate/epochs":
        values["decay"] = values["learning_rate"] / values["epochs"]
    run = RunParams(**values)
    _check_variant(run)
    return run


def _check_variant(run: RunParams) -> None:
    """Refuse settings that do not go together, with a ValueError."""
    for key in get_args(OwnVariant):
        if getattr(run, key) != type(run).model_fields[key].default:
            have = owners(key)
            if run.arch not in have:
                raise ValueError(
                    f"{key} is a setting of {' and '.join(have)}, not of {run.arch}: remove it"
                )
    if run.batch_norm and run.highway:
        raise ValueError("batch_norm and highway are variants by themselves: choose one")
    if run.stem == "small" and run.weights not in DRAWN_WEIGHTS:
        raise ValueError(
            f"stem: there are no {run.weights} weights for a small one: choose random or he"
        )
    if run.warmup_epochs and run.decay != "cosine":
        raise ValueError(
            f"warmup_epochs: expected decay: cosine beside it; received {run.decay}: change one"
        )
    if run.warmup_epochs >= run.epochs:
        raise ValueError(
            f"warmup_epochs: expected fewer than the {run.epochs} epochs of the run; received "
            f"{run.warmup_epochs:g}: lower it"
        )


def check_images(run: RunParams, available: int, place: str) -> None:
    """Refuse a run that asks for more training images than there are, or for less than a batch.

    Args:
        run: resolved parameters.
        available: training images left after the validation images are split off.
        place: where the parameters come from, for the message.
    """
    if available < run.batch_size:
        raise UserError(
            f"{place}: {max(available, 0)} training images are left after the validation split, "
            f"expected at least a batch of {run.batch_size}: lower preprocess.validation_images"
        )
    if run.train_images is not None and not run.batch_size <= run.train_images <= available:
        raise UserError(
            f"{place}: train_images: expected {run.batch_size} (a batch) to {available} "
            f"(what the validation split leaves); received {run.train_images}: correct it"
        )
