"""Finished runs as tables: a row a run of the grid, numbers as numbers.

Means over seeds have their standard deviation (n - 1) beside them, in a column that ends in _sd.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepnets.config import registry
from deepnets.config.sections import RunParams
from deepnets.records import statistics
from deepnets.records.results import TrainingRecord
from deepnets.reporting import live_curves, published
from deepnets.reporting.published import Published
from deepnets.training import scores

# Validation accuracies that convergence is measured by.
LEVELS = (0.97, 0.98, 0.99)

# Of what is known of a run, what fits into a terminal.
_TERMINAL_COLUMNS = ["run", "epochs", "train acc", "val acc", "test acc", "s/epoch", "note"]

# What an optimizer brings along with it.
_OPTIMIZER_SETTINGS = {
    "optimizer",
    *(name for entry in registry.optimizers().values() for name in entry.settings.model_fields),
} - {"warmup_epochs"}

_LAST = ("accuracy", "loss", "val_accuracy", "val_loss")


def results(
    runs: Mapping[str, Sequence[RunParams]], trained: Mapping[str, Sequence[TrainingRecord]]
) -> pd.DataFrame:
    """Ours beside the study's, a row a run of the grid in its order; what was not run is empty.

    Args:
        runs: each row's parameters, resolved for every seed.
        trained: the seeds of each row that have been trained, some of them perhaps not evaluated.
    """
    studys = published.rows_beside(runs, trained)
    return pd.DataFrame(
        [_row(name, seeds, trained.get(name, []), studys.get(name)) for name, seeds in runs.items()]
    )


def keep_calibration(table: pd.DataFrame, earlier: pd.DataFrame) -> list[str]:
    """Give rows whose ECE cannot be computed any more that of an `earlier` table; returns which.

    Only where both are about the same tests: as many seeds, the same mean accuracy and loss.
    """
    same = ["run", "seeds", "test_accuracy", "test_loss"]
    kept: list[str] = []
    if not {*same, "ece", "ece_sd"} <= set(earlier.columns):
        return kept
    known = {tuple(row[key] for key in same): row for row in earlier.to_dict("records")}
    for index, row in table[table["ece"].isna()].iterrows():
        before = known.get(tuple(row[key] for key in same))
        if before is not None and not pd.isna(before["ece"]):
            table.loc[index, ["ece", "ece_sd"]] = before["ece"], before["ece_sd"]
            kept.append(str(row["run"]))
    return kept


def pairs(trained: Mapping[str, Sequence[TrainingRecord]]) -> pd.DataFrame:
    """McNemar's exact test for every two rows that differ in optimizer only, or in weights only.

    A row a pair and seed: how many of the same test images only one of the two gets right.
    """
    rows = []
    tested = [r for seeds in trained.values() for r in seeds if r.predicted is not None]
    for index, a in enumerate(tested):
        for b in tested[index + 1 :]:
            differs = _difference(a, b)
            if differs is None:
                continue
            assert a.labels is not None
            assert a.predicted is not None
            assert b.predicted is not None
            test = statistics.mcnemar(a.labels, a.predicted, b.predicted)
            rows.append(
                {
                    "differ in": differs,
                    "a": a.run,
                    "b": b.run,
                    "seed": a.seed,
                    "only a right": test.only_a,
                    "only b right": test.only_b,
                    "p": test.p_value,
                    "shown by": f"deepnets diff {a.run} {b.run} --seed {a.seed}",
                }
            )
    return pd.DataFrame(rows)


def history(trained: Mapping[str, Sequence[TrainingRecord]]) -> pd.DataFrame:
    """The epochs of all runs below each other, means over their seeds."""
    rows = [
        {"run": name, **row}
        for name, seeds in trained.items()
        for result in seeds
        for row in result.history
    ]
    table = pd.DataFrame(rows, columns=list(live_curves.COLUMNS)).astype({"epoch": int})
    return table.groupby(["run", "epoch"], sort=False, as_index=False).mean()


def calibration(result: TrainingRecord) -> statistics.Calibration | None:
    """How a training's probabilities are calibrated; None where neither they nor that is kept."""
    if result.calibration is not None:
        return statistics.Calibration.of_numbers(result.calibration)
    if result.labels is None or result.probabilities is None:
        return None
    return statistics.calibration(result.labels, result.probabilities)


def read_earlier(path: Path) -> pd.DataFrame:
    """The table at `path`, of what was made before this report; empty where there is none."""
    try:
        return pd.read_csv(path)
    except (OSError, ValueError):
        return pd.DataFrame()


def pilot(path: Path) -> dict[str, list[float]]:
    """By row, the test accuracies in the table at `path`; none where there is no such table."""
    table = read_earlier(path)
    if table.empty:
        return {}
    return {
        str(row): group["test_accuracy"].tolist() for row, group in table.groupby("row", sort=False)
    }


def terminal_table(path: Path) -> str:
    """The table of results at `path` for a terminal, and the names of the runs that are missing."""
    table = pd.read_csv(path)
    table["state"] = table["state"].fillna("")
    done = table[table["test_accuracy"].notna()]
    missing = table[table["test_accuracy"].isna()]["run"].tolist()
    lines = [markdown(round_columns(done, _TERMINAL_COLUMNS))] if len(done) else []
    if missing:
        lines.append(f"not run yet: {', '.join(missing)}")
    return "\n".join(lines)


def round_columns(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The columns `names`, rounded for people; those that hold nothing are left out."""
    rounded = pd.DataFrame({"run": table["run"], "epochs": table["epochs"], "note": table["state"]})
    for key, name in (
        ("test_accuracy", "test acc"),
        ("accuracy", "train acc"),
        ("val_accuracy", "val acc"),
    ):
        rounded[name] = list(map(number, table[key], table[f"{key}_sd"]))
        if f"study_{key}" in table:
            rounded[f"study's {name}"] = table[f"study_{key}"].map(number)
    rounded["95 % interval"] = [
        "" if pd.isna(low) else f"{low:.4f} to {high:.4f}"
        for low, high in zip(table["test_low"], table["test_high"], strict=True)
    ]
    rounded["difference"] = (table["test_accuracy"] - table["study_test_accuracy"]).map(
        lambda value: "" if pd.isna(value) else f"{100 * value:+.2f}"
    )
    rounded["s/epoch"] = table["seconds"].map(lambda v: "" if pd.isna(v) else f"{v:.0f}")
    return rounded[[name for name in names if (rounded[name] != "").any()]]


def number(mean: float, deviation: float = float("nan")) -> str:
    """A mean with its deviation, as far as they are there."""
    if pd.isna(mean):
        return ""
    return f"{mean:.4f}" if pd.isna(deviation) else f"{mean:.4f} ± {deviation:.4f}"


def markdown(table: pd.DataFrame) -> str:
    """`table` in Markdown, its cells as they are."""
    return table.to_markdown(index=False, disable_numparse=True)


def _difference(a: TrainingRecord, b: TrainingRecord) -> str | None:
    """What alone tells two comparable results apart: `optimizer` or `weights`; else None."""
    if a.labels is None or b.labels is None or not np.array_equal(a.labels, b.labels):
        return None
    own, other = a.params.flat, b.params.flat
    differing = {key for key in own.keys() | other.keys() if own.get(key) != other.get(key)}
    if differing == {"weights"}:
        return "weights"
    scheduled = "cosine" in (own["decay"], other["decay"]) and "decay" in differing
    if "optimizer" in differing and differing <= _OPTIMIZER_SETTINGS and not scheduled:
        return "optimizer"
    return None


def _row(
    name: str, runs: Sequence[RunParams], seeds: Sequence[TrainingRecord], study: Published | None
) -> dict[str, Any]:
    run = runs[0]
    row: dict[str, Any] = {
        "run": name,
        "arch": run.arch,
        "optimizer": run.optimizer,
        "weights": run.weights,
        "epochs": run.epochs,
        "seeds": len(seeds),
        "state": _state(runs, seeds),
    }
    ended = [result for result in seeds if result.history]
    for key in _LAST:
        row |= _mean(key, [result.model_row[key] for result in ended])
    tested = [result.test for result in seeds if result.test is not None]
    for key in ("accuracy", "loss"):
        row |= _mean(f"test_{key}", [numbers[key] for numbers in tested])
    labels = next((result.labels for result in seeds if result.labels is not None), None)
    row["test_low"], row["test_high"] = (
        statistics.accuracy_interval(round(row["test_accuracy"] * len(labels)), len(labels))
        if labels is not None
        else (np.nan, np.nan)
    )
    row |= _mean("best_epoch", [float(scores.best_epoch(result.history)) for result in ended])
    seconds = [clock["seconds"] for result in seeds for clock in result.timing]
    row["seconds"] = float(np.median(seconds)) if seconds else np.nan
    row["parameters"] = seeds[0].provenance["parameter_count"]["total"] if seeds else np.nan
    row |= _mean(
        "ece",
        [calibrated.ece for result in seeds if (calibrated := calibration(result)) is not None],
    )
    row |= {
        "study_epochs": study.epochs if study else np.nan,
        "study_accuracy": study.accuracy if study else np.nan,
        "study_loss": study.loss if study else np.nan,
        "study_test_accuracy": study.test_accuracy if study else np.nan,
        "study_test_loss": study.test_loss if study else np.nan,
        "rebuilt_by": f"deepnets reproduce {name}" if seeds else "",
    }
    return row


def _state(runs: Sequence[RunParams], seeds: Sequence[TrainingRecord]) -> str:
    """What a reader must know before the numbers of a row; empty where all is as it should be."""
    if not seeds:
        return "not run"
    notes = []
    for kind in ("collapsed", "diverged"):
        count = sum(result.outcome == kind for result in seeds)
        if count:
            notes.append(kind if count == len(seeds) else f"{count} of {len(runs)} {kind}")
    if any(result.keep == "best" for result in seeds):
        notes.append("the best epoch's model")
    untested = sum(result.test is None for result in seeds)
    if len(seeds) < len(runs):
        notes.append(f"{len(seeds)} of {len(runs)} seeds")
    if untested:
        notes.append("not evaluated" if len(seeds) == 1 else f"{untested} not evaluated")
    return ", ".join(notes)


def _mean(key: str, values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {key: np.nan, f"{key}_sd": np.nan}
    mean, deviation = statistics.spread(values)
    return {key: mean, f"{key}_sd": np.nan if deviation is None else deviation}
