"""The accuracies of the seeds that were known before the rules of a study were fixed.

    python benchmarks/pilot.py 697e6a1

writes metrics/pilot.csv of studies/open-questions and studies/at-scale from what git has of these
trainings in that commit. Rows have got clearer names since; those of 2,000 images, those of fewer
epochs and the one with smoothed labels have no successor.
"""

import argparse
import csv
import io
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepnets.base import csv_files

ROOT = Path(__file__).parent.parent
COLUMNS = ["row", "seed", "test_accuracy", "val_accuracy"]

# Of each study: the name now -> the study and the name then.
QUESTIONS, FULL, WINNERS = "studies/open-questions", "studies/full", "studies/winners"
ROWS = {
    "studies/open-questions": {
        "vgg16-sgd": (QUESTIONS, "vgg16-0-study"),
        "vgg16-sgd-he": (QUESTIONS, "vgg16-1-he"),
        "vgg16-adam": (QUESTIONS, "vgg16-adam"),
        "vgg16-adam-he": (QUESTIONS, "vgg16-he-adam"),
        "vgg16-highway": (QUESTIONS, "vgg16-highway"),
        "vgg16-he-highway": (QUESTIONS, "vgg16-he-highway"),
        "vgg16-he-cosine": (QUESTIONS, "vgg16-2-cosine"),
        "vgg16-he-cosine-batch-norm": (QUESTIONS, "vgg16-3-batch-norm"),
        "resnet50-sgd": (QUESTIONS, "resnet50-0-study"),
        "resnet50-momentum": (QUESTIONS, "resnet50-1-momentum"),
        "resnet50-zero-gamma": (QUESTIONS, "resnet50-2-zero-gamma"),
        "resnet50-he": (QUESTIONS, "resnet50-3-he"),
        "resnet50-he-cosine": (QUESTIONS, "resnet50-4-cosine"),
        "resnet50-grey": (QUESTIONS, "resnet50-grey"),
        "resnet50-symmetric": (QUESTIONS, "resnet50-symmetric"),
        "resnet50-adam": (QUESTIONS, "resnet50-adam"),
        "resnet50-he-adam": (QUESTIONS, "resnet50-he-adam"),
    },
    "studies/at-scale": {
        "vgg16-sgd": (FULL, "vgg16-sgd-random"),
        "vgg16-adam": (FULL, "vgg16-adam-random"),
        "resnet50-sgd": (FULL, "resnet50-sgd-random"),
        "resnet50-adam": (FULL, "resnet50-adam-random"),
        # Of 55,000 images, since 5,000 validated.
        "vgg16-he-cosine-batch-norm": (WINNERS, "vgg16-15-epochs"),
        "resnet50-he-cosine": (WINNERS, "resnet50-15-epochs"),
    },
}


def read(commit: str, rows: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """A record a row and seed, with the accuracies after the last epoch."""
    records = []
    for name, (study, then) in rows.items():
        tested = json.loads(_show(commit, study, then, "test.json"))
        history = csv.DictReader(io.StringIO(_show(commit, study, then, "history.csv")))
        last = {row["seed"]: float(row["val_accuracy"]) for row in history}
        # The numbers of a single seed stand there as they are.
        by_seed = tested.get("seeds") or {next(iter(last)): tested}
        for seed, numbers in by_seed.items():
            record = (name, int(seed), numbers["accuracy"], last[seed])
            records.append(dict(zip(COLUMNS, record, strict=True)))
    return records


def _show(commit: str, study: str, row: str, name: str) -> str:
    command = ["git", "-C", str(ROOT), "show", f"{commit}:{study}/metrics/{row}/{name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit", help="one that still has these trainings")
    arguments = parser.parse_args()
    for study, rows in ROWS.items():
        path = ROOT / study / "metrics" / "pilot.csv"
        csv_files.write_csv(path, read(arguments.commit, rows), COLUMNS)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
