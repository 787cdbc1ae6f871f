"""Bring MLflow level with the files of every run; a second time changes nothing.

The best run of the grid by validation accuracy is registered there as the study's champion.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepnets.base import files, progress, project
from deepnets.base.errors import UserError
from deepnets.config import params
from deepnets.tracking import champion, live
from deepnets.tracking.live import Record


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
        there = [seed for seed in _trained(paths) if seed in seeds]
        grid += [Record(paths, experiment, seed, len(seeds)) for seed in there]
        if len(there) < len(seeds):
            lacking = f" ({len(seeds) - len(there)} of {len(seeds)} seeds)" if there else ""
            missing.append(f"{name}{lacking}")
    bare = [of for of in grid if not of.files.model(of.seed).is_file()]
    single = [
        Record(paths, f"{experiment}-single", seed, 1)
        for folder in sorted(Path("single").glob("*/"))
        for paths in [project.single_run(folder.name)]
        for seed in _trained(paths)
    ]
    try:
        from deepnets.tracking import tracking
    except ImportError:
        print("mlflow is not installed here: run `deepnets publish` on a machine that has it")
        return
    try:
        client = tracking.connect()
        with progress.bar(len(grid + single), "publish", " runs") as bar:
            for record in grid + single:
                tracking.level(client, record)
                bar.update()
        for name in (experiment, f"{experiment}-single"):
            tracking.end_abandoned(client, name)
    except (UserError, PermissionError):  # of a file, not of MLflow
        raise
    except Exception as error:
        print(tracking.unreachable(error), file=sys.stderr)
        return
    print(
        f"MLflow has {len(grid)} of {len(seeds) * len(study.runs)} runs in {experiment!r}"
        + (f" and {len(single)} in '{experiment}-single'" if single else "")
        + (f"; not trained yet: {', '.join(missing)}" if missing else "")
        + (f"; no model is here to send of {_names(bare)}" if bare else "")
    )
    _crown(client, experiment, grid)


def _names(records: Sequence[Record]) -> str:
    return ", ".join(dict.fromkeys(of.files.name for of in records))


def _crown(client: Any, model: str, grid: Sequence[Record]) -> None:
    """Register the best of `grid` as `model`; a store that does not take it is a warning."""
    from deepnets.tracking import tracking

    best = champion.best(grid)
    if best is None:
        if grid:
            here = sum(of.files.model(of.seed).is_file() for of in grid)
            which = "run" if here == len(grid) else "run whose model is here"
            why = f"no {which} has ended above chance" if here else "no model is here"
            print(f"{why}: nothing new is registered as the champion")
        return
    try:
        version = tracking.crown(client, model, best)
        run = client.get_run(version.run_id).info.run_name
    except PermissionError:
        raise
    except Exception as error:
        why = f"does not register the champion ({tracking.in_brief(error)})"
        print(live.warning(why), file=sys.stderr)
        return
    print(
        f"models:/{model}@{champion.ALIAS} is version {version.version}, {run} "
        f"(validation accuracy {float(version.tags['val_accuracy']):.4f})"
    )


def _trained(paths: project.RunFiles) -> list[int]:
    """The seeds whose training is finished."""
    if not (paths.provenance.is_file() and paths.train.is_file()):
        return []
    return [int(seed) for seed in files.read_json(paths.provenance)]
