"""Which trainings are due: those of rows that `dvc repro` would train or evaluate."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deepnets.base import dvc, project
from deepnets.base.errors import UserError
from deepnets.config.params import Params
from deepnets.config.sections import RunParams
from deepnets.grid import rows
from deepnets.records import provenance, results

# What comes before a training, in order; `initialize` once for each of the starting weights.
_BEFORE = ("check", "download", "preprocess")


@dataclass(frozen=True)
class Training:
    """One row with one seed."""

    name: str
    run: RunParams

    @property
    def seed(self) -> int:
        return self.run.seed

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"


def prepare(study: Params, names: Sequence[str]) -> None:
    """Bring everything up to date that trainings of the rows `names` start from.

    Raises:
        UserError: a stage failed, and has said why.
    """
    starts = list(dict.fromkeys(study.entry(name).start for name in names))
    if dvc.available():
        stages = [*_BEFORE, *(f"initialize@{start}" for start in starts)]
        failed = dvc.run("repro", "--quiet", *stages, folder=Path()) != 0
    else:
        with ThreadPoolExecutor() as pool:
            failed = any(_fails([stage]) for stage in _BEFORE) or any(
                pool.map(_fails, [["initialize", start] for start in starts])
            )
    if failed:
        raise UserError("what the trainings start from could not be made, see above: mend that")


def _fails(command: Sequence[str]) -> bool:
    ended = subprocess.run([sys.executable, "-m", "deepnets", *command], check=False)
    return ended.returncode != 0


def stale_stages(names: Sequence[str]) -> set[str]:
    """Those of `train@NAME` and `evaluate@NAME`, for the rows `names`, that DVC would run.

    Raises:
        UserError: DVC refuses.
    """
    stages = [f"{stage}@{name}" for name in names for stage in ("train", "evaluate")]
    said = dvc.output("status", "--json", *stages, folder=Path())
    if said is None:
        raise UserError("DVC cannot say what is out of date, see above: mend that")
    # Outside of the repository's root they come with the path of their dvc.yaml.
    return {stage.rpartition(":")[2] for stage in json.loads(said or "{}")}


def trainings(
    study: Params, names: Sequence[str], seeds: Sequence[int], stale: set[str] | None
) -> list[Training]:
    """What is to be trained of the rows `names` with `seeds`, row by row.

    Rows that take longest come first, and equals as params.yaml has them.

    Args:
        study: parameters.
        names: rows.
        seeds: of those of the study.
        stale: what `stale_stages` has found; None where there is no DVC, and a row's own record
            says whether it is up to date.
    """
    planned = []
    for name in names:
        runs = [study.run_params(name, seed) for seed in seeds]
        if stale is None:
            done = _trained_parameters(rows.paths_of(study, name))
            runs = [run for run in runs if done.get(run.seed) != run.flat]
        elif f"train@{name}" not in stale:
            continue
        planned += [Training(name, run) for run in runs]
    return sorted(planned, key=lambda training: -_images(training.run))


def order_trainings(planned: Sequence[Training], places: int) -> list[Training]:
    """What `trainings` has found, in the order in which to start it at so many `places`.

    Of as many rows as there are places each one's first seed comes first: what it compiles for a
    GPU the others find, and its place goes on with it (`Places.start`). Where there are fewer
    rows, all of them would end together: they are begun one after the other. Either way a grid
    that is cut off leaves the first rows whole.
    """
    names = list(dict.fromkeys(training.name for training in planned))
    if len(names) < places:
        return list(planned)
    first = {training.name: training.seed for training in reversed(planned)}
    turn = {name: number // places for number, name in enumerate(names)}
    return sorted(planned, key=lambda t: (turn[t.name], t.seed != first[t.name]))


def _trained_parameters(paths: project.RunFiles) -> Mapping[int, Mapping[str, object]]:
    """The parameters of each seed that this very code has trained and tested, and kept."""
    code = provenance.shaping_code()
    return {
        record.seed: record.provenance["parameters"]
        for record in results.read(paths)
        if record.test is not None
        and record.provenance["code"] == code
        and paths.model(record.seed).is_file()
    }


def _images(run: RunParams) -> int:
    """How many go through training steps; where all do, more than any number."""
    return run.epochs * (run.train_images or 10**6)
