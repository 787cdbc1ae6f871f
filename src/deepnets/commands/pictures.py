"""Pure functions from any picture of one digit to an image as MNIST holds them.

MNIST was made from black and white scans: scaled to fit a box of 20x20 pixels with their aspect
ratio kept, and put by their centre of mass into the centre of 28x28 (LeCun, Bottou, Bengio and
Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 86(11), 1998,
section III A). What a camera or a drawing program adds to that is taken away first: paper that is
dark, grey or unevenly lit, noise, specks, hairlines. Knows NumPy, SciPy and Pillow, no framework.
"""

import io
import math
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage

from deepnets.base.errors import one_line

# Side of an MNIST image, and of the box that the digit is scaled to fit, in pixels.
SIDE = 28
BOX = 20

# More is a bomb, or nothing that anyone writes one digit on.
MOST_BYTES = 64 * 2**20
MOST_PIXELS = 64_000_000

# Larger pictures are reduced to this; a digit that is seen on it at all has enough pixels left.
_WORKING_SIDE = 1024
# From this on a picture can be smoothed without harm to what is left of it in the box.
_SMOOTHED_SIDE = 64

# Grey levels of 255, and deviations of the noise, that a digit stands out from its paper at least.
_LEAST_CONTRAST = 8.0
_LEAST_DEVIATIONS = 6.0
# What is fainter than this part of the strokes is paper.
_PAPER = 0.1
# Parts smaller than this share of the largest are specks.
_SPECK = 0.05
# Strokes of MNIST's digits are 2.1 to 4.2 pixels wide (5th and 95th percentile of 1,000).
_LEAST_STROKE = 2.0


class PictureError(ValueError):
    """A picture cannot be used. The message says why, in words that follow its name."""


def read(content: bytes) -> NDArray[np.float32]:
    """The grey levels of a PNG or JPEG file as a person sees it, float32 (height, width), 0 to 255.

    Turned upright as its EXIF data say; what is transparent is seen on white paper, or on black
    if what is drawn on it is light. Reduced if it is large.

    Raises:
        PictureError: it is no such file, damaged, or too large.
    """
    if not content:
        raise PictureError("is empty: expected a PNG or JPEG picture")
    if len(content) > MOST_BYTES:
        raise PictureError(f"has more than {MOST_BYTES // 2**20} MiB: expected a smaller picture")
    try:
        with warnings.catch_warnings():
            # Of its size, which is looked at below.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    except Image.DecompressionBombError:
        raise PictureError(_describe_too_large("far more")) from None
    except Exception:  # a parser of damaged bytes may raise anything
        raise PictureError("is no PNG or JPEG picture: expected one of these formats") from None
    if image.width * image.height > MOST_PIXELS:
        raise PictureError(_describe_too_large(f"{image.width} x {image.height}"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _convert_to_grey(ImageOps.exif_transpose(image))
    except Exception as error:  # as above
        why = one_line(error, 80) or type(error).__name__
        raise PictureError(f"is damaged ({why}): save or copy it again") from None


def _describe_too_large(received: str) -> str:
    return (
        f"is too large: expected at most {MOST_PIXELS:,} pixels; received {received}: "
        "scale it down or crop it"
    )


def _convert_to_grey(image: Image.Image) -> NDArray[np.float32]:
    if image.mode.startswith("I"):
        # Pillow would cut 16-bit values off at 255.
        seen = Image.fromarray(np.asarray(image).astype(np.float32) / 257)
    elif image.has_transparency_data:
        seen = image.convert("RGBA")
    else:
        seen = image.convert("RGB").convert("L")
    factor = math.ceil(max(seen.size) / _WORKING_SIDE)
    reduced = seen.reduce((min(factor, seen.width), min(factor, seen.height)))
    if reduced.mode == "RGBA":
        reduced = _lay_on_paper(reduced)
    return np.asarray(reduced, dtype=np.float32)


def _lay_on_paper(image: Image.Image) -> Image.Image:
    """The grey image of an RGBA one on black or white, whichever differs more from what is seen."""
    opacity = image.getchannel("A")
    levels, opaque = np.asarray(image.convert("L")), np.asarray(opacity, dtype=np.float32)
    shown = float((levels * opaque).sum() / max(float(opaque.sum()), 1.0))
    paper = Image.new("L", image.size, 255 if shown < 128 else 0)
    paper.paste(image.convert("L"), mask=opacity)
    return paper


def normalise(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The digit in a picture as MNIST would hold it: light on black, uint8 (28, 28).

    Args:
        grey: levels 0 (black) to 255 (white), float32 (height, width) of any size.

    Raises:
        PictureError: nothing stands out from the background.
    """
    digit = _thicken(_crop(_remove_specks(ink(grey))))
    scale = BOX / max(digit.shape)
    height, width = (max(1, round(side * scale)) for side in digit.shape)
    scaled = Image.fromarray(digit).resize((width, height), Image.Resampling.BILINEAR)
    levels = np.asarray(scaled)
    levels = np.clip(levels / levels.max(), 0, 1)
    top, left = (
        int(np.clip(round(SIDE / 2 - centre), 0, SIDE - size))
        for centre, size in zip(ndimage.center_of_mass(levels), levels.shape, strict=True)
    )
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[top : top + height, left : left + width] = np.rint(255 * levels)
    return image


def ink(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much of a stroke each pixel is, 0 to 1: what differs from the paper along the border.

    Raises:
        PictureError: nothing differs from it enough.
    """
    if min(grey.shape) >= _SMOOTHED_SIDE:
        grey = ndimage.uniform_filter(grey, 3)
    border = _border(grey.shape)
    difference = grey - _paper(grey, border)
    # Dark on light or light on dark: whichever goes further.
    if -difference.min() > difference.max():
        difference = -difference
    contrast = float(difference.max())
    # From the quarter of the border that is nearest to the paper, so that strokes there are no
    # noise: of a normal distribution it is within 0.3186 deviations.
    noise = float(np.quantile(np.abs(difference[border]), 0.25)) / 0.3186
    if contrast < max(_LEAST_CONTRAST, _LEAST_DEVIATIONS * noise):
        raise PictureError(
            "shows no digit: expected one that stands out from its background; received "
            + ("one even surface" if contrast < _LEAST_CONTRAST else "noise")
        )
    strokes = float(np.median(difference[difference > contrast / 2]))
    levels = np.clip(difference / strokes, 0, 1)
    levels[levels < max(_PAPER, 3 * noise / strokes)] = 0
    return np.asarray(levels, np.float32)


def _border(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The outermost pixels of an image of that shape: a twenty-fifth of its side, at least one."""
    depth = max(1, round(0.04 * min(shape)))
    border = np.ones(shape, bool)
    border[depth:-depth, depth:-depth] = False
    return border


def _paper(grey: NDArray[np.float32], border: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The level of the paper at each pixel: that of the border, even or lit from one side.

    A tilted plane is believed only where it explains the border far better than an even level:
    a stroke along one edge tilts it, too.
    """
    height, width = grey.shape
    rows, columns = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    seen = grey[border].astype(np.float64)
    y, x = (axis[border] for axis in np.meshgrid(rows, columns, indexing="ij"))
    terms = np.stack([np.ones_like(x), y, x], axis=1)
    even = float(np.median(seen))
    plane = np.array([even, 0.0, 0.0])
    # Least absolute deviations, by weighted least squares: strokes at the border hardly count.
    for _ in range(20):
        weights = 1 / np.sqrt(np.maximum(np.abs(seen - terms @ plane), 0.5))
        plane = np.linalg.lstsq(terms * weights[:, None], seen * weights, rcond=None)[0]
    if np.abs(seen - terms @ plane).sum() > 0.5 * np.abs(seen - even).sum():
        plane = np.array([even, 0.0, 0.0])
    lit = plane[0] + plane[1] * rows[:, None] + plane[2] * columns[None, :]
    return np.asarray(lit, np.float32)


def _remove_specks(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    parts, count = ndimage.label(levels > 0, structure=np.ones((3, 3)))
    sizes = ndimage.sum_labels(levels, parts, np.arange(count + 1))
    sizes[0] = 0
    return np.where((sizes >= _SPECK * sizes.max())[parts], levels, np.float32(0))


def _crop(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = np.flatnonzero(levels.any(axis=1)), np.flatnonzero(levels.any(axis=0))
    return levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _thicken(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hairlines drawn with a wider pen, since they would fade away when they are scaled down.

    The mean distance to the edge tells the width of a stroke: across one that is w pixels wide it
    is about (w + 2) / 4.
    """
    scale = BOX / max(levels.shape)
    strokes = levels >= 0.5
    distance = ndimage.distance_transform_edt(np.pad(strokes, 1))[1:-1, 1:-1]
    width = max(1.0, 4 * float(distance[strokes].mean()) - 2)
    reach = (_LEAST_STROKE / scale - width) / 2
    if reach < 0.5:
        return levels
    margin = math.ceil(reach)
    padded = np.pad(levels, margin)
    away = ndimage.distance_transform_edt(padded < 0.5)
    return _crop(np.maximum(padded, np.clip(reach + 1 - away, 0, 1)).astype(np.float32))
