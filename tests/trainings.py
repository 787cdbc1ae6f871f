"""A training without a network: the files of a run, written by the code that writes real ones.

As a program it plays one through, a step for every line of standard input: `start`, `epoch`,
`again` (as with another seed), `finish`, `fail`. It prints what it has done, and at the end how
long MLflow held it.
"""

import random
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

from deepnets.base import csv_files, files, project
from deepnets.records import results
from deepnets.tracking import live
from deepnets.tracking.trainings import TrackedTraining
from deepnets.training.checkpoints import Rows
from project import ROOT

RUN = "vgg16-sgd-random"
MODEL_BYTES = 2_000_000


def study(folder: Path, experiment: str, *runs: str) -> Path:
    """A folder with the params.yaml of a study of `runs`, which logs to `experiment`."""
    yaml = YAML()
    content = yaml.load((ROOT / "params.yaml").read_text())
    content["publish"]["experiment"] = experiment
    for name in set(content["runs"]) - set(runs or [RUN]):
        del content["runs"][name]
    kept = {f"{run['arch']}-{run['weights']}" for run in content["runs"].values()}
    content["initialize"] = sorted(kept)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(content, file)
    return folder


def paths(name: str = RUN) -> project.RunFiles:
    return project.grid_run(name, "vgg16-random")


def history(epochs: int) -> Rows:
    """The rows of a run whose loss goes down; the clock is that of an earlier day."""
    rows = Rows([], [])
    for epoch in range(1, epochs + 1):
        values = {"loss": 1 / 3 / epoch, "accuracy": 1 - 1 / 7 / epoch}
        both = values | {f"val_{key}": value / 2 for key, value in values.items()}
        rows.history.append({"epoch": epoch, **both, "learning_rate": 0.01 / epoch})
        clock = {"seconds": 3.5, "validation_seconds": 0.5, "images_per_second": 100.0 + epoch}
        rows.timing.append({"epoch": epoch, **clock, "finished_ms": 1_700_000_000_000 + epoch})
    return rows


def provenance(name: str, experiment: str) -> dict[str, object]:
    """What train.py records, with a fingerprint of its own for every name and experiment."""
    return {
        "run": name,
        "stage": f"train@{name}",
        "fingerprint": f"of {name} in {experiment}",
        "parameters": {
            "arch": "vgg16",
            "optimizer": "adam" if "-adam-" in name else "sgd",
            "weights": "random",
            "learning_rate": 0.01,
            "seed": 0,
        },
        "data": {"train": "a" * 64, "validation": "b" * 64},
        "start": "c" * 64,
        "code": {},
        "libraries": {},
        "test_data": "d" * 64,
        "image_size": 32,
        "images": {"train": 96, "validation": 32, "test": 48},
        "chance_accuracy": 0.1,
        "parameter_count": {"total": 12, "trainable": 10, "non_trainable": 2},
        "git": {"commit": None, "dirty": None},
        "environment": {
            "hardware": {"cpu": "any"},
            "settings": {"KERAS_BACKEND": "tensorflow"},
            "versions": {"python": "3.12.0", "keras": "3", "tensorflow": "2", "numpy": "2"},
        },
    }


def model(name: str) -> bytes:
    return random.Random(name).randbytes(MODEL_BYTES)


def finish(name: str, epochs: int, origin: dict[str, object]) -> None:
    """Write what a finished training leaves behind."""
    run, rows = paths(name), history(epochs)
    ends = {"collapsed": 0, "diverged": 0, "best_epoch": epochs, "best_val_accuracy": 0.5}
    files.write_bytes(run.model(0), model(name))
    files.seal(run.model(0))
    results.write_rows(run.metrics_dir, {0: rows})
    files.write_json(run.train, {"epochs": epochs, **ends})
    files.write_json(run.provenance, {"0": origin})


def main(name: str, experiment: str) -> None:
    """Play the run `name` of the study in this folder."""
    folder = Path("checkpoints") / name / "seed-0" / "0123456789abcdef"
    origin = provenance(name, experiment)
    epochs = results.rows_of_seed(_rows(folder), 0)
    done = len(epochs)
    files.write_json(folder / "provenance.json", {"0": origin})
    ended, more = 0.0, True
    while more:
        more = False
        with live.following(TrackedTraining(paths(name), experiment, 0, 1, folder)):
            for word in map(str.strip, sys.stdin):
                if word == "epoch":
                    done += 1
                    results.write_rows(folder, {0: history(done)})
                elif word == "finish":
                    finish(name, done, origin)
                ended = time.monotonic()
                print(f"{word} {done}", flush=True)
                more = word == "again"
                if word in ("again", "finish"):
                    break
                if word == "fail":
                    raise SystemExit(1)
    print(f"held {time.monotonic() - ended:.2f}", flush=True)


def _rows(folder: Path) -> list[dict[str, float]]:
    path = folder / "history.csv"
    return csv_files.read_csv(path, ["epoch"]) if path.is_file() else []


if __name__ == "__main__":
    main(*sys.argv[1:])
