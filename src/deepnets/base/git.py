"""The only place that starts git, and one where it does as the project says.

Git hands variables down to what it starts (hooks, `rebase --exec`), and a user's settings change
what `status`, `add`, `diff` and `checkout` do. So a user's repository is asked for its commit and
its objects alone; all else happens in a repository of our own that borrows the objects and knows no
settings. Nothing is written to the user's.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from deepnets.base.errors import UserError, one_line

# Of git's variables those alone are heard that say where git, its settings and a server are: a
# setting says whether a repository may be read, and a partial clone asks its server for objects.
_HEARD = (
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH"),
    *("GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_CEILING_DIRECTORIES", "GIT_ALLOW_PROTOCOL"),
    *("GIT_SSH", "GIT_SSL_", "GIT_HTTP_", "GIT_PROXY_", "GIT_ASKPASS", "GIT_TERMINAL_PROMPT"),
)
# By these git knows neither the system's settings nor the user's.
NO_SETTINGS = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
}
# Some it finds from the user's home whatever these say, and all of them before version 2.32.
_HOMELESS = {"HOME": os.devnull, "XDG_CONFIG_HOME": os.devnull}
# A file is its bytes, whatever the project's own .gitattributes say.
_ATTRIBUTES = "* -text -ident -filter !working-tree-encoding !diff\n"
# Modes are no part of a training, and not every disk has them.
_OWN = ("--literal-pathspecs", "-c", "core.fileMode=false", "-c", "core.quotePath=false")

# Every repository knows it.
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

# Seconds for what is done in a moment.
_PATIENCE = 60.0


def strip_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without git's variables."""
    return {key: value for key, value in environment.items() if not key.startswith("GIT_")}


def commit(root: Path) -> str:
    """The commit that the user's working tree at `root` is at.

    Raises:
        UserError: git says none; the message has git's words.
    """
    # Other commands do not say in words that there is no commit yet.
    return ask(root, "log", "-1", "--format=%H", "--no-show-signature").strip()


def ask(folder: Path, *arguments: str, patience: float | None = _PATIENCE) -> str:
    """What git says of the user's repository that `folder` is in.

    Args:
        folder: a folder of the user's.
        arguments: a command that writes nothing, and that no setting changes.
        patience: seconds; None for as long as it takes.

    Raises:
        UserError: git is not installed, does not answer, or fails.
    """
    heard = {key: value for key, value in os.environ.items() if key.startswith(_HEARD)}
    return _run(folder, [], arguments, strip_variables(os.environ) | heard, patience)


def top_folder(root: Path) -> Path:
    """The top folder of the user's working tree that `root` is in; raises as `ask`."""
    return Path(ask(root, "rev-parse", "--show-toplevel").rstrip("\n"))


def borrow(root: Path, folder: Path) -> None:
    """Make of `folder` a repository without a commit that has the objects of `root`'s.

    Raises:
        UserError: `root` is in none that git reads.
    """
    objects = root / ask(root, "rev-parse", "--git-path", "objects").rstrip("\n")
    # Templates are a user's, too.
    _run(
        folder,
        [],
        ["init", "--quiet", "--template="],
        strip_variables(os.environ) | NO_SETTINGS | _HOMELESS,
    )
    own = folder / ".git"
    (own / "info").mkdir()
    (own / "info" / "attributes").write_text(_ATTRIBUTES)
    (own / "objects" / "info" / "alternates").write_bytes(os.fsencode(objects) + b"\n")


def run_isolated(
    folder: Path,
    *arguments: str,
    tree: Path | None = None,
    at: Path | None = None,
    patience: float | None = _PATIENCE,
    given: bytes | None = None,
) -> str:
    """What git prints in `folder`, a repository from `borrow`.

    Args:
        folder: of the repository.
        arguments: a command.
        tree: top folder of the working tree, where that is another one.
        at: the folder in the working tree that it runs in, if not at its top.
        patience: seconds; None for as long as it takes.
        given: to its standard input.

    Raises:
        UserError: git fails.
    """
    tree = tree or folder
    options = [f"--git-dir={folder / '.git'}", f"--work-tree={tree}", *_OWN]
    environment = strip_variables(os.environ) | NO_SETTINGS | _HOMELESS
    return _run(at or tree, options, arguments, environment, patience, given)


def checkout(root: Path, commit: str, folder: Path) -> None:
    """Check `commit` of the user's repository that `root` is in out to the new folder `folder`.

    Raises:
        UserError: its objects are not all there.
    """
    # A partial clone fetches what it lacks for this, and hands it out with the rest.
    reading = ("diff-tree", "-r", "--numstat", "--no-ext-diff", "--no-textconv")
    ask(root, *reading, _EMPTY_TREE, commit, patience=None)
    folder.mkdir()
    borrow(root, folder)
    run_isolated(folder, "checkout", "--quiet", "--detach", commit, patience=None)


def difference(
    root: Path,
    commit: str,
    sources: Sequence[str],
    options: Sequence[str] = (),
    shown: Sequence[str] = (),
) -> str:
    """What has `git apply` make `sources` of the user's working tree out of their `commit`.

    What a user's index, settings or lists of ignored files say of a file changes nothing. A module
    that Python can import counts even where the project ignores it.

    Args:
        root: of the project.
        commit: of the user's repository.
        sources: files and folders that are looked at, relative to `root` or absolute; they exist,
            and there is one.
        options: of `git diff`.
        shown: the files, likewise, that are shown; all if there are none.

    Raises:
        UserError: git fails.
    """
    paths = [root / source for source in sources]
    modules = [file for path in paths for file in path.rglob("*.py") if _is_module(file, path)]
    forced = [*filter(Path.is_file, paths), *modules]
    with TemporaryDirectory() as folder:
        borrow(root, Path(folder))
        tree = top_folder(root)

        def run(*arguments: str) -> str:
            return run_isolated(Path(folder), *arguments, tree=tree, at=root)

        run("read-tree", commit)
        run("add", "--update", "--", *map(str, paths))
        new = run("ls-files", "--others", "--exclude-standard", "-z", "--", *map(str, paths))
        run("add", "--force", "--", *map(str, forced), *filter(None, new.split("\0")))
        return run("diff", "--cached", "--no-renames", *options, commit, "--", *shown)


def _is_module(path: Path, packages: Path) -> bool:
    """Whether Python could import the file `path` from the folder `packages`."""
    return all(part.isidentifier() for part in path.relative_to(packages).with_suffix("").parts)


def _run(
    folder: Path,
    options: Sequence[str],
    arguments: Sequence[str],
    environment: Mapping[str, str],
    patience: float | None = _PATIENCE,
    given: bytes | None = None,
) -> str:
    """What git prints to the last byte, bytes that are no UTF-8 as surrogates."""
    what = f"git {arguments[0]} in {folder}"
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *options, *arguments],
            env=environment,
            input=given,
            capture_output=True,
            check=False,
            timeout=patience,
        )
    except FileNotFoundError:
        raise UserError("git is not installed, or not on PATH: install it") from None
    except OSError as error:
        raise UserError(f"git cannot be run ({error.strerror}): install it anew") from None
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{what} has not ended within {patience:.0f} s: see what `git status` does there"
        ) from None
    if result.returncode:
        said = one_line(result.stderr.decode(errors="replace"), 1000)
        raise UserError(f"{what} failed ({said})")
    return result.stdout.decode(errors="surrogateescape")
