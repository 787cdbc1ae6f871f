"""What is tracked: one training with one seed, and what its files say of it. It knows no MLflow."""

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, cast

from deepnets.base import csv_files, files, processes
from deepnets.base.project import RunFiles
from deepnets.evaluation import epochs
from deepnets.records import results
from deepnets.records.provenance import Provenance
from deepnets.records.results import Numbers, Outcome
from deepnets.training import scores
from deepnets.training.checkpoints import Row

# What the models of a training are called in MLflow: its own, and its best epoch's beside that of
# the last one.
MODEL, BEST = "model", "best-epoch"


class TrackedModel(NamedTuple):
    """A saved model: its name in MLflow, its epoch, its file, and the sha256 of that."""

    name: str
    epoch: int
    path: Path
    digest: str


@dataclass(frozen=True)
class TrackedTraining:
    """One training with one seed, and where in MLflow it belongs.

    `seed` is the one that this is about, of `seeds` that the run has. `live` holds the files of
    the epochs finished so far; where it is None, all is in the folders of `files`. `mlflow_run_id`
    names a run to use that exists already (that of `mlflow run`). `process` is whose run it is, so
    that it can be seen whether anybody still trains it. `warned` says that the user knows already
    that MLflow cannot be reached. `images` says whether images of its epochs are logged.
    """

    files: RunFiles
    experiment: str
    seed: int
    seeds: int
    live: Path | None = None
    mlflow_run_id: str | None = None
    process: str = field(default_factory=processes.identity)
    warned: bool = False
    images: bool = True

    def to_json(self) -> str:
        """The training as one line."""
        return json.dumps(asdict(self), default=str)

    @staticmethod
    def from_json(line: str) -> "TrackedTraining":
        """The inverse of `to_json`."""
        content = json.loads(line)
        paths = content.pop("files")
        live = content.pop("live")
        return TrackedTraining(
            files=RunFiles(paths.pop("name"), **{key: Path(value) for key, value in paths.items()}),
            live=Path(live) if live else None,
            **content,
        )

    @property
    def run_name(self) -> str:
        """What the training's run is called in MLflow."""
        name = self.files.name
        return name if self.seeds == 1 else f"{name}-seed-{self.seed}"

    @property
    def model(self) -> Path:
        """The saved model, which need not be here."""
        return self.files.model(self.seed)

    @property
    def model_epoch(self) -> int:
        """The epoch that `model` is of."""
        return results.model_epoch(self.history, results.keep_of(self.provenance))

    def which_epoch(self) -> str:
        """In words, the epoch of `model`."""
        return results.which_epoch(self.history, results.keep_of(self.provenance))

    def read_models(self) -> list[TrackedModel]:
        """Its models that are here, as they are now: each file is read to its end."""
        models = [(MODEL, self.model_epoch, self.model)]
        best = self.files.best_model(self.seed)
        if results.keep_of(self.provenance) == "both" and best.is_file():
            models.append((BEST, scores.best_epoch(self.history), best))
        return [
            TrackedModel(name, epoch, path, files.file_digest(path))
            for name, epoch, path in models
            if path.is_file()
        ]

    @property
    def validated(self) -> list[Path]:
        """What its epochs' validations came to, a file each; see `epochs.read`.

        None of a training that ran elsewhere, before there were such files, or without `images`.
        """
        if not self.images:
            return []
        return epochs.paths(self.files.checkpoints_of(self.seed, self.provenance["fingerprint"]))

    @cached_property
    def provenance(self) -> Provenance:
        """Where the training comes from. Records of earlier versions lack some of it."""
        return cast(Provenance, files.read_json(self.folder / "provenance.json")[str(self.seed)])

    @property
    def history(self) -> list[Row]:
        """The results of the epochs so far, a row each."""
        return self._rows("history.csv")

    @property
    def timing(self) -> list[Row]:
        """The clock of the epochs so far, a row each."""
        return self._rows("timing.csv")

    @property
    def started_ms(self) -> int | None:
        """When its first epoch began, in milliseconds since the epoch; None before its end."""
        first = next(iter(self.timing), None)
        if first is None:
            return None
        took = first["seconds"] + first.get("validation_seconds", 0)
        return int(first["finished_ms"] - 1000 * took)

    @property
    def trained(self) -> Numbers:
        """What the training came to; empty where that is not known yet."""
        return self._numbers(self.files.train)

    @property
    def tested(self) -> Numbers:
        """What the model does on the test images; empty where that is not known yet."""
        return self._numbers(self.files.test)

    @property
    def outcome(self) -> Outcome | None:
        """How the training ended; None where it has not."""
        trained = self.trained
        return results.outcome(trained) if trained else None

    @property
    def folder(self) -> Path:
        """Where its history, timing and provenance are."""
        return self.live or self.files.metrics_dir

    def _rows(self, name: str) -> list[Row]:
        path = self.folder / name
        if not path.is_file():
            return []
        return results.rows_of_seed(csv_files.read_csv(path, ["seed", "epoch"]), self.seed)

    def _numbers(self, path: Path) -> Numbers:
        if self.live or not path.is_file():
            return {}
        return results.numbers_of_seed(files.read_json(path), self.seed) or {}
