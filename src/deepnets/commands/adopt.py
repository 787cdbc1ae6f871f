"""Take trainings that other machines or clones have made over into the study at hand.

A training (a row, with one seed) is known by its parameters, not by what it is called or where it
lies. It is taken over only if it is one of this study, on this study's data, and its files agree
with each other; the seeds of a row are put together. Its model comes along where it is there.
"""

import dataclasses
import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from deepnets.base import files, locks, progress, project
from deepnets.base.errors import UserError
from deepnets.commands import repro
from deepnets.commands.run import prepare_data
from deepnets.config import params
from deepnets.config.params import Params, RunParams
from deepnets.data import splits
from deepnets.evaluation import evaluation
from deepnets.networks import saving
from deepnets.records import provenance, results, statistics
from deepnets.records.results import SeedResult
from deepnets.reporting import run_figures
from deepnets.training import checkpoints, scores

# Folders in which a clone keeps what is no result.
_NO_RESULTS = frozenset({".git", ".dvc", ".venv", "checkpoints"})

# Another processor may sum the same losses in another order.
_ROUNDING = 1e-9


class _ForeignError(Exception):
    """A training is none of this study's, or has not ended; its message says why."""


class _RefusedError(Exception):
    """A training belongs to the study, but not all of it can be right, or another one is there."""


@dataclass(frozen=True)
class Training:
    """A training somewhere else: what it came to, the folder with its numbers, and its model."""

    result: SeedResult
    folder: Path
    model: Path | None

    def __str__(self) -> str:
        return f"{self.folder}, seed {self.result.seed}"


def main(sources: Sequence[Path], replace: bool) -> int:
    """Take over what belongs here from `sources`, then make the report and tell MLflow.

    Args:
        sources: folders with trainings somewhere below them, or other studies.
        replace: take a training also where another one of its row and seed is here.

    Returns:
        The exit status: 1 where a training was refused or nothing in `sources` belongs here.
    """
    study = params.load()
    folders = [folder for source in sources for folder in _folders(source)]
    prepare_data()
    check = _Check(study)
    taken: dict[str, dict[int, Training]] = {}
    refused = 0
    for folder in folders:
        try:
            for training in _trainings(folder):
                try:
                    _add(training, check, taken, replace)
                except _RefusedError as error:
                    refused += 1
                    print(f"{training}: refused: {error}", file=sys.stderr, flush=True)
                except _ForeignError as error:
                    print(f"{training}: left alone: {error}", flush=True)
        except _ForeignError as error:
            print(f"{folder}: left alone: {error}", flush=True)
        except UserError as error:
            refused += 1
            print(f"{folder}: refused: {error}", file=sys.stderr, flush=True)
    if taken:
        refused += _take_all(study, taken, replace)
        _show(study)
        _book(study, list(taken))
    return 1 if refused or not taken else 0


def _folders(source: Path) -> list[Path]:
    """Where below `source` trainings have their numbers: of a study its own, else all there are."""
    if not source.is_dir():
        raise UserError(
            f"{source} is no folder: expected one with trainings below it, another machine's "
            "study, or what it packed of its metrics/"
        )
    patterns = ["**/provenance.json"]
    if (source / "dvc.yaml").is_file():
        patterns = ["metrics/*/provenance.json", "single/*/provenance.json"]
    found = {path.parent: None for pattern in patterns for path in sorted(source.glob(pattern))}
    folders = [
        folder for folder in found if not _NO_RESULTS & set(folder.relative_to(source).parts)
    ]
    if not folders:
        raise UserError(
            f"{source} holds no trainings: expected folders with provenance.json, history.csv and "
            "the other files of metrics/RUN"
        )
    return folders


def _trainings(folder: Path) -> Iterator[Training]:
    """The trainings of a run, a seed each, whose numbers are in `folder`."""
    try:
        found = results.read(project.run_at(folder))
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"its files may not be read ({error})") from None
    except Exception as error:  # a reader of damaged files may raise anything
        raise UserError(f"its files are damaged ({type(error).__name__}: {error})") from None
    if not found:
        raise _ForeignError("its training has not ended (there is no train.json)")
    for result in found:
        name = f"seed-{result.seed}.keras"
        places = [folder / name]
        if folder.parent.name == "metrics":
            places.append(folder.parents[1] / "models" / folder.name / name)
        yield Training(result, folder, next((path for path in places if path.is_file()), None))


class _Check:
    """What trainings are held against: the study's rows and its data."""

    def __init__(self, study: Params) -> None:
        self.study = study
        self.test = splits.load("test")
        self._splits = {"train": splits.load("train"), "validation": splits.load("validation")}
        self._digest = cache(lambda name, count: self._splits[name].first(count).digest)

    def row(self, training: Training) -> str:
        """The row that `training` is one of.

        Raises:
            _ForeignError: of none; the message names the nearest and what differs.
            _RefusedError: something about it is not as it says.
        """
        result, origin = training.result, training.result.provenance
        try:
            self._record(origin)
            name, run = self._by_parameters(origin["parameters"], result.seed)
            self._data(origin, run)
            _history(training, run)
            self._tested(result)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _RefusedError(
                f"its files are damaged ({type(error).__name__}: {error})"
            ) from None
        if training.model is not None:
            _model(training.model, origin.get("weights"))
        elif result.test is None:
            raise _RefusedError("it was not tested, and its model is not with it")
        return name

    def _record(self, origin: Mapping[str, Any]) -> None:
        if provenance.fingerprint_of(origin) != origin["fingerprint"]:
            raise _RefusedError(
                "its provenance.json was changed: the fingerprint there is not that of its "
                "parameters, data, starting weights, code and libraries"
            )

    def _by_parameters(self, parameters: dict[str, Any], seed: int) -> tuple[str, RunParams]:
        try:
            run = RunParams.model_validate({"train_images": None} | parameters)
        except ValidationError as error:
            said = params.describe(error, RunParams).removesuffix(": correct it and run again")
            raise _ForeignError(f"this version knows no such parameters ({said})") from None
        rows = {name: self.study.run_params(name, seed) for name in self.study.runs}
        name = next((name for name, row in rows.items() if row == run), None)
        if name is None:
            raise _ForeignError(_nearest(run, rows))
        if seed not in self.study.train.seeds:
            raise _ForeignError(
                f"it is of {name}, with a seed that this study has not: expected one of "
                f"{', '.join(map(str, self.study.train.seeds))}: add it to train.seed"
            )
        return name, run

    def _data(self, origin: Mapping[str, Any], run: RunParams) -> None:
        expected = {
            "training": (origin["data"]["train"], self._digest("train", run.train_images)),
            "validation": (origin["data"]["validation"], self._digest("validation", None)),
            "test": (origin["test_data"], self.test.digest),
        }
        for name, (received, ours) in expected.items():
            if received != ours:
                raise _RefusedError(
                    f"it has other {name} images: expected sha256 {ours[:12]}..., received "
                    f"{received[:12]}..."
                )

    def _tested(self, result: SeedResult) -> None:
        """Compute the metrics of the test again, as far as what they come from is there."""
        if result.test is None:
            return
        if result.labels is None or result.predicted is None:
            raise _RefusedError("predictions.csv does not hold what test.json is about")
        if not np.array_equal(result.labels, self.test.labels):
            raise _RefusedError("predictions.csv is about other test images")
        again = {"accuracy": float((result.predicted == result.labels).mean())}
        if result.probabilities is not None:
            again = scores.score(result.probabilities, result.labels)
            if (result.probabilities.argmax(axis=1) != result.predicted).any():
                raise _RefusedError("predictions.csv does not follow from probabilities.npy")
        elif result.calibration is not None:
            kept = statistics.Calibration.of_numbers(result.calibration)
            right = round(float(np.nansum(kept.counts * kept.accuracy)))
            if (int(kept.counts.sum()), right) != (
                len(result.labels),
                int((result.predicted == result.labels).sum()),
            ):
                raise _RefusedError("calibration.json is not about predictions.csv")
        for key, value in again.items():
            if not math.isclose(value, result.test[key], rel_tol=_ROUNDING):
                raise _RefusedError(
                    f"test.json says {key} {result.test[key]!r}; its predictions come to {value!r}"
                )


def _nearest(run: RunParams, rows: Mapping[str, RunParams]) -> str:
    """That no row is `run`, and what it would take to be the one that is most like it."""
    own = run.flat
    differing = {
        name: [key for key in {**own, **row.flat} if own.get(key) != row.flat.get(key)]
        for name, row in rows.items()
    }
    name = min(differing, key=lambda name: len(differing[name]))
    theirs = rows[name].flat
    said = [f"{key} {own.get(key)}, not {theirs.get(key)}" for key in differing[name]]
    more = f" and {len(said) - 3} more" if len(said) > 3 else ""
    return f"no row has its parameters; from {name} it differs in {'; '.join(said[:3])}{more}"


def _history(training: Training, run: RunParams) -> None:
    result = training.result
    epochs = [int(row["epoch"]) for row in result.history]
    diverged = result.outcome == "diverged"
    if (
        epochs != list(range(1, len(epochs) + 1))
        or [int(r["epoch"]) for r in result.timing] != epochs
    ):
        raise _RefusedError("history.csv and timing.csv do not hold the same epochs from 1 on")
    if len(epochs) != run.epochs and not (diverged and len(epochs) < run.epochs):
        raise _RefusedError(f"history.csv holds {len(epochs)} epochs, expected {run.epochs}")
    if not all({"seed", *row} >= set(results.TIMING) for row in result.timing):
        raise _RefusedError(f"timing.csv lacks a column: expected {', '.join(results.TIMING)}")
    numbers = results.of_seed(files.read_json(training.folder / "train.json"), result.seed)
    chance = result.provenance["chance_accuracy"]
    if not _equal(numbers, results.summary(_whole(result.history), chance, diverged)):
        raise _RefusedError("train.json does not follow from history.csv")


def _model(path: Path, weights: str | None) -> None:
    """Check that the model at `path` is the one that was sealed, with the recorded weights."""
    noted = files.noted(path)
    if noted is not None and noted != files.file_digest(path):
        raise _RefusedError(f"{path.name} is not the file that {files.SUMS} beside it names")
    try:
        received = saving.weights_digest(saving.load(path))
    except UserError as error:
        raise _RefusedError(str(error)) from None
    if weights is not None and received != weights:
        raise _RefusedError(
            f"{path.name} has other weights than its record says: expected sha256 "
            f"{weights[:12]}..., received {received[:12]}..."
        )


def _add(
    training: Training,
    check: _Check,
    taken: dict[str, dict[int, Training]],
    replace: bool,
) -> None:
    """Note in `taken` a training that belongs here, unless another one has its place."""
    name, seed = check.row(training), training.result.seed
    seeds = taken.setdefault(name, {})
    before = seeds.get(seed)
    if before is not None:
        if not _same(before.result, training.result):
            raise _RefusedError(f"{before} is another training of {name}, seed {seed}")
        seeds[seed] = _merged(before, training)
        return
    here = next((of for of in results.read(_paths(check.study, name)) if of.seed == seed), None)
    if here is not None and not _same(here, training.result) and not replace:
        if not seeds:
            del taken[name]
        raise _RefusedError(
            f"another training of {name}, seed {seed}, is here: --replace takes this one instead"
        )
    seeds[seed] = training


def _same(a: SeedResult, b: SeedResult) -> bool:
    """Whether both are the same training, though one may lack its test or probabilities."""
    tests = a.test is None or b.test is None or _equal(a.test, b.test)
    return _equal(a.provenance, b.provenance) and _equal(a.history, b.history) and tests


def _equal(a: Any, b: Any) -> bool:
    """Whether two readings of files are the same; a loss that is no number equals itself here."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _merged(a: Training, b: Training) -> Training:
    """What two places have of the same training."""
    richer, other = (b, a) if _lacking(a.result, b.result) else (a, b)
    return dataclasses.replace(richer, model=richer.model or other.model)


def _take_all(
    study: Params,
    taken: Mapping[str, Mapping[int, Training]],
    replace: bool,
) -> int:
    """Write the rows; returns how many could not be."""
    count, refused = sum(map(len, taken.values())), 0
    with progress.bar(count, "adopt", " trainings") as bar:
        for name, trainings in taken.items():
            try:
                with locks.held(name):
                    lines = _take(study, name, trainings, replace)
            except (UserError, _RefusedError) as error:
                refused += 1
                print(f"{name}: refused: {error}", file=sys.stderr, flush=True)
                continue
            for line in lines:
                progress.say(line)
            bar.update(len(trainings))
    return refused


def _take(
    study: Params,
    name: str,
    trainings: Mapping[int, Training],
    replace: bool,
) -> list[str]:
    """Write a row's files anew, with the seeds that are here and `trainings`; says what it did."""
    paths = _paths(study, name)
    here = {of.seed: of for of in results.read(paths)}
    lines, merged, added_here = [], dict(here), []
    for seed, training in trainings.items():
        before = here.get(seed)
        known = before is not None and _same(before, training.result)
        if before is not None and not known and not replace:
            raise _RefusedError(f"another training with seed {seed} has ended here meanwhile")
        if not known:
            _clear(paths, seed)
        added = _lacking(before, training.result) if before is not None and known else []
        if not known or added:
            merged[seed] = training.result
            added_here.append(training)
        added += ["its model"] if _bring_model(training, paths) else []
        said = "is here already" if known else f"adopted from {training.folder}"
        said += f"; added: {', '.join(added)}" if known and added else ""
        said += "" if paths.model(seed).is_file() else ", without its model"
        if training.result.test is not None and training.result.probabilities is None:
            said += " (without its probabilities: of its test, the accuracy was computed anew)"
        lines.append(f"{name}, seed {seed}: {said}")
    order = [seed for seed in study.train.seeds if seed in merged]
    order += [seed for seed in merged if seed not in order]
    if added_here:
        _write(paths, {seed: merged[seed] for seed in order})
        architecture = added_here[0].folder / paths.architecture.name
        if architecture.is_file():
            files.write_bytes(paths.architecture, architecture.read_bytes())
    for training in added_here:
        # Before the report draws the others: this one may lack what it is drawn from.
        there = project.run_at(training.folder).figures(training.result.seed)
        run_figures.take_over(there, paths, training.result)
    return lines


def _lacking(here: SeedResult, there: SeedResult) -> list[str]:
    """What the same training has there and not here."""
    found = {"its test": "test", "its probabilities": "probabilities"}
    return [
        name
        for name, key in found.items()
        if getattr(here, key) is None and getattr(there, key) is not None
    ]


def _write(paths: project.RunFiles, merged: Mapping[int, SeedResult]) -> None:
    rows = {
        seed: checkpoints.Rows(_whole(of.history), _whole(of.timing)) for seed, of in merged.items()
    }
    results.write_rows(paths.metrics_dir, rows)
    numbers = {
        seed: results.summary(
            rows[seed].history, of.provenance["chance_accuracy"], of.outcome == "diverged"
        )
        for seed, of in merged.items()
    }
    files.write_json(paths.train, results.together(numbers))
    files.write_json(paths.provenance, {str(seed): of.provenance for seed, of in merged.items()})
    tested = [_calibrated(of) for of in merged.values() if of.test is not None]
    if tested:
        evaluation.write(paths, tested)


def _calibrated(result: SeedResult) -> SeedResult:
    """The training with its calibration computed anew, where its probabilities are there."""
    if result.labels is None or result.probabilities is None:
        return result
    numbers = statistics.calibration(result.labels, result.probabilities).numbers
    return dataclasses.replace(result, calibration=numbers)


def _whole(rows: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Rows as they were written: what counts something is an integer."""
    counts = ("epoch", "finished_ms")
    return [{k: int(v) if k in counts else v for k, v in row.items()} for row in rows]


def _clear(paths: project.RunFiles, seed: int) -> None:
    """Remove what belongs to another training of a seed and would be taken for the new one's."""
    paths.model(seed).unlink(missing_ok=True)
    paths.diagnosis.unlink(missing_ok=True)
    shutil.rmtree(paths.figures(seed), ignore_errors=True)


def _bring_model(training: Training, paths: project.RunFiles) -> bool:
    """Copy the model, if there is one and none is here already; returns whether it did."""
    target = paths.model(training.result.seed)
    if training.model is None or target.is_file():
        return False
    with files.replacing(target) as partial:
        shutil.copyfile(training.model, partial)
    files.seal(target)
    return True


def _book(study: Params, names: Sequence[str]) -> None:
    """Have DVC take those of `names` that are whole, models included, for trained by what is here.

    Raises:
        UserError: DVC refuses.
    """
    stages = [stage for name in names for stage in _whole_stages(study, name)]
    if not stages:
        return
    names = list(dict.fromkeys(stage.partition("@")[2] for stage in stages))
    starts = dict.fromkeys(study.entry(name).start for name in names)
    status = repro.dvc(
        *("repro", "--quiet", *(f"initialize@{start}" for start in starts)), folder=Path()
    ) or repro.dvc("commit", "--quiet", "--force", *stages, folder=Path())
    if status:
        raise UserError(
            f"DVC did not take {', '.join(names)} for trained, see above: all files are here; "
            "mend that and run the same command again"
        )
    print(f"booked in dvc.lock, so that `dvc repro` trains them not again: {', '.join(names)}")


def _whole_stages(study: Params, name: str) -> list[str]:
    """The stages of a row all of whose outputs are here, for every seed, and go together."""
    paths, seeds = _paths(study, name), study.train.seeds
    by_seed = {of.seed: of for of in results.read(paths)}
    written = (paths.history, paths.timing, paths.train, paths.architecture)
    if not all(path.is_file() for path in written) or not set(seeds) <= set(by_seed):
        return []
    for seed in seeds:
        if not paths.model(seed).is_file():
            return []
        recorded = by_seed[seed].provenance.get("weights")
        if recorded not in (None, saving.weights_digest(saving.load(paths.model(seed)))):
            return []
    tested = all(by_seed[seed].probabilities is not None for seed in seeds)
    evaluated = tested and paths.calibration.is_file()
    return [f"train@{name}", *([f"evaluate@{name}"] if evaluated else [])]


def _show(study: Params) -> None:
    """Make the report and bring MLflow level, as the last stages of `dvc repro` would."""
    from deepnets.stages import publish, report

    report.main()
    publish.main()
    repro.show(Path(), study)


def _paths(study: Params, name: str) -> project.RunFiles:
    return project.grid_run(name, study.entry(name).start)
