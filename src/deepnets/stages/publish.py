"""Bring MLflow level with the files of every run; a second time changes nothing.

The best run of the grid by validation accuracy is registered there as the study's champion, and
the view that compares optimizers is saved.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepnets.base import files, progress, project
from deepnets.base.errors import UserError
from deepnets.config import params
from deepnets.records import results
from deepnets.tracking import champion, live, pages, tags
from deepnets.tracking.trainings import TrackedTraining


def main() -> None:
    """Publish the finished runs, of the study's grid and free-form ones.

    Runs that nobody trains any more are not left RUNNING. A store that cannot be reached is a
    warning.
    """
    study = params.load()
    seeds, experiment = study.train.seeds, study.publish.experiment
    grid, missing = [], []
    for name, entry in study.runs.items():
        paths = project.grid_run(name, entry.start)
        ended = [seed for seed in _trained_seeds(paths) if seed in seeds]
        grid += [
            TrackedTraining(paths, experiment, seed, len(seeds), images=study.publish.images)
            for seed in ended
        ]
        if len(ended) < len(seeds):
            lacking = f" ({len(seeds) - len(ended)} of {len(seeds)} seeds)" if ended else ""
            missing.append(f"{name}{lacking}")
    bare = [training for training in grid if not training.model.is_file()]
    single = [
        TrackedTraining(paths, f"{experiment}-single", seed, 1, images=study.publish.images)
        for folder in sorted(Path("single").glob("*/"))
        for paths in [project.single_run(folder.name)]
        for seed in _trained_seeds(paths)
    ]
    try:
        from deepnets.tracking import connection, runs
    except ImportError:
        print("mlflow is not installed here: run `deepnets publish` on a machine that has it")
        return
    try:
        client = connection.connect()
        with progress.bar(len(grid + single), "publish", " runs") as bar:
            for training in grid + single:
                runs.sync(client, training)
                bar.update()
        both = map(client.get_experiment_by_name, (experiment, f"{experiment}-single"))
        there = [known for known in both if known and known.lifecycle_stage == "active"]
        for known in there:
            runs.end_abandoned(client, known)
    except (UserError, PermissionError):  # of a file, not of MLflow
        raise
    except Exception as error:
        print(connection.unreachable_warning(error), file=sys.stderr)
        return
    print(
        f"MLflow has {len(grid)} of {len(seeds) * len(study.runs)} runs in {experiment!r}"
        + (f" and {len(single)} in '{experiment}-single'" if single else "")
        + (f"; not trained yet: {', '.join(missing)}" if missing else "")
        + (f"; no model is here to send of {_names(bare)}" if bare else "")
    )
    _register_champion(client, experiment, grid)
    for known in there:
        _save_view(client, known)
        print(f"{known.name} is compared at {pages.study_page(known.name)}")


def _names(trainings: Sequence[TrackedTraining]) -> str:
    return ", ".join(dict.fromkeys(training.files.name for training in trainings))


def _register_champion(client: Any, model: str, grid: Sequence[TrackedTraining]) -> None:
    """Register the best of `grid` as `model`; a store that does not take it is a warning."""
    from deepnets.tracking import connection, registry

    best = champion.best(grid)
    if best is None:
        if grid:
            here = sum(training.model.is_file() for training in grid)
            which = "run" if here == len(grid) else "run whose model is here"
            why = f"no {which} has ended above chance" if here else "no model is here"
            print(f"{why}: nothing new is registered as the champion")
        return
    try:
        version = registry.register_champion(client, model, best)
        run = client.get_run(version.run_id).info.run_name
    except PermissionError:
        raise
    except Exception as error:
        why = f"does not register the champion ({connection.describe_error(error)})"
        print(live.warning(why), file=sys.stderr)
        return
    print(
        f"models:/{model}@{champion.ALIAS} is version {version.version}, {run} "
        f"(validation accuracy {float(version.tags['val_accuracy']):.4f}{_epoch(version)})"
    )


def _epoch(version: Any) -> str:
    """Of which epoch its model is, where that is not the last one."""
    said = version.tags.get(tags.EPOCH, "")
    return f"; {said}" if results.BEST in said else ""


def _save_view(client: Any, experiment: Any) -> None:
    """Save the view of `experiment`; a store that does not take it is a warning."""
    from deepnets.tracking import connection, views

    try:
        views.show(client, experiment)
    except Exception as error:
        why = f"does not take the view {views.NAME!r} ({connection.describe_error(error)})"
        print(live.warning(why), file=sys.stderr)


def _trained_seeds(paths: project.RunFiles) -> list[int]:
    """The seeds whose training is finished."""
    if not (paths.provenance.is_file() and paths.train.is_file()):
        return []
    return [int(seed) for seed in files.read_json(paths.provenance)]
