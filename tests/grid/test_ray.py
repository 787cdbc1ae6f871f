"""`deepnets grid --on ray`: three nodes on this machine, one of which dies in the middle.

Needs `make ray`.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from deepnets.base import files
from project import Clone, environment, miniature, small_clone

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs `make ray`")

ROWS = ("vgg16-sgd-random", "resnet50-adam-random")
SEEDS = (0, 1, 2)


def _study(params: dict[str, Any]) -> None:
    miniature(params)
    # Checkpoints come home every half minute: a training has to last longer than that.
    params["train"] |= {"epochs": 20, "train_images": 1600, "seed": list(SEEDS)}


@pytest.fixture(scope="module")
def at_home(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The six trainings, by this machine's own grid."""
    copy = small_clone(tmp_path_factory.mktemp("project"), _study)
    copy.run("deepnets", "grid")
    return copy


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that takes no work, and three nodes of one core each."""
    from ray import cluster_utils

    # Of this process, nodes have the variables.
    kept = dict(os.environ)
    os.environ |= environment() | {"RAY_DISABLE_DOCKER_CPU_WARNING": "1"}
    started = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    started.nodes = [started.add_node(num_cpus=1) for _ in range(3)]
    yield started
    started.shutdown()
    os.environ.clear()
    os.environ |= kept


def test_a_node_that_dies_costs_nothing(cluster: Any, at_home: Clone, tmp_path: Path) -> None:
    copy = Clone(tmp_path / "clone")
    at_home.run("git", "clone", "-q", str(at_home.folder), str(copy.folder))
    process = subprocess.Popen(
        ["deepnets", "grid", "--on", "ray", "--address", cluster.address],
        cwd=copy.folder,
        env=environment() | {"PYTHONPATH": str(copy.folder / "src")},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 300
    # Of each node's training, whichever is on the one that dies.
    while len({path.parent for path in copy.folder.glob("checkpoints/*/*/*/epoch-*.npz")}) < 3:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    cluster.remove_node(cluster.nodes[0], allow_graceful=False)
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out
    assert "6 trainings are due: 3 at a time on a Ray cluster of 4 nodes" in out
    logs = [path.read_text() for path in copy.folder.glob("trainings/*/*/log.txt")]
    assert len(logs) == 6
    assert any("continuing after epoch" in log for log in logs), "the node had no part in it"
    for name in ROWS:
        for file in ("history.csv", "test.json", "predictions.csv.gz", "train.json"):
            there = [clone.folder / "metrics" / name / file for clone in (at_home, copy)]
            assert there[0].read_bytes() == there[1].read_bytes()
        ours, theirs = (
            files.read_json(clone.folder / f"metrics/{name}/provenance.json")
            for clone in (at_home, copy)
        )
        for seed in map(str, SEEDS):
            assert ours[seed]["weights"] == theirs[seed]["weights"]
            assert ours[seed]["fingerprint"] == theirs[seed]["fingerprint"]
            assert ours[seed]["git"] == theirs[seed]["git"]
            model = Path("models") / name / f"seed-{seed}.keras"
            assert (at_home.folder / model).read_bytes() == (copy.folder / model).read_bytes()
    _each_once_in_mlflow(copy)


def _each_once_in_mlflow(copy: Clone) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{copy.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("deeper-networks")
    runs = client.search_runs([experiment.experiment_id])
    expected = [f"{name}-seed-{seed}" for name in ROWS for seed in SEEDS]
    assert sorted(run.info.run_name for run in runs) == sorted([*ROWS, *expected])
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_without_a_cluster_one_line_says_so(at_home: Clone) -> None:
    at_home.edit_params(lambda p: p["train"].update(epochs=1))
    for address in ("127.0.0.1:1", "somewhere"):
        options = ("--on", "ray", "--address", address)
        result = at_home.run("deepnets", "grid", *options, check=False)
        assert result.returncode == 1
        (line,) = result.stderr.splitlines()
        assert f"no Ray cluster at {address} (" in line
        assert "start one with `ray start --head`" in line
