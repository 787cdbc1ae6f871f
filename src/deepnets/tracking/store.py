"""An MLflow store that is a file here: a database, and `mlruns` beside it for the artifacts.

MLflow notes in the database where artifacts are, always from the root of the file system (a
relative address is made absolute when it is noted, `mlflow-artifacts:` needs a server; see
mlflow/mlflow#3144 and #7670), so that the store of a moved or copied project still leads to the
other place. `bring_home` notes the addresses anew. A scheme of our own, for which MLflow has
plugins, would need no such thing, but then nobody without this package could open an artifact, and
the stores that are there would have to be rewritten all the same.

It imports no MLflow: `mlflow ui` has the addresses put right before it starts, see plugin.py.
"""

import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from deepnets.base import project

# The tag of an experiment that tells those of this project, which also has the UI show it as a
# table of training runs.
KIND, OURS = "mlflow.experimentKind", "custom_model_development"

_FOLDER = "mlruns"
_DATABASES = ("sqlite:", "postgresql", "mysql", "mssql")
# Table and column of everything that is an address.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def database() -> Path | None:
    """The file of the store; None where the store is no file."""
    uri = project.tracking_uri()
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def is_missing() -> bool:
    """Whether the store is an SQLite file that nobody has made yet."""
    file = database()
    return file is not None and not file.is_file()


def new_address(experiment: str) -> str | None:
    """Where the artifacts of a new experiment go; None where a server decides that."""
    if not project.tracking_uri().startswith(_DATABASES):
        return None
    return f"{(_home() / _FOLDER).as_uri()}/{_folder_name(experiment)}"


def bring_home() -> None:
    """Have the database lead to the artifacts of this place if it leads to another one.

    Says so in a line on standard error. Addresses outside of the other place, such as those that
    a user has given to an experiment, stay as they are.

    Raises:
        sqlite3.Error: the database cannot be read, or not be written where it has to be.
    """
    file = database()
    if file is None or not file.is_file():
        return
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        moves = _moves(connection)
        if not moves:
            return
        connection.execute("BEGIN IMMEDIATE")
        for table, column in _ADDRESSES:
            _rewrite(connection, table, column, moves)
        connection.execute("COMMIT")
    for old, new in moves.items():
        said = f"MLflow's store has come here from {old}: its addresses lead to {new} now"
        if not (new / _FOLDER).is_dir():
            said += f", which has no {_FOLDER}: `deepnets publish` sends what is in files here"
        print(said, file=sys.stderr, flush=True)


def other_copy(experiment: str, address: str, kind: str | None) -> Path | None:
    """The copy of this project that keeps the artifacts of `experiment`, if it is not this one.

    Args:
        experiment: its name.
        address: where its artifacts are.
        kind: its tag of that name.
    """
    if kind != OURS or not project.tracking_uri().startswith(_DATABASES):
        return None
    maker = _maker(experiment, address)
    return None if maker is None or maker.resolve() in _homes() else maker


def move_address(address: str, moves: Iterable[tuple[Path, Path]]) -> str:
    """`address`, a path or a URI, as what it is after the first of `moves` that it is part of.

    Args:
        address: may be of anything.
        moves: old and new place of a folder.
    """
    for old, new in moves:
        for before, after in ((f"{old}/", f"{new}/"), (f"{old.as_uri()}/", f"{new.as_uri()}/")):
            # A copy may lie in what it was copied from.
            if address.startswith(after):
                return address
            if address.startswith(before):
                return after + address.removeprefix(before)
    return address


def _home() -> Path:
    """The folder that the store lies in."""
    file = database()
    return file.parent.resolve() if file else project.store_root()


def _homes() -> tuple[Path, ...]:
    """Where artifacts may be. Older versions kept those of a database elsewhere in the project."""
    return _home(), project.store_root()


def _folder_name(experiment: str) -> str:
    return experiment.replace(" ", "-")


def _maker(experiment: str, address: str) -> Path | None:
    """The folder in which `new_address` has given `experiment` this address; None if it has not."""
    path = unquote(address.removeprefix("file://")) if address.startswith("file:///") else address
    tail = f"/{_FOLDER}/{_folder_name(experiment)}"
    if not path.startswith("/") or not path.endswith(tail):
        return None
    return Path(path.removesuffix(tail) or "/")


def _moves(connection: sqlite3.Connection) -> dict[Path, Path]:
    """The places that experiments of this project lead to and that are not theirs, and the right.

    Of two places of which one lies in the other the inner one comes first.
    """
    try:
        rows = connection.execute(
            "SELECT e.name, e.artifact_location FROM experiments e JOIN experiment_tags t "
            "ON t.experiment_id = e.experiment_id WHERE t.key = ? AND t.value = ?",
            (KIND, OURS),
        ).fetchall()
    except sqlite3.OperationalError:
        # Nothing is in it yet, or it is somebody else's.
        return {}
    moves = {}
    for name, address in rows:
        old = _maker(name, address or "")
        new = old and _new_home(_folder_name(name), old)
        if old and new:
            moves[old] = new
    return dict(sorted(moves.items(), key=lambda move: len(move[0].parts), reverse=True))


def _new_home(folder: str, old: Path) -> Path | None:
    """Where the artifacts in `folder` are that were in `old`; None where they are there still."""
    beside, ours = _homes()
    if old.resolve() in (beside, ours):
        return None
    if beside == ours or (beside / _FOLDER / folder).is_dir():
        return beside
    # Of a database elsewhere: the copy that it leads to may be in use.
    return ours if not old.exists() and (ours / _FOLDER / folder).is_dir() else None


def _rewrite(
    connection: sqlite3.Connection, table: str, column: str, moves: dict[Path, Path]
) -> None:
    # An older MLflow has not all of them.
    if column not in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]:
        return
    rows = connection.execute(
        f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL"
    ).fetchall()
    now = [(move_address(address, moves.items()), row, address) for row, address in rows]
    connection.executemany(
        f"UPDATE {table} SET {column} = ? WHERE rowid = ?",
        [(new, row) for new, row, address in now if new != address],
    )
