"""A study whose files are made up, small and with something of everything, and its report."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import architectures
from deepnets.base import csv_files, files, project
from deepnets.config.params import FILE
from deepnets.records import results
from deepnets.reporting import drawing, published, run_figures
from deepnets.stages import report
from deepnets.training import checkpoints
from project import ROOT, edit_yaml, made_once

LABELS = np.arange(2000, dtype=np.uint8) % 10
IMAGES = np.random.default_rng(0).integers(0, 256, (2000, 8, 8, 3), np.uint8)
SEEDS = (0, 1)
TEST_DATA = published.TEST_DATA

# run -> images missed, counted from the first, and the outcome, for each seed.
DONE: dict[str, list[tuple[int, str]]] = {
    "vgg16-adam-random": [(20, "completed"), (40, "completed")],
    "vgg16-sgd-random": [(1800, "collapsed"), (30, "completed")],
    "resnet50-sgd-random": [(100, "completed"), (1800, "diverged")],
}
MISSING = [
    "vgg16-adam-imagenet",
    "vgg16-sgd-imagenet",
    "resnet50-adam-random",
    "resnet50-adam-imagenet",
    "resnet50-sgd-imagenet",
    "resnet50-sgd-random-long",
]


def small(params: dict[str, Any]) -> None:
    """Edit: two seeds, few images, two epochs."""
    params["train"] |= {"seed": list(SEEDS), "train_images": 3200, "epochs": 2}


def _history(outcome: str, missed: int) -> list[dict[str, Any]]:
    if outcome == "diverged":
        return []
    accuracy = 1 - missed / len(LABELS)
    return [
        {
            "epoch": epoch,
            "loss": 2.302 if outcome == "collapsed" else 0.1 / epoch,
            "accuracy": accuracy - 0.02,
            "val_loss": 2.302 if outcome == "collapsed" else 0.2 / epoch,
            "val_accuracy": accuracy - 0.01 * (3 - epoch),
            "learning_rate": 0.01,
        }
        for epoch in (1, 2)
    ]


def _provenance(run: str, seed: int) -> dict[str, Any]:
    return {
        "run": run,
        "parameters": {"arch": run.split("-")[0]},
        "git": {"commit": "c0ffee", "dirty": seed == 1},
        "images": {"train": 3200, "validation": 10000, "test": len(LABELS)},
        "data": {"train": 64 * "a", "validation": 64 * "b"},
        "test_data": TEST_DATA,
        "start": 64 * str(seed),
        "parameter_count": {"total": 14719818, "trainable": 14719000, "non_trainable": 818},
        "environment": {
            "hardware": {"cpu": "A CPU", "cores": 2, "devices": [], "platform": "Linux"},
            "versions": {"keras": "3.15.1"},
            "settings": {"TF_ENABLE_ONEDNN_OPTS": "1"},
        },
    }


def _write(name: str, seeds: list[tuple[int, str]]) -> None:
    paths = project.grid_run(name, "-".join(name.split("-")[::2]))
    rows, trained, tested, predicted, probabilities = {}, {}, {}, [], []
    for seed, (missed, outcome) in zip(SEEDS, seeds, strict=True):
        history = _history(outcome, missed)
        clock = {"validation_seconds": 1.0, "images_per_second": 60.0, "finished_ms": 1}
        rows[seed] = checkpoints.Rows(
            history,
            [
                {"epoch": row["epoch"], "seconds": 40.0 * row["epoch"] + seed, **clock}
                for row in history
            ],
        )
        ends = {kind: int(outcome == kind) for kind in ("collapsed", "diverged")}
        trained[seed] = {"epochs": len(history), **ends}
        tested[seed] = {"loss": 0.3, "accuracy": 1 - missed / len(LABELS)}
        guesses = LABELS.copy()
        guesses[:missed] = (guesses[:missed] + 1) % 10
        predicted += [
            {"seed": seed, "actual": int(a), "predicted": int(p)}
            for a, p in zip(LABELS, guesses, strict=True)
        ]
        probabilities.append(0.9 * np.eye(10, dtype=np.float32)[guesses] + np.float32(0.01))
    results.write_rows(paths.metrics_dir, rows)
    files.write_json(paths.train, results.combine_seeds(trained))
    files.write_json(paths.test, results.combine_seeds(tested))
    files.write_json(paths.provenance, {str(seed): _provenance(name, seed) for seed in SEEDS})
    layers = architectures.vgg16() if name.startswith("vgg16") else architectures.resnet50()
    files.write_json(paths.architecture, layers)
    csv_files.write_csv(paths.predictions, predicted, ["seed", "actual", "predicted"])
    files.write_array(paths.probabilities, np.stack(probabilities))


def reported(
    folder: Path,
    edit: Callable[[dict[str, Any]], None],
    diagnoses: dict[str, Any],
    drawn: Collection[str] | None = None,
) -> Path:
    """The folder, with what `write` leaves there and its report.

    `drawn` names the figures that are looked at (None: all, and those of each training): drawing
    takes longer than the rest, and of the others there are files without content.
    """
    write(folder, edit, diagnoses)
    report_again(folder, drawn)
    return folder


def study(factory: pytest.TempPathFactory) -> Path:
    """A small one with three of nine runs finished, and its whole report, for who only reads it."""
    return made_once(factory, "made-up", lambda folder: reported(folder, small, {}))


def write(folder: Path, edit: Callable[[dict[str, Any]], None], diagnoses: dict[str, Any]) -> None:
    """Leave in the folder what is `DONE` of the root's study, which `edit` changes."""
    (folder / FILE).write_text((ROOT / FILE).read_text())
    edit_yaml(folder / FILE, edit)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for path, array in zip(project.split_files("test"), (IMAGES, LABELS), strict=True):
            files.write_array(path, array)
        for name, seeds in DONE.items():
            _write(name, seeds)
        for name, diagnosis in diagnoses.items():
            files.write_json(Path(f"metrics/{name}/diagnosis.json"), diagnosis)


def words(folder: Path, name: str) -> str:
    """All that is written in a figure of the report of `folder`, one that was looked at."""
    return (folder / f"words/{name}.txt").read_text()


def report_again(folder: Path, drawn: Collection[str] | None = None) -> None:
    """Make the report of `folder` anew, from what is there now."""
    save = drawing.save

    def save_if_asked(figure: Figure, stem: Path, noted: Any = None) -> None:
        if drawn is None or stem.name in drawn:
            said = [text.get_text() for text in figure.findobj(Text)]
            files.write_text(Path(f"words/{stem.name}.txt"), "\n".join(said))
            save(figure, stem, noted)
            return
        files.write_bytes(stem.with_name(f"{stem.name}.png"), b"")
        plt.close(figure)

    def mistakes_alone(_: Any, paths: project.RunFiles, result: Any, *others: Any) -> None:
        files.write_bytes(paths.figures(result.seed) / "mistakes.png", b"")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(drawing, "save", save_if_asked)
        if drawn is not None:
            patch.setattr(run_figures, "draw", mistakes_alone)
        report.main()
