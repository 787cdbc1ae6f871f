"""Many trainings at a time, in places that only pretend: order, ends, table and estimates."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deepnets.base import dvc, files
from deepnets.commands import grid, repro
from deepnets.config import params
from deepnets.grid import due, schedule, table
from deepnets.grid.due import Training
from deepnets.grid.places import End
from deepnets.grid.schedule import Schedule
from deepnets.grid.training import Progress, ProgressFile
from deepnets.stages import publish, report
from project import ROOT

STUDY = params.parse(params.reader.read_yaml(ROOT / "params.yaml"))
NAMES = list(STUDY.runs)[:3]


def _training(name: str, seed: int = 0, epochs: int = 2) -> Training:
    return Training(name, STUDY.run_params(name, seed).model_copy(update={"epochs": epochs}))


@dataclass
class Pretended:
    """A training that ends after some looks at it."""

    training: Training
    looks: int
    ending: End = field(default_factory=lambda: End(False))
    known: Progress | None = None
    place: str = "nowhere"
    stopped: str = ""

    def end(self) -> End | None:
        self.looks -= 1
        return self.ending if self.looks < 0 else None

    def progress(self) -> Progress | None:
        return self.known

    def interrupt(self) -> None:
        self.stopped = "asked"

    def stop(self) -> None:
        self.stopped += ", waited for"


class Somewhere:
    """Places for two; notes how many ran at a time."""

    def __init__(self, looks: Callable[[Training], int], fails: str = "") -> None:
        self.looks, self.fails = looks, fails
        self.started: list[Pretended] = []
        self.most = 0

    def describe(self) -> str:
        return "two at a time, nowhere"

    def capacity(self) -> int:
        return 2

    def start(self, waiting: list[Training]) -> Pretended:
        training = waiting.pop(0)
        end = End(True, "out of luck") if training.name == self.fails else End(False)
        self.started.append(Pretended(training, self.looks(training), end))
        self.most = max(self.most, sum(running.looks >= 0 for running in self.started))
        return self.started[-1]

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_INTERVAL", 0.0)


def test_places_are_kept_busy_in_order_and_rows_are_written_when_they_are_whole() -> None:
    trainings = [_training(name, seed) for name in NAMES for seed in (0, 1)]
    places, rows = Somewhere(lambda t: 5 if t.seed else 1), []
    ended = schedule.run(trainings, places, schedule.Watcher(), rows.append)
    assert [running.training for running in places.started] == trainings
    assert places.most == 2
    assert rows == NAMES
    assert {t for t, _ in ended.ended} == set(trainings)
    assert not ended.failed


def test_a_training_that_fails_stops_no_other_and_its_row_is_not_written() -> None:
    trainings = [_training(name, seed) for name in NAMES for seed in (0, 1)]
    rows: list[str] = []
    ended = schedule.run(
        trainings, Somewhere(lambda _: 1, fails=NAMES[0]), schedule.Watcher(), rows.append
    )
    assert len(ended.ended) == len(trainings)
    assert [(t.name, t.seed) for t, _ in ended.failed] == [(NAMES[0], 0), (NAMES[0], 1)]
    assert rows == NAMES[1:]


def test_ctrl_c_stops_everything_that_runs() -> None:
    class Impatient(schedule.Watcher):
        def on_look(self, seen: Schedule) -> None:
            raise KeyboardInterrupt

    places = Somewhere(lambda _: 100)
    with pytest.raises(KeyboardInterrupt):
        schedule.run([_training(name) for name in NAMES], places, Impatient(), print)
    assert [running.stopped for running in places.started] == ["asked, waited for"] * 2


def _progress(epoch: int, epochs: int, done: float, **known: float) -> Progress:
    return {"state": "training", "epoch": epoch, "epochs": epochs, "done": done, **known}  # type: ignore[typeddict-item]


def test_what_is_left_counts_what_waits_at_the_speed_of_its_network() -> None:
    slow, fast = (next(name for name in STUDY.runs if arch in name) for arch in ("vgg", "resnet"))
    at = Schedule(
        [_training(slow, 1, epochs=4), _training(fast, 1, epochs=2)],
        [
            # Half of 4 epochs are left in 100 s, and of 2 in 10 s.
            Pretended(_training(slow, epochs=4), 1, known=_progress(2, 4, 1.0, seconds_left=100.0)),
            Pretended(_training(fast, epochs=2), 1, known=_progress(1, 2, 1.0, seconds_left=10.0)),
        ],
    )
    assert table.seconds_left(at) == pytest.approx((100 + 10 + 200 + 20) / 2)
    at.waiting.clear()
    assert table.seconds_left(at) == 100  # no sooner than the last
    assert table.seconds_left(Schedule([], [Pretended(_training(slow), 1)])) is None


def test_a_log_says_who_started_how_far_they_are_and_how_they_ended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_LOG_INTERVAL", 0.0)
    shown = table.Table(lambda _: "done: test accuracy 0.9876", live=False)
    running = Pretended(_training(NAMES[0]), 1)
    at = Schedule([], [running])
    shown.on_start(running)
    shown.on_look(at)
    running.known = _progress(
        1, 2, 0.5, val_accuracy=0.9, images_per_second=1234.5, seconds_left=300.0
    )
    shown.on_look(at)
    shown.on_end(running, End(False))
    shown.on_end(running, End(True, "the disk is full"))
    assert capsys.readouterr().out.splitlines() == [
        f"{NAMES[0]}, seed 0: started on nowhere",
        f"{NAMES[0]}, seed 0: starting (0 of 1 trainings done)",
        f"{NAMES[0]}, seed 0: epoch 1/2  50%, val_accuracy 0.9000, images/s 1,234, left 5 min "
        "(0 of 1 trainings done, about 5 min left)",
        f"{NAMES[0]}, seed 0: done: test accuracy 0.9876",
        f"{NAMES[0]}, seed 0: failed: the disk is full",
    ]


def test_a_terminal_shows_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    shown = table.Table(str, live=True)
    known = _progress(1, 2, 0.5, val_accuracy=0.9, images_per_second=1234.5, seconds_left=300.0)
    running = [Pretended(_training(NAMES[0]), 1, known=known), Pretended(_training(NAMES[2]), 1)]
    at = Schedule([_training(NAMES[1])], running)
    shown.on_look(at)
    drawn = shown._draw(at)
    shown.close()
    capsys.readouterr()
    Console(width=100).print(drawn)
    out = capsys.readouterr().out
    for word in (f"{NAMES[0]}, seed 0", "nowhere ", "1/2  50%", "0.9000", "1,234", "5 min"):
        assert word in out
    assert "nowhere, starting" in out
    assert "0 of 3 trainings done" in out


def test_a_training_writes_how_far_it_is(tmp_path: Path) -> None:
    """Two epochs of 64 images, a step of 16 each second; validation takes five seconds."""
    clock = itertools.count()
    run = _training(NAMES[0]).run.model_copy(update={"batch_size": 16})
    path = tmp_path / "progress.json"
    told = ProgressFile(path, run, now=lambda: float(next(clock)))
    told.write("starting")
    assert files.read_json(path)["state"] == "starting"
    told.on_epoch_begin(1, 64)
    for step in (1, 2):
        told.on_step(1, step, {})
    said = files.read_json(path)
    assert (said["epoch"], said["epochs"], said["done"]) == (1, 2, 0.5)
    assert "val_accuracy" not in said
    told.on_epoch_end(
        {"epoch": 1, "val_accuracy": 0.75},
        {"epoch": 1, "images_per_second": 16.0, "validation_seconds": 5.0},
    )
    said = files.read_json(path)
    assert said["val_accuracy"] == 0.75
    assert said["images_per_second"] == 16.0
    assert said["seconds_left"] == 64 / 16 + 5
    told.write("done")
    assert files.read_json(path) | {"state": "done", "seconds_left": 0.0} == files.read_json(path)


def test_what_is_due_is_what_dvc_would_train_longest_first() -> None:
    a, b, c = NAMES
    stale = {f"train@{a}", f"train@{c}", f"evaluate@{b}"}
    trainings = due.trainings(STUDY, NAMES, [0], stale)
    assert {(t.name, t.seed) for t in trainings} == {(a, 0), (c, 0)}
    images = [t.run.epochs * (t.run.train_images or 10**6) for t in trainings]
    assert images == sorted(images, reverse=True)


def test_of_as_many_rows_as_there_are_places_the_first_seeds_come_first() -> None:
    """What they compile for a GPU the others find, and a grid that is cut off leaves whole rows."""
    trainings = due.trainings(STUDY, NAMES, [4, 5, 6], {f"train@{name}" for name in NAMES})
    a, b, c = dict.fromkeys(t.name for t in trainings)
    of_two = [(a, 4), (b, 4), (a, 5), (a, 6), (b, 5), (b, 6)]
    ordered = [(t.name, t.seed) for t in due.order_trainings(trainings, 2)]
    assert ordered == [*of_two, (c, 4), (c, 5), (c, 6)]


@pytest.mark.parametrize("places", [4, 16])
def test_fewer_rows_than_places_are_begun_one_after_the_other(places: int) -> None:
    trainings = due.trainings(STUDY, NAMES, [4, 5, 6], {f"train@{name}" for name in NAMES})
    ordered = [(t.name, t.seed) for t in due.order_trainings(trainings, places)]
    names = list(dict.fromkeys(t.name for t in trainings))
    assert ordered == [(name, seed) for name in names for seed in (4, 5, 6)]


@pytest.mark.parametrize(("fails", "status"), [(0, 0), (1, 1)])
def test_a_row_that_cannot_be_evaluated_is_said_by_the_exit_status(
    fails: int, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Trained before, and its evaluation is out of date."""
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / params.FILE).write_text((ROOT / params.FILE).read_text())
    ran: list[str] = []
    monkeypatch.setattr(dvc, "run", lambda *words, folder: ran.append(words[-1]) or fails)
    monkeypatch.setattr(due, "prepare", lambda *_: None)
    monkeypatch.setattr(due, "stale_stages", lambda names: {f"evaluate@{names[0]}"})
    monkeypatch.setattr(report, "main", lambda: None)
    monkeypatch.setattr(publish, "main", lambda: None)
    monkeypatch.setattr(repro, "show", lambda *_: None)
    assert grid.main(tmp_path, [NAMES[0]], [], None) == status
    assert ran == [f"evaluate@{NAMES[0]}"]
