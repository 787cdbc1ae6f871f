"""dvc.yaml declares what each stage really uses, and all studies have the same stages."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from deepnets.commands.options import STAGES as COMMANDS
from deepnets.records import provenance
from modules import PACKAGE, imports
from project import ROOT


def _load(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path.read_text())


STAGES: dict[str, Any] = _load(ROOT / "dvc.yaml")["stages"]
NAMES = sorted(set(STAGES) - {"publish"})


def _stage(name: str) -> dict[str, Any]:
    return STAGES[name].get("do", STAGES[name])


# What `check` writes for each row and each starting point, in the place of the sections that it
# comes from.
RESOLVED = {
    "data/params/runs/": {"runs", "train", "recipes"},
    "data/params/weights/": {"starting_weights"},
}


def _params_used(path: Path) -> set[str]:
    """Sections of params.yaml that a stage reads, by its accesses to `study` and `load()`."""
    used: set[str] = set()
    sections = set(_load(ROOT / "params.yaml"))
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        is_study = isinstance(node.value, ast.Name) and node.value.id == "study"
        is_load = isinstance(node.value, ast.Call) and ast.unparse(node.value) == "params.load()"
        if is_study or is_load:
            if node.attr == "entry":
                used.add("runs")
            elif node.attr == "check_start":
                used.add("initialize")
            elif node.attr == "run_params":
                used |= {"runs", "train", "recipes"}
            elif node.attr in sections | {"starting_weights"}:
                used.add(node.attr)
            else:
                raise AssertionError(f"{path.name} reads study.{node.attr}")
    return used


# What a stage's outputs follow from. The other layers say, record, track and show what was done.
SHAPED_BY = {
    "check": {"config"},
    "download": {"data"},
    "preprocess": {"data"},
    "initialize": {"networks"},
    "train": {"networks", "training"},
    "diagnose": {"networks", "training", "evaluation"},
    "evaluate": {"networks", "training", "evaluation"},
    "report": {"records", "evaluation", "reporting"},
}


@pytest.mark.parametrize("name", NAMES)
def test_of_the_code_a_stage_depends_on_whole_folders(name: str) -> None:
    declared = {
        dep.removeprefix("${code}/") for dep in _stage(name)["deps"] if dep.startswith("${code}")
    }
    assert declared == SHAPED_BY[name]
    assert all((PACKAGE / folder).is_dir() for folder in declared)


@pytest.mark.parametrize("name", ["train", "evaluate", "diagnose"])
def test_what_takes_long_draws_nothing(name: str) -> None:
    """So that the wording of a legend makes none of it stale, nor comes too late for it."""
    used = imports(PACKAGE / "stages" / f"{name}.py")
    drawing = re.compile(r"^\s*(import|from) matplotlib", re.M)
    assert not [path for path in used if drawing.search(path.read_text())]


def test_what_a_training_depends_on_is_what_its_fingerprint_holds() -> None:
    assert SHAPED_BY["train"] == set(provenance.SHAPING_FOLDERS)


@pytest.mark.parametrize("name", NAMES)
def test_params_are_the_sections_that_the_stage_reads(name: str) -> None:
    used = _params_used(PACKAGE / "stages" / f"{name}.py")
    declared = {str(param).split(".")[0] for param in _stage(name).get("params", [])}
    for folder, sections in RESOLVED.items():
        if any(dep.startswith(folder) for dep in _stage(name)["deps"]):
            declared |= sections
    if name == "check":  # counts the runs of the file that it depends on as a whole
        assert declared == set()
        assert "params.yaml" in _stage(name)["deps"]
        return
    # `publish` only says where in MLflow results are shown; the list of starting points only
    # checks the name of one.
    assert declared - {"preprocess", "train"} <= used
    assert used - {"publish", "initialize"} <= declared


# A property, and the key that it is made of.
PROPERTIES = {"train.seeds": "train.seed"}


def _values_used(path: Path) -> set[str]:
    """What a stage reads below a section of params.yaml, as in `study.train.seeds`."""
    used = {
        f"{node.value.attr}.{node.attr}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and isinstance(node.value.value, ast.Name)
        and node.value.value.id == "study"
    }
    sections = set(_load(ROOT / "params.yaml")) - {"runs", "publish", "initialize"}
    return {PROPERTIES.get(key, key) for key in used if key.split(".")[0] in sections}


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"check"}))
def test_params_that_name_a_value_name_the_one_that_is_read(name: str) -> None:
    used = _values_used(PACKAGE / "stages" / f"{name}.py")
    declared = [str(param) for param in _stage(name).get("params", [])]
    named = {param for param in declared if "." in param and "$" not in param}
    assert named <= used
    covered = {key for key in used if key in declared or key.split(".")[0] in declared}
    assert covered == used


def test_every_stage_is_a_module_a_subcommand_and_a_section_or_needs_none() -> None:
    assert set(STAGES) == set(COMMANDS)
    for name in STAGES:
        assert (PACKAGE / "stages" / f"{name}.py").is_file()
        assert _stage(name)["cmd"].startswith(f"python -m deepnets {name}")


@pytest.mark.parametrize("study", sorted(path.parent for path in ROOT.glob("studies/*/dvc.yaml")))
def test_every_study_has_the_stages_of_the_root(study: Path) -> None:
    root, other = _load(ROOT / "dvc.yaml"), _load(study / "dvc.yaml")
    assert {k: v for k, v in other.items() if k != "vars"} == {
        k: v for k, v in root.items() if k != "vars"
    }
    code = other["vars"][0]["code"]
    assert (study / code).resolve() == PACKAGE


def test_stages_never_import_each_other() -> None:
    for path in (PACKAGE / "stages").glob("*.py"):
        imported = {p for p in imports(path) if p.parent.name == "stages" and p != path}
        assert imported <= {PACKAGE / "stages" / "__init__.py"}, path.name


@pytest.mark.parametrize("name", ["check", "download", "preprocess", "report", "publish"])
def test_stages_that_need_no_framework_import_none(name: str) -> None:
    code = f"import sys; import deepnets.stages.{name}; " + (
        "import deepnets.tracking.registry; " if name == "publish" else ""
    )
    code += "print([m for m in ('tensorflow', 'keras', 'jax') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
