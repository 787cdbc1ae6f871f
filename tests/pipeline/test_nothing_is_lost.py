"""Kills at any moment, changed parameters, two processes on one run: small networks, real commands.

`make stress` kills far more often (stress.py).
"""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import stress
from deepnets.base import files, project
from project import Clone

RUN = "resnet50-adam-random"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with small networks, ready for training."""
    return stress.grid(tmp_path_factory.mktemp("start") / "clone")


@pytest.fixture
def copy(start: Clone, tmp_path: Path) -> Clone:
    return Clone(Path(shutil.copytree(start.folder, tmp_path / "clone", symlinks=True)))


@pytest.fixture(scope="module")
def left_alone(start: Clone, tmp_path_factory: pytest.TempPathFactory) -> stress.Reference:
    folder = tmp_path_factory.mktemp("left-alone") / "clone"
    return stress.left_alone(start, stress.train(RUN), folder)


def test_a_training_after_a_power_failure_ends_as_if_it_had_been_left_alone(
    start: Clone, left_alone: stress.Reference, tmp_path: Path
) -> None:
    kill = stress.Kill(stress.train(RUN), signal.SIGKILL, group=True, share=0.85, torn=True)
    assert stress.survives(start, kill, left_alone, tmp_path / "clone") is None


def test_a_killed_dvc_takes_its_training_with_it(
    start: Clone, left_alone: stress.Reference, tmp_path: Path
) -> None:
    kill = stress.Kill(stress.dvc(RUN), signal.SIGKILL, False, 0.9)
    assert stress.survives(start, kill, left_alone, tmp_path / "clone") is None


def test_a_torn_dvc_lock_costs_no_training(copy: Clone) -> None:
    copy.edit_params(lambda params: params["train"].update(epochs=1, train_images=32))
    stage = f"train@{RUN}"
    copy.run("dvc", "repro", stage)
    lock = copy.folder / "dvc.lock"
    whole = lock.read_text()
    lock.write_text(whole[: whole.rindex("cmd:")])
    refused = copy.run("dvc", "repro", stage, check=False)
    assert refused.returncode
    assert "dvc.lock' " in refused.stderr
    lock.unlink()
    again = copy.run("dvc", "repro", stage).stdout
    assert "continuing after epoch 1 of 1" in again
    before, after = (YAML(typ="safe").load(text)["stages"] for text in (whole, lock.read_text()))
    assert after[stage] == before[stage]


def test_another_training_starts_afresh_and_says_why(copy: Clone) -> None:
    first = _stopped_after_an_epoch(copy)
    copy.edit_params(lambda params: params["train"].update(dropout=0.25))
    other = copy.run("deepnets", "train", RUN).stdout
    (line,) = re.findall(r"^starting afresh.*$", other, re.MULTILINE)
    assert "dropout 0.5, now 0.25)" in line
    assert "continuing" not in other

    copy.edit_params(lambda params: params["train"].update(dropout=0.5))
    again = copy.run("deepnets", "train", RUN).stdout
    assert f"continuing after epoch {first} of {stress.EPOCHS}" in again
    assert "starting afresh" not in again


def test_changed_code_and_weights_start_afresh(copy: Clone) -> None:
    _stopped_after_an_epoch(copy)
    source = copy.folder / "src/deepnets/training/scores.py"
    source.write_text(source.read_text() + "\n# changed\n")
    _take_the_weights_of_another_seed(copy)
    copy.edit_params(lambda params: params["train"].update(epochs=1))
    said = copy.run("deepnets", "train", RUN).stdout
    (line,) = re.findall(r"^starting afresh.*$", said, re.MULTILINE)
    changes = "other starting weights; changed code (training/scores)"
    assert f"(epochs {stress.EPOCHS}, now 1; {changes})" in line
    assert "continuing" not in said


def _take_the_weights_of_another_seed(copy: Clone) -> None:
    """Put starting weights into the place of the run's own, as a whole and sealed file."""
    start = "resnet50-random"
    own, others = (
        project.start_file(copy.folder / project.STARTS / start, seed) for seed in (0, 1)
    )
    before = own.read_bytes()
    copy.edit_params(lambda params: params["train"].update(seed=1))
    copy.run("deepnets", "initialize", start)
    copy.edit_params(lambda params: params["train"].update(seed=0))
    others.replace(own)
    files.seal(own)
    assert own.read_bytes() != before


def _stopped_after_an_epoch(copy: Clone) -> int:
    """Kill a training after its first epoch; returns the last epoch that it has finished."""
    process = _train(copy, RUN)
    assert process.stdout is not None
    assert any(line.startswith("epoch 1/") and "val_loss" in line for line in process.stdout)
    process.kill()
    process.wait()
    finished = sorted((copy.folder / "checkpoints" / RUN).rglob("epoch-*.npz"))
    return int(finished[-1].stem.removeprefix("epoch-"))


def _train(copy: Clone, run: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["deepnets", "train", run],
        cwd=copy.folder,
        env=copy.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_second_process_on_a_run_says_who_holds_it(copy: Clone) -> None:
    copy.edit_params(lambda params: params["train"].update(epochs=1000))
    first = _train(copy, RUN)
    assert first.stdout is not None
    assert "TensorFlow" in first.stdout.readline()
    for command in ("train", "evaluate"):
        second = copy.run("deepnets", command, RUN, check=False)
        assert second.returncode == 1
        (line,) = second.stderr.splitlines()
        assert line.startswith(f"deepnets {command}: {RUN} is being worked on by `deepnets train")
        assert f"(process {first.pid} on " in line
    assert first.poll() is None
    first.kill()
    first.wait()
