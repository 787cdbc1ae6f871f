"""Mirrors on this machine, and no way to any other."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pooch
import pytest

from deepnets.data import mirrors
from mirror_servers import Mirror, Serve, serving


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that offers the given files."""
    with ExitStack() as stack:

        def start(content: dict[str, bytes] | None = None) -> Mirror:
            mirror = Mirror(content=content or {})
            stack.enter_context(serving(mirror))
            return mirror

        yield start


@pytest.fixture
def dead() -> str:
    """URL of a port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _here_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits between tries, no proxy, no settings of the user's, no address but this machine."""
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.delenv(mirrors.VARIABLE, raising=False)
    http = mirrors._http_reader

    def guarded(place: str, name: str) -> Any:
        assert "127.0.0.1" in place, f"a test asked the internet for {place}"
        return http(place, name)

    monkeypatch.setattr(mirrors, "_http_reader", guarded)
