"""What the rows say of the study's claims, and what flows through the layers of some."""

from collections.abc import Mapping

import pandas as pd

from deepnets.base import project
from deepnets.reporting import layers, mechanisms, tables
from deepnets.reporting import verdicts as judges
from deepnets.reporting.sections.results import Trained


def verdicts(trained: Trained) -> list[str]:
    rows = [
        {
            "": number,
            "claim": verdict.claim,
            "verdict": f"**{verdict.verdict}** {verdict.scope}".rstrip(),
            "evidence": verdict.evidence,
        }
        for number, verdict in enumerate(judges.judge(trained), start=1)
    ]
    return [
        "## The study's claims",
        tables.markdown(pd.DataFrame(rows)),
        "Rebuilt by `deepnets report` from the runs, and these by `deepnets reproduce RUN`. The "
        f"rules, fixed on {judges.FIXED}, before the runs:",
        "\n".join(f"- {rule}" for rule in judges.RULES),
        judges.SCOPE,
    ]


def diagnoses(diagnoses: Mapping[str, mechanisms.Diagnosis]) -> list[str]:
    if not diagnoses:
        return []
    layers.flow(diagnoses, project.REPORTS / "flow")
    seeds = {seed for diagnosis in diagnoses.values() for seed in diagnosis["seeds"]}
    parts = [
        "## What flows through the layers",
        "Root mean squares of activations and gradients in each layer, on the first "
        f"{next(iter(diagnoses.values()))['images']} validation images, dropout and augmentation "
        "off: where the training starts, after its first steps, and where it ends. Seeds: "
        f"{', '.join(sorted(seeds, key=int))}, a line each; rebuilt by `deepnets diagnose RUN`.",
        "![Activations and gradients by layer](flow.png)",
    ]
    normalised = {
        name: diagnosis for name, diagnosis in diagnoses.items() if mechanisms.has_norms(diagnosis)
    }
    if normalised:
        layers.norms(normalised, project.REPORTS / "norms")
        parts += [
            "Batch normalisation trains with the statistics of each batch and predicts with moving "
            "averages of them. Where these lag behind, a network that has learned guesses.",
            "![Moving averages against the batch, by layer](norms.png)",
        ]
    return parts
