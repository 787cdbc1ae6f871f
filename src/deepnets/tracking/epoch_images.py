"""Small pictures of an epoch's validation, for MLflow's slider: drawn in a few milliseconds.

With Pillow alone, since Matplotlib takes some hundred milliseconds for each.
"""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepnets.base.project import CLASSES
from deepnets.evaluation.epochs import MISTAKES, Validated

_WHITE, _BLACK, _GREY = (255, 255, 255), (0, 0, 0), (110, 110, 110)
# Full cells, right and wrong.
_RIGHT, _WRONG = (31, 119, 180), (214, 39, 40)

_HEAD = 26
_CELL = 38
_TILE, _CAPTION, _TILES_A_ROW = 84, 18, 4


def confusion(result: Validated) -> Image.Image:
    """The matrix of counts: a row a true digit, a column a predicted one."""
    side = _CELL * (CLASSES + 1)
    image, draw = _page(result, side, _HEAD + side, "RGB")
    _draw_centred(draw, "true", 0, _HEAD + _CELL // 2, _CELL // 2, _GREY)
    _draw_centred(draw, "as", _CELL // 2, _HEAD, _CELL // 2, _GREY)
    shares = result.confusion / np.maximum(result.confusion.sum(axis=1, keepdims=True), 1)
    for digit in range(CLASSES):
        _draw_centred(draw, str(digit), _CELL * (digit + 1), _HEAD, _CELL, _GREY)
        _draw_centred(draw, str(digit), 0, _HEAD + _CELL * (digit + 1), _CELL, _GREY)
    for true, predicted in np.argwhere(result.confusion):
        x, y = _CELL * (predicted + 1), _HEAD + _CELL * (true + 1)
        # A tenth of a digit's images is a dark cell already where it is wrong.
        share = shares[true, predicted]
        strength = share if true == predicted else min(1.0, 0.15 + 8 * share)
        colour = _blend(_RIGHT if true == predicted else _WRONG, strength)
        draw.rectangle((x, y, x + _CELL - 2, y + _CELL - 2), colour)
        ink = _WHITE if strength > 0.5 else _BLACK
        _draw_centred(draw, str(result.confusion[true, predicted]), x, y, _CELL - 1, ink)
    return image


def mistakes(result: Validated) -> Image.Image:
    """The mistakes with the highest probability, with their true and predicted digits."""
    rows = MISTAKES // _TILES_A_ROW
    height = _HEAD + rows * (_TILE + _CAPTION)
    # In grey, which is written in a third of the time.
    image, draw = _page(result, _TILES_A_ROW * (_TILE + 4), height, "L")
    for place, digit in enumerate(result.images):
        row, column = divmod(place, _TILES_A_ROW)
        x, y = column * (_TILE + 4) + 2, _HEAD + row * (_TILE + _CAPTION)
        image.paste(Image.fromarray(digit).resize((_TILE, _TILE), Image.Resampling.NEAREST), (x, y))
        true, predicted = result.labels[place], result.predicted[place]
        text = f"{true} as {predicted} ({result.probabilities[place]:.2f})"
        draw.text((x, y + _TILE + 2), text, "black", _font(12))
    return image


# What each epoch has, by the keys that MLflow knows it by: it shows them in a section of the name
# before the slash.
DRAWN: Mapping[str, Callable[[Validated], Image.Image]] = {
    "validation/confusion": confusion,
    "validation/mistakes": mistakes,
}


@cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _page(
    result: Validated, width: int, height: int, mode: str
) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new(mode, (width, height), "white")
    draw = ImageDraw.Draw(image)
    images = int(result.confusion.sum())
    head = f"epoch {result.epoch}: {result.accuracy:.4f} of {images:,} validation images"
    draw.text((4, 4), head, "black", _font(14))
    return image, draw


def _draw_centred(
    draw: ImageDraw.ImageDraw, text: str, x: int, y: int, side: int, ink: tuple[int, int, int]
) -> None:
    middle = (x + side / 2, y + side / 2)
    draw.text(middle, text, ink, _font(13), anchor="mm")


def _blend(colour: tuple[int, int, int], strength: float) -> tuple[int, int, int]:
    """`colour` on white paper."""
    red, green, blue = (round(255 + strength * (channel - 255)) for channel in colour)
    return red, green, blue
