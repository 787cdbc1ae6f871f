"""Writing files whole or not at all, and finding those that have changed since.

A stage seals the files that others read: their digests stand in SHA256SUMS beside them, and
`verify` compares before they are used.
"""

import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepnets.base import project
from deepnets.base.errors import UserError

# Digests of the files beside it, in the format of `sha256sum`.
SUMS = "SHA256SUMS"

# The folders of a study that hold what DVC or git keeps, and of these those that are large.
_KEPT = ("data", "data/weights", "models", "metrics", "reports")
_LARGE = ("data", "weights", "models")

_PARTIAL = re.compile(r"\.partial-(\d+)-")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` if the block succeeds.

    The temporary name ends like `path` (Keras and Matplotlib choose a format by it) and starts
    with a dot. A block that fails leaves `path` as it was; what processes that were killed have
    left in the folder is removed.

    Raises:
        OSError: among others ENOSPC with the name `path`, whatever the block made of a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    except Exception as error:
        full = _full_disk(error)
        if full is None:
            raise
        raise OSError(full.errno, os.strerror(full.errno or 0), str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON with a closing newline; keys keep their order."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or damaged one is a `UserError` that names it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(_describe_missing(path)) from None
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}): delete it and run `dvc repro` again"
        ) from None


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write `array` as .npy, whole or not at all, without pickling."""
    write_parts(path, array.shape, array.dtype, [array])


def write_parts(
    path: Path, shape: tuple[int, ...], dtype: "np.dtype[Any]", parts: Iterable[NDArray[Any]]
) -> None:
    """Write the array of `shape` that `parts` come to in C order as .npy, whole or not at all.

    It is written, not mapped: a full disk then is an error, where it would kill the process.
    """
    if dtype.hasobject:
        raise ValueError(f"{path}: Object arrays cannot be saved, reading them could run code")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with replacing(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype).data)


def read_array(path: Path) -> NDArray[Any]:
    """Map the .npy file at `path` into memory, read-only; never unpickles.

    Raises:
        UserError: the file is missing, damaged or truncated.
    """
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise UserError(_describe_missing(path)) from None
    except PermissionError:  # which says nothing of what it holds
        raise
    except Exception as error:  # a parser of damaged bytes may raise anything
        raise UserError(
            f"{path} is not a whole .npy array ({error}): {_remedy(path, path)}"
        ) from None
    return array


def seal(*paths: Path) -> None:
    """Note the digests of `paths`, files of one folder, in SHA256SUMS there.

    `sha256sum -c SHA256SUMS` checks them too; the comment before them says which folder they
    belong to. What was noted before of other files stays while these are there.
    """
    folder = paths[0].parent
    sums = {name: digest for name, digest in _sums(folder).items() if (folder / name).is_file()}
    sums |= {path.name: file_digest(path) for path in paths}
    lines = [_heading(folder), *(f"{digest}  {name}" for name, digest in sorted(sums.items()))]
    write_text(folder / SUMS, "\n".join(lines) + "\n")


def verify(*paths: Path) -> None:
    """Check, before `paths` are used, that they are the files that were sealed at these places.

    Raises:
        UserError: one is missing, damaged, or another file; the message names it and the remedy.
    """
    for path in paths:
        sums, folder = path.parent / SUMS, path.parent
        if not path.is_file():
            raise UserError(_describe_missing(path, folder))
        known = _sums(folder)
        if path.name not in known:
            state = "does not name it" if sums.is_file() else "is missing"
            again = "run the stage that writes it again (`dvc repro`)"
            if sums.is_file() and _damaged_copy(sums):
                again = _remedy(folder, sums)
            raise UserError(
                f"{path} was not written whole or by another version ({sums} {state}): {again}"
            )
        received, expected = file_digest(path), known[path.name]
        if received != expected:
            same = [name for name, digest in known.items() if digest == received]
            raise UserError(
                f"{path} is not the file that was written there: expected sha256 "
                f"{expected[:12]}... ({SUMS} beside it), received {received[:12]}..."
                f"{f', that of {same[0]}' if same else ''}: {_remedy(folder, path, sums)}"
            )
        first = sums.read_text().splitlines()[0]
        if first != _heading(folder):
            raise UserError(
                f"{path} is not the file that was written there: {sums} is that of another "
                f"folder (expected {_heading(folder)!r}, received {first[:80]!r}): "
                f"{_remedy(folder, path, sums)}"
            )


def noted_digest(path: Path) -> str | None:
    """The digest of `path` that SHA256SUMS beside it notes, wherever both were written; or None."""
    return _sums(path.parent).get(path.name)


def array_digest(array: NDArray[Any]) -> str:
    """sha256 of the array's raw bytes in C order, as hex."""
    digest = hashlib.sha256()
    for start in range(0, len(array), 4096):
        digest.update(np.ascontiguousarray(array[start : start + 4096]).data)
    return digest.hexdigest()


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()


def require_room(folder: Path, size: int, purpose: str) -> None:
    """Check, before long work, that `folder` can be written and has `size` bytes free.

    Raises:
        UserError: it cannot be written, or is too full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror}), where {purpose} go: "
            "mend that or work in another folder"
        ) from None
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(
            f"{folder} has {free / 2**20:,.0f} MiB free, {purpose} need about "
            f"{size / 2**20:,.0f} MiB: free some space and run the same command again"
        )


def require_no_links(study: Path) -> None:
    """Check that DVC and git can keep what will be written in the folder `study`.

    They keep nothing that a link leads out of the project, and DVC says so when all work is done.

    Raises:
        UserError: there is such a link; the message says how else to have files on another disk.
    """
    for folder in (*map(study.joinpath, _KEPT), *sorted(study.glob("metrics/*"))):
        target = folder.resolve()
        if folder.is_symlink() and not target.is_relative_to(project.root()):
            raise UserError(
                f"{folder} is a link to {target}, and DVC and git keep nothing behind a link: "
                f"{_link_remedy(folder, target)}, and then the same command again"
            )


def _link_remedy(folder: Path, target: Path) -> str:
    """How to do without the link `folder`, and have what is large on another disk all the same."""
    cache, elsewhere = _dvc_cache(), target.parent / "dvc-cache"
    commands: list[tuple[str | Path, ...]] = [("rm", folder)]
    why = ""
    if folder.name not in _LARGE or cache is None:
        commands += [("mv", target, folder)]
    else:
        if cache.is_relative_to(project.store_root()):
            commands += [("mv", cache, elsewhere), ("dvc", "cache", "dir", "--local", elsewhere)]
        commands += [("dvc", "config", "--local", "cache.type", "symlink")]
        why = ", which has DVC's cache on that disk and links to it here"
    return ", ".join(f"`{shlex.join(map(str, command))}`" for command in commands) + why


def _heading(folder: Path) -> str:
    """What SHA256SUMS begins with: the last two names of its folder tell all those of a study."""
    return f"# {'/'.join(folder.absolute().parts[-2:])}"


def _sums(folder: Path) -> dict[str, str]:
    """The digests by file name that SHA256SUMS in `folder` holds; none where it is damaged."""
    try:
        text = (folder / SUMS).read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        return {}
    return {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (.+)$", text, re.M)}


def _describe_missing(path: Path, whole: Path | None = None) -> str:
    if not path.is_symlink():
        return f"{path} is missing: run the stage that writes it (`dvc repro`)"
    # DVC's links to its cache stay as they are when a project is moved.
    target = whole or path
    return (
        f"{path} is a link to {path.readlink()}, which is not there: `dvc checkout {target}` takes "
        f"it from DVC's cache; where it is not there either, `rm -r {target}` and `dvc repro`"
    )


def _remedy(target: Path, *damaged: Path) -> str:
    """How to get the right content of `target` back, of which one of `damaged` is not as it was."""
    copy = _damaged_copy(*damaged)
    if copy is None:
        return (
            f"delete {target}, then `dvc checkout {target}` takes it from DVC's cache, or "
            "`dvc repro` makes it anew"
        )
    return f"delete {target} and DVC's copy {copy}, damaged as well, then run `dvc repro`"


def _damaged_copy(*paths: Path) -> Path | None:
    """The file in DVC's cache that one of `paths` was taken from, or links to, if it is damaged.

    DVC trusts what is in its cache: as long as it is there, every checkout and every run of the
    stage ends with it. Its name there is the md5 of its content.
    """
    sizes, cache = {path.stat().st_size for path in paths}, _dvc_cache()
    for copy in (cache / "files" / "md5").glob("??/*") if cache else ():
        named = f"{copy.parent.name}{copy.name}".removesuffix(".dir")
        if copy.stat().st_size in sizes and file_digest(copy, "md5") != named:
            return copy
    return None


def _dvc_cache() -> Path | None:
    """The folder of DVC's cache, which a user may have anywhere; None where DVC has none."""
    if not any((folder / ".dvc").is_dir() for folder in (Path.cwd(), *Path.cwd().parents)):
        return None
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return Path(answer) if answer else None


def _remove_leftovers(folder: Path) -> None:
    """Delete what `replacing` has left in `folder` in processes that were killed."""
    with os.scandir(folder) as entries:
        matches = [(entry.name, _PARTIAL.match(entry.name)) for entry in entries]
    for name, match in matches:
        if match and not _is_written(folder / name, int(match[1])):
            (folder / name).unlink(missing_ok=True)


def _is_written(partial: Path, process: int) -> bool:
    """Whether `process` can still be the one that writes `partial`, not one with its old number."""
    import psutil

    try:
        return psutil.Process(process).create_time() <= partial.stat().st_mtime + 1
    except (psutil.Error, FileNotFoundError):
        return False


def _full_disk(error: BaseException | None) -> OSError | None:
    """What says, in the chain of `error`, that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None


def _sync(path: Path) -> None:
    """Have the file, or the names in the folder, `path` survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot do this with folders.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
