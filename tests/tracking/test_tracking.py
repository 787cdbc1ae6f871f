"""What MLflow is told of a training: all of it, and anew what has changed."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow.system_metrics.metrics import gpu_monitor
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

import trainings
from deepnets.base import files
from deepnets.tracking import follower, pages, runs, tags
from deepnets.tracking.trainings import TrackedTraining
from studies import FIRST, SECOND, Study


def _run(study: Study) -> Any:
    client = study.client()
    experiment = client.get_experiment_by_name(study.name)
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def _models(study: Study) -> list[bytes]:
    """The files of the run's models, in the order in which they were logged."""
    client = study.client()
    models = [
        client.get_logged_model(output.model_id) for output in _run(study).outputs.model_outputs
    ]
    models.sort(key=lambda model: model.creation_timestamp)
    assert {model.status for model in models} == {"READY"}
    return [
        Path(
            mlflow.artifacts.download_artifacts(f"{model.artifact_location}/data/model.keras")
        ).read_bytes()
        for model in models
    ]


def test_parameters_are_the_trainings_own_and_its_sizes(study: Study) -> None:
    study.trained(FIRST, 0.90)
    study.publish()
    expected = trainings.provenance(FIRST, study.name)["parameters"] | {
        **{"train_images": 96, "validation_images": 32, "test_images": 48},
        "trainable_parameters": 10,
    }
    assert _run(study).data.params == {key: str(value) for key, value in expected.items()}


def test_each_split_is_an_input_with_its_digest_and_its_size(study: Study) -> None:
    study.trained(FIRST, 0.90)
    study.publish()
    inputs = {
        split.dataset.name: (
            *(tag.value for tag in split.tags),
            split.dataset.digest,
            json.loads(split.dataset.profile),
        )
        for split in _run(study).inputs.dataset_inputs
    }
    assert inputs == {
        "mnist-train": ("training", 36 * "a", {"images": 96}),
        "mnist-validation": ("validation", 36 * "b", {"images": 32}),
        "mnist-test": ("testing", 36 * "d", {"images": 48}),
    }


def test_a_run_that_was_trained_again_has_its_new_model_as_well(study: Study) -> None:
    """As where the same training rounds otherwise on another machine."""
    study.trained(FIRST, 0.90, model=b"the first")
    study.publish()
    study.publish()
    assert _models(study) == [b"the first"]
    study.trained(FIRST, 0.90, model=b"the second")
    study.publish()
    study.publish()
    assert _models(study) == [b"the first", b"the second"]


def test_a_model_is_read_once_each_time_that_its_run_is_published(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have hundreds of megabytes; the champion's is looked at for its registration too."""
    study.trained(FIRST, 0.90)
    study.trained(SECOND, 0.80)
    read: list[Path] = []
    digest = files.file_digest

    def noted(path: Path, algorithm: str = "sha256") -> str:
        read.append(path)
        return digest(path, algorithm)

    monkeypatch.setattr(files, "file_digest", noted)
    study.publish()
    assert read.count(trainings.paths(SECOND).model(0)) == 1
    study.publish()
    assert read.count(trainings.paths(SECOND).model(0)) == 2


def test_seeds_that_begin_at_the_same_moment_have_one_parent(study: Study) -> None:
    made: list[str] = []

    class Racing(mlflow.MlflowClient):
        """Another seed's process has looked when there was none as well, and has one by now."""

        def create_run(self, *args: Any, **options: Any) -> Any:
            made.append(super().create_run(*args, **options).info.run_id)
            return super().create_run(*args, **options)

    client = Racing(study.store)
    experiment = client.create_experiment("of seeds")
    first = {tags.FINGERPRINT: "f", tags.PROCESS: "here 1 1"}
    for _ in range(2):
        assert runs._find_or_create_run(client, experiment, FIRST, first).info.run_id == made[0]
    (left,) = client.search_runs([experiment])
    assert left.info.run_id == made[0]


def test_a_result_that_changed_is_sent_again(study: Study) -> None:
    study.trained(FIRST, 0.90, test=0.80)
    study.publish()
    assert _run(study).data.metrics["test_accuracy"] == 0.80
    study.trained(FIRST, 0.90, test=0.85, best_val_accuracy=0.97, collapsed=1)
    study.publish()
    run = _run(study)
    assert run.data.metrics["test_accuracy"] == 0.85
    assert run.data.metrics["best_val_accuracy"] == 0.97
    assert run.data.tags["outcome"] == "collapsed"


def test_a_run_that_is_sent_later_took_as_long_as_the_training(study: Study) -> None:
    study.trained(FIRST, 0.90)
    study.publish()
    run, (first, last) = _run(study), trainings.history(2).timing
    assert run.info.start_time == first["finished_ms"] - 4000
    assert run.info.end_time == last["finished_ms"]


@pytest.mark.parametrize("last_word", ["FINISHED", None])
def test_what_mlflow_run_has_continued_is_finished_once(
    study: Study, last_word: str | None
) -> None:
    """`mlflow run` makes a run of its own each time; the one that was killed stays as it was."""
    study.trained(FIRST, 0.90)
    training = TrackedTraining(trainings.paths(FIRST), study.name, 0, 1)
    client, first_tags = study.client(), {tags.FINGERPRINT: training.provenance["fingerprint"]}
    experiment = client.create_experiment(study.name)
    killed, finished = (
        client.create_run(experiment, number, first_tags, FIRST).info.run_id for number in (1, 2)
    )
    for run_id in (killed, finished):
        client.log_metric(run_id, "val_accuracy", 0.5, step=1)
    client.set_terminated(killed, "KILLED", 3)
    if last_word:  # else the server was silent
        client.set_terminated(finished, last_word, 4)
    for _ in range(2):
        study.publish()
        left = client.get_run(killed)
        assert (left.info.status, left.data.params) == ("KILLED", {})
        assert client.get_run(finished).info.status == "FINISHED"
        assert client.get_run(finished).data.params["arch"] == "vgg16"


def test_a_study_is_seen_as_one_while_it_trains(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower.Follower, "_sample_system", lambda *_: None)
    study.trained(FIRST, 0.90)
    paths = trainings.paths(FIRST)
    training = TrackedTraining(paths, study.name, 0, 1, paths.metrics_dir)
    assert pages.study_page(study.name) is None
    assert follower.Follower(training)._send("RUNNING")
    assert _run(study).info.status == "RUNNING"
    assert "viewStateShareKey=" in str(pages.study_page(study.name))
    experiment = study.client().get_experiment_by_name(study.name)
    assert pages.VIEW_TAG in experiment.tags


class _Cards:
    """NVML of a machine with three cards, whose trainings use them to 10, 20 and 30 percent."""

    class NVMLError(Exception):
        pass

    def __init__(self, lost: bool = False) -> None:
        self._lost = lost

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, card: int) -> str:  # noqa: N802
        if self._lost:
            raise self.NVMLError("GPU is lost")
        return f"GPU-{'abc'[card]}0000000-0000-0000-0000-000000000000"

    def nvmlDeviceGetUtilizationRates(self, card: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=10 * (card + 1))

    def nvmlDeviceGetMemoryInfo(self, card: int) -> SimpleNamespace:  # noqa: N802
        raise self.NVMLError("not asked for here")

    def nvmlDeviceGetPowerUsage(self, card: int) -> int:  # noqa: N802
        raise self.NVMLError("not asked for here")


def _gpu_metrics(study: Study, run_id: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Those that are sampled once of a training that is followed."""
    monkeypatch.setattr(SystemMetricsMonitor, "start", lambda monitor: None)
    training = TrackedTraining(trainings.paths(FIRST), study.name, 0, 1, study.folder)
    following = follower.Follower(training)
    following._sample_system(run_id)
    assert following._system is not None
    metrics: dict[str, float] = {}
    for monitor in following._system.monitors:
        monitor.collect_metrics()
        metrics |= monitor.aggregate_metrics()
    assert any(key.startswith("cpu") for key in metrics)
    return {key: value for key, value in metrics.items() if key.startswith("gpu")}


@pytest.mark.parametrize(
    ("visible", "lost", "utilization"),
    [
        (None, False, 10),
        ("2", False, 30),
        ("1,0", False, 20),
        (" 1 , 0", False, 20),
        ("GPU-c0000000-0000-0000-0000-000000000000", False, 30),
        ("GPU-b,GPU-a", False, 20),
        ("3", False, None),
        ("GPU-d", False, None),
        ("MIG-4", False, None),
        ("-1", False, None),
        ("", False, None),
        ("GPU-b", True, None),
    ],
)
def test_of_several_cards_a_run_shows_the_one_that_it_trains_on(
    visible: str | None,
    lost: bool,
    utilization: float | None,
    study: Study,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cards = _Cards(lost)
    monkeypatch.setitem(sys.modules, "pynvml", cards)
    monkeypatch.setattr(gpu_monitor, "pynvml", cards, raising=False)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    run_id = study.client().create_run("0").info.run_id
    expected = {} if utilization is None else {"gpu_0_utilization_percentage": utilization}
    assert _gpu_metrics(study, run_id, monkeypatch) == expected


@pytest.mark.parametrize("installed", [False, True], ids=["no pynvml", "no card"])
def test_without_a_card_or_what_reads_it_the_rest_is_sampled(
    installed: bool, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = _Cards()

    def refuse() -> None:
        raise cards.NVMLError("NVML Shared Library Not Found")

    monkeypatch.setattr(cards, "nvmlInit", refuse)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.delattr(gpu_monitor, "pynvml", raising=False)
    if installed:
        monkeypatch.setitem(sys.modules, "pynvml", cards)
        monkeypatch.setattr(gpu_monitor, "pynvml", cards, raising=False)
    assert _gpu_metrics(study, study.client().create_run("0").info.run_id, monkeypatch) == {}
