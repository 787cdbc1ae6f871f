"""Put the runs that params.yaml names side by side, next to what the study published.

Works with whatever runs are there, and says which are missing.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepnets.base import files, project
from deepnets.config import params
from deepnets.config.sections import Pair, Question, RunEntry, RunParams
from deepnets.records import results, statistics
from deepnets.records.results import Result
from deepnets.reporting import (
    diagrams,
    evidence,
    figures,
    histories,
    ladders,
    page,
    published,
    questions,
    run_figures,
    tables,
    verdicts,
)
from deepnets.reporting.comparisons import p_text
from deepnets.reporting.published_histories import History
from deepnets.training import scores

HISTORY = project.REPORTS / "history.csv"
RESULTS_TABLE = project.REPORTS / "results.csv"
PAIRS_TABLE = project.REPORTS / "pairs.csv"
TEXT = project.REPORTS / "report.md"
PAGE = project.REPORTS / "report.html"


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
# And in a terminal.
_TERMINAL_COLUMNS = ["run", "epochs", "train acc", "val acc", "test acc", "s/epoch", "note"]

# Said below every table whose rows are runs.
_REBUILT = "The numbers of a row are rebuilt, and compared to the bit, by `deepnets reproduce RUN`."

Found = Mapping[str, Sequence[Result]]


def main() -> None:
    """Write the tables, the figures and the text, as Markdown and as one page of HTML."""
    study = params.load()
    seeds = study.train.seeds
    runs = {name: [study.run_params(name, seed) for seed in seeds] for name in study.runs}
    paths = {name: project.grid_run(name, entry.start) for name, entry in study.runs.items()}
    every = {name: results.load(paths[name], runs[name]) for name in study.runs}
    found = {name: of for name, of in every.items() if of}

    table = tables.results(runs, found)
    kept = tables.keep_calibration(table, _earlier(RESULTS_TABLE))
    pairs = tables.pairs(found)
    for path, frame in (
        (RESULTS_TABLE, table),
        (PAIRS_TABLE, pairs),
        (HISTORY, tables.history(found)),
    ):
        files.write_text(path, frame.to_csv(index=False, lineterminator="\n"))
    diagnoses = {
        name: files.read_json(paths[name].diagnosis)
        for name in study.diagnose.runs
        if paths[name].diagnosis.is_file()
    }
    asked = study.report.questions
    first = {name: of[0] for name, of in runs.items()}
    # A study of the published rows at their scale is about these, whatever stands beside them.
    is_own = any(map(published.is_at_scale, first.values()))
    rungs = [] if is_own else ladders.ladders(first)
    # What the study stored stands only beside rows that are meant to be its own.
    beside_stored = {} if asked or rungs else histories.comparable(found)
    stored = histories.beside(beside_stored)
    _draw(study.runs, table, found, stored)
    _draw_each(study, found, paths)
    architectures = _draw_architectures(study.runs, paths)
    sections = [
        _heading(study.report.title, runs, table),
        *([_answers(asked, found, diagnoses, seeds), _effects(study.runs, found)] if asked else []),
        *([_climbs(rungs, found)] if rungs else []),
        *([] if asked or rungs else [_verdicts(found)]),
        _diagnoses(diagnoses),
        _results(table),
        _curves(found, stored),
        *histories.sections(beside_stored),
        _convergence(found),
        _errors(found, paths),
        _calibration(table, kept),
        _pairs(pairs),
        _architectures(architectures, found),
        _provenance(runs, found),
    ]
    text = "\n\n".join(part for section in sections for part in section) + "\n"
    files.write_text(TEXT, text)
    files.write_text(PAGE, page.render(study.report.title, text, project.REPORTS))
    _remove_figures_but(text)
    done = int(table["test_accuracy"].notna().sum())
    print(f"{PAGE}: {done} of {len(table)} runs")


def _remove_figures_but(text: str) -> None:
    """Remove the figures of earlier reports that `text` does not show; DVC leaves them there."""
    shown = set(re.findall(r"\]\(([\w-]+\.png)\)", text))
    # Earlier versions drew them as SVG as well.
    for path in [*project.REPORTS.glob("*.svg"), *project.REPORTS.glob("*.png")]:
        if path.name not in shown:
            path.unlink()


def terminal_table(path: Path) -> str:
    """The result table at `path` for a terminal, and the names of the runs that are missing."""
    table = pd.read_csv(path)
    table["state"] = table["state"].fillna("")
    done = table[table["test_accuracy"].notna()]
    missing = table[table["test_accuracy"].isna()]["run"].tolist()
    lines = [_markdown(_results_shown(done, _TERMINAL_COLUMNS))] if len(done) else []
    if missing:
        lines.append(f"not run yet: {', '.join(missing)}")
    return "\n".join(lines)


def _heading(title: str, runs: Mapping[str, Sequence[RunParams]], table: pd.DataFrame) -> list[str]:
    done = table[table["test_accuracy"].notna()]
    missing = table[table["test_accuracy"].isna()]["run"].tolist()
    parts = [
        f"# {page.literal(title)}",
        f"{len(done)} of {len(table)} runs are finished."
        + (f" Not run yet: {', '.join(missing)}." if missing else ""),
    ]
    meant = [of[0] for of in runs.values() if published.of(of[0])]
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


def _verdicts(found: Found) -> list[str]:
    rows = [
        {
            "": number,
            "claim": of.claim,
            "verdict": f"**{of.verdict}** {of.scope}".rstrip(),
            "evidence": of.evidence,
        }
        for number, of in enumerate(verdicts.judge(found), start=1)
    ]
    return [
        "## The study's claims",
        _markdown(pd.DataFrame(rows)),
        "Rebuilt by `deepnets report` from the runs, and these by `deepnets reproduce RUN`. The "
        f"rules, fixed on {verdicts.FIXED}, before the runs:",
        "\n".join(f"- {rule}" for rule in verdicts.RULES),
        verdicts.SCOPE,
    ]


def _answers(
    asked: Sequence[Question],
    found: Found,
    diagnoses: Mapping[str, dict[str, Any]],
    seeds: Sequence[int],
) -> list[str]:
    parts = ["## The questions"]
    for question in asked:
        of = questions.answer(question, found, diagnoses, seeds)
        parts += [
            f"### {page.literal(of.question)}",
            f"**{of.word.capitalize()}.** {of.numbers} {page.literal(of.mechanism)}".rstrip(),
        ]
        shown = ", ".join(f"`deepnets diff {pair.row} {pair.than}`" for pair in of.pairs)
        if shown:
            looked = [diagnoses[row] for row in question.diagnosed if row in diagnoses]
            names = ["effects.png"]
            names += ["flow.png"] if looked else []
            names += ["norms.png"] if any(map(_has_norms, looked)) else []
            parts.append(f"Figures: {', '.join(names)}. The first seed image by image: {shown}.")
    return [
        *parts,
        "### By which rules",
        "Rebuilt by `deepnets report` from the runs, and these by `deepnets reproduce RUN`. The "
        "rules, fixed before the runs:",
        "\n".join(f"- {rule}" for rule in questions.RULES),
    ]


def _effects(entries: Mapping[str, RunEntry], found: Found) -> list[str]:
    """A factor at a time: every row beside the one that it was made of."""
    rows: list[dict[str, Any]] = []
    panels: dict[str, list[evidence.Effect]] = {}
    learned = {}

    def histories(name: str) -> list[Any]:
        return [of.history for of in found.get(name, [])]

    for name, entry in entries.items():
        before = questions.parent(name, entries)
        if name in found:
            learned[name] = (histories(name), histories(before) if before else [])
        if before is None:
            continue
        compared = questions.compare(Pair(row=name, than=before), found)
        if compared is None:
            continue
        changed = questions.changes(entry, entries[before])
        change = ", ".join(
            f"{key} {'as shared' if value is None else value}" for key, value in changed.items()
        )
        interval = questions.interval(compared)
        mean = float(np.mean(compared.differences))
        panels.setdefault(published.NETWORKS[entry.arch], []).append(
            evidence.Effect(name, change, compared.differences, interval)
        )
        rows.append(
            {
                "row": name,
                "made of": before,
                "by": change,
                "test acc": f"{compared.accuracy_a:.4f}",
                "points more": questions.points([mean]),
                "95 % interval": questions.points(interval or []),
                "ahead with": f"{compared.seeds_ahead} of {len(compared.seeds)} seeds",
                "p": p_text(compared.p_value),
                "shown by": f"`deepnets diff {name} {before}`",
            }
        )
    if not rows:
        return []
    evidence.effects(panels, project.REPORTS / "effects")
    evidence.learning(learned, project.REPORTS / "learning")
    return [
        "## A factor at a time",
        _markdown(pd.DataFrame(rows)),
        "Paired by seed: both rows start from the same weights wherever they have the same layers "
        "and `weights`, and see the same images in the same order where they have equally many. "
        "The interval is Student's, of the mean difference over the seeds, where all of them have "
        "learned; p is McNemar's, of the same test images.",
        "![Test accuracy that each row gains on the one that it was made of](effects.png)",
        "![Validation accuracy by epoch, a panel a row](learning.png)",
    ]


def _climbs(rungs: Sequence[Sequence[str]], found: Found) -> list[str]:
    """The fewest epochs above the study's best results, a row a network and result."""
    climbed = [climbs for names in rungs if (climbs := ladders.climb(names, found))]
    if not climbed:
        return []
    panels = [(published.NETWORKS[climbs[0].arch], climbs) for climbs in climbed]
    evidence.climbs(panels, project.REPORTS / "climbs")
    return [
        "## The fewest epochs that beat the study",
        _markdown(pd.DataFrame([_climb_row(of) for climbs in climbed for of in climbs])),
        "Rebuilt by `deepnets report` from the runs, and these by `deepnets reproduce RUN`. The "
        "rules, fixed before the runs:",
        "\n".join(f"- {rule}" for rule in ladders.RULES),
        "![Validation accuracy by epochs, and the test accuracy of what it chose](climbs.png)",
    ]


def _climb_row(climb: ladders.Climb) -> dict[str, Any]:
    epochs = ", ".join(str(rung.epochs) for rung in climb.rungs)
    rung = climb.chosen
    row = {
        "network": published.NETWORKS[climb.arch],
        "study's best test acc": f"{climb.goal:.4f}, from {published.WEIGHTS[climb.weights]}",
        "epochs tried": epochs,
        "fewest above": str(rung.epochs) if rung else "none",
        "row": rung.row if rung else "",
        "val acc": ", ".join(f"{of:.4f}" for of in rung.validation) if rung else "",
        "test acc": "",
        "95 % interval": "",
        "beats the study's": "not decided" if rung else "",
    }
    if rung and rung.test is not None and rung.interval is not None:
        row |= {
            "test acc": f"{rung.test:.4f}",
            "95 % interval": f"{rung.interval[0]:.4f} to {rung.interval[1]:.4f}",
            "beats the study's": "yes" if rung.test > climb.goal else "no",
        }
    return row


def _diagnoses(diagnoses: Mapping[str, dict[str, Any]]) -> list[str]:
    if not diagnoses:
        return []
    evidence.flow(diagnoses, project.REPORTS / "flow")
    parts = [
        "## What flows through the layers",
        "Root mean squares of activations and gradients in each layer, on the first "
        f"{next(iter(diagnoses.values()))['images']} validation images, dropout and augmentation "
        "off: where the training starts, after its first steps, and where it ends. First seed; "
        "rebuilt by `deepnets diagnose RUN`.",
        "![Activations and gradients by layer](flow.png)",
    ]
    normalised = {name: of for name, of in diagnoses.items() if _has_norms(of)}
    if normalised:
        evidence.norms(normalised, project.REPORTS / "norms")
        parts += [
            "Batch normalisation trains with the statistics of each batch and predicts with moving "
            "averages of them. Where these lag behind, a network that has learned guesses.",
            "![Moving averages against the batch, by layer](norms.png)",
        ]
    return parts


def _has_norms(diagnosis: Mapping[str, Any]) -> bool:
    return any(of["batch_norms"] for of in diagnosis["moments"].values())


def _results(table: pd.DataFrame) -> list[str]:
    if table["seeds"].sum() == 0:
        return []
    parts = ["## Results"]
    for arch in map(str, dict.fromkeys(table["arch"])):
        rows = table[table["arch"] == arch]
        parts += [
            f"### {published.NETWORKS[arch]}",
            _markdown(_results_shown(rows, _REPORT_COLUMNS)),
        ]
        commands = ", ".join(f"`{command}`" for command in rows["rebuilt_by"] if command)
        parts += [f"Rebuilt, and compared to the bit, by {commands}."] if commands else []
    return [
        *parts,
        "Train: the last epoch, dropout and augmentation on, as in the study. Validation and "
        "test: the model after the last epoch. The difference is our test accuracy less the "
        "study's, in percentage points. ± is the standard deviation over seeds, where there are "
        f"several. `{RESULTS_TABLE.name}` has every row unrounded, and beside these columns the "
        "losses, the epoch that validated best, the seconds an epoch (median, validation not "
        "counted), the parameters and the command that rebuilds the row. Every number comes from "
        "`metrics/RUN/`.",
        "![Test accuracy of every run, with its interval, beside the study's](comparison.png)",
    ]


def _results_shown(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The columns `names`, rounded for people; those that hold nothing are left out."""
    shown = pd.DataFrame({"run": table["run"], "epochs": table["epochs"], "note": table["state"]})
    for key, name in (
        ("test_accuracy", "test acc"),
        ("accuracy", "train acc"),
        ("val_accuracy", "val acc"),
    ):
        shown[name] = [
            _number(mean, deviation)
            for mean, deviation in zip(table[key], table[f"{key}_sd"], strict=True)
        ]
        if f"study_{key}" in table:
            shown[f"study's {name}"] = table[f"study_{key}"].map(_number)
    shown["95 % interval"] = [
        "" if pd.isna(low) else f"{low:.4f} to {high:.4f}"
        for low, high in zip(table["test_low"], table["test_high"], strict=True)
    ]
    shown["difference"] = (table["test_accuracy"] - table["study_test_accuracy"]).map(
        lambda value: "" if pd.isna(value) else f"{100 * value:+.2f}"
    )
    shown["s/epoch"] = table["seconds"].map(lambda v: "" if pd.isna(v) else f"{v:.0f}")
    return shown[[name for name in names if (shown[name] != "").any()]]


def _curves(found: Found, stored: Sequence[History]) -> list[str]:
    if not found:
        return []
    return [
        "## Learning curves",
        "Drawn as the study's figures 5 to 8, both networks on the same axes."
        + (" The thin black lines are the study's own, from the files below." if stored else ""),
        "![Accuracy and loss by epoch, a column a network](curves.png)",
    ]


def _convergence(found: Found) -> list[str]:
    if not found:
        return []
    rows = []
    for name, seeds in found.items():
        row: dict[str, Any] = {"run": name}
        for level in tables.LEVELS:
            epochs = [statistics.epochs_to(of.history, level) for of in seeds]
            row[f"{100 * level:g} %"] = ", ".join("never" if e is None else str(e) for e in epochs)
        rows.append(row)
    return [
        "## Convergence",
        "The first epoch with at least this validation accuracy, one number a seed.",
        _markdown(pd.DataFrame(rows)),
        _REBUILT,
        "![Epochs to a validation accuracy](convergence.png)",
    ]


def _errors(found: Found, paths: Mapping[str, project.RunFiles]) -> list[str]:
    tested = {name: [of for of in seeds if of.labels is not None] for name, seeds in found.items()}
    tested = {name: seeds for name, seeds in tested.items() if seeds}
    if not tested:
        return []
    parts = [
        "## Where they err",
        "Test images of all seeds together; the diagonal, what is right, is left blank.",
        "![Confusion matrices](confusion.png)",
        "![Accuracy by digit](class_accuracy.png)",
        "### The most confident mistakes",
        "True digit, predicted digit, and the probability that the network gave it.",
    ]
    for name, seeds in tested.items():
        picture = paths[name].figures(seeds[0].seed) / "mistakes.png"
        if picture.is_file():
            relative = picture.relative_to(project.REPORTS).as_posix()
            parts.append(f"![{name}, seed {seeds[0].seed}]({relative})")
    return parts


def _earlier(path: Path) -> pd.DataFrame:
    """The table of results of the report before this one; an empty one where there is none."""
    try:
        return pd.read_csv(path)
    except (OSError, ValueError):
        return pd.DataFrame()


def _calibration(table: pd.DataFrame, kept: Sequence[str]) -> list[str]:
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
            "ECE": [_number(m, d) for m, d in zip(done["ece"], done["ece_sd"], strict=True)],
        }
    )
    return [
        "## Calibration",
        "How often a network is right when it says that it is this sure. ECE is the expected "
        "calibration error over 15 bins of equal width (Guo et al. 2017).",
        _markdown(errors),
        *missing,
        _REBUILT,
        *([f"![Reliability diagrams]({drawn.name})"] if drawn.is_file() else []),
    ]


def _pairs(pairs: pd.DataFrame) -> list[str]:
    if not len(pairs):
        return []
    shown = pairs.assign(p=pairs["p"].map(p_text))
    shown["shown by"] = pairs["shown by"].map("`{}`".format)
    return [
        "## Paired tests",
        "McNemar's exact test on the same test images: those that only one of the two gets right. "
        "It tells two trained networks apart; whether their optimizers or weights made the "
        "difference takes several seeds.",
        _markdown(shown),
        "The images themselves are shown by the command of a row.",
    ]


def _architectures(architectures: Sequence[str], found: Found) -> list[str]:
    parts = []
    for arch in architectures:
        result = next((s[0] for s in found.values() if s and s[0].params.arch == arch), None)
        if result is None:
            continue
        count = result.provenance["parameter_count"]
        parts += [
            f"### {published.NETWORKS[arch]}",
            f"{count['total']:,} parameters, {count['non_trainable']:,} of them not trained.",
            f"![The backbone of {published.NETWORKS[arch]}](architecture-{arch}.png)",
            f"![The top on {published.NETWORKS[arch]}](top-{arch}.png)",
        ]
    if not parts:
        return []
    return [
        "## The networks",
        "The study's figures 1 to 4, drawn from the layers of the models that were trained.",
        *parts,
    ]


def _provenance(runs: Mapping[str, Sequence[RunParams]], found: Found) -> list[str]:
    """Exactly how the numbers were made; what differs between runs is listed for each value."""
    parts = ["## How this was made", *_settings(runs)]
    trained = [result for of in found.values() for result in of]
    if trained:
        rows = [
            {"": label, "value": _by_value(trained, value)}
            for label, value in _PROVENANCE.items()
            if any(value(result) for result in trained)
        ]
        parts.append(_markdown(pd.DataFrame(rows)))
    weights = {result.params.weights for result in trained}
    if "imagenet" not in weights and any(of[0].weights == "imagenet" for of in runs.values()):
        parts.append(
            "The rows from ImageNet weights were not run for this report. Their path is tested "
            "with stand-in files of the published format, whose digests are pinned for the test."
        )
    parts.append(
        "In the folder of this study, `deepnets reproduce RUN` trains a row again with the code of "
        "its commit and compares it to the bit, `deepnets diff RUN_A RUN_B` puts two side by side, "
        "and `dvc repro` makes all of them and this report anew."
    )
    return parts


def _settings(runs: Mapping[str, Sequence[RunParams]]) -> list[str]:
    """The settings of all runs, the usual ones, and in a table what each run has of its own.

    A setting that a run lacks, as one optimizer lacks another's, is not a usual one: the run's row
    could not say so.
    """
    seeds = ", ".join(str(run.seed) for run in next(iter(runs.values())))
    settings = {
        name: {k: v for k, v in of[0].flat.items() if k != "seed"} for name, of in runs.items()
    }
    values: dict[str, list[Any]] = {}
    for of in settings.values():
        for key, value in of.items():
            values.setdefault(key, []).append(value)
    usual = {k: Counter(v).most_common(1)[0][0] for k, v in values.items() if len(v) == len(runs)}
    every = {k: v for k, v in usual.items() if set(values[k]) == {v}}
    own = {
        name: {k: v for k, v in of.items() if k not in usual or v != usual[k]}
        for name, of in settings.items()
    }
    parts = [f"Seeds: {seeds}. Every run: {_pairs_of(every)}."]
    if len(every) < len(usual):
        rest = {k: v for k, v in usual.items() if k not in every}
        parts.append(f"Unless its row says otherwise: {_pairs_of(rest)}.")
    if any(own.values()):
        rows = [{"run": name, "its own": _pairs_of(of)} for name, of in own.items()]
        parts.append(_markdown(pd.DataFrame(rows)))
    return parts


_CHANGED = {True: "yes", False: "no", None: "not known"}
_PROVENANCE: dict[str, Callable[[Result], Any]] = {
    "commit": lambda r: r.provenance["git"]["commit"],
    "uncommitted changes": lambda r: _CHANGED[r.provenance["git"]["dirty"]],
    "training images": lambda r: f"{r.provenance['images']['train']:,}",
    "validation images": lambda r: f"{r.provenance['images']['validation']:,}",
    "test images": lambda r: f"{r.provenance['images']['test']:,}",
    "training data, sha256": lambda r: r.provenance["data"]["train"][:16],
    "validation data, sha256": lambda r: r.provenance["data"]["validation"][:16],
    "test data, sha256": lambda r: r.provenance["test_data"][:16],
    "starting weights, sha256": lambda r: r.provenance["start"][:16],
    "processor": lambda r: r.provenance["environment"]["hardware"]["cpu"],
    "cores": lambda r: r.provenance["environment"]["hardware"]["cores"],
    "accelerators": lambda r: ", ".join(r.provenance["environment"]["hardware"]["devices"]),
    "system": lambda r: r.provenance["environment"]["hardware"]["platform"],
    "versions": lambda r: _pairs_of(r.provenance["environment"]["versions"]),
    "settings": lambda r: _pairs_of(r.provenance["environment"]["settings"]),
}


def _pairs_of(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _by_value(trained: Sequence[Result], value: Callable[[Result], Any]) -> str:
    """The value that all runs share, or each value with the runs that have it."""
    holders: dict[str, dict[str, list[int]]] = {}
    seeds: dict[str, list[int]] = {}
    for result in trained:
        seeds.setdefault(result.run, []).append(result.seed)
        holders.setdefault(str(value(result)), {}).setdefault(result.run, []).append(result.seed)
    if len(holders) == 1:
        return next(iter(holders))

    def named(run: str, some: list[int]) -> str:
        return run if some == seeds[run] else f"{run} seed {' and '.join(map(str, some))}"

    return "; ".join(
        f"{text} ({', '.join(named(run, some) for run, some in of.items())})"
        for text, of in holders.items()
    )


def _draw(
    entries: Mapping[str, RunEntry],
    table: pd.DataFrame,
    found: Found,
    stored: Sequence[History],
) -> None:
    """Draw every figure that the finished runs allow, with what the study `stored` in it."""
    styles = {
        name: figures.Run(name, entry.optimizer, entry.weights) for name, entry in entries.items()
    }
    if not found:
        return
    panels: dict[str, dict[figures.Run, list[figures.Training]]] = {}
    for name, seeds in found.items():
        panels.setdefault(published.NETWORKS[entries[name].arch], {})[styles[name]] = [
            figures.Training(of.history, of.outcome) for of in seeds
        ]
    _draw_curves(panels, stored, project.REPORTS / "curves")
    figures.convergence(
        {
            styles[name]: {
                level: [statistics.epochs_to(of.history, level) for of in seeds]
                for level in tables.LEVELS
            }
            for name, seeds in found.items()
        },
        project.REPORTS / "convergence",
    )
    compared = {}
    for row in table.to_dict("records"):
        tested = [of.test["accuracy"] for of in found.get(row["run"], []) if of.test is not None]
        study = row["study_test_accuracy"]
        if not tested and pd.isna(study):
            continue
        compared[styles[row["run"]]] = figures.Comparison(
            seeds=tested if len(tested) > 1 else [],
            accuracy=row["test_accuracy"] if tested else None,
            interval=(row["test_low"], row["test_high"]) if tested else None,
            study=None if pd.isna(study) else study,
        )
    figures.comparison(compared, project.REPORTS / "comparison")
    _draw_predictions(styles, found)


def _draw_each(study: params.Params, found: Found, paths: Mapping[str, project.RunFiles]) -> None:
    """Draw every training by itself."""
    for name, seeds in found.items():
        entry = study.runs[name]
        style = figures.Run(name, entry.optimizer, entry.weights)
        for result in seeds:
            run_figures.draw(entry.arch, style, paths[name], result, study.evaluate.mistakes)
    run_figures.remove_all_but(
        paths[name].figures(result.seed) for name, seeds in found.items() for result in seeds
    )


def _draw_curves(
    panels: Mapping[str, Mapping[figures.Run, Sequence[figures.Training]]],
    stored: Sequence[History],
    stem: Path,
) -> None:
    studys: dict[str, dict[str, figures.Training]] = {}
    for of in stored:
        named = studys.setdefault(published.NETWORKS[of.arch], {})
        named[f"the study's {of.file}"] = figures.Training(of.rows)
    figures.learning_curves(panels, stem, studys)


def _draw_predictions(styles: Mapping[str, figures.Run], found: Found) -> None:
    matrices: dict[str, NDArray[np.int64]] = {}
    calibrations: dict[figures.Run, figures.Calibration] = {}
    for name, seeds in found.items():
        counts = [
            scores.confusion_matrix(of.labels, of.predicted)
            for of in seeds
            if of.labels is not None and of.predicted is not None
        ]
        if counts:
            matrices[name] = np.sum(counts, axis=0)
        calibrated = next(
            (kept for of in seeds if (kept := tables.calibration(of)) is not None),
            None,
        )
        if calibrated is not None:
            calibrations[styles[name]] = figures.Calibration(*calibrated)
    if matrices:
        figures.grid_confusion(matrices, project.REPORTS / "confusion")
        figures.class_accuracy(matrices, project.REPORTS / "class_accuracy")
    if calibrations:
        figures.reliability(calibrations, project.REPORTS / "reliability")


def _draw_architectures(
    entries: Mapping[str, RunEntry], paths: Mapping[str, project.RunFiles]
) -> list[str]:
    """Draw each architecture from the layers of a model that was trained; returns which."""
    drawn: list[str] = []
    for name, entry in entries.items():
        if entry.arch in drawn or not paths[name].architecture.is_file():
            continue
        layers = files.read_json(paths[name].architecture)
        title = published.NETWORKS[entry.arch]
        figures.save(
            diagrams.network(layers, title), project.REPORTS / f"architecture-{entry.arch}"
        )
        figures.save(
            diagrams.modified_top(layers, f"The top on {title}"),
            project.REPORTS / f"top-{entry.arch}",
        )
        drawn.append(entry.arch)
    return drawn


def _number(mean: float, deviation: float = float("nan")) -> str:
    if pd.isna(mean):
        return ""
    return f"{mean:.4f}" if pd.isna(deviation) else f"{mean:.4f} ± {deviation:.4f}"


def _markdown(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True)
