"""Web servers on this machine that offer files, and misbehave as they are told."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Mirror:
    """What a server offers, how it misbehaves, and what it was asked for."""

    port: int = 0
    content: dict[str, bytes] = field(default_factory=dict)
    # name -> statuses that the next requests for it are answered with
    failures: dict[str, list[int]] = field(default_factory=dict)
    # sent with every answer
    headers: dict[str, str] = field(default_factory=dict)
    # names whose body stops half way
    broken: set[str] = field(default_factory=set)
    # where everybody who asks is sent on to
    elsewhere: str | None = None
    requests: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url_for(self, user: str) -> str:
        return f"http://{user}@127.0.0.1:{self.port}"


Serve = Callable[..., Mirror]


@contextmanager
def serving(mirror: Mirror) -> Iterator[None]:
    """Offer what `mirror` says on a free port, which it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            mirror.requests.append(name)
            mirror.authorizations.append(self.headers["Authorization"])
            status, body = 200, mirror.content.get(name, b"")
            headers = {"Content-Length": str(len(body))} | mirror.headers
            if mirror.elsewhere is not None:
                status = 302
                headers["Location"] = f"{mirror.elsewhere}{self.path}"
            elif mirror.failures.get(name):
                status, body = mirror.failures[name].pop(0), b""
                headers["Content-Length"] = "0"
            elif name not in mirror.content:
                status = 404
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if name in mirror.broken else body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    mirror.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
