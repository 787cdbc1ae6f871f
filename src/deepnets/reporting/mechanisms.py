"""What the diagnoses of rows say of why a network learns or not, in words."""

from collections.abc import Mapping
from typing import Any


def after_steps(diagnosis: Mapping[str, Any]) -> str:
    """The moment between the start and the end, by its name."""
    return next(name for name in map(str, diagnosis["moments"]) if name.startswith("after"))


def diagnosed(diagnoses: Mapping[str, Mapping[str, Any]]) -> str:
    """The numbers of one seed's diagnoses that bear on whether a network learns, row by row.

    Of networks with batch normalisation these are accuracies, of others what flows through the
    layers. The first row of each kind says what its numbers are, those after it follow suit.
    """
    said = []
    explained: set[bool] = set()
    for name, of in diagnoses.items():
        normalised = bool(of["moments"]["start"]["batch_norms"])
        tell = _told_by_norms if normalised else _told_by_flow
        said.append(tell(name, of, normalised not in explained))
        explained.add(normalised)
    return "; ".join(said)


def _told_by_norms(name: str, diagnosis: Mapping[str, Any], explain: bool) -> str:
    moment = after_steps(diagnosis)
    then, end = (
        {by: f"{diagnosis['moments'][key][by]['accuracy']:.2f}" for by in ("batch", "moving")}
        for key in (moment, "end")
    )
    if not explain:
        return (
            f"{name} {then['batch']} and {then['moving']}, at the end {end['batch']} and "
            f"{end['moving']}"
        )
    return (
        f"{moment}, {name} gets {then['batch']} of {diagnosis['images']} validation images right "
        f"with their own statistics and {then['moving']} with its moving averages, at the end "
        f"{end['batch']} and {end['moving']}"
    )


def _told_by_flow(name: str, diagnosis: Mapping[str, Any], explain: bool) -> str:
    moment = after_steps(diagnosis)
    convolutions = path(diagnosis["moments"]["start"])[:-1]
    first, last = (f"{convolutions[at]['activation']:.2g}" for at in (0, -1))
    gradient = f"{path(diagnosis['moments'][moment])[0]['gradient']:.2g}"
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
    found = {of["name"]: of for of in moment["layers"]}
    return [
        of | {"activation": found.get(f"{of['name']}_highway", of)["activation"]}
        for of in moment["layers"]
        if "gradient" in of and not of["name"].endswith("_gate")
    ]
