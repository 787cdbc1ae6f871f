"""Trainings by the name or id that a user gives: of this study, of another one, or of MLflow."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from deepnets.base import project
from deepnets.base.errors import UserError
from deepnets.records import results
from deepnets.records.results import TrainingRecord

# What begins like these is looked for in MLflow, and so is a bare id.
_OF_MLFLOW = ("runs:/", "models:/")


_ID = re.compile(r"[0-9a-f]{32}")


# What MLflow calls one training of a run with several seeds.
_CHILD = re.compile(r"(.+)-seed-(\d+)")


def trainings(name: str, seed: int | None = None) -> list[TrainingRecord]:
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
        records = [_fetch_from_mlflow(name)]
    else:
        place, _, run = name.rpartition(":")
        study = Path(place or ".")
        child = _CHILD.fullmatch(run)
        if child and seed is None and not _folders(study, run) and _folders(study, child[1]):
            run, seed = child[1], int(child[2])
        records = _read_from_study(study, run)
    chosen = [record for record in records if seed is None or record.seed == seed]
    if not chosen:
        there = ", ".join(str(record.seed) for record in records)
        raise UserError(f"{name} was not trained with seed {seed}: expected one of {there}")
    return chosen


def _fetch_from_mlflow(name: str) -> TrainingRecord:
    try:
        from deepnets.tracking import fetch
    except ImportError:
        raise UserError(
            f"{name} is looked for in MLflow, which is not installed here: run `make setup`, or "
            "name a run of the study at hand"
        ) from None
    with TemporaryDirectory() as folder:
        experiment, seed = fetch.fetch_record(name, Path(folder))
        return next(
            record
            for record in results.read_folder(Path(folder), experiment=experiment)
            if record.seed == seed
        )


def _folders(study: Path, name: str) -> list[Path]:
    """Where the run `name` has its numbers; a row of the grid comes before a free-form run."""
    runs = project.grid_run(name, ""), project.single_run(name)
    folders = [study / paths.metrics_dir for paths in runs]
    return [folder for folder in folders if (folder / "provenance.json").is_file()]


def _read_from_study(folder: Path, name: str) -> list[TrainingRecord]:
    there = _folders(folder, name) if name else []
    if there:
        root = project.root()
        inside = folder.resolve().is_relative_to(root)
        study = folder.resolve().relative_to(root).as_posix() if inside else None
        return results.read_folder(there[0], study, name=name)
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
