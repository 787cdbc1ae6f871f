"""What a run left behind: the files that hold its seeds together, written and read back.

A CSV file has the column `seed`; a JSON file of numbers holds them as they are for one seed, and
for several their means, with each seed's own below `seeds`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from deepnets.base import csv_files, files
from deepnets.base.errors import UserError
from deepnets.base.project import RunFiles, run_at
from deepnets.config.fields import Keep
from deepnets.config.sections import RunParams
from deepnets.records import predictions
from deepnets.records.provenance import Provenance
from deepnets.training import scores
from deepnets.training.checkpoints import Row, Rows

Numbers = dict[str, Any]

# completed: all epochs ran. collapsed: they did, at chance. diverged: the loss became NaN or
# infinite, and the epochs before are what there is.
Outcome = Literal["completed", "collapsed", "diverged"]

# What `which_epoch` calls the best one.
BEST = "the best by val_accuracy"

# What an epoch of a training is measured by, in the order of histories and tables.
EPOCH_METRICS = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")

_HISTORY = ["seed", "epoch", *EPOCH_METRICS]
TIMING = ["seed", "epoch", "seconds", "validation_seconds", "images_per_second", "finished_ms"]
# Of these columns, those that count something.
_COUNTS = ("epoch", "finished_ms")


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """All that is known of one training, of a run with one seed, after the fact.

    `history` has a row an epoch (epoch, loss, accuracy, val_loss, val_accuracy, learning_rate),
    `timing` as well (epoch, seconds, validation_seconds, images_per_second). `test` holds loss
    and accuracy on the test images; `labels` and `predicted` uint8 (n,) and `probabilities` float32
    (n, 10) are theirs, in the order of the test split; `calibration` is what was made of them.
    These five are None for a training not evaluated yet, `probabilities` as well where only what
    git keeps is at hand.

    `row` are the parameters that a row of the study at hand has for this seed, where it was read as
    that row's. `study` is the folder of the study that it was trained in, relative to the project's
    root, and `place` that of the study that its files are in, as far as they are known;
    `experiment` is MLflow's, for a training that comes from there.
    """

    run: str
    seed: int
    history: list[Row]
    timing: list[Row]
    outcome: Outcome
    provenance: Provenance
    test: dict[str, float] | None = None
    labels: NDArray[np.uint8] | None = None
    predicted: NDArray[np.uint8] | None = None
    probabilities: NDArray[np.float32] | None = None
    calibration: Numbers | None = None
    row: RunParams | None = None
    study: str | None = None
    place: str | None = None
    experiment: str | None = None

    @property
    def params(self) -> RunParams:
        """The parameters of its row, for whoever has read it with them."""
        if self.row is None:
            raise ValueError(f"{self} was not read as a row of the study at hand")
        return self.row

    @property
    def numbers(self) -> Numbers:
        """What train.json says of it."""
        chance = self.provenance["chance_accuracy"]
        return summary(self.history, chance, self.outcome == "diverged", self.keep)

    @property
    def keep(self) -> Keep:
        """Which epochs' models it has left behind."""
        return keep_of(self.provenance)

    @property
    def model_row(self) -> Row:
        """The row of `history` whose epoch's model its results are those of; there must be one."""
        return self.history[model_epoch(self.history, self.keep) - 1]

    def __str__(self) -> str:
        return f"{self.run}, seed {self.seed}"


def training_record(
    run: str, seed: int, rows: Rows, diverged: bool, provenance: Provenance
) -> TrainingRecord:
    """What a training that has just ended came to."""
    chance = provenance["chance_accuracy"]
    numbers = summary(rows.history, chance, diverged, keep_of(provenance))
    return TrainingRecord(
        run=run,
        seed=seed,
        history=rows.history,
        timing=rows.timing,
        outcome=outcome(numbers),
        provenance=provenance,
    )


def write(paths: RunFiles, trained: Iterable[TrainingRecord]) -> None:
    """Write what the seeds of a run have come to in their training."""
    records = {record.seed: record for record in trained}
    rows = {seed: Rows(record.history, record.timing) for seed, record in records.items()}
    write_rows(paths.metrics_dir, rows)
    files.write_json(
        paths.train, combine_seeds({seed: record.numbers for seed, record in records.items()})
    )
    files.write_json(
        paths.provenance, {str(seed): record.provenance for seed, record in records.items()}
    )


def write_rows(folder: Path, rows: Mapping[int, Rows]) -> None:
    """Write the rows of each seed to history.csv and timing.csv in `folder`."""
    for name, columns, kind in (
        ("history.csv", _HISTORY, "history"),
        ("timing.csv", TIMING, "timing"),
    ):
        table = [
            {"seed": seed, **row}
            for seed, seed_rows in rows.items()
            for row in getattr(seed_rows, kind)
        ]
        csv_files.write_csv(folder / name, table, columns)


def combine_seeds(by_seed: Mapping[int, Numbers]) -> Numbers:
    """The numbers of one seed as they are; of several their means, and each's in a list, `seeds`.

    A list, since DVC passes over lists: each number below a key would be one more column of
    `dvc exp show` and of the table in the editor.
    """
    if len(by_seed) == 1:
        return dict(next(iter(by_seed.values())))
    keys = dict.fromkeys(key for numbers in by_seed.values() for key in numbers)
    means = {
        key: float(np.mean([numbers[key] for numbers in by_seed.values() if key in numbers]))
        for key in keys
    }
    return {**means, "seeds": [{"seed": seed, **numbers} for seed, numbers in by_seed.items()]}


def numbers_of_seed(numbers: Numbers, seed: int) -> Numbers | None:
    """The numbers of one seed out of `combine_seeds`; None where they are not there."""
    if "seeds" not in numbers:
        return numbers
    return numbers_by_seed(numbers).get(seed)


def numbers_by_seed(numbers: Numbers) -> dict[int, Numbers]:
    """The numbers of each of several seeds out of `combine_seeds`; none where there is one seed."""
    seeds = numbers.get("seeds", [])
    if isinstance(seeds, dict):  # so wrote them who trained before they were a list
        return {int(seed): seed_numbers for seed, seed_numbers in seeds.items()}
    return {
        seed_numbers["seed"]: {key: value for key, value in seed_numbers.items() if key != "seed"}
        for seed_numbers in seeds
    }


def rows_of_seed(rows: Sequence[Row], seed: int) -> list[Row]:
    """The rows of one seed, without the column `seed`; what counts something is an integer."""
    return [
        {key: int(row[key]) if key in _COUNTS else row[key] for key in row if key != "seed"}
        for row in rows
        if row["seed"] == seed
    ]


def outcome(trained: Numbers) -> Outcome:
    """How a training ended, from its numbers in train.json."""
    if trained["diverged"]:
        return "diverged"
    return "collapsed" if trained["collapsed"] else "completed"


def keep_of(provenance: Provenance) -> Keep:
    """Which epochs' models the training of `provenance` has left behind."""
    return cast(Keep, provenance.get("parameters", {}).get("keep", "last"))


def model_epoch(history: Sequence[Mapping[str, Any]], keep: Keep) -> int:
    """The epoch of a run's model: where it keeps that of the best alone the best, else the last.

    0 where no epoch was finished.
    """
    if keep == "best" and history:
        return scores.best_epoch(history)
    return len(history)


def which_epoch(history: Sequence[Mapping[str, Any]], keep: Keep, best: bool = False) -> str:
    """In words, for people: of which epoch a model is.

    Args:
        history: of its training.
        keep: which epochs' models that has left behind.
        best: whether it is the best epoch's model beside the last one's.
    """
    if not history:
        return "no epoch was finished"
    if best or keep == "best":
        epoch = scores.best_epoch(history)
        return f"epoch {epoch} of {len(history)}, {BEST}"
    return f"epoch {len(history)} of {len(history)}, the last epoch"


def summary(
    history: Sequence[Mapping[str, Any]], chance: float, diverged: bool, keep: Keep = "last"
) -> Numbers:
    """The scores of the model's epoch, the epoch with the best validation accuracy, how it ended.

    Args:
        history: the finished epochs, none of them for a run that diverged at once.
        chance: from `scores.chance_accuracy`, of the training labels.
        diverged: whether the loss became NaN or infinite after these epochs.
        keep: whose model it is, see `model_epoch`.
    """
    ends = {"collapsed": int(scores.collapsed(history, chance)), "diverged": int(diverged)}
    if not history:
        return {"epochs": 0, **ends}
    best = history[scores.best_epoch(history) - 1]
    model = history[model_epoch(history, keep) - 1]
    return {
        "epochs": history[-1]["epoch"],
        **{key: model[key] for key in ("loss", "accuracy", "val_loss", "val_accuracy")},
        "best_epoch": best["epoch"],
        "best_val_accuracy": best["val_accuracy"],
        **ends,
    }


def read(paths: RunFiles) -> list[TrainingRecord]:
    """All seeds whose training has ended, from the files of a run; none where these are not there.

    What a training from before a file existed has not written is empty.
    """
    if not (paths.train.is_file() and paths.history.is_file() and paths.provenance.is_file()):
        return []
    trained, provenance = files.read_json(paths.train), files.read_json(paths.provenance)
    history = csv_files.read_csv(paths.history, _HISTORY)
    timing = csv_files.read_csv(paths.timing, TIMING[:2]) if paths.timing.is_file() else []
    tested = files.read_json(paths.test) if paths.test.is_file() else None
    written = (path for path in (paths.predictions, paths.plain_predictions) if path.is_file())
    predicted_by_seed = next(map(predictions.read, written), {})
    calibrations = files.read_json(paths.calibration) if paths.calibration.is_file() else {}
    places = list(predicted_by_seed)
    records = []
    for text, origin in provenance.items():
        seed = int(text)
        numbers = numbers_of_seed(trained, seed)
        if numbers is None:
            continue
        labels, predicted = predicted_by_seed.get(seed, (None, None))
        probabilities = None
        if predicted is not None and paths.probabilities.is_file():
            probabilities = _read_probabilities(
                paths.probabilities, places.index(seed), len(places)
            )
        records.append(
            TrainingRecord(
                run=paths.name,
                seed=seed,
                history=rows_of_seed(history, seed),
                timing=rows_of_seed(timing, seed),
                outcome=outcome(numbers),
                provenance=origin,
                # The numbers of a single seed do not say whose they are, its predictions do.
                test=numbers_of_seed(tested, seed) if tested and predicted is not None else None,
                labels=labels,
                predicted=predicted,
                probabilities=probabilities,
                calibration=calibrations.get(text),
            )
        )
    return records


def load(paths: RunFiles, runs: Sequence[RunParams]) -> list[TrainingRecord]:
    """The seeds of a row that have been trained, of those in `runs` (the row resolved for each)."""
    by_seed = {record.seed: record for record in read(paths)}
    return [replace(by_seed[run.seed], row=run) for run in runs if run.seed in by_seed]


def read_folder(
    folder: Path,
    study: str | None = None,
    experiment: str | None = None,
    name: str | None = None,
) -> list[TrainingRecord]:
    """The trainings whose files are in `folder`, the `metrics_dir` of a run or a copy of it.

    They are called `name`: a row that was adopted may have had another one where it was trained,
    which is taken where none is given.
    """
    return [
        replace(
            record,
            run=name or record.provenance["run"],
            # Where it was trained, which need not be where its files are.
            study=_require_inside(record.provenance["git"].get("study")) or study,
            place=study,
            experiment=experiment,
        )
        for record in read(run_at(folder))
    ]


def _require_inside(study: str | None) -> str | None:
    """`study`, a folder that a record names; it must be one of the project's."""
    if study and (Path(study).is_absolute() or ".." in Path(study).parts):
        raise UserError(
            f"the record names {study!r} as the folder of its study, which is outside of the "
            "project: it is not one that this project has written"
        )
    return study


def lacks_only_model(paths: RunFiles, seed: int) -> bool:
    """Whether what git keeps of a training is here, and its model is not."""
    model = paths.model(seed)
    trained = files.read_json(paths.provenance) if paths.provenance.is_file() else {}
    return str(seed) in trained and not (model.is_file() or model.is_symlink())


def require_model(paths: RunFiles, seed: int) -> None:
    """Check, before it is used, that the model of a training is here and whole.

    Raises:
        UserError: it is not; the message says whether only the model is missing, and the remedy.
    """
    model = paths.model(seed)
    if lacks_only_model(paths, seed):
        raise UserError(
            f"{model} is not here, only what git keeps of its training: `deepnets adopt` takes it "
            "over from where it is, `dvc pull` from a remote, and "
            f"`dvc repro train@{paths.name}` trains it here"
        )
    files.verify(model)


def _read_probabilities(path: Path, place: int, seeds: int) -> NDArray[np.float32] | None:
    """The probabilities of one of so many seeds; None where they are not at hand."""
    stack = files.read_array(path)
    if len(stack) != seeds:  # whoever wrote it was interrupted
        return None
    probabilities = np.asarray(stack[place])
    return None if np.isnan(probabilities).any() else probabilities
