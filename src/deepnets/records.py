"""What is known of a training after the fact, found by the name or id of its run.

A record holds everything that a rerun starts from and is compared with. It is read from the files
of a run, which MLflow has as well; where they come from makes no difference.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepnets import files, project, results
from deepnets.errors import UserError

# What begins like these is looked for in MLflow, and so is a bare id.
_OF_MLFLOW = ("runs:/", "models:/")
_ID = re.compile(r"[0-9a-f]{32}")

# What MLflow calls one training of a run with several seeds.
_CHILD = re.compile(r"(.+)-seed-(\d+)")


@dataclass(frozen=True)
class Record:
    """One training with one seed.

    `provenance` is what train.py wrote of it, `history` has a row an epoch. `test` holds loss and
    accuracy on the test images, `labels` and `predicted` uint8 (n,) are theirs, `probabilities`
    float32 (n, 10) as well; all of them are None for a run that was not evaluated, and
    `probabilities` where only what git keeps is at hand. `study` is the folder of the run's study,
    relative to the project's root; None if it is not known. `experiment` is MLflow's, for a record
    that comes from there.
    """

    name: str
    seed: int
    provenance: dict[str, Any]
    history: list[dict[str, float]]
    outcome: results.Outcome
    test: dict[str, float] | None = None
    labels: NDArray[np.uint8] | None = None
    predicted: NDArray[np.uint8] | None = None
    probabilities: NDArray[np.float32] | None = None
    study: str | None = None
    experiment: str | None = None

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"


def find(name: str, seed: int | None = None) -> list[Record]:
    """The trainings that `name` stands for: one a seed, or the one with `seed` alone.

    Args:
        name: a run of the study at hand, of its grid or a free-form one, RUN-seed-N for one of its
            seeds; STUDY:RUN with the folder of another study; an id of MLflow, `runs:/ID`,
            `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        seed: of a run that was trained with several.

    Raises:
        UserError: there is none; the message says what is.
    """
    if name.startswith(_OF_MLFLOW) or _ID.fullmatch(name):
        found = [_from_mlflow(name)]
    else:
        place, _, run = name.rpartition(":")
        study = Path(place or ".")
        child = _CHILD.fullmatch(run)
        if child and seed is None and not _folders(study, run):
            run, seed = child[1], int(child[2])
        found = _of_study(study, run)
    chosen = [record for record in found if seed is None or record.seed == seed]
    if not chosen:
        there = ", ".join(str(record.seed) for record in found)
        raise UserError(f"{name} was not trained with seed {seed}: expected one of {there}")
    return chosen


def read(folder: Path, study: str | None = None, experiment: str | None = None) -> list[Record]:
    """The trainings whose files are in `folder`, the `metrics_dir` of a run or a copy of it."""
    paths = project.RunFiles("", folder, folder, folder)
    provenance = files.read_json(paths.provenance)
    trained, history = files.read_json(paths.train), files.read_csv(paths.history)
    tested = files.read_json(paths.test) if paths.test.is_file() else None
    predictions = files.read_csv(paths.predictions) if paths.predictions.is_file() else []
    probabilities: NDArray[np.float32] = np.zeros((0, 0, 0), np.float32)
    if paths.probabilities.is_file():
        probabilities = np.array(files.read_array(paths.probabilities))
    found = []
    for place, (seed, origin) in enumerate(provenance.items()):
        ended = results.of_seed(trained, int(seed))
        if ended is None:
            continue
        rows = results.rows_of_seed(predictions, int(seed))
        found.append(
            Record(
                name=origin["run"],
                seed=int(seed),
                provenance=origin,
                history=results.rows_of_seed(history, int(seed)),
                outcome=results.outcome(ended),
                test=results.of_seed(tested, int(seed)) if tested else None,
                labels=np.array([row["actual"] for row in rows], np.uint8) if rows else None,
                predicted=np.array([row["predicted"] for row in rows], np.uint8) if rows else None,
                probabilities=probabilities[place] if rows and place < len(probabilities) else None,
                study=study or origin["git"].get("study"),
                experiment=experiment,
            )
        )
    return found


def _from_mlflow(name: str) -> Record:
    try:
        from deepnets import tracking
    except ImportError:
        raise UserError(
            f"{name} is looked for in MLflow, which is not installed here: run `make setup`, or "
            "name a run of the study at hand"
        ) from None
    with TemporaryDirectory() as folder:
        experiment, seed = tracking.fetch_record(name, Path(folder))
        return next(of for of in read(Path(folder), experiment=experiment) if of.seed == seed)


def _folders(study: Path, name: str) -> list[Path]:
    """Where the run `name` has its numbers; a row of the grid comes before a free-form run."""
    runs = project.grid_run(name, ""), project.single_run(name)
    folders = [study / paths.metrics_dir for paths in runs]
    return [folder for folder in folders if (folder / "provenance.json").is_file()]


def _of_study(folder: Path, name: str) -> list[Record]:
    there = _folders(folder, name) if name else []
    if there:
        root = project.root()
        inside = folder.resolve().is_relative_to(root)
        return read(there[0], folder.resolve().relative_to(root).as_posix() if inside else None)
    trained = [
        path.parent.name
        for pattern in ("metrics/*/provenance.json", "single/*/provenance.json")
        for path in sorted(folder.glob(pattern))
    ]
    where = "here" if folder == Path() else f"in {folder}"
    raise UserError(
        f"no run {name!r} has been trained {where}: expected "
        + (f"one of {', '.join(trained)}" if trained else "a study with trained runs")
        + "; STUDY:RUN for a run of the study in another folder, or an id of MLflow"
    )
