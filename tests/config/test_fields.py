"""What a run can be told stands once: sections, rows, the command line, MLproject follow it."""

import re
import subprocess
import sys
from typing import Any

import pytest
from ruamel.yaml import YAML

from deepnets.config import fields, params, registry, sections
from project import ROOT, Clone

LIST = [
    *(fields.Row, fields.Regime, fields.Variant, fields.Shared, fields.Settings),
    *(optimizer.settings for optimizer in registry.optimizers().values()),
]
NAMES = {name for model in LIST for name in model.model_fields} | {"seed"}


def test_a_row_may_say_all_but_the_seed_and_a_run_has_all() -> None:
    assert set(sections.RunEntry.model_fields) == NAMES - {"seed"}
    assert set(sections.RunParams.model_fields) == NAMES
    assert set(sections.options()) == NAMES


def test_every_field_has_its_words_of_help() -> None:
    assert [name for name, text in sections.options().items() if len(text) < 5] == []
    described = [name for m in LIST for name, field in m.model_fields.items() if field.description]
    assert set(described) == NAMES - {"seed"}


def test_help_lists_every_field_and_who_alone_has_it() -> None:
    shown = Clone(ROOT).run("python", "-m", "deepnets", "run", "--help").stdout
    assert set(re.findall(r"^  .*--(\w+) VALUE", shown, re.M)) == NAMES
    words = " ".join(shown.split())
    for text in (
        "vgg16 or resnet50",
        "adam or sgd",
        "sgd: share of the last step",
        "resnet50: standard, or small (3x3, stride 1, no pooling)",
        "resnet50: 4, or 3 (without the last, conv5)",
        "vgg16: true adds gated connections",
    ):
        assert text in words


def _project() -> Any:
    return YAML(typ="safe").load(ROOT / "MLproject")["entry_points"]["main"]


def test_mlproject_declares_the_list_and_passes_it_on() -> None:
    main = _project()
    declared = set(main["parameters"])
    assert declared <= NAMES
    # MLflow passes on what is not declared, too: that of an optimizer that somebody has added.
    for name in NAMES - declared:
        alone = set(sections.owners(name))
        assert alone
        assert not alone & {"vgg16", "resnet50", "adam", "sgd"}
    passed = re.findall(r"--(\w+) \{(\w+)\}", main["command"])
    assert passed == [(name, name) for name in main["parameters"]]


def test_mlproject_leaves_every_default_to_params_yaml() -> None:
    assert all(parameter["default"] == "" for parameter in _project()["parameters"].values())


def test_columns_in_mlflow_are_the_list() -> None:
    study = params.load(ROOT / "params.yaml")
    runs = [study.run_params(name, 0) for name in study.runs]
    # What keeps its default is not said where it decides nothing of the training.
    assert {name for run in runs for name in run.flat} == NAMES - {"train_images", "keep"}


def test_two_optimizers_cannot_mean_different_things_by_a_name() -> None:
    class Other(fields.Settings):
        momentum: int = 3

    sgd = registry.optimizers()["sgd"].settings
    with pytest.raises(sections.UserError, match="momentum: expected the type that it has"):
        sections._optional_fields(sgd, Other)


@pytest.mark.parametrize("module", ["config.params", "__main__"])
def test_the_list_is_read_without_a_framework(module: str) -> None:
    code = f"import sys, deepnets.{module} as of; from deepnets.config import sections; "
    code += "sections.options(); print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
