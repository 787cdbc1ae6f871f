"""Fetching one pinned file: places in their order, retries, refusals, and secrets that stay so."""

import base64
import hashlib
import os
import sys
from pathlib import Path

import pooch
import pytest
from requests.auth import HTTPBasicAuth

from deepnets.base.errors import UserError
from deepnets.data import mirrors
from deepnets.data.mirrors import PinnedFile
from mirror_servers import Serve

CONTENT = b"not really the weights of a network"
NAME = "notop.h5"
WHAT = "weights of vgg16"
DIGEST = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"


def fetch(target: Path, *places: str) -> bytes:
    """What comes from `places`; the temporary files of the download are gone."""
    mirrors.weights(PinnedFile(NAME, DIGEST, places), target / NAME, WHAT)
    assert [path.name for path in target.iterdir()] == [NAME]
    return (target / NAME).read_bytes()


def refusal(target: Path, *places: str) -> str:
    """The one line that fetching from `places` fails with, which leaves no file."""
    with pytest.raises(UserError) as raised:
        fetch(target, *places)
    message = str(raised.value)
    assert message.splitlines() == [message]
    assert message.startswith(f"{WHAT} could not be fetched (")
    assert message.endswith(
        "): on a machine without internet, set DEEPNETS_MIRROR to a directory or URL that holds "
        "the files"
    )
    assert list(target.iterdir()) == []
    return message


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def usb(tmp_path: Path) -> Path:
    """A folder that holds the file."""
    folder = tmp_path / "usb"
    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)
    return folder


# --- places


def test_a_file_is_fetched_once(serve: Serve, target: Path) -> None:
    mirror = serve({NAME: CONTENT})
    for _ in range(2):
        assert fetch(target, f"{mirror.url}/some/folder/") == CONTENT
    assert mirror.requests == [NAME]


def test_a_damaged_file_is_fetched_again(serve: Serve, target: Path) -> None:
    target.mkdir()
    (target / NAME).write_bytes(CONTENT[:5])
    assert fetch(target, serve({NAME: CONTENT}).url) == CONTENT


def test_the_first_good_place_is_the_only_one_asked(serve: Serve, dead: str, target: Path) -> None:
    empty, damaged = serve(), serve({NAME: CONTENT[:-1] + b"!"})
    good, other = serve({NAME: CONTENT}), serve({NAME: CONTENT})
    assert fetch(target, dead, empty.url, damaged.url, good.url, other.url) == CONTENT
    assert other.requests == []


@pytest.mark.parametrize("kind", ["folder", "file://", "URL"])
def test_the_users_choice_comes_first(
    serve: Serve, usb: Path, target: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    public, chosen = serve({NAME: CONTENT}), serve({NAME: CONTENT})
    choice = {"folder": str(usb), "file://": f"file://{usb}", "URL": f" {chosen.url}/ "}[kind]
    monkeypatch.setenv(mirrors.VARIABLE, choice)
    assert fetch(target, public.url) == CONTENT
    assert public.requests == []
    assert chosen.requests == ([NAME] if kind == "URL" else [])


def test_other_places_follow_a_bad_choice(
    serve: Serve, usb: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (usb / NAME).write_bytes(b"something else")
    monkeypatch.setenv(mirrors.VARIABLE, str(usb))
    assert fetch(target, serve({NAME: CONTENT}).url) == CONTENT


def test_the_message_lists_every_place_and_its_failure(
    serve: Serve,
    dead: str,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(mirrors.VARIABLE, "~no-such-user/weights")
    empty, damaged = serve(), serve({NAME: CONTENT[:-1] + b"!"})
    broken, closed = serve({NAME: CONTENT}), serve()
    broken.broken, closed.failures = {NAME}, {NAME: 9 * [401]}
    message = refusal(target, dead, empty.url, damaged.url, broken.url, closed.url)
    failures = [
        f"~no-such-user/weights: no {NAME} there",
        f"{dead}: {NAME}: ConnectionError",
        f"{empty.url}: no {NAME} there",
        f"{damaged.url}: {NAME}: its digest is not {DIGEST}",
        f"{broken.url}: {NAME}: ChunkedEncodingError",
        f"{closed.url}: {NAME}: HTTP 401",
    ]
    assert f"({'; '.join(failures)})" in message
    assert capsys.readouterr().out.splitlines() == [f"{WHAT}: not from {line}" for line in failures]
    target.rmdir()
    monkeypatch.delenv(mirrors.VARIABLE)
    assert "(no source is named)" in refusal(target)


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_is_no_file_is_not_read(usb: Path, target: Path, kind: str) -> None:
    (usb / NAME).unlink()
    if kind == "device":
        (usb / NAME).symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(usb / NAME)
    else:
        (usb / NAME).mkdir()
    assert f"{usb}: no {NAME} there" in refusal(target, str(usb))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_errors_that_pass_are_tried_again(serve: Serve, target: Path, status: int) -> None:
    mirror = serve({NAME: CONTENT})
    mirror.failures = {NAME: [status, status, status]}
    # Nobody waits as long as a mirror asks for.
    mirror.headers = {"Retry-After": "3600"}
    assert fetch(target, mirror.url) == CONTENT
    assert mirror.requests == 4 * [NAME]
    target.joinpath(NAME).unlink()
    mirror.failures = {NAME: 9 * [status]}
    assert f"{mirror.url}: {NAME}: HTTP {status}" in refusal(target, mirror.url)
    assert len(mirror.requests) == 8


@pytest.mark.parametrize(
    ("source", "places"),
    [
        ("w.h5", ()),
        ("weights/w.h5", ("weights",)),
        ("/w.h5", ("/",)),
        ("~/w.h5", ("~",)),
        ("https://a.example/b/w.h5", ("https://a.example/b",)),
        ("https://a.example/b/w.h5?key=1/2", ("https://a.example/b?key=1/2",)),
    ],
)
def test_a_file_that_a_study_names_is_looked_for_there(
    source: str, places: tuple[str, ...]
) -> None:
    assert PinnedFile.at(source, DIGEST) == PinnedFile("w.h5", DIGEST, places)


# --- secrets


def _encoded(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("password", "sent"), [("hunter2", "hunter2"), ("hun%2Fter%40", "hun/ter@"), ("hunté2",) * 2]
)
def test_a_password_is_used_and_does_not_follow_a_redirect(
    serve: Serve, target: Path, monkeypatch: pytest.MonkeyPatch, password: str, sent: str
) -> None:
    gate, elsewhere = serve(), serve({NAME: CONTENT})
    gate.elsewhere = elsewhere.url
    monkeypatch.setenv(mirrors.VARIABLE, gate.url_for(f"anna:{password}"))
    assert fetch(target) == CONTENT
    assert gate.authorizations == [_encoded(f"anna:{sent}")]
    assert elsewhere.authorizations == [None]


def test_no_library_is_given_an_address_with_a_password() -> None:
    url, auth = mirrors._address("https://anna:hunter2@a.example/b?key=1", "w.h5")
    assert url == "https://a.example/b/w.h5?key=1"
    assert auth == HTTPBasicAuth(b"anna", b"hunter2")


@pytest.mark.parametrize("trouble", ["absent", "error", "damaged", "broken", "dead", "redirect"])
def test_a_password_is_never_shown(
    serve: Serve,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    trouble: str,
) -> None:
    caplog.set_level("DEBUG")
    chosen = serve({} if trouble == "absent" else {NAME: CONTENT})
    if trouble == "error":
        chosen.failures = {NAME: 9 * [418]}
    elif trouble == "damaged":
        chosen.content = {NAME: b"other"}
    elif trouble == "broken":
        chosen.broken = {NAME}
    elif trouble == "dead":
        chosen.port = 99_999
    elif trouble == "redirect":
        chosen.elsewhere = "http://anna:hunter2@127.0.0.1:9"
    monkeypatch.setenv(mirrors.VARIABLE, chosen.url_for("anna:hunter2"))
    message = refusal(target)
    assert f"http://***@127.0.0.1:{chosen.port}: " in message
    # urllib3 itself tells where it is sent, at a level that nobody sees who did not ask for it.
    logged = "" if trouble == "redirect" else caplog.text
    for text in (message, logged, *capfd.readouterr()):
        assert "hunter2" not in text
        assert "anna" not in text


# Spelt as nobody should.
ODD = ["hun ter2", "hun\tter2", "hun?ter2", "hun#ter2", "hun:ter2", "hun[ter2", "hun\\ter2"]


@pytest.mark.parametrize("password", [*ODD, "1234/5@x", "hun/ter2", "hun@ter2", ""])
@pytest.mark.parametrize("scheme", ["http://", "HTTPS://", "ftp://", ""])
def test_an_odd_password_is_never_shown(
    dead: str,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    scheme: str,
    password: str,
) -> None:
    caplog.set_level("DEBUG")
    host = dead.removeprefix("http://")
    monkeypatch.setenv(mirrors.VARIABLE, f"{scheme}anna:{password}@{host}/weights")
    shown = refusal(target) + "".join(capfd.readouterr()) + caplog.text
    for part in ("anna", "ter2", "1234"):
        assert part not in shown


@pytest.mark.parametrize("status", [None, 401, 503])
def test_a_signature_stays_at_the_end_and_is_never_shown(
    serve: Serve,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    status: int | None,
) -> None:
    mirror = serve({f"{NAME}?signature=s3cr3t": CONTENT})
    (handler,) = pooch.get_logger().handlers
    monkeypatch.setattr(handler, "stream", sys.stderr)
    shown = ""
    if status is None:
        assert fetch(target, f"{mirror.url}/weights?signature=s3cr3t") == CONTENT
    else:
        mirror.failures = {f"{NAME}?signature=s3cr3t": 9 * [status]}
        shown = refusal(target, f"{mirror.url}/weights?signature=s3cr3t")
        assert f"{mirror.url}/weights: {NAME}: HTTP {status}" in shown
    shown += "".join(capfd.readouterr())
    assert "s3cr3t" not in shown + caplog.text
