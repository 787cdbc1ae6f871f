"""What the rows say of the study's claims, or to the questions and ladders of a study of ours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from deepnets.base import project
from deepnets.config.sections import Pair, Question, RunEntry
from deepnets.reporting import accuracies, ladders, layers, page, published, tables
from deepnets.reporting import curves as by_epoch
from deepnets.reporting import questions as rules
from deepnets.reporting import verdicts as judges
from deepnets.reporting.comparisons import p_text
from deepnets.reporting.sections.results import Trained


def verdicts(trained: Trained) -> list[str]:
    rows = [
        {
            "": number,
            "claim": of.claim,
            "verdict": f"**{of.verdict}** {of.scope}".rstrip(),
            "evidence": of.evidence,
        }
        for number, of in enumerate(judges.judge(trained), start=1)
    ]
    return [
        "## The study's claims",
        tables.markdown(pd.DataFrame(rows)),
        "Rebuilt by `deepnets report` from the runs, and these by `deepnets reproduce RUN`. The "
        f"rules, fixed on {judges.FIXED}, before the runs:",
        "\n".join(f"- {rule}" for rule in judges.RULES),
        judges.SCOPE,
    ]


def answers(
    asked: Sequence[Question],
    trained: Trained,
    diagnoses: Mapping[str, dict[str, Any]],
    seeds: Sequence[int],
) -> list[str]:
    parts = ["## The questions"]
    for question in asked:
        of = rules.answer(question, trained, diagnoses, seeds)
        parts += [
            f"### {page.literal(of.question)}",
            f"**{of.word.capitalize()}.** {of.numbers} {page.literal(of.mechanism)}".rstrip(),
        ]
        shown = ", ".join(f"`deepnets diff {pair.row} {pair.than}`" for pair in of.pairs)
        if shown:
            looked = [diagnoses[row] for row in question.diagnosed if row in diagnoses]
            names = ["effects.png"]
            names += ["flow.png"] if looked else []
            names += ["norms.png"] if any(map(_has_norms, looked)) else []
            parts.append(f"Figures: {', '.join(names)}. The first seed image by image: {shown}.")
    return [
        *parts,
        "### By which rules",
        "Rebuilt by `deepnets report` from the runs, and these by `deepnets reproduce RUN`. The "
        "rules, fixed before the runs:",
        "\n".join(f"- {rule}" for rule in rules.RULES),
    ]


def effects(entries: Mapping[str, RunEntry], trained: Trained) -> list[str]:
    """A factor at a time: every row beside the one that it was made of."""
    rows: list[dict[str, Any]] = []
    panels: dict[str, list[accuracies.Effect]] = {}
    learned = {}

    def histories(name: str) -> list[Any]:
        return [of.history for of in trained.get(name, [])]

    for name, entry in entries.items():
        before = rules.parent(name, entries)
        if name in trained:
            learned[name] = (histories(name), histories(before) if before else [])
        if before is None:
            continue
        compared = rules.compare(Pair(row=name, than=before), trained)
        if compared is None:
            continue
        changed = rules.changes(entry, entries[before])
        change = ", ".join(
            f"{key} {'as shared' if value is None else value}" for key, value in changed.items()
        )
        interval = rules.interval(compared)
        mean = float(np.mean(compared.differences))
        panels.setdefault(published.network(entry.arch), []).append(
            accuracies.Effect(name, change, compared.differences, interval)
        )
        rows.append(
            {
                "row": name,
                "made of": before,
                "by": change,
                "test acc": f"{compared.accuracy_a:.4f}",
                "points more": rules.points([mean]),
                "95 % interval": rules.points(interval or []),
                "ahead with": f"{compared.seeds_ahead} of {len(compared.seeds)} seeds",
                "p": p_text(compared.p_value),
                "shown by": f"`deepnets diff {name} {before}`",
            }
        )
    if not rows:
        return []
    accuracies.effects(panels, project.REPORTS / "effects")
    by_epoch.learning(learned, project.REPORTS / "learning")
    return [
        "## A factor at a time",
        tables.markdown(pd.DataFrame(rows)),
        "Paired by seed: both rows start from the same weights wherever they have the same layers "
        "and `weights`, and see the same images in the same order where they have equally many. "
        "The interval is Student's, of the mean difference over the seeds, where all of them have "
        "learned; p is McNemar's, of the same test images.",
        "![Test accuracy that each row gains on the one that it was made of](effects.png)",
        "![Validation accuracy by epoch, a panel a row](learning.png)",
    ]


def climbs(rungs: Sequence[Sequence[str]], trained: Trained) -> list[str]:
    """The fewest epochs above the study's best results, a row a network and result."""
    climbed = [climbs for names in rungs if (climbs := ladders.climb(names, trained))]
    if not climbed:
        return []
    panels = [(published.network(climbs[0].arch), climbs) for climbs in climbed]
    accuracies.climbs(panels, project.REPORTS / "climbs")
    return [
        "## The fewest epochs that beat the study",
        tables.markdown(pd.DataFrame([_climb_row(of) for climbs in climbed for of in climbs])),
        "Rebuilt by `deepnets report` from the runs, and these by `deepnets reproduce RUN`. The "
        "rules, fixed before the runs:",
        "\n".join(f"- {rule}" for rule in ladders.RULES),
        "![Validation accuracy by epochs, and the test accuracy of what it chose](climbs.png)",
    ]


def _climb_row(climb: ladders.Climb) -> dict[str, Any]:
    epochs = ", ".join(str(rung.epochs) for rung in climb.rungs)
    rung = climb.chosen
    row = {
        "network": published.network(climb.arch),
        "study's best test acc": f"{climb.goal:.4f}, from {published.WEIGHTS[climb.weights]}",
        "epochs tried": epochs,
        "fewest above": str(rung.epochs) if rung else "none",
        "row": rung.row if rung else "",
        "val acc": ", ".join(f"{of:.4f}" for of in rung.validation) if rung else "",
        "test acc": "",
        "95 % interval": "",
        "beats the study's": "not decided" if rung else "",
    }
    if rung and rung.test is not None and rung.interval is not None:
        row |= {
            "test acc": f"{rung.test:.4f}",
            "95 % interval": f"{rung.interval[0]:.4f} to {rung.interval[1]:.4f}",
            "beats the study's": "yes" if rung.test > climb.goal else "no",
        }
    return row


def diagnoses(diagnoses: Mapping[str, dict[str, Any]]) -> list[str]:
    if not diagnoses:
        return []
    layers.flow(diagnoses, project.REPORTS / "flow")
    parts = [
        "## What flows through the layers",
        "Root mean squares of activations and gradients in each layer, on the first "
        f"{next(iter(diagnoses.values()))['images']} validation images, dropout and augmentation "
        "off: where the training starts, after its first steps, and where it ends. First seed; "
        "rebuilt by `deepnets diagnose RUN`.",
        "![Activations and gradients by layer](flow.png)",
    ]
    normalised = {name: of for name, of in diagnoses.items() if _has_norms(of)}
    if normalised:
        layers.norms(normalised, project.REPORTS / "norms")
        parts += [
            "Batch normalisation trains with the statistics of each batch and predicts with moving "
            "averages of them. Where these lag behind, a network that has learned guesses.",
            "![Moving averages against the batch, by layer](norms.png)",
        ]
    return parts


def _has_norms(diagnosis: Mapping[str, Any]) -> bool:
    return any(of["batch_norms"] for of in diagnosis["moments"].values())
