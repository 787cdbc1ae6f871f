"""What a training says on the terminal: a bar, a line an epoch, and once when all will be done.

Nothing here can end a training: an estimate that fails is left out.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from deepnets.base import progress, project
from deepnets.config.sections import RunParams
from deepnets.records import clock, results
from deepnets.records.provenance import Provenance
from deepnets.training import scores
from deepnets.training.checkpoints import Row
from deepnets.training.listener import Listener


class Console(Listener):
    """Says what one training does.

    Args:
        meter: that of all seeds.
        plan: what the run is a part of.
        runs: the seed that is being trained, and those that come after it.
        images: how many the splits train, validation and test hold.
        provenance: of this training.
    """

    def __init__(
        self,
        meter: clock.Meter,
        plan: clock.Plan,
        runs: Sequence[RunParams],
        images: Mapping[str, int],
        provenance: Provenance,
    ) -> None:
        self._meter, self._plan, self._runs = meter, plan, runs
        self._images, self._provenance = images, provenance
        self._run = runs[0]
        self._bar: Any = None

    def on_resume(self, epoch: int) -> None:
        print(f"continuing after epoch {epoch} of {self._run.epochs}", flush=True)

    def on_epoch_begin(self, epoch: int, images: int) -> None:
        self._bar = progress.bar(images, f"epoch {epoch}/{self._run.epochs}", " images")

    def on_step(self, epoch: int, step: int, means: dict[str, float]) -> None:
        shown = {key: f"{mean:.4f}" for key, mean in means.items()}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(step * self._run.batch_size - self._bar.n)
        if self._bar.n >= self._bar.total:
            self.close()
        # It reads files that others have written.
        with suppress(Exception):
            self._estimate(epoch, step)

    def on_epoch_end(self, row: Row, timing: Row) -> None:
        print(_line(row, timing, self._run.epochs), flush=True)
        if scores.at_chance(row, self._provenance["chance_accuracy"]):
            print(
                f"epoch {row['epoch']}: at chance, loss {row['loss']:.4f} of ln 10 = "
                f"{math.log(10):.4f}: this network has not begun to learn",
                flush=True,
            )

    def on_divergence(self, epoch: int, step: int, loss: float) -> None:
        self.close()
        print(
            f"the loss became {loss} in step {step:,} of epoch {epoch}: the run has diverged and "
            f"ends with the {epoch - 1} epochs before; lower its learning_rate "
            f"(now {self._run.learning_rate})",
            flush=True,
        )

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _estimate(self, epoch: int, step: int) -> None:
        """Say once when this training and its grid will be done."""
        measured = self._meter.tick(step, time.perf_counter())
        if measured is None:
            return
        trained = {name: _load_trained(name, seeds) for name, seeds in self._plan.grid.items()}
        now = clock.Situation(
            runs=self._runs,
            epoch=epoch,
            step=step,
            images=self._images,
            plan=self._plan,
            trained=trained,
            provenance=self._provenance,
        )
        for line in clock.lines(now, measured, datetime.now()):
            progress.say(line)


def _load_trained(name: str, runs: Sequence[RunParams]) -> list[results.TrainingRecord]:
    """The seeds of a row that have been trained and whose models are there.

    None of them where a file is damaged: the stage that needs it will say so.
    """
    paths = project.grid_run(name, runs[0].start)
    try:
        trained = results.load(paths, runs)
    except Exception:  # a parser of damaged bytes may raise anything
        return []
    return [result for result in trained if paths.model(result.seed).is_file()]


def _line(row: Row, timing: Row, epochs: int) -> str:
    left = (epochs - row["epoch"]) * (timing["seconds"] + timing["validation_seconds"])
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}, "
        f"val_loss {row['val_loss']:.4f}, val_accuracy {row['val_accuracy']:.4f}, "
        f"{timing['images_per_second']:.0f} images/s, {timing['seconds']:.0f} s"
        + (f", about {progress.duration(left)} left" if left else "")
    )
