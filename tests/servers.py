"""Real servers for tests: PostgreSQL, MLflow's, a bucket, and lines to them that can break."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from project import environment

# Debian's place, newest version first, then what is on PATH.
_DEBIAN = Path("/usr/lib/postgresql")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Return once `condition` holds; fail if it does not within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {condition}"
        time.sleep(0.05)


def answers(port: int, path: str, method: str = "GET") -> bool:
    """Whether a server on this machine answers the request with 200."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        line.request(method, path)
        return line.getresponse().status == 200
    except OSError:
        return False
    finally:
        line.close()


def postgres_programs() -> Path | None:
    """The folder of `initdb` and `postgres`; None where PostgreSQL is not installed."""
    program = shutil.which("initdb")
    folders = sorted(_DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    places = [*folders, *([Path(program).parent] if program else [])]
    return next((place for place in places if (place / "postgres").is_file()), None)


@contextlib.contextmanager
def postgres(programs: Path, password: str = "") -> Iterator[str]:
    """A PostgreSQL server with an empty database, on a socket of its own; yields its URI.

    The user of the URI is asked for `password`, where there is one.
    """
    # It refuses to run as root, and its user cannot look into pytest's folders.
    user = {"user": "nobody", "group": _group_of("nobody")} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="deepnets-postgres-"))
    if user:
        shutil.chown(folder, "nobody")
    options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, **user}
    data = folder / "data"
    way = ["-A", "trust"]
    if password:
        file = folder / "password"
        file.write_text(password)
        file.chmod(0o644)
        way = ["-A", "scram-sha-256", f"--pwfile={file}"]
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "mlflow", *way, "--no-sync"],
            check=True,
            **options,
        )
        (folder / "password").unlink(missing_ok=True)
        server = subprocess.Popen(
            *[[programs / "postgres", "-D", data, "-k", folder, "-h", "", "-F"]],
            **options,
        )
        try:
            ready = [programs / "pg_isready", "-q", "-h", folder, "-U", "mlflow"]
            wait_for(lambda: subprocess.run(ready, check=False).returncode == 0)
            yield f"postgresql+psycopg://mlflow@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # "fast shutdown": clients are cut off
            server.wait(30)
    finally:
        shutil.rmtree(folder)


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


class MlflowServer:
    """`mlflow server`, as it comes, on the database `store`; it can be killed and started again.

    `command` is another one that starts it, and `variables` are what it needs.
    """

    def __init__(
        self,
        store: str,
        folder: Path,
        command: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        usual = ("mlflow", "server", "--backend-store-uri", store)
        usual += ("--artifacts-destination", str(self.folder / "artifacts"))
        self._command, self._variables = command or usual, variables or {}
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, "--port", str(self.port), "--workers", "1"],
                cwd=self.folder,
                env=environment()
                | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true"}
                | self._variables,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers)

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text()
        return answers(self.port, "/health")


@contextlib.contextmanager
def bucket(name: str, folder: Path) -> Iterator[int]:
    """An S3 server with the empty bucket `name` in its memory; yields its port."""
    port = free_port()
    with (folder / "bucket.log").open("wb") as log:
        server = subprocess.Popen(
            ["moto_server", "--port", str(port)], env=environment(), stdout=log, stderr=log
        )
    try:
        wait_for(lambda: answers(port, f"/{name}", "PUT"))
        yield port
    finally:
        server.kill()
        server.wait()


# Whether a request (its method and path) fares as `Proxy.fate` says.
Concerns = Callable[[str, str], bool]


class Proxy:
    """A line to an HTTP server. `fate` is what becomes of the requests that `concerns` names.

    pass: they are forwarded. A number: they are answered with that status. hang: nothing ever
    answers. lose: they are forwarded, and their answers are dropped. cut: half of their answers
    comes. stall: they are forwarded, and their answers never come.
    """

    def __init__(self, port: int) -> None:
        self.fate: str | int = "pass"
        self.concerns: Concerns = lambda method, path: True
        self.met: list[tuple[str, str]] = []  # what fared so
        self.secrets: set[str] = set()  # what clients gave to be let in
        self._released = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", lambda handler: proxy._serve(handler, port))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _serve(self, handler: BaseHTTPRequestHandler, port: int) -> None:
        self.secrets.add(handler.headers.get("Authorization", ""))
        fate: str | int = "pass"
        if self.concerns(handler.command, handler.path):
            fate = self.fate
            self.met.append((handler.command, handler.path))
        if fate == "hang":
            self._released.wait()
            raise OSError("released")
        if "chunked" in handler.headers.get("Transfer-Encoding", ""):
            raise NotImplementedError("a body in chunks")
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if isinstance(fate, int):
            handler.send_response(fate)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        headers = {k: v for k, v in handler.headers.items() if k.lower() != "expect"}
        line = http.client.HTTPConnection("127.0.0.1", port)
        line.request(handler.command, handler.path, body, headers | {"Host": f"127.0.0.1:{port}"})
        answer = line.getresponse()
        content = answer.read()
        line.close()
        if fate == "stall":
            self._released.wait()
        if fate in ("lose", "stall"):
            raise OSError("lost")
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                handler.send_header(name, value)
        length = answer.getheader("Content-Length") if handler.command == "HEAD" else None
        handler.send_header("Content-Length", length or str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2] if fate == "cut" else content)
        if fate == "cut":
            raise OSError("cut")

    def close(self) -> None:
        """Let go of what hangs; further clients are refused."""
        if not self._released.is_set():
            self._released.set()
            self._server.shutdown()
            self._server.server_close()
