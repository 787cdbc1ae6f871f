"""Kill trainings at random moments, run the same command again, and compare with one left alone.

    make stress                               30 kills, about ten minutes on two cores
    python tests/stress.py --kills 5          fewer; see --help

Trainings run as users run them (`deepnets train`, `dvc repro`, `mlflow run`), on real digits, with
small networks in a clone of this project, and one with the real ResNet50. A kill is passed if the
same command (after `rm dvc.lock`, where DVC says that it is torn) then ends well, with the files
of the training that was left alone, bit for bit, and with MLflow runs that lack no step, have none
twice, and have all ended.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from project import SERIES, Clone, clone, miniature, shrink_networks

RUNS = ("vgg16-sgd-random", "vgg16-adam-random", "resnet50-sgd-random", "resnet50-adam-random")
EPOCHS = 8
_REAL_EPOCHS = 3  # of the training with the real network
EXPERIMENT = "deeper-networks"


@dataclass(frozen=True)
class Way:
    """How a training is started, and what it leaves behind.

    Attributes:
        name: for people.
        command: what the user types.
        results: patterns of the files that must come out the same.
        experiment: where MLflow has its runs.
        epochs: how many it has.
    """

    name: str
    command: tuple[str, ...]
    results: tuple[str, ...]
    experiment: str = EXPERIMENT
    epochs: int = EPOCHS


def train(run: str, epochs: int = EPOCHS) -> Way:
    """`deepnets train RUN`."""
    return Way(f"train {run}", ("deepnets", "train", run), _of_grid(run), epochs=epochs)


def dvc(run: str) -> Way:
    """`dvc repro train@RUN`."""
    return Way(f"dvc {run}", ("dvc", "repro", f"train@{run}"), _of_grid(run))


def mlflow(run: str) -> Way:
    """`mlflow run .` of the row's network and optimizer."""
    arch, optimizer, _ = run.split("-")
    command = ("mlflow", "run", ".", "--env-manager", "local")
    options = ("-P", f"arch={arch}", "-P", f"optimizer={optimizer}")
    files = ("history.csv", "train.json", "test.json", "predictions.csv.gz", "*.keras")
    results = tuple(f"single/*/{file}" for file in files)
    return Way(f"mlflow {run}", command + options, results, f"{EXPERIMENT}-single")


def _of_grid(run: str) -> tuple[str, ...]:
    return (f"metrics/{run}/history.csv", f"metrics/{run}/train.json", f"models/{run}/*.keras")


@dataclass(frozen=True)
class Kill:
    """One kill: whom, with what, and when.

    Attributes:
        way: what is killed.
        signal: that is sent.
        group: whether all processes get it, or only the one that was started.
        share: the moment, as a share of the time that the training takes when left alone.
        torn: whether the newest checkpoint then loses its end, as when the power fails.
    """

    way: Way
    signal: signal.Signals
    group: bool
    share: float
    torn: bool = False

    def __str__(self) -> str:
        whom = "all processes" if self.group else "the command"
        torn = ", newest checkpoint torn" if self.torn else ""
        return f"{self.way.name}: {self.signal.name} to {whom} at {self.share:.0%}{torn}"


@dataclass(frozen=True)
class Reference:
    """A training that was left alone: its files, and the seconds that it took."""

    results: dict[str, bytes]
    seconds: float


def grid(folder: Path) -> Clone:
    """A clone with small networks, its data and starting weights made."""
    copy = _clone(folder, EPOCHS, 480)
    shrink_networks(copy)
    copy.commit("small networks")
    _prepare(copy)
    return copy


def real(folder: Path) -> Clone:
    """A clone with the real networks and a training of a few steps."""
    copy = _clone(folder, _REAL_EPOCHS, 64)
    copy.commit("few steps")
    _prepare(copy)
    return copy


def _clone(folder: Path, epochs: int, train_images: int) -> Clone:
    def shrink(params: dict[str, Any]) -> None:
        rows = {name: params["runs"][name] for name in RUNS}
        miniature(params)
        params["train"] |= {"epochs": epochs, "train_images": train_images}
        params["runs"] = {name: dict(row) for name, row in rows.items()}

    folder.mkdir(parents=True)
    copy = clone(folder, followed=True)
    copy.edit_params(shrink)
    return copy


def _prepare(copy: Clone) -> None:
    """In one process, which spares most of the time; then DVC takes them over."""
    starts = ("vgg16-random", "resnet50-random")
    stages = ["check", "download", "preprocess"]
    commands = [[stage] for stage in stages] + [["initialize", start] for start in starts]
    copy.run("python", "-c", SERIES, json.dumps(commands))
    made = [*stages, *(f"initialize@{start}" for start in starts)]
    copy.run("dvc", "commit", "--quiet", "--force", *made)


def left_alone(start: Clone, way: Way, folder: Path) -> Reference:
    """Run the command of `way` in a copy of `start` to its end."""
    copy = _copy(start, folder)
    started = time.monotonic()
    copy.run(*way.command)
    seconds = time.monotonic() - started
    results = _results(copy, way)
    assert len(results) >= len(way.results), sorted(results)
    shutil.rmtree(folder)
    return Reference(results, seconds)


def survives(start: Clone, kill: Kill, reference: Reference, folder: Path) -> str | None:
    """Carry out `kill` in a copy of `start`, run the command again, and compare.

    Returns:
        None if the training is the one that was left alone; otherwise what is wrong.
    """
    copy = _copy(start, folder)
    # A command that ends before its moment comes is started once more, from the beginning.
    for share in (kill.share, kill.share / 2, kill.share / 4):
        if _killed(copy, kill, share * reference.seconds):
            break
        shutil.rmtree(folder)
        copy = _copy(start, folder)
    else:
        return "it ended before it could be killed"
    if kill.torn:
        _tear(folder / "checkpoints")
    again = copy.run(*kill.way.command, check=False)
    if again.returncode and "dvc.lock' " in again.stderr:
        # DVC writes it in place, and was killed while it did; docs/reliability.md says what to do.
        (folder / "dvc.lock").unlink()
        again = copy.run(*kill.way.command, check=False)
    if again.returncode:
        return f"the second start failed:\n{again.stdout[-1500:]}{again.stderr[-1500:]}"
    results = _results(copy, kill.way)
    other = sorted(
        name
        for name in {*results, *reference.results}
        if results.get(name) != reference.results.get(name)
    )
    if other:
        return f"other bits in {', '.join(other)}"
    wrong = _wrong_in_mlflow(folder, kill.way)
    if wrong is None:
        shutil.rmtree(folder)
    return wrong


def _copy(start: Clone, folder: Path) -> Clone:
    shutil.copytree(start.folder, folder, symlinks=True)
    return Clone(folder, followed=True)


def _killed(copy: Clone, kill: Kill, seconds: float) -> bool:
    """Start the command, and send the signal after so many seconds; False if it has ended first."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            kill.way.command,
            cwd=copy.folder,
            env=copy.environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            send: Callable[[int, int], None] = os.killpg if kill.group else os.kill
            send(process.pid, kill.signal)
            process.wait()
            return True
        return False


def _tear(checkpoints: Path) -> None:
    """Cut off the second half of the newest checkpoint, if there is one."""
    for newest in sorted(checkpoints.rglob("epoch-*.npz"))[-1:]:
        os.truncate(newest, newest.stat().st_size // 2)


def _results(copy: Clone, way: Way) -> dict[str, bytes]:
    return {
        str(path.relative_to(copy.folder)): path.read_bytes()
        for pattern in way.results
        for path in copy.folder.glob(pattern)
    }


def _wrong_in_mlflow(folder: Path, way: Way) -> str | None:
    """What is wrong with the runs in MLflow: steps, statuses, their number; None for nothing."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    try:
        experiment = client.get_experiment_by_name(way.experiment)
    except Exception as error:  # whatever a broken database makes of it
        return f"MLflow's store is broken: {str(error)[:500]}"
    if experiment is None:
        return "MLflow has no experiment"
    # The newest first. `mlflow run` makes a run of its own at each start; ours continue.
    runs = list(client.search_runs([experiment.experiment_id]))
    if not runs or (len(runs) > 1 and way.command[0] != "mlflow"):
        return f"MLflow has {len(runs)} runs"
    statuses = [run.info.status for run in runs]
    if statuses[0] != "FINISHED" or "RUNNING" in statuses:
        return f"MLflow's runs are {', '.join(statuses)}"
    for metric in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        history = client.get_metric_history(runs[0].info.run_id, metric)
        steps = sorted(entry.step for entry in history)
        if steps != list(range(1, way.epochs + 1)):
            return f"MLflow has the steps {steps} of {metric}"
    if len(runs[0].outputs.model_outputs) != 1:
        return f"MLflow has {len(runs[0].outputs.model_outputs)} models"
    return None


def draw(count: int, seed: int) -> list[Kill]:
    """`count` kills, drawn with `seed`; the last is that of the real ResNet50.

    Of six, four are of `deepnets train`, one is of `dvc repro` and one of `mlflow run`.
    """
    generator = random.Random(seed)
    kills = []
    for number in range(count):
        run = RUNS[number % len(RUNS)]
        way = {4: dvc, 5: mlflow}.get(number % 6, train)(run)
        if number == count - 1:
            way = train("resnet50-adam-random", _REAL_EPOCHS)
        by = generator.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        # Ctrl-C in a terminal reaches all processes.
        group = by == signal.SIGINT or generator.random() < 0.4
        torn = by == signal.SIGKILL and generator.random() < 0.3
        kills.append(Kill(way, by, group, generator.uniform(0.05, 0.95), torn))
    return kills


def run(kills: Sequence[Kill], folder: Path, bar: Any) -> list[tuple[Kill, str | None]]:
    """Carry out `kills`, two side by side; returns what was wrong with each."""
    clones = {EPOCHS: grid(folder / "small")}
    if any(kill.way.epochs != EPOCHS for kill in kills):
        clones[_REAL_EPOCHS] = real(folder / "real")

    def train_alone(numbered: tuple[int, Way]) -> tuple[Way, Reference]:
        number, way = numbered
        start = clones[way.epochs]
        reference = left_alone(start, way, folder / f"left-alone-{number}")
        bar.update()
        return way, reference

    def carry_out(numbered: tuple[int, Kill]) -> tuple[Kill, str | None]:
        number, kill = numbered
        start = clones[kill.way.epochs]
        wrong = survives(start, kill, references[kill.way], folder / f"kill-{number}")
        bar.update()
        return kill, wrong

    with ThreadPoolExecutor(2) as pool:
        bar.set_description("trainings left alone")
        ways = dict.fromkeys(kill.way for kill in kills)
        references = dict(pool.map(train_alone, enumerate(ways)))
        bar.set_description("killed ones")
        return list(pool.map(carry_out, enumerate(kills)))


def main() -> int:
    """Kill, compare, and print the counts; returns 1 if any kill was not survived."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30, help="default: 30")
    parser.add_argument("--seed", type=int, default=0, help="moments and signals are drawn from it")
    arguments = parser.parse_args()
    kills = draw(arguments.kills, arguments.seed)
    total = len(kills) + len({kill.way for kill in kills})
    with (
        tempfile.TemporaryDirectory(prefix="deepnets-stress-") as name,
        tqdm(total=total, leave=False, dynamic_ncols=True) as bar,
    ):
        outcomes = run(kills, Path(name), bar)
    for kill, wrong in outcomes:
        print(f"{'survived' if wrong is None else 'LOST'}  {kill}{f': {wrong}' if wrong else ''}")
    survived = sum(wrong is None for _, wrong in outcomes)
    print(f"{survived} of {len(kills)} kills survived (drawn with seed {arguments.seed})")
    return int(survived < len(kills))


if __name__ == "__main__":
    sys.exit(main())
