"""What a run in MLflow holds of a training: parameters, inputs, metrics, artifacts.

Each function looks at what is there and sends what is lacking, so that it may be interrupted and
repeated.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from deepnets.tracking import connection  # noqa: F401

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run

from deepnets.base import files, project
from deepnets.base.errors import UserError
from deepnets.evaluation import epochs
from deepnets.records import results
from deepnets.records.results import EPOCH_METRICS
from deepnets.tracking import epoch_images, tags
from deepnets.tracking.trainings import TrackedTraining

# Where in a run's artifacts the files are that it is rebuilt and compared by.
RECORD = "metrics"
PROVENANCE = "provenance.json"

# Where MLflow keeps images that have a step, and what it calls them.
_IMAGES = "images"
_IMAGE_NAME = re.compile(
    _IMAGES + r"/(?P<key>[^+%]+)[+%]step[+%](?P<step>\d+)[+%].*\.(?P<ending>png|webp)"
)

# By their places among a run's artifacts the files and the texts that belong there.
Artifacts = Mapping[str, Path | bytes]

_CLOCK_METRICS = ("seconds", "images_per_second")
_CONTEXTS = {"train": "training", "validation": "validation", "test": "testing"}


def log_params(client: MlflowClient, run: Run, training: TrackedTraining) -> None:
    """The parameters that the training ran with, and its sizes."""
    provenance = training.provenance
    params = {
        **provenance["parameters"],
        **{f"{split}_images": count for split, count in provenance["images"].items()},
        "trainable_parameters": provenance["parameter_count"]["trainable"],
    }
    lacking = [
        Param(key, str(value)) for key, value in params.items() if key not in run.data.params
    ]
    client.log_batch(run.info.run_id, params=lacking)


def log_inputs(client: MlflowClient, run: Run, training: TrackedTraining) -> None:
    """The splits that it was trained, validated and tested on."""
    if run.inputs and run.inputs.dataset_inputs:
        return
    provenance = training.provenance
    digests = {**provenance["data"], "test": provenance["test_data"]}
    inputs = [
        DatasetInput(
            Dataset(
                name=f"mnist-{split}",
                # MLflow keeps 36 characters of a digest.
                digest=digests[split][:36],
                source_type="local",
                source=str(project.PROCESSED),
                profile=f'{{"images": {provenance["images"][split]}}}',
            ),
            [InputTag("mlflow.data.context", context)],
        )
        for split, context in _CONTEXTS.items()
    ]
    client.log_inputs(run.info.run_id, inputs)


def log_epochs(client: MlflowClient, run_id: str, training: TrackedTraining) -> None:
    """The metrics of every epoch, at the time when it ended."""
    known: dict[str, set[int]] = {
        key: {metric.step for metric in client.get_metric_history(run_id, key)}
        for key in (*EPOCH_METRICS, *_CLOCK_METRICS)
    }
    lacking = []
    for row, clock in zip(training.history, training.timing, strict=True):
        step, finished = int(row["epoch"]), int(clock["finished_ms"])
        values = {key: row[key] for key in EPOCH_METRICS} | {
            key: clock[key] for key in _CLOCK_METRICS
        }
        lacking += [
            Metric(key, value, finished, step)
            for key, value in values.items()
            if step not in known[key]
        ]
    client.log_batch(run_id, metrics=lacking)


def log_images(client: MlflowClient, run_id: str, training: TrackedTraining) -> None:
    """The images of every epoch, with the epoch as their step."""
    lacking = lacking_images(client, run_id, training)
    for path in training.validated if lacking else ():
        try:
            result = epochs.read(path)
        except UserError as error:
            print(error, file=sys.stderr, flush=True)
            continue
        for key, draw in epoch_images.DRAWN.items():
            if (key, result.epoch) in lacking:
                client.log_image(run_id, draw(result), key=key, step=result.epoch)


def lacking_images(
    client: MlflowClient, run_id: str, training: TrackedTraining
) -> set[tuple[str, int]]:
    """The images, by key and epoch, that the run could have and has not."""
    numbers = [epochs.epoch_of(path) for path in training.validated]
    wanted = {(key, epoch) for epoch in numbers for key in epoch_images.DRAWN}
    if not wanted:
        return set()
    there: dict[tuple[str, int], set[str]] = {}
    for entry in client.list_artifacts(run_id, _IMAGES):
        image = _IMAGE_NAME.fullmatch(entry.path)
        if image:
            place = image["key"].replace("~", "/"), int(image["step"])
            kinds = there.setdefault(place, set())
            kinds.add(image["ending"])
    # MLflow writes a small one after the whole one.
    return {image for image in wanted if len(there.get(image, ())) < 2}


def last_epoch_ended(client: MlflowClient, run: Run) -> int:
    """When the last epoch that MLflow knows ended, or else the run began, in ms since 1970."""
    metrics = client.get_metric_history(run.info.run_id, EPOCH_METRICS[0])
    return max((metric.timestamp for metric in metrics), default=int(run.info.start_time))


def log_results(client: MlflowClient, run_id: str, training: TrackedTraining) -> None:
    """What a finished training came to, and its model on the test images."""
    values = {key: value for key, value in training.trained.items() if key.startswith("best_")}
    values |= {f"test_{key}": value for key, value in training.tested.items()}
    numbers = {key: float(value) for key, value in values.items()}
    _log_values(client, run_id, numbers, _written_ms(training), training.model_epoch)


def log_means(client: MlflowClient, parent: str, training: TrackedTraining) -> None:
    """Give the parent the means over the seeds that are there, and their standard deviations."""
    paths = training.files
    trained = files.read_json(paths.train)
    tested = files.read_json(paths.test) if paths.test.is_file() else {}
    values: dict[str, float] = {}
    for prefix, numbers in (("", trained), ("test_", tested)):
        seeds = results.numbers_by_seed(numbers).values()
        numbers.pop("seeds", None)
        for key, mean in numbers.items() if seeds else ():
            values[f"{prefix}{key}"] = mean
            each = [numbers[key] for numbers in seeds if key in numbers]
            if len(each) > 1 and key.endswith(("accuracy", "loss")):
                values[f"{prefix}{key}_std"] = float(np.std(each, ddof=1))
    _log_values(client, parent, values, _written_ms(training), 0)


def artifacts(training: TrackedTraining) -> Artifacts:
    """What belongs among the artifacts of a finished training."""
    paths = training.files
    numbers = (paths.history, paths.train, paths.test, paths.predictions, paths.probabilities)
    places: dict[str, Path | bytes] = {
        f"figures/{path.name}": path for path in sorted(paths.figures(training.seed).glob("*.png"))
    }
    for path in (*numbers, paths.provenance):
        if path.is_file():
            places[f"{RECORD}/{path.name}"] = path
    # Runs of earlier versions have none.
    patch = training.provenance["git"].get("patch")
    if patch:
        places[tags.PATCH] = patch.encode(errors="surrogateescape")
    return places


def log_artifacts(client: MlflowClient, run_id: str, wanted: Artifacts) -> None:
    """Send all of `wanted`, in the place of what is there."""
    for place, content in wanted.items():
        folder, _, name = place.rpartition("/")
        if isinstance(content, Path):
            client.log_artifact(run_id, str(content), folder or None)
            continue
        with TemporaryDirectory() as temporary:
            target = Path(temporary) / name
            target.write_bytes(content)
            client.log_artifact(run_id, str(target), folder or None)


def has_artifacts(client: MlflowClient, run_id: str, wanted: Artifacts) -> bool:
    """Whether the store has all of `wanted`, by their sizes.

    What MLflow notes of them does not say so: they lie in another place, from which they may have
    been removed.
    """
    folders = {place.rpartition("/")[0] for place in wanted}
    there = {
        entry.path: entry.file_size
        for folder in folders
        for entry in client.list_artifacts(run_id, folder or None)
    }
    sizes = {
        place: content.stat().st_size if isinstance(content, Path) else len(content)
        for place, content in wanted.items()
    }
    return sizes.items() <= there.items()


def _log_values(
    client: MlflowClient, run_id: str, values: dict[str, float], timestamp: int, step: int
) -> None:
    """Log those of `values` that the run does not have; the same request twice is one."""
    known = client.get_run(run_id).data.metrics
    lacking = [
        Metric(key, value, timestamp, step)
        for key, value in values.items()
        if known.get(key) != value
    ]
    client.log_batch(run_id, metrics=lacking)


def _written_ms(training: TrackedTraining) -> int:
    """When its results were last written, in milliseconds since 1970."""
    both = training.files.train, training.files.test
    return max(path.stat().st_mtime_ns for path in both if path.is_file()) // 1_000_000
