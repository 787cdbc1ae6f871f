"""What a node does for a training and what home makes of it, without Ray and without networks."""

import io
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest

from deepnets.base.errors import UserError
from deepnets.config import params
from deepnets.grid import on_ray, ray_task
from deepnets.grid.due import Training
from deepnets.grid.ray_task import Order, Sent
from project import ROOT

STUDY = params.parse(params.reader.read_yaml(ROOT / "params.yaml"))
NAME = next(iter(STUDY.runs))
CHECKPOINTS, RESULTS = f"checkpoints/{NAME}/seed-0", f"trainings/{NAME}/seed-0"

# Stands in for deepnets: goes on from a checkpoint, writes two, ends as it is told.
TRAINING = f"""
import os, sys, time
from pathlib import Path
name, seed = sys.argv[2:]
print("training", name, seed, "with", os.environ["COLOUR"], "cores", os.environ["DEEPNETS_CORES"])
folder = Path("{CHECKPOINTS}") / "abc"
begun = sorted(path.name for path in folder.glob("*.npz"))
print("continuing from", *begun)
folder.mkdir(parents=True, exist_ok=True)
(folder / "validated-00003.npz").write_bytes(b"seen")
for epoch in (2, 3):
    (folder / f"epoch-0000{{epoch}}.npz").write_bytes(b"epoch %d" % epoch)
    (folder / ".partial").write_bytes(b"")
    time.sleep(0.4)
Path("{RESULTS}/train.json").write_text("{{}}")
sys.exit(int(os.environ.get("STATUS", "0")))
"""


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray_task, "_INTERVAL", 0.05)
    monkeypatch.setattr(ray_task.tempfile, "tempdir", str(tmp_path))


def _bundle(training: str = TRAINING) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in {
            "src/deepnets/__init__.py": "",
            "src/deepnets/__main__.py": training,
            "studies/one/params.yaml": "",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def _order(libraries: dict[str, str] | None = None, **environment: str) -> Order:
    given = {"COLOUR": "blue", "DEEPNETS_CORES": "1"} | environment
    return Order(
        *(NAME, 0, "studies/one", CHECKPOINTS, RESULTS, libraries or {}, given), seconds=0.0
    )


def test_everything_comes_home_while_it_runs_and_nothing_is_left_there(tmp_path: Path) -> None:
    begun = {f"{CHECKPOINTS}/abc/epoch-00001.npz": b"epoch 1"}
    sent = list(ray_task.train(_bundle(), begun, _order()))
    assert [part.status for part in sent[:-1]] == [None] * (len(sent) - 1)
    assert sent[-1].status == 0
    assert sent[-1].files[f"{RESULTS}/train.json"] == b"{}"
    log = sent[-1].files[f"{RESULTS}/log.txt"].decode()
    assert f"training {NAME} 0 with blue cores 1" in log
    assert "continuing from epoch-00001.npz" in log
    came = [path.rpartition("/")[2] for part in sent for path in part.files]
    assert came.count("epoch-00001.npz") == 0  # that is where it came from
    assert came.count("epoch-00002.npz") == came.count("epoch-00003.npz") == 1
    assert ".partial" not in came
    assert sent[-1].files[f"{CHECKPOINTS}/abc/validated-00003.npz"] == b"seen"
    assert not list(tmp_path.iterdir())


def test_older_checkpoints_come_home_where_the_best_is_kept(tmp_path: Path) -> None:
    for name in ("epoch-00001.npz", "epoch-00004.npz", "epoch-00005.npz", "history.csv"):
        (tmp_path / name).write_bytes(b"")
    newest = {"epoch-00005.npz", "history.csv"}
    assert set(ray_task.read_changed_files(tmp_path, "", {})) == newest
    older = {"epoch-00001.npz", "epoch-00004.npz"}
    assert set(ray_task.read_changed_files(tmp_path, "", {}, older=True)) == newest | older


def test_checkpoints_of_another_training_do_not_stand_for_those_of_this_one(tmp_path: Path) -> None:
    """Of an older fingerprint, with more epochs."""
    for name in ("ffff/epoch-00014.npz", "ffff/epoch-00015.npz", "0000/epoch-00003.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    sent: dict[str, int] = {}
    newest = {"ffff/epoch-00015.npz", "0000/epoch-00003.npz"}
    assert set(ray_task.read_changed_files(tmp_path, "", sent)) == newest
    (tmp_path / "0000/epoch-00004.npz").write_bytes(b"")
    assert set(ray_task.read_changed_files(tmp_path, "", sent)) == {"0000/epoch-00004.npz"}


# It does not listen to Ctrl-C.
DEAF = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""


def test_a_training_that_does_not_listen_leaves_nothing_on_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_task, "_PATIENCE", 0.2)
    sending = ray_task.train(_bundle(DEAF), {}, _order())
    while not any(b"deaf" in content for content in next(sending).files.values()):
        pass
    sending.close()  # as Ray does where it is cancelled
    assert not list(tmp_path.iterdir())
    there = [process.info["cwd"] or "" for process in psutil.process_iter(["cwd"])]
    assert not [folder for folder in there if folder.startswith(str(tmp_path))]


def test_a_training_that_fails_says_so_and_sends_what_it_has() -> None:
    order = _order(STATUS="7")
    sent = list(ray_task.train(_bundle(), {}, order))
    assert sent[-1].status == 7
    assert any(path.endswith("epoch-00003.npz") for part in sent for path in part.files)


def test_a_node_with_other_libraries_is_refused_by_name() -> None:
    needed = {"numpy": version("numpy"), "keras": "0.1", "no-such-thing": "2"}
    (sent,) = ray_task.train(b"", {}, _order(needed))
    assert sent.status == 1
    (log,) = sent.files.values()
    assert f"keras 0.1, found {version('keras')}, no-such-thing 2, found none" in log.decode()


def test_the_bundle_has_the_code_the_study_and_what_git_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / "studies/tour")
    row = next(iter(params.load().runs))
    study = params.load()
    packed = on_ray.bundle(study, [Training(row, study.run_params(row, 0))])
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        names = set(archive.getnames())
        archive.extractall(tmp_path, filter="data")
    assert {"MLproject", "studies/tour/params.yaml", "src/deepnets/training/loop.py"} <= names
    assert not [name for name in names if name.endswith(".pyc") or "reports" in name]
    from deepnets.records import provenance

    here = provenance.git_state()
    monkeypatch.chdir(tmp_path / "studies/tour")
    assert provenance.git_state() == here
    assert here["commit"]


class LostError(Exception):
    """What Ray raises where a node has died."""


class Cluster:
    """Gives what it is told, one thing a call; notes with which checkpoints it was asked."""

    lost = LostError

    def __init__(self, *events: Sent | Exception | None) -> None:
        self._events = iter(events)
        self.placed: list[list[str]] = []

    def place(self, _: Training) -> int:
        self.placed.append(sorted(path.name for path in Path().glob("checkpoints/*/*/*/*.npz")))
        return len(self.placed)

    def next_sent(self, _: int) -> Sent | None:
        event = next(self._events, None)
        if isinstance(event, Exception):
            raise event
        return event


@pytest.fixture
def placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    training = Training(NAME, STUDY.run_params(NAME, 0))
    return lambda cluster: on_ray.Placed(cluster, STUDY, training)


def _checkpoint(epoch: int) -> Sent:
    return Sent("node-1", {f"{CHECKPOINTS}/abc/epoch-{epoch:05d}.npz": b"%d" % epoch})


def test_after_a_death_it_is_placed_again_from_the_newest_checkpoint(placed: Any) -> None:
    ended = Sent("node-2", {f"{RESULTS}/log.txt": b"done"}, 0)
    cluster = Cluster(*map(_checkpoint, (1, 2, 3)), LostError(), None, ended)
    running = placed(cluster)
    assert running.end() is None
    assert running.place == "the cluster, again"
    end = running.end()
    assert end is not None
    assert not end.failed
    assert running.place == "node-2"
    assert cluster.placed == [[], ["epoch-00002.npz", "epoch-00003.npz"]]


def test_deaths_without_an_epoch_between_them_are_given_up(placed: Any) -> None:
    running = placed(
        Cluster(
            LostError(),
            LostError(),
            _checkpoint(1),
            LostError(),
            LostError(),
            LostError(),
            LostError("power"),
        )
    )
    end = running.end()
    assert end is not None
    assert end.failed
    assert end.why == "its node died 4 times in a row: power"


def test_an_epoch_counts_beside_more_of_another_training(placed: Any, tmp_path: Path) -> None:
    other = tmp_path / CHECKPOINTS / "fff" / "epoch-00015.npz"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"15")
    deaths = [LostError() for _ in range(3)]
    running = placed(Cluster(*deaths, _checkpoint(1), *deaths))
    assert running.end() is None
    assert running.place == "the cluster, again"
    assert other.is_file()


def test_a_file_for_elsewhere_is_refused(placed: Any) -> None:
    for name in ("../outside", "/tmp/outside"):
        running = placed(Cluster(Sent("node-1", {name: b""})))
        with pytest.raises(UserError, match=r"sent a file for .*outside"):
            running.end()


def test_a_failure_is_told_by_its_last_words(placed: Any) -> None:
    failed = Sent(
        "node-1", {f"{RESULTS}/log.txt": b"epoch 1\ndeepnets training: the disk is full\n"}, 1
    )
    end = placed(Cluster(failed)).end()
    assert (end.failed, end.why) == (True, "deepnets training: the disk is full")
