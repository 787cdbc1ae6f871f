"""What README.md and docs/ tell people to type is understood, and their links lead somewhere.

A line is read by the parser of the program that it calls, without running it.
"""

import argparse
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from deepnets.commands import options as command_line
from modules import LAYERS
from project import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/README.md"]
)

# It tells of commands that are gone.
HISTORY = "CHANGELOG.md"

# What a shell or a system brings: nobody looks for a mistake of ours there.
SYSTEM = {
    *("bash", "cd", "chmod", "cp", "curl", "docker", "export", "git", "grep", "mkdir", "pip"),
    *("ray", "read", "rm", "sbatch", "set", "source", "tar"),
}

OURS = ("deepnets", "dvc", "make", "mlflow", "python", "sha256sum")


def _words(line: str) -> list[str]:
    """A line as a shell splits it, with operators as words of their own."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def _lines(block: str) -> Iterator[list[str]]:
    """The words of each command of a block; a quotation may go over several lines."""
    text = ""
    for line in block.splitlines():
        text += line + "\n"
        try:
            words = _words(text)
        except ValueError:  # the quotation goes on
            continue
        text = ""
        if words:
            yield words
    assert not text, f"an open quotation: {text}"


def _commands(page: str) -> Iterator[tuple[str, ...]]:
    """What a page says to type: the commands of its blocks, and those between backticks.

    Of those, many only name a command (`deepnets train`): there its help is asked for.
    """
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    calls = [
        span if re.search(r" [-.+/@=]|[@=]|ROW", span) else f"{span} --help"
        for span in spans
        if span.startswith(tuple(f"{name} " for name in OURS))
    ]
    for block in [*blocks, *calls]:
        for words in _lines(block):
            for command in _parts(words):
                yield tuple(command)


def _parts(words: list[str]) -> Iterator[list[str]]:
    """The commands of a pipe or a list, without what is redirected."""
    part: list[str] = []
    redirected = False
    for word in [*words, ";"]:
        if word in {"|", "&&", "||", ";"}:
            if part:
                yield part
            part = []
        elif word in {"<", ">", ">>"}:
            redirected = True
        elif redirected:
            redirected = False
        else:
            part.append(word)


COMMANDS = sorted(
    {(page, command) for page in PAGES if page != HISTORY for command in _commands(page)}
)


@functools.cache
def _parser() -> argparse.ArgumentParser:
    return command_line.parser()


def _check_deepnets(words: list[str]) -> None:
    arguments = _parser().parse_args(words)
    assert arguments.command or "--help" in words


def _check_dvc(words: list[str]) -> None:
    from dvc.cli.parser import get_main_parser

    get_main_parser().parse_args(words)


def _check_make(words: list[str]) -> None:
    words = [word for word in words if word != "--help"]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in words if "=" not in word} <= targets


def _check_mlflow(words: list[str]) -> None:
    from mlflow.cli import cli

    _check_click(cli, "mlflow", words, None)


def _check_click(
    command: click.Command, name: str, words: list[str], parent: click.Context | None
) -> None:
    with command.make_context(name, list(words), parent=parent) as context:
        if isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            name, inner, rest = command.resolve_command(context, rest)
            _check_click(inner, name, rest, context)
        elif name == "run":
            _check_project(context.params)


def _check_project(given: dict[str, object]) -> None:
    """An entry point of MLproject is named, and parameters that `deepnets run` takes."""
    project = YAML(typ="safe").load(ROOT / "MLproject")
    assert given["entry_point"] in project["entry_points"]
    pairs = given["param_list"]
    assert isinstance(pairs, list | tuple)
    for pair in pairs:
        key, _, value = pair.partition("=")
        _check_deepnets(["run", f"--{key}", value])


def _check_python(words: list[str]) -> None:
    if words[0] == "-m":
        assert words[1] == "deepnets"
        _check_deepnets(words[2:])
    elif words[0] == "-c":
        compile(words[1], "<docs>", "exec")
    else:
        script = ROOT / words[0]
        assert script.is_file()
        text = script.read_text() + '"--help"'
        assert not [word for word in words[1:] if word.startswith("-") and f'"{word}"' not in text]


def _check(command: tuple[str, ...]) -> None:
    """Have the program's parser read the rest; raises what the parser does, or AssertionError."""
    program, *words = command
    if "..." in words:
        words.remove("...")
    if program in SYSTEM:
        return
    check = {
        "deepnets": _check_deepnets,
        "dvc": _check_dvc,
        "make": _check_make,
        "mlflow": _check_mlflow,
        "python": _check_python,
        "sha256sum": lambda words: None,
    }
    try:
        check[program](words)
    except SystemExit as end:  # also after --help
        if end.code:
            raise
    except click.exceptions.Exit as end:
        if end.exit_code:
            raise


@pytest.mark.parametrize(
    ("page", "command"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS]
)
def test_what_a_page_says_to_type_is_understood(page: str, command: tuple[str, ...]) -> None:
    _check(command)


@pytest.mark.parametrize(
    "command",
    [
        "deepnets repo",
        "deepnets predict --modell 2 seven.png",
        "dvc reproduce",
        "dvc exp run --change a=1",
        "make tours",
        "mlflow run . -P architecture=resnet50",
        "mlflow run . -e girds",
        "mlflow models serve --prot 5001 -m models:/a/1",
        "python benchmarks/nothing.py",
        "python benchmarks/gpu.py --chek",
        "python -m deepnets tarin",
        "deepnet repro",
    ],
)
def test_a_mistake_is_seen(command: str) -> None:
    from dvc.cli.parser import DvcParserError

    mistakes = (SystemExit, AssertionError, KeyError, click.ClickException, DvcParserError)
    with pytest.raises(mistakes):
        _check(tuple(command.split()))


def test_every_page_says_what_to_type() -> None:
    pages = {page for page, _ in COMMANDS}
    assert pages >= {"README.md", "CONTRIBUTING.md"}
    assert pages >= {page for page in PAGES if page.startswith("docs/")}


def _anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


LINKS = sorted(
    (page, link)
    for page in PAGES
    for link in set(re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()))
    if "://" not in link
)


@pytest.mark.parametrize(("page", "link"), LINKS, ids=[" -> ".join(pair) for pair in LINKS])
def test_a_link_leads_somewhere(page: str, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = (ROOT / page).parent / name if name else ROOT / page
    assert target.exists()
    if anchor:
        assert anchor in _anchors(target)


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {link for page, link in LINKS if page == "README.md"}
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md")} <= linked


def test_the_readme_is_short_and_begins_with_what_people_type() -> None:
    text = (ROOT / "README.md").read_bytes()
    assert len(text) < 10_000
    first = b"\n".join(text.splitlines()[:24]).decode()
    for command in ("make tour", "make test", "dvc repro", "mlflow ui"):
        assert f"\n{command} " in first
    assert "\nmlflow run . -P arch=resnet50" in first
    assert "](docs/curves.svg)" in first


def test_the_folders_of_the_package_are_named() -> None:
    text = (ROOT / "README.md").read_text()
    package = text.split("\nsrc/deepnets/ ")[1].split("\nmetrics/")[0]
    assert re.findall(r"(\w+)/", package) == list(LAYERS)
    layout = (ROOT / "CONTRIBUTING.md").read_text().split("## Layout")[1].split("## ")[0]
    rows = [row for row in layout.splitlines() if row.startswith("| `")]
    assert re.findall(r"`(\w+)/`", " ".join(row.split("|")[1] for row in rows)) == list(LAYERS)


def test_the_picture_is_of_the_committed_results(tmp_path: Path) -> None:
    import runpy

    script = runpy.run_path(str(ROOT / "docs/curves.py"))
    script["main"](tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text()
    assert drawn == (ROOT / "docs/curves.svg").read_text(), "python docs/curves.py draws it again"


def test_the_tours_accuracies_are_those_of_its_report() -> None:
    results = pd.read_csv(ROOT / "studies/tour/reports/results.csv")
    names = {"vgg16": "VGG-16", "resnet50": "ResNet50", "adam": "Adam", "sgd": "SGD"}
    text = (ROOT / "docs/running.md").read_text()
    table = text[text.index("| network | optimizer | test accuracy |") :].split("\n\n")[0]
    rows = [
        f"| {names[row.arch]} | {names[row.optimizer]} | {row.test_accuracy:.4f} |"
        for row in results.itertuples()
    ]
    assert table.splitlines()[2:] == rows


def _pilot(study: str) -> pd.DataFrame:
    """Mean and standard deviation of the test accuracies by row."""
    table = pd.read_csv(ROOT / f"studies/{study}/metrics/pilot.csv")
    return table.groupby("row")["test_accuracy"].agg(["mean", "std"])


def test_the_best_recipes_are_those_of_the_pilot_at_scale() -> None:
    pilot = _pilot("at-scale")["mean"]
    names = ("vgg16-he-cosine-batch-norm", "resnet50-he-cosine")
    best = " and ".join(f"{pilot[name]:.4f}" for name in names)
    for page in ("README.md", "docs/open-questions.md"):
        assert best in " ".join((ROOT / page).read_text().split())


def _questions_table(heading: str) -> list[list[str]]:
    text = (ROOT / "docs/open-questions.md").read_text()
    lines = text[text.index(f"| {heading}") :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_means_over_the_pilots_seeds_are_those_of_its_file() -> None:
    shown = {row: (here, scale) for row, here, scale in _questions_table("row | 5,000 images")}
    for place, study in enumerate(("open-questions", "at-scale")):
        for row, mean, deviation in _pilot(study).itertuples():
            text = f"{mean:.4f}" + ("" if np.isnan(deviation) else f" ± {deviation:.4f}")
            assert shown[row][place] == text


def test_what_the_rules_can_do_is_what_was_simulated() -> None:
    power = pd.read_csv(ROOT / "studies/open-questions/metrics/power.csv").astype(object).fillna("")
    pairs = power[power["asks"] != "list"]
    rows = _questions_table("two rows | right")
    assert len(rows) > 8
    for scenario, right, *shares, needed in rows:
        simulated = pairs[pairs["scenario"] == scenario]
        assert simulated["right"].unique().tolist() == [right]
        place = [f"{row[right]:.2f}" for row in simulated.to_dict("records")]
        assert shares == place
        assert needed == (
            f"{simulated['needed'].iloc[0]:.0f}" if simulated["needed"].iloc[0] else "more than 20"
        )
    lists = power[power["asks"] == "list"].set_index("scenario")
    rows = _questions_table("all pairs of the list")
    assert [row[0] for row in rows] == lists.index.tolist()
    for scenario, *shares in rows:
        line = lists.loc[scenario]
        assert shares == [f"{line['yes']:.2f}", f"{line['no']:.2f}", f"{100 * line['wrong']:.1f} %"]


def test_the_tests_of_what_is_promised_are_there() -> None:
    named = re.findall(r"`(\w+\.py)`", (ROOT / "docs/reliability.md").read_text())
    assert len(named) > 10
    assert set(named) <= {path.name for path in (ROOT / "tests").rglob("*.py")}
