"""What the diagnoses of rows say of why a network learns or not, in words.

A diagnosis is what the stage `diagnose` writes: by seed and moment, what its probe has measured.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Diagnosis = Mapping[str, Any]


def middle_moment(diagnosis: Diagnosis) -> str:
    """The moment between the start and the end, by its name."""
    first = next(iter(diagnosis["seeds"].values()))
    return next(name for name in map(str, first) if name.startswith("after"))


def has_norms(diagnosis: Diagnosis) -> bool:
    """Whether the network has batch normalisation."""
    return any(
        measured["batch_norms"]
        for seed in diagnosis["seeds"].values()
        for measured in seed.values()
    )


def median(diagnosis: Diagnosis, moment: str, number: Callable[[Any], float | None]) -> float:
    """Over the seeds, of a `number` of what was measured at `moment`; nan where it is none."""
    values = [number(seed[moment]) for seed in diagnosis["seeds"].values()]
    return float(np.median([np.nan if value is None else value for value in values]))


def share_right(diagnosis: Diagnosis, moment: str, by: str) -> float:
    """The share of images that are right by the statistics of the `batch`, or `moving` averages."""
    return median(diagnosis, moment, lambda measured: measured[by]["accuracy"])


def describe_diagnoses(diagnoses: Mapping[str, Diagnosis]) -> str:
    """The numbers of diagnoses that bear on whether a network learns, row by row: medians of seeds.

    Of networks with batch normalisation these are accuracies, of others what flows through the
    layers. The first row of each kind says what its numbers are, those after it follow suit.
    """
    said = []
    explained: set[bool] = set()
    for name, diagnosis in diagnoses.items():
        normalised = has_norms(diagnosis)
        tell = _describe_norms if normalised else _describe_flow
        said.append(tell(name, diagnosis, normalised not in explained))
        explained.add(normalised)
    most = max((len(diagnosis["seeds"]) for diagnosis in diagnoses.values()), default=0)
    return "; ".join(said) + (f" (medians of {most} seeds)" if most > 1 else "")


def _describe_norms(name: str, diagnosis: Diagnosis, explain: bool) -> str:
    moment = middle_moment(diagnosis)

    batch, moving = (f"{share_right(diagnosis, moment, by):.2f}" for by in ("batch", "moving"))
    text = (
        f"{moment}, {name} gets {batch} of {diagnosis['images']} validation images right with "
        f"their own statistics and {moving} with its moving averages"
        if explain
        else f"{name} {batch} and {moving}"
    )
    # A model that is not at hand has no end.
    if not all("end" in seed for seed in diagnosis["seeds"].values()):
        return text
    batch, moving = (f"{share_right(diagnosis, 'end', by):.2f}" for by in ("batch", "moving"))
    return f"{text}, at the end {batch} and {moving}"


def _describe_flow(name: str, diagnosis: Diagnosis, explain: bool) -> str:
    moment = middle_moment(diagnosis)

    def activation(place: int) -> str:
        # The last of `path` is the classifier's own layer.
        return (
            f"{median(diagnosis, 'start', lambda start: path(start)[:-1][place]['activation']):.2g}"
        )

    first, last = activation(0), activation(-1)
    gradient = f"{median(diagnosis, moment, lambda measured: path(measured)[0]['gradient']):.2g}"
    if not explain:
        return f"{name} from {first} to {last}, then {gradient}"
    return (
        f"from the first convolution to the last, activations of {name} go from {first} to {last} "
        f"at the start, and {moment} the first kernel's gradient is {gradient}"
    )


def path(moment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layers with a kernel, without gates, each with the activation that goes on from it.

    For a layer with a highway connection that is what the connection puts out.
    """
    by_name = {layer["name"]: layer for layer in moment["layers"]}
    return [
        layer | {"activation": by_name.get(f"{layer['name']}_highway", layer)["activation"]}
        for layer in moment["layers"]
        if "gradient" in layer and not layer["name"].endswith("_gate")
    ]
