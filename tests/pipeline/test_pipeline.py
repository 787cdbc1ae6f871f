"""The real thing in miniature: a fresh clone, `dvc repro`, MLflow read back, the model reloaded.

One grid of two runs is trained once for the whole module; the tests then look at what a user
would look at.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from deepnets.__main__ import main
from project import Clone, keep_reproduced, miniature, small_clone

RUNS = ("vgg16-sgd-random", "resnet50-adam-random")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the miniature grid has been reproduced and committed."""
    copy = small_clone(
        tmp_path_factory.mktemp("project"),
        miniature,
        lambda p: p["diagnose"].update(runs=["vgg16-sgd-random"], steps=3),
        followed=True,
    )
    result = copy.run("deepnets", "repro")
    (copy.folder / "first-repro.log").write_text(result.stdout + result.stderr)
    copy.run("git", "add", "-A", ":!first-repro.log")
    copy.run("git", "commit", "-qm", "results")
    keep_reproduced(copy, tmp_path_factory)
    return copy


def _json(grid: Clone, *path: str) -> dict[str, Any]:
    return json.loads(grid.folder.joinpath(*path).read_text())


def _mlflow_runs(grid: Clone, experiment: str = "deeper-networks") -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{grid.folder}/mlflow.db")
    existing = client.get_experiment_by_name(experiment)
    assert existing is not None, [e.name for e in client.search_experiments()]
    return list(client.search_runs([existing.experiment_id]))


def _status(grid: Clone) -> dict[str, Any]:
    """What `dvc status` says of the root's study; it looks at the studies below as well."""
    status = json.loads(grid.run("dvc", "status", "--json").stdout)
    return {stage: said for stage, said in status.items() if not stage.startswith("studies/")}


def _stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def test_diagnosis_looks_at_three_moments_and_is_in_the_report(grid: Clone) -> None:
    diagnosis = _json(grid, "metrics/vgg16-sgd-random/diagnosis.json")
    (moments,) = diagnosis["seeds"].values()
    assert list(moments) == ["start", "after 3 steps", "end"]
    for moment in moments.values():
        assert len(moment["layers"]) == 6  # five convolutions and the logits
        assert moment["layers"][-1]["name"] == "logits"
    start, end = moments["start"], moments["end"]
    assert start["layers"] != end["layers"]
    text = (grid.folder / "reports/report.md").read_text()
    assert "## What flows through the layers" in text
    assert (grid.folder / "reports/flow.png").stat().st_size > 4_000


def test_every_stage_wrote_what_git_and_dvc_keep(grid: Clone) -> None:
    kept = grid.run("git", "ls-files").stdout.split()
    for name in RUNS:
        for file in ("train.json", "test.json", "history.csv", "timing.csv", "predictions.csv.gz"):
            assert f"metrics/{name}/{file}" in kept
        for figure in ("curves", "confusion", "mistakes"):
            assert f"reports/runs/{name}/seed-0/{figure}.png" in kept
        assert (grid.folder / "models" / name / "seed-0.keras").is_file()
    assert {"dvc.lock", "reports/report.md", "metrics/preprocess/contact_sheet.png"} <= set(kept)
    assert not [f for f in kept if f.endswith((".npy", ".keras", ".h5", ".npz", ".db"))]


def test_repro_ends_with_the_results_and_where_to_look(grid: Clone) -> None:
    log = (grid.folder / "first-repro.log").read_text()
    ending = log[log.rindex("| run ") :]
    for name in RUNS:
        accuracy = _json(grid, "metrics", name, "test.json")["accuracy"]
        assert f"| {name}" in ending
        assert f"{accuracy:.4f}" in ending
    assert "reports" in ending
    assert "mlflow ui   (then open what follows)" in ending
    address = "http://localhost:5000/#/experiments/1/runs?viewStateShareKey=compare-optimizers&"
    assert address in ending
    for noise in ("oneDNN custom", "cudart", "absl", "TensorFlow binary", "Warning"):
        assert noise not in log


def test_second_repro_trains_nothing_and_publishes_nothing_new(grid: Clone) -> None:
    before = {r.info.run_id: (r.data.to_dictionary(), r.info.end_time) for r in _mlflow_runs(grid)}
    result = grid.run("dvc", "repro")
    assert _stages_run(result.stdout) == ["publish"]
    assert "MLflow has 2 of 2 runs" in result.stdout
    after = {r.info.run_id: (r.data.to_dictionary(), r.info.end_time) for r in _mlflow_runs(grid)}
    assert after == before


def test_a_clone_that_adopts_the_models_trains_nothing(
    grid: Clone, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of the code and the results that git has, and of the models of the first clone."""
    copy = Clone(tmp_path_factory.mktemp("adopting") / "clone")
    grid.run("git", "clone", "-q", str(grid.folder), str(copy.folder))
    said = copy.run("deepnets", "adopt", str(grid.folder)).stdout
    for name in RUNS:
        assert f"{name}, seed 0: is here already; added: its probabilities, its model" in said
        model = Path("models") / name / "seed-0.keras"
        assert (copy.folder / model).read_bytes() == (grid.folder / model).read_bytes()
    assert not [stage for stage in _status(copy) if stage.startswith(("train", "evaluate"))]


def test_status_says_that_only_publish_is_left(grid: Clone) -> None:
    assert _status(grid) == {"publish": ["always changed"]}


def test_changing_one_run_is_seen_by_that_run_only(grid: Clone) -> None:
    original = (grid.folder / "params.yaml").read_text()
    try:
        grid.edit_params(lambda p: p["runs"][RUNS[0]].update(momentum=0.8))
        status = _status(grid)
        assert {s for s in status if s.startswith("train@")} == {f"train@{RUNS[0]}"}
        difference = grid.run("dvc", "params", "diff").stdout
        assert f"runs.{RUNS[0]}.momentum" in difference
    finally:
        (grid.folder / "params.yaml").write_text(original)


def test_changing_the_report_reruns_the_report_only(grid: Clone) -> None:
    original = (grid.folder / "params.yaml").read_text()
    try:
        result = grid.run("dvc", "exp", "run", "-S", "report.title=Another title")
        assert _stages_run(result.stdout) == ["check", "report", "publish"]
        assert (grid.folder / "reports/report.md").read_text().startswith("# Another title\n")
    finally:
        (grid.folder / "params.yaml").write_text(original)
        # What `check` and `report` have written, git and DVC's cache have as well.
        grid.run("git", "checkout", "--", "dvc.lock", "reports")
        grid.run("dvc", "checkout", "--force", "data/params", "data/params-checked.txt")


def test_dvc_shows_dag_metrics_and_plots(grid: Clone) -> None:
    dag = grid.run("dvc", "dag").stdout
    for stage in ("download", "preprocess", f"train@{RUNS[0]}", f"evaluate@{RUNS[1]}", "publish"):
        assert stage in dag
    metrics = json.loads(grid.run("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    test_file = f"metrics/{RUNS[0]}/test.json"
    assert metrics[test_file]["data"] == _json(grid, test_file)
    assert grid.run("dvc", "metrics", "diff", "--json").stdout.strip() == "{}"
    plots = json.loads(grid.run("dvc", "plots", "show", "--json").stdout)["data"]
    accuracy = plots["validation accuracy"][0]["content"]
    content = json.loads(accuracy) if isinstance(accuracy, str) else accuracy
    assert {row["run"] for row in content["data"]["values"]} == set(RUNS)
    assert plots["reports/comparison.png"][0]["type"] == "image"


def test_mlflow_has_one_finished_run_a_row_with_everything(grid: Clone) -> None:
    runs = {run.info.run_name: run for run in _mlflow_runs(grid)}
    assert set(runs) == set(RUNS)
    commit = grid.run("git", "rev-parse", "HEAD~1").stdout.strip()
    for name, run in runs.items():
        trained, tested = (_json(grid, "metrics", name, f) for f in ("train.json", "test.json"))
        assert run.info.status == "FINISHED"
        assert run.data.params["arch"] == name.split("-")[0]
        assert run.data.params["optimizer"] == name.split("-")[1]
        assert {"learning_rate", "weights", "batch_size", "seed", "dropout"} <= set(run.data.params)
        metrics = run.data.metrics
        for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert metrics[key] == trained[key]
        assert metrics["test_accuracy"] == tested["accuracy"]
        assert metrics["test_loss"] == tested["loss"]
        assert metrics["best_epoch"] == 1
        assert metrics["images_per_second"] > 0
        tags = run.data.tags
        assert tags["git.commit"] == commit
        assert tags["git.dirty"] == "False"
        assert tags["dvc.stage"] == f"train@{name}"
        provenance = _json(grid, "metrics", name, "provenance.json")["0"]
        assert tags["fingerprint"] == provenance["fingerprint"]
        assert {"hardware.cpu", "versions.tensorflow", "versions.keras"} <= set(tags)
        assert (tags["runtime.backend"], tags["runtime.precision"]) == ("tensorflow", "float32")
        inputs = {i.dataset.name: i.dataset.digest for i in run.inputs.dataset_inputs}
        assert inputs["mnist-train"] == provenance["data"]["train"][:36]
        assert set(inputs) == {"mnist-train", "mnist-validation", "mnist-test"}


def test_an_empty_store_is_filled_from_the_files(grid: Clone, tmp_path: Path) -> None:
    """What happens after `dvc pull` and `dvc repro` on another machine: no stage runs."""
    import mlflow

    uri = f"sqlite:///{tmp_path}/other.db"
    grid.run("deepnets", "publish", env={"MLFLOW_TRACKING_URI": uri})
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("deeper-networks")
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    for name in RUNS:
        assert runs[name].info.status == "FINISHED"
        history = client.get_metric_history(runs[name].info.run_id, "val_loss")
        expected = _json(grid, "metrics", name, "train.json")["val_loss"]
        assert [(m.step, m.value) for m in history] == [(1, expected)]


def test_the_logged_model_gives_the_evaluated_numbers_to_the_last_digit(grid: Clone) -> None:
    import mlflow

    from deepnets.networks import views
    from deepnets.training import scores

    mlflow.set_tracking_uri(f"sqlite:///{grid.folder}/mlflow.db")
    images = np.load(grid.folder / "data/processed/test_images.npy")
    labels = np.load(grid.folder / "data/processed/test_labels.npy")
    run = next(r for r in _mlflow_runs(grid) if r.info.run_name == RUNS[0])
    model = mlflow.keras.load_model(f"runs:/{run.info.run_id}/model")
    assert scores.score(views.predict(model, images), labels) == _json(
        grid, "metrics", RUNS[0], "test.json"
    )
    served = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    assert [str(i.type) for i in served.metadata.signature.inputs] == ["uint8"]
    np.testing.assert_allclose(
        served.predict(images[:4]), views.predict(model, images[:4]), rtol=1e-4, atol=1e-6
    )


def test_training_again_gives_the_same_bits(grid: Clone) -> None:
    """Without its checkpoint a run is trained anew, and DVC finds nothing to update."""
    name = RUNS[0]
    before = _locked_model(grid, name)
    grid.run("rm", "-rf", f"checkpoints/{name}")
    result = grid.run("dvc", "repro", "--single-item", "--force", f"train@{name}")
    assert "epoch 1/1" in result.stdout
    changed = grid.run("git", "diff", "--name-only").stdout.split()
    assert not {f"metrics/{name}/history.csv", f"metrics/{name}/train.json"} & set(changed)
    assert _locked_model(grid, name) == before
    assert len(_mlflow_runs(grid)) == 2


def test_an_interrupted_run_continues_and_ends_as_if_it_never_was(
    grid: Clone, tmp_path: Path
) -> None:
    import os
    import signal
    import subprocess

    from project import environment

    name = RUNS[0]
    folder = tmp_path / "study"
    folder.mkdir()
    for part in ("params.yaml", "data"):
        subprocess.run(["cp", "-r", str(grid.folder / part), str(folder)], check=True)
    study = Clone(folder, followed=True)
    study.edit_params(lambda p: p["train"].update(epochs=3))
    env = environment() | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2",
        "PYTHONPATH": str(grid.folder / "src"),  # which has the small networks
    }

    process = subprocess.Popen(
        ["deepnets", "train", name],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert any(line.startswith("epoch 1/3") for line in process.stdout)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resumed = study.run("deepnets", "train", name, env=env)
    assert "continuing after epoch" in resumed.stdout
    first = {p: (folder / p).read_bytes() for p in _results(name)}

    subprocess.run(["rm", "-rf", str(folder / "checkpoints")], check=True)
    whole = study.run("deepnets", "train", name, env=env)
    assert "continuing" not in whole.stdout
    assert {p: (folder / p).read_bytes() for p in _results(name)} == first

    import mlflow

    client = mlflow.MlflowClient(env["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("deeper-networks")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "val_loss")]
    assert steps == [1, 2, 3]
    assert any(key.startswith("system/cpu") for key in run.data.metrics)


def test_a_dead_tracking_server_costs_a_warning_and_nothing_else(grid: Clone) -> None:
    name = RUNS[0]
    result = grid.run(
        "deepnets", "evaluate", name, env={"MLFLOW_TRACKING_URI": "http://u:secret@127.0.0.1:9"}
    )
    assert "nothing is lost; mend that, then run `deepnets publish`" in result.stderr
    assert "secret" not in result.stdout + result.stderr
    assert "test accuracy" in result.stdout


def test_a_damaged_model_is_refused_by_name(
    grid: Clone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = RUNS[0]
    monkeypatch.chdir(grid.folder)
    monkeypatch.setenv("DEEPNETS_CHECKOUT", str(grid.folder))  # our code will do
    model = grid.folder / "models" / name / "seed-0.keras"
    content = model.read_bytes()
    try:
        model.unlink()
        model.write_bytes(content[: len(content) // 2])
        assert main(["evaluate", name]) == 1
        error = capsys.readouterr().err
        said = f"models/{name}/seed-0.keras is not the file that was written there: expected sha256"
        assert said in error
        assert "Traceback" not in error
    finally:
        grid.run("dvc", "checkout", "--force", f"models/{name}")


def test_refused_parameters_cost_no_finished_work(grid: Clone) -> None:
    """DVC would remove what a stage wrote before it starts the stage, which then refuses."""
    name = RUNS[0]
    written = {path: (grid.folder / path).read_bytes() for path in _results(name)}
    original = (grid.folder / "params.yaml").read_text()
    try:
        grid.edit_params(lambda p: p["train"].update(epochs="abc"))
        for command in (["deepnets", "repro"], ["dvc", "repro", f"train@{name}"]):
            result = grid.run(*command, check=False)
            assert result.returncode != 0
            assert "train.epochs: expected a valid integer; received 'abc'" in result.stderr
            assert "epoch 1/" not in result.stdout
            assert {p: (grid.folder / p).read_bytes() for p in written} == written
            assert _stages_run(result.stdout) == ([] if command[0] == "deepnets" else ["check"])
    finally:
        (grid.folder / "params.yaml").write_text(original)
        result = grid.run("dvc", "repro")
    assert not [
        stage for stage in _stages_run(result.stdout) if stage.startswith(("train", "evaluate"))
    ]


def _locked_model(grid: Clone, name: str) -> str:
    """The digest of the run's model that dvc.lock holds."""
    lock = YAML(typ="safe").load((grid.folder / "dvc.lock").read_text())
    (digest,) = (
        out["md5"]
        for out in lock["stages"][f"train@{name}"]["outs"]
        if out["path"] == f"models/{name}"
    )
    return str(digest)


def _results(name: str) -> list[str]:
    files = [f"metrics/{name}/{file}" for file in ("history.csv", "train.json")]
    return [*files, f"models/{name}/seed-0.keras"]
