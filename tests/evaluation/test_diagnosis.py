"""What a look into a network reports, against the same numbers computed in another way."""

from typing import Any

import keras
import numpy as np
import pytest

import small_networks
from deepnets.config import params, registry
from deepnets.config.fields import Arch
from deepnets.config.sections import RunParams
from deepnets.data.splits import Split
from deepnets.evaluation import diagnosis
from deepnets.networks import models, views
from deepnets.stages import diagnose
from deepnets.training import batches, optimization, scores, steps
from project import ROOT

# NumPy 2 against Keras 3.15: every `variable.numpy()`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = 32
STUDY = params.load(ROOT / "params.yaml")
RANDOM = np.random.default_rng(0)
IMAGES = np.repeat(RANDOM.integers(0, 256, (24, SIZE, SIZE, 1), np.uint8), 3, axis=-1)
LABELS = np.arange(24, dtype=np.uint8) % 10


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for arch, entry in small_networks.ENTRIES.items():
        monkeypatch.setitem(registry.architectures(), arch, entry)


def run_of(arch: Arch, **changes: Any) -> RunParams:
    return STUDY.run_params(f"{arch}-sgd-random", 0).model_copy(update=changes)


def probed(run: RunParams) -> tuple[keras.Model, dict[str, Any]]:
    """A network with weights of its own, and what the probe says of it."""
    model = models.build(run.arch, SIZE, 0.0, run.batch_norm_momentum, run)
    measured = diagnosis.Probe(run, SIZE).measure(model.get_weights(), IMAGES, LABELS)
    return model, measured


def size(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(values, np.float64)))))


@pytest.mark.parametrize(
    ("arch", "changes"),
    [("vgg16", {}), ("resnet50", {}), ("resnet50", {"stages": 3, "upsampling": 2})],
    ids=str,
)
def test_gradients_are_those_of_the_loss(arch: Arch, changes: dict[str, Any]) -> None:
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the tape is TensorFlow's")
    model, measured = probed(run_of(arch, **changes))
    loss = keras.losses.SparseCategoricalCrossentropy()
    with tf.GradientTape() as tape:
        value = loss(LABELS, model(IMAGES, training=True))
    kernels = [weight for weight in model.trainable_weights if weight.name == "kernel"]
    gradients = tape.gradient(value, [kernel.value for kernel in kernels])
    expected = {k.path.split("/")[-2]: size(g) for k, g in zip(kernels, gradients, strict=True)}
    own = {layer["name"]: layer["gradient"] for layer in measured["layers"] if "gradient" in layer}
    assert own.keys() == expected.keys()
    assert min(expected.values()) > 0
    for name, gradient in own.items():
        assert gradient == pytest.approx(expected[name], rel=0.02), name
    assert measured["batch"]["loss"] == pytest.approx(float(value), rel=1e-4)


def test_activations_are_those_of_the_layers() -> None:
    model, measured = probed(run_of("vgg16"))
    backbone = model.get_layer("vgg16")
    names = [f"block{block}_conv1" for block in range(1, 6)]
    inside = keras.Model(backbone.inputs, [backbone.get_layer(name).output for name in names])
    outputs = inside([model.get_layer("scale")(IMAGES)])
    assert [layer["name"] for layer in measured["layers"]] == [*names, "logits"]
    for layer, output in zip(measured["layers"], outputs, strict=False):
        assert layer["activation"] == pytest.approx(size(output), rel=1e-4)
        assert layer["weight"] == pytest.approx(
            size(backbone.get_layer(layer["name"]).kernel.numpy()), rel=1e-5
        )
    assert measured["batch_norms"] == []
    assert measured["batch"] == measured["moving"]


def test_averages_that_follow_the_batch_are_no_distance_away() -> None:
    run = run_of("resnet50", batch_norm_momentum=0.0)
    model, fresh = probed(run)
    # Averages of no memory are those of the last batch.
    model(IMAGES, training=True)
    followed = diagnosis.Probe(run, SIZE).measure(model.get_weights(), IMAGES, LABELS)
    assert len(followed["batch_norms"]) == len(fresh["batch_norms"]) > 10
    for norm in followed["batch_norms"]:
        assert norm["mean_gap"] < 1e-2, norm
        assert norm["deviation_ratio"] == pytest.approx(1, rel=1e-2), norm
    assert followed["batch"]["loss"] == pytest.approx(followed["moving"]["loss"], rel=1e-2)
    first = fresh["batch_norms"][0]
    scaled = np.asarray(model.get_layer("scale")(IMAGES))
    convolved = model.get_layer("resnet50").get_layer("conv1_conv")(
        np.pad(scaled, ((0, 0), (3, 3), (3, 3), (0, 0)))
    )
    deviation = np.std(np.asarray(convolved), axis=(0, 1, 2))
    mean = np.mean(np.asarray(convolved), axis=(0, 1, 2))
    assert first["mean_gap"] == pytest.approx(size(mean / deviation), rel=0.01)
    assert first["deviation_ratio"] == pytest.approx(np.median(1 / deviation), rel=0.01)


def test_moving_averages_are_scored_as_they_were() -> None:
    run = run_of("resnet50", batch_norm_momentum=0.5)
    model, measured = probed(run)
    expected = scores.score(views.predict(model, IMAGES), LABELS)
    assert measured["moving"] == pytest.approx(expected, rel=1e-3)
    assert measured["batch"]["loss"] != pytest.approx(expected["loss"], rel=1e-2)


def test_what_is_no_number_is_none() -> None:
    model = models.build("vgg16", SIZE, 0.0)
    weights = [np.full_like(weight, 1e30) for weight in model.get_weights()]
    measured = diagnosis.Probe(run_of("vgg16"), SIZE).measure(weights, IMAGES, LABELS)
    assert measured["layers"][-1]["activation"] is None


def test_the_first_steps_are_those_of_the_training() -> None:
    """Over the end of an epoch, with its dropout, as `train.fit` takes them."""
    run = run_of("vgg16", batch_size=8, learning_rate=0.1)
    split = Split(IMAGES, LABELS)
    first, again = (models.build("vgg16", SIZE, run.dropout) for _ in range(2))
    again.set_weights(first.get_weights())
    diagnose._train(first, run, split, count=4)

    stepper = steps.build(steps.training_view(again), lambda: optimization.build(run, 3))
    for epoch, count in ((1, 3), (2, 1)):
        with stepper.epoch() as take_step:
            for _, batch in zip(range(count), batches.batches(split, run, epoch), strict=False):
                take_step(batch)
    for ours, theirs in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
