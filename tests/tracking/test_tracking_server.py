"""The tracking server may die: real servers and stores, broken in every way, then brought level.

Most tests play a training's files through (trainings.py), so that many ways to fail take seconds;
one trains for real.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest

import servers
import trainings
from deepnets.base import processes
from deepnets.stages import publish
from deepnets.tracking import connection
from project import ROOT, SERIES, Clone, environment, one_run, would_make
from trainings import RUN

SECRET = "s3cret-w0rd"
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "images_per_second")


@dataclass
class Training:
    """A training that is being played through in a process of its own."""

    folder: Path
    name: str
    process: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)

    def do(self, *words: str) -> None:
        """Have it take these steps."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for word in words:
            print(word, file=self.process.stdin, flush=True)
            self.lines.append(self.process.stdout.readline().strip())
            assert self.lines[-1].startswith(word), self.lines

    @property
    def follower(self) -> psutil.Process:
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def end(self, *words: str) -> tuple[float, list[str]]:
        """Take the last steps; returns the seconds that MLflow held it, and its standard error."""
        self.do(*words)
        assert self.process.stdout is not None
        held = self.process.stdout.readline()
        _, err = self.process.communicate(timeout=90)
        assert self.process.returncode == 0, err
        assert held.startswith("held "), err
        return float(held.split()[1]), err.splitlines()


Start = Callable[..., Training]


@dataclass(frozen=True)
class Met:
    """What a training met: seconds that MLflow held it, its standard error, the address."""

    folder: Path
    held: float
    err: list[str]
    address: str


@contextlib.contextmanager
def _starting(folder: Path) -> Iterator[Start]:
    """Starts trainings in studies below `folder`; ends what is left of them."""
    started: list[Training] = []

    def start(store: str, experiment: str, name: str = RUN, patience: int | str = 10) -> Training:
        process = subprocess.Popen(
            [sys.executable, "-m", "trainings", name, experiment],
            cwd=trainings.study(folder / experiment, experiment, RUN, name),
            env=environment()
            | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
            | {"MLFLOW_TRACKING_URI": store, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(patience)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(Training(folder / experiment, name, process))
        return started[-1]

    try:
        yield start
    finally:
        for training in started:
            if training.process.poll() is None:
                os.killpg(training.process.pid, signal.SIGKILL)
                training.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with _starting(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.MlflowServer]:
    """`mlflow server` over HTTP, on a PostgreSQL that is empty at first."""
    programs = servers.postgres_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with servers.postgres(programs) as store:
        server = servers.MlflowServer(store, tmp_path_factory.mktemp("server"))
        try:
            server.start()
            yield server
        finally:
            server.kill()


@pytest.fixture
def line(server: servers.MlflowServer) -> Iterator[servers.Proxy]:
    """A line to the server that can break."""
    proxy = servers.Proxy(server.port)
    yield proxy
    proxy.close()


def _with_credentials(proxy: servers.Proxy) -> str:
    return f"http://user:{SECRET}@{proxy.address}"


def _runs(store: str, experiment: str) -> tuple[mlflow.MlflowClient, list[Any]]:
    client = mlflow.MlflowClient(store)
    stored = client.get_experiment_by_name(experiment)
    return client, list(client.search_runs([stored.experiment_id])) if stored else []


def _statuses(store: str, experiment: str) -> dict[str, str]:
    return {run.info.run_name: run.info.status for run in _runs(store, experiment)[1]}


def _steps(store: str, experiment: str, metric: str = "loss") -> list[int]:
    client, runs = _runs(store, experiment)
    return [
        step.step for run in runs for step in client.get_metric_history(run.info.run_id, metric)
    ]


def _contents(store: str, experiment: str) -> list[Any]:
    """All that the store says about an experiment: runs, histories, models, artifacts."""
    client, runs = _runs(store, experiment)
    ids = {run.info.experiment_id for run in runs}
    models = client.search_logged_models(list(ids)) if ids else []
    return [
        (
            run.to_dictionary(),
            [client.get_metric_history(run.info.run_id, key) for key in sorted(run.data.metrics)],
            [
                (file.path, file.file_size)
                for folder in ("metrics", "figures")
                for file in client.list_artifacts(run.info.run_id, folder)
            ],
        )
        for run in runs
    ] + [model.to_dictionary() for model in models]


def _assert_whole(store: str, experiment: str, epochs: int, folder: Path, name: str = RUN) -> None:
    """The store has this run exactly once, with all that its files hold."""
    client, runs = _runs(store, experiment)
    (run,) = (run for run in runs if run.info.run_name == name)
    assert run.info.status == "FINISHED"
    rows = trainings.history(epochs)
    for metric in METRICS:
        history = client.get_metric_history(run.info.run_id, metric)
        assert [step.step for step in history] == list(range(1, epochs + 1)), metric
        kept = rows.history if metric in rows.history[0] else rows.timing
        assert [step.value for step in history] == [row[metric] for row in kept]
    assert [m.step for m in client.get_metric_history(run.info.run_id, "best_epoch")] == [epochs]
    assert run.data.params["optimizer"] == ("adam" if "adam" in name else "sgd")
    assert len(run.inputs.dataset_inputs) == 3
    (model,) = (
        model
        for model in client.search_logged_models([run.info.experiment_id])
        if model.source_run_id == run.info.run_id
    )
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert model.status == "READY"
    mlflow.set_tracking_uri(store)
    fetched = mlflow.artifacts.download_artifacts(
        f"{model.artifact_location}/data/model.keras", dst_path=str(folder / "fetched" / name)
    )
    assert Path(fetched).read_bytes() == trainings.model(name)
    paths = [file.path for file in client.list_artifacts(run.info.run_id, "metrics")]
    assert sorted(paths) == sorted(set(paths))
    assert {"metrics/history.csv", "metrics/train.json", "metrics/provenance.json"} <= set(paths)


def _assert_outputs_whole(folder: Path, epochs: int) -> None:
    kept = folder / trainings.paths().metrics_dir
    assert (folder / trainings.paths().model(0)).read_bytes() == trainings.model(RUN)
    assert len((kept / "history.csv").read_text().splitlines()) == epochs + 1
    assert not list(folder.rglob(".partial-*"))


def _publish(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, store: str
) -> str:
    """`deepnets publish` in this process; returns what it printed."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    capsys.readouterr()
    publish.main()
    printed = capsys.readouterr()
    return printed.out + printed.err


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Publishes a study twice; the second time must change nothing."""

    def published(folder: Path, store: str, experiment: str) -> None:
        said = _publish(monkeypatch, capsys, folder, store)
        assert f"MLflow has 1 of 1 runs in '{experiment}'" in said
        before = _contents(store, experiment)
        assert _publish(monkeypatch, capsys, folder, store) == said
        assert _contents(store, experiment) == before

    return published


def _four_at_once(start: Start, store: str, experiment: str) -> None:
    names = [f"{arch}-{way}-random" for arch in ("vgg16", "resnet50") for way in ("sgd", "adam")]
    running = [start(store, experiment, name) for name in names]
    for training in running:
        training.do("start", "epoch")
    for training in running:
        assert training.end("epoch", "finish")[1] == []
    client, _ = _runs(store, experiment)
    assert [stored.name for stored in client.search_experiments()].count(experiment) == 1
    for training in running:
        _assert_whole(store, experiment, 2, training.folder, training.name)


def test_four_at_once_on_an_empty_postgresql(start: Start, server: servers.MlflowServer) -> None:
    _four_at_once(start, server.uri, "four")


def test_four_at_once_on_an_empty_sqlite(start: Start, tmp_path: Path) -> None:
    _four_at_once(start, f"sqlite:///{tmp_path}/mlflow.db", "four")


def _is_upload(method: str, path: str) -> bool:
    return method == "PUT" and "/mlflow-artifacts/" in path


def _is_any(method: str, path: str) -> bool:
    return True


# Ways to fail from the start: what becomes of which requests.
FAILURES: dict[str, tuple[str | int, servers.Concerns]] = {
    "refuses": ("refuse", _is_any),
    "hangs": ("hang", _is_any),
    "500": (500, _is_any),
    "401": (401, _is_any),
    "403": (403, _is_any),
    "loses-answers": ("lose", _is_any),
    "has-a-full-disk": (507, _is_upload),
    "hangs-in-uploads": ("hang", _is_upload),
}


@pytest.fixture(scope="module")
def failures(
    tmp_path_factory: pytest.TempPathFactory, server: servers.MlflowServer
) -> dict[str, Met]:
    """What trainings before a failing server met, one of each of FAILURES, all at once."""
    met = {}
    with _starting(tmp_path_factory.mktemp("failures")) as start, contextlib.ExitStack() as stack:
        running = {}
        for name, (fate, concerns) in FAILURES.items():
            line = stack.enter_context(contextlib.closing(servers.Proxy(server.port)))
            line.fate, line.concerns = fate, concerns
            if fate == "refuse":
                line.close()
            running[name] = start(_with_credentials(line), name, patience=2), line
        for training, _ in running.values():
            training.do("start", "epoch")
        for _, line in running.values():
            if line.concerns is _is_any and line.fate != "refuse":
                servers.wait_for(lambda line=line: len(line.met) > 1)  # it has tried again
        for name, (training, line) in running.items():
            held, err = training.end("epoch", "finish")
            met[name] = Met(training.folder, held, err, line.address)
    return met


@pytest.mark.parametrize("failure", FAILURES)
def test_a_server_that_fails_costs_one_warning_and_is_brought_level_later(
    failures: dict[str, Met], server: servers.MlflowServer, published: Any, failure: str
) -> None:
    met = failures[failure]
    # Two seconds' silence is all that is waited for; the rest is a machine with eight at once.
    assert met.held < 15
    (warning,) = met.err
    assert warning.startswith(f"MLflow at http://***@{met.address} cannot be reached or refuses (")
    assert warning.endswith("nothing is lost; mend that, then run `deepnets publish`")
    assert SECRET not in warning
    _assert_outputs_whole(met.folder, 2)
    published(met.folder, server.uri, failure)
    _assert_whole(server.uri, failure, 2, met.folder)


def test_a_server_that_begins_to_hang_is_not_waited_for(
    start: Start, server: servers.MlflowServer, line: servers.Proxy, published: Any
) -> None:
    training = start(_with_credentials(line), "begins", patience=3)
    training.do("start", "epoch")
    servers.wait_for(lambda: _steps(server.uri, "begins") == [1])
    line.met.clear()
    line.fate = "hang"
    training.do("epoch")
    servers.wait_for(lambda: len(line.met) > 1)  # known to be silent, and being asked again
    held, err = training.end("epoch", "finish")
    assert held < 1.5
    assert len(err) == 1
    assert SECRET not in err[0]
    published(training.folder, server.uri, "begins")
    _assert_whole(server.uri, "begins", 3, training.folder)


def test_a_silent_server_holds_a_training_for_its_patience_at_most(
    start: Start, server: servers.MlflowServer, line: servers.Proxy
) -> None:
    """The worst moment to fall silent is the end."""
    training = start(_with_credentials(line), "last", patience=2)
    training.do("start", "epoch")
    servers.wait_for(lambda: _steps(server.uri, "last") == [1])
    line.fate = "hang"
    held, err = training.end("finish")
    assert 1 < held < 8
    assert len(err) == 1


def test_a_server_that_comes_back_gets_what_it_missed_without_publish_and_no_password(
    start: Start, server: servers.MlflowServer, line: servers.Proxy
) -> None:
    training = start(_with_credentials(line), "back")
    training.do("start", "epoch")
    servers.wait_for(lambda: _steps(server.uri, "back") == [1])
    line.met.clear()
    line.fate = 503
    training.do("epoch", "epoch")
    servers.wait_for(lambda: line.met)
    line.fate = "pass"
    servers.wait_for(lambda: _steps(server.uri, "back") == [1, 2, 3])
    training.do("epoch")
    servers.wait_for(lambda: _steps(server.uri, "back") == [1, 2, 3, 4])
    _, err = training.end("finish")
    assert len(err) <= 1  # a failure that passes at once is not worth a word
    _assert_whole(server.uri, "back", 4, training.folder)

    assert any(given.startswith("Basic ") for given in line.secrets)  # name and password are used
    assert SECRET not in repr(err) + repr(_contents(server.uri, "back"))
    for folder in (training.folder, server.folder):
        for path in folder.rglob("*"):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_tracking_process_killed_in_a_batch_leaves_no_step_twice_and_none_out(
    start: Start, server: servers.MlflowServer, line: servers.Proxy, published: Any
) -> None:
    """The batch reached the server; its answer never came, and who sent it is gone."""
    training = start(f"http://{line.address}", "batch")
    training.do("start", "epoch")
    servers.wait_for(lambda: _steps(server.uri, "batch") == [1])
    line.concerns = lambda method, path: path.endswith("/runs/log-batch")
    line.met.clear()
    line.fate = "stall"
    training.do("epoch")
    servers.wait_for(lambda: line.met)
    servers.wait_for(lambda: _steps(server.uri, "batch") == [1, 2])
    training.follower.kill()
    held, err = training.end("epoch", "finish")
    assert held < 5
    (warning,) = err
    assert warning.startswith(f"MLflow at http://{line.address} was not brought level (")
    assert warning.endswith("nothing is lost; mend that, then run `deepnets publish`")
    line.fate = "pass"
    again = start(f"http://{line.address}", "batch")
    again.do("start", "epoch")
    assert again.end("finish")[1] == []
    # A request to create the run, carried out long after we had stopped waiting for it.
    client, (run,) = _runs(server.uri, "batch")
    tags = {"fingerprint": run.data.tags["fingerprint"]}
    client.create_run(run.info.experiment_id, run_name=RUN, tags=tags)
    published(training.folder, server.uri, "batch")
    _assert_whole(server.uri, "batch", 4, training.folder)


def test_a_training_killed_with_its_tracking_process_does_not_stay_running(
    start: Start,
    server: servers.MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = "vgg16-adam-random"
    killed = start(server.uri, "honest")
    killed.do("start", "epoch")
    servers.wait_for(lambda: _steps(server.uri, "honest") == [1])
    os.killpg(killed.process.pid, signal.SIGKILL)
    killed.process.communicate()
    client, (run,) = _runs(server.uri, "honest")
    run_id, process = run.info.run_id, run.data.tags["process"]
    assert _statuses(server.uri, "honest") == {RUN: "RUNNING"}

    # What another machine trains is not ours to end.
    client.set_tag(run_id, "process", f"not-{process}")
    _publish(monkeypatch, capsys, killed.folder, server.uri)
    assert _statuses(server.uri, "honest") == {RUN: "RUNNING"}
    client.set_tag(run_id, "process", process)

    # Any other training of the study ends it, with other parameters or of another row.
    alive = start(server.uri, "honest", other)
    alive.do("start", "epoch")
    servers.wait_for(lambda: _statuses(server.uri, "honest") == {RUN: "KILLED", other: "RUNNING"})
    assert client.get_run(run_id).info.end_time == trainings.history(1).timing[0]["finished_ms"]
    client.update_run(run_id, status="RUNNING")
    _publish(monkeypatch, capsys, killed.folder, server.uri)
    assert _statuses(server.uri, "honest") == {RUN: "KILLED", other: "RUNNING"}

    again = start(server.uri, "honest")
    again.do("start", "epoch")
    servers.wait_for(lambda: _statuses(server.uri, "honest")[RUN] == "RUNNING")
    assert again.end("finish")[1] == []
    alive.do("fail")
    assert alive.process.wait(60) == 1
    assert _statuses(server.uri, "honest")[other] == "FAILED"
    _assert_whole(server.uri, "honest", 2, again.folder)


def test_a_process_is_told_from_those_that_had_its_number_before() -> None:
    me = processes.identity()
    assert not processes.has_ended(me)
    host, number, started = me.split(" ")
    assert processes.has_ended(f"{host} {number} {float(started) - 1000}")
    assert not processes.has_ended(f"another-{host} {number} {float(started) - 1000}")
    child = subprocess.Popen(["sleep", "60"])
    name = processes.identity(psutil.Process(child.pid))
    assert not processes.has_ended(name)
    child.kill()
    servers.wait_for(lambda: processes.has_ended(name))  # a zombie until it is waited for
    child.wait()
    assert processes.has_ended(name)


def test_a_full_disk_below_a_sqlite_store(start: Start, tmp_path: Path, published: Any) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=16m tmpfs {disk} 2>/dev/null"):
        pytest.skip("needs root to mount a small file system")
    try:
        store = f"sqlite:///{disk}/mlflow.db"
        mlflow.MlflowClient(store).search_experiments()  # creates it
        training = start(store, "full")
        training.do("start", "epoch")
        servers.wait_for(lambda: _steps(store, "full") == [1])
        with contextlib.suppress(OSError), (disk / "filler").open("wb", 0) as filler:
            while True:
                filler.write(bytes(4096))
        training.do(*["epoch"] * 40)
        _, err = training.end("finish")
        (warning,) = err
        assert "full" in warning
        assert warning.endswith("nothing is lost; mend that, then run `deepnets publish`")
        (disk / "filler").unlink()
        published(training.folder, store, "full")
        _assert_whole(store, "full", 41, training.folder)
    finally:
        os.system(f"umount -l {disk}")


def test_several_seeds_are_warned_about_once(start: Start) -> None:
    training = start(f"http://127.0.0.1:{servers.free_port()}", "seeds")
    training.do("start", "epoch", "again")
    assert len(training.end("epoch", "finish")[1]) == 1


def test_a_time_limit_that_is_no_number_is_said_in_the_warning(start: Start) -> None:
    training = start(f"http://127.0.0.1:{servers.free_port()}", "limit", patience="soon")
    training.do("start", "epoch")
    (warning,) = training.end("finish")[1]
    assert "Failed to convert 'soon' for MLFLOW_HTTP_REQUEST_TIMEOUT" in warning


@pytest.mark.parametrize(
    "address", ["http//user:{}@host", "http:/user:{}@host", "nonsense://user:{}@host/", "user:{}@x"]
)
def test_an_address_that_is_none_is_not_printed_with_its_password(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(SECRET))
    with pytest.raises(Exception, match=r".") as raised:
        connection.connect().search_experiments()
    warning = connection.unreachable_warning(raised.value)
    assert SECRET not in warning
    assert "nothing is lost" in warning


def test_mlflow_run_says_in_a_line_that_the_server_is_down(tmp_path: Path) -> None:
    uri = f"http://user:{SECRET}@127.0.0.1:{servers.free_port()}"
    result = Clone(ROOT).run(
        *("mlflow", "run", ".", "--env-manager", "local"),
        env={"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT / "src")},
        check=False,
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "cannot be reached or refuses" in line
    assert "`deepnets run` trains without it" in line
    assert SECRET not in result.stdout + result.stderr


def test_the_server_listens_on_this_machine_only(server: servers.MlflowServer) -> None:
    """It was started without a word about where: `make ui` does the same."""
    assert server.process is not None
    of_server = psutil.Process(server.process.pid)
    listening = {
        connection.laddr.ip
        for process in [of_server, *of_server.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    # Nor is one started beside a server of the user's.
    assert 'case "$MLFLOW_TRACKING_URI" in http*) ;; *) exec .venv/bin/mlflow ui ;;' in would_make(
        "ui"
    )


def _study(params: dict[str, Any]) -> None:
    one_run(params, RUN)
    params["publish"]["experiment"] = "for real"


def test_a_server_killed_in_a_real_training_and_started_again(
    server: servers.MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The whole way; it comes last, since it kills the server of the others."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    study = Clone(tmp_path, followed=True)
    study.edit_params(_study)
    own = {"PYTHONPATH": str(ROOT / "src"), "MLFLOW_TRACKING_URI": server.uri}
    prepare = [["download"], ["preprocess"], ["initialize", "vgg16-random"]]
    study.run("python", "-c", SERIES, json.dumps(prepare), env=own)
    training = subprocess.Popen(
        ["python", "-m", "deepnets", "train", RUN],
        cwd=tmp_path,
        env=environment() | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert training.stdout is not None
    assert any(line.startswith("epoch 1/2") for line in training.stdout)
    server.kill()
    _, err = training.communicate()
    assert training.returncode == 0
    assert err.count("nothing is lost") == 1
    assert "Traceback" not in err

    server.start()
    assert "MLflow has 1 of 1 runs" in _publish(monkeypatch, capsys, tmp_path, server.uri)
    before = _contents(server.uri, "for real")
    _publish(monkeypatch, capsys, tmp_path, server.uri)
    assert _contents(server.uri, "for real") == before
    client, (run,) = _runs(server.uri, "for real")
    assert (run.info.run_name, run.info.status) == (RUN, "FINISHED")
    losses = client.get_metric_history(run.info.run_id, "val_loss")
    assert [metric.step for metric in losses] == [1, 2]
    assert len(run.outputs.model_outputs) == 1
