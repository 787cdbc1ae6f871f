"""`deepnets predict`: the digits in pictures from anywhere, by the champion or another model.

Pictures are read before the model is, and the model is found before the framework is imported:
what is wrong with either is said at once.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from deepnets.base import files, project
from deepnets.base.errors import UserError
from deepnets.commands import pictures
from deepnets.commands.pictures import PictureError
from deepnets.config import params, words
from deepnets.records import results
from deepnets.tracking.champion import ALIAS, MODEL_URI

_ENDINGS = {".png", ".jpg", ".jpeg"}
_STANDARD_INPUT = "-"
_MODEL_FILE = re.compile(r"seed-(?P<seed>\d+)(?P<best>-best)?\.keras")


@dataclass(frozen=True)
class Read:
    """A picture that was asked for: its digit as MNIST holds them, uint8 (28, 28), or why not."""

    name: str
    digit: NDArray[np.uint8] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a .keras file, or a version (or alias) of a registered model."""

    path: Path | None = None
    name: str = ""
    version: str = ALIAS


def main(given: Sequence[str], model: str, as_json: bool) -> None:
    """Print the label and probability of every picture.

    Args:
        given: files, folders, and `-` for standard input, which is meant as well if it is empty.
        model: `champion`, the number of a registered version, a path, or a `models:/` URI.
        as_json: print one JSON document instead of a table.

    Raises:
        UserError: the model cannot be used, or some picture could not; the others are printed.
    """
    source = _source(model)
    read = [picture for name in given or [_STANDARD_INPUT] for picture in _read(name)]
    digits = [picture.digit for picture in read if picture.digit is not None]
    failed = [f"{picture.name} {picture.error}" for picture in read if picture.error]
    if digits:
        with _model_file(source) as (path, described):
            probabilities = _predict(path, np.stack(digits))
        _print(read, probabilities, described, as_json)
    elif as_json:
        _print(read, np.zeros((0, project.CLASSES), np.float32), None, as_json)
    for line in failed if len(read) > 1 else []:
        print(f"deepnets predict: {line}", file=sys.stderr)
    if failed:
        raise UserError(
            failed[0]
            if len(read) == 1
            else f"{len(failed)} of {len(read)} pictures could not be used, see above"
            + ("; the others are predicted" if digits else "")
        )


def _source(model: str) -> Source:
    """What `model` names; a path must be that of a file."""
    uri = MODEL_URI.fullmatch(model)
    if uri:
        return Source(name=uri["name"], version=uri["alias"] or uri["version"])
    if model == ALIAS or model.isdecimal():
        return Source(name=params.load().publish.experiment, version=model)
    if not Path(model).is_file():
        raise UserError(
            f"--model: expected {ALIAS}, the number of a registered version, or a .keras file; "
            f"received {words.quote(model)}, which is no file: correct it"
        )
    return Source(path=Path(model))


def _read(name: str) -> Iterator[Read]:
    """The pictures that an argument stands for; of a folder all that end like one, by name."""
    if name == _STANDARD_INPUT:
        if sys.stdin.isatty():
            raise UserError(
                "expected pictures; received none: name PNG or JPEG files or a folder of them, or "
                "send one to standard input"
            )
        yield _digit("standard input", sys.stdin.buffer.read(pictures.MOST_BYTES + 1))
    elif Path(name).is_dir():
        paths = sorted(
            path
            for path in Path(name).iterdir()
            if path.suffix.lower() in _ENDINGS and not path.name.startswith(".")
        )
        for path in paths:
            yield _read_file(path)
        if not paths:
            yield Read(
                _escape_name(name), error="holds no pictures: expected *.png, *.jpg or *.jpeg"
            )
    else:
        yield _read_file(Path(name))


def _read_file(path: Path) -> Read:
    name = _escape_name(str(path))
    try:
        with path.open("rb") as file:
            return _digit(name, file.read(pictures.MOST_BYTES + 1))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Read(name, error=f"cannot be read ({why}): check its name and that you may read it")


def _digit(name: str, content: bytes) -> Read:
    try:
        return Read(name, pictures.normalise(pictures.read(content)))
    except PictureError as error:
        return Read(name, error=str(error))


def _escape_name(name: str) -> str:
    """A file's name as a terminal can show it, whatever bytes it is made of."""
    return words.escape_unprintable(os.fsencode(name).decode(errors="backslashreplace"))


@contextmanager
def _model_file(source: Source) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The model's file, checked against the digest noted of it, and what it is called."""
    if source.path is not None:
        if (source.path.parent / files.SUMS).is_file():
            files.verify(source.path)
        place = _escape_name(str(source.path))
        digest = files.file_digest(source.path)
        described = {"name": source.path.stem, "source": place, "sha256": digest}
        yield source.path, described | _epoch(source.path)
        return
    try:
        from deepnets.tracking import fetch
    except ImportError:
        raise UserError(
            "mlflow, which knows the registered models, is not installed here: run `make setup`, "
            "or name a .keras file with --model"
        ) from None
    with fetch.fetch_model(source.name, source.version) as fetched:
        yield fetched


def _epoch(path: Path) -> dict[str, str]:
    """Which epoch's model is in `path`, if its training's numbers lie where a study has them."""
    named = _MODEL_FILE.fullmatch(path.name)
    folder = path.absolute().parent  # not where DVC's cache has it
    place = {
        "single": folder,
        "models": folder.parent.parent / "metrics" / folder.name,
    }.get(folder.parent.name)
    if named is None or place is None:
        return {}
    for record in results.read(project.run_at(place)):
        if record.seed == int(named["seed"]):
            best = bool(named["best"])
            return {"epoch": results.which_epoch(record.history, record.keep, best)}
    return {}


def _predict(path: Path, digits: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities float32 (n, 10) of digits uint8 (n, 28, 28), by the model in `path`."""
    from deepnets.networks import runtime

    runtime.start_framework()
    from deepnets.data import images
    from deepnets.networks import saving, views

    classifier = saving.load(path)
    takes, gives = classifier.input_shape[1:], classifier.output_shape[1:]
    if len(takes) != 3 or takes != (takes[0], takes[0], 3) or gives != (project.CLASSES,):
        raise UserError(
            f"{path}: expected a model from square RGB images to {project.CLASSES} probabilities; "
            f"received one from {takes} to {gives}: name another one with --model"
        )
    tiled = images.tile(images.resize(digits, takes[0]))
    return views.predict(views.scoring_view(classifier), tiled)


def _print(
    read: Sequence[Read],
    probabilities: NDArray[np.float32],
    described: dict[str, Any] | None,
    as_json: bool,
) -> None:
    answers = iter(probabilities)
    rows: list[dict[str, Any]] = []
    for picture in read:
        if picture.digit is None:
            rows.append({"picture": picture.name, "error": picture.error})
        else:
            answer = next(answers)
            label = int(answer.argmax())
            row = {"picture": picture.name, "label": label, "probability": float(answer[label])}
            rows.append({**row, "probabilities": [float(p) for p in answer]})
    if as_json:
        print(json.dumps({"model": described, "predictions": rows}, indent=2), flush=True)
        return
    assert described is not None
    table = [[row["picture"], row["label"], row["probability"]] for row in rows if "label" in row]
    print(
        tabulate(table, ["picture", "digit", "probability"], floatfmt=".4f", disable_numparse=[0])
    )
    epoch = f", {described['epoch']}" if "epoch" in described else ""
    print(f"\nby {described['name']} ({described['source']}){epoch}", flush=True)
