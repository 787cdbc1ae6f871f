"""Two trainings side by side, in the terminal and as a figure: inputs, curves, predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from deepnets.base import project
from deepnets.commands import find
from deepnets.records import differences
from deepnets.records.differences import Outcome
from deepnets.records.results import TrainingRecord
from deepnets.reporting import curves, run_figures, sheets

# Where figures go, below the folder at hand.
FOLDER = Path("diffs")

# Of the images that two runs disagree on, those that are listed and drawn.
_LISTED = 20
# Epochs of longer histories of which every row is shown.
_EPOCHS = 12
_CURVES = ("loss", "accuracy", "val_loss", "val_accuracy")


def main(name_a: str, name_b: str, seed: int | None = None, stem: Path | None = None) -> None:
    """Show how the run `name_b` differs from `name_a`, and draw it.

    Args:
        name_a: see `find.trainings`.
        name_b: likewise.
        seed: the one to compare, of runs with several (default: the first of each).
        stem: the figure to write, without .png; by default one in `FOLDER`.
    """
    a, b = (find.trainings(name, seed)[0] for name in (name_a, name_b))
    outcome = differences.outcomes(a, b)
    titles = _titles(a, b)
    print("\n\n".join(sections(a, b, outcome, titles)))
    if stem is None:
        stem = FOLDER / "--".join(title.replace("/", "_").replace(", ", "-") for title in titles)
    _draw(a, b, outcome, titles, stem)
    print(f"\nfigure: {stem}.png")


def sections(
    a: TrainingRecord, b: TrainingRecord, outcome: Outcome, titles: Sequence[str]
) -> list[str]:
    """The comparison as text, a part for each question."""
    of = a.provenance, b.provenance
    parts = [
        _table("Parameters", titles, *(one["parameters"] for one in of)),
        _table("Data and starting weights", titles, *map(_data, of)),
        _table("Code", titles, *map(_code, of)),
        _table("Environment", titles, *map(_environment, of)),
        _curves(a, b, outcome, titles),
        _predictions(a, b, outcome, titles),
        _explanation(a, b, outcome),
    ]
    return [part for part in parts if part]


def listed(
    a: TrainingRecord, b: TrainingRecord, outcome: Outcome
) -> list[tuple[int, int, int, int]]:
    """Index, true digit and both predicted ones of each test image that they disagree on."""
    if outcome.disagree is None:
        return []
    assert a.labels is not None
    assert a.predicted is not None
    assert b.predicted is not None
    return [
        (int(index), int(a.labels[index]), int(a.predicted[index]), int(b.predicted[index]))
        for index in outcome.disagree
    ]


def _titles(a: TrainingRecord, b: TrainingRecord) -> tuple[str, str]:
    """What the two are called: the shortest names that tell them apart."""
    for name in (lambda of: of.run, str, lambda of: f"{of.study or of.experiment}: {of}"):
        titles = name(a), name(b)
        if titles[0] != titles[1]:
            return titles
    return f"{titles[0]} (A)", f"{titles[1]} (B)"


def _table(heading: str, titles: Sequence[str], a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """What two mappings have not alike, side by side; what they have is named below."""
    keys = list(dict.fromkeys([*a, *b]))
    alike = [key for key in keys if a.get(key) == b.get(key)]
    rows = [(key, _cell(a, key), _cell(b, key)) for key in keys if key not in alike]
    lines = [heading]
    if rows:
        lines.append(tabulate(rows, ["", *titles], disable_numparse=True, maxcolwidths=44))
    if alike:
        lines.append(f"{'the same' if rows else 'all the same'}: {', '.join(alike)}")
    return "\n".join(lines)


def _cell(values: Mapping[str, Any], key: str) -> str:
    return str(values[key]) if key in values else "-"


def _data(of: Mapping[str, Any]) -> dict[str, str]:
    digests = {**of["data"], "test": of["test_data"]}
    images = {name: f"{of['images'][name]:,}: {digest[:16]}" for name, digest in digests.items()}
    return {**images, "starting weights": of["start"][:16]}


def _code(of: Mapping[str, Any]) -> dict[str, str]:
    git = of["git"]
    dirty = " with uncommitted changes" if git["dirty"] else ""
    return {"commit": f"{(git['commit'] or 'none')[:12]}{dirty}", **of["code"]}


def _environment(of: Mapping[str, Any]) -> dict[str, Any]:
    groups = ("hardware", "settings", "runtime", "versions")
    every = {k: v for name in groups for k, v in of["environment"].get(name, {}).items()}
    every.pop("set_by_user", None)
    return {key: value for key, value in every.items() if value not in ("", [])}


def _curves(a: TrainingRecord, b: TrainingRecord, outcome: Outcome, titles: Sequence[str]) -> str:
    """The histories side by side: of long ones the first epochs, the parting, and the last."""
    count = max(outcome.epochs)
    shown = set(range(1, count + 1))
    if count > _EPOCHS:
        parting = outcome.parting.epoch if outcome.parting else 1
        shown = {*range(1, 4), parting, *range(count - 5, count + 1)}
    rows = [
        [epoch, *(_value(of.history, epoch, key) for key in _CURVES for of in (a, b))]
        for epoch in sorted(shown)
    ]
    heads = ["epoch", *(f"{key} {letter}" for key in _CURVES for letter in "AB")]
    lines = [
        f"Curves: A is {titles[0]}, B is {titles[1]}",
        tabulate(rows, heads, disable_numparse=True, stralign="right"),
    ]
    lines.append(
        f"they part in epoch {outcome.parting.epoch}, {outcome.parting.metric}"
        if outcome.parting
        else "the same in every epoch, to the bit"
    )
    return "\n".join(lines)


def _value(history: Sequence[Mapping[str, float]], epoch: int, key: str) -> str:
    return f"{history[epoch - 1][key]:.4f}" if epoch <= len(history) else "-"


def _predictions(
    a: TrainingRecord, b: TrainingRecord, outcome: Outcome, titles: Sequence[str]
) -> str:
    lines = ["Predictions on the test images"]
    if outcome.test:
        rows = [(key, *map(repr, both)) for key, both in outcome.test.items()]
        lines.append(tabulate(rows, ["", *titles], disable_numparse=True))
    if outcome.disagree is None:
        return "\n".join([*lines, "not to be compared: one was not evaluated, or on other images"])
    found = listed(a, b, outcome)
    only_a = sum(label == of_a for _, label, of_a, _ in found)
    only_b = sum(label == of_b for _, label, _, of_b in found)
    lines.append(
        f"they disagree on {len(found):,} of {outcome.images:,}: only {titles[0]} is right on "
        f"{only_a:,}, only {titles[1]} on {only_b:,}, both are wrong on "
        f"{len(found) - only_a - only_b:,}"
    )
    if outcome.probability is not None:
        lines.append(f"largest difference of a probability: {outcome.probability:.3g}")
    if found:
        heads = ["test image", "digit", *titles]
        lines.append(tabulate(found[:_LISTED], heads))
    if len(found) > _LISTED:
        rest = ", ".join(str(index) for index, *_ in found[_LISTED:])
        lines.append(f"and on: {rest}")
    return "\n".join(lines)


def _explanation(a: TrainingRecord, b: TrainingRecord, outcome: Outcome) -> str:
    causes = differences.inputs(a.provenance, b.provenance)
    shaping = [of for of in causes if of.cause != "other"]
    if outcome.identical:
        said = "They are the same to the bit."
    elif outcome.alike:
        said = (
            "All that is recorded of both is the same; their final weights and predictions are not."
        )
    elif shaping:
        said = "What explains it, in what went into them:"
    elif not outcome.start:
        said = "They start from other weights, and nothing that is recorded explains that."
    else:
        said = "Nothing that is recorded explains it: an operation is not deterministic here."
    return "\n".join([said, *(f"    {of.cause}: {of.text}" for of in causes)])


def _draw(
    a: TrainingRecord, b: TrainingRecord, outcome: Outcome, titles: Sequence[str], stem: Path
) -> None:
    """Draw the curves and which digits they disagree on; these too where they are at hand."""
    found = np.array(listed(a, b, outcome), np.int64).reshape(-1, 4)
    pair = [curves.Training(of.history, of.outcome) for of in (a, b)]
    predicted = None if outcome.disagree is None else (found[:, 2], found[:, 3])
    curves.two_runs(dict(zip(titles, pair, strict=True)), predicted, stem)
    images = run_figures.test_images(project.root() / a.study if a.study else Path(), a)
    if images is not None and len(found):
        sheets.disagreements(
            *(images[found[:_LISTED, 0]], found[:_LISTED], titles),
            stem.with_name(f"{stem.name}-images"),
        )
