"""One training of a row by itself, beside others: it has a folder, a lock and an MLflow run.

One seed is trained and tested as the row is, with all that comes of it in `trainings/ROW/seed-N`.
What the row's files are made of lies there until all its seeds are done.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from deepnets.base import files, locks, project
from deepnets.base.errors import UserError
from deepnets.config import params
from deepnets.config.params import Params
from deepnets.config.sections import RunParams
from deepnets.networks import runtime
from deepnets.records import clock, provenance
from deepnets.training.checkpoints import Row
from deepnets.training.listener import Listener

if TYPE_CHECKING:
    from deepnets.training.compiled import Workbench

FOLDER = Path("trainings")
LOG = "log.txt"

# Seconds between two writings of how far a training is.
_INTERVAL = 1.0


class Progress(TypedDict):
    """How far a training is. `epoch` is the one at hand, of `epochs`; `done` its share, up to 1."""

    state: str
    epoch: int
    epochs: int
    done: float
    val_accuracy: NotRequired[float]
    images_per_second: NotRequired[float]
    seconds_left: NotRequired[float]


def files_of(study: Params, name: str, seed: int) -> project.RunFiles:
    """Where one training of the row `name` leaves what it comes to."""
    folder = FOLDER / name / f"seed-{seed}"
    start = project.STARTS / study.entry(name).start
    return project.RunFiles(name, folder, folder, start, folder, folder / "figures")


def log_of(paths: project.RunFiles) -> Path:
    """What the training in `paths` has said."""
    return paths.metrics_dir / LOG


def progress_of(paths: project.RunFiles) -> Path:
    """Where the training in `paths` says how far it is: `Progress`."""
    return paths.metrics_dir / "progress.json"


def read_progress(paths: project.RunFiles) -> Progress | None:
    """How far the training in `paths` says that it is; None where it has not said so yet."""
    try:
        return files.read_json(progress_of(paths))  # type: ignore[no-any-return]
    except (UserError, OSError):
        return None


def last_words(paths: project.RunFiles, status: int) -> str:
    """The last that the training in `paths` said, if its exit status says that it failed."""
    if not status:
        return ""
    log = log_of(paths)
    text = log.read_text(errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    return last if status > 0 else f"killed by signal {-status}; its last words: {last}"


def check_seed(study: Params, seed: int, option: str = "") -> None:
    """Raise a UserError, which names the `option`, unless `seed` is one of the study's."""
    if seed not in study.train.seeds:
        raise UserError(
            f"{option}{seed} is none of this study's: expected some of "
            f"{', '.join(map(str, study.train.seeds))}; {params.FILE} has them in train.seed"
        )


def main(name: str, seed: int, workbench: "Workbench | None" = None) -> None:
    """Train and test the row `name` with `seed`, one of the study's, in the folder of its study.

    `workbench` is that of the trainings that this process has done before.
    """
    study = params.load()
    check_seed(study, seed)
    run = study.run_params(name, seed)
    paths = files_of(study, name, seed)
    with locks.held_seed(name, seed):
        told = ProgressFile(progress_of(paths), run)
        told.write("starting")
        if "keras" not in sys.modules:
            runtime.start_framework()
        from deepnets.stages import evaluate, train

        plan = clock.Plan("train.epochs", "train.train_images", f"in {params.FILE}")
        publish, of_seeds = study.publish, len(study.train.seeds)
        train.train_run(
            *([run], paths, publish, f"train@{name}", plan),
            of_seeds=of_seeds,
            listener=told,
            workbench=workbench,
        )
        told.write("testing")
        evaluate.evaluate_run(paths, [seed], publish, of_seeds=of_seeds)
    told.write("done")


def train_in_turn(name: str) -> None:
    """Do `main` of the row `name` with each seed that standard input names, a line each.

    One process for several, since it compiles what they have in common once. What each says goes
    to the end of its log. The first that fails ends this; once code that shapes numbers has been
    edited, the next seed is this process's last, and begins it anew.
    """
    seeds = os.fdopen(os.dup(sys.stdin.fileno()))
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    runtime.start_framework()
    from deepnets.training.compiled import Workbench

    workbench = Workbench()
    code = provenance.shaping_code()
    for line in seeds:
        log = FOLDER / name / f"seed-{int(line)}" / LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(output.fileno(), stream.fileno())
        if provenance.shaping_code() != code:
            again = [sys.executable, "-m", "deepnets", "training", name, str(int(line))]
            os.execv(sys.executable, again)
        main(name, int(line), workbench)


class ProgressFile(Listener):
    """Writes how far a training is to `path`, for whoever shows many of them.

    Args:
        path: the file.
        run: the training's parameters.
        now: the time in seconds.
    """

    def __init__(
        self, path: Path, run: RunParams, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._path, self._run, self._now = path, run, now
        self._progress: Progress = {"state": "", "epoch": 0, "epochs": run.epochs, "done": 0.0}
        self._images = 0
        # When the first step of the epoch was done, and how many images it took.
        self._first: tuple[float, int] | None = None
        self._validation_seconds = 0.0
        self._written = float("-inf")

    def write(self, state: str) -> None:
        """Write what is known now, in the `state` that the training is in."""
        self._progress["state"] = state
        if state in ("testing", "done"):
            self._progress["seconds_left"] = 0.0
        self._written = self._now()
        files.write_json(self._path, dict(self._progress))

    def on_resume(self, epoch: int) -> None:
        self._progress |= {"epoch": epoch, "done": 1.0}
        self.write("training")

    def on_epoch_begin(self, epoch: int, images: int) -> None:
        self._progress |= {"epoch": epoch, "done": 0.0}
        self._images, self._first = images, None
        self.write("training")

    def on_step(self, epoch: int, step: int, means: dict[str, float]) -> None:
        images = min(step * self._run.batch_size, self._images)
        self._progress["done"] = images / self._images
        if self._first is None:
            # Before it was done, something may have been compiled.
            self._first = self._now(), images
        seconds, since = self._now() - self._first[0], images - self._first[1]
        if seconds > 0 and since:
            self._note_speed(since / seconds, self._images - images)
        if self._now() - self._written >= _INTERVAL:
            self.write("training")

    def on_epoch_end(self, row: Row, timing: Row) -> None:
        self._validation_seconds = timing["validation_seconds"]
        self._progress["val_accuracy"] = row["val_accuracy"]
        self._note_speed(timing["images_per_second"], 0)
        self.write("training")

    def on_divergence(self, epoch: int, step: int, loss: float) -> None:
        self.write("diverged")

    def _note_speed(self, images_per_second: float, left: int) -> None:
        """Note the speed, and with it when `left` images of the epoch and all others are done."""
        epochs = self._progress["epochs"] - self._progress["epoch"]
        validations = epochs + (1 if left else 0)
        self._progress["images_per_second"] = round(images_per_second, 1)
        self._progress["seconds_left"] = round(
            (left + epochs * self._images) / images_per_second
            + validations * self._validation_seconds,
            1,
        )
