"""Which data sets there are: each a file of its own, found by its name.

The files belong to layers above this one. They are looked for like plugins when they are first
asked for, here and nowhere else.
"""

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from deepnets.base.errors import UserError


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


@cache
def data_sets() -> dict[str, DataSet]:
    """The data sets by the name that `download.source` gives them, the study's first."""
    package = "deepnets.data.datasets"
    folder = importlib.import_module(package).__path__
    names = [module.name for module in pkgutil.iter_modules(folder)]
    names.sort(key=lambda name: (name != "mnist", name))
    return {name: _entry(f"{package}.{name}") for name in names}


def _entry(module: str) -> DataSet:
    entry = getattr(importlib.import_module(module), "DATASET", None)
    if not isinstance(entry, DataSet):
        raise UserError(f"{module}: expected DATASET = DataSet(...) in it: add it")
    return entry
