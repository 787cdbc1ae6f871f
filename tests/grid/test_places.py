"""What a place of a grid is given: cores, a share of a GPU; and its lock."""

import json
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from deepnets.base import locks
from deepnets.base.errors import UserError
from deepnets.config import params
from deepnets.grid import gpus, local, schedule
from deepnets.grid.due import Training
from deepnets.networks import runtime
from deepnets.records import machine
from project import ROOT

STUDY = params.parse(params.reader.read_yaml(ROOT / "params.yaml"))


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda _: [0, 1, 2, 3], raising=False)
    monkeypatch.setattr(runtime, "has_gpu_for_jax", lambda: False)
    monkeypatch.setattr(local, "CPU_TRAINING_BYTES", 1)
    for name in ("OMP_NUM_THREADS", *runtime._threads("tensorflow"), runtime.CORES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("jobs", "due", "said", "cores"),
    [
        (None, 9, "4 at a time, 1 core each", "1"),
        (None, 2, "2 at a time, 2 cores each", "2"),
        (3, 9, "3 at a time, 1 core each", "1"),
        (8, 9, "8 at a time, 1 core each", "1"),
        (None, 1, "one at a time, 4 cores each", None),
    ],
)
def test_cores_are_shared_out(jobs: int | None, due: int, said: str, cores: str | None) -> None:
    places = local.Local(STUDY, jobs, due)
    assert places.describe() == said
    environment = places._environment(0)
    assert environment.get(runtime.CORES) == cores
    assert environment.get(runtime.SET_BY_GRID) == (None if cores is None else "DEEPNETS_CORES")


def test_cores_that_the_user_allows_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime.CORES, "2")
    places = local.Local(STUDY, None, 9)
    assert places.describe() == "2 at a time, 1 core each"
    assert places._environment(0)[runtime.CORES] == "1"


def test_memory_is_a_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "CPU_TRAINING_BYTES", psutil.virtual_memory().available // 3)
    assert local.Local(STUDY, None, 9).capacity() in (2, 3)


@pytest.mark.parametrize(
    ("cores", "threads"), [("1", ("1", "1")), ("2", ("1", "2")), ("3", ("3", "1"))]
)
def test_a_process_of_a_grid_keeps_to_its_cores(
    cores: str, threads: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_has_nvidia_gpu", lambda: False)
    monkeypatch.setenv(runtime.CORES, cores)
    assert runtime.cores() == int(cores)
    chosen = runtime._threads("tensorflow")
    assert (chosen["TF_NUM_INTRAOP_THREADS"], chosen["TF_NUM_INTEROP_THREADS"]) == threads
    assert runtime._threads("jax") == {"NPROC": cores, "OMP_NUM_THREADS": cores}
    assert machine.describe()["hardware"]["cores"] == int(cores)


SMI = """#!/bin/sh
echo "0, GPU-aaa, NVIDIA H200, 143771"
echo "1, GPU-bbb, NVIDIA H200, 143771"
"""
CONTROL = """#!/bin/sh
echo "$* $CUDA_MPS_PIPE_DIRECTORY $(cat)" >>"$CALLS"
"""


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs as NVIDIA's, that only pretend; returns the file of the calls of MPS."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("nvidia-smi", SMI), ("nvidia-cuda-mps-control", CONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(runtime, "has_gpu_for_jax", lambda: True)
    monkeypatch.setattr(runtime, "cores", lambda: 16)
    return tmp_path / "calls"


def test_gpus_are_shared_under_mps_which_ends_with_the_grid(two_gpus: Path) -> None:
    places = local.Local(STUDY, None, 100)
    assert places.describe() == "16 at a time on 2 GPUs, under NVIDIA's MPS"
    given = [places._environment(slot) for slot in range(16)]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in given] == ["0", "1"] * 8
    assert {env["XLA_PYTHON_CLIENT_MEM_FRACTION"] for env in given} == {"0.113"}  # 0.9 / 8
    pipe = given[0]["CUDA_MPS_PIPE_DIRECTORY"]
    assert Path(pipe).is_dir()
    places.close()
    started, stopped = two_gpus.read_text().splitlines()
    assert started == f"-d {pipe} "
    assert stopped == f" {pipe} quit"
    assert not Path(pipe).exists()


def test_a_small_card_carries_few(two_gpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setattr(gpus, "TRAINING_MIB", 60_000)
    places = local.Local(STUDY, None, 100)
    assert places.describe() == "2 at a time on NVIDIA H200, under NVIDIA's MPS"
    # The first of those that MPS was started with.
    assert places._environment(0)["CUDA_VISIBLE_DEVICES"] == "0"
    places.close()


def test_a_card_that_does_not_say_its_memory_carries_one(two_gpus: Path) -> None:
    smi = two_gpus.parent / "bin" / "nvidia-smi"
    smi.write_text(smi.read_text().replace("143771", "[N/A]"))
    places = local.Local(STUDY, None, 100)
    assert places.describe() == "2 at a time on 2 GPUs, under NVIDIA's MPS"
    places.close()


@pytest.mark.parametrize(
    ("visible", "used"),
    [
        ("0,1", ["0", "1"]),
        ("1,0", ["1", "0"]),
        (" GPU-b , 0", ["1", "0"]),
        ("0,", ["0"]),
        ("0,-1,1", ["0"]),
        ("0,GPU-aaa", ["0"]),
        ("GPU-", []),  # which of them?
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),  # SLURM's word for none
    ],
)
def test_the_cards_are_those_that_cuda_shows_in_its_order(
    visible: str, used: list[str], two_gpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [card.index for card in gpus.cards()] == used


@pytest.mark.parametrize(
    ("visible", "names", "own_mps", "given"),
    [
        ("0,1", ["GPU 0", "GPU 1"], True, ["0", "1"]),
        # MPS, which is started with them, counts them anew.
        ("1,0", ["GPU 1", "GPU 0"], True, ["0", "1"]),
        ("1,0", ["GPU 1", "GPU 0"], False, ["1", "0"]),
        ("GPU-b,0", ["GPU 1", "GPU 0"], False, ["GPU-b", "0"]),
    ],
)
def test_trainings_take_turns_on_the_cards_that_the_user_names(
    visible: str,
    names: list[str],
    own_mps: bool,
    given: list[str],
    two_gpus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if not own_mps:
        monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/theirs")
    places = local.Local(STUDY, None, 100)
    assert "16 at a time on 2 GPUs" in places.describe()
    assert [places._place(slot) for slot in range(4)] == names * 2
    environments = [places._environment(slot) for slot in range(4)]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in environments] == given * 2
    places.close()


def test_one_training_has_the_card_to_itself(two_gpus: Path) -> None:
    places = local.Local(STUDY, None, 1)
    assert places._environment(0) == {}
    places.close()
    assert not two_gpus.exists()


def test_a_users_mps_is_used_and_left_alone(
    two_gpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/theirs")
    places = local.Local(STUDY, 4, 100)
    assert "CUDA_MPS_PIPE_DIRECTORY" not in places._environment(0)
    places.close()
    assert not two_gpus.exists()


def test_seeds_of_a_run_are_held_beside_each_other_and_not_beside_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "_PATIENCE_SECONDS", 0.1)
    with locks.held_seed("a-row", 0), locks.held_seed("a-row", 1):
        holder = json.loads((tmp_path / "checkpoints/a-row/seed-1/holder.json").read_text())
        assert holder["pid"] == os.getpid()
        with pytest.raises(UserError, match="a-row, seed 1, is being"), locks.held_seed("a-row", 1):
            pass
        with pytest.raises(UserError, match="a-row, seed 0, is being"), locks.held("a-row"):
            pass
    with (
        locks.held("a-row"),
        pytest.raises(UserError, match="a-row is being worked on by"),
        locks.held_seed("a-row", 2),
    ):
        pass
    with locks.held("a-row"):
        pass


# Takes seeds as `deepnets training ROW` does, and notes in which process. After seed
# 0 it ends, of seed 2 it has heard when it ends, unless that is its first, and seed 3 fails.
TRAINER = """#!/bin/sh
while read seed; do
    [ $seed = 2 ] && [ -n "$done" ] && exit 7
    folder=trainings/$4/seed-$seed
    mkdir -p $folder
    echo "$$ $4 $seed" >>calls
    echo '{"state": "starting"}' >$folder/progress.json
    [ $seed = 3 ] && { echo "out of luck" >$folder/log.txt; exit 5; }
    echo '{"state": "done"}' >$folder/progress.json
    [ $seed = 0 ] && exit 0
    done=yes
done
echo "$$ left" >>calls
"""


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TRAINER, in place of Python."""
    program = tmp_path / "python"
    program.write_text(TRAINER)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.chdir(tmp_path)
    return program


def _training(name: str, seed: int) -> Training:
    return Training(name, STUDY.run_params(name, 0).model_copy(update={"seed": seed}))


def test_a_process_does_one_training_of_its_row_after_another(
    trainer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_INTERVAL", 0.01)
    names = list(STUDY.runs)[:3]
    waiting = [_training(name, seed) for seed in range(5) for name in names]
    places, rows = local.Local(STUDY, 1, len(waiting)), []
    ended = schedule.run(waiting, places, schedule.Watcher(), rows.append)
    places.close()

    assert [(t.seed, end.why) for t, end in ended.failed] == [(3, "out of luck")] * 3
    assert len(ended.ended) == len(waiting)
    assert rows == []
    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    done: dict[str, list[tuple[str, int]]] = {}
    for process, *what in calls:
        if what != ["left"]:
            done.setdefault(process, []).append((what[0], int(what[1])))
    for trainings in done.values():
        assert len({name for name, _ in trainings}) == 1
    by_seed = sorted({tuple(seed for _, seed in trainings) for trainings in done.values()})
    assert by_seed == [(0,), (1,), (2, 3), (4,)]
    assert len(done) == 12
    left = {process for process, *what in calls if what == ["left"]}
    assert left == {process for process, trainings in done.items() if trainings[0][1] == 4}


def test_ctrl_c_starts_no_process(trainer: Path) -> None:
    """Not even for a training that its process, which did another before, had not begun with."""
    trainer.write_text(TRAINER.replace("exit 7", "exec sleep 60"))
    name, others = next(iter(STUDY.runs)), psutil.Process().children()
    places = local.Local(STUDY, 1, 2)
    before = places.start([_training(name, 1)])
    while before.end() is None:
        time.sleep(0.01)
    running = places.start([_training(name, 2)])
    running.interrupt()
    running.stop()
    places.close()
    assert set(psutil.Process().children()) <= set(others)
