"""Two trainings side by side, in the terminal and as a figure: inputs, curves, predictions."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from deepnets.base import project
from deepnets.commands import find
from deepnets.records import differences
from deepnets.records.differences import OutcomeComparison
from deepnets.records.results import TrainingRecord
from deepnets.reporting import curves, run_figures, sheets

# Where figures go, below the folder at hand.
FOLDER = Path("diffs")

# Of the images that two runs disagree on, those that are listed and drawn.
_LISTED = 20
# Epochs of longer histories of which every row is shown.
_EPOCHS = 12
# Of a value in a table, in letters.
_WIDTH = 44
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
    a: TrainingRecord, b: TrainingRecord, outcome: OutcomeComparison, titles: Sequence[str]
) -> list[str]:
    """The comparison as text, a part for each question."""
    origins = a.provenance, b.provenance
    parts = [
        _table("Parameters", titles, *(origin["parameters"] for origin in origins)),
        _table("Data and starting weights", titles, *map(_data, origins)),
        _table("Code", titles, *map(_code, origins)),
        _table("Environment", titles, *map(_environment, origins)),
        _curves(a, b, outcome, titles),
        _predictions(a, b, outcome, titles),
        _explanation(a, b, outcome),
    ]
    return [part for part in parts if part]


def disputed_images(
    a: TrainingRecord, b: TrainingRecord, outcome: OutcomeComparison
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
    for name in (
        lambda record: record.run,
        str,
        lambda record: f"{record.study or record.experiment}: {record}",
    ):
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
        lines.append(tabulate(rows, ["", *titles], disable_numparse=True))
    if alike:
        lines.append(f"{'the same' if rows else 'all the same'}: {', '.join(alike)}")
    return "\n".join(lines)


def _cell(values: Mapping[str, Any], key: str) -> str:
    # Wrapped here: tabulate's own wrapping makes True of the text False.
    return textwrap.fill(str(values[key]), _WIDTH) if key in values else "-"


def _data(origin: Mapping[str, Any]) -> dict[str, str]:
    digests = {**origin["data"], "test": origin["test_data"]}
    images = {
        name: f"{origin['images'][name]:,}: {digest[:16]}" for name, digest in digests.items()
    }
    return {**images, "starting weights": origin["start"][:16]}


def _code(origin: Mapping[str, Any]) -> dict[str, str]:
    git = origin["git"]
    dirty = " with uncommitted changes" if git["dirty"] else ""
    return {"commit": f"{(git['commit'] or 'none')[:12]}{dirty}", **origin["code"]}


def _environment(origin: Mapping[str, Any]) -> dict[str, Any]:
    entries = {
        key: value
        for group in differences.ENVIRONMENT_GROUPS
        for key, value in origin["environment"].get(group, {}).items()
    }
    entries.pop("set_by_user", None)
    return {key: value for key, value in entries.items() if value not in ("", [])}


def _curves(
    a: TrainingRecord, b: TrainingRecord, outcome: OutcomeComparison, titles: Sequence[str]
) -> str:
    """The histories side by side: of long ones the first epochs, the parting, and the last."""
    count = max(outcome.epochs)
    shown = set(range(1, count + 1))
    if count > _EPOCHS:
        parting = outcome.parting.epoch if outcome.parting else 1
        shown = {*range(1, 4), parting, *range(count - 5, count + 1)}
    rows = [
        [epoch, *(_value(record.history, epoch, key) for key in _CURVES for record in (a, b))]
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
    a: TrainingRecord, b: TrainingRecord, outcome: OutcomeComparison, titles: Sequence[str]
) -> str:
    lines = ["Predictions on the test images"]
    if outcome.test:
        rows = [(key, *map(repr, both)) for key, both in outcome.test.items()]
        lines.append(tabulate(rows, ["", *titles], disable_numparse=True))
    if outcome.disagree is None:
        return "\n".join([*lines, "not to be compared: one was not evaluated, or on other images"])
    disputed = disputed_images(a, b, outcome)
    only_a = sum(label == of_a for _, label, of_a, _ in disputed)
    only_b = sum(label == of_b for _, label, _, of_b in disputed)
    lines.append(
        f"they disagree on {len(disputed):,} of {outcome.images:,}: only {titles[0]} is right on "
        f"{only_a:,}, only {titles[1]} on {only_b:,}, both are wrong on "
        f"{len(disputed) - only_a - only_b:,}"
    )
    if outcome.probability is not None:
        lines.append(f"largest difference of a probability: {outcome.probability:.3g}")
    if disputed:
        heads = ["test image", "digit", *titles]
        lines.append(tabulate(disputed[:_LISTED], heads))
    if len(disputed) > _LISTED:
        rest = ", ".join(str(index) for index, *_ in disputed[_LISTED:])
        lines.append(f"and on: {rest}")
    return "\n".join(lines)


def _explanation(a: TrainingRecord, b: TrainingRecord, outcome: OutcomeComparison) -> str:
    causes = differences.inputs(a.provenance, b.provenance)
    shaping = [difference for difference in causes if difference.cause != "other"]
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
    return "\n".join(
        [said, *(f"    {difference.cause}: {difference.text}" for difference in causes)]
    )


def _draw(
    a: TrainingRecord,
    b: TrainingRecord,
    outcome: OutcomeComparison,
    titles: Sequence[str],
    stem: Path,
) -> None:
    """Draw the curves and which digits they disagree on; these too where they are at hand."""
    disputed = np.array(disputed_images(a, b, outcome), np.int64).reshape(-1, 4)
    pair = [curves.SeedCurve(record.history, record.outcome) for record in (a, b)]
    predicted = None if outcome.disagree is None else (disputed[:, 2], disputed[:, 3])
    curves.two_runs(dict(zip(titles, pair, strict=True)), predicted, stem)
    images = run_figures.test_images(project.root() / a.study if a.study else Path(), a)
    if images is not None and len(disputed):
        sheets.disagreements(
            images[disputed[:_LISTED, 0]],
            disputed[:_LISTED],
            titles,
            stem.with_name(f"{stem.name}-images"),
        )
