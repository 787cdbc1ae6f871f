"""docs/team.md, line by line: from one who trains to a colleague who serves the champion.

PostgreSQL, MLflow's server with passwords, an S3 server and DVC are real. The network is a small
one. The bucket fails in the middle of each step, which is then repeated.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, chdir, closing
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
import requests

import handwriting
import servers
import studies
import trainings
from deepnets.base.errors import UserError
from deepnets.commands import predict
from deepnets.stages import publish
from project import ROOT, SERIES, Clone, clone, environment, one_run, shrink_networks, without

RUN = "vgg16-sgd-random"
EXPERIMENT = "deeper-networks"
PAGE = (ROOT / "docs/team.md").read_text()
BLOCKS = re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)

# None of these may be found anywhere but in the file that docs/team.md writes them to.
SECRETS = {
    name: f"{name}-{secrets.token_hex(16)}"
    for name in (
        "PGPASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "MLFLOW_AUTH_ADMIN_PASSWORD",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
    )
}
PASSWORDS = {name: f"{name}-{secrets.token_hex(16)}" for name in ("ada", "bob")}
KEYS = {
    "AWS_ACCESS_KEY_ID": "team",
    "AWS_SECRET_ACCESS_KEY": SECRETS["AWS_SECRET_ACCESS_KEY"],
    # Neither DVC nor MLflow's server is to try so often that a test of it takes long.
    "AWS_MAX_ATTEMPTS": "1",
}

Said = "subprocess.CompletedProcess[str]"


def _block(beginning: str) -> str:
    (block,) = (block for block in BLOCKS if block.startswith(beginning))
    return str(block)


@dataclass
class Team:
    """What there is, and what was said by every command in the order in which it was given."""

    folder: Path
    database: Path
    bucket: int
    line: servers.Proxy
    server: servers.MlflowServer
    author: Clone
    colleague: Clone
    said: list[tuple[str, Said]] = field(default_factory=list)

    def type(self, clone: Clone, line: str, who: str = "", fails: bool = False) -> None:
        """Have a shell in `clone` run a line of the page; `who` has an account on the server."""
        addresses = {
            "https://mlflow.example.org": self.server.uri,
            "https://s3.example.org": f"http://{self.line.address}",
            "git@example.org:team": str(self.folder),
        }
        for example, ours in addresses.items():
            line = line.replace(example, ours)
        account = self.account(who) if who else {}
        said = clone.run("bash", "-c", line, env=KEYS | account, check=False)
        self.said.append((line, said))
        assert bool(said.returncode) == fails, said

    def account(self, who: str) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": self.server.uri,
            "MLFLOW_TRACKING_USERNAME": who,
            "MLFLOW_TRACKING_PASSWORD": PASSWORDS[who],
        }

    def fails(self, fate: str | int, concerns: servers.Concerns) -> None:
        self.line.met.clear()
        self.line.concerns, self.line.fate = concerns, fate

    def heals(self) -> None:
        self.line.fate = "pass"


def _after(first: int, verb: str) -> servers.Concerns:
    """All requests once so many with the method `verb` have passed for files of DVC or MLflow."""
    seen = 0

    def concerns(method: str, path: str) -> bool:
        nonlocal seen
        seen += method == verb and not path.startswith("/deepnets?") and not path.endswith(".dir")
        return seen > first

    return concerns


def _server(folder: Path, database: Path, line: servers.Proxy) -> servers.MlflowServer:
    """The page's own, with our secrets."""
    shutil.copytree(ROOT / "docs/team", folder / "docs/team")
    copied, closed, *rest, start = _block("cp ").splitlines()
    subprocess.run(["bash", "-ec", f"{copied}\n{closed}"], cwd=folder, check=True)
    file = folder / "docs/team/.env"
    text = file.read_text().replace("https://s3.example.org", f"http://{line.address}")
    ours = SECRETS | {"AWS_ACCESS_KEY_ID": "team", "PGHOST": str(database)}
    for name, value in ours.items():
        text = re.sub(f"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
    file.write_text(text)
    script = "\n".join([*rest, f'exec {start} "$@"'])
    command = ["bash", "-ec", script, "bash"]
    return servers.MlflowServer("", folder, command, {"AWS_MAX_ATTEMPTS": "1"})


def _make_database(folder: Path) -> None:
    import psycopg

    known = {"host": str(folder), "user": "mlflow", "password": SECRETS["PGPASSWORD"]}
    with psycopg.connect(**known, dbname="postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE mlflow")


def _trained(folder: Path, python: Path) -> Clone:
    """A clone whose study, one row, was trained where MLflow is not even installed.

    All stages run in one process, which spares most of the time; then DVC takes them over.
    """
    author = clone(folder)
    shrink_networks(author)
    author.edit_params(lambda params: one_run(params, RUN))
    author.edit_params(lambda params: params["train"].update(epochs=1))
    author.commit("one row")
    stages = [
        *(["check"], ["download"], ["preprocess"], ["initialize", "vgg16-random"]),
        *(["train", RUN], ["evaluate", RUN], ["report"]),
    ]
    command, variables = without(python, "mlflow")
    small = {"PYTHONPATH": variables["PYTHONPATH"].replace(str(ROOT), str(author.folder))}
    author.run(*command, "-c", SERIES, json.dumps(stages), env=variables | small)
    author.run("dvc", "commit", "--quiet", "--force", "dvc.yaml")
    author.commit("results")
    return author


def _add_members(server: servers.MlflowServer) -> None:
    """Ada by the page's own words, Bob as it does."""
    lines = [SECRETS["MLFLOW_AUTH_ADMIN_PASSWORD"], "ada", PASSWORDS["ada"]]
    subprocess.run(
        ["bash", "-ec", _block("export ").replace("https://mlflow.example.org", server.uri)],
        env=environment(),
        input="\n".join(lines),
        text=True,
        check=True,
        capture_output=True,
        start_new_session=True,  # or it would ask on the terminal for the password
    )
    requests.post(
        f"{server.uri}/api/2.0/mlflow/users/create",
        json={"username": "bob", "password": PASSWORDS["bob"]},
        auth=("admin", SECRETS["MLFLOW_AUTH_ADMIN_PASSWORD"]),
        timeout=30,
    ).raise_for_status()


def _push(team: Team) -> None:
    """What the author types; the bucket refuses in the middle of the first `dvc push`."""
    hub = team.folder / "deeper-networks.git"
    team.author.run("git", "init", "-q", "--bare", "-b", "main", str(hub))
    team.author.run("git", "remote", "add", "origin", str(hub))
    team.author.run("git", "push", "-q", "--set-upstream", "origin", "main")
    for line in _block("dvc remote add").splitlines():
        if line.startswith("dvc push"):
            team.fails(403, _after(3, "PUT"))
            team.type(team.author, line, fails=True)
            team.heals()
        team.type(team.author, line)


def _pull(team: Team) -> None:
    """What Ada types; the bucket dies in the middle of a file of `dvc pull`, and in `dvc repro`."""
    for line in _block("git clone").splitlines():
        if line.startswith("git clone"):
            team.type(Clone(team.folder), line)
        elif line.startswith("dvc pull"):
            team.fails("cut", _after(3, "GET"))
            team.type(team.colleague, line, fails=True)
            team.heals()
            team.type(team.colleague, line)
        elif line.startswith("dvc repro"):
            team.fails("lose", _after(3, "PUT"))
            team.type(team.colleague, line, "ada")
            team.heals()
        else:
            assert line.startswith(("cd ", "make setup", "source "))


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """The whole way, but for what is served at its end."""
    programs = servers.postgres_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    folder = tmp_path_factory.mktemp("team")
    for name in ("author", "bucket", "server"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        store = stack.enter_context(servers.postgres(programs, SECRETS["PGPASSWORD"]))
        database = Path(store.split("host=")[1])
        _make_database(database)
        port = stack.enter_context(servers.bucket("deepnets", folder / "bucket"))
        line = stack.enter_context(closing(servers.Proxy(port)))
        server = _server(folder / "server", database, line)
        stack.callback(server.kill)
        with ThreadPoolExecutor() as pool:
            started = pool.submit(lambda: (server.start(), _add_members(server)))
            author = _trained(folder / "author", tmp_path_factory.mktemp("python") / "site")
            started.result()
        team = Team(folder, database, port, line, server, author, Clone(folder / "deeper-networks"))
        _push(team)
        _pull(team)
        yield team


def _all(team: Team, line: str) -> list[Said]:
    """What the commands that began with `line` said, in their order."""
    return [said for typed, said in team.said if typed.startswith(line)]


def test_a_bucket_that_refuses_in_the_middle_of_a_push_gets_the_rest_by_the_same_command(
    team: Team,
) -> None:
    refused, whole = _all(team, "dvc push")
    assert "ERROR: " in refused.stderr
    assert re.fullmatch(r"\d+ files pushed", whole.stdout.strip())


def test_a_bucket_that_dies_in_the_middle_of_a_pull_leaves_nothing_half(team: Team) -> None:
    died, _ = _all(team, "dvc pull")
    assert "ERROR: " in died.stderr
    for folder in ("data", "models"):
        there = {
            path.relative_to(team.author.folder): path.read_bytes()
            for path in (team.author.folder / folder).rglob("*")
            if path.is_file()
        }
        assert there
        assert {p: (team.colleague.folder / p).read_bytes() for p in there} == there


LOG_SAYS = "the server's log says what is wrong with the bucket or disk behind it"


def _assert_one_line(team: Team, lines: list[str], cause: str) -> None:
    (line,) = lines
    assert line.startswith(f"MLflow at {team.server.uri} cannot be reached or refuses (")
    assert cause in line
    assert line.endswith("nothing is lost; mend that, then run `deepnets publish`")


def test_a_colleague_trains_nothing_and_a_dying_bucket_costs_one_line(team: Team) -> None:
    (repro,) = _all(team, "dvc repro")
    assert re.findall(r"^Running stage '(.*)'", repro.stdout, re.MULTILINE) == ["publish"]
    _assert_one_line(
        team, [line for line in repro.stderr.splitlines() if "MLflow" in line], LOG_SAYS
    )
    assert team.colleague.run("git", "status", "--porcelain").stdout == ""


Publish = Callable[[Path], tuple[str, list[str]]]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Publish:
    """`deepnets publish` in a folder: its standard output, and the lines of its standard error."""

    def published(folder: Path) -> tuple[str, list[str]]:
        monkeypatch.chdir(folder)
        capsys.readouterr()
        publish.main()
        out, err = capsys.readouterr()
        lines = re.split(r"[\r\n]+", err)
        return out, [line for line in lines if line.strip() and not line.startswith("publish:")]

    return published


def _be(team: Team, who: str, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """Have MLflow in this process work for `who`."""
    for name, value in team.account(who).items():
        monkeypatch.setenv(name, value)
    return mlflow.MlflowClient(team.server.uri)


def test_the_empty_server_is_filled_and_who_publishes_second_adds_what_only_they_have(
    team: Team, monkeypatch: pytest.MonkeyPatch, published: Publish
) -> None:
    client = _be(team, "ada", monkeypatch)
    out, lines = published(team.colleague.folder)
    assert lines == []
    assert f"MLflow has 1 of 1 runs in '{EXPERIMENT}'\n" in out
    assert f"models:/{EXPERIMENT}@champion is version 1, {RUN}" in out
    before = _contents(client)
    client = _be(team, "bob", monkeypatch)
    assert published(team.author.folder) == (out, [])
    # Images of every epoch are where a training's checkpoints are, and these nobody pulls.
    after = _contents(client)
    images = "'mlflow.loggedImages': 'True'"
    assert images not in before[0]
    assert images in after[0]
    assert [each.replace(f", {images}", "") for each in after] == before
    assert published(team.author.folder) == (out, [])
    assert _contents(client) == after


def _contents(client: mlflow.MlflowClient) -> list[str]:
    """All that the server says of runs and models."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return [
        *(str(each.to_dictionary()) for each in client.search_runs(ids)),
        *(str(each.to_dictionary()) for each in client.search_logged_models(ids)),
        *(str(dict(each)) for each in client.search_registered_models()),
        *(str(dict(each)) for each in client.search_model_versions()),
        *(str(dict(each)) for each in client.search_experiments()),
    ]


def test_a_wrong_password_costs_one_line_without_it(
    team: Team, monkeypatch: pytest.MonkeyPatch, published: Publish
) -> None:
    _be(team, "bob", monkeypatch)
    wrong = secrets.token_hex(16)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", wrong)
    out, lines = published(team.author.folder)
    assert out == ""
    _assert_one_line(team, lines, "error code 401")
    assert wrong not in lines[0]


def test_the_champion_predicts_and_a_bucket_that_refuses_it_costs_one_line(
    team: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _be(team, "bob", monkeypatch)
    monkeypatch.chdir(team.colleague.folder)
    picture = tmp_path / "seven.png"
    handwriting.PAPERS["white"](
        handwriting.written(7, "pen", 120, np.random.default_rng(7)), np.random.default_rng(7)
    ).save(picture)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    team.fails(403, _after(0, "GET"))
    with pytest.raises(UserError) as raised:
        predict.main([str(picture)], "champion", False)
    team.heals()
    # A server answers once its bucket has given it the whole file.
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"
    assert LOG_SAYS in str(raised.value)
    assert str(raised.value).endswith("mend that, or name a .keras file with --model")
    answers = []
    for model in ("champion", str(team.author.folder / f"models/{RUN}/seed-0.keras")):
        capsys.readouterr()
        predict.main([str(picture)], model, True)
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0]["predictions"] == answers[1]["predictions"]
    assert answers[0]["model"]["sha256"] == answers[1]["model"]["sha256"]


def test_the_champion_is_served_to_who_has_an_account_and_no_key_of_the_bucket(team: Team) -> None:
    _, line = _block("deepnets predict").splitlines()
    assert "--port 5001" in line
    port = servers.free_port()
    with (team.folder / "serve.log").open("wb") as log:
        serving = subprocess.Popen(
            ["bash", "-c", f"exec {line.replace('5001', str(port))}"],
            cwd=team.colleague.folder,
            env=environment() | team.account("bob"),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        servers.wait_for(lambda: serving.poll() is not None or servers.answers(port, "/ping"))
        assert serving.poll() is None, (team.folder / "serve.log").read_text()
        images = np.load(team.colleague.folder / "data/processed/test_images.npy")[:3]
        answer = requests.post(
            f"http://127.0.0.1:{port}/invocations", json={"inputs": images.tolist()}, timeout=60
        )
    finally:
        os.killpg(serving.pid, signal.SIGKILL)
        serving.wait()
    evaluated = np.load(team.author.folder / f"data/probabilities/{RUN}/probabilities.npy")
    served = answer.json()["predictions"]
    np.testing.assert_allclose(served, evaluated[0][:3], rtol=1e-4, atol=1e-6)


# What the bucket does to MLflow's server once it is sent files, and what is said of it.
FAILURES: dict[str, tuple[str | int, int, str]] = {
    "refuses": (403, 0, LOG_SAYS),
    "dies": ("lose", 2, LOG_SAYS),
    "is slow": ("hang", 1, 'timed out. (read timeout=2)")); MLFLOW_HTTP_REQUEST_TIMEOUT=600'),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_bucket_that_fails_costs_publish_one_line_and_the_same_command_goes_on(
    team: Team,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    published: Publish,
    failure: str,
) -> None:
    """It is Bob's, who adds each time a better run to what Ada has begun."""
    client = _be(team, "bob", monkeypatch)
    place = list(FAILURES).index(failure)
    name = (studies.FIRST, studies.SECOND, studies.THIRD)[place]
    with chdir(tmp_path):
        study = studies.Study(tmp_path, capsys, EXPERIMENT)
        study.trained(name, 0.9 + place / 100, model=trainings.model(name))
    fate, first, cause = FAILURES[failure]
    team.fails(fate, _after(first, "PUT"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    out, lines = published(tmp_path)
    team.heals()
    assert out == ""
    _assert_one_line(team, lines, cause)

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    out, lines = published(tmp_path)
    assert lines == []
    assert f"MLflow has 1 of 3 runs in '{EXPERIMENT}'" in out
    champion = client.get_model_version_by_alias(EXPERIMENT, "champion")
    run = client.get_run(champion.run_id)
    assert (run.info.run_name, run.info.status) == (name, "FINISHED")
    assert run.data.metrics["val_accuracy"] == trainings.history(2).history[-1]["val_accuracy"]
    kept = mlflow.artifacts.download_artifacts(
        f"models:/{EXPERIMENT}@champion/data/model.keras",
        dst_path=str(tmp_path / "kept"),
        tracking_uri=team.server.uri,
    )
    assert Path(kept).read_bytes() == trainings.model(name)


def test_no_secret_is_in_what_all_that_left_behind(team: Team) -> None:
    """It comes last: in files and commits, in what was said, in the bucket and on the server."""
    there = {*team.folder.rglob("*"), *team.database.rglob("*")}
    left = {
        str(path): path.read_bytes()
        for path in there - {team.server.folder / "docs/team/.env"}
        if path.is_file()
    }
    for copy in (team.author, team.colleague):
        left[f"commits in {copy.folder}"] = copy.run("git", "log", "-p", "--all").stdout.encode()
    for command, said in team.said:
        left[f"said by {command}"] = (command + said.stdout + said.stderr).encode()
    left |= {f"object {key}": content for key, content in _objects(team.bucket).items()}
    with pytest.MonkeyPatch.context() as patch:
        left["MLflow"] = "\n".join(_contents(_be(team, "bob", patch))).encode()
    running = psutil.Process().children(recursive=True)
    left["command lines"] = "\n".join(word for each in running for word in each.cmdline()).encode()

    for place in ("server.log", "serve.log", "bucket.log", "deeper-networks/.dvc/config"):
        assert left[next(name for name in left if name.endswith(place))], place
    assert RUN.encode() in left["MLflow"]
    assert b"--artifacts-destination" in left["command lines"]
    for secret in (SECRETS | PASSWORDS).values():
        assert [name for name, content in left.items() if secret.encode() in content] == []


def _objects(port: int) -> dict[str, bytes]:
    """All that is in the bucket."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="deepnets")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {key: client.get_object(Bucket="deepnets", Key=key)["Body"].read() for key in keys}
