"""A look into files of weights and models before Keras opens them.

Both formats can hold more than numbers: names of classes and functions that loading looks up and
calls, links to other files, members that unpack to any place or without end. Nothing gets past
here that `models` does not write itself.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py

# What `models.build` puts a model together from: modules of Keras and the names in them.
_PARTS: dict[Any, set[str]] = {
    None: {"__keras_tensor__"},
    "keras": {"DTypePolicy"},
    "keras.initializers": {"Constant", "GlorotUniform", "Ones", "Zeros"},
    "keras.layers": {
        "Activation",
        "Add",
        "BatchNormalization",
        "Conv2D",
        "Cropping3D",
        "Dense",
        "Dropout",
        "GlobalAveragePooling2D",
        "InputLayer",
        "MaxPooling2D",
        "Multiply",
        "Rescaling",
        "Reshape",
        "Softmax",
        "Subtract",
        "ZeroPadding2D",
    },
    "keras.src.models.functional": {"Functional"},
}
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
        _check_config(json.loads(archive.read("config.json")))
        _check_numbers(io.BytesIO(archive.read(_WEIGHTS)))


def check_weights(path: Path) -> None:
    """Refuse a .weights.h5 file that holds more than numbers.

    Raises:
        ForeignError: it does; the message says what.
        Exception: of many kinds, where the file is no HDF5 at all.
    """
    with path.open("rb") as file:
        _check_numbers(file)


def _check_config(config: Any) -> None:
    """Refuse every name in a model's config.json that is not one of its parts."""
    if isinstance(config, list):
        for value in config:
            _check_config(value)
    elif isinstance(config, dict):
        if {"class_name", "module", "registered_name"} & set(config):
            module, name = config.get("module"), config.get("class_name")
            # Keras prefers the class that is registered under this name to the one in the module.
            registered = config.get("registered_name") or name
            if name not in _PARTS.get(module, ()) or registered != name:
                raise ForeignError(f"it is made of {name!r} from {module!r} ({registered!r})")
        if config.get("compile_config"):
            raise ForeignError("it brings a compile_config")
        for value in config.values():
            _check_config(value)


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


def _check_array(found: Any, place: str) -> None:
    if not isinstance(found, h5py.Dataset):
        raise ForeignError(f"its {place} is no array")
    if found.external or found.is_virtual:
        raise ForeignError(f"its {place} is stored in another file")
    if found.dtype.kind not in "fiu" or found.chunks is not None:
        raise ForeignError(f"its {place} ({found.dtype}) is no plain array of numbers")
    if found.id.get_storage_size() != found.nbytes:
        raise ForeignError(f"its {place} says that it is larger than it is")
