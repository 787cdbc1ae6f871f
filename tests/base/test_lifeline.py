"""A command ends with the dvc, mlflow or deepnets that started it, and with no other program."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deepnets.__main__ import main
from deepnets.base import lifeline, processes
from deepnets.grid import training
from project import ROOT, environment

# What a stage does, as far as this is concerned.
STAGE = (
    "from deepnets.base import lifeline; import time\nlifeline.end_with_parents(); {}time.sleep(60)"
)


def started_by(
    folder: Path, program: str, line: str = "{python} {script} repro", *, shell: bool = False
) -> tuple[psutil.Process, ...]:
    """A program of that name that has started a stage, in the way of dvc by a shell; and the stage.

    The stage says that it is there by a file. `line` is how the program was started.
    """
    ready = folder / "ready"
    stage = STAGE.format(f"open({str(ready)!r}, 'w'); ")
    command = [sys.executable, "-c", stage]
    if shell:
        command = ["sh", "-c", f'"{sys.executable}" -c "{stage}"; true']
    script = folder / program
    script.write_text(
        f"{shlex.join(command)}; true"
        if line.startswith("sh ")
        else f"import subprocess; subprocess.run({command!r})"
    )
    parent = subprocess.Popen(
        line.format(python=sys.executable, script=script).split(),
        cwd=folder,
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    until(ready.exists)
    process = psutil.Process(parent.pid)
    return process, process.children(recursive=True)[-1]


def until(condition: object, seconds: float = 20.0) -> None:
    """Wait for `condition`, a function, to be true."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("program", ["dvc", "mlflow", "deepnets"])
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_stage_ends_with_what_started_it(tmp_path: Path, program: str, by: int) -> None:
    parent, stage = started_by(tmp_path, program)
    assert not ended(stage)
    parent.send_signal(by)
    until(lambda: ended(stage))


@pytest.mark.parametrize(
    ("program", "line"),
    [("dvc.py", "{python} -m dvc repro"), ("dvc", "{python} -u {script} repro")],
)
def test_it_may_have_been_started_with_an_option_of_python(
    tmp_path: Path, program: str, line: str
) -> None:
    parent, stage = started_by(tmp_path, program, line)
    parent.kill()
    until(lambda: ended(stage))


def test_a_shell_in_between_makes_no_difference(tmp_path: Path) -> None:
    parent, stage = started_by(tmp_path, "dvc", shell=True)
    parent.kill()
    until(lambda: ended(stage))


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("some-shell", "{python} {script} repro"),
        # That work on a file or in a folder of such a name, as `vim deepnets` does.
        ("some-editor", "{python} {script} deepnets"),
        ("deepnets", "sh {script}"),
    ],
)
def test_other_programs_may_end(tmp_path: Path, program: str, line: str) -> None:
    parent, stage = started_by(tmp_path, program, line)
    parent.kill()
    parent.wait()
    time.sleep(4 * lifeline._INTERVAL)
    assert not ended(stage)
    stage.kill()


def test_a_stage_started_after_the_end_ends_at_once() -> None:
    """`deepnets repro` was killed, and the dvc that it had started goes on with the next stage."""
    first = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = processes.identity(psutil.Process(first.pid))
    command = [sys.executable, "-c", STAGE.format("")]
    env = environment() | {lifeline._VARIABLE: identity}
    stage = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        stage.wait(3)
    first.kill()
    first.wait()
    _, said = stage.communicate(timeout=20)
    assert stage.returncode == -signal.SIGTERM
    assert "what started this command has ended" in said
    late = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=False)
    assert late.returncode == -signal.SIGTERM


def test_children_learn_who_started_them() -> None:
    ((variable, identity),) = lifeline.environment().items()
    assert variable == "DEEPNETS_STARTED_BY"
    assert identity == processes.identity(psutil.Process(os.getpid()))


def test_sigterm_ends_a_training_in_order() -> None:
    """So that whoever follows it is told, and waited for."""
    code = (
        "from deepnets.base import lifeline; import time\nlifeline.end_in_order()\n"
        "try: print('here', flush=True); time.sleep(60)\nfinally: print('in order')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.terminate()
    said, _ = process.communicate(timeout=20)
    assert said == "in order\n"
    assert process.returncode == 128 + signal.SIGTERM


def test_the_command_for_clusters_does_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []
    monkeypatch.setattr(training, "main", lambda *_: heard.append(signal.getsignal(signal.SIGTERM)))
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["training", "vgg16-sgd-random", "0"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [lifeline._exit]
