"""The part of the page that compares any two rows: its data, small, and the script that draws them.

All that is in it comes from what git keeps, but for the pictures of digits: these are in the page,
and a page that is made where the test images are not at hand takes them from the one before it.
"""

import base64
import io
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepnets.records.results import TrainingRecord
from deepnets.reporting import run_figures
from deepnets.training.checkpoints import Row

# The page has the comparison in its place.
LINE = (
    "`report.html` compares any two rows that you pick: their curves, their confusion matrices, "
    "and the test digits that only one of them gets right."
)

# Seeds of a row whose predictions are in the page; the histories of all are.
_SEEDS = 3

# Pictures of digits in the page, some 160 bytes each: git keeps the pages.
_PICTURES = 200
_SIDE = 32
_COLUMNS = 20
# Grey levels of a picture: more cannot be told apart at this size.
_LEVELS = 8
_STEP = 255 // (_LEVELS - 1)

_CURVES = ("accuracy", "val_accuracy", "loss", "val_loss")

_STYLE = """
#compare fieldset { flex: 1 1 18rem; min-width: 0; display: flex; flex-wrap: wrap; gap: .5rem 1rem;
                    border: 1px solid #ccc; border-left: .4rem solid #0072b2 }
#compare fieldset + fieldset { border-left-color: #d55e00 }
#compare form, #compare .two, #compare .three { display: flex; flex-wrap: wrap; gap: 1rem }
#compare label { flex: 1 1 auto }
#compare select { display: block; width: 100%; font: inherit; padding: .3rem }
#compare .two > *, #compare .three > * { flex: 1 1 28rem; min-width: 0; margin: 0 }
#compare .two > * { max-width: 36rem }
#compare [hidden] { display: none }
#compare svg { display: block; width: 100%; height: auto; font-family: inherit }
#compare figcaption, #compare .key { font-size: .85rem }
#compare .key svg { display: inline-block; width: 2.2rem; vertical-align: middle }
#compare .key span { display: inline-block; margin-right: 1.5rem }
#compare ul.digits { display: flex; flex-wrap: wrap; gap: .6rem; padding: 0; list-style: none }
#compare .digits li { width: 4.4rem; font-size: .8rem; line-height: 1.25; text-align: center }
#compare canvas { display: block; width: 4rem; height: 4rem; margin: 0 auto;
                  image-rendering: pixelated }
#compare .digits small { color: #595959 }
@media (min-width: 50rem) { #compare .three > * { flex-basis: 15rem } }
"""

# The script shows what is hidden, and the other way round.
_SECTION = """<section id="compare">
<style>{style}</style>
<h2>Any two rows beside each other</h2>
<p id="compare-without">To compare two rows here, a browser has to run the script of this page; all
other parts do without.</p>
<div id="compare-shown" hidden>
<form>
<fieldset><legend>First</legend>
<label>Row <select id="compare-row-0"></select></label>
<label>Seed <select id="compare-seed-0"></select></label>
</fieldset>
<fieldset><legend>Second</legend>
<label>Row <select id="compare-row-1"></select></label>
<label>Seed <select id="compare-seed-1"></select></label>
</fieldset>
</form>
<div id="compare-summary" role="status"></div>
<h3>Curves</h3>
<p class="key" id="compare-key"></p>
<div class="two" id="compare-curves"></div>
<h3>Wrong digits by class</h3>
<p>Test images of a true digit (row) that are taken for another one (column); those that are right,
on the diagonal, are left out. Of several seeds it is the mean.</p>
<div class="three" id="compare-confusion"></div>
<h3>Digits that only one of them gets right</h3>
<p>True digit → what the other one takes it for, and which test image it is. Of several seeds, more
than half have to be right. Those that are most often wrong, in all rows, come first.</p>
{note}<div class="two" id="compare-only"></div>
</div>
{sprite}<script type="application/json" id="compare-data">{data}</script>
<script>
{script}</script>
</section>
"""


@dataclass(frozen=True)
class _Pictures:
    """Pictures of test digits: their `indices` and `pixels`, uint8 (n, side, side)."""

    indices: list[int]
    pixels: NDArray[np.uint8]


class _Seed(TypedDict):
    """What the page has of a training.

    A list of numbers a curve, an item an epoch. `predicted` is as `_encode` writes it; None where
    it is not in the page, for the reason in `lacks` or because other seeds of the row are.
    """

    seed: int
    outcome: str
    curves: dict[str, list[float | None]]
    predicted: str | None
    lacks: str


class _Data(TypedDict):
    """What the script reads. `labels` has a digit for each test image.

    `pictures` are indices of test images, in the order of the cells of the sprite, `columns` a
    row, each `side` pixels wide and high. `test_data` is the digest of the images.
    """

    labels: str
    test_data: str
    rows: dict[str, list[_Seed]]
    pictures: list[int]
    side: int
    columns: int


def line(trained: Mapping[str, Sequence[TrainingRecord]]) -> list[str]:
    """What the report says of the comparison, where there are two rows."""
    return [LINE] if len(trained) > 1 else []


def section(trained: Mapping[str, Sequence[TrainingRecord]], earlier: Path) -> str:
    """HTML of the comparison.

    Args:
        trained: the rows of the study in this folder that are there, by name, none of them empty.
        earlier: a page of it, whose pictures stay where the test images are not at hand and the
            data are the same.
    """
    first = next(
        (result for seeds in trained.values() for result in seeds if _is_tested(result)), None
    )
    rows = {name: _seeds(seeds, first) for name, seeds in trained.items()}
    test_data = first.provenance["test_data"] if first else ""
    wanted = _wanted_images(trained, first) if first else []
    images = run_figures.test_images(Path(), first) if first else None
    if images is not None:
        pictures = _Pictures(wanted, _grey_pictures(images[wanted]))
    else:
        pictures = _choose(_read_pictures(earlier, test_data), wanted)
    data: _Data = {
        "labels": _digits(first.labels) if first and first.labels is not None else "",
        "test_data": test_data,
        "rows": rows,
        "pictures": pictures.indices,
        "side": pictures.pixels.shape[1],
        "columns": _COLUMNS,
    }
    lacking = len(wanted) - len(pictures.indices)
    note = (
        f"<p>{lacking} of the {len(wanted)} pictures of digits are not here: the test images "
        "(data/processed) were not at hand when this page was made. Indices stand in their place."
        "</p>\n"
        if lacking
        else ""
    )
    return _SECTION.format(
        style=_STYLE,
        note=note,
        sprite=_sprite(pictures) if pictures.indices else "",
        # Whatever a row is called, the element ends where we end it.
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/"),
        script=resources.files(__package__).joinpath("side_by_side.js").read_text("utf-8"),
    )


def _is_tested(result: TrainingRecord) -> bool:
    return result.labels is not None and result.predicted is not None


def _seeds(seeds: Sequence[TrainingRecord], first: TrainingRecord | None) -> list[_Seed]:
    shown = _seeds_with_predictions(seeds, first)
    return [
        {
            "seed": result.seed,
            "outcome": result.outcome,
            "curves": {key: [_round_value(row, key) for row in result.history] for key in _CURVES},
            "predicted": _encode(result) if any(result is other for other in shown) else None,
            "lacks": _why_lacking(result, first),
        }
        for result in seeds
    ]


def _seeds_with_predictions(
    seeds: Sequence[TrainingRecord], first: TrainingRecord | None
) -> Sequence[TrainingRecord]:
    """Those whose predictions the page has."""
    return [result for result in seeds if not _why_lacking(result, first)][:_SEEDS]


def _why_lacking(result: TrainingRecord, first: TrainingRecord | None) -> str:
    if first is None or not _is_tested(result):
        return "not tested yet"
    same = result.provenance["test_data"] == first.provenance["test_data"]
    if not same or not np.array_equal(result.labels, first.labels):  # type: ignore[arg-type]
        return "tested on other images"
    return ""


def _round_value(row: Row, key: str) -> float | None:
    value = float(row[key])
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _digits(labels: NDArray[np.uint8]) -> str:
    return "".join(map(str, labels))


def _encode(result: TrainingRecord) -> str:
    """What is predicted where it is not the usual, a digit each, and between them how many are.

    The usual is what is right or, of a network that sees the same digit nearly everywhere, that
    one, named at the start (`=1`). The counts are numbers to base 26 with the digits a to z, the
    last one first. It takes few characters for such networks, at most about one an image for any.
    """
    assert result.labels is not None
    assert result.predicted is not None
    everywhere = int(np.bincount(result.predicted).argmax())
    same = np.full_like(result.labels, everywhere)
    named = np.count_nonzero(result.predicted != same) < np.count_nonzero(
        result.predicted != result.labels
    )
    parts, count = [f"={everywhere}" if named else ""], 0
    usual = same if named else result.labels
    for expected, guess in zip(usual.tolist(), result.predicted.tolist(), strict=True):
        if expected == guess:
            count += 1
            continue
        parts += [_letters(count), str(guess)]
        count = 0
    return "".join([*parts, _letters(count)])


def _letters(count: int) -> str:
    text = ""
    while count:
        count, rest = divmod(count, 26)
        text += chr(ord("a") + rest)
    return text


def _wanted_images(
    trained: Mapping[str, Sequence[TrainingRecord]], first: TrainingRecord
) -> list[int]:
    """Indices of the test images to have pictures of: those that are most often wrong come first.

    Each pair of rows has its turn: the image that is most often wrong of those that one of the two
    gets right (with most of its seeds), then the next of these, until there are enough.
    """
    right = {
        name: np.array([result.predicted == first.labels for result in shown])
        for name, seeds in trained.items()
        if (shown := _seeds_with_predictions(seeds, first))
    }
    wrong = sum((~hits).sum(axis=0) for hits in right.values())
    often_first = np.argsort(-np.asarray(wrong), kind="stable")
    majority = [2 * hits.sum(axis=0) > len(hits) for hits in right.values()]
    only = [
        often_first[(a & ~b)[often_first]][:_PICTURES].tolist()
        for a, b in itertools.permutations(majority, 2)
    ]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*only))
    chosen = dict.fromkeys(index for index in turns if index is not None)
    rank = {index: place for place, index in enumerate(often_first.tolist())}
    return sorted(list(chosen)[:_PICTURES], key=rank.__getitem__)


def _grey_pictures(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey pictures of `images`, uint8 (n, size, size, 3), at most _SIDE pixels wide."""
    step = -(-images.shape[1] // _SIDE)
    grey = images[:, ::step, ::step, 0].astype(np.uint16)
    return ((grey + _STEP // 2) // _STEP * _STEP).astype(np.uint8)


def _sprite(pictures: _Pictures) -> str:
    """An image, hidden, with all pictures in rows of _COLUMNS."""
    count, side = pictures.pixels.shape[:2]
    rows = -(-count // _COLUMNS)
    cells = np.zeros((rows * _COLUMNS, side, side), np.uint8)
    cells[:count] = pictures.pixels // _STEP
    sheet = cells.reshape(rows, _COLUMNS, side, side).swapaxes(1, 2)
    image = Image.fromarray(sheet.reshape(rows * side, _COLUMNS * side), "P")
    image.putpalette([level * _STEP for level in range(_LEVELS) for _ in range(3)])
    written = io.BytesIO()
    image.save(written, "png", optimize=True, bits=4)
    content = base64.b64encode(written.getvalue()).decode()
    return f'<img id="compare-digits" alt="" hidden src="data:image/png;base64,{content}">\n'


def _read_pictures(page: Path, test_data: str) -> _Pictures:
    """The pictures of an earlier `page`; none where it is of other test data, or damaged."""
    none = _Pictures([], np.zeros((0, _SIDE, _SIDE), np.uint8))
    try:
        text = page.read_text("utf-8")
        match = re.search(r'<script type="application/json" id="compare-data">(.*?)</script>', text)
        sheet = re.search(r'id="compare-digits"[^>]* src="data:image/png;base64,([^"]+)"', text)
        if match is None or sheet is None:
            return none
        data: _Data = json.loads(match[1])
        with Image.open(io.BytesIO(base64.b64decode(sheet[1]))) as opened:
            pixels = np.asarray(opened.convert("L"))
        side, columns, indices = data["side"], data["columns"], data["pictures"]
        cells = pixels.reshape(-1, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)
        if data["test_data"] != test_data or len(indices) > len(cells):
            return none
    except Exception:  # a reader of damaged bytes may raise anything
        return none
    return _Pictures(indices, cells[: len(indices)])


def _choose(pictures: _Pictures, wanted: Sequence[int]) -> _Pictures:
    """Those of the `wanted` indices that there are, in their order."""
    places = {index: place for place, index in enumerate(pictures.indices)}
    known = [index for index in wanted if index in places]
    return _Pictures(known, pictures.pixels[[places[index] for index in known]])
