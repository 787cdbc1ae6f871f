"""Rows that are made up, of all kinds that a reader may pick for a comparison, and their page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepnets.base import files, project
from deepnets.records.results import TrainingRecord
from deepnets.reporting import page, side_by_side

LABELS = (np.arange(400) % 10).astype(np.uint8)
IMAGES = np.random.default_rng(0).integers(0, 256, (400, 8, 8, 3), np.uint8)
MARKUP = "<b>x</b></script>"


def _record(run: str, seed: int, predicted: Any, epochs: int = 3, **changes: Any) -> TrainingRecord:
    history = [
        {
            "epoch": epoch,
            "loss": float("inf") if epoch == 2 else 1.23456 / epoch,
            "accuracy": 0.912345,
            "val_loss": 0.5 / epoch,
            "val_accuracy": 0.9 + epoch / 100 + seed / 1000,
            "learning_rate": 0.01,
        }
        for epoch in range(1, epochs + 1)
    ]
    known: dict[str, Any] = {
        "run": run,
        "seed": seed,
        "history": history,
        "timing": [],
        "outcome": "completed",
        "provenance": {"test_data": 64 * "a"},
        "labels": None if predicted is None else LABELS,
        "predicted": predicted,
    }
    return TrainingRecord(**(known | changes))


def rows() -> dict[str, list[TrainingRecord]]:
    """By name: four seeds, some of them wrong here and there; others see one digit, or nothing."""
    random = np.random.default_rng(1)
    guesses = []
    for wrong in (40, 30, 20, 10):
        predicted = LABELS.copy()
        places = random.choice(400, wrong, replace=False)
        predicted[places] = (predicted[places] + random.integers(1, 10, wrong)) % 10
        guesses.append(predicted.astype(np.uint8))
    other = {"provenance": {"test_data": 64 * "b"}}
    return {
        "four": [_record("four", seed, predicted) for seed, predicted in enumerate(guesses)],
        "ones": [_record("ones", 0, np.full_like(LABELS, 1), outcome="collapsed")],
        MARKUP: [_record(MARKUP, 0, random.integers(0, 10, 400).astype(np.uint8), epochs=1)],
        "untested": [_record("untested", 5, None, epochs=0, outcome="diverged")],
        "elsewhere": [_record("elsewhere", 0, LABELS, **other)],
    }


def write_images() -> None:
    for path, array in zip(project.split_files("test"), (IMAGES, LABELS), strict=True):
        files.write_array(path, array)


def write_page(path: Path, trained: Mapping[str, Sequence[TrainingRecord]]) -> str:
    """Write the page of a report that has the comparison and nothing else."""
    instead = {side_by_side.LINE: side_by_side.section(trained, path)}
    html = page.render("compared", f"# A\n\n{side_by_side.LINE}\n", path.parent, instead)
    files.write_text(path, html)
    return html
