"""What git holds of the full-scale runs: the files agree with each other, and README with them."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepnets.base import files, project
from deepnets.config import params
from deepnets.config.params import Params
from deepnets.config.sections import RunParams
from deepnets.records import machine, provenance, results
from deepnets.records.results import TrainingRecord
from deepnets.reporting import page, published, questions, run_figures
from project import ROOT

FULL = ROOT / "studies" / "full"
README = (ROOT / "README.md").read_text()

RANDOM = {
    f"{arch}-{optimizer}-random" for arch in ("vgg16", "resnet50") for optimizer in ("adam", "sgd")
}

# README's words for the rows of its first table.
NETWORKS = {"VGG-16": "vgg16", "ResNet50": "resnet50"}


def _committed(folder: Path, study: Params) -> list[tuple[Path, TrainingRecord]]:
    """The trainings in metrics/ of a study, each with the folder that it is in."""
    trainings = []
    for name in study.runs:
        metrics = folder / "metrics" / name
        paths = project.run_at(metrics)
        runs = [study.run_params(name, seed) for seed in study.train.seeds]
        trainings += [(metrics, result) for result in results.load(paths, runs)]
    return trainings


TRAININGS = {
    f"{place}: {result.run}, {metrics.name}, seed {result.seed}": (metrics, result)
    for place, folder in (("root", ROOT), ("full", FULL))
    for metrics, result in _committed(folder, params.load(folder / params.FILE))
}


def _sizes() -> dict[str, int]:
    """Of all that git has, by path."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout.split("\0")
    return {name: (ROOT / name).stat().st_size for name in listed if (ROOT / name).is_file()}


def test_the_tree_is_small_and_no_page_is_large() -> None:
    sizes = _sizes()
    assert sum(sizes.values()) < 15e6
    assert max(size for name, size in sizes.items() if name.endswith("report.html")) < 1.5e6


def test_a_figure_of_results_is_there_once() -> None:
    results = ("metrics/", "reports/", "studies/")
    figures = [Path(name) for name in _sizes() if name.startswith(results)]
    figures = [path for path in figures if path.suffix in (".png", ".svg", ".jpg", ".pdf")]
    assert {path.suffix for path in figures} == {".png"}
    contents = Counter(files.file_digest(ROOT / path) for path in figures)
    # The root's rows are among those of studies/full, and all draw the same two networks.
    assert max(contents.values()) <= 1 + len(list(ROOT.glob("studies/*/params.yaml")))


def test_dvcs_table_has_a_column_for_a_rows_number_and_none_for_each_seeds() -> None:
    """With ten seeds' columns of their own it had 4,900, and opened in the editor in minutes."""
    run = subprocess.run(
        [sys.executable, "-m", "dvc", "metrics", "show", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,  # rows that are not there yet make it end with an error
    )
    shown = json.loads(run.stdout)[""]["data"]
    rows = {name: content["data"] for name, content in shown.items() if "data" in content}
    assert {Path(name).parent for name in rows} >= {
        m.relative_to(ROOT) for m, _ in TRAININGS.values()
    }
    for name, numbers in rows.items():
        assert all(isinstance(number, int | float) for number in numbers.values()), name


def test_mistakes_that_git_keeps_are_of_the_predictions_beside_them() -> None:
    """They are drawn from what is DVC's, so whoever makes the report in a clone keeps them."""
    for metrics, result in TRAININGS.values():
        picture = project.run_at(metrics).figures(result.seed) / "mistakes.png"
        assert run_figures.is_of(picture, result), picture


def _table(heading: str) -> list[list[str]]:
    """The cells of README's table that begins with `heading`, without its heading."""
    lines = README[README.index(f"| {heading}") :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]


def test_the_studys_random_rows_are_there_at_full_scale() -> None:
    root = {name for name in TRAININGS if name.startswith("root")}
    assert {metrics.name for metrics, _ in map(TRAININGS.__getitem__, root)} == RANDOM
    seeds = Counter(metrics.name for name, (metrics, _) in TRAININGS.items() if name not in root)
    assert set(seeds) >= RANDOM | {"vgg16-sgd-random-code", "resnet50-sgd-random-code"}
    assert {seeds[row] for row in RANDOM - {"resnet50-adam-random"}} == {3}
    assert {result.params.optimizer for name, (_, result) in TRAININGS.items() if name in root} == {
        "adam",
        "sgd",
    }
    for _, result in TRAININGS.values():
        assert result.provenance["images"] == {
            "train": 50_000,
            "validation": 10_000,
            "test": 10_000,
        }


@pytest.mark.parametrize("name", TRAININGS)
def test_a_trainings_files_agree_with_each_other(name: str) -> None:
    _check(*TRAININGS[name])


OURS = ["open-questions", "at-scale"]


@pytest.mark.parametrize("study", OURS)
def test_answers_rest_on_files_that_agree_and_on_one_code_and_machine(study: str) -> None:
    folder = ROOT / "studies" / study
    trainings = _committed(folder, params.load(folder / params.FILE))
    for metrics, result in trainings:
        _check(metrics, result)
    origins = [result.provenance for _, result in trainings]
    assert not any(origin["git"]["dirty"] for origin in origins)
    assert len({origin["git"]["commit"] for origin in origins}) <= 1
    hardware = [origin["environment"]["hardware"] for origin in origins]
    assert len({str(on["devices"] or machine.processor(on)) for on in hardware}) <= 1


@pytest.mark.parametrize("study", OURS)
def test_a_report_tells_the_rules_that_are_applied(study: str) -> None:
    folder = ROOT / "studies" / study
    report = params.load(folder / params.FILE).report
    text = (folder / "reports/report.md").read_text()
    for rule in questions.rules(report, sum(len(question.ahead) for question in report.questions)):
        assert f"\n- {rule}\n" in text
    for question in report.questions:
        assert f"### {page.escape_markdown(question.question)}" in text


@pytest.mark.parametrize("study", ["full", "tour", *OURS])
def test_a_report_explains_the_difference_to_the_study_where_it_shows_it(study: str) -> None:
    text = (ROOT / "studies" / study / "reports/report.md").read_text()
    shown = re.search(r"^\| run +\|.*\| difference +\|", text, re.MULTILINE) is not None
    assert shown == (study != "tour")
    assert ("The difference is our test accuracy less the study's" in text) == shown
    assert ("with its interval, beside the study's](comparison.png)" in text) == shown


def _check(metrics: Path, result: TrainingRecord) -> None:
    """That the files of a training agree with each other."""
    origin = result.provenance
    assert provenance.fingerprint_of(origin) == origin["fingerprint"]
    # What a record does not know was the same for all runs then, which is the default now.
    known = {key: value for key, value in result.params.flat.items() if key in origin["parameters"]}
    assert origin["parameters"] == known
    defaults = {name: field.default for name, field in RunParams.model_fields.items()}
    assert all(
        defaults[key] == value for key, value in result.params.flat.items() if key not in known
    )
    assert len(result.history) == result.params.epochs == len(result.timing)
    trained = results.numbers_of_seed(files.read_json(metrics / "train.json"), result.seed)
    assert trained == results.summary(result.history, origin["chance_accuracy"], False)
    assert result.test is not None
    assert result.labels is not None
    assert result.test["accuracy"] == float(np.mean(result.predicted == result.labels))


def test_the_root_has_the_first_seed_of_the_full_study() -> None:
    full = {
        metrics.name: record for n, (metrics, record) in TRAININGS.items() if n.startswith("full")
    }
    for name, (metrics, result) in TRAININGS.items():
        if name.startswith("root"):
            several = [record for m, record in TRAININGS.values() if m.parent.parent == FULL]
            same = [record for record in several if record.provenance == result.provenance]
            assert len(same) == 1, metrics.name
            assert result.seed == same[0].seed == 0
            assert same[0].test == result.test
            assert metrics.name in full


def test_readmes_first_table_is_that_of_the_reports() -> None:
    table = pd.read_csv(FULL / "reports" / "results.csv").set_index("run")
    rows = _table("network | optimizer | the study")
    assert len(rows) == 4
    for network, optimizer, theirs, text, code in rows:
        name = f"{NETWORKS[network]}-{optimizer.lower()}-random"
        row = table.loc[name]
        study = published.row((NETWORKS[network], optimizer.lower(), "random"))  # type: ignore[arg-type]
        assert theirs == f"{study.test_accuracy:.4f}"
        shown = f"{row['test_accuracy']:.4f}"
        if not np.isnan(row["test_accuracy_sd"]):
            shown += f" ± {row['test_accuracy_sd']:.4f}"
        assert text.partition(" (")[0] == shown
        assert ("collapsed" in text) == ("collapsed" in str(row["state"]))
        if optimizer == "SGD":
            assert code == f"{table.loc[f'{name}-code', 'test_accuracy']:.4f}"
        else:
            assert code == "the same settings"


def test_readmes_verdicts_are_those_of_the_report() -> None:
    text = (FULL / "reports" / "report.md").read_text()
    judged = re.findall(
        r"^\| \d +\| (.+?) +\| \*\*([a-z ]+)\*\*", text[text.index("## The study's claims") :], re.M
    )
    rows = _table("the study claims")
    assert len(rows) == len(judged) == 5
    for (claim, verdict), (ours, said) in zip(judged, rows, strict=True):
        assert ours == claim
        assert said.startswith(f"**{verdict}**")
