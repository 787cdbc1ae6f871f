"""Tables come back with the same bits, or are refused by name and with what is wrong."""

import gzip
from pathlib import Path

import pytest

from deepnets.base import csv_files
from deepnets.base.errors import UserError

ROWS = [{"seed": 0, "loss": 0.5}, {"seed": 1, "loss": 0.25}]


def test_csv_gives_the_same_bits_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-300}]
    csv_files.write_csv(path, rows, list(rows[0]))
    assert path.read_bytes() == b"epoch,loss\n1,0.30000000000000004\n2,1e-300\n"
    assert csv_files.read_csv(path, ["epoch"]) == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1: expected the columns seed, loss, received ''"),
        (b"loss,epoch\n0.5,1\n", "line 1: expected the columns seed, loss, received 'loss,epoch'"),
        (b"\n\n", "line 1: expected the columns seed, loss, received ''"),
        (b"0,0.5\n1,0.25\n", "line 1: expected the columns seed, loss, received '0,0.5'"),
        (
            b"<<<<<<< HEAD\nseed,loss\n0,0.5\n",
            "line 1: expected the columns seed, loss, received '<<<<<<< HEAD'",
        ),
        (
            b"seed,loss\n0,0.5\n<<<<<<< HEAD\n1,0.25\n",
            "line 3: expected 2 values (seed, loss), received '<<<<<<< HEAD'",
        ),
        (b"seed,loss\n0\n", "line 2: expected 2 values (seed, loss), received '0'"),
        (b"seed,loss\n0,1,2\n", "line 2: expected 2 values (seed, loss), received '0,1,2'"),
        (b"seed,loss\n0,half\n", "expected numbers: could not convert string to float: 'half'"),
        (b"\xff\xfe", "'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_damaged_table_is_named_with_what_mends_it(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "history.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        csv_files.read_csv(path, ["seed", "loss"])
    message = str(refused.value)
    assert message.startswith(f"{path} is damaged ({said}")
    assert message.endswith(
        f"): `git checkout HEAD -- {path}` takes it from git, or delete it and run "
        "`dvc repro` again"
    )
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("cut", [slice(0, 5), slice(0, -5), slice(3, None)])
def test_a_damaged_gz_is_named(tmp_path: Path, cut: slice) -> None:
    path = tmp_path / "predictions.csv.gz"
    csv_files.write_csv(path, ROWS, ["seed", "loss"])
    assert gzip.decompress(path.read_bytes()) == b"seed,loss\n0,0.5\n1,0.25\n"
    path.write_bytes(path.read_bytes()[cut])
    with pytest.raises(UserError, match=r"predictions\.csv\.gz is damaged [(]\w+"):
        csv_files.csv_lines(path, ["seed"])


def test_a_table_without_rows_is_whole(tmp_path: Path) -> None:
    """That of a training that diverged in its first epoch."""
    csv_files.write_csv(tmp_path / "history.csv", [], ["seed", "loss"])
    assert csv_files.read_csv(tmp_path / "history.csv", ["seed"]) == []
