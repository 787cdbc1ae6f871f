"""Tags of runs: one line in `TAGS`, sent to new runs and to those that were published before."""

from dataclasses import replace
from typing import Any

import mlflow
import pytest

import trainings
from deepnets.base import files
from deepnets.base.errors import UserError
from deepnets.tracking import connection, contents, runs, tags
from deepnets.tracking.trainings import TrackedTraining
from project import edit_yaml
from studies import FIRST, SECOND, Study


def _runs(study: Study) -> dict[str, Any]:
    """All runs of the store, by name."""
    client = study.client()
    experiment = client.get_experiment_by_name(study.name)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def _contents(study: Study) -> dict[str, Any]:
    """All that the store says of the runs, and when each of their artifacts was written."""
    written: dict[str, Any] = {
        str(path): path.stat().st_mtime_ns for path in (study.folder / "mlruns").rglob("*")
    }
    assert written
    return written | {name: run.to_dictionary() for name, run in _runs(study).items()}


def _author(training: TrackedTraining) -> str:
    return f"who began from {training.provenance['start'][:4]} as {training.files.name}"


@pytest.fixture
def published(study: Study) -> Study:
    study.trained(FIRST, 0.9, test=0.8)
    study.trained(SECOND, 0.8, test=0.7)
    study.publish()
    return study


def test_a_new_tag_comes_once_to_runs_that_were_published_before(
    published: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = _runs(published)[FIRST].info.run_id
    client = published.client()
    client.set_tag(run_id, "reviewed by", "Ann")
    client.set_tag(run_id, "mlflow.note.content", "Ann's own words")
    before = _contents(published)
    monkeypatch.setitem(tags.TAGS, "author", _author)
    published.publish()
    for name in (FIRST, SECOND):
        run = before[name]["data"]["tags"]
        before[name]["data"]["tags"] = run | {"author": f"who began from cccc as {name}"}
    assert _contents(published) == before
    assert before[FIRST]["data"]["tags"]["reviewed by"] == "Ann"
    assert before[FIRST]["data"]["tags"]["mlflow.note.content"] == "Ann's own words"

    sent: list[Any] = []
    for name in ("log_batch", "set_tag", "log_artifact", "set_terminated", "update_run"):
        monkeypatch.setattr(mlflow.MlflowClient, name, lambda *args, **_: sent.append(args))
    published.publish()
    assert not sent


def test_a_tag_that_says_something_else_now_says_it_everywhere(
    published: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("one", "two"):
        monkeypatch.setitem(tags.TAGS, "author", lambda training, value=value: value)
        published.publish()
        assert {run.data.tags["author"] for run in _runs(published).values()} == {value}


def test_what_an_older_version_did_not_send_is_added(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had fewer tags, none of the environment, and no note."""
    study.trained(FIRST, 0.9)
    added = ["start_digest", "git.dirty", "outcome", "hardware.cpu", "versions.keras", "model"]
    with monkeypatch.context() as older:
        older.setattr(tags, "ENVIRONMENT_GROUPS", ())
        older.setattr(tags, "note", lambda *_: "")
        older.setattr(runs, "_where_model_is", lambda *_: None)
        for name in ("start_digest", "git.dirty", "outcome"):
            older.delitem(tags.TAGS, name)
        study.publish()
    assert not {*added, "mlflow.note.content"} & set(_runs(study)[FIRST].data.tags)
    before = _contents(study)
    study.publish()
    sent = _runs(study)[FIRST].data.tags
    assert [sent.get(name) for name in added] == ["c" * 64, None, "completed", "any", "3", "logged"]
    assert "it cannot be rebuilt from that" in sent["mlflow.note.content"]
    before[FIRST]["data"]["tags"] = dict(sent)
    assert _contents(study) == before


def test_a_tag_that_somebody_deleted_or_changed_is_as_the_files_say(published: Study) -> None:
    client, run = published.client(), _runs(published)[FIRST]
    before = _contents(published)
    client.delete_tag(run.info.run_id, "start_digest")
    client.set_tag(run.info.run_id, "outcome", "a triumph")
    published.publish()
    assert _contents(published) == before


def test_a_training_without_such_a_fact_has_no_such_tag(
    published: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As most records were written before it was one."""
    paths = trainings.paths(FIRST)
    origins = files.read_json(paths.provenance)
    origins["0"]["author"] = "Ann"
    files.write_json(paths.provenance, origins)
    monkeypatch.setitem(tags.TAGS, "author", lambda training: training.provenance["author"])
    monkeypatch.setitem(tags.TAGS, "nothing", lambda training: None)
    monkeypatch.setitem(tags.TAGS, "commit", lambda training: training.provenance["git"]["commit"])
    monkeypatch.setitem(tags.TAGS, "epochs", lambda training: training.trained["epochs"])
    published.publish()
    first, second = (_runs(published)[name].data.tags for name in (FIRST, SECOND))
    assert (first["author"], first["epochs"], second["epochs"]) == ("Ann", "2", "2")
    assert "author" not in second
    assert not {"nothing", "commit"} & {*first, *second}


def test_a_wrong_line_is_named(published: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        tags.TAGS, "commit", lambda training: training.provenance["git"]["commit"][:7]
    )
    with pytest.raises(UserError, match=r"'commit' of \S+ has no value .*tracking/tags\.py"):
        published.publish()


def test_every_seed_has_a_tag_and_what_groups_them_has_none(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_yaml(study.folder / "params.yaml", lambda p: p["train"].update(seed=[0, 1]))
    study.trained(FIRST, {0: 0.9, 1: 0.8})
    study.publish()
    monkeypatch.setitem(tags.TAGS, "author", lambda training: f"seed {training.seed}")
    study.publish()
    said = {name: run.data.tags.get("author") for name, run in _runs(study).items()}
    assert said == {FIRST: None, f"{FIRST}-seed-0": "seed 0", f"{FIRST}-seed-1": "seed 1"}


def test_means_that_did_not_arrive_are_sent_the_next_time(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_yaml(study.folder / "params.yaml", lambda p: p["train"].update(seed=[0, 1]))
    study.trained(FIRST, {0: 0.9, 1: 0.8})

    def interrupted(*_: object) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(contents, "log_means", interrupted)
        assert "nothing is lost" in study.publish()
    study.publish()
    assert _runs(study)[FIRST].data.metrics["val_accuracy"] == pytest.approx(0.85)


def test_a_training_that_is_running_has_its_tags_at_once(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tags.TAGS, "author", _author)
    study.trained(FIRST, 0.9)
    client = connection.connect()
    paths = trainings.paths(FIRST)
    training = TrackedTraining(paths, study.name, 0, 1, live=paths.metrics_dir)
    runs.sync(client, training, "RUNNING")
    run = _runs(study)[FIRST]
    assert (run.info.status, run.data.tags["author"]) == ("RUNNING", _author(training))
    assert "outcome" not in run.data.tags
    runs.sync(client, replace(training))
    run = _runs(study)[FIRST]
    assert (run.info.status, run.data.tags["outcome"]) == ("FINISHED", "completed")


def test_who_published_first_stays(published: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _contents(published)
    monkeypatch.setattr("getpass.getuser", lambda: "somebody else")
    published.publish()
    assert _contents(published) == before


def test_more_tags_than_a_request_may_hold(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(150):
        monkeypatch.setitem(tags.TAGS, f"tag {number}", lambda training: "there")
    study.trained(FIRST, 0.9)
    assert "MLflow has 1 of 3 runs" in study.publish()
    assert list(_runs(study)[FIRST].data.tags.values()).count("there") == 150
