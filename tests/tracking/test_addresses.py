"""Addresses in MLflow's UI: their form, where they are said, and what a browser shows at them."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import mlflow
import pytest

import servers
from deepnets.base import project
from deepnets.commands import repro
from deepnets.config import params
from deepnets.tracking import connection, pages
from project import ROOT, Clone, edit_yaml, without, would_make
from studies import FIRST, SECOND, THIRD, Study

ROWS = [FIRST, SECOND, THIRD]
# What a terminal takes for a part of an address.
WHOLE = re.compile(r"https?://[\w.:/#?&=%,-]+")
USUAL = "mlflow ui   (then open http://localhost:5000)"
# A page of the UI is one program, which first has to be read and started.
PATIENCE_MS = 90_000


def _query(address: str) -> dict[str, str]:
    """What comes after the question mark of an address, which is after its #."""
    query = urlsplit(address).fragment.partition("?")[2]
    return {key: value for key, (value,) in parse_qs(query, strict_parsing=True).items()}


def _ids(study: Study) -> dict[str, str]:
    """Ids of the runs in the store by name; of two of a name, the later one's."""
    client = study.client()
    experiment = client.get_experiment_by_name(study.name)
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return {run.info.run_name: run.info.run_id for run in runs}


def _said(study: Path) -> str:
    """The last lines of `deepnets repro`."""
    return repro._in_mlflow(study, params.load(study / params.FILE))


@pytest.fixture
def published(study: Study) -> Study:
    """A study that MLflow has all runs of."""
    for run, accuracy in zip(ROWS, (0.9, 0.8, 0.7), strict=True):
        study.trained(run, accuracy)
    study.publish()
    return study


def test_both_addresses_name_what_is_in_the_store(published: Study) -> None:
    shown = pages.study_pages(published.name, ROWS)
    assert list(shown) == ["runs and curves", "adam and sgd"]
    for address in shown.values():
        assert WHOLE.fullmatch(address)
        assert address.startswith("http://localhost:5000/#/")
        assert _query(address)["workflowType"] == "machine_learning"
    charts, curves = shown.values()
    experiment = published.client().get_experiment_by_name(published.name).experiment_id
    assert f"/#/experiments/{experiment}/runs?compareRunsMode=CHART&" in charts
    query = _query(curves)
    ids = _ids(published)
    assert json.loads(query["runs"]) == [ids[SECOND], ids[FIRST], ids[THIRD]]
    assert json.loads(query["experiments"]) == [experiment]
    assert json.loads(query["metric"]) == "val_accuracy"
    assert json.loads(query["plot_metric_keys"]) == ["val_accuracy"]


def test_the_first_study_of_a_new_store_is_experiment_1(published: Study) -> None:
    """The address of it in docs/running.md."""
    assert "/#/experiments/1/runs?" in pages.study_pages(published.name, ROWS)["runs and curves"]


def test_a_row_trained_again_is_shown_as_it_is_now(published: Study) -> None:
    before = _ids(published)
    for run in ROWS:
        published.trained(run, 0.95, validation="c" * 64)
    published.publish()
    after = _ids(published)
    assert not set(before.values()) & set(after.values())
    curves = pages.study_pages(published.name, [FIRST, SECOND])["adam and sgd"]
    assert json.loads(_query(curves)["runs"]) == [after[SECOND], after[FIRST]]


def test_of_several_seeds_those_are_compared_that_have_curves(study: Study) -> None:
    edit_yaml(study.folder / "params.yaml", lambda p: p["train"].update(seed=[0, 1]))
    study.trained(FIRST, {0: 0.9, 1: 0.8})
    study.trained(SECOND, {0: 0.7, 1: 0.6})
    study.publish()
    ids = _ids(study)
    assert len(ids) == 6
    compared = json.loads(_query(pages.study_pages(study.name, ROWS)["adam and sgd"])["runs"])
    assert compared == [ids[f"{run}-seed-{seed}"] for run in (SECOND, FIRST) for seed in (0, 1)]


def test_one_optimizer_has_nothing_beside_it(study: Study) -> None:
    study.trained(FIRST, 0.9)
    study.trained(THIRD, 0.8)
    study.publish()
    assert list(pages.study_pages(study.name, ROWS)) == ["runs and curves"]


def test_repro_says_what_to_start_and_what_to_open(published: Study) -> None:
    start, *listed = _said(published.folder).splitlines()
    assert start.startswith("MLflow:  ")
    assert start.endswith("/mlflow ui   (then open what follows)")
    assert [WHOLE.search(line).group() for line in listed] == [  # type: ignore[union-attr]
        *pages.study_pages(published.name, ROWS).values()
    ]
    assert [line.split(":")[0].strip() for line in listed] == ["runs and curves", "adam and sgd"]


def test_a_store_elsewhere_is_named_in_the_command(
    published: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow ui` looks in the folder where it is started, stages in the root of the project."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (published.folder / "MLproject").touch()
    (published.folder / "src" / "deepnets").mkdir(parents=True)
    inner = published.folder / "studies" / "one"
    inner.mkdir(parents=True)
    shutil.copy(published.folder / "params.yaml", inner)
    assert _said(inner).splitlines()[0].endswith("/mlflow ui   (then open what follows)")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    option = f"--backend-store-uri {published.store}   (then open what follows)"
    assert _said(inner).splitlines()[0].endswith(f"/mlflow ui {option}")
    assert not list(Path.cwd().iterdir())
    assert Path.cwd() == tmp_path / "elsewhere"


@pytest.mark.parametrize("server", ["http://tracking.example:5000", "https://host.example/mlflow/"])
def test_a_server_has_the_pages_itself(
    published: Study, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "connect", lambda _: published.client())
    scheme, rest = server.split("//")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}//somebody:se@cret@{rest}")
    said = _said(published.folder)
    start, *listed = said.splitlines()
    assert "mlflow ui" not in said
    assert not re.search("somebody|cret", said)
    assert start == f"MLflow:  {scheme}//***@{rest}"
    assert len(listed) == 2
    for line in listed:
        address = WHOLE.search(line)
        assert address is not None
        assert address.group().startswith(f"{server.rstrip('/')}/#/")


def test_the_password_of_a_database_is_not_said(
    published: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "connect", lambda _: published.client())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://somebody:secret@host/store")
    said = _said(published.folder)
    assert 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"   (then' in said
    assert "secret" not in said
    assert said.count("http://localhost:5000/#/") == 2


def test_without_a_store_none_is_made(study: Study) -> None:
    (study.folder / "mlflow.db").unlink()
    assert _said(study.folder).endswith(USUAL)
    assert "no runs in MLflow" in pages.overview()
    assert not list(study.folder.glob("*mlflow.db*"))


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("", "sqlite:///{root}/mlflow.db"),
        ("sqlite:///there/runs.db", "sqlite:///{root}/there/runs.db"),
        ("sqlite:////there/runs.db", "sqlite:////there/runs.db"),
        ("mlruns", "{root}/mlruns"),
        ("file:./mlruns", "{root}/mlruns"),
        ("file:///there/mlruns", "file:///there/mlruns"),
        ("databricks", "databricks"),
        ("databricks-uc", "databricks-uc"),
        ("uc", "uc"),
        ("databricks://profile", "databricks://profile"),
        ("https://host/mlflow", "https://host/mlflow"),
    ],
)
def test_where_the_store_is(
    uri: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder of a study as in the root: only what is a relative path counts from there."""
    (tmp_path / "MLproject").touch()
    for folder in ("src/deepnets", "studies/one"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "studies" / "one")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert project.tracking_uri() == expected.format(root=tmp_path)


def refusal(uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said of a store that can hold nothing; nothing is left in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(mlflow.MlflowException) as raised:
        connection.connect()
    assert not list(folder.iterdir())
    return connection.unreachable(raised.value)


@pytest.mark.parametrize("uri", ["file:./mlruns", "mlruns", "file:///there/mlruns"])
def test_a_folder_is_refused_with_what_to_do_about_it(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow says so in six lines, of which the last one has the remedy."""
    said = refusal(uri, tmp_path, monkeypatch)
    assert "takes no folder: set MLFLOW_TRACKING_URI=sqlite:///FILE" in said
    assert "`mlflow migrate-filestore`" in said
    assert said.endswith(
        "or MLFLOW_ALLOW_FILE_STORE=true): nothing is lost; mend that, then run `deepnets publish`"
    )


def test_a_folder_that_mlflow_is_told_to_take_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    connection.experiment_id(connection.connect(), "one")
    assert len(list(tmp_path.glob("mlruns/*/meta.yaml"))) == 2


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite://runs.db", "sqlite:runs.db"])
def test_a_database_without_a_file_is_refused(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first MLflow makes one in memory, and all that it takes is lost."""
    assert "expected sqlite:///FILE" in refusal(uri, tmp_path, monkeypatch)


def test_what_else_a_user_has_set_for_mlflow_does_not_reach_our_runs(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ACTIVE_MODEL_ID", "m-none")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    study.trained(FIRST, 0.9)
    assert "MLflow has 1 of 3 runs" in study.publish()
    assert FIRST in _ids(study)
    assert not mlflow.environment_variables.MLFLOW_ENABLE_ASYNC_LOGGING.get()


def test_registered_models_may_be_kept_elsewhere(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path counts from the root, as that of the store does."""
    (study.folder / "MLproject").touch()
    for folder in ("src/deepnets", "studies/one"):
        (study.folder / folder).mkdir(parents=True)
    models = study.folder / "models.db"
    shutil.copy(study.folder / "mlflow.db", models)
    monkeypatch.chdir(study.folder / "studies" / "one")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:///models.db")
    connection.connect().create_registered_model("one")
    assert [model.name for model in study.client().search_registered_models()] == ["one"]
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    assert not study.client().search_registered_models()
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("folder", [".", "studies/tour", "tests"])
def test_git_takes_no_store(folder: str) -> None:
    """`mlflow ui` makes an empty one in the folder where it is started."""
    made = ["mlflow.db", "mlflow.db-wal", ".mlflow.db.lock", "mlruns/0", "mlartifacts/0"]
    paths = [f"{folder}/{name}" for name in made]
    said = subprocess.run(
        ["git", "check-ignore", "--no-index", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.splitlines() == paths


def test_an_experiment_that_is_not_there(published: Study) -> None:
    assert pages.study_pages("another study", ROWS) == {}
    client = published.client()
    client.delete_experiment(client.get_experiment_by_name(published.name).experiment_id)
    assert _said(published.folder).endswith(USUAL)


def test_a_server_that_refuses_or_is_silent_is_not_waited_for(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{servers.free_port()}")
    assert _said(study.folder).endswith(USUAL)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    monkeypatch.setattr(connection, "PATIENCE", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert _said(study.folder).endswith(USUAL)
        assert time.monotonic() - started < 10


def test_without_mlflow(published: Study, tmp_path: Path) -> None:
    python, variables = without(tmp_path / "site", "mlflow")
    code = (
        "from pathlib import Path; from deepnets.config import params; "
        "from deepnets.commands import repro; "
        "print(repro._in_mlflow(Path('.'), params.load()))"
    )
    result = Clone(published.folder).run(*python, "-c", code, env=variables)
    assert result.stdout.strip().endswith(USUAL)
    assert not result.stderr


def test_overview_has_a_line_for_each_study(published: Study) -> None:
    client = published.client()
    client.create_experiment("somebody else's")
    (experiment,) = [
        found.experiment_id for found in client.search_experiments() if found.name == published.name
    ]
    (line,) = pages.overview().splitlines()
    assert line.startswith(f"{published.name}: http://localhost:5000/#/experiments/{experiment}/")
    made = would_make("ui")
    assert "print(pages.overview())" in made


def test_a_browser_shows_the_runs_and_their_curves(
    browser: Any, published: Study, tmp_path: Path
) -> None:
    shown = pages.study_pages(published.name, ROWS)
    (tmp_path / "server").mkdir()
    server = servers.MlflowServer(published.store, tmp_path / "server")
    with contextlib.ExitStack() as ending:
        ending.callback(server.kill)
        server.start()
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        for address in shown.values():
            # Another address after the # alone would not load the page anew.
            page.goto("about:blank")
            page.goto(address.replace("http://localhost:5000", server.uri))
            # The menu of trainings, not that of language models.
            page.get_by_role("link", name="Model registry").first.wait_for()
            assert page.get_by_text("Judges").count() == 0
            for run in ROWS:
                page.get_by_role("link", name=run, exact=True).first.wait_for()
            if "compareRunsMode" in address:
                # Its charts are in the order of the alphabet, and drawn as far as the window goes.
                page.get_by_text(f"{FIRST} (accuracy)").first.wait_for()
                page.get_by_placeholder("Search metric charts").fill("^val_accuracy")
            for run in ROWS:
                # A legend shows the first two, and the others when it is scrolled.
                page.get_by_text(f"{run} (val_accuracy)").first.wait_for(state="attached")
            curves = page.locator(".js-plotly-plot .scatterlayer .trace")
            curves.nth(len(ROWS) - 1).wait_for(state="attached")
            assert page.locator(".js-plotly-plot").count() == 1
        page.get_by_role("heading", name="val_accuracy").first.wait_for()
