"""The folders of the package are layers: arrows run down, none in a circle, rooms stay small."""

import re
from pathlib import Path

import pytest

from modules import LAYERS, PACKAGE, imported, imports

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")

# What has a reason to be longer says so in its first lines.
LONGEST = 400


def _layer(path: Path) -> int:
    folder = path.relative_to(PACKAGE).parts[0]
    return LAYERS.index(folder) if folder in LAYERS else len(LAYERS)


def test_every_folder_is_a_layer() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders == set(LAYERS)
    assert [path.name for path in MODULES if path.parent == PACKAGE] == ["__main__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_its_layer_and_those_below(path: Path) -> None:
    above = [
        str(other.relative_to(PACKAGE)) for other in imported(path) if _layer(other) > _layer(path)
    ]
    assert not above
    assert path not in imports(path), "it imports itself, through others"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_long_without_a_reason(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST or re.search(r"[Ll]onger than others", "\n".join(lines[:20]))


def test_only_tracking_imports_mlflow() -> None:
    users = {
        path.parent.name
        for path in MODULES
        if re.search(r"^\s*(import|from) mlflow\b", path.read_text(), re.M)
    }
    assert users == {"tracking"}
