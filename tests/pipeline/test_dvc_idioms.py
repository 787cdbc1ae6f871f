"""What people type at DVC, beside a plain `dvc repro`: in a fresh clone, with -S, side by side.

One small study is trained once for the whole module and pushed to a remote in a folder; the tests
clone its repository, as somebody else would.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from deepnets.base import files, project
from deepnets.config import params, reader
from deepnets.records import provenance
from project import ROOT, Clone, clone, miniature, reproduced, small_clone

RUNS = ("vgg16-sgd-random", "resnet50-adam-random")
PAGE = (ROOT / "docs/running.md").read_text()


class Fresh(Clone):
    """A clone, and what is asked of it."""

    @property
    def changes(self) -> list[str]:
        """What git sees of them, `XY PATH` each."""
        return self.run("git", "status", "--porcelain").stdout.splitlines()

    def stages_run(self, *command: str) -> list[str]:
        output = self.run("dvc", "repro", *command).stdout
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """A study with two rows, trained, committed and pushed."""
    few_steps = {"runs": [RUNS[0]], "steps": 2}
    folder = tmp_path_factory.mktemp("project")
    copy = Fresh(folder)
    if reproduced(folder, tmp_path_factory):
        copy.run("deepnets", "publish")  # into a store of its own
    else:
        small_clone(folder, miniature, lambda p: p["diagnose"].update(few_steps))
        copy.run("dvc", "repro")
    copy.run("dvc", "remote", "add", "-d", "store", str(tmp_path_factory.mktemp("remote")))
    copy.run("dvc", "push")
    copy.commit("results")
    return copy


@pytest.fixture
def fresh(trained: Fresh, tmp_path: Path) -> Fresh:
    """What somebody else has of it who has cloned the repository."""
    copy = Fresh(tmp_path / "clone")
    trained.run("git", "clone", "-q", str(trained.folder), str(copy.folder))
    return copy


def _status(copy: Fresh) -> set[str]:
    """The stages of the root's study that are not up to date; DVC looks at those below as well."""
    status = json.loads(copy.run("dvc", "status", "--json").stdout)
    return {stage for stage in status if not stage.startswith("studies/")}


def test_a_fresh_clone_is_told_what_is_missing_and_loses_nothing(fresh: Fresh) -> None:
    """The report needs nothing that git has not; models and data are what DVC lacks."""
    assert not {"report"} & _status(fresh)
    result = fresh.run("dvc", "repro", "--allow-missing")
    assert "Running stage 'publish'" in result.stdout
    assert result.stdout.count("Running stage") == 1
    assert "MLflow has 2 of 2 runs in 'deeper-networks'; no model is here to send of " in (
        result.stdout
    )
    assert "no model is here: nothing new is registered as the champion" in result.stdout
    fresh.run("deepnets", "report")
    assert fresh.changes == []
    shown = json.loads(fresh.run("dvc", "exp", "show", "--json").stdout)
    metrics = shown[0]["data"]["metrics"]
    assert {f"metrics/{name}/test.json" for name in RUNS} <= set(metrics)


def test_git_sees_nothing_of_what_dvc_keeps(trained: Fresh) -> None:
    """Nor lists of it that DVC would write for git, and change with every row that is new."""
    assert trained.run("git", "ls-files", "data", "models").stdout.split() == ["data/README.md"]


def test_results_outlive_stages_that_cannot_run_in_a_fresh_clone(fresh: Fresh) -> None:
    """DVC removes what a stage writes before it finds that the stage cannot run."""
    (fresh.folder / "src/deepnets/evaluation/new.py").write_text("# changed\n")
    fresh.commit("other code")
    for stage in (f"evaluate@{RUNS[0]}", f"diagnose@{RUNS[0]}", f"train@{RUNS[0]}"):
        if stage.startswith("train@"):
            (fresh.folder / "src/deepnets/training/new.py").write_text("# changed\n")
            fresh.commit("other code that trains")
        for options in (["--allow-missing"], ["--single-item"]):
            result = fresh.run("dvc", "repro", *options, stage, check=False)
            assert result.returncode != 0
            assert f"failed to reproduce '{stage}'" in result.stderr
            assert fresh.changes == []


def test_a_report_that_dvc_makes_keeps_what_cannot_be_computed_again(fresh: Fresh) -> None:
    """Of rows that were tested before what is made of their probabilities was kept."""
    for name in RUNS:
        (fresh.folder / f"metrics/{name}/calibration.json").unlink()
    fresh.commit("earlier")
    assert fresh.stages_run("--single-item", "report") == ["report"]
    changed = [path for path in fresh.changes if not path.endswith((".md", ".html"))]
    assert changed == [" M dvc.lock"]
    text = (fresh.folder / "reports/report.md").read_text()
    assert f"on the same tests: {', '.join(sorted(RUNS, key=text.index))}. So is the" in text


def test_a_fresh_clone_pulls_and_has_nothing_to_do(fresh: Fresh) -> None:
    assert "`dvc pull dvc.yaml`" in PAGE
    fresh.run("dvc", "pull", "dvc.yaml")
    assert _status(fresh) == {"publish"}
    assert fresh.stages_run() == ["publish"]
    assert fresh.changes == []


def test_repro_pulls_what_it_lacks(fresh: Fresh) -> None:
    assert fresh.stages_run("--pull") == ["publish"]
    for name in RUNS:
        assert (fresh.folder / f"models/{name}/seed-0.keras").is_file()
    assert fresh.changes == []


def test_a_published_model_is_not_called_missing_by_a_clone_without_it(
    trained: Fresh, fresh: Fresh
) -> None:
    """Both tell one store."""
    import mlflow

    store = f"sqlite:///{trained.folder}/mlflow.db"
    fresh.run("deepnets", "publish", env={"MLFLOW_TRACKING_URI": store})
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("deeper-networks")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name: run.data.tags["model"] for run in runs} == dict.fromkeys(
        RUNS, "logged"
    )


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """A clone of the study itself."""
    return Fresh(clone(tmp_path_factory.mktemp("untrained")).folder)


CHANGES = re.findall(r"-S (\+?[\w.-]+=[^\s`]+)", PAGE)


def test_the_page_changes_what_all_rows_share_a_recipe_and_a_row() -> None:
    assert {change.lstrip("+").split(".")[0] for change in CHANGES} == {"train", "recipes", "runs"}


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_page_changes_by_dvc_changes_that_and_nothing_else(
    untrained: Fresh, change: str
) -> None:
    """DVC says "didn't change" of what stands behind a YAML alias, or changes its namesake too."""
    untrained.run("git", "checkout", "-q", "HEAD", "--", "params.yaml")
    content = reader.read_yaml(untrained.folder / params.FILE)
    before = _rows(content)
    untrained.run("dvc", "exp", "run", "-S", change, "check")
    place, _, value = change.lstrip("+").partition("=")
    *sections, key = place.split(".")
    inner = content
    for section in sections:
        inner = inner[section]
    inner[key] = reader.parse_yaml(value)
    expected = _rows(content)
    assert expected != before
    resolved = untrained.folder / project.RESOLVED / "runs"
    assert {path.stem: files.read_json(path) for path in resolved.iterdir()} == expected
    assert reader.read_yaml(untrained.folder / params.FILE) == content


def _rows(content: Any) -> dict[str, list[dict[str, Any]]]:
    """What `check` writes for each row of a params.yaml with that content."""
    study = params.parse(content)
    return {
        name: [study.run_params(name, s).flat for s in study.train.seeds] for name in study.runs
    }


def _stale_trainings(copy: Fresh) -> set[str]:
    return {stage for stage in _status(copy) if stage.startswith("train@")}


def _fingerprint(copy: Fresh) -> str:
    """What of the code is in a training's fingerprint, and so in the name of its checkpoints."""
    code = (
        "from deepnets.records import provenance as p; "
        "print(p.code_digests(p.PACKAGE, p.shaping_modules(p.PACKAGE)))"
    )
    return copy.run(sys.executable, "-c", code).stdout


def _edit(module: Path) -> None:
    assert module.is_file()
    with module.open("a") as file:
        file.write("# changed\n")


def test_what_is_said_tracked_shown_or_recorded_makes_no_training_stale(trained: Fresh) -> None:
    """A tag, an estimate, a legend, a message, a recorded fact: all other folders at once."""
    package = trained.folder / "src/deepnets"
    before = _fingerprint(trained)
    for module in package.rglob("*.py"):
        if module.relative_to(package).parts[0] not in provenance.SHAPING_FOLDERS:
            _edit(module)
    try:
        assert _stale_trainings(trained) == set()
        assert _fingerprint(trained) == before
    finally:
        trained.run("git", "checkout", "-q", "src")


@pytest.mark.parametrize(
    ("folder", "modules"),
    [
        ("networks", ["convolutions", "architectures/vgg16"]),
        ("training", ["optimizers/adam", "augment", "loop"]),
    ],
)
def test_a_layer_an_optimizer_the_augmentation_the_loop_make_all_stale(
    trained: Fresh, folder: str, modules: list[str]
) -> None:
    """DVC compares the folder, a fingerprint each module."""
    fingerprints = [_fingerprint(trained)]
    try:
        for module in modules:
            _edit(trained.folder / f"src/deepnets/{folder}/{module}.py")
            fingerprints.append(_fingerprint(trained))
        assert _stale_trainings(trained) == {f"train@{name}" for name in RUNS}
        assert len(set(fingerprints)) == len(fingerprints)
    finally:
        trained.run("git", "checkout", "-q", "src")
