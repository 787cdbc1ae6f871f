"""Tables in CSV files, written whole or not at all, and refused by name when they are not whole.

Git keeps them: what is read may hold the marks of a conflict, or half of what was there.
"""

import csv
import gzip
import io
import shlex
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepnets.base import files
from deepnets.base.errors import UserError


def write_csv(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write `rows` (all with the keys `columns`) with a header line.

    Floats are written with `repr`, so that reading them back gives the same bits. What is to be
    a .gz is compressed, without a date: the same rows are the same bytes, on every Python.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    data = text.getvalue().encode()
    with files.replacing(path) as partial:
        partial.write_bytes(_compress(data) if path.suffix == ".gz" else data)


def csv_lines(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a file that `write_csv` wrote, as they stand there, with the columns `needed`.

    Raises:
        UserError: it is damaged; the message names it, what is wrong and what to do.
    """
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        names, *lines = csv.reader(io.StringIO(text, newline="")) if text else [[]]
    except (EOFError, OSError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise damaged_csv(path, str(error)) from None
    if not set(needed) <= set(names):
        raise damaged_csv(
            path,
            f"line 1: expected the columns {', '.join(needed)}, received {_quote_beginning(names)}",
        )
    for number, line in enumerate(lines, 2):
        if line and len(line) != len(names):
            expected = f"line {number}: expected {len(names)} values ({', '.join(names)})"
            raise damaged_csv(path, f"{expected}, received {_quote_beginning(line)}")
    return [dict(zip(names, line, strict=True)) for line in lines if line]


def read_csv(path: Path, needed: Sequence[str]) -> list[dict[str, float]]:
    """As `csv_lines`, all values as floats; one that is none is damage as well."""
    rows = csv_lines(path, needed)
    try:
        return [{key: float(value) for key, value in row.items()} for row in rows]
    except ValueError as error:
        raise damaged_csv(path, f"expected numbers: {error}") from None


def damaged_csv(path: Path, why: str) -> UserError:
    """The refusal of a file that is not as `write_csv` has left it."""
    return UserError(
        f"{path} is damaged ({why}): `git checkout HEAD -- {shlex.quote(str(path))}` takes it from "
        "git, or delete it and run `dvc repro` again"
    )


def _quote_beginning(line: Sequence[str]) -> str:
    return repr(",".join(line)[:40])


def _compress(data: bytes) -> bytes:
    # gzip.compress names the system in its header on some versions of Python, and on others not.
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as file:
        file.write(data)
    return packed.getvalue()
