"""How the numbers were made: settings, commits, data, machines, and what rebuilds them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from deepnets.config.sections import RunParams
from deepnets.records import machine
from deepnets.records.results import TrainingRecord
from deepnets.reporting import tables
from deepnets.reporting.sections.results import Trained

# So many different values are listed with the runs that have them.
_MOST = 12

_CHANGED = {True: "yes", False: "no", None: "not known"}


_PROVENANCE: dict[str, Callable[[TrainingRecord], Any]] = {
    "commit": lambda r: r.provenance["git"]["commit"],
    "uncommitted changes": lambda r: _CHANGED[r.provenance["git"]["dirty"]],
    "training images": lambda r: f"{r.provenance['images']['train']:,}",
    "validation images": lambda r: f"{r.provenance['images']['validation']:,}",
    "test images": lambda r: f"{r.provenance['images']['test']:,}",
    "training data, sha256": lambda r: r.provenance["data"]["train"][:16],
    "validation data, sha256": lambda r: r.provenance["data"]["validation"][:16],
    "test data, sha256": lambda r: r.provenance["test_data"][:16],
    "starting weights, sha256": lambda r: r.provenance["start"][:16],
    "processor": lambda r: machine.processor(r.provenance["environment"]["hardware"]),
    "cores": lambda r: r.provenance["environment"]["hardware"]["cores"],
    "accelerators": lambda r: ", ".join(r.provenance["environment"]["hardware"]["devices"]),
    "system": lambda r: r.provenance["environment"]["hardware"]["platform"],
    "versions": lambda r: _pairs_of(r.provenance["environment"]["versions"]),
    "settings": lambda r: _pairs_of(r.provenance["environment"]["settings"]),
}


def provenance(runs: Mapping[str, Sequence[RunParams]], trained: Trained) -> list[str]:
    """Exactly how the numbers were made; what differs between runs is listed for each value."""
    parts = ["## How this was made", *_settings(runs)]
    results = [result for seeds in trained.values() for result in seeds]
    if results:
        rows = [
            {"": label, "value": _describe_values(results, value)}
            for label, value in _PROVENANCE.items()
            if any(value(result) for result in results)
        ]
        parts.append(tables.markdown(pd.DataFrame(rows)))
    weights = {result.params.weights for result in results}
    if "imagenet" not in weights and any(
        params[0].weights == "imagenet" for params in runs.values()
    ):
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
        name: {k: v for k, v in params[0].flat.items() if k != "seed"}
        for name, params in runs.items()
    }
    values: dict[str, list[Any]] = {}
    for run_settings in settings.values():
        for key, value in run_settings.items():
            values.setdefault(key, []).append(value)
    usual = {k: Counter(v).most_common(1)[0][0] for k, v in values.items() if len(v) == len(runs)}
    shared = {k: v for k, v in usual.items() if set(values[k]) == {v}}
    own = {
        name: {k: v for k, v in run_settings.items() if k not in usual or v != usual[k]}
        for name, run_settings in settings.items()
    }
    parts = [f"Seeds: {seeds}. Every run: {_pairs_of(shared)}."]
    if len(shared) < len(usual):
        rest = {k: v for k, v in usual.items() if k not in shared}
        parts.append(f"Unless its row says otherwise: {_pairs_of(rest)}.")
    if any(own.values()):
        rows = [
            {"run": name, "its own": _pairs_of(run_settings)} for name, run_settings in own.items()
        ]
        parts.append(tables.markdown(pd.DataFrame(rows)))
    return parts


def _pairs_of(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _describe_values(
    trained: Sequence[TrainingRecord], value: Callable[[TrainingRecord], Any]
) -> str:
    """The value that all runs share, or each value with the runs that have it."""
    holders: dict[str, dict[str, list[int]]] = {}
    seeds: dict[str, list[int]] = {}
    for result in trained:
        seeds.setdefault(result.run, []).append(result.seed)
        holders.setdefault(str(value(result)), {}).setdefault(result.run, []).append(result.seed)
    if len(holders) == 1:
        return next(iter(holders))
    if len(holders) > _MOST:
        return f"{len(holders)} different ones, in metrics/RUN/provenance.json"

    def name_holder(run: str, holding: list[int]) -> str:
        return run if holding == seeds[run] else f"{run} seed {' and '.join(map(str, holding))}"

    return "; ".join(
        f"{text} ({', '.join(name_holder(run, holding) for run, holding in by_run.items())})"
        for text, by_run in holders.items()
    )
