"""A project that is moved or copied takes its MLflow store along and leaves the other one alone."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking._tracking_service import utils

import deepnets.__main__
import trainings
from deepnets.base import files, project
from deepnets.tracking import connection, fetch, store
from deepnets.tracking import plugin as mlflow_plugin
from project import environment
from studies import FIRST, SECOND, Study

Make = Callable[..., Study]


@pytest.fixture
def make(
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Make:
    """Goes to a project in a folder of that name, made if need be, with its own store or `uri`."""

    def make(name: str, uri: str | None = None) -> Study:
        # MLflow sets it, too, and remembers where the artifacts of a run are.
        utils._artifact_repos_cache.clear()
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        if uri:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        folder = tmp_path / name
        if not folder.exists():
            (folder / "src/deepnets").mkdir(parents=True)
            (folder / "MLproject").touch()
            shutil.copy(empty_store, folder / "mlflow.db")
        monkeypatch.chdir(folder)
        return Study(folder, capsys)

    return make


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file in `folder`, and when it was written."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }


def _mentions(database: Path, text: str) -> list[str]:
    """What in the database holds `text`, table and column."""
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return [
            f"{table}.{column}"
            for (table,) in tables.fetchall()
            for _, column, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall()
            if connection.execute(
                f'SELECT 1 FROM "{table}" WHERE instr("{column}", ?)', (text,)
            ).fetchall()
        ]


def _kept(study: Study) -> list[str]:
    """The files among the artifacts of the project that the study is in."""
    return sorted(path.name for path in (study.folder / "mlruns").rglob("*") if path.is_file())


def test_a_copy_writes_into_itself_and_needs_the_other_one_no_more(make: Make) -> None:
    first = make("a1")
    first.trained(FIRST, 0.90)
    first.publish()
    before = _state(first.folder)
    shutil.copytree(first.folder, first.folder.with_name("a2"))
    copy = make("a2")
    copy.trained(SECOND, 0.95)
    said = copy.publish()
    assert f"MLflow's store has come here from {first.folder}: its addresses lead to " in said
    assert "MLflow has 2 of 3 runs" in said
    assert _state(first.folder) == before
    assert _mentions(copy.folder / "mlflow.db", f"{first.folder}/") == []
    shutil.rmtree(first.folder)
    for version, run in (("1", FIRST), ("champion", SECOND)):
        with fetch.fetch_model(copy.name, version) as (path, described):
            assert described["name"] == run
            assert path.is_file()
    (version,) = copy.client().search_model_versions("version_number = 1")
    assert mlflow.artifacts.list_artifacts(version.source)


@pytest.mark.parametrize("name", ["b", "weiß & 100%", "a1/inner", "deep/er/a1"])
def test_a_moved_store_is_brought_right_once(make: Make, name: str, tmp_path: Path) -> None:
    first = make("a1")
    first.trained(FIRST, 0.90)
    first.publish()
    written = _kept(first)
    moving = tmp_path / "moving"
    shutil.move(first.folder, moving)
    target = tmp_path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(moving, target)
    there = make(name)
    assert "has come here from" in there.publish()
    assert _mentions(there.folder / "mlflow.db", f"{first.folder}/mlruns") == []
    assert _kept(there) == written
    before, registry = _state(there.folder / "mlruns"), there.registry()
    said = there.publish()
    assert "has come here" not in said
    assert "MLflow has 1 of 3 runs" in said
    assert (_state(there.folder / "mlruns"), there.registry()) == (before, registry)
    with fetch.fetch_model(there.name, "champion"):
        pass


def test_a_copy_in_what_it_was_copied_from(make: Make, tmp_path: Path) -> None:
    first = make("a1")
    first.trained(FIRST, 0.90)
    first.publish()
    shutil.copytree(first.folder, tmp_path / "copy")
    before = _state(first.folder)
    shutil.move(tmp_path / "copy", first.folder / "copy")
    inner = make("a1/copy")
    for _ in range(2):
        inner.trained(SECOND, 0.95)
        inner.publish()
        with fetch.fetch_model(inner.name, "1") as (path, _):
            assert path.is_file()
        shutil.rmtree(inner.folder / "mlruns/digits-of-a-study", ignore_errors=True)
        inner.publish()
    assert {
        name: state for name, state in _state(first.folder).items() if "copy/" not in name
    } == before


def test_a_copy_without_its_artifacts_sends_them_anew(make: Make) -> None:
    first = make("a1")
    first.trained(FIRST, 0.90)
    first.publish()
    before, written = _state(first.folder), _kept(first)
    shutil.copytree(first.folder, first.folder.with_name("a2"))
    copy = make("a2")
    shutil.rmtree("mlruns")
    said = copy.publish()
    assert "a2 now, which has no mlruns: `deepnets publish` sends what is in files here" in said
    assert "MLflow has 1 of 3 runs" in said
    assert (_state(first.folder), _kept(copy)) == (before, written)


@pytest.mark.parametrize("lost", ["model.keras", "train.json", "curves.png", "provenance.json"])
@pytest.mark.parametrize("whole", [True, False])
def test_level_is_not_said_of_artifacts_that_are_gone(study: Study, lost: str, whole: bool) -> None:
    """As those are that an earlier version wrote into the other copy."""
    study.trained(FIRST, 0.90)
    files.write_bytes(trainings.paths(FIRST).figures(0) / "curves.png", b"a picture")
    study.publish()
    (path,) = Path("mlruns").rglob(lost)
    content = path.read_bytes()
    path.unlink()
    if not whole:
        path.write_bytes(content[:-1])
    before = _state(Path("mlruns"))
    study.publish()
    assert path.read_bytes() == content
    assert len(_state(Path("mlruns"))) == len(before) + whole
    after = _state(Path("mlruns"))
    study.publish()
    assert _state(Path("mlruns")) == after


def test_a_champion_whose_model_is_gone_gives_the_alias_away(study: Study) -> None:
    study.trained(FIRST, 0.95)
    study.publish()
    (model,) = Path("mlruns").rglob("model.keras")
    trainings.paths(FIRST).provenance.unlink()
    study.trained(SECOND, 0.90)
    study.publish()
    assert study.champion() == FIRST
    model.unlink()
    study.publish()
    assert study.champion() == SECOND


def test_artifacts_of_a_database_elsewhere_are_beside_it(make: Make, tmp_path: Path) -> None:
    """Two copies may share it."""
    (tmp_path / "shared").mkdir()
    for name, run in (("a1", FIRST), ("a2", SECOND)):
        there = make(name, f"sqlite:///{tmp_path}/shared/any.db")
        there.trained(run, 0.90)
        assert "has come here" not in there.publish()
        assert not Path("mlruns").exists()
    assert len(list((tmp_path / "shared/mlruns").rglob("model.keras"))) == 2
    (tmp_path / "shared").rename(tmp_path / "moved")
    there = make("a2", f"sqlite:///{tmp_path}/moved/any.db")
    assert f"has come here from {tmp_path}/shared" in there.publish()
    assert not (tmp_path / "shared").exists()


def test_nothing_is_written_into_the_other_copy_through_a_shared_database(
    make: Make, tmp_path: Path, empty_store: Path
) -> None:
    """Older versions had the artifacts of a database elsewhere in the project."""
    shutil.copy(empty_store, tmp_path / "shared.db")
    uri = f"sqlite:///{tmp_path}/shared.db"
    first = make("a1", uri)
    tags = {store.KIND: store.OURS}
    address = (first.folder / "mlruns").as_uri() + "/digits-of-a-study"
    mlflow.MlflowClient(uri).create_experiment(first.name, address, tags=tags)
    first.trained(FIRST, 0.90)
    first.publish()
    assert "model.keras" in _kept(first)
    before = _state(first.folder)
    shutil.copytree(first.folder, tmp_path / "a2")
    copy = make("a2", uri)
    copy.trained(SECOND, 0.90)
    said = copy.publish()
    assert "choose another publish.experiment or MLFLOW_TRACKING_URI, since the artifacts" in said
    assert "MLflow has" not in said
    assert _state(first.folder) == before
    # It is a moved project once the first one is gone.
    shutil.rmtree(first.folder)
    said = copy.publish()
    assert f"has come here from {first.folder}" in said
    assert "MLflow has 2 of 3 runs" in said
    assert not first.folder.exists()


def test_a_place_that_a_user_has_chosen_stays(make: Make, tmp_path: Path) -> None:
    first = make("a1")
    chosen = {
        "own": f"{tmp_path}/disk/mlruns/own",
        first.name: f"{tmp_path}/disk/mlruns/digits-of-a-study",
    }
    for name, address in chosen.items():
        first.client().create_experiment(name, address)
    first.trained(FIRST, 0.90)
    first.publish()
    assert list((tmp_path / "disk/mlruns/digits-of-a-study").rglob("model.keras"))
    first.folder.rename(tmp_path / "a2")
    moved = make("a2")
    assert "MLflow has 1 of 3 runs" in moved.publish()
    client = moved.client()
    for name, address in chosen.items():
        assert client.get_experiment_by_name(name).artifact_location == address


def test_mlflow_itself_finds_what_has_moved(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    first = make("a1")
    first.trained(FIRST, 0.90)
    first.publish()
    first.folder.rename(first.folder.with_name("a2"))
    moved = make("a2")
    mlflow_plugin.bring_store_home(["python", "-c"])
    # Its `connection` does so itself, one process after the other.
    mlflow_plugin.bring_store_home([deepnets.__main__.__file__, "run", "--arch", "vgg16"])
    assert capsys.readouterr().err == ""
    mlflow_plugin.bring_store_home(["/any/bin/mlflow", "ui"])
    assert "has come here" in capsys.readouterr().err
    assert _mentions(moved.folder / "mlflow.db", f"{first.folder}/") == []
    (moved.folder / "mlflow.db").write_bytes(b"no database")
    mlflow_plugin.bring_store_home(["/any/bin/mlflow", "ui"])


def test_so_does_mlflow_as_a_module(make: Make) -> None:
    first = make("a1")
    first.trained(FIRST, 0.90)
    first.publish()
    first.folder.rename(first.folder.with_name("a2"))
    moved = make("a2")
    ended = subprocess.run(
        [sys.executable, "-m", "mlflow", "--version"],
        env=environment(),
        text=True,
        capture_output=True,
        check=True,
    )
    assert "has come here" in ended.stderr
    assert _mentions(moved.folder / "mlflow.db", f"{first.folder}/") == []


def test_mlflows_own_experiment_is_in_the_store_wherever_that_is_made_from(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = make("a1")
    Path("mlflow.db").unlink()
    Path("studies").mkdir()
    monkeypatch.chdir("studies")
    assert project.store_root() == there.folder
    assert connection.connect().get_experiment("0").artifact_location == f"{there.folder}/mlruns/0"


def test_addresses_of_something_else_are_not_moved() -> None:
    moves = {Path("/a b"): Path("/new"), Path("/c"): Path("/c/copy")}
    for address, expected in {
        "/a b/mlruns/0": "/new/mlruns/0",
        "file:///a%20b/mlruns/x/artifacts": "file:///new/mlruns/x/artifacts",
        "/a bc/mlruns/0": "/a bc/mlruns/0",
        "s3://bucket/a b/": "s3://bucket/a b/",
        "models:/m-1": "models:/m-1",
        "/c/mlruns": "/c/copy/mlruns",
        "/c/copy/mlruns": "/c/copy/mlruns",
    }.items():
        assert store.move_address(address, moves.items()) == expected


@pytest.mark.parametrize("uri", ["http://host:5000", "databricks", "databricks://profile"])
def test_a_server_decides_itself(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert store.new_address("a study") is None
    assert store.other_copy("a study", "file:///other/mlruns/a-study", store.OURS) is None


def test_another_database_keeps_artifacts_in_the_project(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow itself would have them below the folder of whichever study comes first."""
    there = make("a1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://somebody@host/store")
    address = store.new_address("a study")
    assert address == (there.folder / "mlruns").as_uri() + "/a-study"
    assert store.other_copy("a study", address, store.OURS) is None
    assert store.other_copy("a study", "file:///b/mlruns/a-study", store.OURS) == Path("/b")
