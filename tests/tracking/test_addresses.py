"""Addresses in MLflow's UI: their form, where they are said, and what a browser shows at them."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import mlflow
import pytest
from mlflow.entities import Experiment

import servers
from deepnets.base import colours, project
from deepnets.commands import repro
from deepnets.config import params
from deepnets.stages import publish
from deepnets.tracking import connection, pages, views
from project import ROOT, Clone, edit_yaml, without, would_make
from studies import FIRST, SECOND, THIRD, Study

# What a terminal takes for a part of an address.
WHOLE = re.compile(r"https?://[\w.:/#?&=%,-]+")
USUAL = "mlflow ui   (then open http://localhost:5000)"
# A page of the UI is one program, which first has to be read and started.
PATIENCE_MS = 90_000


def _query(address: str) -> dict[str, str]:
    """What comes after the question mark of an address, which is after its #."""
    query = urlsplit(address).fragment.partition("?")[2]
    return {key: value for key, (value,) in parse_qs(query, strict_parsing=True).items()}


def _experiments(study: Study) -> list[Experiment]:
    """Those of the study in the store, with their tags."""
    experiments = study.client().search_experiments(filter_string=f"name = '{study.name}'")
    return list(experiments)


def _views(experiment: Experiment) -> list[str]:
    return [key for key in experiment.tags if key.startswith("mlflow.sharedViewState.")]


def _view(study: Study) -> Any:
    """What the store has of our view."""
    (experiment,) = _experiments(study)
    return json.loads(experiment.tags[pages.VIEW_TAG])


def _said(study: Path) -> str:
    """The last lines of `deepnets repro`."""
    return repro._describe_mlflow(study, params.load(study / params.FILE))


@pytest.fixture
def published(study: Study) -> Study:
    """A study that MLflow has all runs of."""
    for run, accuracy in zip((FIRST, SECOND, THIRD), (0.9, 0.8, 0.7), strict=True):
        study.trained(run, accuracy)
    study.publish()
    return study


def test_one_address_opens_the_view(published: Study) -> None:
    address = pages.study_page(published.name)
    assert address is not None
    assert WHOLE.fullmatch(address)
    (experiment,) = _experiments(published)
    assert address.startswith(f"http://localhost:5000/#/experiments/{experiment.experiment_id}/")
    assert f"mlflow.sharedViewState.{_query(address)['viewStateShareKey']}" in experiment.tags
    assert _query(address)["compareRunsMode"] == "CHART"
    assert _query(address)["workflowType"] == "machine_learning"
    for document in ("README.md", "docs/running.md"):  # as after `make tour`
        assert f"<{address}>" in (ROOT / document).read_text()


def test_the_address_has_the_port_of_mlflow_ui(
    published: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_PORT", "5001")
    assert str(pages.study_page(published.name)).startswith("http://localhost:5001/#/experiments/")
    assert "http://localhost:5001/#/experiments/" in pages.overview()


def test_a_view_is_saved_once_and_brought_level(published: Study) -> None:
    (before,) = _experiments(published)
    client, number = published.client(), before.experiment_id
    # A view that somebody has saved is another tag.
    client.set_experiment_tag(number, "mlflow.sharedViewState.1a2b", before.tags[pages.VIEW_TAG])
    published.publish()
    assert _view(published) == json.loads(before.tags[pages.VIEW_TAG])
    (now,) = _experiments(published)
    assert len(_views(now)) == 2

    older = {"name": views.NAME, "createdAt": 1, "state": "deflate;eJw="}
    for tag in (json.dumps(older), json.dumps(older | {"updatedAt": 1}), "{}", "[", "7"):
        client.set_experiment_tag(number, pages.VIEW_TAG, tag)
        published.publish()
        view = _view(published)
        assert view["createdAt"] == view["updatedAt"] > 1
        assert view["state"] == json.loads(before.tags[pages.VIEW_TAG])["state"]
    assert len(_views(now)) == 2


@pytest.mark.parametrize("change", [{"updatedAt": 2}, {"name": "mine"}])
def test_a_view_that_somebody_has_changed_stays(published: Study, change: dict[str, Any]) -> None:
    (experiment,) = _experiments(published)
    theirs = {"name": views.NAME, "createdAt": 1, "updatedAt": 1, "state": "{}"} | change
    published.client().set_experiment_tag(
        experiment.experiment_id, pages.VIEW_TAG, json.dumps(theirs)
    )
    published.publish()
    assert _view(published) == theirs
    assert "viewStateShareKey=" in str(pages.study_page(published.name))


def test_a_store_that_refuses_the_view_costs_a_line(
    published: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise mlflow.MlflowException("403: you may not")

    (experiment,) = _experiments(published)
    published.client().delete_experiment_tag(experiment.experiment_id, pages.VIEW_TAG)
    monkeypatch.setattr(mlflow.MlflowClient, "set_experiment_tag", refuse)
    said = published.publish()
    assert "MLflow has 3 of 3 runs" in said
    (warning,) = [line for line in said.splitlines() if "does not take" in line]
    assert "the view 'Compare optimizers' (403: you may not): nothing is lost" in warning
    assert "viewStateShareKey" not in str(pages.study_page(published.name))
    assert "/runs?compareRunsMode=CHART&" in str(pages.study_page(published.name))
    assert "viewStateShareKey" not in pages.overview()


@pytest.mark.parametrize(
    ("status", "version", "known"),
    [
        (200, "3.17.2", True),
        (200, "3.15.0", True),
        (200, "4.0.0rc1", True),
        (200, "3.14.9", False),
        (200, "2.22.0", False),
        (200, "<!doctype html>", False),
        (404, "3.17.2", False),
    ],
)
def test_an_older_server_gets_no_view(
    status: int, version: str, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example")
    asked = []

    class Client:
        def set_experiment_tag(self, *tag: str) -> None:
            asked.append(tag[1])

    def answer(credentials: Any, path: str, *_: object, **__: object) -> SimpleNamespace:
        asked.append(f"{credentials.host}{path}")
        return SimpleNamespace(status_code=status, text=version)

    monkeypatch.setattr(views, "http_request", answer)
    experiment = Experiment("1", "one", "", "active")
    assert views.sync(Client(), experiment) is known  # type: ignore[arg-type]
    assert asked == ["http://tracking.example/version", *[pages.VIEW_TAG] * known]


def test_a_run_has_the_colour_of_its_optimizer_unless_somebody_chose_another(
    published: Study,
) -> None:
    client = published.client()
    (experiment,) = _experiments(published)
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.data.tags["mlflow.runColor"] for name, run in runs.items()} == {
        FIRST: colours.BLUE,
        SECOND: colours.VERMILION,
        THIRD: colours.BLUE,
    }
    client.set_tag(runs[FIRST].info.run_id, "mlflow.runColor", "#123456")
    published.publish()
    assert client.get_run(runs[FIRST].info.run_id).data.tags["mlflow.runColor"] == "#123456"


def test_repro_says_what_to_start_and_what_to_open(published: Study) -> None:
    start, address = _said(published.folder).splitlines()
    assert start.startswith("MLflow:  ")
    assert start.endswith("/mlflow ui   (then open what follows)")
    assert address.strip() == pages.study_page(published.name)


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
def test_a_server_has_the_page_itself(
    study: Study, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme, rest = server.split("//")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}//somebody:se@cret@{rest}")
    assert _said(study.folder) == f"MLflow:  {scheme}//***@{rest}"
    pages.note(study.name, "12", view=True)
    said = _said(study.folder)
    assert said.startswith(
        f"MLflow:  {server.rstrip('/')}/#/experiments/12/runs?viewStateShareKey="
    )
    address = WHOLE.search(said)
    assert address is not None
    assert said == f"MLflow:  {address.group()}"
    assert not [path for path in study.folder.rglob("*.json") if "cret" in path.read_text()]


def test_the_password_of_a_database_is_not_said(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://somebody:secret@host/store")
    pages.note(study.name, "1", view=True)
    said = _said(study.folder)
    assert 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"   (then' in said
    assert "secret" not in said
    assert said.count("http://localhost:5000/#/") == 1


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
    return connection.unreachable_warning(raised.value)


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
    (experiment,) = _experiments(study)
    (run,) = study.client().search_runs([experiment.experiment_id])
    assert run.info.run_name == FIRST
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


def test_what_was_published_elsewhere_has_no_address_here(
    published: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pages.study_page("another study") is None
    shutil.copy(published.folder / "mlflow.db", published.folder / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert _said(published.folder).endswith(USUAL)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", published.store)
    (published.folder / "mlflow.db").unlink()
    assert _said(published.folder).endswith(USUAL)


def test_the_end_of_repro_imports_no_mlflow(published: Study) -> None:
    code = (
        "import sys; from pathlib import Path; from deepnets.config import params; "
        "from deepnets.commands import repro; "
        "print(repro._describe_mlflow(Path('.'), params.load()), 'mlflow' in sys.modules)"
    )
    result = Clone(published.folder).run(sys.executable, "-c", code)
    assert result.stdout.strip().endswith(f"{pages.study_page(published.name)} False")


def test_without_mlflow(published: Study, tmp_path: Path) -> None:
    python, variables = without(tmp_path / "site", "mlflow")
    code = (
        "from pathlib import Path; from deepnets.config import params; "
        "from deepnets.commands import repro; "
        "print(repro._describe_mlflow(Path('.'), params.load()))"
    )
    result = Clone(published.folder).run(*python, "-c", code, env=variables)
    assert result.stdout.strip().endswith(USUAL)
    assert not result.stderr


def test_overview_has_a_line_for_each_study(published: Study) -> None:
    client = published.client()
    client.create_experiment("somebody else's")
    (experiment,) = [
        stored.experiment_id
        for stored in client.search_experiments()
        if stored.name == published.name
    ]
    (line,) = pages.overview().splitlines()
    assert line.startswith(f"{published.name}: http://localhost:5000/#/experiments/{experiment}/")
    made = would_make("ui")
    assert "print(pages.overview())" in made


@dataclass(frozen=True)
class Served:
    """A server, a study that was published to it, and how `deepnets repro` ends there."""

    server: servers.MlflowServer
    study: Path
    said: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Served]:
    """A server with a study of two rows of two seeds each, which was published to it."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copy(empty_store, folder / "mlflow.db")
    server = servers.MlflowServer(f"sqlite:///{folder}/mlflow.db", folder)
    with contextlib.ExitStack() as ending:
        ending.callback(server.kill)
        server.start()
        patch = ending.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        study = Study(folder, None)
        edit_yaml(folder / "params.yaml", lambda p: p["train"].update(seed=[0, 1]))
        study.trained(FIRST, {0: 0.97, 1: 0.95}, test=0.96)
        study.trained(SECOND, {0: 0.11, 1: 0.12}, test=0.1)
        publish.main()
        yield Served(server, folder, _said(folder))


def test_where_nothing_changed_a_server_is_asked_for_no_view(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = servers.Proxy(served.server.port)
    monkeypatch.chdir(served.study)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{proxy.address}")
    publish.main()
    proxy.close()
    asked = [path.partition("?")[0] for _, path in proxy.met]
    assert "/version" not in asked
    assert "/api/2.0/mlflow/experiments/set-experiment-tag" not in asked
    # For each of four trainings, for the champion, and at last for the study and what runs alone.
    assert asked.count("/api/2.0/mlflow/experiments/get-by-name") == 4 + 1 + 2


def test_a_browser_shows_optimizers_beside_each_other(browser: Any, served: Served) -> None:
    said = WHOLE.search(served.said)
    assert said is not None
    page = browser.new_page(viewport={"width": 1600, "height": 1300})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(said.group())
    # The menu of trainings, not that of language models.
    page.get_by_role("link", name="Model registry").first.wait_for()
    assert page.get_by_text("Judges").count() == 0
    for optimizer in ("sgd", "adam"):
        page.get_by_text(f"Group: {optimizer}").first.wait_for()
    trainings = [f"{run}-seed-{seed}" for run in (FIRST, SECOND) for seed in (0, 1)]
    for metric in ("val_accuracy", "val_loss"):
        page.get_by_role("heading", name=metric).first.wait_for()
        for run in trainings:
            # A legend shows the first two, and the others when it is scrolled.
            page.get_by_text(f"{run} ({metric})").first.wait_for(state="attached")
    curves = page.locator(".js-plotly-plot .scatterlayer .trace .js-line")
    curves.nth(2 * len(trainings) - 1).wait_for(state="attached")
    # All have the same history; what is smoothed would be drawn as it was measured as well.
    assert len({curve.get_attribute("d") for curve in curves.all()}) == 2
    drawn = {curve.evaluate("line => getComputedStyle(line).stroke") for curve in curves.all()}
    assert drawn == {"rgb(0, 114, 178)", "rgb(213, 94, 0)"}
    # A step is an epoch, of which there were two.
    assert page.locator(".js-plotly-plot .xtick").first.text_content() == "1"
    page.get_by_text("weights", exact=True).first.wait_for()
    assert page.locator(".js-plotly-plot").count() == 2
    for name in (FIRST, SECOND):
        assert page.get_by_role("link", name=name, exact=True).count() == 0, "it has no curves"

    # The icon of a list.
    page.locator("label", has=page.locator("input[value=TABLE]")).click()
    page.get_by_text("completed").first.wait_for()

    def columns() -> list[str]:
        headers = page.locator(".ag-header-cell[col-id]").all()
        in_order = sorted(headers, key=lambda header: int(header.get_attribute("aria-colindex")))
        return [re.sub(r".*`(.*)`", r"\1", header.get_attribute("col-id")) for header in in_order]

    # MLflow shows when a run was made and how long it took in any view.
    expected = ["Run Name", "runDateAndNestInfo", "arch", "optimizer", "weights"]
    expected += ["val_accuracy", "test_accuracy", "outcome", "duration"]
    with contextlib.suppress(AssertionError):
        servers.wait_for(lambda: columns()[1:] == expected, 10)
    assert columns()[1:] == expected
