"""A stand-in for the ImageNet weights that Keras publishes."""

from pathlib import Path

import h5py
import keras
from keras.src.legacy.saving import legacy_h5_format

from deepnets.config.fields import Arch

_NETWORKS = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}


def stand_in(arch: Arch, path: Path, size: int = 32) -> keras.Model:
    """Write a backbone with random weights to `path`, in the format that Keras publishes."""
    keras.utils.set_random_seed(7)
    backbone = _NETWORKS[arch](include_top=False, weights=None, input_shape=(size, size, 3))
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, backbone)
    return backbone
