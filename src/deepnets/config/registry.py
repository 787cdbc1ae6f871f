"""Which data sets, networks and optimizers there are: each a file of its own, found by its name.

The files belong to layers above this one. They are looked for like plugins when they are first
asked for, here and nowhere else. None imports a framework before it builds something, so that
commands that build nothing start without one.
"""

import importlib
import math
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from deepnets.base.errors import UserError

# The numbers that pixels become: [0, 1], [-1, 1], or mean 0 and deviation 1 over MNIST's training
# pixels.
PixelRange = Literal["unit", "symmetric", "standardized"]

# Settings of a run that only networks have which say so.
OwnVariant = Literal["stem", "stages", "zero_gamma", "batch_norm", "highway"]

# Those of the study come first, wherever they are listed.
_STUDYS = ("mnist", "vgg16", "resnet50", "adam", "sgd")


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """The file of a backbone's weights that Keras publishes, and the md5 digest that it pins."""

    url: str
    md5: str


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network.

    Attributes:
        title: its name, for people.
        build: makes the backbone as Keras' applications do: of `include_top` (False), `weights`
            (None), `input_tensor`, `pooling` ("avg") and `name`. Made of Keras' own layers.
        input_range: what the study's `input_range` is for it.
        imagenet: its ImageNet weights without a top, where Keras publishes some.
        variants: which of the settings it has that not every network has, see `variants.py`.
    """

    title: str
    build: Callable[..., Any]
    input_range: PixelRange
    imagenet: PublishedWeights | None = None
    variants: frozenset[OwnVariant] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optimizer.

    Attributes:
        title: its name, for people.
        settings: a `fields.Settings` with the fields that it alone has.
        build: makes a Keras optimizer of `learning_rate` and those fields, by their names.
    """

    title: str
    settings: type[BaseModel]
    build: Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Grey images of 28x28 pixels in ten classes, those for training and those for the test apart.

    `sha256` has the digest of each array's pixels or labels alone (of an IDX file: what follows its
    header). `addresses` are base URLs that hold its files. A set that comes with an installed
    package has none: `made_by` makes its arrays.
    """

    title: str
    train_images: int
    test_images: int
    sha256: Mapping[str, str]
    addresses: tuple[str, ...] = ()
    made_by: Callable[[], Any] | None = None

    def shape(self, array: str) -> tuple[int, ...]:
        """The shape of `train_images`, `train_labels`, `test_images` or `test_labels`."""
        count = self.train_images if array.startswith("train") else self.test_images
        return (count, 28, 28) if array.endswith("images") else (count,)

    def size(self, array: str) -> int:
        """Bytes of the array, uint8."""
        return math.prod(self.shape(array))


Entry = TypeVar("Entry", DataSet, Architecture, Optimizer)


@cache
def data_sets() -> dict[str, DataSet]:
    """All data sets by the name that `download.source` gives them, the study's first."""
    return _find("deepnets.data.datasets", DataSet)


@cache
def architectures() -> dict[str, Architecture]:
    """All networks by name, the study's first."""
    return _find("deepnets.networks.architectures", Architecture)


@cache
def optimizers() -> dict[str, Optimizer]:
    """All optimizers by name, the study's first."""
    return _find("deepnets.training.optimizers", Optimizer)


def _find(package: str, kind: type[Entry]) -> dict[str, Entry]:
    """What the modules of a package hold, by their names."""
    folder = importlib.import_module(package).__path__
    names = [module.name for module in pkgutil.iter_modules(folder)]
    rank = {name: place for place, name in enumerate(_STUDYS)}
    names.sort(key=lambda name: (rank.get(name, len(rank)), name))
    return {name: _entry(f"{package}.{name}", kind) for name in names}


def _entry(module: str, kind: type[Entry]) -> Entry:
    word, name = kind.__name__.upper(), module.rpartition(".")[2]
    entry = getattr(importlib.import_module(module), word, None)
    if not isinstance(entry, kind):
        raise UserError(f"{module}: expected {word} = {kind.__name__}(...) in it: add it")
    # It is a part of names of starting weights and, in DVC, of stages.
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"{module}: expected a name of a-z, 0-9 and _: rename the file")
    return entry
