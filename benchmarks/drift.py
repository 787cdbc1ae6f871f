"""How far runs drift that differ in rounding alone: threads, oneDNN, the processor's instructions.

    make drift                                   over an hour on two cores
    python benchmarks/drift.py --folder DIR      keeps its runs there, and goes on with them

Two of the tour's runs, and the beginning of a third, are trained with several seeds, once as this
machine would and once in each other way, and compared. The tables go to the terminal and to
benchmarks/results/; `deepnets.records.tolerances` has the numbers of the last one.
"""

import argparse
import itertools
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate
from tqdm import tqdm

import machine
from bench import TOUR, run
from deepnets.base import files, project
from deepnets.commands import aside
from deepnets.config import params, reader, sections
from deepnets.networks import runtime
from deepnets.records import differences, results, tolerances
from deepnets.records.results import TrainingRecord

# Both networks and both optimizers, three seeds each: two as they are, and one that has only begun
# to learn.
RUNS: dict[str, dict[str, int]] = {
    "vgg16-adam-he": {},
    "resnet50-sgd-he": {},
    "vgg16-sgd-he": {"train_images": 1600, "epochs": 2},
}
SEEDS = (0, 1, 2)

AS_HERE, AGAIN, ANOTHER_SEED = "as here", "as here, again", "another seed"
# The ways to train, by the cause that they stand for in `deepnets.records.tolerances`.
WAYS: dict[str, tuple[str | None, dict[str, str]]] = {
    AS_HERE: (None, {}),
    AGAIN: (None, {}),
    "one thread": ("threads", {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}),
    "two threads an operation": (
        "threads",
        {"TF_NUM_INTRAOP_THREADS": "2", "TF_NUM_INTEROP_THREADS": "1"},
    ),
    "oneDNN as without AVX-512": ("processor", {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "without oneDNN": ("oneDNN", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
}


@dataclass(frozen=True)
class Drift:
    """How one training compares with the one as here.

    `weights` is the distance of the final weights over the length of those trained as here,
    `moved` the same over how far that training has moved them (Euclidean norms of all weights).
    """

    run: str
    seed: int
    way: str
    identical: bool
    weights: float
    moved: float
    images: int
    disagree: int
    probability: float
    accuracy: tuple[float, float]

    @property
    def deviation(self) -> float:
        """The difference in test accuracy, in the unit of `tolerances.unit`."""
        here, there = self.accuracy
        return (there - here) / tolerances.unit(here, self.images)


def main() -> None:
    """Train, compare, print, and write benchmarks/results/."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where runs are kept (default: nowhere)")
    folder = parser.parse_args().folder
    # Set by the user, these would decide for all ways.
    for key in {key for _, variables in WAYS.values() for key in variables}:
        os.environ.pop(key, None)
    with _folder(folder) as folder:
        jobs = [(way, name) for way in WAYS for name in RUNS]
        bar = tqdm(jobs, dynamic_ncols=True)
        for way, name in bar:
            bar.set_description(f"{name}, {way}")
            _train(folder / _slug(way), name, WAYS[way][1])
        runtime.start_framework()
        drifts = list(_compare_all(folder))
    described = machine.describe()
    path = machine.path(described, "drift-")
    text = f"{machine.heading(described)}\n\n{describe(drifts)}"
    print(f"\n{text}")
    content = {
        "machine": described,
        "runs": RUNS,
        "drifts": [asdict(drift) for drift in drifts],
        "deviations": deviations(drifts),
    }
    files.write_json(path.with_suffix(".json"), content)
    files.write_text(path.with_suffix(".md"), text + "\n")
    print(f"\nwritten to {path.with_suffix('.md')} and .json")


def deviations(drifts: list[Drift]) -> dict[str, dict[str, float]]:
    """By cause, the root mean square of `Drift.deviation`, and of how many runs that had learned.

    Of several ways for one cause the worst counts: all are compared with the same runs.
    """
    learned = [drift for drift in drifts if drift.accuracy[0] >= tolerances.LEARNED]
    worst: dict[str, dict[str, float]] = {}
    for way, (cause, _) in WAYS.items():
        if cause is None:
            continue
        measured = [drift.deviation for drift in learned if drift.way == way]
        size = round(math.sqrt(np.mean(np.square(measured))), 4)
        if size >= worst.get(cause, {}).get("deviation", 0):
            worst[cause] = {"deviation": size, "runs": len(measured)}
    return worst


def describe(drifts: list[Drift]) -> str:
    """The tables, in Markdown."""
    rows = []
    for name, way in itertools.product(RUNS, [*[*WAYS][1:], ANOTHER_SEED]):
        pairs = [drift for drift in drifts if (drift.run, drift.way) == (name, way)]
        rows.append([name, way, *_summary(pairs)])
    causes = [
        [cause, f"{worst['deviation']:.3f}", worst["runs"]]
        for cause, worst in deviations(drifts).items()
    ]
    return "\n\n".join(
        [
            "Runs of the tour as they are, and one ("
            + ", ".join(
                f"{name}: {_describe_changes(changes)}" for name, changes in RUNS.items() if changes
            )
            + ") that has only begun to learn; each trained as this machine would and once more in "
            "another way; means over the pairs. Weights: distance of the final ones over their "
            "length, and over the way that training has moved them.",
            tabulate(rows, _HEADERS, tablefmt="github", disable_numparse=True),
            "What the tolerances are made of: root mean square of the difference in test accuracy, "
            "over sqrt(p (1 - p)) of the first run's accuracy p, where that is at least "
            f"{tolerances.LEARNED}; of several ways, the worst.",
            tabulate(causes, ["cause", "deviation", "runs"], tablefmt="github"),
        ]
    )


def _describe_changes(changes: dict[str, int]) -> str:
    return ", ".join(f"{key} {value:,}" for key, value in changes.items())


_HEADERS = (
    *("run", "the other way", "pairs", "bit-identical", "weights", "of their way"),
    *("other digit", "probability, furthest", "test accuracy", "difference, mean", "largest"),
)


def _summary(drifts: list[Drift]) -> list[str]:
    apart = [abs(drift.accuracy[1] - drift.accuracy[0]) for drift in drifts]
    return [
        f"{len(drifts)}",
        f"{sum(drift.identical for drift in drifts)}",
        f"{np.mean([drift.weights for drift in drifts]):.2g}",
        f"{np.mean([drift.moved for drift in drifts]):.2g}",
        f"{np.mean([drift.disagree / drift.images for drift in drifts]):.1%}",
        f"{max(drift.probability for drift in drifts):.2g}",
        f"{np.mean([drift.accuracy[0] for drift in drifts]):.3f}",
        f"{np.mean(apart):.4f}",
        f"{max(apart):.4f}",
    ]


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
    else:
        with TemporaryDirectory(prefix="deepnets-drift-") as name:
            yield Path(name)


def _slug(way: str) -> str:
    return way.replace(",", "").replace(" ", "-")


def _train(study: Path, name: str, variables: dict[str, str]) -> None:
    """Train and evaluate the run `name` in the folder `study`, unless that has been done."""
    if (study / project.grid_run(name, "").test).is_file():
        return
    study.mkdir(parents=True, exist_ok=True)
    content = reader.read_yaml(TOUR / params.FILE)
    content["runs"] = {row: content["runs"][row] | smaller for row, smaller in RUNS.items()}
    content["train"]["seed"] = list(SEEDS)
    files.write_json(study / params.FILE, content)
    start = name.replace("-sgd", "").replace("-adam", "")
    commands = (
        "download",
        "preprocess",
        f"initialize {start}",
        f"train {name}",
        f"evaluate {name}",
    )
    for command in commands:
        run([sys.executable, "-c", aside.UNTRACKED, *command.split()], study, variables)


def _compare_all(folder: Path) -> Iterator[Drift]:
    """Each training beside the one as here with its seed, and beside one as here with another."""
    for name in RUNS:
        trained = {way: _records(folder / _slug(way), name) for way in WAYS}
        here = trained[AS_HERE]
        for place, record in enumerate(here):
            study = folder / _slug(AS_HERE)
            first, ours = _start(study, record), _weights(study, record)
            others = {way: trained[way][place] for way in [*WAYS][1:]}
            others[ANOTHER_SEED] = here[(place + 1) % len(here)]
            for way, other in others.items():
                there = folder / _slug(way if way in WAYS else AS_HERE)
                apart = np.linalg.norm(_weights(there, other) - ours)
                outcome = differences.outcomes(record, other)
                assert outcome.disagree is not None
                assert outcome.probability is not None
                yield Drift(
                    run=name,
                    seed=record.seed,
                    way=way,
                    identical=outcome.identical,
                    weights=float(apart / np.linalg.norm(ours)),
                    moved=float(apart / np.linalg.norm(ours - first)),
                    images=outcome.images,
                    disagree=len(outcome.disagree),
                    probability=outcome.probability,
                    accuracy=outcome.test["accuracy"],
                )


def _records(study: Path, name: str) -> list[TrainingRecord]:
    return results.read(project.run_at(study / project.grid_run(name, "").metrics_dir))


def _weights(study: Path, record: TrainingRecord) -> NDArray[np.float32]:
    """All weights that a training ended with, float32 (n,)."""
    from deepnets.networks import saving

    path = project.grid_run(record.run, "").model(record.seed)
    return _flatten(saving.load(study / path))


def _start(study: Path, record: TrainingRecord) -> NDArray[np.float32]:
    """All weights that it started with, float32 (n,)."""
    from deepnets.networks import models

    run = sections.RunParams(**record.provenance["parameters"])
    path = project.grid_run(record.run, run.start).start(record.seed)
    model = models.start(run, record.provenance["image_size"], study / path)
    return _flatten(model)


def _flatten(model: Any) -> NDArray[np.float32]:
    return np.concatenate([np.ravel(array) for array in model.get_weights()])


if __name__ == "__main__":
    main()
