"""Put the runs that params.yaml names side by side, next to what the study published.

Works with whatever runs are there, and says which are missing.
"""

import re

from deepnets.base import files, project
from deepnets.config import params
from deepnets.records import results
from deepnets.reporting import drawing, histories, ladders, page, published, run_figures, tables
from deepnets.reporting.sections import claims, origins
from deepnets.reporting.sections import results as shown

HISTORY = project.REPORTS / "history.csv"
RESULTS_TABLE = project.REPORTS / "results.csv"
PAIRS_TABLE = project.REPORTS / "pairs.csv"
TEXT = project.REPORTS / "report.md"
PAGE = project.REPORTS / "report.html"

# Figures of their own have the first so many seeds of a row: git keeps them.
PICTURED_SEEDS = 3


def main() -> None:
    """Write the tables, the figures and the text, as Markdown and as one page of HTML."""
    study = params.load()
    seeds, entries = study.train.seeds, study.runs
    runs = {name: [study.run_params(name, seed) for seed in seeds] for name in entries}
    paths = {name: project.grid_run(name, entry.start) for name, entry in entries.items()}
    styles = {
        name: drawing.Run(name, entry.optimizer, entry.weights) for name, entry in entries.items()
    }
    loaded = {name: results.load(paths[name], runs[name]) for name in entries}
    trained = {name: trainings for name, trainings in loaded.items() if trainings}

    table = tables.results(runs, trained)
    kept = tables.keep_calibration(table, tables.earlier(RESULTS_TABLE))
    pairs = tables.pairs(trained)
    for path, frame in (
        (RESULTS_TABLE, table),
        (PAIRS_TABLE, pairs),
        (HISTORY, tables.history(trained)),
    ):
        files.write_text(path, frame.to_csv(index=False, lineterminator="\n"))
    pictured = [(name, of) for name, all_of in trained.items() for of in all_of[:PICTURED_SEEDS]]
    for name, result in pictured:
        run_figures.draw(styles[name], paths[name], result, study.evaluate.mistakes)
    run_figures.remove_all_but(paths[name].figures(result.seed) for name, result in pictured)
    diagnoses = {
        name: files.read_json(paths[name].diagnosis)
        for name in study.diagnose.runs
        if paths[name].diagnosis.is_file()
    }
    asked = study.report.questions
    first = {name: resolved[0] for name, resolved in runs.items()}
    # A study of the published rows at their scale is about these, whatever stands beside them.
    is_own = any(map(published.is_at_scale, first.values()))
    rungs = [] if is_own else ladders.ladders(first)
    # What the study has stands only beside rows on its data, and what it stored only beside rows
    # that are meant to be its own.
    own = published.on_its_data(trained)
    beside_stored = {} if asked or rungs else histories.comparable(own)
    stored = histories.beside(beside_stored)
    sections = [
        shown.heading(study.report.title, runs, table, trained),
        *([claims.answers(asked, trained, diagnoses, seeds)] if asked else []),
        *([claims.effects(entries, trained)] if asked else []),
        *([claims.climbs(rungs, trained)] if rungs else []),
        *([] if asked or rungs or (trained and not own) else [claims.verdicts(own)]),
        claims.diagnoses(diagnoses),
        shown.results(table, trained, styles),
        shown.curves(trained, styles, stored),
        *histories.sections(beside_stored),
        shown.convergence(trained, styles),
        shown.errors(trained, paths),
        shown.calibration(table, kept, trained, styles),
        shown.pairs(pairs),
        shown.networks(trained, paths),
        origins.provenance(runs, trained),
    ]
    text = "\n\n".join(part for section in sections for part in section) + "\n"
    files.write_text(TEXT, text)
    files.write_text(PAGE, page.render(study.report.title, text, project.REPORTS))
    _remove_figures_but(text)
    done = int(table["test_accuracy"].notna().sum())
    print(f"{PAGE}: {done} of {len(table)} runs")


def _remove_figures_but(text: str) -> None:
    """Remove the figures of earlier reports that `text` does not show; DVC leaves them there."""
    linked = set(re.findall(r"\]\(([\w-]+\.png)\)", text))
    # Earlier versions drew them as SVG as well.
    for path in [*project.REPORTS.glob("*.svg"), *project.REPORTS.glob("*.png")]:
        if path.name not in linked:
            path.unlink()
