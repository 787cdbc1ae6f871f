"""Resize the digits, tile them to RGB, split off the validation images, and show the result."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deepnets.base import files, progress, project
from deepnets.config import params
from deepnets.data import prepare
from deepnets.reporting import sheets

OUTPUT = Path("metrics/preprocess")

# Digits of each split on the contact sheet.
_SHEET = 30


def main() -> None:
    """Write data/processed, the counts per class and split, and the contact sheet."""
    section = params.load().preprocess
    size = section.image_size
    sources = {
        f"{split}_{kind}": project.RAW / f"{split}_{kind}.npy"
        for split in ("train", "test")
        for kind in ("images", "labels")
    }
    files.verify(*sources.values())
    raw = {name: files.read_array(path) for name, path in sources.items()}
    splits = prepare.split_off(raw, section.validation_images)
    count = sum(len(pixels) for pixels, _ in splits.values())
    files.require_room(project.PROCESSED, count * (3 * size**2 + 1), "the processed digits")
    with progress.bar(count, "preprocess", " images") as bar:

        def update_bar(chunks: Iterator[prepare.Array]) -> Iterator[prepare.Array]:
            for chunk in chunks:
                yield chunk
                bar.update(len(chunk))

        for name, (pixels, labels) in splits.items():
            image_file, label_file = project.split_files(name)
            shape = (len(pixels), size, size, 3)
            chunks = update_bar(prepare.resize_and_tile(pixels, size))
            files.write_parts(image_file, shape, np.dtype(np.uint8), chunks)
            files.write_array(label_file, np.asarray(labels))
    files.seal(*(path for name in splits for path in project.split_files(name)))
    files.write_json(
        OUTPUT / "counts.json",
        {name: prepare.class_counts(labels) for name, (_, labels) in splits.items()},
    )
    sheet = {
        name: (next(prepare.resize_and_tile(pixels[:_SHEET], size)), labels[:_SHEET])
        for name, (pixels, labels) in splits.items()
    }
    sheets.contact_sheet(sheet, OUTPUT / "contact_sheet")
    sizes = ", ".join(f"{len(labels):,} {name}" for name, (_, labels) in splits.items())
    print(f"{sizes} images of {size}x{size}x3 in {project.PROCESSED}")
