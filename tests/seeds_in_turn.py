"""Two seeds of a run on one workbench, beside the second alone; on whichever backend."""

from pathlib import Path
from typing import Any

import numpy as np

from deepnets.config import params
from deepnets.config.sections import RunParams
from deepnets.data import splits
from deepnets.networks import models, saving, views
from deepnets.training import loop
from deepnets.training.compiled import Compiled, Workbench
from project import ROOT

SIZE, BATCH, STEPS = 32, 8, 2

# A network with layers of its own, and one whose plain weights are changed.
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("vgg16", "adam", {"batch_norm": True, "highway": True}),
    ("resnet50", "sgd", {"zero_gamma": True}),
]
_RANDOM = np.random.default_rng(0)
_DIGITS = splits.Split(
    _RANDOM.integers(0, 256, (STEPS * BATCH, SIZE, SIZE, 3), np.uint8),
    np.arange(STEPS * BATCH, dtype=np.uint8) % 10,
)


def check(folder: Path, arch: str, optimizer: str, changes: dict[str, Any]) -> None:
    """Weights, history and predictions of seed 1 after seed 0 are those of seed 1 alone."""
    row = params.load(ROOT / "params.yaml").run_params(f"{arch}-{optimizer}-random", 0)
    run = row.model_copy(update={"epochs": 2, "batch_size": BATCH, **changes})
    runs = [run.model_copy(update={"seed": seed}) for seed in (0, 1)]
    for seed in (0, 1):
        start = models.initialize(run.arch, "he", seed, SIZE)
        saving.save_start(start, folder / f"{seed}.weights.h5")
    shared = Workbench()
    first = _trained(shared, runs[0], folder)
    again = _trained(shared, runs[1], folder)
    alone = _trained(Workbench(), runs[1], folder)
    assert again[0] is first[0]
    assert alone[0] is not first[0]
    assert again[1:3] == alone[1:3] != first[1:3]
    np.testing.assert_array_equal(again[3], alone[3])
    other = shared.start(run.model_copy(update={"dropout": 0.1}), folder / "0.weights.h5", _DIGITS)
    assert other is not first[0]


def _trained(
    workbench: Workbench, run: RunParams, folder: Path
) -> tuple[Compiled, str, list[dict[str, Any]], Any]:
    """What was used, the digest of its weights, the history, and answers."""
    compiled = workbench.start(run, folder / f"{run.seed}.weights.h5", _DIGITS)
    stepper, scorer = compiled.stepper, compiled.scorer
    few = splits.Split(_DIGITS.images[:3], _DIGITS.labels[:3])
    nothing = (folder / "no-checkpoints", lambda *_: None)
    rows, _ = loop.fit(
        compiled.classifier, run, _DIGITS, few, *nothing, stepper=stepper, scorer=scorer
    )
    answers = views.predict(scorer, few.images)
    return compiled, saving.weights_digest(compiled.classifier), rows.history, answers
