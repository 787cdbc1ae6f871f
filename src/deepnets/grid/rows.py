"""A row's files, put together from trainings that were made one by one, and booked by DVC."""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from deepnets.base import dvc, files, project
from deepnets.base.errors import UserError
from deepnets.config.params import Params
from deepnets.config.sections import RunParams
from deepnets.evaluation import evaluation
from deepnets.records import results, statistics
from deepnets.records.results import TrainingRecord


def paths_of(study: Params, name: str) -> project.RunFiles:
    """The files of the row `name`."""
    return project.grid_run(name, study.entry(name).start)


def write(study: Params, name: str, records: Mapping[int, TrainingRecord]) -> None:
    """Write a row's numbers anew: of each seed those in `records`, in the study's order."""
    order = [seed for seed in study.train.seeds if seed in records]
    order += [seed for seed in records if seed not in order]
    merged = [records[seed] for seed in order]
    paths = paths_of(study, name)
    results.write(paths, merged)
    tested = [_calibrate_again(record) for record in merged if record.test is not None]
    if tested:
        evaluation.write(paths, tested)


def _calibrate_again(record: TrainingRecord) -> TrainingRecord:
    """The training with its calibration computed anew, where its probabilities are there."""
    if record.labels is None or record.probabilities is None:
        return record
    numbers = statistics.calibration(record.labels, record.probabilities).numbers
    return dataclasses.replace(record, calibration=numbers)


def belong_together(study: Params, name: str, here: TrainingRecord, other: TrainingRecord) -> bool:
    """Whether `here` has the parameters of the row `name` today, and was trained on `other`'s data.

    What was left from before an edit of params.yaml has not.
    """
    try:
        parameters = {"train_images": None} | here.provenance["parameters"]
        run = RunParams.model_validate(parameters)
        same_data = bool(here.provenance["data"] == other.provenance["data"])
    except (ValidationError, KeyError, TypeError):
        return False
    return same_data and run == study.run_params(name, here.seed)


def clear(paths: project.RunFiles, seed: int) -> None:
    """Remove what belongs to another training of a seed and would be taken for the new one's."""
    for model in (paths.model(seed), paths.best_model(seed)):
        model.unlink(missing_ok=True)
    paths.diagnosis.unlink(missing_ok=True)
    shutil.rmtree(paths.figures(seed), ignore_errors=True)


def bring_model(model: Path | None, paths: project.RunFiles, seed: int) -> bool:
    """Copy the model, if there is one and none is here already; returns whether it did."""
    return _copy_and_seal(model, paths.model(seed))


def bring_best_model(model: Path | None, paths: project.RunFiles, seed: int) -> bool:
    """As `bring_model`, of the best epoch's model beside it."""
    return _copy_and_seal(model, paths.best_model(seed))


def _copy_and_seal(model: Path | None, target: Path) -> bool:
    if model is None or not model.is_file() or target.is_file():
        return False
    with files.replacing(target) as partial:
        shutil.copyfile(model, partial)
    files.seal(target)
    return True


def book(study: Params, stages: Sequence[str]) -> list[str]:
    """Have DVC take `stages` (`train@NAME`, ...) for done by what is here; returns their rows.

    Raises:
        UserError: DVC refuses.
    """
    names = list(dict.fromkeys(stage.partition("@")[2] for stage in stages))
    starts = dict.fromkeys(study.entry(name).start for name in names)
    status = dvc.run(
        *("repro", "--quiet", *(f"initialize@{start}" for start in starts)), folder=Path()
    ) or dvc.run("commit", "--quiet", "--force", *stages, folder=Path())
    if status:
        raise UserError(
            f"DVC did not take {', '.join(names)} for trained, see above: all files are here; "
            "mend that and run the same command again"
        )
    return names
