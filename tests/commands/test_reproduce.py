"""A run is rebuilt from its record, compared to the bit, and what differs is named.

Real trainings of small networks in a clone; the comparison itself on the tour's committed runs.
"""

import contextlib
import copy as copying
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from deepnets.__main__ import main
from deepnets.base import files
from deepnets.base.errors import UserError
from deepnets.commands import aside, find, reproduce
from deepnets.records import differences, provenance, results, tolerances
from deepnets.records.results import TrainingRecord
from project import ROOT, SERIES, Clone, miniature, small_clone

RUN, DIRTY = "vgg16-sgd-random", "resnet50-adam-random"
OPTIMIZATION = "src/deepnets/training/optimization.py"
RATE = "learning_rate=schedule(run, steps_per_epoch)"


def _study(params: dict[str, Any]) -> None:
    miniature(params)
    params["train"]["epochs"] = 2


def _edit(copy: Clone, before: str, after: str) -> None:
    path = copy.folder / OPTIMIZATION
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with small runs: of a commit, and with changes that are gone."""
    copy = small_clone(tmp_path_factory.mktemp("project"), _study)
    starts = [["download"], ["preprocess"], *(["initialize", f"{a}-random"] for a in _ARCHS)]
    commands = [*starts, ["train", RUN], ["evaluate", RUN]]
    copy.run("python", "-c", SERIES, json.dumps(commands))
    followed = Clone(copy.folder, followed=True)
    # A changed file and a new one, the second needed by the first.
    _edit(copy, RATE, f"{RATE} * FACTOR")
    _edit(copy, "import keras\n", "import keras\n\nfrom deepnets.factor import FACTOR\n")
    (copy.folder / "src/deepnets/factor.py").write_text("FACTOR = 0.5\n")
    commands = [["train", DIRTY], ["evaluate", DIRTY]]
    followed.run("python", "-c", SERIES, json.dumps(commands))
    copy.run("git", "checkout", OPTIMIZATION)
    (copy.folder / "src/deepnets/factor.py").unlink()
    copy.commit("results")
    return copy


_ARCHS = ("vgg16", "resnet50")


def _tree(copy: Clone) -> dict[str, str]:
    """Every file of the project by its content, without git's own and MLflow's store."""
    return {
        str(path.relative_to(copy.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in copy.folder.rglob("*")
        if path.is_file()
        and not {".git", "__pycache__"} & set(path.parts)
        and "mlflow.db" not in path.name
    }


def _reproduce(
    copy: Clone, folder: Path, *arguments: str, **env: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command; whatever comes of it, the project and the temporary folder stay as is."""
    staged = copy.folder / ".git/index"
    before = _tree(copy), copy.run("git", "status", "--porcelain").stdout
    index = staged.read_bytes()
    result = copy.run(
        "deepnets", "reproduce", *arguments, env={"TMPDIR": str(folder)} | env, check=False
    )
    assert "Traceback" not in result.stdout + result.stderr
    assert staged.read_bytes() == index
    assert (_tree(copy), copy.run("git", "status", "--porcelain").stdout) == before
    assert list(folder.iterdir()) == []
    assert len(copy.run("git", "worktree", "list").stdout.splitlines()) == 1
    return result


def test_a_run_of_a_commit_comes_out_again_to_the_bit(project: Clone, tmp_path: Path) -> None:
    # As from a hook, where git sets this.
    index = str(project.folder / ".git/index")
    result = _reproduce(project, tmp_path, RUN, GIT_INDEX_FILE=index, GIT_DIR=".git")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{RUN}, seed 0: bit-identical" in result.stdout
    assert "nothing differs that shapes a training" in result.stdout
    for row in ("starting weights  the same bits", "final weights     the same bits"):
        assert row in result.stdout
    assert "the same in all 2 epochs" in result.stdout
    assert "the same digit on all 1,000 test images, with the same probabilities" in result.stdout


def test_changes_that_were_never_committed_are_applied(project: Clone, tmp_path: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("deeper-networks")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    run_id = runs[DIRTY].info.run_id
    # What would be run has to be what is shown.
    shown = Path(client.download_artifacts(run_id, "sources.patch", str(tmp_path)))
    honest = shown.read_text()
    shown.write_text(honest.replace("0.5", "0.25"))
    client.log_artifact(run_id, str(shown))
    shown.unlink()
    refused = _reproduce(project, tmp_path, run_id)
    assert refused.returncode == 1
    assert "are not those of its artifact sources.patch" in refused.stderr
    shown.write_text(honest)
    client.log_artifact(run_id, str(shown))
    shown.unlink()
    assert f"`deepnets reproduce {run_id}`" in runs[DIRTY].data.tags["mlflow.note.content"]
    assert "+FACTOR = 0.5" in honest
    client.create_registered_model("small")
    client.create_model_version("small", f"{runs[DIRTY].info.artifact_uri}/model", run_id)
    client.set_registered_model_alias("small", "best", "1")

    result = _reproduce(project, tmp_path, "models:/small@best")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"trained with: src/deepnets/factor.py, {OPTIMIZATION}" in result.stdout
    assert (
        "this working tree has other code, which is not used: training/optimization"
        in result.stdout
    )
    assert f"{DIRTY}, seed 0: bit-identical" in result.stdout
    assert len(client.search_runs([experiment.experiment_id])) == len(runs)

    # By its id, beside the other one.
    said = project.run("deepnets", "diff", RUN, run_id, "--figure", str(tmp_path / "pair")).stdout
    assert "training: changed code (training/optimization)" in said
    assert "training: arch vgg16, now resnet50" in said
    assert (tmp_path / "pair.png").is_file()


def test_a_changed_line_of_training_code_is_named(project: Clone, tmp_path: Path) -> None:
    try:
        _edit(project, "run.learning_rate, decay_steps", "2 * run.learning_rate, decay_steps")
        result = _reproduce(project, tmp_path, RUN, "--here", OMP_NUM_THREADS="1")
    finally:
        project.run("git", "checkout", OPTIMIZATION)
    assert result.returncode == 4, result.stdout + result.stderr
    before, _, after = result.stdout.partition("\n\n")
    assert "training: changed code (training/optimization)" in before
    assert "threads: OMP_NUM_THREADS not there, now 1" in before
    assert f"{OPTIMIZATION}:" in before
    assert "+ 2 * run.learning_rate, decay_steps=1" in before
    verdict = after.splitlines()[-1]
    assert verdict.startswith(f"{RUN}, seed 0: different: from epoch 1, ")
    assert "what differs: changed code (training/optimization); OMP_NUM_THREADS" in verdict
    assert "no tolerance is known" in verdict


def test_a_run_beside_the_grid_comes_out_again(project: Clone, tmp_path: Path) -> None:
    import mlflow

    options = {"train_images": 48, "input_channels": 1, "label_smoothing": 0.1, "epochs": 1}
    chosen = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    followed = Clone(project.folder, followed=True)
    followed.run("deepnets", "run", "--seed", "2", *chosen)
    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("deeper-networks-single")
    (run,) = client.search_runs([experiment.experiment_id])
    result = _reproduce(project, tmp_path, run.info.run_id)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{run.info.run_name}, seed 2: bit-identical" in result.stdout


def test_every_seed_of_a_run_is_trained_again_and_the_worst_verdict_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {0: "bit-identical", 1: "different", 2: "equal within the tolerance"}
    monkeypatch.setattr(
        reproduce,
        "reproduce",
        lambda record, here: reproduce.RerunVerdict(
            kinds[record.seed], f"it is {kinds[record.seed]}"
        ),
    )
    monkeypatch.chdir(ROOT)
    assert reproduce.main("studies/full:vgg16-sgd-random", None, False) == 4
    said = capsys.readouterr().out
    for seed, kind in kinds.items():
        assert f"vgg16-sgd-random, seed {seed}: {kind}" in said
    assert reproduce.main("studies/full:vgg16-sgd-random", 2, False) == 3


# The comparison, on a run that is in git.


@pytest.fixture(scope="module")
def record() -> TrainingRecord:
    (trained,) = results.read_folder(ROOT / "studies/tour/metrics/vgg16-sgd-he", "studies/tour")
    rows = np.eye(10, dtype=np.float32)[trained.predicted]
    return replace(
        trained, probabilities=rows, provenance=trained.provenance | {"weights": "a" * 64}
    )


def _again(record: TrainingRecord, **changes: Any) -> TrainingRecord:
    """A rerun of `record`; `group__key` stands for an entry of its environment."""
    origin = copying.deepcopy(record.provenance)
    for name, value in changes.items():
        if "__" in name:
            group, key = name.split("__")
            origin["environment"][group][key] = value
        elif name not in ("wrong", "right"):
            origin[name] = value
    rerun = replace(record, provenance=origin)
    # So many digits that were right become wrong, or the other way round.
    wrong, right = changes.get("wrong", 0), changes.get("right", 0)
    if wrong or right:
        predicted = record.predicted.copy()
        places = np.flatnonzero(predicted == record.labels)[:wrong]
        predicted[places] = (predicted[places] + 1) % 10
        places = np.flatnonzero(record.predicted != record.labels)[:right]
        predicted[places] = record.labels[places]
        history = [*record.history[:-1], record.history[-1] | {"val_loss": 0.25}]
        accuracy = float((predicted == record.labels).mean())
        test = record.test | {"accuracy": accuracy}
        rerun = replace(rerun, predicted=predicted, history=history, test=test, probabilities=None)
    return rerun


def _verdict(record: TrainingRecord, **changes: Any) -> reproduce.RerunVerdict:
    again = _again(record, **changes)
    causes = differences.inputs(record.provenance, again.provenance)
    return reproduce.judge(record, again, differences.outcomes(record, again), causes)


THREADS = {"settings__TF_NUM_INTRAOP_THREADS": "2", "runtime__one_core_an_operation": False}


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({}, "bit-identical", "all that was recorded"),
        (THREADS, "bit-identical", "although there is a difference (TF_NUM_INTRAOP_THREADS"),
        (THREADS | {"wrong": 5}, "equal within the tolerance", "test accuracy within {band:.4f}"),
        (THREADS | {"wrong": 100}, "different", "beyond the tolerance (for other threads: "),
        (THREADS | {"right": 5}, "equal within the tolerance", "test accuracy within {band:.4f}"),
        # The tolerance has an upper end: suddenly it makes no mistake.
        (THREADS | {"right": 68}, "different", "beyond the tolerance (for other threads: "),
        (
            THREADS | {"wrong": 5, "start": "b" * 64},
            "different",
            "from the starting weights on; what differs: TF_NUM_INTRAOP_THREADS",
        ),
        (
            {"runtime__onednn": False, "wrong": 5},
            "equal within the tolerance",
            "onednn yes, now no",
        ),
        ({"hardware__cpu": "another", "wrong": 5}, "equal within the tolerance", "now another"),
        ({"hardware__devices": ["GPU"], "wrong": 5}, "different", "no tolerance is known"),
        ({"libraries": {"keras": "9"}, "wrong": 5}, "different", "keras 3.15.1, now 9"),
        (THREADS | {"code": {"models": "0"}, "wrong": 1}, "different", "changed code ("),
        ({"wrong": 1}, "different", "epoch 3, val_loss ({val_loss}, now 0.25) on; nothing"),
        ({"weights": "b" * 64}, "different", "after the last epoch; nothing that is recorded"),
        ({"start": "b" * 64}, "different", "nothing that is recorded differs"),
        ({"test_data": "b" * 64}, "different", "what differs: other test images"),
    ],
)
def test_verdicts(
    record: TrainingRecord,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    kind: str,
    said: str,
) -> None:
    small = tolerances.Deviation(0.03, 6)
    monkeypatch.setattr(tolerances, "MEASURED", dict.fromkeys(tolerances.MEASURED, small))
    verdict = _verdict(record, **changes)
    assert verdict.kind == kind
    # Two more right and two more wrong; six runs, so six degrees of freedom.
    p = (record.test["accuracy"] * 1000 + 2) / 1004
    band = t.ppf(0.975, 6) * small.deviation * np.sqrt(p * (1 - p))
    assert said.format(band=band, val_loss=_loss(record, "val_loss")) in str(verdict)


def _moved(record: TrainingRecord) -> np.ndarray:
    """Probabilities of which one has moved by a last digit; they name the same digits."""
    moved = record.probabilities.copy()
    moved[0, 0] = np.nextafter(moved[0, 0], np.float32(0.5))
    return moved


@pytest.mark.parametrize(
    "change",
    [
        lambda record: {"provenance": record.provenance | {"start": "b" * 64}},
        lambda record: {"provenance": record.provenance | {"weights": "b" * 64}},
        lambda record: {"provenance": record.provenance | {"test_data": "b" * 64}},
        lambda record: {
            "history": [*record.history[:-1], record.history[-1] | {"learning_rate": 0.5}]
        },
        lambda record: {"history": record.history[:-1]},
        lambda record: {"predicted": np.roll(record.predicted, 1)},
        lambda record: {"probabilities": _moved(record)},
        lambda record: {"test": record.test | {"loss": np.nextafter(record.test["loss"], 1)}},
    ],
    ids=["start", "weights", "images", "history", "epochs", "predictions", "probabilities", "test"],
)
def test_whatever_differs_it_is_not_bit_identical(
    record: TrainingRecord, change: Callable[[TrainingRecord], dict[str, Any]]
) -> None:
    again = replace(record, **change(record))
    for a, b in ((record, again), (again, record)):
        outcome = differences.outcomes(a, b)
        assert not outcome.alike
        assert reproduce.judge(a, b, outcome, []).kind == "different"


@pytest.mark.parametrize(
    ("devices", "visible", "again"),
    [
        (["NVIDIA H200"], "1", {}),  # another machine may have one card alone
        ([], "", {"CUDA_VISIBLE_DEVICES": ""}),  # it was trained on the CPU of a machine with cards
    ],
)
def test_a_rerun_takes_the_card_that_is_there_and_none_where_there_was_none(
    record: TrainingRecord,
    devices: list[str],
    visible: str,
    again: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_MPS_PIPE_DIRECTORY", "KERAS_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    environment = record.provenance["environment"]
    shares = {
        "CUDA_VISIBLE_DEVICES": visible,
        "CUDA_MPS_PIPE_DIRECTORY": "/tmp/mps",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.1",
    }
    recorded = {
        "hardware": environment["hardware"] | {"devices": devices},
        "settings": {"KERAS_BACKEND": "jax"} | shares,
    }
    then = record.provenance | {"environment": environment | recorded}
    assert reproduce._settings(then, None) == {"KERAS_BACKEND": "jax"} | again


def test_a_run_that_has_not_learned_has_no_tolerance(record: TrainingRecord) -> None:
    assert record.test is not None
    unlearned = replace(record, test={**record.test, "accuracy": 0.7})
    verdict = _verdict(unlearned, **THREADS, wrong=5)
    assert verdict.kind == "different"
    assert str(verdict).endswith("no tolerance is known for a run with a test accuracy below 0.9")


def test_an_older_record_is_compared_by_what_it_has(record: TrainingRecord) -> None:
    older = {key: value for key, value in record.provenance.items() if key != "weights"}
    bare = replace(record, provenance=older, probabilities=None)
    outcome = differences.outcomes(bare, record)
    verdict = reproduce.judge(bare, record, outcome, [])
    assert verdict.kind == "bit-identical"
    assert "has not recorded its final weights" in verdict.reason
    rows = dict(reproduce.describe_comparison(bare, record, outcome))
    assert rows["final weights"] == "not recorded then; sha256 aaaaaaaaaaaaaaaa now"
    assert "probabilities not at hand" in rows["predictions"]


def test_too_little_is_no_verdict(record: TrainingRecord) -> None:
    older = {key: value for key, value in record.provenance.items() if key != "weights"}
    bare = replace(record, provenance=older, predicted=None, labels=None, test=None)
    outcome = differences.outcomes(bare, record)
    with pytest.raises(UserError, match="holds neither its final weights nor predictions"):
        reproduce.judge(bare, record, outcome, [])


@pytest.mark.parametrize("study", ["/tmp", "../elsewhere", "studies/../.."])
def test_a_record_cannot_lead_out_of_the_project(study: str, tmp_path: Path) -> None:
    for file in ("provenance.json", "history.csv", "train.json"):
        source = ROOT / "studies/tour/metrics/vgg16-sgd-he" / file
        files.write_bytes(tmp_path / file, source.read_bytes())
    content = files.read_json(tmp_path / "provenance.json")
    content["0"]["git"]["study"] = study
    files.write_json(tmp_path / "provenance.json", content)
    with pytest.raises(UserError, match="outside of the project"):
        results.read_folder(tmp_path)


def test_tolerances_add_as_their_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tolerances,
        "MEASURED",
        {"threads": tolerances.Deviation(0.03, 6), "oneDNN": tolerances.Deviation(0.04, 3)},
    )
    sizes = []
    for causes in (["threads"], ["oneDNN"], ["threads", "oneDNN"]):
        tolerance = tolerances.find_tolerance(causes, 0.9, 996)
        assert tolerance is not None
        sizes.append(tolerance.high - 0.9)
        assert tolerance.low == pytest.approx(0.9 - sizes[-1])
    # Student's t for 6 and for 3 degrees of freedom, and sqrt(p (1 - p)).
    p = (0.9 * 996 + 2) / 1000
    unit = (p * (1 - p)) ** 0.5
    assert sizes[0] == pytest.approx(2.4469 * 0.03 * unit, rel=1e-4)
    assert sizes[1] == pytest.approx(3.1824 * 0.04 * unit, rel=1e-4)
    assert sizes[2] == pytest.approx((sizes[0] ** 2 + sizes[1] ** 2) ** 0.5)
    assert tolerances.find_tolerance(["threads", "backend"], 0.9, 996) is None
    assert tolerances.find_tolerance([], 0.9, 996) is None
    assert tolerances.find_tolerance(["threads"], 0.899, 996) is None


def test_tolerances_are_those_that_were_measured() -> None:
    (path,) = (ROOT / "benchmarks/results").glob("drift-*.json")
    measured = files.read_json(path)["deviations"]
    assert {
        cause: {"deviation": deviation.deviation, "runs": deviation.runs}
        for cause, deviation in tolerances.MEASURED.items()
    } == measured
    assert all(deviation["runs"] for deviation in measured.values())


def test_sizes_are_said(record: TrainingRecord) -> None:
    again = _again(record, wrong=7)
    rows = dict(reproduce.describe_comparison(record, again, differences.outcomes(record, again)))
    assert rows["predictions"].startswith("another digit on 7 of 1,000 test images")
    moved = abs(_loss(record, "val_loss") - 0.25)
    assert f"furthest apart: val_loss {moved:.3g}" in rows["history"]
    accuracy = record.test["accuracy"]
    assert rows["test accuracy"] == f"{accuracy:g}, now {accuracy - 0.007:g}"


def test_a_history_that_ends_early_parts_there(record: TrainingRecord) -> None:
    shorter = replace(record, history=record.history[:2])
    assert differences.outcomes(record, shorter).parting == (3, "loss", *(_loss(record), None))
    undefined = replace(record, test={"loss": float("nan"), "accuracy": 0.1})
    assert differences.outcomes(undefined, copying.deepcopy(undefined)).identical


def _loss(record: TrainingRecord, metric: str = "loss") -> float:
    return record.history[2][metric]


# What is refused, in one line.


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The tour's record in a small repository that looks like the project."""
    folder = tmp_path / "repository"
    study = folder / "studies/tour"
    (folder / "src/deepnets").mkdir(parents=True)
    (folder / "MLproject").touch()
    for file in ("provenance.json", "history.csv", "train.json", "test.json", "predictions.csv.gz"):
        target = study / "metrics/vgg16-sgd-he" / file
        files.write_bytes(target, (ROOT / "studies/tour/metrics/vgg16-sgd-he" / file).read_bytes())
    copy = Clone(folder)
    copy.run("git", "init", "-q", "-b", "main")
    (folder / ".gitignore").write_text("ignored\n")
    copy.commit()
    # Its code is not ours: we are not to start again with it.
    monkeypatch.setenv("DEEPNETS_CHECKOUT", str(folder))
    # Where other tests have sent something.
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with contextlib.chdir(study):
        yield study


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def _change(study: Path, **git: Any) -> None:
    path = study / "metrics/vgg16-sgd-he/provenance.json"
    content = files.read_json(path)
    content["0"]["git"] |= git
    files.write_json(path, content)


def test_a_run_that_nobody_has_trained(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = _refused(capsys, "reproduce", "vgg16-sgd-hee")
    assert "no run 'vgg16-sgd-hee' has been trained here: expected one of vgg16-sgd-he;" in line
    assert "in ../small" in _refused(capsys, "diff", "vgg16-sgd-he", "../small:a")
    line = _refused(capsys, "reproduce", "vgg16-sgd-he", "--seed", "3")
    assert "vgg16-sgd-he was not trained with seed 3: expected one of 0" in line


def test_a_seed_is_found_by_the_name_that_mlflow_has_for_it(study: Path) -> None:
    path = study / "metrics/vgg16-sgd-he"
    copied = {seed: files.read_json(path / "provenance.json")["0"] for seed in "01"}
    files.write_json(path / "provenance.json", copied)
    ended = {"collapsed": 0, "diverged": 0}
    files.write_json(path / "train.json", {"seeds": dict.fromkeys(copied, ended)})
    assert [training.seed for training in find.trainings("vgg16-sgd-he")] == [0, 1]
    assert [training.seed for training in find.trainings("vgg16-sgd-he-seed-1")] == [1]
    with pytest.raises(UserError, match="not trained with seed 2: expected one of 0, 1"):
        find.trainings("vgg16-sgd-he-seed-2")
    with pytest.raises(UserError, match="no run 'vgg16-seed-1' has been trained"):
        find.trainings("vgg16-seed-1")


def test_ids_without_a_store(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("0123456789abcdef" * 2, "models:/deeper-networks@champion"):
        line = _refused(capsys, "reproduce", name)
        assert f"{name} is looked for in MLflow, but there is no store at" in line
    assert not list(study.parents[1].glob("mlflow*"))


def test_commits_that_are_not_there(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _change(study, commit="c0ffee" * 6 + "c0ff")
    line = _refused(capsys, "reproduce", "vgg16-sgd-he")
    assert "the commit c0ffeec0ffee is not in this repository: fetch" in line
    _change(study, commit=None)
    line = _refused(capsys, "reproduce", "vgg16-sgd-he")
    assert "vgg16-sgd-he, seed 0 has no commit in its record" in line


def test_a_study_that_its_commit_lacks(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _change(study, commit=provenance.git_state()["commit"])
    line = _refused(capsys, "reproduce", "vgg16-sgd-he")
    assert "the study of vgg16-sgd-he, seed 0 is not in its commit: expected studies/tour" in line


# Changes that are not committed, and the checkout aside.


def test_a_patch_makes_a_clean_checkout_the_dirty_tree(study: Path) -> None:
    root = study.parents[1]
    code, copy = root / "src/deepnets", Clone(root)
    (code / "stays.py").write_text("same\n")
    (code / "changes.py").write_text("one\ntwo\n")
    (code / "goes.py").write_text("gone\n")
    copy.commit()
    (code / "changes.py").write_bytes(b"one\n\xff\xfe\r\nthree")
    (code / "goes.py").unlink()
    (code / "new.py").write_text("naïve\n")
    (code / "new.bin").write_bytes(bytes(range(256)))
    (code / "ignored").write_text("not a source\n")
    (root / "notes.txt").write_text("not a source either\n")
    (study / "params.yaml").write_text("a: 1\n")
    copy.run("git", "add", "src/deepnets/new.py")
    staged = copy.run("git", "status", "--porcelain").stdout

    state = json.loads(json.dumps(provenance.git_state()))
    assert copy.run("git", "status", "--porcelain").stdout == staged
    assert (state["dirty"], state["study"]) == (True, "studies/tour")
    with aside.checkout(state["commit"], state["patch"]) as there:
        for name in ("stays.py", "changes.py", "new.py", "new.bin"):
            assert (there / "src/deepnets" / name).read_bytes() == (code / name).read_bytes()
        assert (there / "studies/tour/params.yaml").read_text() == "a: 1\n"
        for name in ("src/deepnets/goes.py", "src/deepnets/ignored", "notes.txt"):
            assert not (there / name).exists()
    assert sorted(aside.changed_files(state["patch"])) == [
        *(f"src/deepnets/{name}" for name in ("changes.py", "goes.py", "new.bin", "new.py")),
        "studies/tour/params.yaml",
    ]


def test_a_clean_tree_has_no_patch(study: Path) -> None:
    state = provenance.git_state()
    assert (state["dirty"], state["patch"]) == (False, None)


def test_a_patch_that_does_not_fit_is_said(study: Path) -> None:
    commit = provenance.git_state()["commit"]
    patch = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
    with pytest.raises(UserError, match="do not fit its commit"), aside.checkout(commit, patch):
        pass
    assert len(Clone(study).run("git", "worktree", "list").stdout.splitlines()) == 1


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_checkout_goes_when_it_is_interrupted(study: Path, by: signal.Signals) -> None:
    commit = provenance.git_state()["commit"]
    seen = []

    def interrupted() -> None:
        with aside.checkout(commit, None) as there:
            seen.append((there, (there / "MLproject").is_file()))
            os.kill(os.getpid(), by)
            signal.pause()

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    ((there, was_there),) = seen
    assert was_there
    assert not there.parent.exists()
    assert len(Clone(study).run("git", "worktree", "list").stdout.splitlines()) == 1


# Two runs side by side.


def test_diff_shows_where_two_runs_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    stem = tmp_path / "pair"
    a, b = "studies/tour:vgg16-sgd-he", "studies/tour:vgg16-adam-he"
    assert main(["diff", a, b, "--figure", str(stem)]) == 0
    said = capsys.readouterr().out
    runs = [find.trainings(name)[0] for name in (a, b)]
    places = np.flatnonzero(runs[0].predicted != runs[1].predicted)
    right = [int((run.predicted == run.labels)[places].sum()) for run in runs]
    assert f"they disagree on {len(places)} of 1,000" in said
    assert f"only vgg16-sgd-he is right on {right[0]}, only vgg16-adam-he on {right[1]}" in said
    listed = [line.split() for line in said[said.index("test image ") :].splitlines()[2:22]]
    for words, place in zip(listed, places, strict=False):
        guesses = [str(run.predicted[place]) for run in runs]
        assert words == [str(place), str(runs[0].labels[place]), *guesses]
    rest = said[said.index("and on: ") :].splitlines()[0]
    assert rest == "and on: " + ", ".join(map(str, places[20:]))
    parameters = [line.split() for line in said[: said.index("the same: ")].splitlines()[3:]]
    values = [{k: str(v) for k, v in run.provenance["parameters"].items()} for run in runs]
    assert parameters == [
        [key, *(value.get(key, "-") for value in values)] for key, *_ in parameters
    ]
    assert {"optimizer", "nesterov", "beta_1"} <= {key for key, *_ in parameters}
    assert "training: optimizer sgd, now adam" in said[said.index("What explains it") :]
    assert stem.with_name("pair.png").stat().st_size


def test_diff_of_a_run_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT / "studies/tour")
    assert main(["diff", *(["vgg16-sgd-he"] * 2), "--figure", str(tmp_path / "same")]) == 0
    said = capsys.readouterr().out
    assert "they disagree on 0 of 1,000" in said
    assert said.rstrip().splitlines()[-3] == "They are the same to the bit."
