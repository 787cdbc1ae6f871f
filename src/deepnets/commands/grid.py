"""Train and test whatever is due in a study, many trainings at a time; then what follows."""

import shutil
from collections.abc import Sequence
from contextlib import chdir
from fnmatch import fnmatchcase
from pathlib import Path

from deepnets.base import dvc, files, locks
from deepnets.base.errors import UserError
from deepnets.commands import repro
from deepnets.config import params
from deepnets.config.params import Params
from deepnets.grid import due, local, rows, schedule, training
from deepnets.grid.due import Training
from deepnets.grid.places import Places
from deepnets.grid.table import Table
from deepnets.records import provenance, results
from deepnets.records.results import TrainingRecord
from deepnets.training import checkpoints, devices

# Exit statuses: a training failed; none failed, but one at least has diverged.
FAILED, DIVERGED = 1, 3


def main(
    folder: Path,
    wanted_rows: Sequence[str],
    wanted_seeds: Sequence[int],
    jobs: int | None,
    place: str = "local",
    address: str | None = None,
) -> int:
    """Do what is due in the study in `folder`; returns the exit status.

    Args:
        folder: the study's.
        wanted_rows: names or patterns of rows; empty for all.
        wanted_seeds: of those of the study; empty for all.
        jobs: how many at a time; None for as many as gain something.
        place: `local` or `ray`.
        address: of the Ray cluster; None for the one that this machine is part of.
    """
    if devices.asked().devices > 1:
        raise UserError(
            f"{devices.VARIABLE}: expected one device a training in a grid, which has many at a "
            "time; unset it, or train the row by `deepnets train RUN`"
        )
    repro.require_study(folder)
    with chdir(folder):
        study = params.load()
        names, seeds = _names(study, wanted_rows), _seeds(study, wanted_seeds)
        files.require_no_links(Path())
        provenance.warn()
        due.prepare(study, names)
        stale = due.stale_stages(names) if dvc.available() else None
        trainings = due.trainings(study, names, seeds, stale)
        status = _train(study, trainings, jobs, place, address) if trainings else 0
        whole = not wanted_rows and not wanted_seeds and status != FAILED
        return _finish(study, names, stale, whole) or status


def _names(study: Params, wanted: Sequence[str]) -> list[str]:
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in study.runs):
            raise UserError(
                f"--rows: no row of this study is {pattern}: expected some of "
                f"{', '.join(study.runs)}, or a pattern such as 'vgg16-*'"
            )
    return [
        name
        for name in study.runs
        if not wanted or any(fnmatchcase(name, pattern) for pattern in wanted)
    ]


def _seeds(study: Params, wanted: Sequence[int]) -> list[int]:
    for seed in wanted:
        training.check_seed(study, seed, "--seeds: ")
    return [seed for seed in study.train.seeds if not wanted or seed in wanted]


def _train(
    study: Params, trainings: list[Training], jobs: int | None, place: str, address: str | None
) -> int:
    places = _places(study, trainings, jobs, place, address)
    due_now = "1 training is" if len(trainings) == 1 else f"{len(trainings)} trainings are"
    print(f"{due_now} due: {places.describe()}", flush=True)
    table = Table(lambda done: _outcome(_record(study, done)))
    by_row = {t.name: [u for u in trainings if u.name == t.name] for t in trainings}
    unwritten = []

    def write(name: str) -> None:
        try:
            table.say(put_together(study, name, by_row[name]))
        except (UserError, OSError) as error:  # the other rows go on
            unwritten.append(name)
            table.say(f"{name}: not written: {error}")

    try:
        ordered = due.order_trainings(trainings, places.capacity())
        ended = schedule.run(ordered, places, table, write)
    finally:
        table.close()
        places.close()
    for failed, end in ended.failed:
        log = training.log_of(training.files_of(study, failed.name, failed.seed))
        print(f"{failed}: failed: {end.why}; all that it said: {Path.cwd() / log}", flush=True)
    if ended.failed or unwritten:
        print("the same command tries these again, and goes on where they stopped", flush=True)
        return FAILED
    diverged = any(_record(study, done).outcome == "diverged" for done in trainings)
    return DIVERGED if diverged else 0


def _places(
    study: Params, trainings: list[Training], jobs: int | None, place: str, address: str | None
) -> Places:
    if place == "ray":
        from deepnets.grid import on_ray

        return on_ray.OnRay(study, trainings, jobs, address)
    return local.Local(study, jobs, len(trainings))


def put_together(study: Params, name: str, trainings: Sequence[Training]) -> str:
    """Write the row `name` anew from its `trainings`, which have all ended; says what it did.

    What is there of other seeds stays, if it is of the same parameters and data.
    """
    paths = rows.paths_of(study, name)
    new = {done.seed: _record(study, done) for done in trainings}
    with locks.held(name):
        merged = dict(new)
        new_record = next(iter(new.values()))
        for record in results.read(paths):
            seed = record.seed
            if seed in new:
                continue
            if seed in study.train.seeds and rows.belong_together(study, name, record, new_record):
                merged[seed] = record
            else:
                rows.clear(paths, seed)
        for seed in new:
            rows.clear(paths, seed)
            there = training.files_of(study, name, seed)
            rows.bring_model(there.model(seed), paths, seed)
            rows.bring_best_model(there.best_model(seed), paths, seed)
        architecture = training.files_of(study, name, trainings[0].seed).architecture
        files.write_bytes(paths.architecture, architecture.read_bytes())
        rows.write(study, name, merged)
        whole = set(study.train.seeds) <= set(new)
        if whole and dvc.available():
            rows.book(study, [f"train@{name}", f"evaluate@{name}"])
        for seed, record in new.items():
            there = training.files_of(study, name, seed)
            for path in there.metrics_dir.iterdir():
                if path != training.log_of(there):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            # The row has the model now. Two checkpoints each of hundreds of trainings fill a disk.
            folder = there.checkpoints_of(seed, record.provenance["fingerprint"])
            checkpoints.drop_older(folder, record.history, record.keep != "last")
    lacking = [seed for seed in study.train.seeds if seed not in merged]
    if lacking:
        return f"{name}: written; seeds not trained yet: {', '.join(map(str, lacking))}"
    return f"{name}: written" + (", and booked in dvc.lock" if whole and dvc.available() else "")


def _record(study: Params, done: Training) -> TrainingRecord:
    """What a training has come to, from its folder or, where that was emptied, from its row."""
    for paths in (training.files_of(study, done.name, done.seed), rows.paths_of(study, done.name)):
        for record in results.read(paths):
            if record.seed == done.seed:
                return record
    raise UserError(f"{done} has ended and left no record: run the same command again")


def _outcome(record: TrainingRecord) -> str:
    tested = record.test or {}
    how = "" if record.outcome == "completed" else f"{record.outcome}; "
    return f"done: {how}test accuracy {tested['accuracy']:.4f}"


def _finish(study: Params, names: Sequence[str], stale: set[str] | None, whole: bool) -> int:
    """Evaluate what was trained before and is due, then all that follows, and show it.

    Returns:
        The exit status: FAILED where a row could not be evaluated, which DVC has said.
    """
    if not dvc.available():
        print(
            "trained and tested, see metrics/; `deepnets report` makes the report, and at home "
            "`deepnets adopt` does, which takes all of it over (docs/gpu.md)"
        )
        return 0
    if whole:
        repro.main(Path())
        return 0
    from deepnets.stages import publish, report

    due_stages = [
        f"evaluate@{name}"
        for name in names
        if stale and f"evaluate@{name}" in stale and f"train@{name}" not in stale
    ]
    failed = [dvc.run("repro", "--single-item", stage, folder=Path()) for stage in due_stages]
    report.main()
    publish.main()
    repro.show(Path(), study)
    return FAILED if any(failed) else 0
