"""`deepnets grid` on small networks: the files of a row after the other, to the bit, come what may.

One grid is stopped, fails in part, goes on and ends, as the tests are in order, and then has a seed
more; beside it stands the same study by the commands of `dvc repro`. Several seeds as well:
test_adopt.py and test_ray.py.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from deepnets.__main__ import main
from deepnets.base import files
from project import SERIES, Clone, miniature, small_clone

ROWS = ("vgg16-sgd-random", "resnet50-adam-random")
FAILED = "resnet50-adam-random"


def _study(params: dict[str, Any]) -> None:
    miniature(params)
    params["train"] |= {"epochs": 3, "train_images": 320}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return small_clone(tmp_path_factory.mktemp("project"), _study, followed=True)


@pytest.fixture(scope="module")
def one_by_one(study: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The same by the commands of `dvc repro`, in one process, which spares most of the time.

    From the data and the weights that the grid had DVC make.
    """
    copy = Clone(tmp_path_factory.mktemp("one-by-one") / "clone")
    study.run("git", "clone", "-q", str(study.folder), str(copy.folder))
    for made in ("params", "processed", "weights"):
        shutil.copytree(study.folder / "data" / made, copy.folder / "data" / made)
    commands = [[stage, name] for name in ROWS for stage in ("train", "evaluate")]
    copy.run("python", "-c", SERIES, json.dumps(commands))
    return copy


def _grid(study: Clone, *options: str) -> "subprocess.CompletedProcess[str]":
    return study.run("deepnets", "grid", *options, check=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rows", "vgg19"], "--rows: no row of this study is vgg19: expected some of vgg16-sgd"),
        (["--seeds", "0,7"], "--seeds: 7 is none of this study's: expected some of 0; params.yaml"),
        (["--seeds", "x"], "--seeds: expected whole numbers such as 0,1,2; received 'x'"),
        (["--jobs", "0"], "argument --jobs: expected a whole number from 1 on, received '0'"),
        (["nowhere"], "nowhere is no study: expected a folder with dvc.yaml and params.yaml"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(
    study: Clone,
    options: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(study.folder)
    # Our code will do.
    monkeypatch.setenv("DEEPNETS_CHECKOUT", str(study.folder))
    try:
        status = main(["grid", *options])
    except SystemExit as refused:  # by argparse
        status = int(str(refused.code))
    assert status in (1, 2)
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (study.folder / "data/raw").exists()


def test_ctrl_c_stops_all_of_them(study: Clone) -> None:
    process = subprocess.Popen(
        ["deepnets", "grid", "--jobs", "2"],
        cwd=study.folder,
        env=study.environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    logs = [study.folder / f"trainings/{name}/seed-0/log.txt" for name in ROWS]
    deadline = time.monotonic() + 240
    while not any(log.is_file() and "epoch 1/3: loss" in log.read_text() for log in logs):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=150)
    assert process.returncode == 130
    assert "2 trainings are due: 2 at a time, 1 core each" in out
    assert error.splitlines()[-1].startswith("deepnets grid: interrupted; the same command")
    deadline = time.monotonic() + 20
    while _at_work(study.folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _at_work(study.folder)
    said = "the same command continues where it stopped"
    assert any(said in log.read_text() for log in logs)
    # What `dvc plots show` draws meanwhile.
    curves = (study.folder / "reports" / "history.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in curves[1:]} <= set(ROWS)
    assert curves[1].split(",")[1] == "1"


def _at_work(folder: Path) -> list[str]:
    """Processes that run in `folder`."""
    import psutil

    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cwd", "cmdline"])
        if process.info["cwd"] == str(folder)
    ]


def test_one_that_fails_stops_no_other(study: Clone) -> None:
    """Here because somebody else is at it."""
    held = (
        "import time; from deepnets.base import locks\n"
        f"with locks.held_seed({FAILED!r}, 0): print('held', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen(
        ["python", "-c", held],
        cwd=study.folder,
        env=study.environment(),
        text=True,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        result = _grid(study)
    finally:
        other.kill()
        other.wait()
    assert result.returncode == 1, result.stdout + result.stderr
    why = f"{FAILED}, seed 0: failed: deepnets training: {FAILED}, seed 0, is being worked on by"
    assert why in result.stdout
    assert "all that it said: " in result.stdout
    assert f"{ROWS[0]}, seed 0: done: " in result.stdout
    assert f"{ROWS[0]}: written, and booked in dvc.lock" in result.stdout
    assert (study.folder / f"models/{ROWS[0]}/seed-0.keras").is_file()
    assert len(list(study.folder.glob(f"checkpoints/{ROWS[0]}/seed-0/*/epoch-*.npz"))) == 1
    assert not (study.folder / f"models/{FAILED}").exists()


def test_the_same_command_does_what_is_left(study: Clone) -> None:
    result = _grid(study)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 training is due: one at a time, " in result.stdout
    logs = study.folder.glob("trainings/*/*/log.txt")
    assert any("continuing after epoch" in log.read_text() for log in logs)
    assert f"{FAILED}: written, and booked in dvc.lock" in result.stdout
    ending = result.stdout[result.stdout.rindex("| run ") :]
    assert all(f"| {name}" in ending for name in ROWS)


def test_afterwards_dvc_has_nothing_to_train(study: Clone) -> None:
    output = study.run("dvc", "repro").stdout
    stages = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running")]
    assert stages == ["publish"]


def test_every_file_has_the_bits_that_it_has_one_after_the_other(
    study: Clone, one_by_one: Clone
) -> None:
    for name in ROWS:
        folders = [clone.folder / "metrics" / name for clone in (study, one_by_one)]
        there = [{path.name for path in folder.iterdir()} for folder in folders]
        assert there[0] == there[1]
        for file in there[0] - {"timing.csv", "provenance.json"}:
            assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes(), file
        ours, theirs = (files.read_json(folder / "provenance.json") for folder in folders)
        environment = [provenance["0"].pop("environment") for provenance in (ours, theirs)]
        assert ours == theirs
        assert [recorded["runtime"]["set_by_user"] for recorded in environment] == [[], []]
        if name != FAILED:  # which was alone
            assert environment[0]["hardware"]["cores"] == 1
        kept = [clone.folder / "models" / name for clone in (study, one_by_one)]
        assert {p.name for p in kept[0].iterdir()} == {p.name for p in kept[1].iterdir()}
        for path in kept[0].iterdir():
            assert path.read_bytes() == (kept[1] / path.name).read_bytes(), path.name
        probabilities = [
            clone.folder / f"data/probabilities/{name}/probabilities.npy"
            for clone in (study, one_by_one)
        ]
        assert probabilities[0].read_bytes() == probabilities[1].read_bytes()


def test_mlflow_has_each_training_once(study: Clone) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{study.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("deeper-networks")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == sorted(ROWS)
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        steps = client.get_metric_history(run.info.run_id, "val_accuracy")
        assert sorted(metric.step for metric in steps) == [1, 2, 3]
        assert run.outputs.model_outputs


def test_the_seeds_of_a_row_have_a_log_each_and_become_one_row(study: Clone) -> None:
    study.edit_params(lambda params: params["train"].update(seed=[0, 1]))
    result = _grid(study, "--rows", ROWS[0], "--jobs", "1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 trainings are due: one at a time, " in result.stdout
    assert f"{ROWS[0]}: written, and booked in dvc.lock" in result.stdout
    first, second = (
        (study.folder / f"trainings/{ROWS[0]}/seed-{seed}/log.txt").read_text() for seed in (0, 1)
    )
    assert "epoch 3/3: loss" in second
    assert "test accuracy" in second
    assert f"{ROWS[0]}, seed 1" not in first
    tested = files.read_json(study.folder / "metrics" / ROWS[0] / "test.json")
    assert [seed["seed"] for seed in tested["seeds"]] == [0, 1]


def test_a_process_trains_no_seed_by_other_code_than_its_record_says(study: Clone) -> None:
    folder = study.folder / "trainings" / ROWS[0]
    process = subprocess.Popen(
        ["deepnets", "training", ROWS[0]],
        cwd=study.folder,
        env=study.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(b"0\n")
        process.stdin.flush()
        deadline = time.monotonic() + 120
        while not _is_done(folder / "seed-0" / "progress.json"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        loop = study.folder / "src" / "deepnets" / "training" / "loop.py"
        loop.write_text(loop.read_text() + "# edited\n")
        process.stdin.write(b"1\n")
        process.stdin.flush()
        # The pipe is still open: it has begun anew for this seed alone.
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
    assert "epoch 3/3: loss" in (folder / "seed-1" / "log.txt").read_text()
    old, new = (
        files.read_json(folder / f"seed-{seed}" / "provenance.json")[str(seed)]["code"]
        for seed in (0, 1)
    )
    assert {name for name in new if new[name] != old[name]} == {"training/loop"}
    assert files.file_digest(loop).startswith(new["training/loop"])


def _is_done(progress: Path) -> bool:
    return progress.is_file() and files.read_json(progress)["state"] == "done"
