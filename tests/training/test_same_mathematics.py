"""Training the fast way and the plain way, from the same start, differ by rounding only."""

from pathlib import Path

import keras
import numpy as np
import pytest

from deepnets.config import params
from deepnets.config.fields import Arch
from deepnets.config.sections import RunParams
from deepnets.data import splits
from deepnets.networks import models, runtime, variants
from deepnets.training import loop, optimization
from deepnets.training.checkpoints import Rows
from project import ROOT

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow" or not runtime.on_tensorflow_cpu(),
    reason="elsewhere training uses Keras' own operations",
)

DIGITS = splits.Split(
    np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8),
    np.arange(12, dtype=np.uint8) % 10,
)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("arch", ["vgg16", "resnet50"])
def test_training_steps_differ_by_rounding_only(
    arch: Arch, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = params.load(ROOT / "params.yaml").run_params(f"{arch}-{optimizer}-random", 0)
    # Adam divides by the gradient's size: with its own epsilon, the rounding errors of gradients
    # that are zero in theory (biases before a batch normalisation) move weights as far as others.
    rates = {"adam": {"learning_rate": 0.01, "epsilon": 0.1}, "sgd": {"learning_rate": 0.001}}
    run = run.model_copy(update={"epochs": 1, "batch_size": 4, **rates[optimizer]})
    # From a seed with which rounding turns no maximum of a pooling window over.
    classifier = models.initialize(arch, "he", 1, 32)
    # Rounding grows less where residual blocks start as the identity.
    variants.start(classifier, classifier, run.model_copy(update={"zero_gamma": True}))
    start = classifier.get_weights()
    # Batches in halves are part of the fast way, whatever this machine has.
    monkeypatch.setattr(runtime, "one_core_an_operation", lambda: True)
    fast, fast_loss = trained(run, start, tmp_path / "fast")
    monkeypatch.setattr(runtime, "one_core_an_operation", lambda: False)
    monkeypatch.setattr(runtime, "on_tensorflow_cpu", lambda: False)
    monkeypatch.setattr(optimization, "family", lambda: keras.optimizers)
    plain, plain_loss = trained(run, start, tmp_path / "plain")

    moved = np.linalg.norm(plain - np.concatenate([w.ravel() for w in start]))
    assert moved > 0.01
    assert np.linalg.norm(plain - fast) < 5e-4 * moved
    np.testing.assert_allclose(fast_loss, plain_loss, rtol=1e-4)


def trained(
    run: RunParams, start: list[np.ndarray], folder: Path
) -> tuple[np.ndarray, list[float]]:
    """All weights after a short training from `start`, and its loss by epoch."""
    classifier = models.build(run.arch, 32, run.dropout)
    classifier.set_weights(start)
    seen: list[Rows] = []
    loop.fit(classifier, run, DIGITS, DIGITS, folder, lambda rows, _: seen.append(rows))
    weights = np.concatenate([w.ravel() for w in classifier.get_weights()])
    return weights, [row["loss"] for row in seen[-1].history]
