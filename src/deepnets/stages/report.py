"""Put the runs that params.yaml names side by side, next to what the study published.

Works with whatever runs are there, and says which are missing.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from deepnets.base import files, project
from deepnets.config import params
from deepnets.config.sections import RunParams
from deepnets.records import results
from deepnets.reporting import (
    drawing,
    histories,
    live_curves,
    page,
    published,
    questions,
    run_figures,
    side_by_side,
    tables,
)
from deepnets.reporting.sections import claims, origins
from deepnets.reporting.sections import questions as asked
from deepnets.reporting.sections import results as shown

RESULTS_TABLE = project.REPORTS / "results.csv"
# Two networks beside each other; in a study with questions, two rows.
PAIRS_TABLE = project.REPORTS / "pairs.csv"
ANSWERS_TABLE = project.REPORTS / "answers.csv"
TEXT = project.REPORTS / "report.md"
PAGE = project.REPORTS / "report.html"

# Figures of their own have the first so many seeds of a row: git keeps them.
PICTURED_SEEDS = 3


@dataclass(frozen=True)
class _Material:
    """A study with what is there of its rows."""

    study: params.Params
    runs: dict[str, list[RunParams]]
    paths: dict[str, project.RunFiles]
    styles: dict[str, drawing.Run]
    trained: shown.Trained
    diagnoses: dict[str, dict[str, Any]]
    table: pd.DataFrame


def main() -> None:
    """Write the tables, the figures and the text, as Markdown and as one page of HTML."""
    study = params.load()
    material = _find(study)
    kept = tables.keep_calibration(material.table, tables.read_earlier(RESULTS_TABLE))
    _write(RESULTS_TABLE, material.table)
    live_curves.write(_csv(tables.history(material.trained)))
    of_questions = study.report.questions or study.report.goal
    sections = _answers(material) if of_questions else _sections_beside_study(material, kept)
    text = "\n\n".join(part for section in sections for part in section) + "\n"
    files.write_text(TEXT, text)
    files.write_text(PAGE, _page(material, text))
    _remove_figures_but(text)
    done = int(material.table["test_accuracy"].notna().sum())
    print(f"{PAGE}: {done} of {len(material.table)} runs")


def _page(material: _Material, text: str) -> str:
    """The page of the report's `text`."""
    instead = {}
    if side_by_side.LINE in text:
        instead[side_by_side.LINE] = side_by_side.section(material.trained, PAGE)
    return page.render(material.study.report.title, text, project.REPORTS, instead)


def _find(study: params.Params) -> _Material:
    seeds, entries = study.train.seeds, study.runs
    runs = {name: [study.run_params(name, seed) for seed in seeds] for name in entries}
    paths = {name: project.grid_run(name, entry.start) for name, entry in entries.items()}
    styles = {
        name: drawing.Run(name, entry.optimizer, entry.weights) for name, entry in entries.items()
    }
    loaded = {name: results.load(paths[name], runs[name]) for name in entries}
    trained = {name: trainings for name, trainings in loaded.items() if trainings}
    diagnoses = {
        name: files.read_json(paths[name].diagnosis)
        for name in study.diagnose.runs
        if paths[name].diagnosis.is_file()
    }
    table = tables.results(runs, trained)
    return _Material(study, runs, paths, styles, trained, diagnoses, table)


def _answers(material: _Material) -> list[list[str]]:
    """The report of a study with questions.

    Its rows have many seeds: no training has figures of its own.
    """
    report, seeds = material.study.report, material.study.train.seeds
    answered = questions.answer(report, material.trained, seeds)
    goal = questions.answer_goal(report.goal, material.trained, seeds) if report.goal else None
    pilot = tables.pilot(project.PILOT)
    _write(ANSWERS_TABLE, asked.pairs(answered))
    PAIRS_TABLE.unlink(missing_ok=True)
    run_figures.remove_all_but([])
    return [
        shown.heading(report.title, material.runs, material.table, material.trained),
        asked.answers(answered, goal, material.trained, material.styles, material.diagnoses, pilot),
        asked.by_which_rules(report, answered, pilot, tables.read_earlier(project.POWER)),
        claims.diagnoses(material.diagnoses),
        shown.results(material.table, material.trained, material.styles),
        side_by_side.line(material.trained),
        shown.seed_curves(material.trained),
        origins.provenance(material.runs, material.trained),
    ]


def _sections_beside_study(material: _Material, kept: list[str]) -> list[list[str]]:
    """The report of rows like the study's, beside what it published."""
    study, runs, trained = material.study, material.runs, material.trained
    styles, table = material.styles, material.table
    pairs = tables.pairs(trained)
    _write(PAIRS_TABLE, pairs)
    ANSWERS_TABLE.unlink(missing_ok=True)
    pictured = [
        (name, record) for name, seeds in trained.items() for record in seeds[:PICTURED_SEEDS]
    ]
    for name, result in pictured:
        run_figures.draw(styles[name], material.paths[name], result, study.evaluate.mistakes)
    run_figures.remove_all_but(
        material.paths[name].figures(record.seed) for name, record in pictured
    )
    # What the study has stands only beside rows on its data, and what it stored only beside rows
    # that are meant to be its own.
    own = published.rows_on_its_data(trained)
    beside_stored = histories.comparable_rows(own)
    return [
        shown.heading(study.report.title, runs, table, trained),
        *([] if trained and not own else [claims.verdicts(own)]),
        claims.diagnoses(material.diagnoses),
        shown.results(table, trained, styles),
        side_by_side.line(trained),
        shown.curves(trained, styles, histories.histories_beside(beside_stored)),
        *histories.sections(beside_stored),
        shown.convergence(trained, styles),
        shown.errors(trained, material.paths),
        shown.calibration(table, kept, trained, styles),
        shown.pairs(pairs),
        shown.networks(trained, material.paths),
        origins.provenance(runs, trained),
    ]


def _write(path: Path, frame: pd.DataFrame) -> None:
    files.write_text(path, _csv(frame))


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def _remove_figures_but(text: str) -> None:
    """Remove the figures of earlier reports that `text` does not show; DVC leaves them there."""
    linked = set(re.findall(r"\]\(([\w-]+\.png)\)", text))
    # Earlier versions drew them as SVG as well.
    for path in [*project.REPORTS.glob("*.svg"), *project.REPORTS.glob("*.png")]:
        if path.name not in linked:
            path.unlink()
