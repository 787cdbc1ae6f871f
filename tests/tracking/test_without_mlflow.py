"""Training where MLflow is not installed, and publishing later from where it is."""

import json
from pathlib import Path

import pytest

from project import ROOT, SERIES, Clone, one_run, without

RUN = "vgg16-sgd-random"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A study that was trained and evaluated without MLflow; what was printed is in log.txt."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    study = Clone(folder, followed=True)
    study.edit_params(lambda params: one_run(params, RUN))
    python, variables = without(tmp_path_factory.mktemp("environment") / "site", "mlflow")
    assert study.run(*python, "-c", "import mlflow", env=variables, check=False).returncode
    prepare = [["download"], ["preprocess"], ["initialize", "vgg16-random"]]
    study.run(*python, "-c", SERIES, json.dumps(prepare), env=variables)
    log = ""
    for command in (["train", RUN], ["evaluate", RUN], ["publish"]):
        result = study.run(*python, "-m", "deepnets", *command, env=variables)
        assert "Traceback" not in result.stderr
        log += f"-- {command[0]}\n{result.stdout}"
    (folder / "log.txt").write_text(log)
    return study


def test_one_line_says_that_nothing_is_logged(study: Clone) -> None:
    log = (study.folder / "log.txt").read_text()
    said = {part.split()[0]: part for part in log.split("-- ")[1:]}
    for stage in ("train", "evaluate"):
        assert said[stage].count("mlflow is not installed here: nothing is logged") == 1
        assert "`deepnets publish` on a machine that has it" in said[stage]
    assert "run `deepnets publish` on a machine that has it" in said["publish"]
    assert not list(study.folder.glob("ml*"))


def test_publish_brings_mlflow_level_later(study: Clone) -> None:
    import mlflow

    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{study.folder}/mlflow.db"}
    result = study.run("deepnets", "publish", env=store)
    assert "MLflow has 1 of 1 runs in 'deeper-networks'" in result.stdout

    client = mlflow.MlflowClient(store["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("deeper-networks")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (RUN, "FINISHED")
    trained = json.loads((study.folder / "metrics" / RUN / "train.json").read_text())
    tested = json.loads((study.folder / "metrics" / RUN / "test.json").read_text())
    assert run.data.metrics["val_loss"] == trained["val_loss"]
    assert run.data.metrics["test_accuracy"] == tested["accuracy"]
    losses = client.get_metric_history(run.info.run_id, "loss")
    assert [metric.step for metric in losses] == [1, 2]
    assert run.data.params["arch"] == "vgg16"
    assert "versions.mlflow" not in run.data.tags

    mlflow.set_tracking_uri(store["MLFLOW_TRACKING_URI"])
    (model,) = client.search_logged_models([experiment.experiment_id])
    location = f"{model.artifact_location}/requirements.txt"
    needed = Path(mlflow.artifacts.download_artifacts(location)).read_text().splitlines()
    assert f"mlflow=={mlflow.__version__}" in needed
    assert any(line.startswith("tensorflow==") for line in needed)
