"""What MLflow is told of a training: all of it, and anew what has changed."""

import json
from pathlib import Path
from typing import Any

import mlflow

import trainings
from studies import FIRST, Study


def _run(study: Study) -> Any:
    client = study.client()
    experiment = client.get_experiment_by_name(study.name)
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def _models(study: Study) -> list[bytes]:
    """The files of the run's models, in the order in which they were logged."""
    client = study.client()
    found = [client.get_logged_model(of.model_id) for of in _run(study).outputs.model_outputs]
    found.sort(key=lambda model: model.creation_timestamp)
    assert {model.status for model in found} == {"READY"}
    return [
        Path(
            mlflow.artifacts.download_artifacts(f"{model.artifact_location}/data/model.keras")
        ).read_bytes()
        for model in found
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
        of.dataset.name: (
            *(tag.value for tag in of.tags),
            of.dataset.digest,
            json.loads(of.dataset.profile),
        )
        for of in _run(study).inputs.dataset_inputs
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
