"""The champion: which run it is, that it is registered once, and what its card says."""

import json
from pathlib import Path
from types import ModuleType

import mlflow
import pytest

import servers
import trainings
from deepnets.tracking import registry, runs
from project import refuse
from studies import FIRST, SECOND, THIRD, Study


def test_the_best_by_validation_accuracy_is_registered_once_with_its_card(study: Study) -> None:
    study.trained(FIRST, 0.90, test=0.99)
    study.trained(SECOND, 0.95, test=0.80)
    said = study.publish()
    assert (
        f"models:/{study.name}@champion is version 1, {SECOND} (validation accuracy 0.9500)" in said
    )
    client = study.client()
    version = client.get_model_version_by_alias(study.name, "champion")
    run = client.get_run(version.run_id)
    assert run.info.run_name == SECOND
    assert version.source == f"models:/{run.outputs.model_outputs[0].model_id}"
    for part in (SECOND, "`" + "b" * 64 + "`", "learning_rate 0.01", "0.9500", "0.8000", "keras 3"):
        assert part in version.description
    assert f"\ndeepnets reproduce {SECOND}\n" in version.description
    # Git told no commit, whatever the reason.
    assert "a folder whose commit git did not tell" in version.description
    assert "names no commit, since git told none" in run.data.tags["mlflow.note.content"]
    fetched = mlflow.artifacts.download_artifacts(f"models:/{study.name}@champion")
    kept = (Path(fetched) / "data" / "model.keras").read_bytes()
    assert kept == trainings.paths(SECOND).model(0).read_bytes()

    before = study.registry()
    assert study.publish() == said
    assert study.registry() == before
    # What the page of the logged model calls "Registered".
    told = study.client().get_logged_model(version.source.removeprefix("models:/")).tags
    registered = json.loads(told["mlflow.modelVersions"])
    assert registered == [{"name": study.name, "version": "1"}]


def test_a_better_run_takes_the_alias_and_a_worse_one_does_not(study: Study) -> None:
    study.trained(FIRST, 0.90)
    study.publish()
    study.trained(SECOND, 0.85)
    study.publish()
    assert study.champion() == FIRST
    study.trained(THIRD, 0.93)
    study.publish()
    assert study.champion() == THIRD
    versions = study.client().search_model_versions(f"name = '{study.name}'")
    assert sorted(int(version.version) for version in versions) == [1, 2]


def test_equal_accuracies_are_decided_by_the_loss_and_then_by_the_order(study: Study) -> None:
    study.trained(FIRST, 0.90, loss=0.4)
    study.trained(SECOND, 0.90, loss=0.3)
    study.trained(THIRD, 0.90, loss=0.3)
    study.publish()
    assert study.champion() == SECOND


def test_collapsed_and_diverged_runs_are_never_the_best(study: Study) -> None:
    study.trained(FIRST, 0.99, collapsed=1)
    study.trained(SECOND, 0.98, diverged=1)
    assert "no run has ended above chance" in study.publish()
    assert study.registry() == []
    study.trained(THIRD, 0.30)
    study.publish()
    assert study.champion() == THIRD


def test_of_several_seeds_the_best_one_is_taken(study: Study) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("seed: 0 ", "seed: [0, 1] "))
    study.trained(FIRST, {0: 0.80, 1: 0.96})
    study.trained(SECOND, {0: 0.90, 1: 0.90})
    study.publish()
    assert study.champion() == f"{FIRST}-seed-1"
    version = study.client().get_model_version_by_alias(study.name, "champion")
    assert f"deepnets reproduce {FIRST}-seed-1\n" in version.description


def test_a_card_is_completed_when_the_run_has_been_evaluated(study: Study) -> None:
    study.trained(FIRST, 0.90)
    study.publish()
    study.trained(FIRST, 0.90, test=0.87)
    study.publish()
    (version,) = study.client().search_model_versions(f"name = '{study.name}'")
    assert "| test | 0.8700 | 0.2500 |" in version.description


def test_a_champion_of_others_or_of_a_deleted_run_is_replaced(study: Study) -> None:
    study.trained(FIRST, 0.90)
    study.publish()
    client = study.client()
    ours = client.get_model_version_by_alias(study.name, "champion")
    foreign = client.create_model_version(
        study.name, ours.source, tags={"val_accuracy": "1.0", "val_loss": "0.0"}
    )
    client.set_registered_model_alias(study.name, "champion", foreign.version)
    study.publish()
    assert study.champion() == FIRST
    study.trained(SECOND, 0.95)
    study.publish()
    first = client.get_model_version_by_alias(study.name, "champion")
    client.delete_run(first.run_id)
    trainings.paths(SECOND).train.unlink()
    trainings.paths(SECOND).provenance.unlink()
    study.publish()
    assert study.champion() == FIRST


def test_runs_validated_on_different_images_are_not_compared(study: Study) -> None:
    study.trained(FIRST, 0.90)
    study.trained(SECOND, 0.95, validation="e" * 64)
    with pytest.raises(
        Exception, match=r"same images; received .* with different ones: .*dvc repro"
    ):
        study.publish()
    study.trained(FIRST, 0.90, validation="e" * 64)
    study.publish()
    assert study.champion() == SECOND


def test_a_damaged_model_is_not_registered(study: Study) -> None:
    study.trained(FIRST, 0.90)
    study.publish()
    study.trained(SECOND, 0.95)
    trainings.paths(SECOND).model(0).write_bytes(b"rotten")
    with pytest.raises(Exception, match="is not the file that was written there"):
        study.publish()
    assert study.champion() == FIRST


@pytest.mark.parametrize(
    ("module", "step"), [(runs, "sync"), (registry, "register_champion")], ids=["runs", "registry"]
)
def test_a_file_that_may_not_be_read_is_no_fault_of_mlflows(
    study: Study, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    study.trained(FIRST, 0.9)
    monkeypatch.setattr(module, step, lambda *_: refuse("models/a.keras"))
    with pytest.raises(PermissionError):
        study.publish()


def test_a_model_registered_twice_by_publishers_at_once_is_there_once(study: Study) -> None:
    study.trained(FIRST, 0.90)
    study.publish()
    client = study.client()
    version = client.get_model_version_by_alias(study.name, "champion")
    client.create_model_version(
        study.name, version.source, version.run_id, version.tags, model_id=version.model_id
    )
    study.publish()
    (only,) = client.search_model_versions(f"name = '{study.name}'")
    assert only.version == version.version


def test_a_store_without_a_registry_costs_a_warning(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.trained(FIRST, 0.90)
    server = servers.MlflowServer(study.store, tmp_path / "server")
    server.folder.mkdir()
    server.start()
    try:
        proxy = servers.Proxy(server.port)
        proxy.fate = 501
        proxy.concerns = lambda method, path: "registered-models" in path
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:s3cret@{proxy.address}")
        said = study.publish()
        assert "MLflow has 1 of 3 runs" in said
        warning = said.splitlines()[-1]
        assert "does not register the champion (" in warning
        assert "nothing is lost; mend that, then run `deepnets publish`" in warning
        assert "s3cret" not in said
        proxy.fate = "pass"
        assert "@champion is version 1" in study.publish()
        proxy.close()
    finally:
        server.kill()
    run = json.loads(trainings.paths(FIRST).provenance.read_text())["0"]["run"]
    assert study.champion() == run
