"""Resize the digits, tile them to RGB, split off the validation images, and show the result."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepnets.base import files, progress, project
from deepnets.base.errors import UserError
from deepnets.config import params
from deepnets.data import images
from deepnets.reporting import figures

OUTPUT = Path("metrics/preprocess")

# Images resized at a time; bounds the memory at about 100 MiB.
_CHUNK = 2048

# Digits of each split on the contact sheet.
_SHEET = 30


def main() -> None:
    """Write data/processed, the counts per class and split, and the contact sheet."""
    section = params.load().preprocess
    sources = {
        f"{split}_{kind}": project.RAW / f"{split}_{kind}.npy"
        for split in ("train", "test")
        for kind in ("images", "labels")
    }
    files.verify(*sources.values())
    raw = {name: files.read_array(path) for name, path in sources.items()}
    for split in ("train", "test"):
        _check(split, raw[f"{split}_images"], raw[f"{split}_labels"])
    splits = split_off(raw, section.validation_images)
    count = sum(len(pixels) for pixels, _ in splits.values())
    files.require_room(
        project.PROCESSED, count * (3 * section.image_size**2 + 1), "the processed digits"
    )
    sheet = {}
    with progress.bar(count, "preprocess", " images") as bar:
        for name, (pixels, labels) in splits.items():
            image_file, label_file = project.split_files(name)
            shape = (len(pixels), section.image_size, section.image_size, 3)
            files.write_parts(
                image_file, shape, np.dtype(np.uint8), _process(pixels, section.image_size, bar)
            )
            files.write_array(label_file, np.asarray(labels))
            shown = images.tile(images.resize(pixels[:_SHEET], section.image_size))
            sheet[name] = shown, labels[:_SHEET]
    files.seal(*(path for name in splits for path in project.split_files(name)))
    files.write_json(
        OUTPUT / "counts.json",
        {name: class_counts(labels) for name, (_, labels) in splits.items()},
    )
    figures.contact_sheet(sheet, OUTPUT / "contact_sheet")
    sizes = ", ".join(f"{len(labels):,} {name}" for name, (_, labels) in splits.items())
    print(f"{sizes} images of {section.image_size}x{section.image_size}x3 in {project.PROCESSED}")


def split_off(
    raw: dict[str, NDArray[np.uint8]], validation_images: int
) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Images and labels of train, validation (the last training images) and test."""
    pixels, labels = raw["train_images"], raw["train_labels"]
    border = len(pixels) - validation_images
    if border < 1:
        raise UserError(
            f"preprocess.validation_images: expected fewer than the {len(pixels):,} training "
            f"images in {project.RAW}; received {validation_images:,}: lower it"
        )
    return {
        "train": (pixels[:border], labels[:border]),
        "validation": (pixels[border:], labels[border:]),
        "test": (raw["test_images"], raw["test_labels"]),
    }


def class_counts(labels: NDArray[np.uint8]) -> dict[str, int]:
    """How many of each class, and `all`."""
    counts = np.bincount(labels, minlength=project.CLASSES)
    return {str(digit): int(n) for digit, n in enumerate(counts)} | {"all": len(labels)}


def _check(split: str, pixels: NDArray[Any], labels: NDArray[Any]) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or labels.shape != pixels.shape[:1]:
        raise UserError(
            f"{project.RAW}: expected uint8 {split} images (n, height, width) and n labels; "
            f"received {pixels.dtype} {pixels.shape} and {labels.shape}: run `dvc repro download`"
        )
    if labels.dtype != np.uint8 or not len(labels) or labels.max() >= project.CLASSES:
        received = str(np.unique(labels)[-1]) if len(labels) else "none"
        raise UserError(
            f"{project.RAW}: expected uint8 {split} labels 0 to {project.CLASSES - 1}; received "
            f"{labels.dtype}, the last of them {received}: run `dvc repro download`"
        )


def _process(pixels: NDArray[np.uint8], size: int, bar: Any) -> Iterator[NDArray[np.uint8]]:
    """The processed images, uint8 (n, size, size, 3) at a time."""
    for start in range(0, len(pixels), _CHUNK):
        chunk = pixels[start : start + _CHUNK]
        yield images.tile(images.resize(chunk, size))
        bar.update(len(chunk))
