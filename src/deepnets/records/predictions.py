"""The file of a run's predictions on the test images: labels and predicted digits, a row a seed.

Both are strings of digits, one for each test image; labels that are those of the seed before are
left out. Earlier versions wrote a row an image, and every label.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepnets.base import csv_files

Digits = NDArray[np.uint8]

_COLUMNS = ["seed", "actual", "predicted"]


def write(path: Path, by_seed: Mapping[int, tuple[Digits, Digits]]) -> None:
    """Write the labels and predictions of each seed, uint8 (n,) each."""
    rows = []
    before = ""
    for seed, both in by_seed.items():
        labels, predicted = ("".join(map(str, digits)) for digits in both)
        actual = "" if labels == before else labels
        rows.append({"seed": seed, "actual": actual, "predicted": predicted})
        before = labels
    csv_files.write_csv(path, rows, _COLUMNS)


def read(path: Path) -> dict[int, tuple[Digits, Digits]]:
    """By seed, in the file's order, the labels and the predictions, uint8 (n,) each.

    Raises:
        UserError: the file is damaged.
    """
    texts: dict[int, tuple[list[str], list[str]]] = {}
    labels, by_seed = "", {}
    try:
        for row in csv_files.csv_lines(path, _COLUMNS):
            both = texts.setdefault(int(row["seed"]), ([], []))
            for text, column in zip(both, _COLUMNS[1:], strict=True):
                text.append(row[column])
        digits = {seed: tuple("".join(parts) for parts in both) for seed, both in texts.items()}
        for seed, (actual, predicted) in digits.items():
            labels = actual or labels
            if len(labels) != len(predicted):
                raise ValueError(f"{len(labels)} labels, {len(predicted)} predictions")
            by_seed[seed] = _digits(labels), _digits(predicted)
    except ValueError as error:
        raise csv_files.damaged_csv(path, f"expected digits: {error}") from None
    return by_seed


def _digits(text: str) -> Digits:
    return np.array([int(digit) for digit in text], np.uint8)
