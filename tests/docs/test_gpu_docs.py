"""docs/gpu.md: the way to a box that has JAX and no TensorFlow, MLflow, DVC or internet, and back.

Its own commands are run, on a miniature of the study.
"""

import json
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from project import ROOT, Clone, one_run, small_clone, without

PAGE = (ROOT / "docs/gpu.md").read_text()
RUN = "vgg16-sgd-random"


@dataclass(frozen=True)
class Journey:
    """The project at home, its checkout on the box, and what was printed in each.

    `trained` has what the box had come to when the results were packed.
    """

    home: Clone
    box: Clone
    trained: Path
    said_on_the_box: str
    said_of_a_grid: str
    said_at_home: str


def _blocks() -> list[str]:
    """The commands for a box: at home, there, and at home again."""
    section = PAGE.split("\n## A box without internet")[1].split("\n## ")[0]
    return re.findall(r"```console\n(.*?)```", section, re.DOTALL)


def _type(place: Clone, commands: str, **variables: str) -> str:
    """Run a block in `place`, but for what is fetched and installed; returns what is printed."""
    kept = [line for line in commands.splitlines() if not line.startswith(("pip ", "curl "))]
    return place.run("bash", "-euc", "\n".join(kept), env=variables).stdout


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    here, there = (tmp_path_factory.mktemp(name) for name in ("here", "there"))
    home = small_clone(here / "deepnets", lambda params: one_run(params, RUN), followed=True)
    pack, work, grid, adopt = _blocks()

    _type(home, pack)
    shutil.move(here / "box.tgz", there)
    (there / "box").mkdir()
    python, _ = without(there / "box/site", "tensorflow", "mlflow", "dvc")
    tools = there / "tools"
    tools.mkdir()
    (tools / "python").write_text(f'#!/bin/sh\nexec {" ".join(python)} "$@"\n')
    (tools / "python").chmod(0o755)
    path = {"PATH": f"{tools}:/usr/bin:/bin"}
    said_on_the_box = _type(Clone(there, followed=True), work, **path)
    box = Clone(there / "box/deepnets", followed=True)
    as_a_grid = {
        "PYTHONPATH": f"{there}/box/site:{box.folder}/src",
        "DEEPNETS_MIRROR": str(there / "box/mnist"),
    }
    shutil.copytree(box.folder / "metrics", there / "trained/metrics")
    said_of_a_grid = _type(box, _of_this_study(grid), **path, **as_a_grid)

    shutil.move(there / "box/results.tgz", here)
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{home.folder}/mlflow.db"}
    said_at_home = _type(home, adopt, **store)
    return Journey(home, box, there / "trained", said_on_the_box, said_of_a_grid, said_at_home)


def _of_this_study(grid: str) -> str:
    """The grid's command for the miniature, whose one row is to be trained anew."""
    study = re.sub(r"studies/\S+ studies/\S+", ".", grid).replace("results.tgz", "numbers.tgz")
    assert study != grid
    return f"rm -r models\n{study}"


def test_jax_alone_is_chosen_and_said(journey: Journey) -> None:
    (line,) = re.findall(r"^JAX .*", journey.said_on_the_box, re.MULTILINE)
    assert line.endswith(", deterministic")
    assert journey.said_on_the_box.count("mlflow is not installed here") == 2
    provenance = json.loads((journey.box.folder / "metrics" / RUN / "provenance.json").read_text())
    environment = provenance["0"]["environment"]
    assert environment["runtime"]["backend"] == "jax"
    assert not {"tensorflow", "mlflow", "dvc"} & set(environment["versions"])


def test_a_checkout_without_results_counts_as_clean(journey: Journey) -> None:
    head = journey.home.run("git", "rev-parse", "HEAD").stdout.strip()
    provenance = json.loads((journey.box.folder / "metrics" / RUN / "provenance.json").read_text())
    git = provenance["0"]["git"]
    assert (git["commit"], git["dirty"]) == (head, False)


def test_the_results_are_taken_over_at_home(journey: Journey) -> None:
    assert "Traceback" not in journey.said_at_home
    for name in ("history.csv", "test.json", "provenance.json"):
        place = Path("metrics") / RUN / name
        taken = (journey.home.folder / place).read_bytes()
        assert taken == (journey.trained / place).read_bytes()
    assert (journey.home.folder / "models" / RUN / "seed-0.keras").is_file()


def test_a_grid_packs_numbers_and_no_models(journey: Journey) -> None:
    assert "1 training is due" in journey.said_of_a_grid
    assert "`deepnets adopt` does" in journey.said_of_a_grid
    with tarfile.open(journey.box.folder.parent / "numbers.tgz") as packed:
        names = packed.getnames()
    assert f"./metrics/{RUN}/predictions.csv.gz" in names
    assert not [name for name in names if name.endswith((".keras", ".npy"))]


def test_what_is_fetched_is_locked() -> None:
    (line,) = re.findall(r"^pip download .*", PAGE, re.MULTILINE)
    _, names = line.split("../box/wheels ")
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    assert {name.replace(".", "-") for name in names.split()} <= locked


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


def test_it_stays_short() -> None:
    assert len(PAGE.split()) < 1000
