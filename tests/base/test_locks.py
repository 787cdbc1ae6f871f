"""One process a run: the second one is told who is at work, and a dead one's lock frees itself."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deepnets.base import locks
from deepnets.base.errors import UserError
from project import environment

# A process that holds a run's lock until it is killed.
HOLD = (
    "import sys, time; from deepnets.base import locks\n"
    "with locks.held('vgg16-sgd-random'): print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "_PATIENCE_SECONDS", 0.1)
    return tmp_path


def holder() -> "subprocess.Popen[str]":
    """Start a process that holds the run, and wait until it does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, env=environment(), text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_is_at_work(study: Path) -> None:
    process = holder()
    try:
        with pytest.raises(UserError) as refused, locks.held("vgg16-sgd-random"):
            raise AssertionError
        assert "vgg16-sgd-random is being worked on by `deepnets" in str(refused.value)
        assert f"(process {process.pid} on " in str(refused.value)
        assert f"end it with `kill {process.pid}`" in str(refused.value)
        assert "\n" not in str(refused.value)
        with locks.held("resnet50-sgd-random"):
            pass
    finally:
        process.kill()
        process.wait()


def test_a_dead_holders_lock_frees_itself(study: Path) -> None:
    process = holder()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with locks.held("vgg16-sgd-random"):
        noted = json.loads((study / "checkpoints/vgg16-sgd-random/holder.json").read_text())
        assert noted["pid"] != process.pid


def test_afterwards_nobody_holds_it(study: Path) -> None:
    with pytest.raises(ValueError, match="within"), locks.held("vgg16-sgd-random"):
        raise ValueError("within")
    with locks.held("vgg16-sgd-random"):
        pass
    assert not (study / "checkpoints/vgg16-sgd-random/holder.json").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"pid": "x"}', "{"])
def test_a_holder_that_left_no_name_is_reported_all_the_same(study: Path, content: str) -> None:
    process = holder()
    try:
        (study / "checkpoints/vgg16-sgd-random/holder.json").write_text(content)
        with (
            pytest.raises(UserError, match="by another process: wait until it ends"),
            locks.held("vgg16-sgd-random"),
        ):
            raise AssertionError
    finally:
        process.kill()
        process.wait()
