"""docs/slurm.sh: which training a job of the array takes, and what is queued, without SLURM."""

import itertools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from project import ROOT, edit_yaml

SCRIPT = ROOT / "docs/slurm.sh"
ROWS = ("vgg16-sgd-random", "resnet50-adam-random")
SEEDS = (3, 0)

# Each stands for a program of that name: says how it was called, and ends as it is told to. The
# real Python lists the trainings once only, since that takes the better part of a second.
PRETENDED = r"""#!/bin/bash
name=$(basename "$0")
[[ $name == python ]] || echo "$name $*" >>"$CALLS"
case $name in
sbatch) [[ $* == *afterany* ]] && echo 43 || echo "42;cluster" ;;
srun) "${@:2}"; exit ;;
python) [[ -s $LISTED ]] || "$PYTHON" "$@" >"$LISTED"; cat "$LISTED" ;;
dvc) [[ $1 == status ]] && echo -n "$STALE" ;;
deepnets)
    env | grep -E "^DEEPNETS_(CORES|UNFOLLOWED)=" | sort >>"$CALLS"
    [[ $1 == training ]] && exit "$STATUS"
    ;;
esac
exit 0
"""


@dataclass(frozen=True)
class Cluster:
    """A study in `folder`, and programs that pretend to be SLURM's, DVC's and ours."""

    folder: Path

    def run(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run the script with `words` as SLURM or a person would; `calls` are then anew."""
        self._log.write_text("")
        outer = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "MLFLOW_"))}
        own = {
            "PATH": os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHON": sys.executable,
            "LISTED": str(self.folder / "listed"),
            "CALLS": str(self._log),
            "STATUS": "0",
            "STALE": "",
        }
        return subprocess.run(
            ["bash", str(SCRIPT), *words],
            cwd=self.folder,
            env=outer | own | variables,
            text=True,
            capture_output=True,
            check=False,
        )

    def train(self, number: int, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run the job of that number in the array 42."""
        known = {"SLURM_CPUS_PER_TASK": "2", "SLURM_ARRAY_JOB_ID": "42", "SLURM_JOB_ID": "42"}
        return self.run(**known, SLURM_ARRAY_TASK_ID=str(number), **variables)

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines()

    @property
    def _log(self) -> Path:
        return self.folder / "calls"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    folder = tmp_path_factory.mktemp("study")
    (folder / "bin").mkdir()
    for name in ("sbatch", "srun", "scontrol", "python", "dvc", "deepnets"):
        path = folder / "bin" / name
        path.write_text(PRETENDED)
        path.chmod(0o755)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())

    def shrink(params: dict[str, Any]) -> None:
        params["train"]["seed"] = list(SEEDS)
        params["initialize"] = ["vgg16-random", "resnet50-random"]
        for name in set(params["runs"]) - set(ROWS):
            del params["runs"][name]

    edit_yaml(folder / "params.yaml", shrink)
    return Cluster(folder)


def test_every_training_is_queued_once_and_the_last_job_follows_however_they_end(
    cluster: Cluster,
) -> None:
    result = cluster.run()
    assert result.returncode == 0, result.stderr
    assert cluster.calls == [
        "dvc repro --quiet preprocess initialize",
        f"sbatch --parsable --array=0-3 {SCRIPT}",
        "sbatch --parsable --dependency=afterany:42 --output=trainings/slurm-%j.log "
        f"{SCRIPT} collect",
    ]
    assert result.stdout == "4 trainings are queued as job 42; job 43 collects them\n"
    assert (cluster.folder / "trainings").is_dir()


def test_each_number_is_a_training_of_its_own_and_one_beyond_the_end_says_so(
    cluster: Cluster,
) -> None:
    for number, (row, seed) in enumerate(itertools.product(ROWS, SEEDS)):
        result = cluster.train(number)
        assert result.returncode == 0, result.stderr
        assert cluster.calls == [
            f"srun --cpus-per-task=2 deepnets training {row} {seed}",
            f"deepnets training {row} {seed}",
            "DEEPNETS_CORES=2",
            "DEEPNETS_UNFOLLOWED=1",
        ]
    result = cluster.train(4)
    assert result.returncode == 2
    assert result.stderr == "there is no training 4: params.yaml has 4, numbered from 0\n"
    assert cluster.calls == []


def test_a_tracking_server_follows_the_trainings(cluster: Cluster) -> None:
    cluster.train(0, MLFLOW_TRACKING_URI="http://server:5000")
    assert cluster.calls[-1] == "DEEPNETS_CORES=2"


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"),
    [("130", "7", True), ("130", "100", False), ("143", "0", False), ("1", "0", False)],
    ids=["time-is-up", "again-and-again", "cancelled", "failed"],
)
def test_what_was_interrupted_is_queued_again(
    cluster: Cluster, status: str, restarts: str, requeued: bool
) -> None:
    result = cluster.train(1, STATUS=status, SLURM_RESTART_COUNT=restarts)
    assert result.returncode == int(status)
    # Not by its job id: that of one of them stands for the whole array.
    expected = ["scontrol requeue 42_1"] if requeued else []
    assert [call for call in cluster.calls if call.startswith("scontrol")] == expected


def test_the_last_job_adopts_and_leaves_dvc_nothing_to_train(cluster: Cluster) -> None:
    assert cluster.run("collect").returncode == 0
    assert cluster.calls == ["deepnets adopt --replace trainings", "dvc status train", "dvc repro"]


def test_the_last_job_trains_nothing_itself(cluster: Cluster) -> None:
    result = cluster.run("collect", STALE=f"train@{ROWS[1]}:\n\tchanged outs:\n")
    assert result.returncode == 1
    assert result.stdout == f"train@{ROWS[1]}:\n"
    assert result.stderr.startswith("these rows are not trained yet, trainings/*.log say why")
    assert "dvc repro" not in cluster.calls
