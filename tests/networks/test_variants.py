"""Networks built otherwise: their size, what they compute, and the weights they start from."""

from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import small_networks
import tiny
from deepnets.config import params, registry, rows
from deepnets.config.fields import Arch
from deepnets.config.sections import RunParams
from deepnets.networks import initializers, models, saving, variants, views
from deepnets.reporting import diagrams
from deepnets.training import optimization, steps
from deepnets.training.batches import Batch
from project import ROOT

# NumPy 2 against Keras 3.15: every `variable.numpy()`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = 32
STUDY = params.load(ROOT / "params.yaml")
# He et al. 2016, table 1: ResNet50's residual blocks in stages 2 to 5.
LAST_BATCH_NORMS = {
    f"conv{stage}_block{block}_3_bn"
    for stage, blocks in ((2, 3), (3, 4), (4, 6), (5, 3))
    for block in range(1, blocks + 1)
}
IDENTITY = np.array([1, 0, 0, 0, 1, 0, 0, 0], np.float32)


def run_of(arch: Arch, **changes: Any) -> RunParams:
    """The study's row with SGD and random weights, as a variant."""
    entry = STUDY.runs[f"{arch}-sgd-random"].model_copy(update=changes)
    return rows.resolve(STUDY.train, STUDY.recipes, entry, 0)


def _starts(folder: Path) -> dict[Arch, Path]:
    """Starting weights of both networks, as initialize writes them."""
    written: dict[Arch, Path] = {}
    for arch in ("vgg16", "resnet50"):
        written[arch] = folder / f"{arch}.weights.h5"
        saving.save_start(models.initialize(arch, "random", 0, SIZE), written[arch])
    return written


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[Arch, Path]:
    return _starts(tmp_path_factory.mktemp("starts"))


@pytest.fixture
def small_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Arch, Path]:
    """Those of small networks that take the place of both."""
    for arch, entry in small_networks.ENTRIES.items():
        monkeypatch.setitem(registry.architectures(), arch, entry)
    return _starts(tmp_path)


@pytest.fixture
def deep_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of a thin network with all convolutions of VGG-16, whose place it takes."""
    monkeypatch.setitem(registry.architectures(), "vgg16", tiny.DEEP_NETWORK)
    written = tmp_path / "vgg16.weights.h5"
    saving.save_start(models.initialize("vgg16", "random", 0, SIZE), written)
    return written


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Grey noise in three equal channels: uint8 (8, 32, 32, 3)."""
    grey = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 1), np.uint8)
    return np.repeat(grey, 3, axis=-1)


# VGG-16: a convolution of c channels to c has 9 c^2 + c parameters, and so has its gate; batch
# normalisation has 4 a channel, half of them trained. ResNet50's stem has 7 x 7 x 3 x 64 weights.
_GATED = sum(9 * c * c + c for c in (64, 128, 256, 256, 512, 512, 512, 512, 512))
_VGG_CHANNELS = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512
# ResNet50's last stage: a shortcut and three blocks, the first from 1024 channels, the others from
# 2048; a channel has a bias, and four numbers of its batch normalisation.
_LAST_CHANNELS = 2048 + 3 * (512 + 512 + 2048)
_LAST_STAGE = 1024 * (2048 + 512) + 2 * 2048 * 512 + 3 * (9 * 512 + 2048) * 512 + 5 * _LAST_CHANNELS
_WITHOUT_LAST_STAGE = 23_608_202 - _LAST_STAGE - 10 * 1024


@pytest.mark.parametrize(
    ("arch", "changes", "total", "non_trainable"),
    [
        ("vgg16", {"input_channels": 1}, 14_719_818 - 2 * 9 * 64, 0),
        ("vgg16", {"batch_norm": True}, 14_719_818 + 4 * _VGG_CHANNELS, 2 * _VGG_CHANNELS),
        ("vgg16", {"highway": True}, 14_719_818 + _GATED, 0),
        ("vgg16", {"input_range": "unit"}, 14_719_818, 0),
        ("resnet50", {"input_channels": 1}, 23_608_202 - 2 * 49 * 64, 53_120),
        ("resnet50", {"stem": "small"}, 23_608_202 - 40 * 3 * 64, 53_120),
        ("resnet50", {"stem": "small", "input_channels": 1}, 23_608_202 - 138 * 64, 53_120),
        ("resnet50", {"zero_gamma": True}, 23_608_202, 53_120),
    ],
    ids=str,
)
def test_parameter_counts(
    arch: Arch, changes: dict[str, Any], total: int, non_trainable: int
) -> None:
    with initializers.nothing_drawn():
        model = models.build(arch, SIZE, 0.5, variant=run_of(arch, **changes))
    assert model.count_params() == total
    assert sum(int(np.prod(w.shape)) for w in model.non_trainable_weights) == non_trainable


@pytest.mark.parametrize("arch", ["vgg16", "resnet50"])
def test_the_study_is_no_variant(arch: Arch) -> None:
    assert not variants.has_own_layers(run_of(arch))
    with initializers.nothing_drawn():
        plain = models.build(arch, SIZE, 0.5)
        variant = models.build(arch, SIZE, 0.5, 0.99, run_of(arch))
    assert models.layers(plain) == models.layers(variant)


@pytest.mark.parametrize(
    ("chosen", "lowest", "highest"),
    [
        ("unit", 0, 1),
        ("symmetric", -1, 1),
        ("standardized", -0.1307 / 0.3081, (1 - 0.1307) / 0.3081),
    ],
)
def test_input_range(chosen: str, lowest: float, highest: float) -> None:
    for arch in ("vgg16", "resnet50"):
        with initializers.nothing_drawn():
            model = models.build(arch, SIZE, 0.5, variant=run_of(arch, input_range=chosen))
        pixels = np.array([0, 255], np.uint8).reshape(1, 2, 1, 1)
        seen = np.asarray(model.get_layer("scale")(pixels)).ravel()
        np.testing.assert_allclose(seen, [lowest, highest], atol=1e-6)


def test_small_stem_keeps_the_image_at_its_size() -> None:
    backbone = models.build("resnet50", SIZE, 0.5, variant=run_of("resnet50", stem="small"))
    layers = {layer["name"]: layer for layer in models.layers(backbone)}
    assert layers["conv1_relu"]["output_shape"] == [32, 32, 64]
    assert layers["conv2_block3_out"]["output_shape"] == [32, 32, 256]
    assert layers["conv5_block3_out"]["output_shape"] == [4, 4, 2048]
    assert not layers.keys() & {"conv1_pad", "pool1_pad", "pool1_pool"}
    kernel = backbone.get_layer("resnet50").get_layer("conv1_conv").kernel
    assert tuple(kernel.shape) == (3, 3, 3, 64)


@pytest.mark.parametrize(
    ("arch", "changes", "last", "channels", "total"),
    [
        ("vgg16", {"upsampling": 2}, "block5_pool", 512, 14_719_818),
        ("resnet50", {"upsampling": 2}, "conv5_block3_out", 2048, 23_608_202),
        ("resnet50", {"stages": 3}, "conv4_block6_out", 1024, _WITHOUT_LAST_STAGE),
    ],
    ids=str,
)
def test_last_maps_of_two_pixels_a_side(
    arch: Arch, changes: dict[str, Any], last: str, channels: int, total: int
) -> None:
    """Those of the plain networks have one."""
    with initializers.nothing_drawn():
        model = models.build(arch, SIZE, 0.5, variant=run_of(arch, **changes))
    assert model.input_shape == (None, SIZE, SIZE, 3)
    assert model.count_params() == total
    listed = models.layers(model)
    layers = {layer["name"]: layer for layer in listed}
    assert layers["avg_pool"]["inputs"] == [last]
    assert layers[last]["output_shape"] == [2, 2, channels]
    first, *_, end, top = [stage.name for stage in diagrams.stages(listed)]
    assert (first, end, top) == ("input", last.partition("_")[0], "top")
    drawn = [text.get_text() for text in diagrams.network(listed, "").axes[0].texts]
    assert drawn.count("upsample") == ("upsampling" in changes)


@pytest.mark.parametrize("arch", ["vgg16", "resnet50"])
def test_upsampling_is_the_network_of_larger_images(
    arch: Arch, small_starts: dict[Arch, Path], digits: np.ndarray
) -> None:
    model = models.start(run_of(arch, upsampling=2), SIZE, small_starts[arch])
    large = models.start(run_of(arch), 2 * SIZE, small_starts[arch])
    images = digits.astype(np.float32) / 255
    doubled = _doubled(_doubled(images, axis=1), axis=2)
    ours, theirs = (
        np.asarray(keras.Model(backbone.inputs, backbone.outputs)([pixels])[0])
        for backbone, pixels in ((model.get_layer(arch), images), (large.get_layer(arch), doubled))
    )
    assert np.ptp(theirs, axis=0).max() > 1e-3
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def _doubled(images: np.ndarray, axis: int) -> np.ndarray:
    """A new pixel has three quarters of the nearest and one of the next, at edges itself."""
    count = images.shape[axis]
    near = np.arange(2 * count) // 2
    beside = np.clip(near + np.tile([-1, 1], count), 0, count - 1)
    return 0.75 * images.take(near, axis) + 0.25 * images.take(beside, axis)


def test_without_the_last_stage_the_one_before_is_averaged(
    small_starts: dict[Arch, Path], digits: np.ndarray
) -> None:
    start = small_starts["resnet50"]
    plain = models.start(run_of("resnet50"), SIZE, start).get_layer("resnet50")
    inside = keras.Model(plain.inputs, plain.get_layer("conv4_block1_out").output)
    run = run_of("resnet50", stages=3, weights="he")
    model = models.start(run, SIZE, start)
    images = digits.astype(np.float32) / 255
    np.testing.assert_allclose(
        np.asarray(model.get_layer("resnet50")([images])),
        np.asarray(inside([images])).mean(axis=(1, 2)),
        rtol=1e-4,
        atol=1e-6,
    )
    logits = model.get_layer("logits")
    drawn = initializers.draw("glorot_uniform", (64, 10), run.seed, "logits")
    np.testing.assert_array_equal(logits.kernel.numpy(), drawn)
    assert not logits.bias.numpy().any()


def test_a_larger_image_is_computed_in_bfloat16_where_all_is(
    small_starts: dict[Arch, Path], digits: np.ndarray
) -> None:
    run = run_of("resnet50", upsampling=2, stages=3)
    model = models.start(run, SIZE, small_starts["resnet50"])
    inputs = [digits, np.tile(IDENTITY, (8, 1)), np.zeros(8, np.uint32)]
    plain = np.asarray(steps.training_view(model)(inputs))
    with views.computing_in(model, "mixed_bfloat16"):
        assert model.get_layer("resnet50").get_layer("upsampling").compute_dtype == "bfloat16"
        rounded = np.asarray(steps.training_view(model)(inputs))
    assert 0 < np.abs(rounded - plain).max() < 0.05 * np.abs(plain).max() + 0.02


def test_zero_gamma_starts_out_with_a_view_of_one_corner(small_starts: dict[Arch, Path]) -> None:
    """Strided 1x1 shortcuts keep one pixel of four, and nothing else goes through at first."""
    noise = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    same_corner, same_rest = noise[:1].copy(), noise[:1].copy()
    same_corner[:, 6:], same_corner[:, :, 6:] = noise[1:, 6:], noise[1:, :, 6:]
    same_rest[:, :6, :6] = noise[1:, :6, :6]
    for zero_gamma in (True, False):
        run = run_of("resnet50", zero_gamma=zero_gamma)
        model = models.start(run, SIZE, small_starts["resnet50"])
        logits = [
            keras.ops.convert_to_numpy(
                steps.training_view(model)(
                    [images, IDENTITY[None], np.zeros(len(images), np.uint32)]
                )
            )
            for images in (noise[:1], same_corner, same_rest)
        ]
        assert np.array_equal(logits[0], logits[1]) == zero_gamma
        assert not np.array_equal(logits[0], logits[2])


def test_batch_norm_stands_between_each_convolution_and_its_relu() -> None:
    model = models.build("vgg16", SIZE, 0.5, 0.75, run_of("vgg16", batch_norm=True))
    layers = {layer["name"]: layer for layer in models.layers(model)}
    convolutions = [name for name, layer in layers.items() if layer["kind"] == "Conv2D"]
    assert len(convolutions) == 13
    for name in convolutions:
        assert layers[f"{name}_bn"]["inputs"] == [name]
        assert layers[f"{name}_relu"]["inputs"] == [f"{name}_bn"]
        backbone = model.get_layer("vgg16")
        assert backbone.get_layer(name).activation is keras.activations.linear
        assert backbone.get_layer(f"{name}_bn").momentum == 0.75


def test_highway_layers_carry_their_input_through_at_first(
    starts: dict[Arch, Path], digits: np.ndarray
) -> None:
    run = run_of("vgg16", highway=True)
    backbone = models.start(run, SIZE, starts["vgg16"]).get_layer("vgg16")
    gates = [layer for layer in backbone.layers if layer.name.endswith("_gate")]
    assert [gate.name for gate in gates] == [
        f"block{block}_conv{place}_gate"
        for block, place in [(1, 2), (2, 2), *((3, p) for p in (2, 3)), *((4, p) for p in (2, 3))]
        + [(5, p) for p in (1, 2, 3)]
    ]
    for gate in gates:
        assert (gate.bias.numpy() == variants.GATE_BIAS).all()
        assert variants.GATE_BIAS < 0
    layer = backbone.get_layer("block3_conv2")
    x, y, t, out = (
        backbone.get_layer(name).output
        for name in ("block3_conv1", "block3_conv2", "block3_conv2_gate", "block3_conv2_highway")
    )
    inside = keras.Model(backbone.inputs, [x, y, t, out])
    x, y, t, out = map(np.asarray, inside([digits.astype(np.float32) / 255]))
    np.testing.assert_allclose(out, t * y + (1 - t) * x, atol=1e-6)
    np.testing.assert_allclose(np.asarray(layer(x)), y, atol=1e-5)
    assert 0 < t.mean() < 0.5


@pytest.mark.parametrize("arch", ["vgg16", "resnet50"])
def test_one_channel_starts_as_the_same_function(
    arch: Arch, small_starts: dict[Arch, Path], digits: np.ndarray
) -> None:
    three = models.start(run_of(arch), SIZE, small_starts[arch])
    one = models.start(run_of(arch, input_channels=1), SIZE, small_starts[arch])
    np.testing.assert_allclose(views.predict(one, digits), views.predict(three, digits), atol=1e-6)


def test_one_channel_is_three_with_a_third_of_the_first_kernels_rate(
    small_starts: dict[Arch, Path], digits: np.ndarray
) -> None:
    """A step of SGD moves the sum of three equal kernels' gradients three times as far."""
    labels = np.arange(8, dtype=np.uint8)
    moved = []
    for channels in (3, 1):
        run = run_of("vgg16", input_channels=channels, dropout=0.0, decay=0.0, learning_rate=0.1)
        model = models.start(run, SIZE, small_starts["vgg16"])
        kernel = model.get_layer("vgg16").get_layer("block1_conv1").kernel
        before = kernel.numpy().sum(axis=2)
        stepper = steps.build(steps.training_view(model), partial(optimization.build, run, 1))
        with stepper.epoch() as take_step:
            take_step(Batch(digits, labels, np.tile(IDENTITY, (8, 1)), np.zeros(8, np.uint32)))
        moved.append(kernel.numpy().sum(axis=2) - before)
    assert np.abs(moved[1]).max() > 1e-5
    np.testing.assert_allclose(moved[0], 3 * moved[1], rtol=0.02, atol=2e-7)


@pytest.mark.parametrize(
    ("arch", "changes"),
    [
        ("vgg16", {"batch_norm": True}),
        ("resnet50", {"stem": "small"}),
        ("resnet50", {"zero_gamma": True}),
        ("resnet50", {"stages": 3, "upsampling": 2}),
    ],
    ids=str,
)
def test_variants_share_what_they_have_in_common(
    arch: Arch, changes: dict[str, Any], small_starts: dict[Arch, Path]
) -> None:
    starts = small_starts
    plain = models.start(run_of(arch), SIZE, starts[arch])
    run = run_of(arch, **changes)
    first, again = (models.start(run, SIZE, starts[arch]) for _ in range(2))
    assert saving.weights_digest(first) == saving.weights_digest(again)
    kernels = {w.path: w.numpy() for w in plain.weights if w.name == "kernel"}
    own = {w.path: w.numpy() for w in first.weights if w.name == "kernel"}
    lacking = kernels.keys() - own.keys()
    assert {path.partition("_")[0] for path in lacking} == (
        {"conv5"} if "stages" in changes else set()
    )
    differing = {
        path for path in kernels.keys() & own if not np.array_equal(kernels[path], own[path])
    }
    others = {"stem": {"conv1_conv/kernel"}, "stages": {"logits/kernel"}}
    assert differing == set().union(*(others.get(key, set()) for key in changes))


def test_zero_gamma_silences_the_last_norm_of_each_block(starts: dict[Arch, Path]) -> None:
    model = models.start(run_of("resnet50", zero_gamma=True), SIZE, starts["resnet50"])
    norms = [
        layer
        for layer in model.get_layer("resnet50").layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    silent = {norm.name for norm in norms if not norm.gamma.numpy().any()}
    assert silent == LAST_BATCH_NORMS
    assert all((norm.gamma.numpy() == 1).all() for norm in norms if norm.name not in silent)


@pytest.mark.parametrize("weights", ["random", "he"])
def test_what_is_a_variants_own_has_the_spread_of_its_weights(
    weights: str, small_starts: dict[Arch, Path]
) -> None:
    run = run_of("resnet50", stem="small", weights=weights)
    stem = (
        models.start(run, SIZE, small_starts["resnet50"])
        .get_layer("resnet50")
        .get_layer("conv1_conv")
    )
    expected = np.sqrt(2 / 27) if weights == "he" else np.sqrt(2 / (9 * (3 + 64)))
    assert stem.kernel.numpy().std() == pytest.approx(expected, rel=0.05)
    other = models.start(run.model_copy(update={"seed": 1}), SIZE, small_starts["resnet50"])
    assert not np.array_equal(
        other.get_layer("resnet50").get_layer("conv1_conv").kernel.numpy(), stem.kernel.numpy()
    )


@pytest.mark.parametrize(
    ("arch", "changes"),
    [
        ("vgg16", {"highway": True, "input_channels": 1}),
        ("vgg16", {"batch_norm": True}),
    ],
    ids=str,
)
def test_a_saved_variant_is_loaded_in_safe_mode(
    arch: Arch,
    changes: dict[str, Any],
    deep_start: Path,
    digits: np.ndarray,
    tmp_path: Path,
) -> None:
    model = models.start(run_of(arch, **changes), SIZE, deep_start)
    saving.save(model, tmp_path / "model.keras")
    loaded = saving.load(tmp_path / "model.keras")
    assert saving.weights_digest(loaded) == saving.weights_digest(model)
    np.testing.assert_array_equal(views.predict(loaded, digits), views.predict(model, digits))


@pytest.mark.parametrize(
    "changes",
    [
        {"stem": "small", "input_channels": 1, "zero_gamma": True},
        {"stages": 3, "upsampling": 2, "input_channels": 1},
    ],
    ids=str,
)
def test_a_saved_variant_of_resnet50_is_loaded_in_safe_mode(
    changes: dict[str, Any], small_starts: dict[Arch, Path], digits: np.ndarray, tmp_path: Path
) -> None:
    run = run_of("resnet50", **changes)
    model = models.start(run, SIZE, small_starts["resnet50"])
    saving.save(model, tmp_path / "model.keras")
    loaded = saving.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(views.predict(loaded, digits), views.predict(model, digits))


def test_smoothed_labels_cost_what_the_formula_says(
    small_starts: dict[Arch, Path], digits: np.ndarray
) -> None:
    labels = np.arange(8, dtype=np.uint8)
    losses = {}
    for smoothing in (0.0, 0.25):
        run = run_of("vgg16", label_smoothing=smoothing, dropout=0.0)
        model = models.start(run, SIZE, small_starts["vgg16"])
        probabilities = views.predict(model, digits).astype(np.float64)
        stepper = steps.build(
            steps.training_view(model), partial(optimization.build, run, 1), smoothing
        )
        with stepper.epoch() as take_step:
            result = take_step(
                Batch(digits, labels, np.tile(IDENTITY, (8, 1)), np.zeros(8, np.uint32))
            )
        shares = (1 - smoothing) * np.eye(10)[labels] + smoothing / 10
        losses[smoothing] = result["loss"]
        assert result["loss"] == pytest.approx(
            -(shares * np.log(probabilities)).sum(axis=1).mean(), rel=1e-4
        )
        assert result["accuracy"] == pytest.approx((probabilities.argmax(axis=1) == labels).mean())
    assert losses[0.0] != losses[0.25]


@pytest.mark.parametrize(
    ("arch", "changes", "said"),
    [
        ("vgg16", {"stem": "small"}, "stem is a setting of resnet50, not of vgg16: remove it"),
        ("vgg16", {"stages": 3}, "stages is a setting of resnet50, not of vgg16: remove it"),
        ("vgg16", {"zero_gamma": True}, "zero_gamma is a setting of resnet50"),
        ("resnet50", {"highway": True}, "highway is a setting of vgg16"),
        ("resnet50", {"batch_norm": True}, "batch_norm is a setting of vgg16"),
        ("vgg16", {"batch_norm": True, "highway": True}, "variants by themselves: choose one"),
        ("resnet50", {"stem": "small", "weights": "imagenet"}, "no imagenet weights for a small"),
        ("vgg16", {"warmup_epochs": 1.0}, "expected decay: cosine beside it; received 0.001"),
        (
            "vgg16",
            {"warmup_epochs": 15.0, "decay": "cosine"},
            "expected fewer than the 15 epochs of the run; received 15: lower it",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    arch: Arch, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        run_of(arch, **changes)
