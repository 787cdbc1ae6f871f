"""Whole epochs on the device, as JAX runs them on a GPU; here it compiles the same for the CPU.

Not collected by itself: test_device_epochs.py runs these tests in a process of their own, on JAX.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import seeds_in_turn
import small_networks
import tiny
from deepnets.config import params, registry
from deepnets.config.sections import RunParams
from deepnets.data import splits
from deepnets.evaluation import epochs
from deepnets.networks import gpu_layers, initializers, models, on_device, runtime, variants, views
from deepnets.stages.train import EpochRecorder
from deepnets.training import batches, checkpoints, jax_steps, loop, steps
from deepnets.training.listener import Listener, Listeners
from project import ROOT

SIZE, BATCH, STEPS = 32, 8, 6

# Three steps each, where `_short_chunks` applies.
CHUNKS = [(0, 3), (3, 3)]

# A batch more or less would be seen: two images are left over.
DIGITS = splits.Split(
    np.random.default_rng(0).integers(0, 256, (STEPS * BATCH + 2, SIZE, SIZE, 3), np.uint8),
    np.arange(STEPS * BATCH + 2, dtype=np.uint8) % 10,
)

# To validate.
FEW = splits.Split(DIGITS.images[:3], DIGITS.labels[:3])

# Rates of test_same_mathematics.py: with larger ones rounding grows from step to step.
RATES: dict[str, dict[str, float]] = {
    "sgd": {"learning_rate": 0.001},
    "adam": {"learning_rate": 0.001, "epsilon": 0.1},
}
# Networks with all kinds of layers that stand-ins are made for, and some that have none; and how
# many steps the second epoch has. Of four, it is a chunk of another length, which is compiled anew.
CASES: list[tuple[str, str, dict[str, Any], int]] = [
    ("vgg16", "adam", {"batch_norm": True, "highway": True, "label_smoothing": 0.1}, 4),
    (
        *("resnet50", "sgd"),
        {"nesterov": True, "input_channels": 1, "upsampling": 2, "stages": 3},
        3,
    ),
]


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    _gpu(monkeypatch, True)
    monkeypatch.setattr(runtime, "compiler_options", dict)
    for arch, entry in small_networks.ENTRIES.items():
        monkeypatch.setitem(registry.architectures(), arch, entry)


@pytest.fixture(autouse=True)
def _short_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "long_chunks" not in request.fixturenames:
        monkeypatch.setattr(jax_steps, "_SHORTEST_CHUNK", 2)
        monkeypatch.setattr(jax_steps, "_LONGEST_CHUNK", 4)


@pytest.fixture
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of VGG-16 where it does not matter which: it has moving statistics as well."""
    monkeypatch.setitem(registry.architectures(), "vgg16", tiny.NORMALIZED_NETWORK)


@pytest.fixture
def long_chunks() -> None:
    """Chunks of their real lengths."""


def _gpu(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(runtime, "on_jax_gpu", lambda: there)
    if not there:
        monkeypatch.setattr(views, "_stand_in", lambda: None)


def run_of(arch: str = "vgg16", optimizer: str = "sgd", **changes: Any) -> RunParams:
    run = params.load(ROOT / "params.yaml").run_params(f"{arch}-{optimizer}-random", 0)
    return run.model_copy(
        update={"epochs": 2, "batch_size": BATCH, "zero_gamma": True, **RATES[optimizer], **changes}
    )


@dataclass
class Training:
    """A network with what trains it."""

    run: RunParams
    classifier: keras.Model
    stepper: Any

    def values(self) -> dict[str, np.ndarray]:
        """Weights, moving statistics and the optimizer's slots, each group flat."""
        classifier, optimizer = self.classifier, self.stepper.optimizer
        groups = {
            "weights": classifier.trainable_weights,
            "statistics": classifier.non_trainable_weights,
            "slots": [slot for slot in optimizer.variables if slot.shape],
        }
        return {
            name: np.concatenate([np.ravel(variable.numpy()) for variable in group])
            for name, group in groups.items()
            if group
        }

    def train(self, epoch: int, count: int | None = None) -> dict[str, np.ndarray]:
        parts = list(self.stepper.train(DIGITS, self.run, epoch, count))
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def training(run: RunParams, mesh: Any = None) -> Training:
    """The network of `run` from He's weights, to be trained on one device or those of `mesh`."""
    with initializers.nothing_drawn():
        classifier = models.build(run.arch, SIZE, run.dropout, run.batch_norm_momentum, run)
    variants.start(classifier, models.initialize(run.arch, "he", 0, SIZE), run)
    return Training(run, classifier, steps.for_run(classifier, run, DIGITS, mesh))


def _close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Losses and accuracies by step are the same but for rounding."""
    assert len(ours["loss"]) == len(theirs["loss"])
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    np.testing.assert_array_equal(ours["accuracy"], theirs["accuracy"])


@pytest.mark.parametrize(("arch", "optimizer", "changes", "count"), CASES)
def test_whole_epochs_are_those_of_single_steps(
    arch: str, optimizer: str, changes: dict[str, Any], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(arch, optimizer, **changes)
    whole = training(run)
    start = whole.values()
    _gpu(monkeypatch, False)
    single = training(run)
    assert type(whole.stepper) is jax_steps.DeviceStepper
    assert type(single.stepper) is jax_steps.BatchStepper
    np.testing.assert_array_equal(single.values()["weights"], start["weights"])
    for epoch, limit in ((1, None), (2, count)):
        _close(whole.train(epoch, limit), single.train(epoch, limit))
    after, expected = whole.values(), single.values()
    assert after.keys() == expected.keys()
    for name, value in expected.items():
        moved = np.linalg.norm(value - start[name])
        assert moved > 0.005, name
        assert np.linalg.norm(after[name] - value) < 2e-3 * moved, name
    iterations = whole.stepper.optimizer.iterations
    assert int(iterations.numpy()) == STEPS + count


@pytest.mark.parametrize(
    ("steps_an_epoch", "lengths"),
    [
        (1562, [71] * 22),  # the study's epoch
        (1, [1]),
        (15, [15]),
        (64, [64]),
        (128, [128]),
        (256, [128] * 2),
        (131, [64, 64, 3]),  # a prime
        (0, []),
    ],
)
def test_chunks_are_of_one_length_where_they_can_be(
    steps_an_epoch: int, lengths: list[int], long_chunks: None
) -> None:
    chunks = jax_steps._chunks(steps_an_epoch)
    assert [size for _, size in chunks] == lengths
    assert [start for start, _ in chunks] == list(np.cumsum([0, *lengths])[:-1])


@pytest.mark.usefixtures("tiny_network")
def test_results_come_a_chunk_at_a_time_and_variables_at_the_end() -> None:
    trainee = training(run_of())
    before = trainee.values()
    assert jax_steps._chunks(STEPS) == CHUNKS
    results = trainee.stepper.train(DIGITS, trainee.run, 1)
    for _, size in CHUNKS:
        result = next(results)
        assert result.keys() == {"loss", "accuracy"}
        assert all(
            metric.shape == (size,) and metric.dtype == np.float32 for metric in result.values()
        )
        np.testing.assert_array_equal(trainee.values()["weights"], before["weights"])
    assert list(results) == []
    assert not np.array_equal(trainee.values()["weights"], before["weights"])


@pytest.mark.usefixtures("tiny_network")
def test_an_epoch_left_in_the_middle_changes_nothing_and_can_be_taken_again() -> None:
    left, whole = training(run_of()), training(run_of())
    before = left.values()
    results = left.stepper.train(DIGITS, left.run, 1)
    next(results)
    results.close()
    for name, value in left.values().items():
        np.testing.assert_array_equal(value, before[name])
    for epoch in (1, 2):
        left.train(epoch)
        whole.train(epoch)
    for name, value in whole.values().items():
        np.testing.assert_array_equal(left.values()[name], value)


@pytest.mark.usefixtures("tiny_network")
def test_a_loss_that_is_no_number_ends_with_the_epoch_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    draw = batches.draw_epoch

    def spoilt(split: splits.Split, run: RunParams, epoch: int) -> batches.Epoch:
        drawn = draw(split, run, epoch)
        transforms = drawn.transforms.copy()
        if epoch == 2:
            transforms[4 * BATCH + 1] = np.nan  # one image of the fifth step
        return replace(drawn, transforms=transforms)

    monkeypatch.setattr(batches, "draw_epoch", spoilt)
    trainee = training(run_of(epochs=3))
    kept: list[dict[str, np.ndarray]] = []
    heard: list[tuple[int, int]] = []
    listener = Listener()
    monkeypatch.setattr(
        listener, "on_divergence", lambda epoch, step, loss: heard.append((epoch, step))
    )
    rows, diverged = _fit(trainee, tmp_path, lambda *_: kept.append(trainee.values()), listener)
    assert diverged
    assert heard == [(2, 5)]
    assert [row["epoch"] for row in rows.history] == [1]
    np.testing.assert_array_equal(trainee.values()["weights"], kept[0]["weights"])


def _fit(
    trainee: Training,
    folder: Path,
    save: Callable[..., None],
    listener: Listener | None = None,
) -> Any:
    return loop.fit(
        *(trainee.classifier, trainee.run, DIGITS, FEW, folder, save, listener),
        stepper=trainee.stepper,
    )


class Hears(Listener):
    """Keeps what it hears of the validation images, by epoch."""

    def __init__(self) -> None:
        self.validated: dict[int, np.ndarray] = {}

    def on_validation(self, epoch: int, probabilities: np.ndarray) -> None:
        self.validated[epoch] = probabilities


def _variables(trainee: Training) -> list[Any]:
    return [*trainee.classifier.weights, *trainee.stepper.optimizer.variables]


@pytest.mark.usefixtures("tiny_network")
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    run = run_of("vgg16", "adam", keep="both")
    listener = Hears()
    after: list[dict[str, np.ndarray]] = []

    def keep(rows: Any, variables: list[Any]) -> None:
        after.append(whole.values())
        if len(rows.history) == 1:
            checkpoints.save(tmp_path, variables, rows.history, rows.timing, keep_best=True)

    whole, resumed = training(run), training(run)
    recorder = EpochRecorder(tmp_path, FEW, lambda write: write())
    rows, _ = _fit(whole, tmp_path / "nothing", keep, Listeners([listener, recorder]))
    recorded = [epochs.read(path) for path in epochs.paths(tmp_path)]
    assert [(validated.epoch, validated.accuracy) for validated in recorded] == [
        (row["epoch"], row["val_accuracy"]) for row in rows.history
    ]
    again, _ = _fit(resumed, tmp_path, lambda *_: None, heard_again := Hears())
    assert again.history == rows.history
    for name, value in whole.values().items():
        np.testing.assert_array_equal(resumed.values()[name], value)
    # What an epoch's weights say of the validation images is heard once, by whoever trains it.
    assert list(listener.validated) == [1, 2]
    assert list(heard_again.validated) == [2]
    np.testing.assert_array_equal(listener.validated[2], heard_again.validated[2])
    for epoch, probabilities in listener.validated.items():
        hits = probabilities.argmax(axis=1) == FEW.labels
        assert hits.mean() == rows.history[epoch - 1]["val_accuracy"]
    # The checkpoint of the first epoch, which may be the best, has its weights.
    checkpoints.restore(checkpoints.best(tmp_path, rows.history[:1]), _variables(resumed))
    for name, value in after[0].items():
        np.testing.assert_array_equal(resumed.values()[name], value)


@pytest.mark.parametrize(("arch", "optimizer", "changes"), seeds_in_turn.CASES)
def test_a_seed_after_another_has_the_bits_of_one_alone(
    arch: str, optimizer: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    seeds_in_turn.check(tmp_path, arch, optimizer, changes)


@pytest.mark.usefixtures("tiny_network")
def test_whether_steps_repeat_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    trainee = training(run_of())
    before = trainee.values()
    assert trainee.stepper.repeats(DIGITS, trainee.run)
    for name, value in trainee.values().items():
        np.testing.assert_array_equal(value, before[name])

    calls = []

    def unsteady(size: int, *_: Any) -> Callable[..., Any]:
        def chunk(state: Any, *_: Any) -> Any:
            calls.append(size)
            # The last bit of one weight; all losses are the same.
            state[0][0] = jnp.nextafter(state[0][0], jnp.float32(len(calls) - 1))
            return state, {"loss": jnp.zeros(size), "accuracy": jnp.zeros(size)}

        return chunk

    other = training(run_of())
    monkeypatch.setattr(other.stepper, "_program", unsteady)
    assert not other.stepper.repeats(DIGITS, other.run)
    # What a process runs twice, it need not try for another seed.
    assert not other.stepper.repeats(DIGITS, other.run.model_copy(update={"seed": 1}))
    assert len(calls) == 2


@pytest.mark.usefixtures("tiny_network")
def test_a_program_is_known_by_what_it_computes() -> None:
    def program(**changes: Any) -> str:
        trainee = training(run_of(**changes))
        return str(trainee.stepper.program(DIGITS, trainee.run))

    first = program()
    assert len(first) == 64
    # Names that Keras numbers differ between two builds of one process.
    assert program() == first
    assert program(batch_size=BATCH // 2) != first


@pytest.mark.parametrize(("window", "strides"), [(2, 2), (3, 2)])
@pytest.mark.parametrize("size", [8, 9])
def test_gradient_of_max_pooling_is_keras_own(window: int, strides: int, size: int) -> None:
    """To the bit: numbers are whole, and so few that most windows have several largest ones."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 3, (2, size, size, 5)).astype(np.float32)
    theirs = keras.layers.MaxPooling2D(window, strides)
    ours = gpu_layers.stand_in(theirs)
    assert isinstance(ours, gpu_layers.MaxPooling)
    weights = generator.integers(1, 9, theirs(images).shape).astype(np.float32)
    np.testing.assert_array_equal(ours(images), theirs(images))

    def gradient(pool: keras.Layer) -> Any:
        return jax.jit(jax.grad(lambda x: jnp.sum(pool(x) * weights)))(images)

    np.testing.assert_array_equal(gradient(ours), gradient(theirs))


def test_what_has_no_stand_in_is_left_to_keras() -> None:
    assert gpu_layers.stand_in(keras.layers.MaxPooling2D(2, padding="same")) is None
    assert gpu_layers.stand_in(keras.layers.ReLU()) is None


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("is_training", [True, False])
def test_normalisation_is_keras_own(use_bias: bool, is_training: bool) -> None:
    """After a convolution with a large bias, whose squares would take the variance's digits."""
    generator = np.random.default_rng(2)
    pixels = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=use_bias, name="conv")(pixels)
    outputs = keras.layers.BatchNormalization(momentum=0.7, name="bn")(x)
    plain = keras.Model(pixels, outputs)
    bn = plain.get_layer("bn")
    values = [0.5, 1.5], [-1, 1], [-0.1, 0.1], [0.5, 2]  # gamma, beta, moving mean and variance
    bn.set_weights([generator.uniform(*ends, 4) for ends in values])
    if use_bias:
        plain.get_layer("conv").bias.assign(np.full(4, 100, np.float32))
        bn.moving_mean.assign(generator.uniform(99, 101, 4))
    fast = views._fast(plain)
    kinds = [type(layer).__name__ for layer in fast.layers]
    assert kinds == ["InputLayer", "Convolution", "Normalization"]
    images = generator.normal(0, 1, (8, 6, 6, 3)).astype(np.float32)
    weights = generator.normal(0, 1, (8, 4, 4, 4)).astype(np.float32)

    def found(model: keras.Model) -> tuple[Any, dict[str, Any]]:
        trainable = [variable.value for variable in model.trainable_variables]
        others = [variable.value for variable in model.non_trainable_variables]

        def value(trainable: Any, images: Any) -> Any:
            outputs, after = model.stateless_call(trainable, others, images, training=is_training)
            return jnp.sum(outputs * weights), (outputs, after)

        (_, kept), (gradients, of_images) = jax.jit(
            jax.value_and_grad(value, argnums=(0, 1), has_aux=True)
        )(trainable, images)
        names = [variable.path for variable in model.trainable_variables]
        return (*kept, of_images), dict(zip(names, gradients, strict=True))

    (outputs, averages, of_images), gradients = found(plain)
    (fast_outputs, fast_averages, fast_of_images), fast_gradients = found(fast)
    np.testing.assert_allclose(fast_outputs, outputs, atol=2e-4)
    np.testing.assert_allclose(fast_of_images, of_images, atol=2e-3)
    for ours, theirs in zip(fast_averages, averages, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert fast_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        if name == "conv/bias" and is_training:
            assert not np.any(fast_gradients[name])  # of the mean alone, which is taken away
        else:
            np.testing.assert_allclose(fast_gradients[name], gradient, atol=5e-3, err_msg=name)


@pytest.mark.parametrize(
    ("kernel", "strides", "size", "padding"),
    [
        (1, 1, 5, "valid"),
        (1, 2, 5, "valid"),
        (3, 1, 1, "same"),
        (3, 1, 2, "same"),
        (3, 1, 4, "same"),
    ],
)
def test_convolutions_as_products_are_keras_own(
    kernel: int, strides: int, size: int, padding: str
) -> None:
    """With their gradients."""
    pixels = keras.Input((size, size, 6))
    options = {"activation": "relu", "bias_initializer": "normal"}
    plain = keras.Model(pixels, keras.layers.Conv2D(7, kernel, strides, padding, **options)(pixels))
    fast = views._fast(plain)
    assert isinstance(fast.layers[1], gpu_layers.Convolution)
    generator = np.random.default_rng(3)
    images = generator.normal(0, 1, (4, size, size, 6)).astype(np.float32)
    outputs = plain(images)
    np.testing.assert_allclose(fast(images), outputs, atol=1e-5)
    weights = generator.normal(0, 1, outputs.shape).astype(np.float32)
    weights_of = [variable.value for variable in plain.trainable_variables]

    def gradients(model: keras.Model) -> Any:
        def value(trainable: Any, images: Any) -> Any:
            return jnp.sum(model.stateless_call(trainable, [], images)[0] * weights)

        return jax.jit(jax.grad(value, argnums=(0, 1)))(weights_of, images)

    for ours, theirs in zip(
        jax.tree.leaves(gradients(fast)), jax.tree.leaves(gradients(plain)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 12, 24, 30])
def test_any_number_of_images_is_predicted_as_in_batches(
    count: int, predictor: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "PREDICTION_BATCH", 12)
    images = DIGITS.images[:count]
    ours = views.predict(predictor, images)
    assert ours.shape == (count, 10)
    assert ours.dtype == np.float32
    monkeypatch.setattr(runtime, "on_jax_gpu", lambda: False)
    np.testing.assert_allclose(ours, views.predict(predictor, images), atol=1e-6)


@pytest.fixture(scope="module")
def predictor() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.architectures(), "resnet50", small_networks.ENTRIES["resnet50"])
        patch.setattr(runtime, "on_jax_gpu", lambda: True)
        classifier = models.initialize("resnet50", "he", 0, SIZE)
        return views.scoring_view(classifier)


def test_predictions_are_of_the_weights_at_hand(predictor: keras.Model) -> None:
    images = DIGITS.images[:12]
    before = views.predict(predictor, images)
    kernel = predictor.get_layer("logits").kernel
    kernel.assign(-kernel.value)
    assert not np.allclose(views.predict(predictor, images), before)


def test_an_array_is_sent_once_and_the_latest_few_are_kept() -> None:
    arrays = [np.full(3, number, np.float32) for number in range(on_device._MOST_KEPT + 1)]
    sent = [on_device.put(array) for array in arrays]
    assert on_device.put(arrays[-1]) is sent[-1]
    assert len(on_device._kept) == on_device._MOST_KEPT
    again = on_device.put(arrays[0])
    assert again is not sent[0]
    np.testing.assert_array_equal(again, arrays[0])
