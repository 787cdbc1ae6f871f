"""What is known of a training after the fact, found by the name or id of its run.

A record holds everything that a rerun starts from and is compared with. It is read from the files
of a run, which MLflow has as well; where they come from makes no difference.
"""

from dataclasses import dataclass
from pathlib import Path

from deepnets.base import project
from deepnets.base.errors import UserError
from deepnets.records import results
from deepnets.records.results import SeedResult


@dataclass(frozen=True, kw_only=True)
class PastRun(SeedResult):
    """One training with one seed, and where it is known from.

    `study` is the folder of the study that it was trained in, relative to the project's root; None
    if it is not known. `place` is that of the study that its files are in. `experiment` is
    MLflow's, for a run that comes from there.
    """

    study: str | None = None
    place: str | None = None
    experiment: str | None = None

    def __str__(self) -> str:
        return f"{self.run}, seed {self.seed}"


def read(
    folder: Path,
    study: str | None = None,
    experiment: str | None = None,
    name: str | None = None,
) -> list[PastRun]:
    """The trainings whose files are in `folder`, the `metrics_dir` of a run or a copy of it.

    They are called `name`: a row that was adopted may have had another one where it was trained,
    which is taken where none is given.
    """
    return [
        PastRun(
            **vars(of) | {"run": name or of.provenance["run"]},
            # Where it was trained, which need not be where its files are.
            study=_inside(of.provenance["git"].get("study")) or study,
            place=study,
            experiment=experiment,
        )
        for of in results.read(project.run_at(folder))
    ]


def _inside(study: str | None) -> str | None:
    """`study`, a folder that a record names; it must be one of the project's."""
    if study and (Path(study).is_absolute() or ".." in Path(study).parts):
        raise UserError(
            f"the record names {study!r} as the folder of its study, which is outside of the "
            "project: it is not one that this project has written"
        )
    return study
