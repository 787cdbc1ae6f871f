"""The study's stored trainings beside ours: which row is nearest, and what its files suggest.

Conjectures are no verdicts: no claim is judged by them, and nothing here decides whether the
study reproduces.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from deepnets.config.fields import Arch
from deepnets.records.results import TrainingRecord
from deepnets.records.statistics import accuracy_interval, curve_distance
from deepnets.reporting import published, published_histories, tables
from deepnets.reporting.comparisons import Scale
from deepnets.reporting.published_histories import History
from deepnets.reporting.verdicts import STUDY_SCALE

Rows = Mapping[str, Sequence[TrainingRecord]]

# A paragraph each, for the report.
RULES = (
    "The distance between two trainings is the mean absolute difference in their accuracy, in "
    "percentage points, over the epochs that both have, training and validation accuracy counted "
    "alike. That of a row is the mean over its seeds.",
    "Compared are all our rows of the same network whose trainings went through all of "
    f"{STUDY_SCALE}, as the study's did, whatever their recipe and initial weights; one that "
    "collapsed counts, one that diverged does not.",
    "Between our own seeds: the mean distance between two seeds of the nearest row. Where that has "
    "one seed only, the rows of the network that have several, and have learned with all of them, "
    "give the scale.",
    "A file holds the numbers printed for a row of the study if accuracy and loss after its last "
    "epoch are both less than 0.0001 off. What it is named for is our reading of its name.",
)

# How many epochs of a curve are written out: where the curves of VGG-16 differ.
_FIRST_EPOCHS = 5


@dataclass(frozen=True)
class Conjecture:
    """What the study's files suggest, what speaks for it, and what would refute it."""

    heading: str
    text: str
    evidence: str
    refuted_by: str


def comparable_rows(trained: Rows) -> dict[str, list[TrainingRecord]]:
    """The trainings that ran all epochs of the study's scale, by row; rows without any left out."""
    rows = {
        name: [training for training in seeds if _at_scale(training)]
        for name, seeds in trained.items()
    }
    return {name: seeds for name, seeds in rows.items() if seeds}


def histories_beside(rows: Rows) -> list[History]:
    """The study's stored trainings of the networks that `rows` have."""
    archs = {seeds[0].params.arch for seeds in rows.values()}
    return [history for history in published_histories.load() if history.arch in archs]


def sections(rows: Rows) -> list[list[str]]:
    """For the report, in Markdown: the table of the nearest rows, and the conjectures."""
    return [_table(rows), _conjectures(rows)] if rows else []


def nearest_rows(history: History, rows: Rows) -> list[tuple[str, float]]:
    """Our rows of its network, at least one, each with its distance (a fraction), nearest first."""
    distances = [
        (name, _distance(history, seeds))
        for name, seeds in _rows_of_arch(history.arch, rows).items()
    ]
    return sorted(distances, key=lambda row: row[1])


def seed_distance(seeds: Sequence[TrainingRecord]) -> float | None:
    """The mean distance between two of a row's trainings, a fraction; None for a single one."""
    pairs = [curve_distance(a.history, b.history) for a, b in combinations(seeds, 2)]
    return float(np.mean(pairs)) if pairs else None


def conjectures(rows: Rows) -> list[Conjecture]:
    """Those that `rows`, trainings at the study's scale, speak for."""
    stored = published_histories.load()
    made = [make(stored, rows) for make in (_adam_is_sgd, _imagenet_is_random)]
    return [conjecture for conjecture in made if conjecture is not None]


def _table(rows: Rows) -> list[str]:
    shown = pd.DataFrame([_row(history, rows) for history in histories_beside(rows)])
    return [
        "## The study's own curves",
        "Five trainings that the study stored beside its code (`hist*.p` of "
        "github.com/Dullaz/cw3), and which of our rows runs nearest to each. Distances in "
        "percentage points of accuracy.",
        tables.markdown(shown),
        "Our rows are rebuilt, and compared to the bit, by `deepnets reproduce RUN`. How it is "
        "measured:",
        "\n".join(f"- {rule}" for rule in RULES),
    ]


def _row(history: History, rows: Rows) -> dict[str, str]:
    (name, distance), *others = nearest_rows(history, rows)
    second, its = others[0] if others else ("", None)
    return {
        "file": f"`{history.file}`",
        "named for": history.named,
        "numbers printed for": published.describe(history.printed) if history.printed else "none",
        "nearest of our rows": name,
        "distance": _points(distance),
        "next row": second,
        "its distance": "" if its is None else _points(its),
        "between our own seeds": _scale(name, rows),
    }


def _scale(name: str, rows: Rows) -> str:
    """How far apart seeds are: those of the row `name`, or else of its network's other rows."""
    own = seed_distance(rows[name])
    if own is not None:
        return _points(own)
    others = [
        f"{other} {_points(apart)}"
        for other, seeds in _rows_of_arch(rows[name][0].params.arch, rows).items()
        if (apart := seed_distance(seeds)) is not None
        and all(training.outcome == "completed" for training in seeds)
    ]
    return f"one seed ({', '.join(others)})" if others else "one seed"


def _conjectures(rows: Rows) -> list[str]:
    made = conjectures(rows)
    if not made:
        return []
    parts = [
        "## What the study's files suggest",
        "Conjectures. Each is shown only while our rows at the study's scale speak for it; they "
        "support it and do not prove it. The study's printed numbers are judged above as they "
        "stand.",
    ]
    for number, conjecture in enumerate(made, start=1):
        parts += [
            f"### Conjecture {number}: {conjecture.heading}",
            f"**Conjecture.** {conjecture.text}",
            f"**Evidence.** {conjecture.evidence}",
            f"**What would refute it.** {conjecture.refuted_by}",
        ]
    return parts


def _adam_is_sgd(stored: Sequence[History], rows: Rows) -> Conjecture | None:
    """That the row printed for VGG-16 with Adam from random weights is one of SGD."""
    history = _first_history(
        stored, lambda training: training.printed == ("vgg16", "adam", "random")
    )
    model = _first_history(stored, lambda training: training.printed == ("vgg16", "sgd", "random"))
    adam, sgd = (
        _rows_of((history.arch, optimizer, "random"), rows) for optimizer in ("adam", "sgd")
    )
    trained = [training for seeds in adam.values() for training in seeds]
    name, distance = nearest_rows(history, rows)[0] if adam and sgd else ("", 0.0)
    if name not in sgd or any(training.outcome != "collapsed" for training in trained):
        return None
    count, rates = len(trained), sorted({training.params.learning_rate for training in trained})
    rate = " or ".join(f"{learning_rate:g}" for learning_rate in rates)
    highest = max(row["accuracy"] for training in trained for row in training.history)
    most = accuracy_interval(0, count)[1]
    return Conjecture(
        f"`{history.file}` is the history of a run with SGD",
        f"The numbers that the study printed for {_printed_row(history)} are those of a run with "
        "SGD.",
        f"`{history.file}` ends with these numbers. Its training accuracy begins with "
        f"{_first_accuracies(history)}; that of `{model.file}`, which ends with the numbers "
        f"printed for {_printed_row(model)}, begins with {_first_accuracies(model)}. The two are "
        f"{_points(curve_distance(history.rows, model.rows))} points apart, and of our rows with "
        f"SGD from random weights the distances are {_distances(history, sgd)}"
        f"{_describe_seed_distance(name, distance, rows)}. With Adam at rate {rate} from those "
        f"weights, {count} of our {count} trainings collapsed: none rose, and the highest training "
        f"accuracy after any epoch was {highest:.4f}. Their distance is "
        f"{_distances(history, adam)}.",
        f"A training of {published.network(history.arch)} with Adam at rate {rate} from Keras' "
        f"default weights that leaves chance and within {STUDY_SCALE.epochs} epochs comes as near "
        f"to that curve as {name} does ({_points(distance)} points); or the study's log of the "
        f"run. None of {count} is no proof that none ever does: up to {100 * most:.0f} % of such "
        "trainings could (Wilson's 95 % interval), and the study's version of Keras was another.",
    )


def _imagenet_is_random(stored: Sequence[History], rows: Rows) -> Conjecture | None:
    """That a history of ResNet50 with SGD, named for ImageNet weights, started from random ones."""
    history = _first_history(stored, lambda training: training.weights == "imagenet")
    assert history.printed is not None
    random = _rows_of(history.printed, rows)
    pretrained = _rows_of(("resnet50", "sgd", "imagenet"), rows)
    name, distance = nearest_rows(history, rows)[0] if random else ("", 0.0)
    if name not in random:
        return None
    other = published.row(("resnet50", "sgd", "imagenet"))
    start = history.rows[0]
    return Conjecture(
        f"`{history.file}` is the history of a run from random weights",
        f"By its name `{history.file}` is a run from {published.WEIGHTS['imagenet']}, as we read "
        f"it; it is the run from random weights that the study's table shows as "
        f"{_printed_row(history)}.",
        f"It ends with the numbers printed for that row, and not with those for ImageNet weights "
        f"({other.accuracy:.4f}, {other.loss:.4f}). After its first epoch it is "
        f"{start['accuracy']:.4f} accurate in training and {start['val_accuracy']:.4f} in "
        f"validation; from random weights ours are, seed by seed, {_starts(random)}. "
        + (
            f"From ImageNet weights ours are {_starts(pretrained)}. "
            if pretrained
            else "None of ours from ImageNet weights is there to be set beside it. "
        )
        + f"The distances of our rows with SGD from random weights are "
        f"{_distances(history, random)}{_describe_seed_distance(name, distance, rows)}.",
        "A training of ResNet50 with SGD from ImageNet weights that starts as low and comes as "
        f"near to that curve as {name} does ({_points(distance)} points); or the study's log of "
        'the run. If "weighted" means something else, the name says nothing of the weights, and '
        "only our reading of it was wrong.",
    )


def _at_scale(training: TrainingRecord) -> bool:
    """Whether it ran as many epochs on as many images as the study's, to the end."""
    scale = Scale(training.params.epochs, training.provenance["images"]["train"])
    return scale == STUDY_SCALE and len(training.history) == STUDY_SCALE.epochs


def _rows_of_arch(arch: Arch, rows: Rows) -> Rows:
    return {name: seeds for name, seeds in rows.items() if seeds[0].params.arch == arch}


def _rows_of(key: published.Key, rows: Rows) -> Rows:
    """Our rows that are meant to be the study's row `key`."""
    wanted = published.row(key)
    return {
        name: seeds for name, seeds in rows.items() if published.find_row(seeds[0].params) == wanted
    }


def _first_history(stored: Sequence[History], is_it: Callable[[History], bool]) -> History:
    return next(history for history in stored if is_it(history))


def _distance(history: History, seeds: Sequence[TrainingRecord]) -> float:
    return float(np.mean([curve_distance(history.rows, training.history) for training in seeds]))


def _distances(history: History, rows: Rows) -> str:
    listed = [
        f"{_points(_distance(history, seeds))} ({name}, {_seeds(seeds)})"
        for name, seeds in rows.items()
    ]
    return ", ".join(listed)


def _describe_seed_distance(name: str, distance: float, rows: Rows) -> str:
    """What the `distance` of the row `name` is held against, where it has several seeds."""
    apart = seed_distance(rows[name])
    if apart is None:
        return ""
    than = "as much or more" if apart >= distance else "less than that"
    return f"; two seeds of {name} are {_points(apart)} apart, {than}"


def _starts(rows: Rows) -> str:
    """Training and validation accuracy after the first epoch, of every seed."""
    listed = []
    for name, seeds in rows.items():
        training, validation = (
            ", ".join(f"{result.history[0][key]:.4f}" for result in seeds)
            for key in ("accuracy", "val_accuracy")
        )
        listed.append(f"{training} in training and {validation} in validation ({name})")
    return "; ".join(listed)


def _seeds(seeds: Sequence[TrainingRecord]) -> str:
    return "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def _first_accuracies(history: History) -> str:
    return ", ".join(f"{row['accuracy']:.4f}" for row in history.rows[:_FIRST_EPOCHS])


def _printed_row(history: History) -> str:
    """The row of the study that the history ends as, with its numbers."""
    assert history.printed is not None
    row = published.row(history.printed)
    return f"{published.describe(history.printed)} ({row.accuracy:.4f}, {row.loss:.4f})"


def _points(fraction: float) -> str:
    return f"{100 * fraction:.2f}"
