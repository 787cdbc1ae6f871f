"""Networks and optimizers are found by their files' names, without a framework."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deepnets.base.errors import UserError
from deepnets.config import params, reader, registry
from project import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of the package `found_here`."""
    package = ModuleType("found_here")
    package.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "found_here", package)
    return tmp_path


ENTRY = """
from deepnets.config.registry import Architecture
ARCHITECTURE = Architecture(title={title!r}, build=print, input_range="unit")
"""


def find() -> dict[str, Any]:
    for name in [name for name in sys.modules if name.startswith("found_here.")]:
        del sys.modules[name]
    return registry._find("found_here", registry.Architecture)


def test_a_file_is_an_entry_and_the_studys_come_first(folder: Path) -> None:
    for name in ("alexnet", "resnet50", "vgg16", "xception"):
        (folder / f"{name}.py").write_text(ENTRY.format(title=name.upper()))
    entries = find()
    assert list(entries) == ["vgg16", "resnet50", "alexnet", "xception"]
    assert entries["alexnet"].title == "ALEXNET"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("lenet", "", "lenet: expected ARCHITECTURE = Architecture(...) in it: add it"),
        ("lenet", "ARCHITECTURE = 'lenet'", "lenet: expected ARCHITECTURE = Architecture("),
        ("LeNet", ENTRY.format(title="LeNet"), "expected a name of a-z, 0-9 and _: rename"),
    ],
)
def test_a_file_that_is_no_entry_is_named(folder: Path, name: str, text: str, said: str) -> None:
    (folder / f"{name}.py").write_text(text)
    with pytest.raises(UserError) as raised:
        find()
    assert said in str(raised.value)


def test_those_of_the_study() -> None:
    networks, optimizers = registry.architectures(), registry.optimizers()
    titles = {name: entry.title for name, entry in (networks | optimizers).items()}
    study = {"vgg16": "VGG-16", "resnet50": "ResNet50", "adam": "Adam", "sgd": "SGD"}
    assert study.items() <= titles.items()
    # keras/src/applications/vgg16.py and resnet.py
    for name, md5 in (
        ("vgg16", "6d6bbae143d832006294945121d1f1fc"),
        ("resnet50", "4d473c1dd8becc155b73f8504c6f6626"),
    ):
        published = networks[name].imagenet
        assert published is not None
        assert published.md5 == md5


def _study(**changes: Any) -> dict[str, Any]:
    content = reader.read_yaml(ROOT / "params.yaml")
    row = {"arch": "vgg16", "optimizer": "sgd", "weights": "random"} | changes
    content |= {"runs": {"a": row}, "initialize": [f"{row['arch']}-{row['weights']}"]}
    return content


@pytest.fixture
def lenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network for which Keras publishes no weights, and that has no variants."""
    entry = replace(registry.architectures()["vgg16"], imagenet=None, variants=frozenset())
    monkeypatch.setitem(registry.architectures(), "lenet", entry)


@pytest.mark.usefixtures("lenet")
def test_a_network_may_be_named_as_soon_as_it_is_there() -> None:
    assert params.parse(_study(arch="lenet")).run_params("a", 0).start == "lenet-random"
    with pytest.raises(UserError, match="'vgg16', 'resnet50' or 'lenet'; received 'lenett'"):
        params.parse(_study(arch="lenett"))


@pytest.mark.usefixtures("lenet")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": "imagenet"}, "weights: no ImageNet weights of lenet are known: choose others"),
        ({"highway": True}, "highway is a setting of vgg16, not of lenet: remove it"),
    ],
)
def test_what_a_network_has_not_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as raised:
        params.parse(_study(arch="lenet", **changes))
    assert said in str(raised.value)


def test_a_recipe_needs_the_settings_of_optimizers_that_rows_name() -> None:
    content = _study()
    del content["recipes"]["text"]["adam"]
    assert params.parse(content).run_params("a", 0).momentum == 0.9
    content["runs"]["a"]["optimizer"] = "adam"
    with pytest.raises(UserError, match=r"runs\.a: recipe text has no settings of adam: add them"):
        params.parse(content)
    content["recipes"]["text"]["adam"] = None
    with pytest.raises(UserError, match=r"recipes\.text\.adam: expected a valid dictionary"):
        params.parse(content)
