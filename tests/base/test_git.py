"""What a user has told git changes neither what is recorded nor what is rebuilt from it.

Real repositories that look like the project; nothing is trained.
"""

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deepnets.__main__ import main
from deepnets.base import git
from deepnets.base.errors import UserError
from deepnets.commands import aside
from deepnets.records import provenance
from project import ROOT, Clone, clone

CODE = Path("src/deepnets")


def test_a_command_runs_the_code_of_the_project_that_it_is_called_in(tmp_path: Path) -> None:
    """Whichever one is installed: `dvc exp run --temp`, for one, works in a copy."""
    (tmp_path / "study").mkdir()
    (tmp_path / "MLproject").touch()
    shutil.copytree(ROOT / CODE, tmp_path / CODE, ignore=shutil.ignore_patterns("__pycache__"))
    options = tmp_path / CODE / "commands/options.py"
    text = options.read_text()
    assert 'description="Deeper' in text
    options.write_text(text.replace('description="Deeper', 'description="Other'))
    installed = {"PYTHONPATH": str(ROOT / "src")}
    said = Clone(tmp_path).run("deepnets", "--help", cwd="study", env=installed).stdout
    assert "Other Networks For Image Classification" in said


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clone]:
    """A small repository that looks like the project, with changes of each kind, as folder."""
    folder = tmp_path / "project"
    (folder / CODE).mkdir(parents=True)
    (folder / "MLproject").touch()
    (folder / "params.yaml").write_text("a: 0\n")
    (folder / CODE / "changes.py").write_text("one\n\ntwo\n\nthree\n" * 3)
    (folder / CODE / "goes.py").write_text("gone\n")
    copy = Clone(folder)
    copy.run("git", "init", "-q", "-b", "main")
    copy.commit()
    (folder / CODE / "changes.py").write_bytes(
        b"one\n\n2\r\n\nthree\n" + b"one\n\ntwo\n\nthree\n" * 2
    )
    (folder / CODE / "goes.py").unlink()
    (folder / CODE / "naïve.py").write_text("new\n")
    (folder / "params.yaml").write_text("a: 1\n")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    # Its code is not ours: we are not to start again with it.
    monkeypatch.setenv("DEEPNETS_CHECKOUT", str(folder))
    with contextlib.chdir(folder):
        yield copy


def _bytes(folder: Path) -> dict[str, str]:
    """Every file below `folder` by its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _sources(folder: Path) -> dict[str, str]:
    return {
        name: digest
        for name, digest in _bytes(folder).items()
        if name.startswith(("src/", "params.yaml"))
    }


def _is_recorded_and_rebuilt(project: Clone, expected: dict[str, Any]) -> None:
    """The record is `expected`, makes the sources again, and nothing of the user's is written."""
    before = _bytes(project.folder)
    state = provenance.git_state()
    assert state == expected
    with aside.checkout(state["commit"], state["patch"]) as there:
        assert _sources(there) == _sources(project.folder)
        assert aside.changed_lines(state["commit"], ["changes"]) == [
            f"{CODE}/changes.py:3: - two",
            f"{CODE}/changes.py:3: + 2",
        ]
    assert _bytes(project.folder) == before


def _expected(project: Clone) -> dict[str, Any]:
    state = provenance.git_state()
    assert state["dirty"]
    assert sorted(aside.changed_files(state["patch"])) == [
        "params.yaml",
        *(f"{CODE}/{name}.py" for name in ("changes", "goes", "naïve")),
    ]
    return state


SETTINGS = """
apply.ignoreWhitespace change
apply.whitespace error
color.ui always
commit.gpgsign true
core.attributesFile ATTRIBUTES
core.autocrlf true
core.eol crlf
core.excludesFile EXCLUDES
core.fsmonitor HOOK
core.hooksPath HOOKS
core.ignoreStat true
core.pager false
core.quotePath true
core.safecrlf true
core.sparseCheckout true
core.whitespace blank-at-eol,cr-at-eol
diff.algorithm patience
diff.context 0
diff.dstPrefix z/
diff.external false
diff.ignoreSubmodules all
diff.indentHeuristic false
diff.interHunkContext 9
diff.mnemonicPrefix true
diff.noprefix true
diff.orderFile nowhere
diff.relative true
diff.renames copies
diff.suppressBlankEmpty true
diff.wordRegex .
feature.manyFiles true
filter.odd.clean true
init.templateDir TEMPLATE
log.showSignature true
status.showUntrackedFiles no
status.short true
""".strip().splitlines()


@pytest.mark.parametrize("scope", ["--local", "--global"])
def test_no_setting_matters(project: Clone, tmp_path: Path, scope: str) -> None:
    expected = _expected(project)
    for folder in ("HOOKS", "TEMPLATE/hooks"):
        for hook in ("post-checkout", "post-index-change"):
            path = tmp_path / folder / hook
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(project.folder))}/hooked\nexit 1\n")
            path.chmod(0o755)
    (tmp_path / "HOOK").write_text("#!/bin/sh\nprintf 'token\\0'\n")
    (tmp_path / "HOOK").chmod(0o755)
    (tmp_path / "EXCLUDES").write_text("*.py\n")
    (tmp_path / "ATTRIBUTES").write_text("*.py -diff text eol=crlf filter=odd\n")
    user = {"GIT_CONFIG_GLOBAL": str(tmp_path / "home/.gitconfig")}
    for key, value in map(str.split, SETTINGS):
        given = str(tmp_path / value) if (tmp_path / value).exists() else value
        project.run("git", "config", scope, key, given, env=user)
    _is_recorded_and_rebuilt(project, expected)


def test_lists_of_the_repository_do_not_matter(project: Clone) -> None:
    expected = _expected(project)
    info = project.folder / ".git/info"
    info.mkdir(exist_ok=True)
    (info / "exclude").write_text("*.py\nparams.yaml\n")
    (info / "attributes").write_text(
        "*.py -diff text eol=crlf ident working-tree-encoding=UTF-16\n"
    )
    (info / "sparse-checkout").write_text("/nothing\n")
    _is_recorded_and_rebuilt(project, expected)


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_what_the_user_hides_from_git_is_recorded(project: Clone, flag: str) -> None:
    expected = _expected(project)
    project.run("git", "update-index", flag, "params.yaml", f"{CODE}/changes.py")
    _is_recorded_and_rebuilt(project, expected)


def test_what_the_user_has_staged_stays_staged(project: Clone) -> None:
    expected = _expected(project)
    project.run("git", "add", "params.yaml")
    _is_recorded_and_rebuilt(project, expected)


def test_modules_count_where_the_project_ignores_them(project: Clone) -> None:
    (project.folder / ".gitignore").write_text("*.py\n*.swp\n__pycache__/\n")
    (project.folder / CODE / "__pycache__").mkdir()
    for name in ("mine.py", "open.swp", "__pycache__/mine.pyc", ".#mine.py"):
        (project.folder / CODE / name).write_text("x\n")
    changed = aside.changed_files(provenance.git_state()["patch"])
    assert [name for name in changed if "mine" in name or "open" in name] == [f"{CODE}/mine.py"]


def test_attributes_of_the_project_change_no_byte(project: Clone) -> None:
    (project.folder / ".gitattributes").write_text("*.py text eol=crlf ident filter=odd -diff\n")
    project.run("git", "add", ".gitattributes")
    project.run("git", "commit", "-qm", "attributes", "--", ".gitattributes")
    state = provenance.git_state()
    with aside.checkout(state["commit"], state["patch"]) as there:
        assert _sources(there) == _sources(project.folder)


def test_no_variable_matters(
    project: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _expected(project)
    listed = project.run("git", "rev-parse", "--local-env-vars").stdout.split()
    assert len(listed) > 10
    for name in listed:
        monkeypatch.setenv(name, str(tmp_path))
    # What git sets for hooks, and for what is given to it with -c.
    monkeypatch.setenv("GIT_INDEX_FILE", str(project.folder / ".git/index"))
    for count, key in enumerate(("status.showUntrackedFiles", "core.hooksPath")):
        monkeypatch.setenv("GIT_CONFIG_COUNT", str(count + 1))
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{count}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{count}", "no")
    for name in ("GIT_EXTERNAL_DIFF", "GIT_PAGER", "GIT_EDITOR"):
        monkeypatch.setenv(name, "false")
    for name in ("GIT_ICASE_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_QUARANTINE_PATH"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("GIT_DIFF_OPTS", "--unified=0")
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path))
    _is_recorded_and_rebuilt(project, expected)


def test_what_is_started_in_a_checkout_has_no_variable_of_gits(
    project: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, Any] = {}

    class Ended:
        stdout = iter(())

        def __init__(self, command: list[str], **options: Any) -> None:
            started.update(options["env"])

        def wait(self) -> int:
            return 0

        terminate = wait

    monkeypatch.setattr(subprocess, "Popen", Ended)
    user = {"GIT_INDEX_FILE": "x", "GIT_DIR": "x", "GIT_CONFIG_GLOBAL": "x", "HOME": "/home/x"}
    aside.run(["run"], project.folder, Path(), os.environ | user)
    assert {key for key in started if key.startswith("GIT_")} == set(git.NO_SETTINGS)
    assert started["GIT_CONFIG_GLOBAL"] == os.devnull
    assert started["HOME"] == "/home/x"


# Repositories of every kind.


def _linked(project: Clone, folder: Path) -> None:
    project.run("git", "worktree", "add", "-q", str(folder))


def _shallow(project: Clone, folder: Path) -> None:
    project.run("git", "clone", "-q", "--depth=1", project.folder.as_uri(), str(folder))


def _partial(project: Clone, folder: Path) -> None:
    project.run("git", "config", "uploadpack.allowFilter", "true")
    project.run("git", "clone", "-q", "--filter=blob:none", project.folder.as_uri(), str(folder))


def _sparse(project: Clone, folder: Path) -> None:
    project.run("git", "clone", "-q", str(project.folder), str(folder))
    project.run("git", "-C", str(folder), "sparse-checkout", "set", "src")


def _submodule(project: Clone, folder: Path) -> None:
    around = folder.parent / "around"
    project.run("git", "init", "-q", str(around))
    allowed = ["-c", "protocol.file.allow=always"]
    project.run(
        *("git", *allowed, "-C", str(around), "submodule", "--quiet", "add"),
        *(str(project.folder), "inner"),
    )
    folder.symlink_to(around / "inner")


@pytest.mark.parametrize("make", [_linked, _shallow, _partial, _sparse, _submodule])
def test_every_kind_of_repository_has_checkouts(
    project: Clone, tmp_path: Path, make: Callable[[Clone, Path], None]
) -> None:
    first = git.commit(project.folder)
    (project.folder / ".dvc").mkdir()
    (project.folder / ".dvc/config").touch()
    project.commit("later")
    folder = tmp_path / "other"
    make(project, folder)
    with contextlib.chdir(folder.resolve()):
        (CODE / "changes.py").write_text("other\n")
        state = provenance.git_state()
        assert state["commit"] == git.commit(project.folder)
        with aside.checkout(state["commit"], state["patch"]) as there:
            assert (there / CODE / "changes.py").read_text() == "other\n"
            assert (there / "params.yaml").read_text() == "a: 1\n"
            # DVC has a reader of repositories of its own.
            Clone(there).run("dvc", "status")
        if make is not _shallow:
            with aside.checkout(first, None) as there:
                assert (there / CODE / "goes.py").read_text() == "gone\n"


def test_a_project_inside_another_repository(
    project: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(project.folder / ".git")
    around = Clone(tmp_path)
    (tmp_path / ".gitignore").write_text("home\nproject\n")
    around.run("git", "init", "-q", "-b", "main")
    around.commit()
    # It is ignored there: what is recorded as a commit holds nothing of it.
    state = provenance.git_state()
    assert state["dirty"]
    with aside.checkout(state["commit"], state["patch"]) as there:
        assert _sources(there) == _sources(project.folder)


# Where git tells nothing.


def _no_repository(project: Clone) -> str:
    shutil.rmtree(project.folder / ".git")
    return "fatal: not a git repository"


def _no_commit(project: Clone) -> str:
    _no_repository(project)
    project.run("git", "init", "-q", "-b", "main")
    return "fatal: your current branch 'main' does not have any commits yet"


def _of_somebody_else(project: Clone) -> str:
    if os.geteuid():
        pytest.skip("needs root to give files away")
    subprocess.run(["chown", "-R", "1234", str(project.folder)], check=True)
    return f"call: git config --global --add safe.directory {project.folder}"


def _not_installed(project: Clone) -> str:
    os.environ["PATH"] = str(project.folder)
    return "git is not installed, or not on PATH: install it"


def _damaged(project: Clone) -> str:
    (project.folder / ".git/HEAD").write_text("nothing\n")
    return "fatal: not a git repository"


@pytest.mark.parametrize(
    "make", [_no_repository, _no_commit, _of_somebody_else, _not_installed, _damaged]
)
def test_a_training_says_first_why_it_cannot_be_rebuilt(
    project: Clone,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Clone], str],
) -> None:
    shutil.copy(ROOT / "params.yaml", project.folder)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    said = make(project)
    assert main(["train", "vgg16-sgd-random"]) == 1  # there are no data
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("nobody will be able to rebuild this training")
    assert said in line
    assert line.endswith("; mend that, or train in a clone of the project")
    assert provenance.git_state() == {"commit": None, "dirty": None, "study": ".", "patch": None}
    with pytest.raises(UserError) as raised, aside.checkout("c" * 40, None):
        pass
    if make is not _no_commit:
        assert said in str(raised.value)


def test_an_unpacked_archive_says_what_it_lacks(tmp_path: Path) -> None:
    copy = clone(tmp_path)
    shutil.rmtree(tmp_path / ".git")
    run = copy.run("deepnets", "run", "--epochs", "1", "--train_images", "32", check=False)
    assert run.stdout.startswith("nobody will be able to rebuild this training")
    # DVC's word comes through, though it is told to be quiet.
    refused = f"ERROR: {tmp_path} is not a git repository"
    assert run.stderr.splitlines() == [
        refused,
        "deepnets run: the data could not be prepared, see above; mend that and run again",
    ]
    repro = copy.run("deepnets", "repro", check=False)
    first, last = repro.stderr.splitlines()
    assert first == refused
    assert last.startswith("deepnets repro: `dvc repro` failed, see above: what has run by now ")


def test_changes_that_git_does_not_tell_are_not_called_none(
    project: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = provenance.git_state()["commit"]
    for path in (project.folder / ".git/objects").glob("??/*"):
        path.chmod(0o600)
        if project.run("git", "cat-file", "-t", path.parent.name + path.name).stdout == "tree\n":
            path.unlink()
    state = provenance.git_state()
    assert (state["commit"], state["dirty"], state["patch"]) == (commit, True, None)
    provenance.warn()
    assert "git read-tree in" in capsys.readouterr().out


def test_a_training_in_a_clone_says_nothing(
    project: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    provenance.warn()
    assert capsys.readouterr().out == ""
