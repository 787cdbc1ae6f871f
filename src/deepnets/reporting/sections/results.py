"""What the rows came to: numbers beside the study's, curves, mistakes, calibration, tests of pairs.

A section draws its figures into reports/ and returns its Markdown, a part a paragraph, table or
picture; none where there is nothing to say. So in all modules of this folder.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepnets.base import files, project
from deepnets.config.sections import RunParams
from deepnets.records import results as recorded
from deepnets.records import statistics
from deepnets.records.results import TrainingRecord
from deepnets.reporting import (
    accuracies,
    diagrams,
    drawing,
    matrices,
    page,
    published,
    reliability,
    tables,
)
from deepnets.reporting import curves as by_epoch
from deepnets.reporting.comparisons import p_text
from deepnets.reporting.published_histories import History
from deepnets.training import scores

# Of what is known of a run, what fits beside each other in a window of 1,280 pixels, ten columns at
# most: what compares it with the study. results.csv has the rest.
_REPORT_COLUMNS = [
    "run",
    "epochs",
    "test acc",
    "95 % interval",
    "study's test acc",
    "difference",
    "train acc",
    "study's train acc",
    "val acc",
    "note",
]


# Said below every table whose rows are runs.
_REBUILT = "The numbers of a row are rebuilt, and compared to the bit, by `deepnets reproduce RUN`."


# By row, its seeds that have been trained; never none.
Trained = Mapping[str, Sequence[TrainingRecord]]
Styles = Mapping[str, drawing.Run]


def heading(
    title: str, runs: Mapping[str, Sequence[RunParams]], table: pd.DataFrame, trained: Trained
) -> list[str]:
    done = table[table["test_accuracy"].notna()]
    missing = table[table["test_accuracy"].isna()]["run"].tolist()
    parts = [
        f"# {page.escape_markdown(title)}",
        f"{len(done)} of {len(table)} runs are finished."
        + (f" Not run yet: {', '.join(missing)}." if missing else ""),
    ]
    meant = [runs[name][0] for name in published.rows_beside(runs, trained)]
    scales = sorted({run.train_images or published.TRAIN_IMAGES for run in meant})
    epochs = sorted({run.epochs for run in meant})
    if meant and (scales[0] < published.TRAIN_IMAGES or epochs[0] < published.EPOCHS):
        parts.append(
            f"> **Reduced scale.** These runs train on {' or '.join(f'{n:,}' for n in scales)} "
            f"images for {' or '.join(map(str, epochs))} epochs; the study trained on "
            f"{published.TRAIN_IMAGES:,} for {published.EPOCHS} (one row "
            f"{published.LONG_EPOCHS}). Their numbers stand beside the study's to show the form of "
            "the report: the differences say nothing about whether the study reproduces."
        )
    noted = table[(table["state"] != "") & (table["state"] != "not run")]
    odd = [f"{row['run']}: {row['state']}" for row in noted.to_dict("records")]
    if odd:
        parts.append(f"**Mind these rows:** {'; '.join(odd)}.")
    return parts


def results(table: pd.DataFrame, trained: Trained, styles: Styles) -> list[str]:
    if table["seeds"].sum() == 0:
        return []
    accuracies.comparison(_accuracy_rows(table, trained, styles), project.REPORTS / "comparison")
    parts = ["## Results"]
    for arch in map(str, dict.fromkeys(table["arch"])):
        rows = table[table["arch"] == arch]
        parts += [
            f"### {published.network(arch)}",
            tables.markdown(tables.round_columns(rows, _REPORT_COLUMNS)),
        ]
        commands = ", ".join(f"`{command}`" for command in rows["rebuilt_by"] if command)
        parts += [f"Rebuilt, and compared to the bit, by {commands}."] if commands else []
    beside = difference = ""
    if table["study_test_accuracy"].notna().any():
        beside = ", beside the study's"
        difference = "The difference is our test accuracy less the study's, in percentage points. "
    return [
        *parts,
        "Train: over the last epoch, with the row's dropout and augmentation. Validation and "
        f"test: the model after the last epoch{_best_epoch_exception(trained)}. {difference}± is "
        "the standard deviation over seeds, where there are several. `results.csv` has every row "
        "unrounded, and beside these columns the losses, the epoch that validated best, the "
        "seconds an epoch (median, validation not counted), the parameters and the command that "
        "rebuilds the row. Every number comes from `metrics/RUN/`.",
        *_best_epochs(trained),
        f"![Test accuracy of every run, with its interval{beside}](comparison.png)",
    ]


def _best_epoch_exception(trained: Trained) -> str:
    """The exception that the text makes for rows whose results are those of the best epoch."""
    keeps_best = any(result.keep == "best" for seeds in trained.values() for result in seeds)
    return "; of rows that keep the best epoch's model all are of that epoch" if keeps_best else ""


def _best_epochs(trained: Trained) -> list[str]:
    """Of rows that keep the model of their best epoch: whose the results are, and what it is."""
    lines = []
    for name, seeds in trained.items():
        for result in seeds:
            if result.keep == "last" or not result.history:
                continue
            said = f"- {name}, seed {result.seed}: the results are those of "
            said += f"{recorded.which_epoch(result.history, result.keep)}"
            if result.test and "best_accuracy" in result.test:
                said += (
                    f" (test accuracy {result.test['accuracy']:.4f}); beside it stands "
                    f"{recorded.which_epoch(result.history, result.keep, best=True)} "
                    f"({result.test['best_accuracy']:.4f})"
                )
            lines.append(f"{said}.")
    if not lines:
        return []
    return ["These rows keep the model of their best epoch (`keep`):", "\n".join(lines)]


def curves(trained: Trained, styles: Styles, stored: Sequence[History]) -> list[str]:
    if not trained:
        return []
    panels: dict[str, dict[drawing.Run, list[by_epoch.SeedCurve]]] = {}
    for name, seeds in trained.items():
        panel = panels.setdefault(published.network(seeds[0].params.arch), {})
        panel[styles[name]] = [by_epoch.SeedCurve(seed.history, seed.outcome) for seed in seeds]
    studys: dict[str, dict[str, by_epoch.SeedCurve]] = {}
    for history in stored:
        named = studys.setdefault(published.network(history.arch), {})
        named[f"the study's {history.file}"] = by_epoch.SeedCurve(history.rows)
    by_epoch.learning_curves(panels, project.REPORTS / "curves", studys)
    return [
        "## Learning curves",
        "Drawn as the study's figures 5 to 8, both networks on the same axes."
        + (" The thin black lines are the study's own, from the files below." if stored else ""),
        "![Accuracy and loss by epoch, a column a network](curves.png)",
    ]


def seed_curves(trained: Trained) -> list[str]:
    """Curves of a study with many rows and seeds."""
    if not trained:
        return []
    by_epoch.seed_curves(
        {name: [result.history for result in seeds] for name, seeds in trained.items()},
        project.REPORTS / "learning",
    )
    return [
        "## Learning curves",
        "A panel a row, a line a seed.",
        "![Validation accuracy by epoch, a panel a row](learning.png)",
    ]


def convergence(trained: Trained, styles: Styles) -> list[str]:
    if not trained:
        return []
    reached = {
        name: {
            level: [statistics.epochs_to(seed.history, level) for seed in seeds]
            for level in tables.LEVELS
        }
        for name, seeds in trained.items()
    }
    drawn = {styles[name]: levels for name, levels in reached.items()}
    accuracies.convergence(drawn, project.REPORTS / "convergence")
    rows = [
        {"run": name}
        | {
            f"{100 * level:g} %": ", ".join("never" if e is None else str(e) for e in epochs)
            for level, epochs in levels.items()
        }
        for name, levels in reached.items()
    ]
    return [
        "## Convergence",
        "The first epoch with at least this validation accuracy, one number a seed.",
        tables.markdown(pd.DataFrame(rows)),
        _REBUILT,
        "![Epochs to a validation accuracy](convergence.png)",
    ]


def errors(trained: Trained, paths: Mapping[str, project.RunFiles]) -> list[str]:
    counts: dict[str, NDArray[np.int64]] = {}
    first: dict[str, int] = {}
    for name, seeds in trained.items():
        for result in seeds:
            if result.labels is not None and result.predicted is not None:
                matrix = scores.confusion_matrix(result.labels, result.predicted)
                counts[name] = counts.get(name, 0) + matrix
                first.setdefault(name, result.seed)
    if not counts:
        return []
    matrices.grid_confusion(counts, project.REPORTS / "confusion")
    matrices.class_accuracy(counts, project.REPORTS / "class_accuracy")
    parts = [
        "## Where they err",
        "Test images of all seeds together; the diagonal, what is right, is left blank.",
        "![Confusion matrices](confusion.png)",
        "![Accuracy by digit](class_accuracy.png)",
        "### The most confident mistakes",
        "True digit, predicted digit, and the probability that the network gave it.",
    ]
    for name, seed in first.items():
        picture = paths[name].figures(seed) / "mistakes.png"
        if picture.is_file():
            relative = picture.relative_to(project.REPORTS).as_posix()
            parts.append(f"![{name}, seed {seed}]({relative})")
    return parts


def calibration(
    table: pd.DataFrame, kept: Sequence[str], trained: Trained, styles: Styles
) -> list[str]:
    known = {
        name: list(filter(None, map(tables.calibration, seeds))) for name, seeds in trained.items()
    }
    shown = {styles[name]: calibrations[0] for name, calibrations in known.items() if calibrations}
    if shown:
        reliability.reliability(shown, project.REPORTS / "reliability")
    tested = table[table["test_accuracy"].notna()]
    if not len(tested):
        return []
    done = tested[tested["ece"].notna()]
    lacking = tested[tested["ece"].isna()]["run"].tolist()
    missing = (
        [f"Their probabilities are not at hand here: {', '.join(lacking)}."] if lacking else []
    )
    if kept:
        missing.append(
            "The probabilities of these rows are not at hand here, and their ECE is that of an "
            f"earlier report on the same tests: {', '.join(kept)}. "
            + ("So is the figure." if len(kept) == len(done) else "The figure lacks them.")
        )
    if not len(done):
        return ["## Calibration", *missing, _REBUILT]
    drawn = project.REPORTS / "reliability.png"
    errors = pd.DataFrame(
        {
            "run": done["run"],
            "ECE": [tables.number(m, d) for m, d in zip(done["ece"], done["ece_sd"], strict=True)],
        }
    )
    return [
        "## Calibration",
        "How often a network is right when it says that it is this sure. ECE is the expected "
        "calibration error over 15 bins of equal width (Guo et al. 2017).",
        tables.markdown(errors),
        *missing,
        _REBUILT,
        *([f"![Reliability diagrams]({drawn.name})"] if drawn.is_file() else []),
    ]


def pairs(pairs: pd.DataFrame) -> list[str]:
    if not len(pairs):
        return []
    shown = pairs.assign(p=pairs["p"].map(p_text))
    shown["shown by"] = pairs["shown by"].map("`{}`".format)
    return [
        "## Paired tests",
        "McNemar's exact test on the same test images: those that only one of the two gets right. "
        "It tells two trained networks apart; whether their optimizers or weights made the "
        "difference takes several seeds.",
        tables.markdown(shown),
        "The images themselves are shown by the command of a row.",
    ]


def networks(trained: Trained, paths: Mapping[str, project.RunFiles]) -> list[str]:
    """Each architecture is drawn from the layers of a model that was trained."""
    parts: list[str] = []
    drawn: set[str] = set()
    for name, seeds in trained.items():
        arch = seeds[0].params.arch
        if arch in drawn or not paths[name].architecture.is_file():
            continue
        drawn.add(arch)
        layers, title = files.read_json(paths[name].architecture), published.network(arch)
        stem = project.REPORTS / f"architecture-{arch}"
        drawing.save(diagrams.network(layers, title), stem)
        top = diagrams.modified_top(layers, f"The top on {title}")
        drawing.save(top, project.REPORTS / f"top-{arch}")
        count = seeds[0].provenance["parameter_count"]
        parts += [
            f"### {title}",
            f"{count['total']:,} parameters, {count['non_trainable']:,} of them not trained.",
            f"![The backbone of {title}]({stem.name}.png)",
            f"![The top on {title}](top-{arch}.png)",
        ]
    if not parts:
        return []
    return [
        "## The networks",
        "The study's figures 1 to 4, drawn from the layers of the models that were trained.",
        *parts,
    ]


def _accuracy_rows(
    table: pd.DataFrame, trained: Trained, styles: Styles
) -> dict[drawing.Run, accuracies.AccuracyRow]:
    """The test accuracies of rows that were tested, or that the study has one of."""
    rows = {}
    for row in table.to_dict("records"):
        seeds = [s.test["accuracy"] for s in trained.get(row["run"], []) if s.test is not None]
        study = None if pd.isna(row["study_test_accuracy"]) else row["study_test_accuracy"]
        if seeds or study is not None:
            rows[styles[row["run"]]] = accuracies.AccuracyRow(
                seeds=seeds if len(seeds) > 1 else [],
                accuracy=row["test_accuracy"] if seeds else None,
                interval=(row["test_low"], row["test_high"]) if seeds else None,
                study=study,
            )
    return rows
