"""Weights and models in files: the same weights always give the same file, and what is opened is
looked into first (foreign.py).
"""

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

import keras
import numpy as np

from deepnets.base import files
from deepnets.base.errors import UserError, one_line
from deepnets.networks import foreign


class _Memory(io.BytesIO):
    """A file in memory that Keras saves to as it would to a path that ends like `name`.

    HDF5 crashes the process some time after it has met a full disk, so it never writes to one.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __str__(self) -> str:
        return self._name


def save_start(classifier: keras.Model, path: Path) -> None:
    """Save the weights of `classifier` for `load_start`; `path` ends with .weights.h5."""
    saved = _Memory(path.name)
    classifier.save_weights(saved)
    files.write_bytes(path, saved.getvalue())


def load_start(classifier: keras.Model, path: Path) -> None:
    """Load starting weights that `save_start` wrote into `classifier`."""
    try:
        foreign.check_weights(path)
        classifier.load_weights(path)
    except Exception as error:  # a parser of damaged bytes may raise anything
        raise UserError(
            f"{path} is not a whole file of {classifier.name} weights "
            f"({one_line(error, 120)}): delete it and run `dvc repro` again"
        ) from None


def load(path: Path) -> keras.Model:
    """Load a saved classifier in Keras' safe mode; no code from the file or named in it is run."""
    try:
        foreign.check_model(path)
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a parser of damaged bytes may raise anything
        raise UserError(
            f"{path} is not a whole Keras model ({one_line(error, 120)}): "
            "run the training again (`dvc repro`)"
        ) from None


def require_openable(classifier: keras.Model, arch: str) -> None:
    """Refuse, before it is trained, the network `arch`, whose saved model `load` would not open.

    On JAX Keras imports TensorFlow for it, where that is installed: no training calls it.
    """
    try:
        foreign.check_config(json.loads(classifier.to_json()))
    except foreign.ForeignError as error:
        raise UserError(
            f"{arch}: expected a network of Keras' own layers, without code in them; {error}: "
            "build it of others"
        ) from None


def save(classifier: keras.Model, path: Path) -> None:
    """Save the classifier so that the same weights always give the same file.

    Keras stamps its archive with the time of saving and numbers shared objects by their addresses
    in memory; the stamps are taken out again and the numbers counted from 1.
    """
    saved, stable = _Memory(path.name), io.BytesIO()
    classifier.save(saved)
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members["metadata.json"])
    metadata.pop("date_saved", None)
    members["metadata.json"] = json.dumps(metadata).encode()
    members["config.json"] = _count_shared_objects(members["config.json"])
    with zipfile.ZipFile(stable, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    files.write_bytes(path, stable.getvalue())


def _count_shared_objects(config: bytes) -> bytes:
    numbers: dict[bytes, int] = {}
    return re.sub(
        rb'("shared_object_id": )(\d+)',
        lambda found: found[1] + str(numbers.setdefault(found[2], len(numbers) + 1)).encode(),
        config,
    )


def weights_digest(model: keras.Model) -> str:
    """sha256 over all weights in the model's order: name, shape and bytes, as hex."""
    digest = hashlib.sha256()
    for variable in model.weights:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{variable.path} {value.dtype} {value.shape}\n".encode())
        digest.update(value.data)
    return digest.hexdigest()
