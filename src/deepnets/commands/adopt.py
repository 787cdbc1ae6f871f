"""Take trainings that other machines or clones have made over into the study at hand.

A training (a row, with one seed) is known by its parameters, not by what it is called or where it
lies. It is taken over only if it is one of this study, on this study's data, and its files agree
with each other; the seeds of a row are put together. Its model comes along where it is there.
"""

import dataclasses
import lzma
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deepnets.base import files, locks, progress, project
from deepnets.base.errors import UserError, one_line
from deepnets.commands import arrivals, repro
from deepnets.commands.arrivals import Arrival, Check, ForeignTrainingError, RefusedError
from deepnets.commands.run import prepare_data
from deepnets.config import params
from deepnets.config.params import Params
from deepnets.grid import rows
from deepnets.networks import saving
from deepnets.records import results
from deepnets.records.results import TrainingRecord
from deepnets.reporting import run_figures

# Folders in which a clone keeps what is no result.
_NO_RESULTS = frozenset({".git", ".dvc", ".venv", "checkpoints"})


def main(sources: Sequence[Path], replace: bool) -> int:
    """Take over what belongs here from `sources`, then make the report and tell MLflow.

    Args:
        sources: folders with trainings somewhere below them, other studies, or tar archives of
            such.
        replace: take a training also where another one of its row and seed is here.

    Returns:
        The exit status: 1 where a training was refused or nothing in `sources` belongs here.
    """
    study = params.load()
    with ExitStack() as stack:
        unpacked = [_unpack(source, stack) if source.is_file() else source for source in sources]
        return _adopt(study, unpacked, replace)


def _unpack(archive: Path, stack: ExitStack) -> Path:
    """The folder that `archive` is unpacked into, below one that is there as long as `stack`."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="deepnets-"))) / archive.name
    try:
        with (
            archive.open("rb") as raw,
            tarfile.open(fileobj=raw) as packed,
            progress.bar(archive.stat().st_size, f"unpack {archive.name}", "B") as bar,
        ):
            for member in packed:
                if _may_be_results(member):
                    packed.extract(member, folder, filter="data")
                bar.update(raw.tell() - bar.n)
            _read_to_its_end(packed)
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not of its bytes
            raise
        # Of a file that is none, tarfile says for each kind of archive why; its first words do.
        said = one_line(error, 200).partition(": - ")[0]
        raise UserError(
            f"{archive} cannot be unpacked ({said}): expected a folder or a whole tar archive; "
            "bring it again"
        ) from None
    return folder


def _may_be_results(member: tarfile.TarInfo) -> bool:
    """Whether a member of an archive is of what `_folders` looks at: no link, nothing of git's."""
    return (member.isfile() or member.isdir()) and not _NO_RESULTS & set(Path(member.name).parts)


def _read_to_its_end(packed: tarfile.TarFile) -> None:
    """Look for the end of the archive, and have what is compressed check its sum, behind that.

    Raises:
        OSError, EOFError: it is damaged, or cut off, if only between two files.
    """
    assert packed.fileobj is not None
    packed.fileobj.seek(packed.offset)
    if not packed.fileobj.read(tarfile.BLOCKSIZE):
        raise EOFError("it has no end")
    while packed.fileobj.read(2**20):
        pass


def _adopt(study: Params, sources: Sequence[Path], replace: bool) -> int:
    """`main`, of folders."""
    folders = [folder for source in sources for folder in _folders(source)]
    prepare_data()
    check = Check(study)
    taken: dict[str, dict[int, Arrival]] = {}
    refused = 0
    for folder in folders:
        try:
            for training in _trainings(folder):
                try:
                    _add(training, check, taken, replace)
                except RefusedError as error:
                    refused += 1
                    print(f"{training}: refused: {error}", file=sys.stderr, flush=True)
                except ForeignTrainingError as error:
                    print(f"{training}: left alone: {error}", flush=True)
        except ForeignTrainingError as error:
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
            f"{source} is not there: expected a folder with trainings below it, another machine's "
            "study, or what it packed of its metrics/"
        )
    patterns = ["**/provenance.json"]
    if (source / "dvc.yaml").is_file():
        patterns = ["metrics/*/provenance.json", "single/*/provenance.json"]
    parents = {path.parent: None for pattern in patterns for path in sorted(source.glob(pattern))}
    folders = [
        folder for folder in parents if not _NO_RESULTS & set(folder.relative_to(source).parts)
    ]
    if not folders:
        raise UserError(
            f"{source} holds no trainings: expected folders with provenance.json, history.csv and "
            "the other files of metrics/RUN"
        )
    return folders


def _trainings(folder: Path) -> Iterator[Arrival]:
    """The trainings of a run, a seed each, whose numbers are in `folder`."""
    try:
        records = results.read(project.run_at(folder))
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"its files may not be read ({error})") from None
    except Exception as error:  # a reader of damaged files may raise anything
        raise UserError(f"its files are damaged ({type(error).__name__}: {error})") from None
    if not records:
        raise ForeignTrainingError("its training has not ended (there is no train.json)")
    for result in records:
        name = f"seed-{result.seed}.keras"
        places = [folder / name]
        if folder.parent.name == "metrics":
            places.append(folder.parents[1] / "models" / folder.name / name)
        yield Arrival(result, folder, next((path for path in places if path.is_file()), None))


def _add(
    training: Arrival,
    check: Check,
    taken: dict[str, dict[int, Arrival]],
    replace: bool,
) -> None:
    """Note in `taken` a training that belongs here, unless another one has its place."""
    name, seed = check.row(training), training.result.seed
    seeds = taken.setdefault(name, {})
    before = seeds.get(seed)
    if before is not None:
        if not arrivals.is_same_training(before.result, training.result):
            raise RefusedError(f"{before} is another training of {name}, seed {seed}")
        seeds[seed] = _merge(before, training)
        return
    here = next(
        (
            record
            for record in results.read(rows.paths_of(check.study, name))
            if record.seed == seed
        ),
        None,
    )
    if here is not None and not arrivals.is_same_training(here, training.result) and not replace:
        if not seeds:
            del taken[name]
        raise RefusedError(
            f"another training of {name}, seed {seed}, is here: --replace takes this one instead"
        )
    seeds[seed] = training


def _merge(a: Arrival, b: Arrival) -> Arrival:
    """What two places have of the same training."""
    richer, other = (b, a) if _lacking_parts(a.result, b.result) else (a, b)
    return dataclasses.replace(richer, model=richer.model or other.model)


def _take_all(
    study: Params,
    taken: Mapping[str, Mapping[int, Arrival]],
    replace: bool,
) -> int:
    """Write the rows; returns how many could not be."""
    count, refused = sum(map(len, taken.values())), 0
    with progress.bar(count, "adopt", " trainings") as bar:
        for name, trainings in taken.items():
            try:
                with locks.held(name):
                    lines = _take(study, name, trainings, replace)
            except (UserError, RefusedError) as error:
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
    trainings: Mapping[int, Arrival],
    replace: bool,
) -> list[str]:
    """Write a row's files anew, with the seeds that are here and `trainings`; says what it did."""
    paths = rows.paths_of(study, name)
    diagnosis = _diagnosis(trainings)
    here = {record.seed: record for record in results.read(paths)}
    lines, merged, added_here = [], dict(here), []
    new = next(iter(trainings.values())).result
    for seed, other in here.items():
        if seed in trainings or rows.belong_together(study, name, other, new):
            continue
        if not replace:
            raise RefusedError(
                f"with seed {seed} it was trained here with other parameters or data: --replace "
                "takes that away"
            )
        del merged[seed]
        rows.clear(paths, seed)
    for seed, training in trainings.items():
        before = here.get(seed)
        known = before is not None and arrivals.is_same_training(before, training.result)
        if before is not None and not known and not replace:
            raise RefusedError(f"another training with seed {seed} has ended here meanwhile")
        if not known:
            rows.clear(paths, seed)
        added = _lacking_parts(before, training.result) if before is not None and known else []
        if not known or added:
            merged[seed] = training.result
            added_here.append(training)
        added += ["its model"] if rows.bring_model(training.model, paths, seed) else []
        if rows.bring_best_model(training.best_model, paths, seed):
            added.append("the model of its best epoch")
        said = "is here already" if known else f"adopted from {training.folder}"
        said += f"; added: {', '.join(added)}" if known and added else ""
        said += "" if paths.model(seed).is_file() else ", without its model"
        if training.result.test is not None and training.result.probabilities is None:
            said += " (without its probabilities: of its test, the accuracy was computed anew)"
        lines.append(f"{name}, seed {seed}: {said}")
    if added_here:
        rows.write(study, name, merged)
        architecture = added_here[0].folder / paths.architecture.name
        if architecture.is_file():
            files.write_bytes(paths.architecture, architecture.read_bytes())
    if diagnosis is not None and not paths.diagnosis.is_file():
        files.write_json(paths.diagnosis, diagnosis | {"run": name})
        lines.append(f"{name}: with what was found out about its layers")
    for training in added_here:
        # Before the report draws the others: this one may lack what it is drawn from.
        there = project.run_at(training.folder).figures(training.result.seed)
        run_figures.take_over(there, paths, training.result)
    return lines


def _diagnosis(trainings: Mapping[int, Arrival]) -> dict[str, Any] | None:
    """What a folder says about the layers of its models, if all of these are among `trainings`."""
    for folder in dict.fromkeys(training.folder for training in trainings.values()):
        path = project.run_at(folder).diagnosis
        if not path.is_file():
            continue
        try:
            diagnosis: dict[str, Any] = files.read_json(path)
            seeds = {int(seed) for seed in diagnosis["seeds"]}
        except (UserError, KeyError, TypeError, ValueError) as error:
            raise RefusedError(f"{path} is damaged ({error}): delete it, or mend it") from None
        if seeds <= {seed for seed, training in trainings.items() if training.folder == folder}:
            return diagnosis
    return None


def _lacking_parts(here: TrainingRecord, there: TrainingRecord) -> list[str]:
    """What the same training has there and not here."""
    parts = {"its test": "test", "its probabilities": "probabilities"}
    return [
        name
        for name, key in parts.items()
        if getattr(here, key) is None and getattr(there, key) is not None
    ]


def _book(study: Params, names: Sequence[str]) -> None:
    """Have DVC take those of `names` that are whole, models included, for trained."""
    stages = [stage for name in names for stage in _whole_stages(study, name)]
    if not stages:
        return
    booked = rows.book(study, stages)
    print(f"booked in dvc.lock, so that `dvc repro` trains them not again: {', '.join(booked)}")


def _whole_stages(study: Params, name: str) -> list[str]:
    """The stages of a row all of whose outputs are here, for every seed, and go together."""
    paths, seeds = rows.paths_of(study, name), study.train.seeds
    by_seed = {record.seed: record for record in results.read(paths)}
    written = (paths.history, paths.timing, paths.train, paths.architecture)
    if not all(path.is_file() for path in written) or not set(seeds) <= set(by_seed):
        return []
    for seed in seeds:
        origin = by_seed[seed].provenance
        models = {paths.model(seed): origin.get("weights")}
        if "best_weights" in origin:
            models[paths.best_model(seed)] = origin["best_weights"]
        for model, recorded in models.items():
            if not model.is_file():
                return []
            if recorded not in (None, saving.weights_digest(saving.load(model))):
                return []
    tested = all(by_seed[seed].probabilities is not None for seed in seeds)
    evaluated = tested and paths.calibration.is_file() and paths.predictions.is_file()
    return [f"train@{name}", *([f"evaluate@{name}"] if evaluated else [])]


def _show(study: Params) -> None:
    """Make the report and bring MLflow level, as the last stages of `dvc repro` would."""
    from deepnets.stages import publish, report

    report.main()
    publish.main()
    repro.show(Path(), study)
