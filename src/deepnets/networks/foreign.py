"""A look into files of weights and models before Keras opens them.

Both formats can hold more than numbers: names of classes and functions that loading looks up and
calls, links to other files, members that unpack to any place or without end. Nothing gets past
here that `models` does not write itself: a model is made of what the known networks are built of.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import keras

from deepnets.config import registry
from deepnets.networks import initializers

# Module of Keras and name: what `models` and `variants` put a model together from beside the layers
# of its backbone, which are those that the network's own builder makes.
_OWN_PARTS = frozenset(
    {
        (None, "__keras_tensor__"),
        ("keras", "DTypePolicy"),
        ("keras.src.models.functional", "Functional"),
        *(("keras.initializers", name) for name in ("Constant", "GlorotUniform", "Ones", "Zeros")),
        *(
            ("keras.layers", name)
            for name in (
                *("Activation", "Add", "BatchNormalization", "Conv2D", "Cropping3D", "Dense"),
                *("Dropout", "GlobalAveragePooling2D", "InputLayer", "Multiply", "Rescaling"),
                *("Reshape", "Softmax", "Subtract", "UpSampling2D"),
            )
        ),
    }
)
# Of what the backbones of the study's two networks have beside these: to open one of them builds
# none, which takes a second or more.
_STUDYS_PARTS = frozenset({("keras.layers", "MaxPooling2D"), ("keras.layers", "ZeroPadding2D")})
# Where a backbone may have its parts from, and which of these run what a file says.
_MODULES = frozenset({"keras", "keras.initializers", "keras.layers"})
_CODE = frozenset({"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"})
_WEIGHTS = "model.weights.h5"
_MEMBERS = {"config.json", "metadata.json", _WEIGHTS}


class ForeignError(ValueError):
    """A file holds what this project never writes."""


def check_model(path: Path) -> None:
    """Refuse a .keras file that holds more than layers of this project's models and numbers.

    Raises:
        ForeignError: it does; the message says what.
        Exception: of many kinds, where the file is no such archive at all.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = sorted(member.filename for member in members)
        if names != sorted(_MEMBERS):
            raise ForeignError(f"expected {', '.join(sorted(_MEMBERS))}; received {names}")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise ForeignError(f"its {member.filename} is compressed or encrypted")
        check_config(json.loads(archive.read("config.json")))
        _check_numbers(io.BytesIO(archive.read(_WEIGHTS)))


def check_weights(path: Path) -> None:
    """Refuse a .weights.h5 file that holds more than numbers.

    Raises:
        ForeignError: it does; the message says what.
        Exception: of many kinds, where the file is no HDF5 at all.
    """
    with path.open("rb") as file:
        _check_numbers(file)


def check_config(config: Any) -> None:
    """Refuse every name in a model's config.json that no known network is built of."""
    parts = list(_parts(config))
    for module, name, registered in parts:
        # Keras prefers the class that is registered under this name to the one in the module.
        if registered != name or not _is_plain(module, name):
            raise ForeignError(f"it is made of {name!r} from {module!r} ({registered!r})")
    unknown = {(module, name) for module, name, _ in parts} - _OWN_PARTS - _STUDYS_PARTS
    for network in _most_likely_first(config):
        if not unknown:
            return
        unknown -= _backbone_parts(network)
    for module, name in sorted(unknown):
        raise ForeignError(f"it is made of {name!r} from {module!r}, as no known network is")


def _parts(config: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Module, name and registered name of each object in a config."""
    values = config if isinstance(config, list) else []
    if isinstance(config, dict):
        values = list(config.values())
        if {"class_name", "module", "registered_name"} & set(config):
            name = config.get("class_name")
            yield config.get("module"), name, config.get("registered_name") or name
        if config.get("compile_config"):
            raise ForeignError("it brings a compile_config")
    for value in values:
        yield from _parts(value)


def _is_plain(module: Any, name: Any) -> bool:
    return (module, name) in _OWN_PARTS or (module in _MODULES and name not in _CODE)


def _most_likely_first(config: Any) -> list[str]:
    """The known networks, that which the model's name says before the others."""
    named = config["config"].get("name") if isinstance(config, dict) else None
    return sorted(registry.architectures(), key=lambda name: named != f"{name}_classifier")


@cache
def _backbone_parts(network: str) -> frozenset[tuple[Any, Any]]:
    """What a network's builder makes its backbone of, as far as that is plain."""

    # The largest that a study may have; weights and their shapes do not depend on it.
    pixels = keras.Input((224, 224, 3))
    with initializers.nothing_drawn():
        backbone = registry.architectures()[network].build(
            include_top=False, weights=None, input_tensor=pixels, pooling="avg", name=network
        )
    parts = _parts(json.loads(backbone.to_json()))
    return frozenset((module, name) for module, name, _ in parts if _is_plain(module, name))


def _check_numbers(file: Any) -> None:
    """Refuse an HDF5 file with anything but groups of plain arrays of numbers, stored in it."""
    with h5py.File(file, "r") as content:
        groups, seen = [content["/"]], set()
        while groups:
            group = groups.pop()
            # Groups can hold each other.
            address = h5py.h5o.get_info(group.id).addr
            if address in seen:
                raise ForeignError(f"its group {group.name} is linked twice")
            seen.add(address)
            for name in group:
                place = f"{group.name.rstrip('/')}/{name}"
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise ForeignError(f"its {place} is a link to elsewhere")
                if isinstance(group[name], h5py.Group):
                    groups.append(group[name])
                else:
                    _check_array(group[name], place)


def _check_array(array: Any, place: str) -> None:
    if not isinstance(array, h5py.Dataset):
        raise ForeignError(f"its {place} is no array")
    if array.external or array.is_virtual:
        raise ForeignError(f"its {place} is stored in another file")
    if array.dtype.kind not in "fiu" or array.chunks is not None:
        raise ForeignError(f"its {place} ({array.dtype}) is no plain array of numbers")
    if array.id.get_storage_size() != array.nbytes:
        raise ForeignError(f"its {place} says that it is larger than it is")
