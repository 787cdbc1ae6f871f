"""`mlflow run`, for real: bare, on a machine with neither conda nor pyenv."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import mlflow  # first: it loads the plugin as MLflow's own commands do
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

import deepnets.__main__
from deepnets.commands import run
from deepnets.tracking import plugin as mlflow_plugin
from project import BIN, Clone, miniature, small_clone

# The environment's programs and the system's, none of which is conda or pyenv.
BARE_PATH = os.pathsep.join([str(BIN), "/usr/local/bin", "/usr/bin", "/bin"])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose study is the miniature."""
    return small_clone(tmp_path_factory.mktemp("project"), miniature, followed=True)


def _runs(folder: Path, experiment: str) -> list[Any]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    existing = client.get_experiment_by_name(experiment)
    return list(client.search_runs([existing.experiment_id])) if existing else []


def test_a_bare_run_is_one_complete_mlflow_run(project: Clone, tmp_path: Path) -> None:
    """Not even a user's wish that DVC stages what it writes changes git's index."""
    (tmp_path / "config").write_text("[core]\n    autostage = true\n")
    lock = project.folder / "dvc.lock"
    before = lock.read_bytes()
    assert shutil.which("conda", path=BARE_PATH) is None
    assert shutil.which("pyenv", path=BARE_PATH) is None
    result = project.run(
        *("mlflow", "run", ".", "-P", "arch=vgg16", "-P", "optimizer=adam"),
        *("-P", "train_images=48", "-P", "learning_rate=5e-4"),
        env={"PATH": BARE_PATH, "DVC_GLOBAL_CONFIG_DIR": str(tmp_path)},
    )
    (run,) = _runs(project.folder, "deeper-networks-single")
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("vgg16-random-adam-")
    params = run.data.params
    assert params["train_images"] == "48"
    assert float(params["learning_rate"]) == 0.0005
    assert params["batch_size"] == "16"  # from params.yaml
    assert {"val_accuracy", "test_accuracy", "test_loss", "loss"} <= set(run.data.metrics)
    assert run.outputs.model_outputs
    (folder,) = (project.folder / "single").iterdir()
    assert (
        json.loads((folder / "test.json").read_text())["accuracy"]
        == (run.data.metrics["test_accuracy"])
    )
    assert "Traceback" not in result.stdout + result.stderr
    assert lock.read_bytes() == before
    assert not project.run("git", "diff", "--cached", "--stat").stdout
    # The miniature has other digits than the committed study, hence another contact sheet.
    changed = project.run("git", "diff", "--name-only").stdout.split()
    assert all(name.startswith("metrics/preprocess/") for name in changed)


def test_wrong_parameters_end_at_once_and_fail(project: Clone) -> None:
    """MLflow hands them to a shell, which takes them as they stand."""
    for pairs, said in (
        (
            ["epochs=3; touch evil", "weights=$(touch evil)"],
            "received '$(touch evil)' (and 1 more)",
        ),
        (["archh=vgg16"], "unrecognized arguments: --archh vgg16"),
    ):
        given = [word for pair in pairs for word in ("-P", pair)]
        result = project.run("mlflow", "run", ".", *given, "--env-manager", "local", check=False)
        assert result.returncode != 0
        assert said in result.stderr
        assert not (project.folder / "evil").exists()
    statuses = [run.info.status for run in _runs(project.folder, "deeper-networks-single")]
    assert statuses[:2] == ["FAILED", "FAILED"]


def test_the_report_is_an_entry_point(project: Clone) -> None:
    result = project.run("mlflow", "run", ".", "-e", "report", "--env-manager", "local")
    assert "reports/report.html: 0 of 2 runs" in result.stdout
    report = (project.folder / "reports" / "report.md").read_text()
    assert "Not run yet: vgg16-sgd-random, resnet50-adam-random." in report


@pytest.mark.parametrize(
    "before",
    ["", "schema: '2.0'\nstages:\n  earlier:\n    cmd: any\n"],
    ids=["no dvc.lock yet", "dvc.lock"],
)
def test_what_another_dvc_books_while_the_data_is_prepared_stays_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """And nothing is booked of the data, whose preparation takes long enough for that."""
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True)
    booking = f"{sys.executable} -m dvc commit --quiet --force train"
    stages = {
        "preprocess": {"cmd": f"{booking} && touch data", "outs": ["data"]},
        "train": {"cmd": "false", "outs": ["model"]},
    }
    Path("dvc.yaml").write_text(json.dumps({"stages": stages}))
    Path("model").touch()
    lock = Path("dvc.lock")
    if before:
        lock.write_text(before)
    run.prepare_data()
    assert Path("data").is_file()
    assert lock.read_text().startswith(before)
    booked = YAML(typ="safe").load(lock.read_text())["stages"]
    assert booked.keys() == {"train"} | ({"earlier"} if before else set())


@pytest.mark.parametrize(
    ("argv", "environment", "stands_in"),
    [
        (["/x/mlflow", "run", "."], {}, True),
        (["/x/mlflow", "run", ".", "--env-manager", "conda"], {}, False),
        (["/x/mlflow", "run", ".", "--env-manager=uv"], {}, False),
        (["/x/mlflow", "run", "."], {"CONDA_EXE": "/opt/conda/bin/conda"}, False),
        (["/x/mlflow", "ui"], {}, False),
        ([mlflow.__file__.replace("__init__", "__main__"), "run", "."], {}, True),
        # What it starts in its turn.
        ([deepnets.__main__.__file__, "run", "--arch", "vgg16"], {}, False),
    ],
)
def test_conda_is_stood_in_for_only_where_it_must_be(
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    environment: dict[str, str],
    stands_in: bool,
) -> None:
    monkeypatch.setenv("PATH", BARE_PATH)
    mlflow_plugin.use_this_environment(argv, environment)
    assert ("MLFLOW_CONDA_HOME" in environment) is stands_in
