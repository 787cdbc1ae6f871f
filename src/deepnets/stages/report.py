"""Put the runs that params.yaml names side by side, next to what the study published.

Works with whatever runs are there, and says which are missing.
"""

from typing import Any

import numpy as np
import pandas as pd

from deepnets import figures, files, params, project, scores
from deepnets.params import RunEntry, RunParams
from deepnets.published import RESULTS

HISTORY = project.REPORTS / "history.csv"
RESULTS_TABLE = project.REPORTS / "results.csv"
TEXT = project.REPORTS / "report.md"

_COLUMNS = {
    "run": "run",
    "epochs": "epochs",
    "accuracy": "train accuracy",
    "val_accuracy": "validation accuracy",
    "test_accuracy": "test accuracy",
    "test_loss": "test loss",
    "best_epoch": "best epoch",
    "seconds": "seconds an epoch",
    "study_test_accuracy": "study's test accuracy",
    "study_test_loss": "study's test loss",
}


def main() -> None:
    """Write the result table, the combined history for `dvc plots`, the figures and the text."""
    study = params.load()
    runs = {name: study.run_params(name) for name in study.runs}
    results = pd.DataFrame([_result(name, run) for name, run in runs.items()])
    files.write_text(RESULTS_TABLE, results.to_csv(index=False, lineterminator="\n"))
    histories = {name: _history(name, run) for name, run in runs.items()}
    histories = {name: rows for name, rows in histories.items() if rows}
    combined = [{"run": name, **row} for name, rows in histories.items() for row in rows]
    columns = ["run", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
    table = pd.DataFrame(combined, columns=columns).astype({"epoch": int})
    files.write_text(HISTORY, table.to_csv(index=False, lineterminator="\n"))
    drawn = _draw(study.runs, histories)
    files.write_text(TEXT, text(study.report.title, results, drawn))
    done = int(results["test_accuracy"].notna().sum())
    print(f"{TEXT}: {done} of {len(results)} runs")


def terminal_table(results: pd.DataFrame) -> str:
    """The result table for a terminal, followed by the names of the runs that are missing."""
    table = _shown(results[results["test_accuracy"].notna()])
    lines = [table.to_markdown(index=False, disable_numparse=True)] if len(table) else []
    missing = results[results["test_accuracy"].isna()]["run"].tolist()
    if missing:
        lines.append(f"not run yet: {', '.join(missing)}")
    return "\n".join(lines)


def text(title: str, results: pd.DataFrame, drawn: list[str]) -> str:
    """The report in Markdown."""
    done = results[results["test_accuracy"].notna()]
    missing = results[results["test_accuracy"].isna()]["run"].tolist()
    parts = [
        f"# {title}",
        f"{len(done)} of {len(results)} runs are finished."
        + (f" Not run yet: {', '.join(missing)}." if missing else ""),
    ]
    if len(done):
        parts += [
            "## Results",
            _shown(done).to_markdown(index=False, disable_numparse=True),
            "Train accuracy is the last epoch's, measured with dropout and augmentation as set; "
            "validation and test accuracy are the last epoch's model. Seconds an epoch are the "
            "median, validation not counted. Every number comes from `metrics/RUN/`; the study's "
            "are those it printed, shown where a run has its architecture, optimizer, initial "
            "weights and epochs.",
        ]
    parts += [f"![{name}]({name}.png)" for name in drawn]
    return "\n\n".join(parts) + "\n"


def _shown(results: pd.DataFrame) -> pd.DataFrame:
    """The columns that people read, rounded; those that hold nothing are left out."""
    rounded = results[[*_COLUMNS]].copy()
    for key in rounded.columns:
        if key.endswith(("accuracy", "loss")):
            rounded[key] = rounded[key].map(lambda v: "" if pd.isna(v) else f"{v:.4f}")
    empty = [key for key in rounded.columns if (rounded[key] == "").all()]
    return rounded.drop(columns=empty).rename(columns=_COLUMNS)


def _result(name: str, run: RunParams) -> dict[str, Any]:
    paths = project.grid_run(name, run.start)
    trained = files.read_json(paths.train) if paths.train.is_file() else {}
    tested = files.read_json(paths.test) if trained and paths.test.is_file() else {}
    timing = files.read_csv(paths.timing) if trained else []
    published = RESULTS.get((run.arch, run.optimizer, run.weights, run.epochs))
    return {
        "run": name,
        "arch": run.arch,
        "optimizer": run.optimizer,
        "weights": run.weights,
        "epochs": run.epochs,
        "accuracy": trained.get("accuracy", np.nan),
        "loss": trained.get("loss", np.nan),
        "val_accuracy": trained.get("val_accuracy", np.nan),
        "val_loss": trained.get("val_loss", np.nan),
        "best_epoch": trained.get("best_epoch", ""),
        "test_accuracy": tested.get("accuracy", np.nan),
        "test_loss": tested.get("loss", np.nan),
        "seconds": round(np.median([row["seconds"] for row in timing])) if timing else "",
        "study_test_accuracy": published.test_accuracy if published else None,
        "study_test_loss": published.test_loss if published else None,
    }


def _history(name: str, run: RunParams) -> list[dict[str, float]]:
    path = project.grid_run(name, run.start).history
    return files.read_csv(path) if path.is_file() else []


def _draw(entries: dict[str, RunEntry], histories: dict[str, list[dict[str, float]]]) -> list[str]:
    """Draw the figures that the finished runs allow; returns their names."""
    drawn = []
    panels: dict[str, list[figures.Curve]] = {}
    for name, rows in histories.items():
        entry = entries[name]
        panels.setdefault(entry.arch, []).append(
            figures.Curve(name, entry.optimizer, entry.weights, rows)
        )
    if panels:
        figures.curves(panels, project.REPORTS / "curves.png")
        drawn.append("curves")
    matrices = {}
    for name in histories:
        path = project.grid_run(name, entries[name].start).predictions
        if path.is_file():
            pairs = pd.read_csv(path)
            matrices[name] = scores.confusion_matrix(
                pairs["actual"].to_numpy(), pairs["predicted"].to_numpy()
            )
    if matrices:
        figures.grid_confusion(matrices, project.REPORTS / "confusion.png")
        drawn.append("confusion")
    return drawn
