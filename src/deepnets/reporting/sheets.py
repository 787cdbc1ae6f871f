"""Digits as the networks see them, with a caption each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from deepnets.reporting import drawing


def contact_sheet(
    splits: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]], stem: Path
) -> None:
    """The first images of each split with their labels, as the networks will see them.

    Args:
        splits: name -> images uint8 (n, size, size, 3) and labels uint8 (n,).
        stem: see `drawing.save`.
    """
    groups = {}
    for name, (images, labels) in splits.items():
        size = images.shape[1]
        heading = f"{name}: first {len(images)}, {size}x{size}x3"
        groups[heading] = images, [str(label) for label in labels]
    _sheet(groups, "", 15, stem)


def mistakes(
    name: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    stem: Path,
    noted: Mapping[str, str] | None = None,
) -> None:
    """The most confident mistakes of a run: true and predicted digit, its probability.

    Args:
        name: of the run.
        images: uint8 (n, size, size, 3), in the order in which they are drawn; n may be 0.
        labels: uint8 (n,).
        probabilities: (n, 10).
        stem: see `drawing.save`.
        noted: what the file says of itself, by keywords that PNG has.
    """
    guesses = probabilities.argmax(axis=1)
    captions = [
        f"{label}→{guess}  {row[guess]:.3f}"
        for label, guess, row in zip(labels, guesses, probabilities, strict=True)
    ]
    # Up to ten in a row; more in rows of equal length.
    rows = max(1, -(-len(images) // 10))
    columns = max(8, -(-len(images) // rows))
    _sheet(
        {name if len(images) else f"{name}: no mistakes": (images, captions)},
        "the most confident mistakes: true → predicted digit, its probability",
        columns,
        stem,
        noted,
    )


def disagreements(
    images: NDArray[np.uint8],
    listed: NDArray[np.int64],
    names: Sequence[str],
    stem: Path,
) -> None:
    """Test images that two trainings see different digits in.

    Args:
        images: uint8 (n, size, size, 3), n at least 1.
        listed: (n, 4), the index of each, its digit, and what each training sees.
        names: of the two trainings.
        stem: see `drawing.save`.
    """
    captions = [f"{index}: {digit}→{a}|{b}" for index, digit, a, b in listed]
    heading = "test image: true digit → " + " | ".join(names)
    _sheet({heading: (images, captions)}, "", 8, stem)


def _sheet(
    groups: Mapping[str, tuple[NDArray[np.uint8], Sequence[str]]],
    note: str,
    columns: int,
    stem: Path,
    noted: Mapping[str, str] | None = None,
) -> None:
    """Images (n, size, size, 3) with a caption each, in rows of `columns` under headings."""
    image, gap, caption, heading = drawing.WIDTH / columns - 0.08, 0.08, 0.17, 0.26
    row = image + gap + caption
    rows = {name: -(-len(images) // columns) for name, (images, _) in groups.items()}
    top = sum(rows.values()) * row + len(rows) * heading + 0.2
    figure = plt.figure(figsize=(drawing.WIDTH, top))
    if note:
        figure.suptitle(note, fontsize=drawing.SMALL, y=1 - 0.02 / top, va="top")
        top -= 0.1
    for name, (images, captions) in groups.items():
        figure.text(0.04 / drawing.WIDTH, (top - 0.1) / figure.get_figheight(), name, va="top")
        top -= heading
        for index, (pixels, text) in enumerate(zip(images, captions, strict=True)):
            left = index % columns * (image + gap) + gap / 2
            bottom = top - index // columns * row - caption - image
            axis = drawing.add_axes(figure, left, bottom, image, image)
            axis.imshow(pixels, interpolation="none")
            # Where it would be by itself, after a look for ticks above each of a hundred images.
            axis.set_title(text, fontsize=drawing.SMALL, pad=2, y=1)
            axis.axis("off")
        top -= rows[name] * row
    drawing.save(figure, stem, noted)
